//! Addresses: `/<plural>/<name>[/suffix]`.
//!
//! A path means one object or none. Nothing in the part that names the object is decoded, collapsed or
//! resolved, so there is no second spelling of an address that a proxy before us could have missed.

use weir_core::object::Kind;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Kind of the object.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// What follows the name, with its leading slash; empty for nothing.
    pub suffix: &'a str,
}

/// Reads a path. `None` for everything that is not the address of an object.
pub fn parse(path: &str) -> Option<Address<'_>> {
    let rest = path.strip_prefix('/')?;
    let (plural, rest) = rest.split_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == plural)?;
    let (name, suffix) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let label = !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let suffix = if suffix == "/" { "" } else { suffix };
    (label && !has_dot_segment(suffix)).then_some(Address { kind, name, suffix })
}

/// Whether a suffix would lead out of the handler's path once it is resolved.
fn has_dot_segment(suffix: &str) -> bool {
    let suffix = suffix.to_ascii_lowercase().replace("%2e", ".");
    suffix
        .replace("%2f", "/")
        .replace(['\\'], "/")
        .replace("%5c", "/")
        .split('/')
        .any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_one_object_and_a_suffix() {
        let webhook = |name, suffix| {
            Some(Address {
                kind: Kind::Webhook,
                name,
                suffix,
            })
        };
        assert_eq!(parse("/webhooks/stripe"), webhook("stripe", ""));
        assert_eq!(parse("/webhooks/stripe/"), webhook("stripe", ""));
        assert_eq!(
            parse("/webhooks/stripe/a//b%2Fc;d"),
            webhook("stripe", "/a//b%2Fc;d")
        );
        assert_eq!(
            parse("/queueconsumers/q").unwrap().kind,
            Kind::QueueConsumer
        );
    }

    #[test]
    fn no_other_spelling_leads_to_an_object() {
        for path in [
            "",
            "/",
            "//",
            "*",
            "/webhooks",
            "/webhooks/",
            "/webhooks//stripe",
            "//webhooks/stripe",
            "/webhook/stripe",
            "/Webhooks/stripe",
            "/webhooks/Stripe",
            "/webhooks/str%69pe",
            "/webhooks/a%2fstripe",
            "/webhooks%2fstripe",
            "/webhooks/../webhooks/stripe",
            "/webhooks/./stripe",
            "/webhooks/..",
            "/webhooks/%2e%2e",
            "/webhooks/stripe;x=1",
            "/webhooks/stripe%00",
            "/webhooks/strip\u{e9}",
            "/webhooks/stripe/..",
            "/webhooks/stripe/../admin",
            "/webhooks/stripe/%2E%2e/admin",
            "/webhooks/stripe/a%2f..%2fb",
            "/webhooks/stripe/..;/admin",
            "/webhooks/stripe/..\\admin",
            "/webhooks/stripe/.",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
        assert_eq!(parse(&format!("/webhooks/{}", "a".repeat(64))), None);
    }
}
