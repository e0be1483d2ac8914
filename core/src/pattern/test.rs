//! What a pattern asks of the values at one place of an event.

use super::address::Block;
use super::case::Folded;
use super::wildcard::Wildcard;

/// One alternative for the values at a path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Null,
    True,
    False,
    Text(String),
    /// A comparable number (see [`super::number`]).
    Number(f64),
    /// A number that is not comparable: the characters must be the same.
    NumberAsWritten(String),
    Prefix(String),
    Suffix(String),
    PrefixIgnoreCase(Folded),
    SuffixIgnoreCase(Folded),
    IgnoreCase(Folded),
    Wildcard(Wildcard),
    Range(Range),
    Address(Block),
    /// Any value, null too.
    Exists,
    /// No value at the path.
    Absent,
    AnythingBut(Not),
}

/// What a value must not be. Values of other types pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Not {
    Texts(Vec<String>),
    Numbers(Vec<f64>),
    Prefixes(Vec<String>),
    Suffixes(Vec<String>),
    IgnoreCase(Vec<Folded>),
    Wildcards(Vec<Wildcard>),
}

impl Not {
    /// Whether no value can fail for two reasons at once, given that texts and numbers differ and no prefix or suffix extends
    /// another. So failures can be counted.
    pub(super) fn fails_once(&self) -> bool {
        match self {
            Self::Texts(_) | Self::Numbers(_) | Self::Prefixes(_) | Self::Suffixes(_) => true,
            Self::IgnoreCase(texts) => texts.len() < 2 || texts.iter().all(Folded::is_ascii),
            Self::Wildcards(wildcards) => wildcards.len() < 2,
        }
    }
}

/// Numbers between two bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) low_included: bool,
    pub(super) high: f64,
    pub(super) high_included: bool,
}

impl Range {
    pub(super) const ALL: Self = Self {
        low: f64::MIN,
        low_included: true,
        high: f64::MAX,
        high_included: true,
    };

    pub(super) fn contains(&self, number: f64) -> bool {
        let above = if self.low_included {
            number >= self.low
        } else {
            number > self.low
        };
        let below = if self.high_included {
            number <= self.high
        } else {
            number < self.high
        };
        above && below
    }
}
