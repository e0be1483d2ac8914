//! A read-only map from byte strings to numbers: one hash and, nearly always, one comparison.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

/// The content of up to eight bytes, as a number that only strings of other lengths share.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => match *bytes {
            [] => 0,
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c, ..] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
        },
    }
}

#[inline(always)]
fn mix(state: u64, word: u64) -> u64 {
    let product =
        u128::from(state ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd1b5_4a32_d192_ed03);
    product as u64 ^ (product >> 64) as u64
}

/// A hash and the content, as far as a number holds it. Keys come from patterns, so nobody who sends events can choose what collides.
#[inline(always)]
fn digest(bytes: &[u8]) -> (u64, u64) {
    let length = bytes.len() as u64;
    if bytes.len() <= 8 {
        let word = word(bytes);
        return (mix(length, word), word);
    }
    let mut state = length;
    for chunk in bytes.as_chunks::<8>().0 {
        state = mix(state, u64::from_le_bytes(*chunk));
    }
    // Overlaps what was read: cheaper than a copy of the rest.
    let last = bytes
        .last_chunk::<8>()
        .map_or(0, |last| u64::from_le_bytes(*last));
    let hash = mix(state, last);
    (hash, hash)
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The content of a short key, the hash of a long one.
    word: u64,
    start: u32,
    length: u32,
    value: u32,
}

const EMPTY: u32 = u32::MAX;

/// Built once from all its entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    keys: Box<[u8]>,
    /// The bit of each length that some key has; lengths from 63 up share one.
    lengths: u64,
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

impl Table {
    /// Keys must differ.
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = (&'a [u8], u32)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Self::default();
        }
        let capacity = (entries.len() * 2).next_power_of_two();
        let free = Slot {
            word: 0,
            start: 0,
            length: 0,
            value: EMPTY,
        };
        let mut table = Self {
            slots: vec![free; capacity].into(),
            keys: Box::default(),
            lengths: 0,
        };
        let mut keys = Vec::new();
        for (key, value) in entries {
            let (hash, word) = digest(key);
            let mut at = hash as usize & (capacity - 1);
            while table.slots[at].value != EMPTY {
                at = (at + 1) & (capacity - 1);
            }
            table.slots[at] = Slot {
                word,
                start: keys.len() as u32,
                length: key.len() as u32,
                value,
            };
            table.lengths |= length_bit(key.len());
            keys.extend_from_slice(key);
        }
        table.keys = keys.into();
        table
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline(always)]
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        if self.lengths & length_bit(key.len()) == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let (hash, word) = digest(key);
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.value == EMPTY {
                return None;
            }
            if slot.word == word && slot.length as usize == key.len() {
                let start = slot.start as usize;
                if key.len() <= 8 || &self.keys[start..start + key.len()] == key {
                    return Some(slot.value);
                }
            }
            at = (at + 1) & mask;
        }
    }
}
