//! Stripe: `stripe-signature: t=<seconds>,v1=<hex>,...` over `timestamp.body`. Several `v1` are there
//! while a secret is replaced; `v0` (test events) is not looked at.

use super::{MOST_SIGNATURES, Rejection, Request, Verified, malformed};
use crate::encoding::{from_hex, hex};

const SIGNATURE: &str = "stripe-signature";

pub(super) fn check(request: &Request<'_>) -> Result<Verified, Rejection> {
    let (mut timestamp, mut texts) = (None, Vec::new());
    for item in request.header(SIGNATURE)?.split(',') {
        match item.trim_ascii().split_once('=') {
            Some(("t", text)) if timestamp.is_none() => timestamp = Some(text),
            Some(("t", _)) => return Err(malformed(SIGNATURE, "it holds t= more than once")),
            Some(("v1", text)) => texts.push(text),
            _ => {}
        }
    }
    let timestamp = timestamp.ok_or_else(|| malformed(SIGNATURE, "it holds no t="))?;
    let signed_at = request.time(SIGNATURE, timestamp)?;
    if texts.len() > MOST_SIGNATURES {
        return Err(malformed(SIGNATURE, "it holds more than 16 signatures"));
    }
    let signatures: Vec<_> = texts
        .into_iter()
        .filter_map(from_hex)
        .filter(|signature| signature.len() == 32)
        .collect();
    if signatures.is_empty() {
        return Err(malformed(
            SIGNATURE,
            "it holds no v1= with 64 hexadecimal digits",
        ));
    }
    let content = [timestamp.as_bytes(), b".", request.body];
    let key = request
        .signer(&content, &signatures)
        .ok_or(Rejection::WrongSignature)?;
    Ok(Verified {
        key,
        id: None,
        signed_at: Some(signed_at),
    })
}

/// What is signed.
pub(super) fn content(timestamp: i64, body: &[u8]) -> Vec<u8> {
    [timestamp.to_string().as_bytes(), b".", body].concat()
}

/// The header that carries `signature`.
pub(super) fn write(timestamp: i64, signature: &[u8]) -> Vec<(String, String)> {
    vec![(
        SIGNATURE.to_owned(),
        format!("t={timestamp},v1={}", hex(signature)),
    )]
}
