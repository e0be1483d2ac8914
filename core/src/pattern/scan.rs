//! The pieces of JSON text: where a string or a number ends, whether a value is well formed. Nothing is built.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

use wide::u8x16;

/// The end of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// Where the closing quote stands.
    pub(super) at: usize,
    /// Whether a backslash stands in it, so that it must be unescaped before it is compared.
    pub(super) escaped: bool,
}

#[inline(always)]
fn sixteen(bytes: &[u8], at: usize) -> Option<u8x16> {
    let block: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(u8x16::new(block))
}

/// The first byte from `at` on at which a string can end or go wrong: a quote, a backslash, a control character; or the end.
#[inline(always)]
fn special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = sixteen(bytes, at) {
        // With this bit flipped, the quote is the byte above the control characters, and they stay what they are.
        let flipped = block ^ u8x16::splat(b'"' ^ 0x20);
        let found =
            flipped.min(u8x16::splat(0x20)).simd_eq(flipped) | block.simd_eq(u8x16::splat(b'\\'));
        let found = found.to_bitmask();
        if found != 0 {
            return at + found.trailing_zeros() as usize;
        }
        at += 16;
    }
    while bytes
        .get(at)
        .is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
    {
        at += 1;
    }
    at
}

/// Finds the closing quote of a string whose body starts at `from`. None if there is none, if a control character
/// stands before it, or if an escape is malformed.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn string_end(bytes: &[u8], from: usize) -> Option<StringEnd> {
    let at = special(bytes, from);
    match bytes.get(at)? {
        b'"' => Some(StringEnd { at, escaped: false }),
        b'\\' => escaped_string_end(bytes, at),
        _ => None,
    }
}

#[cold]
fn escaped_string_end(bytes: &[u8], mut at: usize) -> Option<StringEnd> {
    loop {
        match bytes.get(at)? {
            b'"' => return Some(StringEnd { at, escaped: true }),
            b'\\' => at = special(bytes, at + escape_length(&bytes[at..])?),
            _ => return None,
        }
    }
}

/// The length of the escape that `rest` starts with.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => rest
            .get(2..6)?
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(6),
        _ => None,
    }
}

fn hex4(rest: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(rest.get(2..6)?).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// Appends the text that the body of a string stands for. Half of a surrogate pair becomes the three bytes its code point would
/// have, which are not UTF-8 and so equal no text of a pattern. False if an escape is malformed.
pub(super) fn unescape(body: &[u8], text: &mut Vec<u8>) -> bool {
    let mut rest = body;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..backslash]);
        rest = &rest[backslash..];
        let Some(length) = escape_length(rest) else {
            return false;
        };
        let plain = match rest[1] {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let Some(mut code) = hex4(rest) else {
                    return false;
                };
                let mut taken = length;
                if (0xd800..0xdc00).contains(&code) {
                    let low = rest[length..]
                        .starts_with(b"\\u")
                        .then(|| hex4(&rest[length..]))
                        .flatten();
                    if let Some(low @ 0xdc00..=0xdfff) = low {
                        code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                        taken += 6;
                    }
                }
                push_code_point(code, text);
                rest = &rest[taken..];
                continue;
            }
            same => same,
        };
        text.push(plain);
        rest = &rest[length..];
    }
    text.extend_from_slice(rest);
    true
}

fn push_code_point(code: u32, text: &mut Vec<u8>) {
    if let Some(character) = char::from_u32(code) {
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        text.push(0xe0 | (code >> 12) as u8);
        text.push(0x80 | (code >> 6 & 0x3f) as u8);
        text.push(0x80 | (code & 0x3f) as u8);
    }
}

/// A bit for each of sixteen bytes that is a digit.
#[inline(always)]
fn digits(block: u8x16) -> u32 {
    let value = block - u8x16::splat(b'0');
    value.min(u8x16::splat(9)).simd_eq(value).to_bitmask()
}

/// The first byte from `at` on that is no digit.
#[inline(always)]
fn digits_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = sixteen(bytes, at) {
        let digits = digits(block);
        if digits != 0xffff {
            return at + digits.trailing_ones() as usize;
        }
        at += 16;
    }
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Where the number that starts at `start` ends; None if it is malformed. What follows it is not looked at.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn number_end(bytes: &[u8], start: usize) -> Option<usize> {
    let first = start + usize::from(bytes.get(start) == Some(&b'-'));
    // Nearly every number is decided by the sixteen bytes behind its sign; one with many decimals by the sixteen that follow.
    let Some(block) = sixteen(bytes, first) else {
        return any_number_end(bytes, first);
    };
    let digits = digits(block);
    let whole = digits.trailing_ones();
    let mut at = first + whole as usize;
    if whole == 0 || whole == 16 || (whole > 1 && bytes[first] == b'0') {
        return any_number_end(bytes, first);
    }
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = fraction + (digits >> (whole + 1)).trailing_ones() as usize;
        if at == first + 16 {
            at = digits_end(bytes, at);
        }
        if at == fraction {
            return None;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        return any_number_end(bytes, first);
    }
    Some(at)
}

/// The same for any number, from behind its sign.
#[cold]
fn any_number_end(bytes: &[u8], first: usize) -> Option<usize> {
    let mut at = digits_end(bytes, first);
    if at == first || (at > first + 1 && bytes[first] == b'0') {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        let fraction = at + 1;
        at = digits_end(bytes, fraction);
        if at == fraction {
            return None;
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let exponent = at;
        at = digits_end(bytes, exponent);
        if at == exponent {
            return None;
        }
    }
    Some(at)
}

/// The first byte from `at` on that is not white space, and where it stands. The byte is 0 at the end, as no JSON has it.
#[inline(always)]
pub(super) fn after_space(bytes: &[u8], mut at: usize) -> (u8, usize) {
    // No space or one is what most writers leave.
    let mut byte = bytes.get(at).copied().unwrap_or(0);
    if byte == b' ' {
        at += 1;
        byte = bytes.get(at).copied().unwrap_or(0);
    }
    if byte > b' ' {
        (byte, at)
    } else {
        after_long_space(bytes, at)
    }
}

/// The same behind `mark`, which must be what comes next; the error is where something else stands.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn after_mark(bytes: &[u8], mut at: usize, mark: u8) -> Result<(u8, usize), usize> {
    // Nearly nobody writes space before it.
    if bytes.get(at) != Some(&mark) {
        let (byte, place) = after_long_space(bytes, at);
        if byte != mark {
            return Err(place);
        }
        at = place;
    }
    Ok(after_space(bytes, at + 1))
}

#[inline(never)]
fn after_long_space(bytes: &[u8], mut at: usize) -> (u8, usize) {
    while let Some(block) = sixteen(bytes, at) {
        let space = block.simd_eq(u8x16::splat(b' '))
            | block.simd_eq(u8x16::splat(b'\n'))
            | block.simd_eq(u8x16::splat(b'\r'))
            | block.simd_eq(u8x16::splat(b'\t'));
        let space = space.to_bitmask();
        if space != 0xffff {
            at += space.trailing_ones() as usize;
            return (bytes.get(at).copied().unwrap_or(0), at);
        }
        at += 16;
    }
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    (bytes.get(at).copied().unwrap_or(0), at)
}
