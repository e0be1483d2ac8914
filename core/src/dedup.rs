//! What makes two messages the same.
//!
//! The identity is remembered by the broker for `windowSeconds`; of all messages with one identity
//! only the first is stored (aws-semantics 5.3.2). Identities of different origin never collide: each
//! begins with where it comes from.

use sha2::{Digest as _, Sha256};

use crate::cloudevents::event_identity;
use crate::config::{DeduplicateBy, DeduplicateConfig, DeduplicateScope};
use crate::encoding::hex;
use crate::message::Headers;

/// Header of the publish API that names a message.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest identity that a sender may give, in bytes.
pub const LONGEST_IDENTITY: usize = 1024;

/// Why a message has no identity although its object deduplicates. Says what to send instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingIdentity {
    /// Neither a key nor an event.
    #[error(
        "messages are deduplicated by id, and this one has none: send the header \
         {IDEMPOTENCY_KEY}, or a CloudEvent (ce-id and ce-source)"
    )]
    NoId,
    /// The configured header is not there, or empty.
    #[error("messages are deduplicated by header {header}: send it, with a value")]
    NoHeader {
        /// Name of the header.
        header: String,
    },
    /// The header is there more than once.
    #[error("header {header} is there more than once: send it once")]
    Repeated {
        /// Name of the header.
        header: String,
    },
    /// Longer than [`LONGEST_IDENTITY`].
    #[error("{what} has {found} bytes, {LONGEST_IDENTITY} are allowed: send a hash of it")]
    TooLong {
        /// Name of the header, or `ce-source and ce-id`.
        what: String,
        /// Bytes that came.
        found: usize,
    },
    /// [`DeduplicateBy::Header`] without a header. Not the sender's fault.
    #[error("messages are deduplicated by a header, but the configuration does not say which")]
    NotConfigured,
}

impl MissingIdentity {
    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoId | Self::NoHeader { .. } => "NoIdentity",
            Self::Repeated { .. } => "RepeatedIdentity",
            Self::TooLong { .. } => "IdentityTooLong",
            Self::NotConfigured => "NotConfigured",
        }
    }

    /// The status to answer with: 400, or 503 where the sender can do nothing about it.
    pub fn status(&self) -> u16 {
        if *self == Self::NotConfigured {
            503
        } else {
            400
        }
    }
}

/// The identity of a message; `None` when its object does not deduplicate.
///
/// `headers` are those of the message. [`DeduplicateBy::MessageId`]: `idempotency-key`, else `source`
/// and `id` of the CloudEvent, which are unique together. [`DeduplicateBy::ContentHash`]: SHA-256 of
/// the body alone, headers not included, as on AWS (aws-semantics 5.3.1), except that no header
/// overrides it: where the body is all that is signed, whoever replays a request could otherwise make
/// it new with a header. [`DeduplicateBy::Header`]: the header of the sender's choice.
pub fn identity(
    config: Option<&DeduplicateConfig>,
    headers: &Headers,
    body: &[u8],
) -> Result<Option<String>, MissingIdentity> {
    let Some(config) = config else {
        return Ok(None);
    };
    let identity = match config.by {
        DeduplicateBy::MessageId => match value(headers, IDEMPOTENCY_KEY, "key")? {
            Some(identity) => identity,
            None => event(headers)?.ok_or(MissingIdentity::NoId)?,
        },
        DeduplicateBy::ContentHash => format!("sha256:{}", hex(&Sha256::digest(body))),
        DeduplicateBy::Header => {
            let header = config
                .header
                .as_deref()
                .ok_or(MissingIdentity::NotConfigured)?;
            let header = header.to_ascii_lowercase();
            value(headers, &header, "header")?.ok_or(MissingIdentity::NoHeader { header })?
        }
    };
    Ok(Some(identity))
}

/// The identity as it is remembered: with [`DeduplicateScope::Group`] and a `group` it counts in that
/// group alone, and with [`DeduplicateScope::Queue`] in the whole queue (aws-semantics 5.3.3). A change
/// of the scope takes effect for later messages: identities of different scopes never collide.
pub fn scoped(identity: String, scope: DeduplicateScope, group: Option<&str>) -> String {
    match (scope, group) {
        // A group has no spaces, so this can be read in one way only.
        (DeduplicateScope::Group, Some(group)) => format!("group:{group} {identity}"),
        _ => identity,
    }
}

/// The only value of a header that is not empty, with its origin in front.
fn value(headers: &Headers, header: &str, origin: &str) -> Result<Option<String>, MissingIdentity> {
    let mut values = headers.get_all(header);
    let Some(value) = values.next().filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(MissingIdentity::Repeated {
            header: header.to_owned(),
        });
    }
    bounded(header, value)?;
    Ok(Some(format!("{origin}:{value}")))
}

fn event(headers: &Headers) -> Result<Option<String>, MissingIdentity> {
    let Some((source, id)) = event_identity(headers) else {
        return Ok(None);
    };
    // A source has no spaces, so this can be read in one way only.
    let both = format!("{source} {id}");
    bounded("ce-source and ce-id", &both)?;
    Ok(Some(format!("event:{both}")))
}

fn bounded(what: &str, text: &str) -> Result<(), MissingIdentity> {
    if text.len() <= LONGEST_IDENTITY {
        return Ok(());
    }
    Err(MissingIdentity::TooLong {
        what: what.to_owned(),
        found: text.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(by: DeduplicateBy) -> DeduplicateConfig {
        let header = (by == DeduplicateBy::Header).then(|| "Webhook-Id".to_owned());
        DeduplicateConfig {
            by,
            header,
            window_seconds: 300,
            scope: DeduplicateScope::Queue,
        }
    }

    fn of(by: DeduplicateBy, pairs: &[(&str, &str)]) -> Result<String, MissingIdentity> {
        let headers = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        identity(Some(&config(by)), &headers, b"body").map(|identity| identity.expect("one"))
    }

    fn event<'a>(source: &'a str, id: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("ce-specversion", "1.0"),
            ("ce-type", "t"),
            ("ce-source", source),
            ("ce-id", id),
        ]
    }

    #[test]
    fn without_deduplication_nothing_has_an_identity() {
        assert_eq!(identity(None, &Headers::new(), b""), Ok(None));
    }

    #[test]
    fn an_identity_of_a_group_is_another_in_each_group() {
        use DeduplicateScope::{Group, Queue};
        let scoped = |id: &str, scope, group| scoped(id.to_owned(), scope, Some(group));
        assert_eq!(scoped("key:k", Queue, "a"), scoped("key:k", Queue, "b"));
        assert_ne!(scoped("key:k", Group, "a"), scoped("key:k", Group, "b"));
        assert_eq!(scoped("key:k", Group, "a"), scoped("key:k", Group, "a"));
        assert_ne!(scoped("key:k", Group, "a"), scoped("key:k", Queue, "a"));
        assert_eq!(super::scoped("key:k".to_owned(), Group, None), "key:k");
    }

    #[test]
    fn an_idempotency_key_comes_before_the_event() {
        use DeduplicateBy::MessageId;
        let mut pairs = event("/s", "1");
        assert_eq!(of(MessageId, &pairs).as_deref(), Ok("event:/s 1"));
        pairs.push((IDEMPOTENCY_KEY, "k"));
        assert_eq!(of(MessageId, &pairs).as_deref(), Ok("key:k"));
    }

    #[test]
    fn source_and_id_count_together_and_as_they_are_meant() {
        use DeduplicateBy::MessageId;
        assert_ne!(
            of(MessageId, &event("/a", "1")),
            of(MessageId, &event("/b", "1"))
        );
        assert_eq!(
            of(MessageId, &event("/s", "a%20b")).as_deref(),
            Ok("event:/s a b")
        );
        assert_eq!(
            of(MessageId, &event("/s", "%e2%82%ac")),
            of(
                MessageId,
                &event(
                    "/s",
                    "€".bytes().map(char::from).collect::<String>().as_str()
                )
            )
        );
    }

    #[test]
    fn a_message_without_an_identity_is_told_what_to_send() {
        use DeduplicateBy::{Header, MessageId};
        for pairs in [
            &[][..],
            &[("ce-id", "1")],
            &[(IDEMPOTENCY_KEY, "")],
            &[("webhook-id", "1")],
        ] {
            let error = of(MessageId, pairs).unwrap_err();
            assert_eq!((error.reason(), error.status()), ("NoIdentity", 400));
            assert!(
                error
                    .to_string()
                    .contains("send the header idempotency-key, or a CloudEvent")
            );
        }
        for pairs in [&[][..], &[("webhook-id", "")]] {
            assert_eq!(
                of(Header, pairs).unwrap_err().to_string(),
                "messages are deduplicated by header webhook-id: send it, with a value"
            );
        }
        let twice = [("webhook-id", "1"), ("webhook-id", "2")];
        assert_eq!(of(Header, &twice).unwrap_err().reason(), "RepeatedIdentity");
        let long = "x".repeat(LONGEST_IDENTITY + 1);
        assert_eq!(
            of(Header, &[("webhook-id", &long)]).unwrap_err().reason(),
            "IdentityTooLong"
        );
        assert_eq!(
            of(MessageId, &event("/s", &long)).unwrap_err().reason(),
            "IdentityTooLong"
        );
        assert!(of(Header, &[("webhook-id", &long[1..])]).is_ok());
    }

    #[test]
    fn a_header_that_is_not_configured_is_not_the_senders_fault() {
        let config = DeduplicateConfig {
            header: None,
            ..config(DeduplicateBy::Header)
        };
        let error = identity(Some(&config), &Headers::new(), b"").unwrap_err();
        assert_eq!((error.reason(), error.status()), ("NotConfigured", 503));
    }

    #[test]
    fn a_content_hash_is_that_of_the_body_alone() {
        use DeduplicateBy::ContentHash;
        let hash = "sha256:230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
        assert_eq!(of(ContentHash, &[]).as_deref(), Ok(hash));
        assert_eq!(of(ContentHash, &event("/s", "1")).as_deref(), Ok(hash));
        // Or a signed request could be replayed under a new name.
        assert_eq!(
            of(ContentHash, &[(IDEMPOTENCY_KEY, "k")]).as_deref(),
            Ok(hash)
        );
    }

    proptest! {
        #[test]
        fn identities_of_different_origin_never_collide(a in "\\PC{1,30}", b in "\\PC{1,30}") {
            let key = of(DeduplicateBy::MessageId, &[(IDEMPOTENCY_KEY, &a)]).unwrap();
            let header = of(DeduplicateBy::Header, &[("webhook-id", &b)]).unwrap();
            let hash = of(DeduplicateBy::ContentHash, &[]).unwrap();
            let event = of(DeduplicateBy::MessageId, &event("/s", "1")).unwrap();
            let all = std::collections::BTreeSet::from([key, header, hash, event]);
            prop_assert_eq!(all.len(), 4);
        }
    }
}
