//! Keys as they are written in a Secret.

use std::fmt;

use ed25519_dalek::{SigningKey as Ed25519SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit as _};
use sha2::Sha256;

use crate::config::SignatureScheme;
use crate::encoding::from_base64;

/// Bytes of a Standard Webhooks secret, by its specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signatures are checked with. `Debug` does not print it.
#[derive(Clone)]
pub struct Key(KeyKind);

#[derive(Clone)]
enum KeyKind {
    Hmac(Box<Hmac<Sha256>>),
    Ed25519(Box<VerifyingKey>),
}

/// A key that signatures are made with: that of a sender, in tests and `weir send`. `Debug` does not
/// print it.
#[derive(Clone)]
pub struct SigningKey(SigningKeyKind);

#[derive(Clone)]
enum SigningKeyKind {
    Hmac(Box<Hmac<Sha256>>),
    Ed25519(Box<Ed25519SigningKey>),
}

/// Why a value of a Secret is not a key. Says what to write instead, never what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing, or only white space or a prefix: everybody could sign.
    #[error("the key is empty: write the signing secret that the sender shows")]
    Empty,
    /// Not base64 where the scheme wants it.
    #[error(
        "the key is not base64: write it as the sender shows it, whsec_... (a shared secret) or \
         whpk_... (a public key)"
    )]
    NotBase64,
    /// A Standard Webhooks secret of a length that its specification does not allow.
    #[error("the secret has {found} bytes: Standard Webhooks secrets have 24 to 64")]
    SecretLength {
        /// Bytes after decoding.
        found: usize,
    },
    /// Not a point that signatures can be checked with, or one that fits any signature.
    #[error("the whpk_ key is not an ed25519 public key: write base64 of its 32 bytes")]
    NotPublicKey,
    /// A private key where a public one belongs.
    #[error(
        "the key is the sender's private key (whsk_): write the public key (whpk_) instead, and \
         replace the pair, because this copy of the private key has been handed around"
    )]
    PrivateKey,
    /// A public key where one is needed that signs.
    #[error("a public key (whpk_) cannot sign: give the private key (whsk_)")]
    PublicKey,
    /// Not an ed25519 private key.
    #[error("the whsk_ key is not an ed25519 private key: write base64 of its 32 or 64 bytes")]
    NotPrivateKey,
}

impl InvalidKey {
    /// A short stable word for conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotBase64 => "NotBase64",
            Self::SecretLength { .. } => "SecretLength",
            Self::NotPublicKey => "NotPublicKey",
            Self::PrivateKey => "PrivateKey",
            Self::PublicKey => "PublicKey",
            Self::NotPrivateKey => "NotPrivateKey",
        }
    }
}

impl Key {
    /// Reads one value of a Secret. Line ends behind it are not part of the key.
    ///
    /// Standard Webhooks: `whsec_` and base64 of 24 to 64 bytes, or the base64 alone; `whpk_` and
    /// base64 of an ed25519 public key. Every other scheme takes the bytes as they are, prefixes
    /// included (Stripe signs with the whole text `whsec_...`).
    pub fn parse(scheme: SignatureScheme, value: &[u8]) -> Result<Self, InvalidKey> {
        let value = without_line_end(value)?;
        if scheme != SignatureScheme::StandardWebhooks {
            return Ok(Self(KeyKind::Hmac(Box::new(hmac(value)))));
        }
        match split_prefix(value)? {
            ("whsk_", _) => Err(InvalidKey::PrivateKey),
            ("whpk_", text) => {
                let bytes = decode(text)?
                    .try_into()
                    .map_err(|_| InvalidKey::NotPublicKey)?;
                let key = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidKey::NotPublicKey)?;
                if key.is_weak() {
                    return Err(InvalidKey::NotPublicKey);
                }
                Ok(Self(KeyKind::Ed25519(Box::new(key))))
            }
            (_, text) => Ok(Self(KeyKind::Hmac(Box::new(secret(text)?)))),
        }
    }

    /// A fresh HMAC with this key, if it is one for HMAC.
    pub(super) fn hmac(&self) -> Option<Hmac<Sha256>> {
        match &self.0 {
            KeyKind::Hmac(mac) => Some(mac.as_ref().clone()),
            KeyKind::Ed25519(_) => None,
        }
    }

    /// The public key, if it is one.
    pub(super) fn ed25519(&self) -> Option<&VerifyingKey> {
        match &self.0 {
            KeyKind::Hmac(_) => None,
            KeyKind::Ed25519(key) => Some(key),
        }
    }
}

impl SigningKey {
    /// Reads a key as [`Key::parse`] does, except that Standard Webhooks takes the private key
    /// (`whsk_` and base64 of the 32 byte seed, or of the 64 bytes of seed and public key) in place
    /// of the public one.
    pub fn parse(scheme: SignatureScheme, value: &[u8]) -> Result<Self, InvalidKey> {
        let value = without_line_end(value)?;
        if scheme != SignatureScheme::StandardWebhooks {
            return Ok(Self(SigningKeyKind::Hmac(Box::new(hmac(value)))));
        }
        match split_prefix(value)? {
            ("whpk_", _) => Err(InvalidKey::PublicKey),
            ("whsk_", text) => {
                let bytes = decode(text)?;
                let key = match bytes.len() {
                    32 => bytes
                        .as_slice()
                        .try_into()
                        .ok()
                        .map(Ed25519SigningKey::from_bytes),
                    _ => bytes
                        .as_slice()
                        .try_into()
                        .ok()
                        .and_then(|pair| Ed25519SigningKey::from_keypair_bytes(pair).ok()),
                };
                let key = key.ok_or(InvalidKey::NotPrivateKey)?;
                Ok(Self(SigningKeyKind::Ed25519(Box::new(key))))
            }
            (_, text) => Ok(Self(SigningKeyKind::Hmac(Box::new(secret(text)?)))),
        }
    }

    /// A fresh HMAC with this key, if it is one for HMAC.
    pub(super) fn hmac(&self) -> Option<Hmac<Sha256>> {
        match &self.0 {
            SigningKeyKind::Hmac(mac) => Some(mac.as_ref().clone()),
            SigningKeyKind::Ed25519(_) => None,
        }
    }

    /// The private key, if it is one.
    pub(super) fn ed25519(&self) -> Option<&Ed25519SigningKey> {
        match &self.0 {
            SigningKeyKind::Hmac(_) => None,
            SigningKeyKind::Ed25519(key) => Some(key),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.ed25519().is_some() {
            "Key(ed25519)"
        } else {
            "Key(HMAC-SHA256)"
        })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.ed25519().is_some() {
            "ed25519"
        } else {
            "HMAC-SHA256"
        };
        write!(f, "SigningKey({kind})")
    }
}

fn without_line_end(mut value: &[u8]) -> Result<&[u8], InvalidKey> {
    while let [rest @ .., b'\r' | b'\n'] = value {
        value = rest;
    }
    if value.trim_ascii().is_empty() {
        Err(InvalidKey::Empty)
    } else {
        Ok(value)
    }
}

/// Splits a Standard Webhooks key into its prefix, empty where it has none, and its base64.
fn split_prefix(value: &[u8]) -> Result<(&str, &str), InvalidKey> {
    let text = std::str::from_utf8(value).map_err(|_| InvalidKey::NotBase64)?;
    let prefixes = ["whsec_", "whpk_", "whsk_"];
    let prefix = prefixes
        .into_iter()
        .find(|prefix| text.starts_with(prefix))
        .unwrap_or("");
    Ok((prefix, &text[prefix.len()..]))
}

fn decode(text: &str) -> Result<Vec<u8>, InvalidKey> {
    if text.is_empty() {
        return Err(InvalidKey::Empty);
    }
    from_base64(text).ok_or(InvalidKey::NotBase64)
}

fn secret(text: &str) -> Result<Hmac<Sha256>, InvalidKey> {
    let bytes = decode(text)?;
    if SECRET_BYTES.contains(&bytes.len()) {
        Ok(hmac(&bytes))
    } else {
        Err(InvalidKey::SecretLength { found: bytes.len() })
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}
