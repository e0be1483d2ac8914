//! A read-only map from byte strings to numbers: one hash, one look at a byte and, where that fits, one comparison.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

/// Bytes that are looked up, with as many of them as fit two registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    /// The first sixteen bytes, zeros behind shorter ones.
    head: [u64; 2],
}

/// Bytes of the head.
const HEAD: usize = 16;

/// For each length, the bits of the head that it has.
const MASKS: [[u64; 2]; HEAD + 1] = {
    let mut masks = [[0, 0]; HEAD + 1];
    let mut length = 1;
    while length <= HEAD {
        masks[length] = masks[length - 1];
        masks[length][(length - 1) / 8] |= 0xff << ((length - 1) % 8 * 8);
        length += 1;
    }
    masks
};

impl<'a> Text<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let length = bytes.len();
        let eight = |chunk: Option<&[u8; 8]>| chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let four = |chunk: &[u8; 4]| u64::from(u32::from_le_bytes(*chunk));
        let head = if length > HEAD {
            [eight(bytes.first_chunk()), eight(bytes[8..].first_chunk())]
        } else if length > 8 {
            // Chunks that overlap are cheaper than the bytes one by one.
            [
                eight(bytes.first_chunk()),
                eight(bytes.last_chunk()) >> (8 * (HEAD - length)),
            ]
        } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            [four(first) | four(last) << (8 * (length - 4)), 0]
        } else {
            let shifted = bytes.iter().rev();
            [
                shifted.fold(0, |head, byte| head << 8 | u64::from(*byte)),
                0,
            ]
        };
        Self { bytes, head }
    }

    /// A part of `all`, which is faster than the part alone where enough bytes follow it.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn within(all: &'a [u8], start: usize, end: usize) -> Self {
        let bytes = &all[start..end];
        match all[start..].first_chunk::<HEAD>() {
            Some(block) => {
                let block = u128::from_le_bytes(*block);
                Self {
                    bytes,
                    head: [block as u64, (block >> 64) as u64],
                }
                .cut()
            }
            None => Self::new(bytes),
        }
    }

    /// The first `length` bytes, of which there must be so many.
    #[inline(always)]
    pub(super) fn prefix(self, length: usize) -> Self {
        Self {
            bytes: &self.bytes[..length],
            head: self.head,
        }
        .cut()
    }

    #[inline(always)]
    fn cut(mut self) -> Self {
        let mask = &MASKS[self.bytes.len().min(HEAD)];
        self.head[0] &= mask[0];
        self.head[1] &= mask[1];
        self
    }

    /// Texts come from patterns, so nobody who sends events can choose what collides.
    #[inline(always)]
    fn hash(self) -> u64 {
        let length = self.bytes.len() as u64;
        let hash = mix(self.head[0] ^ length << 56, self.head[1]);
        if self.bytes.len() <= HEAD {
            hash
        } else {
            self.long_hash(hash)
        }
    }

    fn long_hash(self, mut hash: u64) -> u64 {
        let rest = &self.bytes[HEAD..];
        for chunk in rest.as_chunks::<8>().0 {
            hash = mix(hash, u64::from_le_bytes(*chunk));
        }
        // Overlaps what was read: cheaper than a copy of the rest.
        let last = self.bytes.last_chunk::<8>();
        mix(hash, last.map_or(0, |last| u64::from_le_bytes(*last)))
    }
}

#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd1b5_4a32_d192_ed03);
    product as u64 ^ (product >> 64) as u64
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    head: [u64; 2],
    /// What a key has behind its head starts here.
    rest: u32,
    length: u32,
    value: u32,
    taken: bool,
}

/// Bits of the filter for each key.
const FILTER: usize = 16;

/// Built once from all its entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// A bit for each key's hash. Of what is not in the table nearly all is refused by it: one branch, nearly always the same
    /// way, on memory that stays in the processor's caches where the slots do not.
    filter: Box<[u64]>,
    slots: Box<[Slot]>,
    rests: Box<[u8]>,
}

impl Table {
    /// Keys must differ.
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = (&'a [u8], u32)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Self::default();
        }
        let capacity = (entries.len() * 2).next_power_of_two();
        let words = (entries.len() * FILTER / 64).next_power_of_two().max(8);
        let mut filter = vec![0; words];
        let mut slots = vec![Slot::default(); capacity];
        let mut rests = Vec::new();
        for (key, value) in entries {
            let text = Text::new(key);
            let hash = text.hash();
            let (word, bit) = filter_place(hash, words);
            filter[word] |= bit;
            let mut at = hash as usize & (capacity - 1);
            while slots[at].taken {
                at = (at + 1) & (capacity - 1);
            }
            slots[at] = Slot {
                head: text.head,
                rest: rests.len() as u32,
                length: key.len() as u32,
                value,
                taken: true,
            };
            rests.extend_from_slice(key.get(HEAD..).unwrap_or_default());
        }
        Self {
            filter: filter.into(),
            slots: slots.into(),
            rests: rests.into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn get(&self, key: Text) -> Option<u32> {
        let hash = key.hash();
        let (word, bit) = filter_place(hash, self.filter.len());
        if self.filter.get(word)? & bit == 0 {
            return None;
        }
        self.find(key, hash)
    }

    #[inline]
    fn find(&self, key: Text, hash: u64) -> Option<u32> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        // Half of the slots are free, so that this ends.
        loop {
            let slot = self.slots.get(at)?;
            if slot.is(key, &self.rests) {
                return Some(slot.value);
            }
            if !slot.taken {
                return None;
            }
            at = (at + 1) & mask;
        }
    }
}

/// The word and the bit of a filter that a hash stands for. There is no such word if the filter is empty.
#[inline(always)]
fn filter_place(hash: u64, words: usize) -> (usize, u64) {
    // The low bits are the slot's.
    let word = (hash >> 32) as usize & words.wrapping_sub(1);
    (word, 1 << (hash >> 26 & 63))
}

impl Slot {
    #[inline(always)]
    fn is(&self, key: Text, rests: &[u8]) -> bool {
        let length = key.bytes.len();
        self.head == key.head
            && self.taken
            && self.length as usize == length
            && (length <= HEAD || rests[self.rest as usize..].starts_with(&key.bytes[HEAD..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_wherever_it_was_read() {
        let all: Vec<u8> = (1..=80).collect();
        for length in 0..=40 {
            for start in 0..=all.len() - length {
                let plain = Text::new(&all[start..start + length]);
                let within = Text::within(&all, start, start + length);
                assert_eq!((plain.bytes, plain.head), (within.bytes, within.head));
                let prefix = Text::within(&all, start, all.len()).prefix(length);
                assert_eq!((plain.bytes, plain.head), (prefix.bytes, prefix.head));
            }
        }
    }

    #[test]
    fn what_is_in_a_table_is_found_and_nothing_else() {
        // Neighbours differ in one byte at the front, at the back or around the head's end, or in length alone.
        let keys: Vec<Vec<u8>> = (0..70_usize)
            .flat_map(|length| {
                let zeros = vec![0; length];
                let marked = [0, 7, 8, 15, 16, length.wrapping_sub(1)]
                    .into_iter()
                    .filter(move |at| *at < length)
                    .map(move |at| {
                        let mut key = vec![0; length];
                        key[at] = b'x';
                        key
                    });
                marked.chain([zeros])
            })
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for parity in 0..2 {
            let inside = |index: usize| index % 2 == parity;
            let entries = keys.iter().enumerate().filter(|(index, _)| inside(*index));
            let table = Table::new(entries.map(|(index, key)| (key.as_slice(), index as u32)));
            for (index, key) in keys.iter().enumerate() {
                let expected = inside(index).then_some(index as u32);
                assert_eq!(table.get(Text::new(key)), expected, "{key:?}");
            }
        }
        assert_eq!(Table::default().get(Text::new(b"")), None);
    }
}
