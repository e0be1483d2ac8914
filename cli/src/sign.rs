//! Signatures for `weir send`, made by the same rules that the intake checks.

use jiff::Timestamp;
use weir_core::config::{HmacConfig, HmacEncoding, HmacPayload, SignatureScheme, VerifyConfig};
use weir_core::ids;
use weir_core::verify::{SigningKey, sign};

use crate::args::Send;
use crate::failure::Failure;

/// Schemes by the names that manifests use.
const SCHEMES: [(&str, SignatureScheme); 6] = [
    ("StandardWebhooks", SignatureScheme::StandardWebhooks),
    ("GitHub", SignatureScheme::GitHub),
    ("Stripe", SignatureScheme::Stripe),
    ("Slack", SignatureScheme::Slack),
    ("Shopify", SignatureScheme::Shopify),
    ("HmacSha256", SignatureScheme::HmacSha256),
];

/// Headers that sign `body`, by the key and scheme of the command line. `random` makes the id of a
/// Standard Webhooks message, unless a header names one.
pub fn headers(
    arguments: &Send,
    key: &str,
    body: &[u8],
    now: Timestamp,
    random: [u8; 10],
) -> Result<Vec<(String, String)>, Failure> {
    let found = SCHEMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&arguments.scheme));
    let Some((_, scheme)) = found else {
        let known: Vec<_> = SCHEMES.iter().map(|(name, _)| *name).collect();
        return Err(
            Failure::usage(format!("no scheme is called `{}`", arguments.scheme))
                .next(format!("schemes: {}", known.join(", "))),
        );
    };
    let config = VerifyConfig {
        scheme: *scheme,
        keys_dir: String::new(),
        tolerance_seconds: 300,
        hmac: arguments
            .signature_header
            .as_ref()
            .map(|header| HmacConfig {
                header: header.to_ascii_lowercase(),
                encoding: HmacEncoding::Hex,
                prefix: String::new(),
                payload: match &arguments.timestamp_header {
                    None => HmacPayload::Body,
                    Some(header) => HmacPayload::TimestampDotBody {
                        header: header.to_ascii_lowercase(),
                    },
                },
            }),
    };
    let key = SigningKey::parse(*scheme, &read_key(key)?)
        .map_err(|why| Failure::usage(format!("--sign-with: {why}")))?;
    let named = arguments
        .headers
        .iter()
        .find_map(|header| header.strip_prefix("webhook-id="));
    let id = named.map_or_else(|| ids::new_id(now, random), str::to_owned);
    sign(&config, &key, &id, now, body).map_err(|why| Failure::usage(why.to_string()))
}

/// The key itself, or where it is.
fn read_key(key: &str) -> Result<Vec<u8>, Failure> {
    if let Some(name) = key.strip_prefix("env:") {
        let value = std::env::var(name);
        return value.map(String::into_bytes).map_err(|_| {
            Failure::usage(format!(
                "--sign-with: the environment has no variable {name}"
            ))
        });
    }
    if let Some(path) = key.strip_prefix("file:") {
        return std::fs::read(path)
            .map_err(|why| Failure::usage(format!("--sign-with: cannot read {path}: {why}")));
    }
    Ok(key.as_bytes().to_vec())
}
