//! IP addresses and CIDR blocks, in the notations AWS accepts.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::error::PatternError;

/// An address as a number, with the length of its family. An IPv6 address that maps an IPv4 address is that address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) bits: u128,
    /// 32 or 128.
    pub(super) width: u8,
}

/// The addresses that share their first `prefix` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Block {
    pub(super) first: Address,
    pub(super) prefix: u8,
}

impl Address {
    /// None if `text` is not an address: four decimal numbers, or groups of hexadecimal digits and colons.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        // Longest: eight groups of four digits. Longer only with leading zeros in IPv4.
        if text.len() > 64 {
            return None;
        }
        if text
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.')
        {
            return Self::parse_v4(text);
        }
        if !text.contains(&b':')
            || !text
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || *byte == b':')
        {
            return None;
        }
        let address: Ipv6Addr = std::str::from_utf8(text).ok()?.parse().ok()?;
        Some(match address.to_ipv4_mapped() {
            Some(mapped) => Self::v4(mapped),
            None => Self {
                bits: address.to_bits(),
                width: 128,
            },
        })
    }

    /// Leading zeros are allowed and mean nothing.
    fn parse_v4(text: &[u8]) -> Option<Self> {
        let mut octets = [0; 4];
        let mut parts = text.split(|byte| *byte == b'.');
        for octet in &mut octets {
            let part = parts.next()?;
            *octet = std::str::from_utf8(part).ok()?.parse::<u8>().ok()?;
        }
        parts
            .next()
            .is_none()
            .then(|| Self::v4(Ipv4Addr::from(octets)))
    }

    fn v4(address: Ipv4Addr) -> Self {
        Self {
            bits: u128::from(address.to_bits()),
            width: 32,
        }
    }

    /// The first address of the block that holds this one.
    pub(super) fn masked(self, prefix: u8) -> Self {
        let host = self.width - prefix;
        let bits = if host == 128 {
            0
        } else {
            self.bits >> host << host
        };
        Self { bits, ..self }
    }
}

impl Block {
    pub(super) fn of_one(address: Address) -> Self {
        Self {
            first: address,
            prefix: address.width,
        }
    }

    /// Reads CIDR notation. AWS refuses blocks of one address (aws-semantics 7.10).
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        // Empty parts at the end do not count.
        let mut parts = text.trim_end_matches('/').split('/');
        let (Some(address), Some(prefix), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(PatternError::of("Malformed CIDR, one '/' required"));
        };
        let Ok(prefix) = prefix.parse::<i32>() else {
            return Err(PatternError::of(
                "Malformed CIDR, mask bits must be an integer",
            ));
        };
        if prefix < 0 {
            return Err(PatternError::of(
                "Malformed CIDR, mask bits must not be negative",
            ));
        }
        let Some(parsed) = Address::parse(address.as_bytes()) else {
            let numeric = looks_like_an_address(address);
            let kind = if numeric { "Invalid" } else { "Nonstandard" };
            return Err(PatternError::of(format!("{kind} IP address: {address}")));
        };
        match u8::try_from(prefix) {
            Ok(prefix) if prefix < parsed.width => Ok(Self {
                first: parsed.masked(prefix),
                prefix,
            }),
            _ if parsed.width == 32 => Err(PatternError::of("IPv4 mask bits must be < 32")),
            _ => Err(PatternError::of("IPv6 mask bits must be < 128")),
        }
    }
}

/// Whether `text` has the characters of an address, so that only its numbers can be wrong.
fn looks_like_an_address(text: &str) -> bool {
    let v4 = text.split('.').count() == 4
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let v6 = text.contains(':') && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    v4 || v6
}
