//! How many dead letters there are of each reason, status or type.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::dead_letter::DeadLetter;

/// Most keys of a summary; the rest are counted together.
const MOST_KEYS: usize = 1000;
/// What the rest is called.
const OTHERS: &str = "(others)";

/// What letters are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Why they were given up.
    Reason,
    /// Last HTTP status.
    Status,
    /// CloudEvents type.
    Type,
}

impl By {
    /// Finds it by its name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reason, Self::Status, Self::Type]
            .into_iter()
            .find(|by| by.as_str() == text)
    }

    /// `reason`, `status` or `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reason => "reason",
            Self::Status => "status",
            Self::Type => "type",
        }
    }

    /// What a letter is counted under; `-` where it has none. A filter takes the same words.
    pub fn key(self, letter: &DeadLetter) -> String {
        let none = || "-".to_owned();
        match self {
            Self::Reason => letter.failure.reason.as_str().to_owned(),
            Self::Status => letter
                .failure
                .last_status
                .map_or_else(none, |status| status.to_string()),
            Self::Type => letter
                .message
                .headers
                .get("ce-type")
                .filter(|text| !text.is_empty())
                .map_or_else(none, str::to_owned),
        }
    }
}

/// Letters of one key of a summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The reason, status or type.
    pub key: String,
    /// How many.
    pub count: u64,
    /// When the first of them was given up.
    pub oldest: Timestamp,
    /// When the last of them was.
    pub newest: Timestamp,
}

/// How many letters there are of each reason, status or type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The largest first.
    pub counts: Vec<Count>,
    /// Letters that were looked at.
    pub looked_at: u64,
    /// Pass it as `after` for the rest, and add up; null at the end.
    pub next: Option<u64>,
}

impl Summary {
    /// Counts one letter.
    pub fn add(&mut self, by: By, letter: &DeadLetter) {
        self.looked_at += 1;
        let died = letter.failure.failed_at;
        self.add_count(Count {
            key: by.key(letter),
            count: 1,
            oldest: died,
            newest: died,
        });
    }

    /// Adds the counts of another part.
    pub fn extend(&mut self, other: Self) {
        self.looked_at += other.looked_at;
        self.next = other.next;
        for count in other.counts {
            self.add_count(count);
        }
    }

    fn add_count(&mut self, mut new: Count) {
        let is_known = self.counts.iter().any(|known| known.key == new.key);
        // A type that every letter has for itself is no type: bounded.
        if !is_known && self.counts.len() >= MOST_KEYS {
            OTHERS.clone_into(&mut new.key);
        }
        match self.counts.iter_mut().find(|known| known.key == new.key) {
            Some(known) => {
                known.count += new.count;
                known.oldest = known.oldest.min(new.oldest);
                known.newest = known.newest.max(new.newest);
            }
            None => self.counts.push(new),
        }
    }

    /// The largest first, equals by name.
    pub fn sort(&mut self) {
        self.counts
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    }
}
