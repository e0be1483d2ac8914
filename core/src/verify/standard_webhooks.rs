//! Standard Webhooks: `v1` is HMAC-SHA256, `v1a` is ed25519, both over `id.timestamp.body`.
//!
//! A signature is only held against keys of its own kind, so that nobody can present a public key as
//! a shared secret. The id must not contain a dot: with one, `a.1.2` could be read as the id `a` and
//! a body that begins with `2.`, or as another message.

use ed25519_dalek::{Signature, Signer as _};
use hmac::Mac as _;

use super::{MOST_SIGNATURES, Rejection, Request, SigningKey, Verified, malformed};
use crate::encoding::{base64, from_base64};

const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// Longest id, in characters.
const LONGEST_ID: usize = 256;

pub(super) fn check(request: &Request<'_>) -> Result<Verified, Rejection> {
    let id = request.header(ID)?;
    let timestamp = request.header(TIMESTAMP)?;
    let list = request.header(SIGNATURE)?;
    if !is_id(id) {
        return Err(malformed(
            ID,
            "an id is 1 to 256 visible ASCII characters without a dot",
        ));
    }
    let signed_at = request.time(TIMESTAMP, timestamp)?;

    let entries: Vec<&str> = list.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.len() > MOST_SIGNATURES {
        return Err(malformed(SIGNATURE, "it holds more than 16 signatures"));
    }
    let (mut macs, mut signatures) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry.split_once(',') {
            Some(("v1", text)) => macs.extend(from_base64(text).filter(|mac| mac.len() == 32)),
            Some(("v1a", text)) => signatures
                .extend(from_base64(text).and_then(|bytes| Signature::from_slice(&bytes).ok())),
            // A version of the future: the sender may send it beside one that we know.
            _ => {}
        }
    }
    if macs.is_empty() && signatures.is_empty() {
        return Err(malformed(
            SIGNATURE,
            "it holds no signature of the form v1,... or v1a,...",
        ));
    }

    let content = [
        id.as_bytes(),
        b".",
        timestamp.as_bytes(),
        b".",
        request.body,
    ];
    let by_public_key = || {
        if signatures.is_empty() {
            return None;
        }
        let content = content.concat();
        request.keys.iter().position(|key| {
            key.ed25519().is_some_and(|key| {
                signatures
                    .iter()
                    .any(|signature| key.verify_strict(&content, signature).is_ok())
            })
        })
    };
    let key = request.signer(&content, &macs).or_else(by_public_key);
    let key = key.ok_or(Rejection::WrongSignature)?;
    Ok(Verified {
        key,
        id: Some(id.to_owned()),
        signed_at: Some(signed_at),
    })
}

pub(super) fn sign(
    key: &SigningKey,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Option<Vec<(String, String)>> {
    if !is_id(id) {
        return None;
    }
    let timestamp = timestamp.to_string();
    let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let signature = match key.ed25519() {
        Some(key) => format!("v1a,{}", base64(&key.sign(&content).to_bytes())),
        None => format!(
            "v1,{}",
            base64(&key.hmac()?.chain_update(&content).finalize().into_bytes())
        ),
    };
    Some(vec![
        (ID.to_owned(), id.to_owned()),
        (TIMESTAMP.to_owned(), timestamp),
        (SIGNATURE.to_owned(), signature),
    ])
}

fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'.')
}
