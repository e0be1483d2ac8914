//! Names of broker objects, made from an object's key (`brokers.md` 14).
//!
//! Kubernetes names are DNS labels, so `_` and `.` are free to separate parts. Tokens that users or
//! clients choose (ids, groups) go through [`token`].

use sha2::{Digest, Sha256};

use crate::object::ObjectKey;

/// Longest user token that is written out; a longer one is hashed.
const LONGEST_TOKEN: usize = 64;

/// The names that one work queue uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNames {
    stream_prefix: String,
    subject_prefix: String,
}

impl QueueNames {
    /// The names of the queue of `key`.
    pub fn of(key: &ObjectKey) -> Self {
        let (kind, namespace, name) = (key.kind.lower(), &key.namespace, &key.name);
        Self {
            stream_prefix: format!("WEIR_{namespace}_{kind}_{name}"),
            subject_prefix: format!("weir.{namespace}.{kind}.{name}"),
        }
    }

    /// Stream that holds waiting messages, retry schedules and deduplication keys.
    pub fn queue_stream(&self) -> String {
        format!("{}_queue", self.stream_prefix)
    }

    /// Stream that holds dead letters.
    pub fn dead_stream(&self) -> String {
        format!("{}_dlq", self.stream_prefix)
    }

    /// Stream that holds the deduplication keys of a queue that another broker holds.
    pub fn keys_stream(&self) -> String {
        format!("{}_keys", self.stream_prefix)
    }

    /// Everything below this belongs to the queue: `weir.<namespace>.<kind>.<name>.<role>`.
    pub fn role(&self, role: &str) -> String {
        format!("{}.{role}", self.subject_prefix)
    }

    /// A subject of one role for one user-chosen token, which is encoded.
    pub fn role_of(&self, role: &str, user_token: &str) -> String {
        format!("{}.{role}.{}", self.subject_prefix, token(user_token))
    }
}

/// Encodes a user-chosen string as one subject token: what is outside `[A-Za-z0-9_-]` becomes
/// `%XX`; what would be longer than 64 bytes becomes a 22 character hash with a leading `~`.
pub fn token(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
            out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
        }
        if out.len() > LONGEST_TOKEN {
            return format!("~{}", hash(text.as_bytes()));
        }
    }
    if out.is_empty() { "~".to_owned() } else { out }
}

/// The first 22 characters of the URL-safe base64 of a SHA-256: 132 bits.
pub fn hash(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let digest = Sha256::digest(bytes);
    let mut text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest);
    text.truncate(22);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    #[test]
    fn names_separate_parts_that_kubernetes_names_cannot_contain() {
        let names = QueueNames::of(&ObjectKey::new(Kind::Webhook, "shop", "stripe-eu"));
        assert_eq!(names.queue_stream(), "WEIR_shop_webhook_stripe-eu_queue");
        assert_eq!(names.dead_stream(), "WEIR_shop_webhook_stripe-eu_dlq");
        assert_eq!(names.role("main"), "weir.shop.webhook.stripe-eu.main");
        assert_eq!(
            names.role_of("dd", "a.b *"),
            "weir.shop.webhook.stripe-eu.dd.a%2Eb%20%2A"
        );
    }

    #[test]
    fn tokens_are_single_subject_tokens_whatever_the_user_sends() {
        for text in ["", ">", "*", "a b", "\r\n", "ü", &"x".repeat(10_240), "%41"] {
            let token = token(text);
            assert!(!token.is_empty() && token.len() <= 67, "{token}");
            assert!(
                token
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-%~".contains(&b))
            );
        }
        assert_ne!(token("A"), token("%41"));
        assert_ne!(token(&"x".repeat(100)), token(&"x".repeat(101)));
    }
}
