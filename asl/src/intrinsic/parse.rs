//! Text to call.

use serde_json::Value;

use super::{Argument, Call, Function, MAX_CALL_BYTES, MAX_NESTING, ParseCallError};
use crate::path::Path;

pub(super) fn call(source: &str) -> Result<Call, ParseCallError> {
    if source.len() > MAX_CALL_BYTES {
        return Err(ParseCallError::ExceedLength(source.len()));
    }
    let mut cursor = Cursor {
        source,
        position: 0,
    };
    cursor.skip_spaces();
    let call = cursor.call(1)?;
    cursor.skip_spaces();
    if cursor.position < source.len() {
        return Err(cursor.expected("nothing may follow the closing parenthesis"));
    }
    Ok(call)
}

struct Cursor<'s> {
    source: &'s str,
    position: usize,
}

impl<'s> Cursor<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'s str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.position += end;
        &rest[..end]
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn expected(&self, expected: &'static str) -> ParseCallError {
        ParseCallError::LeaveSyntax {
            call: self.source.to_owned(),
            position: self.position,
            expected,
        }
    }

    fn call(&mut self, depth: usize) -> Result<Call, ParseCallError> {
        if depth > MAX_NESTING {
            return Err(ParseCallError::ExceedNesting);
        }
        let start = self.position;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '.');
        let known = Function::ALL.iter().find(|(known, ..)| *known == name);
        let Some(&(name, function, fewest, most, wanted)) = known else {
            return Err(ParseCallError::NameUnknownFunction(name.to_owned()));
        };
        self.skip_spaces();
        if !self.eat('(') {
            return Err(self.expected("'(' after the function's name"));
        }
        let mut arguments = Vec::new();
        self.skip_spaces();
        if !self.eat(')') {
            loop {
                self.skip_spaces();
                arguments.push(self.argument(depth)?);
                self.skip_spaces();
                if self.eat(')') {
                    break;
                }
                if !self.eat(',') {
                    return Err(self.expected("',' or ')' after an argument"));
                }
            }
        }
        let given = arguments.len();
        if given < fewest || given > most {
            return Err(ParseCallError::MiscountArguments {
                function: name,
                wanted,
                given,
            });
        }
        Ok(Call {
            source: self.source[start..self.position].to_owned(),
            function,
            arguments,
        })
    }

    fn argument(&mut self, depth: usize) -> Result<Argument, ParseCallError> {
        match self.peek() {
            Some('$') => {
                let text = self.path_text();
                Ok(Argument::Path(Path::parse(text)?))
            }
            Some('\'') => self.text(),
            Some('S') => Ok(Argument::Call(Box::new(self.call(depth + 1)?))),
            _ => {
                let start = self.position;
                let word =
                    self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
                if let Ok(value) = serde_json::from_str::<Value>(word) {
                    return Ok(Argument::Literal(value));
                }
                self.position = start;
                Err(self.expected(
                    "an argument is a path, a text in single quotes, a number, true, false, null or a call",
                ))
            }
        }
    }

    /// The path up to the comma or parenthesis that is not part of it.
    fn path_text(&mut self) -> &'s str {
        let rest = self.rest();
        let (mut brackets, mut parentheses) = (0_usize, 0_usize);
        let mut quote = None;
        let mut escaped = false;
        for (offset, c) in rest.char_indices() {
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), _) if c == open => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, '[') => brackets += 1,
                (None, ']') => brackets = brackets.saturating_sub(1),
                (None, '(') => parentheses += 1,
                (None, ')') if parentheses > 0 => parentheses -= 1,
                (None, ',' | ')') if brackets == 0 => {
                    self.position += offset;
                    return rest[..offset].trim_end();
                }
                _ => {}
            }
        }
        self.position = self.source.len();
        rest
    }

    /// A text in single quotes; `\'`, `\{`, `\}` and `\\` are its only escapes.
    fn text(&mut self) -> Result<Argument, ParseCallError> {
        self.bump();
        let start = self.position;
        let mut value = String::new();
        loop {
            match self.bump() {
                None => return Err(self.expected("a closing single quote")),
                Some('\'') => break,
                Some('\\') => {
                    let Some(c @ ('\'' | '{' | '}' | '\\')) = self.peek() else {
                        return Err(self.expected("after a backslash, one of ' { } \\"));
                    };
                    self.bump();
                    value.push(c);
                }
                Some(c) => value.push(c),
            }
        }
        let raw = self.source[start..self.position - 1].to_owned();
        Ok(Argument::Text {
            value: Value::String(value),
            raw,
        })
    }
}
