//! Notes about single copies, in the stream `notes`: that a call of a redelivered copy began, that it
//! was taken back, that a copy is done although its broker does not know.
//!
//! They are read only for copies that come again. Old notes go with the stream's length; then a call
//! that began is not counted, and a copy that is done is handled again.

use std::collections::{HashMap, VecDeque};

use lapin::BasicProperties;

use super::tail::Fold;

/// Copies that are remembered.
const MOST: usize = 100_000;

/// Says which copy a note is about.
const ABOUT: &str = "weir-about";
/// Says what.
const WHAT: &str = "weir-note";

/// What is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A call began.
    Began,
    /// The call that began was taken back.
    Undone,
    /// It is handled, retried or a dead letter: it must not be delivered again.
    Done,
    /// Nothing: who reads it back has read everything before it.
    Look,
}

impl Note {
    fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Undone => "undone",
            Self::Done => "done",
            Self::Look => "look",
        }
    }

    /// The record of it.
    pub(crate) fn about(self, copy: &str) -> Vec<(String, String)> {
        vec![
            (WHAT.to_owned(), self.as_str().to_owned()),
            (ABOUT.to_owned(), copy.to_owned()),
        ]
    }
}

/// What is known of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Calls that began and were not taken back.
    pub(crate) began: u32,
    pub(crate) done: bool,
}

/// What the notes say.
#[derive(Default)]
pub(crate) struct Notes {
    known: HashMap<String, Standing>,
    /// In the order they were first noted.
    order: VecDeque<String>,
}

impl Notes {
    pub(crate) fn standing(&self, copy: &str) -> Standing {
        self.known.get(copy).copied().unwrap_or_default()
    }

    fn note(&mut self, copy: &str, what: &str) -> bool {
        if what == Note::Look.as_str() {
            return true;
        }
        if !self.known.contains_key(copy) {
            if self.order.len() >= MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(copy.to_owned());
        }
        let standing = self.known.entry(copy.to_owned()).or_default();
        match what {
            "began" => standing.began = standing.began.saturating_add(1),
            "undone" => standing.began = standing.began.saturating_sub(1),
            "done" => standing.done = true,
            _ => return false,
        }
        true
    }
}

impl Fold for Notes {
    type Outcome = bool;

    fn take(&mut self, _: u64, properties: &BasicProperties, _: &[u8]) -> bool {
        let Some(headers) = properties.headers() else {
            return false;
        };
        let text = |name: &str| {
            let value = headers.inner().get(name)?.as_long_string()?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match (text(ABOUT), text(WHAT)) {
            (Some(copy), Some(what)) => self.note(&copy, &what),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::properties;
    use super::*;

    #[test]
    fn calls_are_counted_and_taken_back() {
        let mut notes = Notes::default();
        let mut take = |note: Note, copy: &str| {
            let properties = properties(note.about(copy)).unwrap();
            assert!(notes.take(0, &properties, b""));
            notes.standing("a")
        };
        assert_eq!(take(Note::Look, ""), Standing::default());
        assert_eq!(take(Note::Began, "b"), Standing::default());
        assert_eq!(take(Note::Began, "a").began, 1);
        assert_eq!(take(Note::Began, "a").began, 2);
        assert_eq!(take(Note::Undone, "a").began, 1);
        assert_eq!(
            take(Note::Done, "a"),
            Standing {
                began: 1,
                done: true
            }
        );
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut notes = Notes::default();
        for number in 0..=MOST {
            notes.note(&number.to_string(), "began");
        }
        assert_eq!(notes.known.len(), MOST);
        assert_eq!(notes.standing("0").began, 0);
        assert_eq!(notes.standing("1").began, 1);
    }
}
