//! GitHub: `x-hub-signature-256: sha256=<hex>` over the body. The older SHA-1 header is not looked at.

use super::{Rejection, Request, Verified, hmac_sha256};
use crate::config::{HmacConfig, HmacEncoding, HmacPayload};

pub(super) fn check(request: &Request<'_>) -> Result<Verified, Rejection> {
    hmac_sha256::check(request, &form())
}

/// GitHub's form of a plain HMAC.
pub(super) fn form() -> HmacConfig {
    HmacConfig {
        header: "x-hub-signature-256".to_owned(),
        encoding: HmacEncoding::Hex,
        prefix: "sha256=".to_owned(),
        payload: HmacPayload::Body,
    }
}
