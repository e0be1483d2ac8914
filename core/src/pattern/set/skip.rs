//! Passing over a value of an event: it is checked to be JSON and nothing is kept.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

mod numbers;

use numbers::{WINDOW, numbers_end};

use super::{Fault, MAX_EVENT_DEPTH};
use crate::pattern::scan::{after_mark, after_space, number_end, string_end};

/// Where what was read ends.
pub(super) type End = Result<usize, Fault>;

#[cold]
pub(super) fn malformed<T>(at: usize) -> Result<T, Fault> {
    Err(Fault::at(at))
}

/// Where the value that starts at `at` ends. It stands inside `depth` brackets.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn value_end(bytes: &[u8], at: usize, depth: usize) -> End {
    match bytes.get(at) {
        Some(b'"') => match string_end(bytes, at + 1) {
            Some(end) => Ok(end.at + 1),
            None => malformed(at),
        },
        Some(b'{' | b'[') => container_end(bytes, at, depth),
        Some(b'-' | b'0'..=b'9') => match number_end(bytes, at) {
            Some(end) => Ok(end),
            None => malformed(at),
        },
        _ => word_end(bytes, at),
    }
}

/// Where `true`, `false` or `null` ends.
#[inline]
pub(super) fn word_end(bytes: &[u8], at: usize) -> End {
    let four = bytes.get(at..at + 4);
    if four == Some(b"true") || four == Some(b"null") {
        return Ok(at + 4);
    }
    if bytes.get(at..at + 5) == Some(b"false") {
        return Ok(at + 5);
    }
    malformed(at)
}

/// The first byte of the value behind the key that starts at `at` with the byte `first`, and where it stands.
#[cfg_attr(not(debug_assertions), inline(always))]
fn key_end(bytes: &[u8], first: u8, at: usize) -> Result<(u8, usize), Fault> {
    if first != b'"' {
        return malformed(at);
    }
    let Some(end) = string_end(bytes, at + 1) else {
        return malformed(at);
    };
    after_mark(bytes, end.at + 1, b':').or_else(malformed)
}

/// Brackets that are remembered in one word; deeper ones are another call's.
const WORD: u32 = u64::BITS;

/// Where a container ends that starts with the byte `first`, if it is a long array that has only numbers. Inside stands `next` at `at`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn array_of_numbers(
    bytes: &[u8],
    first: u8,
    next: u8,
    at: usize,
    depth: usize,
    untried: &mut usize,
) -> Option<usize> {
    let likely = first == b'[' && matches!(next, b'[' | b'-' | b'0'..=b'9');
    if !likely || at < *untried || bytes.len() - at < WINDOW {
        return None;
    }
    match numbers_end(bytes, at, depth) {
        Ok(end) => Some(end),
        Err(place) => {
            *untried = place;
            None
        }
    }
}

/// Where the object or array that starts at `at` ends.
fn container_end(bytes: &[u8], mut at: usize, depth: usize) -> End {
    // For each open bracket, the innermost last, whether it is a brace.
    let mut braces: u64 = 0;
    let mut open = 0;
    // Arrays before this are not tried as such of numbers, so that nothing is read in vain more than once.
    let mut untried = 0;
    let mut first = bytes.get(at).copied().unwrap_or(0);
    loop {
        // At the start of a value.
        if first == b'"' {
            match string_end(bytes, at + 1) {
                Some(end) => at = end.at + 1,
                None => return malformed(at),
            }
        } else if first == b'-' || first.is_ascii_digit() {
            match number_end(bytes, at) {
                Some(end) => at = end,
                None => return malformed(at),
            }
        } else if first == b'{' || first == b'[' {
            if depth + open as usize >= MAX_EVENT_DEPTH {
                return Err(Fault::NESTS_TOO_DEEP);
            }
            let (next, inside) = after_space(bytes, at + 1);
            // In ASCII, each bracket is two before the one that closes it.
            if next == first + 2 {
                at = inside + 1;
            } else if let Some(end) = array_of_numbers(
                bytes,
                first,
                next,
                inside,
                MAX_EVENT_DEPTH - depth - open as usize,
                &mut untried,
            ) {
                at = end;
            } else if open == WORD {
                at = container_end(bytes, at, depth + open as usize)?;
            } else {
                let brace = first == b'{';
                braces = braces << 1 | u64::from(brace);
                open += 1;
                (first, at) = (next, inside);
                if brace {
                    (first, at) = key_end(bytes, first, at)?;
                }
                continue;
            }
        } else {
            at = word_end(bytes, at)?;
        }
        // Behind a value.
        loop {
            if open == 0 {
                return Ok(at);
            }
            let (byte, place) = after_space(bytes, at);
            let brace = braces & 1;
            if byte == b',' {
                (first, at) = after_space(bytes, place + 1);
                if brace == 1 {
                    (first, at) = key_end(bytes, first, at)?;
                }
                break;
            }
            // The two differ in one bit.
            if byte != b']' | (brace as u8) << 5 {
                return malformed(place);
            }
            braces >>= 1;
            open -= 1;
            at = place + 1;
        }
    }
}
