//! Shopify: `x-shopify-hmac-sha256: <base64>` over the body.

use super::{Rejection, Request, Verified, hmac_sha256};
use crate::config::{HmacConfig, HmacEncoding, HmacPayload};

pub(super) fn check(request: &Request<'_>) -> Result<Verified, Rejection> {
    hmac_sha256::check(request, &form())
}

/// Shopify's form of a plain HMAC.
pub(super) fn form() -> HmacConfig {
    HmacConfig {
        header: "x-shopify-hmac-sha256".to_owned(),
        encoding: HmacEncoding::Base64,
        prefix: String::new(),
        payload: HmacPayload::Body,
    }
}
