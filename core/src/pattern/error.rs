//! Why a pattern was refused, in the words AWS uses, and where.

use std::fmt;

use super::Dialect;

/// A place in the text of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From the start of the text, in bytes.
    pub offset: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in UTF-16 units, as AWS counts. It is the place behind what was read when the pattern was refused.
    pub column: usize,
}

impl Position {
    pub(super) fn of(source: &str, offset: usize) -> Self {
        let before = &source[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            offset,
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].encode_utf16().count() + 1,
        }
    }
}

/// A pattern that AWS would refuse, or that exceeds a bound of ours.
///
/// Displayed as the service of its dialect words it: `Event pattern is not valid. Reason: …` or
/// `Invalid parameter: Attributes Reason: FilterPolicy: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    reason: String,
    position: Option<Position>,
    dialect: Dialect,
    /// The text that was refused, or its start, as SNS quotes it.
    excerpt: String,
}

/// SNS quotes this much of a policy, in UTF-16 units.
const EXCERPT: usize = 500;

impl PatternError {
    pub(super) fn at(reason: impl Into<String>, position: Position) -> Self {
        Self {
            position: Some(position),
            ..Self::of(reason)
        }
    }

    /// About the pattern as a whole, or found by a check for which AWS names no place.
    pub(super) fn of(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            position: None,
            dialect: Dialect::EventBridge,
            excerpt: String::new(),
        }
    }

    pub(super) fn in_source(mut self, source: &str, dialect: Dialect) -> Self {
        self.dialect = dialect;
        if dialect != Dialect::EventBridge && self.position.is_some() {
            let total = source.encode_utf16().count();
            let kept = if total <= EXCERPT {
                source
            } else {
                let mut units = 0;
                let end = source.char_indices().find(|(_, character)| {
                    units += character.len_utf16();
                    units > EXCERPT
                });
                &source[..end.map_or(source.len(), |(at, _)| at)]
            };
            let rest = total.saturating_sub(EXCERPT);
            let more = if rest > 0 {
                format!("[truncated {rest} chars]")
            } else {
                String::new()
            };
            self.excerpt = format!("\"{kept}\"{more}");
        }
        self
    }

    /// What is wrong, in AWS's words where AWS has words for it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Where the pattern was refused; absent where the whole of it is at fault.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dialect == Dialect::EventBridge {
            return write!(f, "Event pattern is not valid. Reason: {}", self.reason);
        }
        write!(
            f,
            "Invalid parameter: Attributes Reason: FilterPolicy: {}",
            self.reason
        )?;
        if let Some(Position { line, column, .. }) = self.position {
            write!(
                f,
                "\n at [Source: (String){}; line: {line}, column: {column}]",
                self.excerpt
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for PatternError {}
