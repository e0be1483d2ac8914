//! A plain HMAC-SHA256 over the body, in a header of the sender's choice.

use super::{Rejection, Request, Verified, malformed};
use crate::config::{HmacConfig, HmacEncoding, HmacPayload};
use crate::encoding::{base64, from_base64, from_hex, hex};

pub(super) fn check(request: &Request<'_>, form: &HmacConfig) -> Result<Verified, Rejection> {
    let header = form.header.to_ascii_lowercase();
    let value = request.header(&header)?;
    let text = value
        .strip_prefix(form.prefix.as_str())
        .ok_or_else(|| malformed(&header, "it does not begin with the prefix that was agreed"))?;
    let (signature, why) = match form.encoding {
        HmacEncoding::Hex => (from_hex(text), "a signature is 64 hexadecimal digits"),
        HmacEncoding::Base64 => (from_base64(text), "a signature is base64 of 32 bytes"),
    };
    let signature = signature
        .filter(|signature| signature.len() == 32)
        .ok_or_else(|| malformed(&header, why))?;
    let content = match form.payload {
        HmacPayload::Body => [request.body],
    };
    let key = request
        .signer(&content, &[signature])
        .ok_or(Rejection::WrongSignature)?;
    Ok(Verified {
        key,
        id: None,
        signed_at: None,
    })
}

/// The header that carries `signature`.
pub(super) fn write(form: &HmacConfig, signature: &[u8]) -> (String, String) {
    let text = match form.encoding {
        HmacEncoding::Hex => hex(signature),
        HmacEncoding::Base64 => base64(signature),
    };
    (
        form.header.to_ascii_lowercase(),
        format!("{}{text}", form.prefix),
    )
}
