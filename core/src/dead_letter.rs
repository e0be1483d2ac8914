//! Why a message was given up, and what is kept with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::wire;

/// Longest part of a handler's answer that a dead letter keeps, in bytes.
pub const ANSWER_KEPT: usize = 1024;

/// Why a message became a dead letter. The names are part of the API (metrics, `weir dlq`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// `retry.maxAttempts` outcomes failed.
    MaxAttempts,
    /// The handler answered one of `retry.permanentStatuses`.
    PermanentStatus,
    /// Older than `retry.maxAgeSeconds` or `retentionSeconds`.
    MaxAge,
    /// The processes that had it ended without an outcome, `retry.maxAttempts` times.
    NoOutcome,
    /// What is stored cannot be handed to a handler (written by somebody else, damaged).
    Malformed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::MaxAttempts,
        Self::PermanentStatus,
        Self::MaxAge,
        Self::NoOutcome,
        Self::Malformed,
    ];

    /// The reason as it is written in metrics, status and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxAttempts => "MaxAttempts",
            Self::PermanentStatus => "PermanentStatus",
            Self::MaxAge => "MaxAge",
            Self::NoOutcome => "NoOutcome",
            Self::Malformed => "Malformed",
        }
    }
}

/// What is known about the failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Why it was given up.
    pub reason: Reason,
    /// Attempts that counted, this last one included.
    pub attempts: u32,
    /// When it was given up.
    pub failed_at: Timestamp,
    /// HTTP status of the last answer, absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// One line for people: `handler answered 500`, `no answer within 30 s`.
    pub message: String,
    /// At most [`ANSWER_KEPT`] bytes of the last answer, invalid UTF-8 replaced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

/// A message that was given up, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was accepted.
    pub message: Message,
    /// Why.
    pub failure: Failure,
}

/// Names of the headers that a stored dead letter has beside those of its message.
pub mod header {
    /// [`Reason`](super::Reason).
    pub const REASON: &str = "weir-reason";
    /// Attempts that counted.
    pub const ATTEMPTS: &str = crate::wire::ATTEMPTS;
    /// RFC 3339.
    pub const FAILED_AT: &str = "weir-failed-at";
    /// Status of the last answer.
    pub const LAST_STATUS: &str = "weir-last-status";
    /// One line for people.
    pub const ERROR: &str = "weir-error";
    /// The beginning of the last answer.
    pub const ANSWER: &str = "weir-answer";
}

/// Most bytes that the headers of [`Failure::to_headers`] take in a broker, so that a message whose
/// dead letter would not fit can be refused when it comes.
pub const MOST_ENVELOPE_BYTES: usize = 5 * 1024;

/// Why the headers of a stored dead letter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {header} of the dead letter is {}", if *.missing { "missing" } else { "damaged" })]
pub struct DamagedEnvelope {
    /// Name of the header.
    pub header: &'static str,
    /// True when it is not there at all.
    pub missing: bool,
}

impl Failure {
    /// The failure as headers of the stored dead letter; the same in every transport.
    ///
    /// Values are written as [`wire::encode_value`] does. The line for people is cut at 512 bytes and
    /// the answer at [`ANSWER_KEPT`].
    pub fn to_headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            (header::REASON, self.reason.as_str().to_owned()),
            (header::ATTEMPTS, self.attempts.to_string()),
            (header::FAILED_AT, wire::encode_time(self.failed_at)),
        ];
        headers.extend(
            self.last_status
                .map(|status| (header::LAST_STATUS, status.to_string())),
        );
        headers.push((
            header::ERROR,
            wire::encode_value(&one_line(&self.message)).into_owned(),
        ));
        if !self.answer.is_empty() {
            let answer = wire::encode_value(kept_answer(&self.answer)).into_owned();
            headers.push((header::ANSWER, answer));
        }
        headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Reads what [`Failure::to_headers`] wrote from all headers of a stored dead letter, in any
    /// order, names in any case.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, DamagedEnvelope> {
        let (mut reason, mut attempts, mut failed_at) = (None, None, None);
        let (mut last_status, mut message, mut answer) = (None, None, None);
        for (name, value) in headers {
            let field = match name.to_ascii_lowercase().as_str() {
                header::REASON => &mut reason,
                header::ATTEMPTS => &mut attempts,
                header::FAILED_AT => &mut failed_at,
                header::LAST_STATUS => &mut last_status,
                header::ERROR => &mut message,
                header::ANSWER => &mut answer,
                _ => continue,
            };
            *field = Some(value);
        }
        let need = |header, value: Option<&'a str>| {
            value.ok_or(DamagedEnvelope {
                header,
                missing: true,
            })
        };
        let damaged = |header| DamagedEnvelope {
            header,
            missing: false,
        };
        let reason = need(header::REASON, reason)?;
        let reason = Reason::ALL
            .into_iter()
            .find(|known| known.as_str() == reason);
        let attempts = need(header::ATTEMPTS, attempts)?.parse();
        let failed_at = need(header::FAILED_AT, failed_at)?.parse();
        let last_status = last_status.map(str::parse).transpose();
        let text = |value: Option<&str>| value.map(wire::decode_text).unwrap_or_default();
        Ok(Self {
            reason: reason.ok_or(damaged(header::REASON))?,
            attempts: attempts.map_err(|_| damaged(header::ATTEMPTS))?,
            failed_at: failed_at.map_err(|_| damaged(header::FAILED_AT))?,
            last_status: last_status.map_err(|_| damaged(header::LAST_STATUS))?,
            message: text(message),
            answer: text(answer),
        })
    }
}

/// The part of an answer that is kept: at most [`ANSWER_KEPT`] bytes, cut between characters.
pub fn kept_answer(answer: &str) -> &str {
    &answer[..answer.floor_char_boundary(ANSWER_KEPT)]
}

/// Longest line that [`one_line`] makes, in bytes.
const LONGEST_LINE: usize = 512;

/// One line for people: control characters become spaces, at most 512 bytes.
pub(crate) fn one_line(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_LINE)].replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure() -> impl Strategy<Value = Failure> {
        let time = Timestamp::MIN.as_second()..Timestamp::MAX.as_second();
        (
            prop::sample::select(&Reason::ALL[..]),
            any::<u32>(),
            (time, 0_i32..1_000_000_000),
            prop::option::of(any::<u16>()),
            "\\PC{0,100}",
            any::<String>(),
        )
            .prop_map(
                |(reason, attempts, (second, nano), last_status, message, answer)| Failure {
                    reason,
                    attempts,
                    failed_at: Timestamp::new(second, if second < 0 { 0 } else { nano }).unwrap(),
                    last_status,
                    message,
                    answer: kept_answer(&answer).to_owned(),
                },
            )
    }

    fn pairs(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn example() -> Failure {
        Failure {
            reason: Reason::MaxAttempts,
            attempts: 5,
            failed_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            last_status: Some(500),
            message: "handler answered 500".to_owned(),
            answer: "{\r\n \"error\": \"für\"}".to_owned(),
        }
    }

    #[test]
    fn an_envelope_can_be_read_by_people() {
        let headers = example().to_headers();
        let text: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        assert_eq!(
            text,
            [
                "weir-reason: MaxAttempts",
                "weir-attempts: 5",
                "weir-failed-at: 2026-01-02T03:04:05.678Z",
                "weir-last-status: 500",
                "weir-error: handler answered 500",
                "weir-answer: %%{%0D%0A%20\"error\":%20\"f%C3%BCr\"}",
            ]
        );
    }

    #[test]
    fn a_damaged_envelope_names_the_header() {
        let headers = example().to_headers();
        for name in [header::REASON, header::ATTEMPTS, header::FAILED_AT] {
            let without = pairs(&headers).filter(|(known, _)| *known != name);
            let error = Failure::from_headers(without).unwrap_err();
            assert_eq!(
                error,
                DamagedEnvelope {
                    header: name,
                    missing: true
                }
            );
        }
        for name in [
            header::REASON,
            header::ATTEMPTS,
            header::FAILED_AT,
            header::LAST_STATUS,
        ] {
            let broken = pairs(&headers)
                .map(|(known, value)| (known, if known == name { "x" } else { value }));
            let error = Failure::from_headers(broken).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("header {name} of the dead letter is damaged")
            );
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_envelope_stays_below_its_bound() {
        let failure = Failure {
            message: "ü".repeat(5000),
            answer: "\u{0}".repeat(5000),
            attempts: u32::MAX,
            last_status: Some(u16::MAX),
            reason: Reason::PermanentStatus,
            failed_at: Timestamp::MIN,
        };
        let headers = failure.to_headers();
        let size: usize = pairs(&headers)
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        assert!(size <= MOST_ENVELOPE_BYTES, "{size}");
        let read = Failure::from_headers(pairs(&headers)).unwrap();
        assert_eq!((read.message.len(), read.answer.len()), (512, ANSWER_KEPT));
    }

    proptest! {
        #[test]
        fn envelopes_are_read_as_they_were_written(failure in failure()) {
            let headers = failure.to_headers();
            for (_, value) in &headers {
                prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
            let upper: Vec<_> =
                headers.iter().rev().map(|(name, value)| (name.to_uppercase(), value)).collect();
            let upper = upper.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            prop_assert_eq!(Failure::from_headers(upper), Ok(failure));
        }
    }
}
