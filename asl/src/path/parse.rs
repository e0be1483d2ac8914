//! Text to path.

use super::filter;
use super::function::Function;
use super::{MAX_PATH_BYTES, Path, Root, Segment};

/// How deep filters may nest inside filters, and parentheses inside them.
const MAX_DEPTH: usize = 32;

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePathError {
    /// A path names its root.
    #[error("'{0}' must start with '$', '$$' or '$variable'")]
    StartElsewhere(String),
    /// The text stops being a path at this byte.
    #[error("at byte {position} of '{path}': {expected}")]
    LeaveSyntax {
        /// The whole text.
        path: String,
        /// Where, counted in bytes from 0.
        position: usize,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("a path may have at most {MAX_PATH_BYTES} bytes, this one has {0}")]
    ExceedLength(usize),
    /// Only a path to exactly one field can be written to.
    #[error("'{path}' is not a reference path: {why}")]
    NameSeveralFields {
        /// The whole text.
        path: String,
        /// Which part is not allowed.
        why: &'static str,
    },
}

pub(super) fn path(source: &str) -> Result<Path, ParsePathError> {
    if source.len() > MAX_PATH_BYTES {
        return Err(ParsePathError::ExceedLength(source.len()));
    }
    let Some(rest) = source.strip_prefix('$') else {
        return Err(ParsePathError::StartElsewhere(source.to_owned()));
    };
    let mut cursor = Cursor {
        source,
        position: 1,
        depth: 0,
    };
    let root = if rest.starts_with('$') {
        cursor.position += 1;
        Root::Context
    } else {
        let name = cursor.take_while(|c| c.is_alphanumeric() || c == '_');
        if name.is_empty() {
            Root::Input
        } else if name.starts_with(|c: char| c.is_numeric()) {
            cursor.position = 1;
            return Err(cursor.expected("a variable's name starts with a letter"));
        } else {
            Root::Variable(name.to_owned())
        }
    };
    let (segments, function) = cursor.segments()?;
    if !cursor.is_at_end() {
        return Err(cursor.expected("'.', '[' or the end of the path"));
    }
    let definite = is_definite(&segments, function.is_some());
    Ok(Path {
        source: source.to_owned(),
        root,
        segments,
        function,
        definite,
    })
}

/// A function gives one value whatever it is applied to; several names at the end give one object.
fn is_definite(segments: &[Segment], has_function: bool) -> bool {
    if has_function {
        return true;
    }
    let last = segments.len().saturating_sub(1);
    segments
        .iter()
        .enumerate()
        .all(|(index, segment)| match segment {
            Segment::Names(names) => names.len() == 1 || index == last,
            Segment::Indices(indices) => indices.len() == 1,
            _ => false,
        })
}

pub(super) struct Cursor<'s> {
    source: &'s str,
    position: usize,
    depth: usize,
}

impl<'s> Cursor<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.position..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position >= self.source.len()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.position += next.len_utf8();
        Some(next)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.position += text.len();
        }
        found
    }

    pub(super) fn skip_spaces(&mut self) {
        self.take_while(|c| c == ' ' || c == '\t');
    }

    pub(super) fn take_while(&mut self, mut accept: impl FnMut(char) -> bool) -> &'s str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.position += end;
        &rest[..end]
    }

    pub(super) fn expected(&self, expected: &'static str) -> ParsePathError {
        ParsePathError::LeaveSyntax {
            path: self.source.to_owned(),
            position: self.position,
            expected,
        }
    }

    /// Runs one level deeper, or refuses.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, ParsePathError>,
    ) -> Result<T, ParsePathError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.expected("at most 32 levels of nesting"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Everything after the root, up to what cannot continue a path.
    pub(super) fn segments(&mut self) -> Result<(Vec<Segment>, Option<Function>), ParsePathError> {
        let mut segments = Vec::new();
        loop {
            if self.eat("..") {
                let inner = if self.peek() == Some('[') {
                    self.bracket()?
                } else {
                    self.dotted()?
                };
                segments.push(Segment::Descend(Box::new(inner)));
            } else if self.eat(".") {
                if let Some(function) = self.function()? {
                    return Ok((segments, Some(function)));
                }
                // `$.['name']` is written often enough that AWS's library accepts it.
                segments.push(if self.peek() == Some('[') {
                    self.bracket()?
                } else {
                    self.dotted()?
                });
            } else if self.peek() == Some('[') {
                segments.push(self.bracket()?);
            } else {
                return Ok((segments, None));
            }
        }
    }

    fn function(&mut self) -> Result<Option<Function>, ParsePathError> {
        let start = self.position;
        let name = self.take_while(|c| c.is_ascii_alphanumeric());
        if !self.eat("(") {
            self.position = start;
            return Ok(None);
        }
        let Some(function) = Function::named(name) else {
            self.position = start;
            return Err(self.expected(
                "one of the functions length(), size(), min(), max(), avg(), stddev(), sum(), keys(), first(), last()",
            ));
        };
        self.skip_spaces();
        if !self.eat(")") {
            return Err(self.expected("')': functions in paths take no arguments"));
        }
        Ok(Some(function))
    }

    fn dotted(&mut self) -> Result<Segment, ParsePathError> {
        if self.eat("*") {
            return Ok(Segment::Wildcard);
        }
        let name = self.take_while(|c| !is_delimiter(c));
        if name.is_empty() {
            return Err(self.expected("a field name, '*' or '['"));
        }
        Ok(Segment::Names(vec![name.to_owned()]))
    }

    fn bracket(&mut self) -> Result<Segment, ParsePathError> {
        self.bump();
        self.skip_spaces();
        let segment = match self.peek() {
            Some('*') => {
                self.bump();
                Segment::Wildcard
            }
            Some('?') => {
                self.bump();
                self.skip_spaces();
                let expression = self.nested(filter::parse)?;
                Segment::Filter(expression)
            }
            Some('\'' | '"') => {
                let mut names = vec![self.quoted()?];
                self.skip_spaces();
                while self.eat(",") {
                    self.skip_spaces();
                    names.push(self.quoted()?);
                    self.skip_spaces();
                }
                Segment::Names(names)
            }
            _ => self.indices()?,
        };
        self.skip_spaces();
        if !self.eat("]") {
            return Err(self.expected("']'"));
        }
        Ok(segment)
    }

    fn indices(&mut self) -> Result<Segment, ParsePathError> {
        let first = self.integer()?;
        self.skip_spaces();
        if self.eat(":") {
            self.skip_spaces();
            let end = self.integer()?;
            self.skip_spaces();
            let mut step = 1;
            if self.eat(":") {
                self.skip_spaces();
                step = self.integer()?.unwrap_or(1);
                if step < 1 {
                    return Err(self.expected("a step of at least 1"));
                }
            }
            return Ok(Segment::Slice {
                start: first,
                end,
                step,
            });
        }
        let Some(first) = first else {
            return Err(self.expected("an index, a slice, '*', a quoted field name or '?('"));
        };
        let mut indices = vec![first];
        while self.eat(",") {
            self.skip_spaces();
            let Some(next) = self.integer()? else {
                return Err(self.expected("an index"));
            };
            indices.push(next);
            self.skip_spaces();
        }
        Ok(Segment::Indices(indices))
    }

    fn integer(&mut self) -> Result<Option<i64>, ParsePathError> {
        let start = self.position;
        self.eat("-");
        let digits = self.take_while(|c| c.is_ascii_digit());
        if digits.is_empty() {
            if self.position == start {
                return Ok(None);
            }
            return Err(self.expected("a digit"));
        }
        if let Ok(number) = self.source[start..self.position].parse() {
            return Ok(Some(number));
        }
        self.position = start;
        Err(self.expected("an index that fits 64 bits"))
    }

    /// A quoted name or literal. A backslash escapes the quote and itself; before anything else it stands for itself, as
    /// recorded.
    pub(super) fn quoted(&mut self) -> Result<String, ParsePathError> {
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return Err(self.expected("a quoted field name"));
        };
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => return Err(self.expected("the closing quote")),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => match self.peek() {
                    Some(c) if c == quote || c == '\\' => {
                        self.bump();
                        text.push(c);
                    }
                    _ => text.push('\\'),
                },
                Some(c) => text.push(c),
            }
        }
    }
}

/// What ends an unquoted field name.
fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | '[' | ']' | '(' | ')' | ',' | '\'' | '"')
}

/// What ends an unquoted field name inside a filter, where operators follow without a space.
pub(super) fn is_filter_delimiter(c: char) -> bool {
    is_delimiter(c) || matches!(c, '=' | '!' | '<' | '>' | '&' | '|' | '~')
}

impl Cursor<'_> {
    /// The path of a filter's operand: as [`Self::segments`], but operators end a name too.
    pub(super) fn operand_segments(
        &mut self,
    ) -> Result<(Vec<Segment>, Option<Function>), ParsePathError> {
        let mut segments = Vec::new();
        loop {
            let descend = self.eat("..");
            if !descend && self.peek() != Some('[') && !self.eat(".") {
                return Ok((segments, None));
            }
            if !descend && let Some(function) = self.function()? {
                return Ok((segments, Some(function)));
            }
            let inner = if self.peek() == Some('[') {
                self.bracket()?
            } else if self.eat("*") {
                Segment::Wildcard
            } else {
                let name = self.take_while(|c| !is_filter_delimiter(c));
                if name.is_empty() {
                    return Err(self.expected("a field name, '*' or '['"));
                }
                Segment::Names(vec![name.to_owned()])
            };
            segments.push(if descend {
                Segment::Descend(Box::new(inner))
            } else {
                inner
            });
        }
    }
}
