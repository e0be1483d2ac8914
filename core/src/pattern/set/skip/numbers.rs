//! Passing over arrays of numbers, such as coordinates and measurements: 64 bytes at once.
//!
//! A window of the text becomes one word for each kind of byte, with a bit for each byte. What must stand before or behind what is
//! then a shift, and what follows a run of digits or spaces is an addition, whose carry runs through the run. Only numbers without
//! exponent, commas, spaces and brackets are known here; whatever else comes, or is wrong, is left to the slower way.

use wide::u8x16;

/// Bytes of a window.
pub(super) const WINDOW: usize = 64;

/// What a window must know of the one before it; each is 0 or 1.
struct Before {
    /// The last byte was part of a number.
    number: u64,
    digit: u64,
    minus: u64,
    point: u64,
    /// It was a zero that starts a number.
    zero: u64,
    /// It ended in the digits before the point.
    whole: u64,
    /// It ended where a value must follow.
    value: u64,
}

/// Where the array ends whose opening bracket stands before `at`. Arrays may nest, itself counted, up to `depth`.
///
/// The error is a place behind which something is wrong or not known here.
pub(super) fn numbers_end(bytes: &[u8], mut at: usize, depth: usize) -> Result<usize, usize> {
    let mut before = Before {
        number: 0,
        digit: 0,
        minus: 0,
        point: 0,
        zero: 0,
        whole: 0,
        value: 1,
    };
    let mut level = 1;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let kinds = if let Some(window) = rest.first_chunk() {
            Kinds::of(window)
        } else {
            let mut window = [b' '; WINDOW];
            window[..rest.len()].copy_from_slice(rest);
            Kinds::of(&window)
        };
        let opens = kinds.opens.count_ones() as usize;
        if level + opens > depth {
            return Err(at);
        }
        let closes = kinds.closes.count_ones() as usize;
        let wrong = kinds.wrong(&mut before);
        if level > closes {
            if wrong != 0 {
                return Err(at);
            }
            level += opens;
            level -= closes;
        } else if let Some(end) = kinds.end(&mut level) {
            // Behind the end anything may stand.
            let within = u64::MAX >> (WINDOW - 1 - end);
            return if wrong & within == 0 {
                Ok(at + end + 1)
            } else {
                Err(at)
            };
        } else if wrong != 0 {
            return Err(at);
        }
        at += WINDOW;
    }
    Err(at)
}

/// For each kind of byte, the bits of those in a window.
struct Kinds {
    digits: u64,
    zeros: u64,
    minuses: u64,
    points: u64,
    commas: u64,
    spaces: u64,
    opens: u64,
    closes: u64,
}

impl Kinds {
    #[inline]
    fn of(window: &[u8; WINDOW]) -> Self {
        let [a, b, c, d] = std::array::from_fn(|index| {
            let mut block = [0; 16];
            block.copy_from_slice(&window[index * 16..index * 16 + 16]);
            u8x16::new(block)
        });
        let bits = |test: fn(u8x16) -> u8x16| {
            let bits = |block| u64::from(test(block).to_bitmask());
            bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48
        };
        Self {
            digits: bits(|block| {
                let value = block - u8x16::splat(b'0');
                value.min(u8x16::splat(9)).simd_eq(value)
            }),
            zeros: bits(|block| block.simd_eq(u8x16::splat(b'0'))),
            minuses: bits(|block| block.simd_eq(u8x16::splat(b'-'))),
            points: bits(|block| block.simd_eq(u8x16::splat(b'.'))),
            commas: bits(|block| block.simd_eq(u8x16::splat(b','))),
            spaces: bits(|block| block.simd_eq(u8x16::splat(b' '))),
            opens: bits(|block| block.simd_eq(u8x16::splat(b'['))),
            closes: bits(|block| block.simd_eq(u8x16::splat(b']'))),
        }
    }

    /// The bits of bytes that are not as they must be. Whatever is wrong has no influence on the bits before it.
    #[inline]
    fn wrong(&self, before: &mut Before) -> u64 {
        let digits = self.digits;
        let number = digits | self.minuses | self.points;
        let starts = number & !(number << 1 | before.number);
        let behind_minus = self.minuses << 1 | before.minus;
        let behind_point = self.points << 1 | before.point;
        let behind_digit = digits << 1 | before.digit;
        let first_digits = (starts | behind_minus) & digits;
        let zeros = first_digits & self.zeros;

        let (whole, goes_on) = digits.overflowing_add(first_digits | before.whole);
        let behind_whole = whole & !digits;

        let separates = self.opens | self.commas;
        let behind_separator = separates << 1 | before.value;
        let (spaces, value_follows) = self.spaces.overflowing_add(behind_separator & self.spaces);
        let values = (behind_separator | spaces) & !self.spaces;

        let unknown = !(number | self.commas | self.spaces | self.opens | self.closes);
        let wrong = unknown
            | values ^ (starts | self.opens)
            | self.minuses & !starts
            | (behind_minus | behind_point) & !digits
            | self.points & !(behind_digit & behind_whole)
            | (zeros << 1 | before.zero) & digits;
        *before = Before {
            number: number >> 63,
            digit: digits >> 63,
            minus: self.minuses >> 63,
            point: self.points >> 63,
            zero: zeros >> 63,
            whole: u64::from(goes_on),
            value: separates >> 63 | u64::from(value_follows),
        };
        wrong
    }

    /// Where the bracket stands that closes the outermost array. Else `level` is the one behind the window.
    fn end(&self, level: &mut usize) -> Option<usize> {
        let mut brackets = self.opens | self.closes;
        while brackets != 0 {
            let place = brackets.trailing_zeros();
            if self.opens >> place & 1 == 1 {
                *level += 1;
            } else {
                *level -= 1;
                if *level == 0 {
                    return Some(place as usize);
                }
            }
            brackets &= brackets - 1;
        }
        None
    }
}
