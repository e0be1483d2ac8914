//! A read-only map from byte strings to numbers: one hash and, nearly always, one comparison.

/// The hash of a byte string. Keys come from patterns, so nobody who sends events can choose what collides.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xd1b5_4a32_d192_ed03;
    fn read(bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }
    fn mix(a: u64, b: u64) -> u64 {
        let product = u128::from(a ^ A) * u128::from(b ^ B);
        product as u64 ^ (product >> 64) as u64
    }
    let length = bytes.len() as u64;
    let mut state = length;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        state = mix(state, u64::from_le_bytes(*chunk));
    }
    if !rest.is_empty() {
        state = match bytes.last_chunk::<8>() {
            // Overlaps what was read: cheaper than a copy.
            Some(last) => mix(state, u64::from_le_bytes(*last)),
            None => mix(state, read(rest)),
        };
    }
    state ^ (state >> 32)
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
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
            tag: 0,
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
            let hash = hash(key);
            let mut at = hash as usize & (capacity - 1);
            while table.slots[at].value != EMPTY {
                at = (at + 1) & (capacity - 1);
            }
            table.slots[at] = Slot {
                tag: (hash >> 32) as u32,
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

    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<u32> {
        if self.lengths & length_bit(key.len()) == 0 {
            return None;
        }
        let mask = self.slots.len() - 1;
        let hash = hash(key);
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.value == EMPTY {
                return None;
            }
            if slot.tag == (hash >> 32) as u32 && slot.length as usize == key.len() {
                let start = slot.start as usize;
                if &self.keys[start..start + key.len()] == key {
                    return Some(slot.value);
                }
            }
            at = (at + 1) & mask;
        }
    }
}
