//! The pieces of JSON text: where a string or a number ends, whether a value is well formed. Nothing is built.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The end of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StringEnd {
    /// Where the closing quote stands.
    pub(super) at: usize,
    /// Whether a backslash stands in it, so that it must be unescaped before it is compared.
    pub(super) escaped: bool,
}

fn eight(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(chunk.try_into().ok()?))
}

/// The high bit of each byte that is zero. Exact up to the first such byte, which is all that is asked of it.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Finds the closing quote of a string whose body starts at `from`. None if there is none, if a control character
/// stands before it, or if an escape is malformed.
#[inline]
pub(super) fn string_end(bytes: &[u8], from: usize) -> Option<StringEnd> {
    let mut at = from;
    let mut escaped = false;
    loop {
        if let Some(word) = eight(bytes, at) {
            let quotes = zeros(word ^ (ONES * b'"' as u64));
            let backslashes = zeros(word ^ (ONES * b'\\' as u64));
            let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let special = quotes | backslashes | controls;
            if special == 0 {
                at += 8;
                continue;
            }
            at += special.trailing_zeros() as usize / 8;
        }
        match *bytes.get(at)? {
            b'"' => return Some(StringEnd { at, escaped }),
            b'\\' => {
                escaped = true;
                at += escape_length(&bytes[at..])?;
            }
            byte if byte < 0x20 => return None,
            _ => at += 1,
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

/// How many digits `bytes` has from `at` on.
#[inline]
fn digits(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    while let Some(word) = eight(bytes, end) {
        // A digit has 3 as its high half and stays so when 6 is added.
        let others = ((word & (ONES * 0xf0)) ^ (ONES * 0x30))
            | ((word.wrapping_add(ONES * 0x06) & (ONES * 0xf0)) ^ (ONES * 0x30));
        if others != 0 {
            return end + others.trailing_zeros() as usize / 8 - at;
        }
        end += 8;
    }
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    end - at
}

/// The length of the number that `bytes` starts with; None if it is malformed. What follows it is not looked at.
#[inline]
pub(super) fn number_length(bytes: &[u8]) -> Option<usize> {
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    match digits(bytes, at) {
        0 => return None,
        1 => at += 1,
        _ if bytes[at] == b'0' => return None,
        more => at += more,
    }
    if bytes.get(at) == Some(&b'.') {
        match digits(bytes, at + 1) {
            0 => return None,
            fraction => at += 1 + fraction,
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        match digits(bytes, at) {
            0 => return None,
            exponent => at += exponent,
        }
    }
    Some(at)
}
