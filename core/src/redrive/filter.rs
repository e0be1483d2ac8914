//! Which dead letters: the text behind `--where`.
//!
//! ```text
//! filter    = condition *("," condition)
//! condition = key "=" value
//! value     = text without `,` and `"`, or text in double quotes (`\"` and `\\` inside)
//! ```
//! | key | value |
//! |---|---|
//! | `reason` | a [`Reason`], in any case |
//! | `status` | the last status: `500`, a class `5xx`, or `-` for letters without an answer |
//! | `type` | the CloudEvents type, a beginning of it (`com.example.*`), or `-` for none |
//! | `id` | the id of the message, or a beginning of it (`01a2*`) |
//! | `failedAfter` | given up at this time or later; RFC 3339, or a day (`2026-01-31`, UTC) |
//! | `failedBefore` | given up before this time |
//!
//! A key may be repeated, except the two times: its values are alternatives. Different keys must all
//! hold. The empty text is everything.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::dead_letter::{DeadLetter, Reason};

/// Longest text of a filter, bytes.
const LONGEST: usize = 4096;
/// Most conditions of a filter.
const MOST_CONDITIONS: usize = 64;
/// Name of the header that `type` is about.
const TYPE: &str = "ce-type";
/// Stands for the absence of a value.
const NONE: &str = "-";
const KEYS: &str = "reason, status, type, id, failedAfter, failedBefore";

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    reasons: Vec<Reason>,
    statuses: Vec<Status>,
    types: Vec<Text>,
    ids: Vec<Text>,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    None,
    Exactly(u16),
    Class(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Text {
    None,
    Exactly(String),
    Beginning(String),
}

/// Why a text is no filter. Says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFilterError {
    /// Longer than a filter may be.
    #[error("the filter has {0} bytes, at most {LONGEST} are allowed; use ids or a time instead")]
    TooLong(usize),
    /// More conditions than a filter may have.
    #[error("the filter has more than {MOST_CONDITIONS} conditions")]
    TooMany,
    /// A condition without `=`.
    #[error("`{0}` is no condition; write key=value, with one of the keys {KEYS}")]
    NoCondition(String),
    /// An unknown key.
    #[error("there is no key `{key}`{}; keys: {KEYS}", nearest.map_or_else(String::new, |near| format!(", did you mean `{near}`?")))]
    UnknownKey {
        /// What was written.
        key: String,
        /// A key that looks like it.
        nearest: Option<&'static str>,
    },
    /// A value that its key does not take.
    #[error("{key}: `{value}` is not {wanted}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What to write.
        wanted: String,
    },
    /// A key that may be there once.
    #[error("{0} may be given once")]
    Repeated(&'static str),
    /// A quote without its end.
    #[error("a double quote is not closed; write key=\"value\"")]
    OpenQuote,
    /// Text behind a closing quote, or a quote in the middle.
    #[error("a double quote must enclose the whole value: key=\"value\"")]
    StrayQuote,
    /// Nothing can match.
    #[error("failedAfter is not before failedBefore: no letter can match")]
    EmptySpan,
}

impl Filter {
    /// Whether every letter matches.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter matches.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let (message, failure) = (&letter.message, &letter.failure);
        let type_ = message.headers.get(TYPE).filter(|text| !text.is_empty());
        any(&self.reasons, |reason| *reason == failure.reason)
            && any(&self.statuses, |status| status.matches(failure.last_status))
            && any(&self.types, |text| text.matches(type_))
            && any(&self.ids, |text| text.matches(Some(&message.id)))
            && self.after.is_none_or(|after| failure.failed_at >= after)
            && self.before.is_none_or(|before| failure.failed_at < before)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), ParseFilterError> {
        let bad = |key, wanted: &str| ParseFilterError::BadValue {
            key,
            value: value.to_owned(),
            wanted: wanted.to_owned(),
        };
        match key {
            "reason" => {
                let known = Reason::ALL
                    .into_iter()
                    .find(|known| known.as_str().eq_ignore_ascii_case(value));
                let all = Reason::ALL.map(Reason::as_str).join(", ");
                let reason = known.ok_or_else(|| bad("reason", &format!("one of {all}")))?;
                self.reasons.push(reason);
            }
            "status" => {
                let wanted = "a status (500), a class (5xx), or - for letters without an answer";
                let status = Status::parse(value).ok_or_else(|| bad("status", wanted))?;
                self.statuses.push(status);
            }
            "type" => {
                let wanted = "a CloudEvents type, its beginning and *, or - for none";
                let text = Text::parse(value, true).ok_or_else(|| bad("type", wanted))?;
                self.types.push(text);
            }
            "id" => {
                let wanted = "an id, or its beginning and *";
                let text = Text::parse(value, false).ok_or_else(|| bad("id", wanted))?;
                self.ids.push(text);
            }
            "failedAfter" => once(&mut self.after, "failedAfter", value)?,
            "failedBefore" => once(&mut self.before, "failedBefore", value)?,
            _ => {
                let nearest = KEYS
                    .split(", ")
                    .find(|known| near(&known.to_lowercase(), &key.to_lowercase()));
                return Err(ParseFilterError::UnknownKey {
                    key: key.to_owned(),
                    nearest,
                });
            }
        }
        Ok(())
    }
}

fn any<T>(alternatives: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    alternatives.is_empty() || alternatives.iter().any(matches)
}

fn once(
    slot: &mut Option<Timestamp>,
    key: &'static str,
    value: &str,
) -> Result<(), ParseFilterError> {
    let day = |text: &str| {
        let day: Date = text.parse().ok()?;
        let midnight = day.to_zoned(TimeZone::UTC).ok()?;
        (text.len() == 10).then(|| midnight.timestamp())
    };
    let time = value.parse().ok().or_else(|| day(value));
    let time = time.ok_or_else(|| ParseFilterError::BadValue {
        key,
        value: value.to_owned(),
        wanted: "a time; write 2026-01-31T12:00:00Z, or 2026-01-31 for its beginning in UTC"
            .to_owned(),
    })?;
    if slot.replace(time).is_some() {
        return Err(ParseFilterError::Repeated(key));
    }
    Ok(())
}

/// Looks like a slip: the same beginning, about the same length.
fn near(known: &str, written: &str) -> bool {
    let same = known
        .chars()
        .zip(written.chars())
        .take_while(|(a, b)| a == b);
    same.count() >= 2 && known.len().abs_diff(written.len()) <= 3
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        if text == NONE {
            return Some(Self::None);
        }
        let class = text
            .strip_suffix("xx")
            .or_else(|| text.strip_suffix("XX"))
            .and_then(|class| class.parse().ok())
            .filter(|class| (1..=5).contains(class) && text.len() == 3);
        if let Some(class) = class {
            return Some(Self::Class(class));
        }
        let status = text.parse().ok().filter(|s| (100..=999).contains(s))?;
        (text.len() == 3).then_some(Self::Exactly(status))
    }

    fn matches(self, last: Option<u16>) -> bool {
        match self {
            Self::None => last.is_none(),
            Self::Exactly(status) => last == Some(status),
            Self::Class(class) => last.is_some_and(|last| last / 100 == class),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(NONE),
            Self::Exactly(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl Text {
    fn parse(text: &str, may_be_none: bool) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if may_be_none && text == NONE {
            return Some(Self::None);
        }
        Some(match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.to_owned()),
            None => Self::Exactly(text.to_owned()),
        })
    }

    fn matches(&self, found: Option<&str>) -> bool {
        match self {
            Self::None => found.is_none(),
            Self::Exactly(text) => found == Some(text),
            Self::Beginning(text) => found.is_some_and(|found| found.starts_with(text.as_str())),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::None => NONE.to_owned(),
            Self::Exactly(text) => quoted(text),
            Self::Beginning(text) => quoted(&format!("{text}*")),
        }
    }
}

fn quoted(text: &str) -> String {
    let plain = !text.contains([',', '"', '\\']) && text.trim() == text;
    if plain {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The filter in its own grammar; reading it gives the same filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<String> = Vec::new();
        all.extend(
            self.reasons
                .iter()
                .map(|r| format!("reason={}", r.as_str())),
        );
        all.extend(self.statuses.iter().map(|s| format!("status={s}")));
        all.extend(self.types.iter().map(|t| format!("type={}", t.shown())));
        all.extend(self.ids.iter().map(|t| format!("id={}", t.shown())));
        all.extend(self.after.map(|time| format!("failedAfter={time}")));
        all.extend(self.before.map(|time| format!("failedBefore={time}")));
        f.write_str(&all.join(","))
    }
}

impl FromStr for Filter {
    type Err = ParseFilterError;

    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        if text.len() > LONGEST {
            return Err(ParseFilterError::TooLong(text.len()));
        }
        let mut filter = Self::default();
        if text.trim().is_empty() {
            return Ok(filter);
        }
        let mut rest = Some(text);
        let mut conditions = 0;
        while let Some(now) = rest {
            let (key, value, after) = condition(now)?;
            conditions += 1;
            if conditions > MOST_CONDITIONS {
                return Err(ParseFilterError::TooMany);
            }
            filter.add(key, &value)?;
            rest = after;
        }
        match (filter.after, filter.before) {
            (Some(after), Some(before)) if after >= before => Err(ParseFilterError::EmptySpan),
            _ => Ok(filter),
        }
    }
}

/// The first condition of a text, and what is behind its comma.
fn condition(text: &str) -> Result<(&str, String, Option<&str>), ParseFilterError> {
    let no_condition = || {
        let shown = text.split(',').next().unwrap_or_default().trim();
        ParseFilterError::NoCondition(shown.to_owned())
    };
    let end = text.find(['=', ',']).ok_or_else(no_condition)?;
    if text.as_bytes()[end] == b',' {
        return Err(no_condition());
    }
    let (key, value) = (text[..end].trim(), text[end + 1..].trim_start());
    if let Some(inside) = value.strip_prefix('"') {
        let (value, behind) = unquoted(inside)?;
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Ok((key, value, None));
        }
        let after = behind
            .strip_prefix(',')
            .ok_or(ParseFilterError::StrayQuote)?;
        return Ok((key, value, Some(after)));
    }
    let (value, after) = match value.split_once(',') {
        Some((value, after)) => (value, Some(after)),
        None => (value, None),
    };
    if value.contains('"') {
        return Err(ParseFilterError::StrayQuote);
    }
    Ok((key, value.trim().to_owned(), after))
}

/// Text up to the closing quote, and what is behind it.
fn unquoted(text: &str) -> Result<(String, &str), ParseFilterError> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => {
                let (_, escaped) = chars.next().ok_or(ParseFilterError::OpenQuote)?;
                value.push(escaped);
            }
            c => value.push(c),
        }
    }
    Err(ParseFilterError::OpenQuote)
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
