//! How AWS compares numbers: as IEEE 754 doubles, but only those that a double stands for exactly.
//!
//! A number is *comparable* if the shortest decimal of its nearest double is the number itself: 300, 300.0 and 3e2 are one
//! number, and 0.1 is comparable. 12345678901234567890 is not: it equals only a number written with the same characters, and
//! lies in no range (aws-semantics 7.3, 7.9).

use std::fmt::Write;

/// The double a JSON number is compared as, or None if it is not comparable. `text` is a well-formed JSON number.
pub(super) fn comparable(text: &[u8]) -> Option<f64> {
    nearest(text).filter(|value| is_exact(text, *value))
}

/// The double nearest to a JSON number.
pub(super) fn nearest(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Zero has no sign in a decimal.
    value
        .is_finite()
        .then_some(if value == 0.0 { 0.0 } else { value })
}

/// Whether a number is comparable, given its nearest double.
pub(super) fn is_exact(text: &[u8], nearest: f64) -> bool {
    // Any decimal of up to 15 digits survives the way to a double and back, except near the ends of the range.
    let plain = text
        .iter()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let signs = text.iter().filter(|byte| !byte.is_ascii_digit()).count();
    if plain && text.len() - signs <= 15 {
        return true;
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    Decimal::of(text).is_some_and(|decimal| Decimal::shortest(nearest) == Some(decimal))
}

/// A decimal without leading and trailing zeros: 0.`digits` times ten to the power of `exponent`.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: [u8; Self::DIGITS],
    length: usize,
    exponent: i64,
}

impl Decimal {
    /// No double needs more than 17 in its shortest decimal.
    const DIGITS: usize = 17;

    /// None if it has more digits than the shortest decimal of any double, or an exponent no double has.
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let mut decimal = Self {
            negative,
            digits: [0; Self::DIGITS],
            length: 0,
            exponent: i64::from(exponent),
        };
        let mut zeros = 0;
        let mut fraction = false;
        for byte in mantissa.bytes() {
            if byte == b'.' {
                fraction = true;
                continue;
            }
            let leading = decimal.length == 0 && byte == b'0';
            match (fraction, leading) {
                (false, false) => decimal.exponent += 1,
                (true, true) => decimal.exponent -= 1,
                _ => {}
            }
            if leading {
                continue;
            }
            if byte == b'0' {
                zeros += 1;
                continue;
            }
            for digit in std::iter::repeat_n(b'0', zeros).chain([byte]) {
                *decimal.digits.get_mut(decimal.length)? = digit;
                decimal.length += 1;
            }
            zeros = 0;
        }
        if decimal.length == 0 {
            decimal.negative = false;
            decimal.exponent = 0;
        }
        Some(decimal)
    }

    fn shortest(value: f64) -> Option<Self> {
        let mut text = Buffer {
            bytes: [0; 32],
            length: 0,
        };
        write!(text, "{value:e}").ok()?;
        Self::of(std::str::from_utf8(&text.bytes[..text.length]).ok()?)
    }
}

/// Holds the shortest decimal of any double in exponent form, so that comparing needs no allocation.
struct Buffer {
    bytes: [u8; 32],
    length: usize,
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        let place = self
            .bytes
            .get_mut(self.length..end)
            .ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
