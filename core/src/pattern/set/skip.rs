//! Passing over a value of an event: it is checked to be JSON and nothing is kept.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

use super::{EventError, MAX_EVENT_DEPTH};
use crate::pattern::scan::{number_end, space_end, string_end};

type End = Result<usize, EventError>;

#[cold]
fn malformed<T>(at: usize) -> Result<T, EventError> {
    Err(EventError::IsMalformed(at))
}

/// Where the value that starts at `at` ends. It stands inside `depth` brackets.
#[inline]
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

/// Where the value behind the key that starts at `at` starts.
#[inline(always)]
fn key_end(bytes: &[u8], at: usize) -> End {
    if bytes.get(at) != Some(&b'"') {
        return malformed(at);
    }
    let Some(end) = string_end(bytes, at + 1) else {
        return malformed(at);
    };
    let at = space_end(bytes, end.at + 1);
    if bytes.get(at) != Some(&b':') {
        return malformed(at);
    }
    Ok(space_end(bytes, at + 1))
}

/// The brackets that are open, the innermost last: whether each is a brace.
struct Open {
    braces: [u64; MAX_EVENT_DEPTH / 64 + 1],
    count: usize,
}

impl Open {
    #[inline(always)]
    fn push(&mut self, brace: bool) {
        let (word, bit) = (self.count / 64, self.count % 64);
        self.braces[word] = self.braces[word] & !(1 << bit) | u64::from(brace) << bit;
        self.count += 1;
    }

    #[inline(always)]
    fn is_brace(&self) -> bool {
        let innermost = self.count - 1;
        self.braces[innermost / 64] >> (innermost % 64) & 1 == 1
    }
}

fn container_end(bytes: &[u8], mut at: usize, depth: usize) -> End {
    let mut open = Open {
        braces: [0; MAX_EVENT_DEPTH / 64 + 1],
        count: 0,
    };
    loop {
        // At the start of a value.
        match bytes.get(at) {
            Some(bracket @ (b'{' | b'[')) => {
                if depth + open.count >= MAX_EVENT_DEPTH {
                    return Err(EventError::NestsTooDeep);
                }
                let brace = *bracket == b'{';
                at = space_end(bytes, at + 1);
                if bytes.get(at) != Some(if brace { &b'}' } else { &b']' }) {
                    open.push(brace);
                    if brace {
                        at = key_end(bytes, at)?;
                    }
                    continue;
                }
                at += 1;
            }
            Some(b'-' | b'0'..=b'9') => match number_end(bytes, at) {
                Some(end) => at = end,
                None => return malformed(at),
            },
            Some(b'"') => match string_end(bytes, at + 1) {
                Some(end) => at = end.at + 1,
                None => return malformed(at),
            },
            _ => at = word_end(bytes, at)?,
        }
        // Behind a value.
        loop {
            if open.count == 0 {
                return Ok(at);
            }
            at = space_end(bytes, at);
            let brace = open.is_brace();
            match bytes.get(at) {
                Some(b',') => {
                    at = space_end(bytes, at + 1);
                    if brace {
                        at = key_end(bytes, at)?;
                    }
                    break;
                }
                Some(b'}') if brace => {}
                Some(b']') if !brace => {}
                _ => return malformed(at),
            }
            open.count -= 1;
            at += 1;
        }
    }
}
