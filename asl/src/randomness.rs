//! Randomness is an argument: an execution replayed with the same numbers takes the same turns.

/// A source of uniformly distributed numbers.
pub trait Randomness {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}

impl<R: Randomness + ?Sized> Randomness for &mut R {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// A deterministic source (`SplitMix64`): for tests, and for functions that take a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded(u64);

impl Seeded {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Randomness for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }
}

/// A uniform number in `[0, 1)`.
pub(crate) fn unit(randomness: &mut dyn Randomness) -> f64 {
    (randomness.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A uniform integer in `[start, end)`; `start` when the range is empty.
pub(crate) fn between(randomness: &mut dyn Randomness, start: i64, end: i64) -> i64 {
    let width = (i128::from(end) - i128::from(start)).max(1) as u128;
    let offset = (u128::from(randomness.next_u64()) * width) >> 64;
    (i128::from(start) + offset as i128) as i64
}

/// A version 4 UUID in its usual text form.
pub(crate) fn uuid(randomness: &mut dyn Randomness) -> String {
    let (high, low) = (randomness.next_u64(), randomness.next_u64());
    let high = (high & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
    let low = (low & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_version_four_and_the_right_variant() {
        let text = uuid(&mut Seeded::new(7));
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn between_stays_in_its_half_open_range_even_at_the_edges_of_i64() {
        let mut source = Seeded::new(1);
        for _ in 0..1000 {
            assert!((5..8).contains(&between(&mut source, 5, 8)));
            assert!(between(&mut source, i64::MIN, i64::MAX) < i64::MAX);
        }
        assert_eq!(between(&mut source, 3, 3), 3);
    }
}
