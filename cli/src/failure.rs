//! What ends a command: a sentence for people with what to do next, and an exit code.

use std::fmt;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// 1: it did not work; 2: it was asked for wrongly.
    pub code: u8,
    message: String,
    next: Option<String>,
}

impl Failure {
    /// It did not work.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
            next: None,
        }
    }

    /// It was asked for wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
            next: None,
        }
    }

    /// What was printed says it all.
    pub fn silent(code: u8) -> Self {
        Self {
            code,
            message: String::new(),
            next: None,
        }
    }

    /// Whether there is nothing to print.
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// An error that speaks for itself.
    pub fn other(why: impl fmt::Display) -> Self {
        Self::new(why.to_string())
    }

    /// What to do about it.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(next) = &self.next {
            write!(f, "\n  {next}")?;
        }
        Ok(())
    }
}
