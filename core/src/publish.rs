//! The publish API: what a sender may ask for in headers, and what it is answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::Headers;

/// Header with the delay of a message, whole seconds.
pub const DELAY_SECONDS: &str = "weir-delay-seconds";
/// Header with the group of a message: its order, or its tenant.
pub const GROUP: &str = "weir-group";

/// Longest delay that a sender may ask for (aws-semantics 5.1.1).
pub const LONGEST_DELAY: Duration = Duration::from_mins(15);
/// Longest group, in characters (aws-semantics 5.1.11).
const LONGEST_GROUP: usize = 128;

/// What the sender of a message asked for. `idempotency-key` is not here: it is part of the message,
/// see [`dedup`](crate::dedup).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Not delivered before this has passed; absent: the delay of the object.
    pub delay: Option<Duration>,
    /// Group; absent: none.
    pub group: Option<String>,
}

/// Why an option cannot be honoured. Says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOption {
    /// Not a delay.
    #[error("header {DELAY_SECONDS} must be a whole number from 0 to 900")]
    Delay,
    /// Not a group.
    #[error("header {GROUP} must be 1 to 128 letters, digits and punctuation of ASCII")]
    Group,
    /// The header is there more than once.
    #[error("header {header} is there more than once: send it once")]
    Repeated {
        /// Name of the header.
        header: &'static str,
    },
}

impl InvalidOption {
    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Delay => "InvalidDelay",
            Self::Group => "InvalidGroup",
            Self::Repeated { .. } => "RepeatedOption",
        }
    }
}

impl Options {
    /// Reads the options from *all* headers of a request
    /// ([`headers::all_from_http`](crate::headers::all_from_http)): what begins with `weir-` is not
    /// part of a message. Other `weir-` headers are ignored, so that a handler may hand on the
    /// headers of its own request.
    pub fn parse(headers: &Headers) -> Result<Self, InvalidOption> {
        let delay = match only(headers, DELAY_SECONDS)? {
            None => None,
            Some(text) => {
                let digits =
                    (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
                let delay = digits
                    .then(|| text.parse().ok())
                    .flatten()
                    .map(Duration::from_secs);
                Some(
                    delay
                        .filter(|delay| *delay <= LONGEST_DELAY)
                        .ok_or(InvalidOption::Delay)?,
                )
            }
        };
        let group = match only(headers, GROUP)? {
            None => None,
            Some(text) => {
                let valid = (1..=LONGEST_GROUP).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic());
                Some(valid.then(|| text.to_owned()).ok_or(InvalidOption::Group)?)
            }
        };
        Ok(Self { delay, group })
    }
}

fn only<'a>(headers: &'a Headers, header: &'static str) -> Result<Option<&'a str>, InvalidOption> {
    let mut values = headers.get_all(header);
    let value = values.next();
    if values.next().is_some() {
        Err(InvalidOption::Repeated { header })
    } else {
        Ok(value)
    }
}

/// The answer to one accepted message: `{"id":"..."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// `Weir-Id` of the stored message: of the first one where this is a duplicate.
    pub id: String,
    /// True when nothing was stored because the identity is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// The answer to one message that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For people: what is wrong and what to write instead.
    pub error: String,
    /// A short stable word.
    pub reason: String,
    /// The status that the message would have had as the only one: 5xx and 429 may be sent again.
    pub status: u16,
}

/// The answer to one event of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ItemAnswer {
    /// Stored, or known.
    Accepted(Accepted),
    /// Not stored.
    Refused(Refused),
}

/// The answer to a batch, in the order of its events: `{"results":[{"id":"..."},{"error":"..."}]}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAccepted {
    /// One per event.
    pub results: Vec<ItemAnswer>,
}

impl BatchAccepted {
    /// The status of the whole answer: `accepted` (that of a single message) when every event was
    /// accepted; else 207, which makes the sender look at each.
    pub fn status(&self, accepted: u16) -> u16 {
        let all = self
            .results
            .iter()
            .all(|item| matches!(item, ItemAnswer::Accepted(_)));
        if all { accepted } else { 207 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options, InvalidOption> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Options::parse(&pairs.collect())
    }

    #[test]
    fn a_request_without_options_asks_for_nothing() {
        assert_eq!(
            parse(&[("weir-attempt", "2"), ("content-type", "x")]),
            Ok(Options::default())
        );
    }

    #[test]
    fn a_delay_is_whole_seconds_up_to_fifteen_minutes() {
        for (text, seconds) in [("0", 0), ("900", 900), ("0015", 15)] {
            let delay = parse(&[(DELAY_SECONDS, text)]).unwrap().delay;
            assert_eq!(delay, Some(Duration::from_secs(seconds)));
        }
        for text in [
            "",
            "901",
            "-1",
            "+1",
            "1.5",
            "1s",
            " 1",
            "99999999999999999999",
            "\u{661}",
        ] {
            let error = parse(&[(DELAY_SECONDS, text)]).unwrap_err();
            assert_eq!(error, InvalidOption::Delay, "{text}");
        }
        assert_eq!(
            InvalidOption::Delay.to_string(),
            "header weir-delay-seconds must be a whole number from 0 to 900"
        );
    }

    #[test]
    fn a_group_is_a_short_visible_text() {
        let long = "x".repeat(128);
        for text in ["a", "tenant/7:eu!", &long] {
            assert_eq!(
                parse(&[(GROUP, text)]).unwrap().group.as_deref(),
                Some(text)
            );
        }
        for text in ["", "a b", "ü", "a\t", &"x".repeat(129)] {
            assert_eq!(parse(&[(GROUP, text)]), Err(InvalidOption::Group), "{text}");
        }
    }

    #[test]
    fn an_option_that_is_there_twice_is_refused() {
        for header in [DELAY_SECONDS, GROUP] {
            let error = parse(&[(header, "1"), (header, "1")]).unwrap_err();
            assert_eq!(error, InvalidOption::Repeated { header });
        }
    }

    #[test]
    fn answers_are_short_documents() {
        let first = Accepted {
            id: "a".to_owned(),
            duplicate: false,
        };
        let known = Accepted {
            id: "b".to_owned(),
            duplicate: true,
        };
        let refused = Refused {
            error: "no".to_owned(),
            reason: "Data".to_owned(),
            status: 400,
        };
        let write = |value: &BatchAccepted| serde_json::to_string(value).unwrap();
        assert_eq!(serde_json::to_string(&first).unwrap(), r#"{"id":"a"}"#);
        assert_eq!(
            serde_json::to_string(&known).unwrap(),
            r#"{"id":"b","duplicate":true}"#
        );
        let mut batch = BatchAccepted {
            results: vec![ItemAnswer::Accepted(first), ItemAnswer::Accepted(known)],
        };
        assert_eq!(batch.status(202), 202);
        batch.results.push(ItemAnswer::Refused(refused));
        assert_eq!(batch.status(202), 207);
        let text = r#"{"results":[{"id":"a"},{"id":"b","duplicate":true},{"error":"no","reason":"Data","status":400}]}"#;
        assert_eq!(write(&batch), text);
        assert_eq!(serde_json::from_str::<BatchAccepted>(text).unwrap(), batch);
        assert_eq!(write(&BatchAccepted::default()), r#"{"results":[]}"#);
        assert_eq!(BatchAccepted::default().status(202), 202);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_a_panic(delay in "\\PC*", group in "\\PC*") {
            if let Ok(options) = parse(&[(DELAY_SECONDS, &delay), (GROUP, &group)]) {
                prop_assert!(options.delay.is_some_and(|delay| delay <= LONGEST_DELAY));
            }
        }
    }
}
