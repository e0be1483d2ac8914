//! Signatures of webhooks: one check per scheme, over the raw bytes that came.
//!
//! Every key that is given is valid, so that a key can be replaced without a gap: add the new one,
//! switch the sender, remove the old one. Signatures are compared in constant time. Nothing here
//! prints a key, and what a [`Rejection`] says may be told to the sender.
//!
//! | scheme | headers | signed |
//! |---|---|---|
//! | Standard Webhooks | `webhook-id`, `webhook-timestamp`, `webhook-signature` | `id.timestamp.body` |
//! | GitHub | `x-hub-signature-256` | the body |
//! | Stripe | `stripe-signature` | `timestamp.body` |
//! | Slack | `x-slack-request-timestamp`, `x-slack-signature` | `v0:timestamp:body` |
//! | Shopify | `x-shopify-hmac-sha256` | the body |
//! | HMAC-SHA256 | of the sender's choice | the body |
//!
//! Schemes that sign no time (GitHub, Shopify, HMAC-SHA256) cannot see that a request is a replay.
//! Deduplication by content hash helps there; a delivery id in a header does not, because it is not
//! signed and whoever replays the request can change it.

use std::time::Duration;

use hmac::Mac as _;
use jiff::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::config::{SignatureScheme, VerifyConfig};
use crate::message::Headers;

mod github;
mod hmac_sha256;
mod key;
mod shopify;
mod sign;
mod slack;
mod standard_webhooks;
mod stripe;

pub use key::{InvalidKey, Key, SigningKey};
pub use sign::{SignError, sign};

/// Most signatures of one request that are looked at; each may cost a check per key.
pub const MOST_SIGNATURES: usize = 16;

/// What a valid signature vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Position of the key that made the signature, in the order they were given. When it is never
    /// that of an old key any more, the old key can go.
    pub key: usize,
    /// The signed identity of the message, where the scheme has one (Standard Webhooks).
    pub id: Option<String>,
    /// The signed time, where the scheme has one.
    pub signed_at: Option<Timestamp>,
}

/// Why a request is not accepted. The text may be told to the sender: it names headers, forms and
/// times, never a key or the signature that would have been right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A header that the scheme needs is not there.
    #[error("the request is not signed: header {header} is missing")]
    MissingHeader {
        /// Lower case.
        header: String,
    },
    /// A header that the scheme needs cannot be read.
    #[error("header {header} cannot be read: {why}")]
    Malformed {
        /// Lower case.
        header: String,
        /// What it must be.
        why: &'static str,
    },
    /// Signed too long ago: a replay, a slow sender or a wrong clock.
    #[error("signed {} s ago, {} s are allowed: sign each delivery anew, and check the clocks",
        .age.as_secs(), .tolerance.as_secs())]
    Expired {
        /// Distance from now.
        age: Duration,
        /// Greatest distance allowed.
        tolerance: Duration,
    },
    /// Signed too far in the future: a wrong clock, here or at the sender.
    #[error("signed {} s in the future, {} s are allowed: check the clocks",
        .ahead.as_secs(), .tolerance.as_secs())]
    TooEarly {
        /// Distance from now.
        ahead: Duration,
        /// Greatest distance allowed.
        tolerance: Duration,
    },
    /// None of the keys made any of the signatures over this request.
    #[error("the signature does not fit the request: another key, or the request was changed")]
    WrongSignature,
    /// There is no key to check with. Not the sender's fault.
    #[error("this webhook has no key yet")]
    NoKey,
    /// The scheme needs `spec.verify.hmac`. Not the sender's fault.
    #[error("this webhook does not say where the signature is")]
    NotConfigured,
}

impl Rejection {
    /// A short stable word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "MissingHeader",
            Self::Malformed { .. } => "Malformed",
            Self::Expired { .. } => "Expired",
            Self::TooEarly { .. } => "TooEarly",
            Self::WrongSignature => "WrongSignature",
            Self::NoKey => "NoKey",
            Self::NotConfigured => "NotConfigured",
        }
    }

    /// The status to answer with: 401, or 503 where the sender can do nothing about it, so that it
    /// tries again and nothing is lost while a Secret is on its way.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoKey | Self::NotConfigured => 503,
            _ => 401,
        }
    }
}

/// Checks the signature of one request.
///
/// `headers` are those of the request, `body` its raw bytes, `now` the time it came, compared in
/// whole seconds: a request that is `toleranceSeconds` old or ahead is accepted, one second more is
/// not. `keys` are all the valid ones, parsed for the same scheme.
pub fn verify(
    config: &VerifyConfig,
    keys: &[Key],
    headers: &Headers,
    body: &[u8],
    now: Timestamp,
) -> Result<Verified, Rejection> {
    if keys.is_empty() {
        return Err(Rejection::NoKey);
    }
    let tolerance = Duration::from_secs(config.tolerance_seconds.into());
    let request = Request {
        keys,
        headers,
        body,
        now,
        tolerance,
    };
    match config.scheme {
        SignatureScheme::StandardWebhooks => standard_webhooks::check(&request),
        SignatureScheme::GitHub => github::check(&request),
        SignatureScheme::Stripe => stripe::check(&request),
        SignatureScheme::Slack => slack::check(&request),
        SignatureScheme::Shopify => shopify::check(&request),
        SignatureScheme::HmacSha256 => hmac_sha256::check(
            &request,
            config.hmac.as_ref().ok_or(Rejection::NotConfigured)?,
        ),
    }
}

/// What every scheme looks at.
struct Request<'a> {
    keys: &'a [Key],
    headers: &'a Headers,
    body: &'a [u8],
    now: Timestamp,
    tolerance: Duration,
}

impl Request<'_> {
    /// The only value of a header. Two values are refused: whoever reads the message later might
    /// look at the one that was not checked.
    fn header(&self, name: &str) -> Result<&str, Rejection> {
        let mut values = self.headers.iter().filter(|(known, _)| *known == name);
        let (_, value) = values.next().ok_or_else(|| Rejection::MissingHeader {
            header: name.to_owned(),
        })?;
        match values.next() {
            None => Ok(value),
            Some(_) => Err(malformed(name, "it is there more than once")),
        }
    }

    /// Reads a signed time, seconds since 1970, and holds it against the clock.
    fn time(&self, header: &str, text: &str) -> Result<Timestamp, Rejection> {
        let digits = (1..=11).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let signed_at = digits
            .then(|| Timestamp::from_second(text.parse().ok()?).ok())
            .flatten()
            .ok_or_else(|| malformed(header, "the time must be whole seconds since 1970"))?;
        let age = self.now.as_second() - signed_at.as_second();
        let (distance, tolerance) = (Duration::from_secs(age.unsigned_abs()), self.tolerance);
        if distance <= tolerance {
            Ok(signed_at)
        } else if age > 0 {
            Err(Rejection::Expired {
                age: distance,
                tolerance,
            })
        } else {
            Err(Rejection::TooEarly {
                ahead: distance,
                tolerance,
            })
        }
    }

    /// The first key whose HMAC-SHA256 over the concatenation of `parts` is one of `signatures`.
    fn signer(&self, parts: &[&[u8]], signatures: &[Vec<u8>]) -> Option<usize> {
        self.keys.iter().position(|key| {
            let Some(mut mac) = key.hmac() else {
                return false;
            };
            for part in parts {
                mac.update(part);
            }
            let expected = mac.finalize().into_bytes();
            signatures
                .iter()
                .fold(subtle::Choice::from(0), |found, signature| {
                    found | signature.as_slice().ct_eq(expected.as_slice())
                })
                .into()
        })
    }
}

fn malformed(header: &str, why: &'static str) -> Rejection {
    Rejection::Malformed {
        header: header.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests;
