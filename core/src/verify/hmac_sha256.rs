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
    let (time, signed_at) = match &form.payload {
        HmacPayload::Body => (None, None),
        HmacPayload::TimestampDotBody { header } => {
            let header = header.to_ascii_lowercase();
            let text = request.header(&header)?;
            (Some(text), Some(request.time(&header, text)?))
        }
    };
    let key = match time {
        None => request.signer(&[request.body], &[signature]),
        Some(time) => request.signer(&[time.as_bytes(), b".", request.body], &[signature]),
    };
    Ok(Verified {
        key: key.ok_or(Rejection::WrongSignature)?,
        id: None,
        signed_at,
    })
}

/// What is signed.
pub(super) fn content(form: &HmacConfig, timestamp: i64, body: &[u8]) -> Vec<u8> {
    match form.payload {
        HmacPayload::Body => body.to_vec(),
        HmacPayload::TimestampDotBody { .. } => {
            [timestamp.to_string().as_bytes(), b".", body].concat()
        }
    }
}

/// The headers that carry `signature`.
pub(super) fn write(form: &HmacConfig, timestamp: i64, signature: &[u8]) -> Vec<(String, String)> {
    let text = match form.encoding {
        HmacEncoding::Hex => hex(signature),
        HmacEncoding::Base64 => base64(signature),
    };
    let mut headers = Vec::with_capacity(2);
    if let HmacPayload::TimestampDotBody { header } = &form.payload {
        headers.push((header.to_ascii_lowercase(), timestamp.to_string()));
    }
    headers.push((
        form.header.to_ascii_lowercase(),
        format!("{}{text}", form.prefix),
    ));
    headers
}
