//! Slack: `x-slack-signature: v0=<hex>` over `v0:timestamp:body`.

use super::{Rejection, Request, Verified, malformed};
use crate::encoding::{from_hex, hex};

const TIMESTAMP: &str = "x-slack-request-timestamp";
const SIGNATURE: &str = "x-slack-signature";

pub(super) fn check(request: &Request<'_>) -> Result<Verified, Rejection> {
    let timestamp = request.header(TIMESTAMP)?;
    let text = request.header(SIGNATURE)?;
    let signed_at = request.time(TIMESTAMP, timestamp)?;
    let signature = text
        .strip_prefix("v0=")
        .and_then(from_hex)
        .filter(|signature| signature.len() == 32)
        .ok_or_else(|| malformed(SIGNATURE, "a signature is v0= and 64 hexadecimal digits"))?;
    let content = [b"v0:", timestamp.as_bytes(), b":", request.body];
    let key = request
        .signer(&content, &[signature])
        .ok_or(Rejection::WrongSignature)?;
    Ok(Verified {
        key,
        id: None,
        signed_at: Some(signed_at),
    })
}

/// What is signed.
pub(super) fn content(timestamp: i64, body: &[u8]) -> Vec<u8> {
    [b"v0:", timestamp.to_string().as_bytes(), b":", body].concat()
}

/// The headers that carry `signature`.
pub(super) fn write(timestamp: i64, signature: &[u8]) -> Vec<(String, String)> {
    vec![
        (TIMESTAMP.to_owned(), timestamp.to_string()),
        (SIGNATURE.to_owned(), format!("v0={}", hex(signature))),
    ]
}
