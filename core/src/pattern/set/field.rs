//! What all patterns of a set ask of the values at one path, arranged so that the cost of a value hardly depends on how many
//! there are: one look-up for all equalities, one a length for prefixes, suffixes and address blocks, one pass for all wildcards.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

mod build;
mod lists;

pub(super) use build::FieldBuilder;
use lists::{Affixes, Lists};

use super::automaton::{Automaton, States};
use super::table::Text;
use crate::pattern::address::Address;
use crate::pattern::case::{self, Folded};
use crate::pattern::number;
use crate::pattern::test::Range;

/// What a match of a value leads to: a condition that holds; with [`COUNTS`], one of which it matters how many values did;
/// or, with [`FAILS`], an alternative `anything-but` that does not hold.
pub(super) type Target = u32;
const FAILS: u32 = 1 << 31;
/// In a table: the number of a list of targets, where there is more than one.
const LIST: u32 = 1 << 30;
pub(super) const COUNTS: u32 = 1 << 29;
/// Conditions a set may have.
pub(super) const MAX_CONDITIONS: u32 = COUNTS;

/// A value of an event, as it is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    True,
    False,
    /// Unescaped.
    Text(Text<'a>),
    /// As written.
    Number(&'a [u8]),
}

#[derive(Debug, Default)]
pub(super) struct Field {
    exists: Vec<Target>,
    null: Vec<Target>,
    yes: Vec<Target>,
    no: Vec<Target>,
    texts: Lists,
    numbers: Lists,
    written: Lists,
    ranges: Vec<(Range, Target)>,
    prefixes: Affixes,
    suffixes: Affixes,
    /// ASCII only, in lower case.
    lower_texts: Lists,
    lower_prefixes: Affixes,
    lower_suffixes: Affixes,
    /// Ignoring case beyond ASCII: by [`case::key`], then exactly.
    folded_texts: Vec<(Folded, Target)>,
    folded_keys: Lists,
    folded_prefixes: Vec<(Folded, Target)>,
    folded_suffixes: Vec<(Folded, Target)>,
    blocks: Vec<Blocks>,
    wildcards: Option<Automaton>,
    /// The condition of each `anything-but` that is one alternative of several.
    negatives: Vec<Target>,
    any_text: bool,
    any_number: bool,
    /// Whether nothing but equal texts is asked, as in most fields.
    only_texts: bool,
}

/// Address blocks of one size.
#[derive(Debug)]
struct Blocks {
    width: u8,
    prefix: u8,
    lists: Lists,
}

/// What a field needs to write on while it looks at a value.
#[derive(Debug, Default)]
pub(super) struct FieldScratch {
    lower: Vec<u8>,
    /// For each `anything-but`, the last value that failed it.
    failed: Vec<u64>,
    value: u64,
    pub(super) states: States,
}

impl FieldScratch {
    pub(super) fn for_fields<'a>(fields: impl Iterator<Item = &'a Field>) -> Self {
        let negatives = fields.map(|field| field.negatives.len()).max().unwrap_or(0);
        Self {
            failed: vec![0; negatives],
            ..Self::default()
        }
    }
}

impl Field {
    fn more_than_equal_texts(&self) -> bool {
        let affixes = [
            &self.prefixes,
            &self.suffixes,
            &self.lower_prefixes,
            &self.lower_suffixes,
        ];
        affixes.iter().any(|affixes| !affixes.lengths.is_empty())
            || !self.lower_texts.table.is_empty()
            || self.folded_texts.len() + self.folded_prefixes.len() + self.folded_suffixes.len() > 0
            || !self.blocks.is_empty()
            || self.wildcards.is_some()
    }

    /// Calls `hit` for each condition that `value` satisfies, maybe more than once; for one that counts, exactly once.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn look_at(
        &self,
        value: Value,
        scratch: &mut FieldScratch,
        hit: &mut impl FnMut(Target),
    ) {
        match value {
            Value::Text(text) if self.only_texts => {
                self.texts.visit(text, hit);
            }
            _ => self.look_at_any(value, scratch, hit),
        }
    }

    #[inline(never)]
    fn look_at_any(&self, value: Value, scratch: &mut FieldScratch, hit: &mut impl FnMut(Target)) {
        if self.negatives.is_empty() {
            return self.look_up(value, &mut scratch.lower, &mut scratch.states, hit);
        }
        scratch.value += 1;
        let FieldScratch {
            lower,
            failed,
            value: now,
            states,
        } = scratch;
        self.look_up(value, lower, states, &mut |target| {
            if target & FAILS == 0 {
                hit(target);
            } else {
                failed[(target & !FAILS) as usize] = *now;
            }
        });
        for (condition, failed) in self.negatives.iter().zip(&*failed) {
            if failed != now {
                hit(*condition);
            }
        }
    }

    #[inline]
    fn look_up(
        &self,
        value: Value,
        lower: &mut Vec<u8>,
        states: &mut States,
        hit: &mut impl FnMut(Target),
    ) {
        self.exists.iter().copied().for_each(&mut *hit);
        match value {
            Value::Null => self.null.iter().copied().for_each(hit),
            Value::True => self.yes.iter().copied().for_each(hit),
            Value::False => self.no.iter().copied().for_each(hit),
            Value::Number(written) => self.look_up_number(written, hit),
            Value::Text(text) => {
                self.texts.visit(text, hit);
                if self.any_text {
                    self.look_up_text(text, lower, states, hit);
                }
            }
        }
    }

    fn look_up_number(&self, written: &[u8], hit: &mut impl FnMut(Target)) {
        if self.any_number
            && let Some(number) = number::nearest(written)
        {
            let bits = number.to_bits().to_le_bytes();
            let bits = Text::new(&bits);
            let mut ranges = self
                .ranges
                .iter()
                .filter(|(range, _)| range.contains(number))
                .peekable();
            let relevant = self.numbers.table.get(bits).is_some() || ranges.peek().is_some();
            // Rarely asked, and dear.
            if relevant && number::is_exact(written, number) {
                self.numbers.visit(bits, hit);
                ranges.for_each(|(_, target)| hit(*target));
            }
        }
        self.written.visit(Text::new(written), hit);
    }

    fn look_up_text(
        &self,
        text: Text,
        lower: &mut Vec<u8>,
        states: &mut States,
        hit: &mut impl FnMut(Target),
    ) {
        self.prefixes.starting(text, hit);
        self.suffixes.ending(text, hit);
        if self.ignores_ascii_case() {
            lower.clear();
            lower.extend(text.bytes.iter().map(u8::to_ascii_lowercase));
            let lower = Text::new(lower);
            self.lower_texts.visit(lower, hit);
            self.lower_prefixes.starting(lower, hit);
            self.lower_suffixes.ending(lower, hit);
        }
        let text = text.bytes;
        self.look_up_folded(text, hit);
        if !self.blocks.is_empty()
            && let Some(address) = Address::parse(text)
        {
            for blocks in self
                .blocks
                .iter()
                .filter(|blocks| blocks.width == address.width)
            {
                let first = address.masked(blocks.prefix).bits.to_le_bytes();
                blocks.lists.visit(Text::new(&first), hit);
            }
        }
        if let Some(wildcards) = &self.wildcards {
            wildcards.run(text, states, hit);
        }
    }

    fn ignores_ascii_case(&self) -> bool {
        !(self.lower_texts.table.is_empty()
            && self.lower_prefixes.lengths.is_empty()
            && self.lower_suffixes.lengths.is_empty())
    }

    fn look_up_folded(&self, text: &[u8], hit: &mut impl FnMut(Target)) {
        if !self.folded_texts.is_empty()
            && let Ok(unicode) = std::str::from_utf8(text)
        {
            self.folded_keys
                .visit(Text::new(case::key(unicode).as_bytes()), &mut |number| {
                    let (folded, target) = &self.folded_texts[number as usize];
                    if folded.matches(text) {
                        hit(*target);
                    }
                });
        }
        for (folded, target) in &self.folded_prefixes {
            if folded.after_prefix(text).is_some() {
                hit(*target);
            }
        }
        for (folded, target) in &self.folded_suffixes {
            if folded.is_suffix_of(text) {
                hit(*target);
            }
        }
    }
}
