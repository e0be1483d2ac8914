//! The tokens of a pattern, each with the place an error about it names.
//!
//! AWS reads patterns with a streaming parser and reports how far that parser had read when it refused. Whoever compares our
//! messages with AWS's sees the same line and column, because the same things are read ahead here: a key takes the first
//! character of its value with it (a whole number or literal, but only the opening quote of a string), and a string is read to
//! its end only when its text is asked for.

use super::error::{PatternError, Position};
use super::scan;

/// Objects and arrays a pattern may nest.
pub(super) const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Key,
    Text,
    Number,
    True,
    False,
    Null,
}

impl Token {
    pub(super) fn is_number(self) -> bool {
        self == Self::Number
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

pub(super) struct Tokens<'a> {
    source: &'a str,
    /// How far the text was read, in bytes.
    position: usize,
    containers: Vec<Container>,
    /// Whether a value stood before, so that a comma must come next.
    after_value: bool,
    /// The value that was read ahead with a key.
    ahead: Option<Token>,
    current: Option<Token>,
    /// A string whose opening quote was read and the rest was not.
    unread_string: bool,
    text: String,
    number: std::ops::Range<usize>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self {
            source,
            position: 0,
            containers: Vec::new(),
            after_value: false,
            ahead: None,
            current: None,
            unread_string: false,
            text: String::new(),
            number: 0..0,
        }
    }

    /// Where the reader stands.
    pub(super) fn here(&self) -> Position {
        Position::of(self.source, self.position)
    }

    pub(super) fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, PatternError> {
        Err(PatternError::at(reason, self.here()))
    }

    /// The text of the current token: a key, a string, a number as written, or the token itself.
    pub(super) fn text(&mut self) -> Result<&str, PatternError> {
        self.finish_string()?;
        Ok(match self.current {
            Some(Token::Key | Token::Text) => &self.text,
            Some(Token::Number) => &self.source[self.number.clone()],
            Some(Token::ObjectStart) => "{",
            Some(Token::ObjectEnd) => "}",
            Some(Token::ArrayStart) => "[",
            Some(Token::ArrayEnd) => "]",
            Some(Token::True) => "true",
            Some(Token::False) => "false",
            Some(Token::Null) => "null",
            None => "",
        })
    }

    pub(super) fn next(&mut self) -> Result<Token, PatternError> {
        self.finish_string()?;
        if let Some(ahead) = self.ahead.take() {
            return self.enter(ahead);
        }
        self.skip_whitespace();
        match self.containers.last() {
            Some(container) => {
                let (object, end) = match container {
                    Container::Object => (true, b'}'),
                    Container::Array => (false, b']'),
                };
                let mut byte = self.peek()?;
                if byte == end {
                    self.position += 1;
                    self.containers.pop();
                    self.after_value = true;
                    let token = if object {
                        Token::ObjectEnd
                    } else {
                        Token::ArrayEnd
                    };
                    self.current = Some(token);
                    return Ok(token);
                }
                if self.after_value {
                    if byte != b',' {
                        let wanted = if object { "',' or '}'" } else { "',' or ']'" };
                        return self.refuse(format!("Unexpected character: expected {wanted}"));
                    }
                    self.position += 1;
                    self.skip_whitespace();
                    byte = self.peek()?;
                }
                if object {
                    if byte != b'"' {
                        return self
                            .refuse("Unexpected character: expected a key in double quotes");
                    }
                    return self.key();
                }
            }
            None if self.current.is_some() => {
                return self.refuse("Unexpected characters after the closing bracket");
            }
            None => {}
        }
        let token = self.value()?;
        self.enter(token)
    }

    /// That nothing but white space follows.
    pub(super) fn finish(&mut self) -> Result<(), PatternError> {
        self.skip_whitespace();
        if self.position < self.source.len() {
            return self.refuse("Unexpected characters after the closing bracket");
        }
        Ok(())
    }

    fn enter(&mut self, token: Token) -> Result<Token, PatternError> {
        match token {
            Token::ObjectStart | Token::ArrayStart => {
                if self.containers.len() == MAX_DEPTH {
                    return self.refuse(format!("More than {MAX_DEPTH} levels of nesting"));
                }
                self.containers.push(if token == Token::ObjectStart {
                    Container::Object
                } else {
                    Container::Array
                });
                self.after_value = false;
            }
            _ => self.after_value = true,
        }
        self.current = Some(token);
        Ok(token)
    }

    fn key(&mut self) -> Result<Token, PatternError> {
        self.position += 1;
        self.read_string()?;
        self.skip_whitespace();
        if self.peek()? != b':' {
            return self.refuse("Unexpected character: expected ':' after the key");
        }
        self.position += 1;
        self.skip_whitespace();
        self.ahead = Some(self.value()?);
        self.current = Some(Token::Key);
        Ok(Token::Key)
    }

    /// Reads a value's first token, without entering it.
    fn value(&mut self) -> Result<Token, PatternError> {
        let (token, word) = match self.peek()? {
            b'{' => (Token::ObjectStart, "{"),
            b'[' => (Token::ArrayStart, "["),
            b't' => (Token::True, "true"),
            b'f' => (Token::False, "false"),
            b'n' => (Token::Null, "null"),
            b'"' => {
                self.position += 1;
                self.unread_string = true;
                return Ok(Token::Text);
            }
            b'-' | b'0'..=b'9' => return self.number(),
            _ => return self.refuse("Unexpected character: expected a JSON value"),
        };
        if !self.source[self.position..].starts_with(word) {
            return self.refuse("Unrecognized word: expected true, false or null");
        }
        self.position += word.len();
        Ok(token)
    }

    fn number(&mut self) -> Result<Token, PatternError> {
        let Some(end) = scan::number_end(self.source.as_bytes(), self.position) else {
            return self.refuse("Malformed number");
        };
        self.number = self.position..end;
        self.position = end;
        Ok(Token::Number)
    }

    fn finish_string(&mut self) -> Result<(), PatternError> {
        // A string that was read ahead with its key is not the current token yet.
        if self.unread_string && self.ahead.is_none() {
            self.read_string()?;
        }
        Ok(())
    }

    /// Reads from behind the opening quote to behind the closing one.
    fn read_string(&mut self) -> Result<(), PatternError> {
        self.unread_string = false;
        let bytes = self.source.as_bytes();
        let Some(end) = scan::string_end(bytes, self.position) else {
            return self.refuse("Unterminated string, or a control character in it");
        };
        let body = &bytes[self.position..end.at];
        let mut text = Vec::with_capacity(body.len());
        if !scan::unescape(body, &mut text) {
            return self.refuse("Unrecognized escape in a string");
        }
        let Ok(text) = String::from_utf8(text) else {
            return self.refuse("Half of a surrogate pair in a string");
        };
        self.text = text;
        self.position = end.at + 1;
        Ok(())
    }

    fn peek(&self) -> Result<u8, PatternError> {
        match self.source.as_bytes().get(self.position) {
            Some(byte) => Ok(*byte),
            None => self.refuse("Unexpected end: a bracket is not closed"),
        }
    }

    fn skip_whitespace(&mut self) {
        self.position = scan::after_space(self.source.as_bytes(), self.position).1;
    }
}
