//! The group of a message: what is kept in order.
//!
//! Messages of one group are handled one after the other, those of different groups at the same time.
//! The group of a message is, in this order:
//!
//! 1. what its sender wrote into the header `weir-group`;
//! 2. what `spec.groupBy` of the object makes of the message: the value of a header, or the result of
//!    a JSONata expression over its [`event`](crate::event);
//! 3. without `groupBy`, none, and all messages without a group are one group.
//!
//! # Which texts are groups
//! 1 to [`LONGEST`] bytes of visible ASCII, `!` to `~` (aws-semantics 5.1.11), compared byte by byte.
//! `*`, `>`, `/` and `.` are letters like others. What an expression gives is written so:
//!
//! - a text as it is;
//! - a whole number in digits, without a fraction (`7` and `7.0` are one group, so are `-0` and `0`);
//!   any other number as the shortest decimal that means it;
//! - `true` and `false` as these words.
//!
//! Anything else is no group, and the message is refused rather than put somewhere: nothing, null,
//! lists, objects, empty and long texts, spaces, line ends, letters outside ASCII.

use serde_json::Value;

use crate::dead_letter::one_line;
use crate::message::Headers;
use crate::publish::GROUP;

/// Longest group, in bytes (aws-semantics 5.1.11).
pub const LONGEST: usize = 128;

/// Longest piece of an error of the expression engine that is told to a sender, in bytes.
const LONGEST_WHY: usize = 256;

/// Why a message has no group although its object wants one. Says what to write instead, and nothing
/// of what was sent except single characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGroup {
    /// The configured header is not there.
    #[error("messages are grouped by header {header}: send it, with a value")]
    NoHeader {
        /// Name of the header.
        header: String,
    },
    /// The header is there more than once.
    #[error("header {header} is there more than once: send it once, it says the group")]
    Repeated {
        /// Name of the header.
        header: String,
    },
    /// The text has no letters.
    #[error("{origin} is empty, and it says the group: a group has 1 to 128 characters")]
    Empty {
        /// Where the text came from.
        origin: String,
    },
    /// The text is too long.
    #[error(
        "{origin} has {found} bytes, and it says the group: a group has at most 128; take something \
         shorter that names it"
    )]
    TooLong {
        /// Where the text came from.
        origin: String,
        /// Bytes of the text.
        found: usize,
    },
    /// A character that a group cannot have.
    #[error(
        "{origin} has the character {character} at place {place}, and it says the group: a group is \
         letters, digits and punctuation of ASCII; encode other texts, in JSONata with \
         $encodeUrlComponent(...)"
    )]
    Character {
        /// Where the text came from.
        origin: String,
        /// `U+0020`.
        character: String,
        /// Counted in characters from 1.
        place: usize,
    },
    /// The expression gave nothing: a field that the message does not have.
    #[error(
        "spec.groupBy gave nothing for this message: send the field that it names, or the group \
         itself in header {GROUP}"
    )]
    Nothing,
    /// The expression gave something that is no single value.
    #[error("spec.groupBy gave {found}: a group is one text, number or boolean")]
    Type {
        /// `a list`.
        found: &'static str,
    },
    /// The expression failed on this message.
    #[error("spec.groupBy could not be evaluated for this message: {why}")]
    Failed {
        /// What the engine said, one line.
        why: String,
    },
    /// The expression took too long, which can be the fault of a busy machine.
    #[error(
        "spec.groupBy took too long for this message; send it again later, or in a simpler form"
    )]
    TookTooLong,
    /// The expression itself cannot be used. Not the sender's fault.
    #[error("spec.groupBy of the object cannot be used; its owner must correct it")]
    NotConfigured,
}

impl InvalidGroup {
    /// The expression failed; `why` is what its engine said.
    pub fn failed(why: &str) -> Self {
        let mut why = one_line(why);
        let mut end = LONGEST_WHY.min(why.len());
        while !why.is_char_boundary(end) {
            end -= 1;
        }
        why.truncate(end);
        Self::Failed { why }
    }

    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoHeader { .. } | Self::Nothing => "NoGroup",
            Self::Repeated { .. } => "RepeatedGroup",
            Self::Empty { .. }
            | Self::TooLong { .. }
            | Self::Character { .. }
            | Self::Type { .. } => "InvalidGroup",
            Self::Failed { .. } => "GroupFailed",
            Self::TookTooLong => "GroupTookTooLong",
            Self::NotConfigured => "NotConfigured",
        }
    }

    /// The status to answer with: 400, or 503 where the sender can do nothing about it.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotConfigured | Self::TookTooLong => 503,
            _ => 400,
        }
    }
}

/// Takes a text as a group. `origin` says where it came from, for the error.
pub fn from_text(text: &str, origin: &str) -> Result<String, InvalidGroup> {
    let origin = || origin.to_owned();
    if text.is_empty() {
        return Err(InvalidGroup::Empty { origin: origin() });
    }
    if text.len() > LONGEST {
        return Err(InvalidGroup::TooLong {
            origin: origin(),
            found: text.len(),
        });
    }
    let mut characters = text.chars().zip(1..);
    match characters.find(|(character, _)| !character.is_ascii_graphic()) {
        None => Ok(text.to_owned()),
        Some((character, place)) => Err(InvalidGroup::Character {
            origin: origin(),
            character: format!("U+{:04X}", u32::from(character)),
            place,
        }),
    }
}

/// The group that a header (lower case) of the message says.
pub fn from_header(headers: &Headers, header: &str) -> Result<String, InvalidGroup> {
    let mut values = headers.get_all(header);
    let header = || header.to_owned();
    let value = values
        .next()
        .ok_or_else(|| InvalidGroup::NoHeader { header: header() })?;
    if values.next().is_some() {
        return Err(InvalidGroup::Repeated { header: header() });
    }
    from_text(
        value.trim_matches([' ', '\t']),
        &format!("header {}", header()),
    )
}

/// The group that the result of an expression says; `None` is a result that is not there.
pub fn from_result(result: Option<&Value>) -> Result<String, InvalidGroup> {
    let found = match result {
        None => return Err(InvalidGroup::Nothing),
        Some(Value::String(text)) => return from_text(text, "what spec.groupBy gave"),
        Some(Value::Bool(value)) => return Ok(value.to_string()),
        Some(Value::Number(number)) => return Ok(written(number)),
        Some(Value::Null) => "null",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    };
    Err(InvalidGroup::Type { found })
}

/// The same text for the same number, however it was written.
fn written(number: &serde_json::Number) -> String {
    /// From here on not every whole number has a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    match number.as_f64() {
        #[allow(clippy::float_cmp)]
        Some(value) if value.trunc() == value && value.abs() <= EXACT => (value as i64).to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(value: &Value) -> Result<String, InvalidGroup> {
        from_result(Some(value))
    }

    fn header(values: &[&str]) -> Result<String, InvalidGroup> {
        let pairs = values
            .iter()
            .map(|value| ("x-group".to_owned(), (*value).to_owned()));
        from_header(&pairs.collect(), "x-group")
    }

    #[test]
    fn texts_numbers_and_booleans_are_groups() {
        for (value, group) in [
            (json!("acc-7"), "acc-7"),
            (json!("*"), "*"),
            (json!(">"), ">"),
            (json!("a.b/c:d"), "a.b/c:d"),
            (json!("%20"), "%20"),
            (json!(7), "7"),
            (json!(7.0), "7"),
            (json!(-0.0), "0"),
            (json!(7.5), "7.5"),
            (json!(-3), "-3"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(1e300), "1e+300"),
            (json!(true), "true"),
            (json!(false), "false"),
        ] {
            assert_eq!(of(&value).as_deref(), Ok(group), "{value}");
        }
    }

    #[test]
    fn what_is_no_single_value_is_no_group() {
        for (value, part) in [
            (json!(null), "gave null"),
            (json!([]), "gave a list"),
            (json!(["a"]), "gave a list"),
            (json!({"a": 1}), "gave an object"),
        ] {
            let error = of(&value).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert_eq!((error.status(), error.reason()), (400, "InvalidGroup"));
        }
        let error = from_result(None).unwrap_err();
        assert_eq!((error.status(), error.reason()), (400, "NoGroup"));
        assert!(error.to_string().contains("header weir-group"), "{error}");
    }

    #[test]
    fn a_text_that_is_no_group_is_refused_with_what_is_wrong() {
        let long = "x".repeat(10_240);
        for (text, part) in [
            ("", "is empty"),
            ("a b", "U+0020 at place 2"),
            (" a", "U+0020 at place 1"),
            ("a\nb", "U+000A at place 2"),
            ("a\0", "U+0000 at place 2"),
            ("M\u{fc}nchen", "U+00FC at place 2"),
            ("\u{1f600}", "U+1F600 at place 1"),
            ("\u{7f}", "U+007F at place 1"),
            (&long, "has 10240 bytes"),
        ] {
            let error = of(&json!(text)).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(part), "{said}");
            assert!(said.len() < 300, "{said}");
            assert_eq!(error.status(), 400);
        }
        assert_eq!(of(&json!("x".repeat(128))).unwrap().len(), 128);
        assert!(of(&json!("x".repeat(129))).is_err());
    }

    #[test]
    fn a_header_says_the_group_once() {
        assert_eq!(header(&["acc-7"]).as_deref(), Ok("acc-7"));
        assert_eq!(header(&[" acc-7\t"]).as_deref(), Ok("acc-7"));
        let said = |values: &[&str]| header(values).unwrap_err().to_string();
        assert_eq!(
            said(&[]),
            "messages are grouped by header x-group: send it, with a value"
        );
        assert!(said(&["a", "a"]).contains("more than once"));
        assert!(said(&[""]).starts_with("header x-group is empty"));
        assert!(said(&["a b"]).starts_with("header x-group has the character U+0020"));
    }

    #[test]
    fn an_error_of_the_engine_is_one_short_line() {
        let error = InvalidGroup::failed(&format!("T2001:\r\n {}\u{fc}", "x\u{fc}".repeat(500)));
        let said = error.to_string();
        assert!(
            said.len() < 400 && !said.contains(char::is_control),
            "{said}"
        );
        assert_eq!((error.status(), error.reason()), (400, "GroupFailed"));
        assert_eq!(InvalidGroup::NotConfigured.status(), 503);
        assert_eq!(InvalidGroup::TookTooLong.status(), 503);
    }

    proptest! {
        #[test]
        fn whatever_is_a_group_is_short_and_visible(text in "\\PC{0,200}") {
            if let Ok(group) = of(&json!(text)) {
                prop_assert!((1..=LONGEST).contains(&group.len()));
                prop_assert!(group.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(group, text);
            }
        }

        #[test]
        fn equal_numbers_are_one_group_and_others_are_not(one: i32, other in any::<i32>()) {
            prop_assert_eq!(of(&json!(one)), of(&json!(f64::from(one))));
            prop_assert_eq!(of(&json!(one)) == of(&json!(other)), one == other);
        }

        #[test]
        fn any_number_is_a_group(number: f64) {
            if number.is_finite() {
                let group = of(&json!(number)).unwrap();
                prop_assert!(from_text(&group, "").is_ok());
            }
        }
    }
}
