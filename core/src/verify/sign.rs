//! The sender's side of every scheme, for `weir send` and tests.

use hmac::Mac as _;
use jiff::Timestamp;

use super::{SigningKey, github, hmac_sha256, shopify, slack, standard_webhooks, stripe};
use crate::config::{SignatureScheme, VerifyConfig};

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key was parsed for another scheme.
    #[error("the key is not one for this scheme")]
    WrongKey,
    /// Standard Webhooks has rules for ids.
    #[error("an id to sign is 1 to 256 visible ASCII characters without a dot")]
    InvalidId,
    /// [`VerifyConfig::hmac`] is missing.
    #[error("the scheme HmacSha256 needs hmac.header")]
    NotConfigured,
}

/// The headers that make `body` a request which [`verify`](super::verify) accepts at `now`, for a
/// webhook that holds the fitting key. `id` is used by Standard Webhooks only.
pub fn sign(
    config: &VerifyConfig,
    key: &SigningKey,
    id: &str,
    now: Timestamp,
    body: &[u8],
) -> Result<Vec<(String, String)>, SignError> {
    let timestamp = now.as_second();
    let hmac = |content: &[u8]| {
        let mac = key.hmac().ok_or(SignError::WrongKey)?.chain_update(content);
        Ok(mac.finalize().into_bytes())
    };
    let plain = |form| {
        let signature = hmac(&hmac_sha256::content(form, timestamp, body))?;
        Ok(hmac_sha256::write(form, timestamp, &signature))
    };
    match config.scheme {
        SignatureScheme::StandardWebhooks => {
            standard_webhooks::sign(key, id, timestamp, body).ok_or(SignError::InvalidId)
        }
        SignatureScheme::GitHub => plain(&github::form()),
        SignatureScheme::Shopify => plain(&shopify::form()),
        SignatureScheme::HmacSha256 => plain(config.hmac.as_ref().ok_or(SignError::NotConfigured)?),
        SignatureScheme::Stripe => Ok(stripe::write(
            timestamp,
            &hmac(&stripe::content(timestamp, body))?,
        )),
        SignatureScheme::Slack => Ok(slack::write(
            timestamp,
            &hmac(&slack::content(timestamp, body))?,
        )),
    }
}
