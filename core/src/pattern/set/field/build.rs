//! From the conditions on a path to its [`Field`].

use std::collections::BTreeMap;

use super::lists::{Affixes, Entries, Lists};
use super::{Blocks, COUNTS, FAILS, Field, Target};
use crate::pattern::address::Block;
use crate::pattern::case::{self, Folded};
use crate::pattern::set::automaton::AutomatonBuilder;
use crate::pattern::test::{Not, Test};

/// Where a field is put together.
#[derive(Default)]
pub(in crate::pattern::set) struct FieldBuilder {
    field: Field,
    texts: Entries,
    numbers: Entries,
    written: Entries,
    prefixes: Entries,
    suffixes: Entries,
    lower_texts: Entries,
    lower_prefixes: Entries,
    lower_suffixes: Entries,
    folded_keys: Entries,
    blocks: BTreeMap<(u8, u8), Entries>,
    wildcards: AutomatonBuilder,
}

fn add(entries: &mut Entries, key: impl Into<Vec<u8>>, target: Target) {
    let targets = entries.entry(key.into()).or_default();
    // The same text twice in one list is one alternative.
    if targets.last() != Some(&target) {
        targets.push(target);
    }
}

/// What has no other of the list as its own start (or end).
fn shortest(texts: &[String], extends: fn(&str, &str) -> bool) -> impl Iterator<Item = &String> {
    texts.iter().filter(move |text| {
        !texts
            .iter()
            .any(|other| other.len() < text.len() && extends(text, other))
    })
}

impl FieldBuilder {
    /// Adds an alternative of a condition. `Absent` is none of a field's business.
    pub(in crate::pattern::set) fn add(&mut self, test: &Test, condition: Target) {
        match test {
            Test::Absent => {}
            Test::Exists => self.field.exists.push(condition),
            Test::Null => self.field.null.push(condition),
            Test::True => self.field.yes.push(condition),
            Test::False => self.field.no.push(condition),
            Test::Text(text) => add(&mut self.texts, text.as_bytes(), condition),
            Test::Number(number) => self.number(*number, condition),
            Test::NumberAsWritten(text) => add(&mut self.written, text.as_bytes(), condition),
            Test::Range(range) => self.field.ranges.push((*range, condition)),
            Test::Prefix(text) => add(&mut self.prefixes, text.as_bytes(), condition),
            Test::Suffix(text) => add(&mut self.suffixes, text.as_bytes(), condition),
            Test::IgnoreCase(folded) => self.ignore_case(folded, condition),
            Test::PrefixIgnoreCase(folded) if folded.is_ascii() => {
                add(&mut self.lower_prefixes, lower(folded.pattern()), condition);
            }
            Test::PrefixIgnoreCase(folded) => {
                self.field.folded_prefixes.push((folded.clone(), condition));
            }
            Test::SuffixIgnoreCase(folded) if folded.is_ascii() => {
                add(&mut self.lower_suffixes, lower(folded.pattern()), condition);
            }
            Test::SuffixIgnoreCase(folded) => {
                self.field.folded_suffixes.push((folded.clone(), condition));
            }
            Test::Wildcard(wildcard) => self.wildcards.add(wildcard, condition),
            Test::Address(block) => self.block(block, condition),
            Test::AnythingBut(not) => self.anything_but(not, condition),
        }
    }

    fn number(&mut self, number: f64, target: Target) {
        add(&mut self.numbers, number.to_bits().to_le_bytes(), target);
    }

    fn ignore_case(&mut self, folded: &Folded, target: Target) {
        if folded.is_ascii() {
            return add(&mut self.lower_texts, lower(folded.pattern()), target);
        }
        let number = self.field.folded_texts.len() as u32;
        self.field.folded_texts.push((folded.clone(), target));
        add(&mut self.folded_keys, case::key(folded.pattern()), number);
    }

    fn block(&mut self, block: &Block, target: Target) {
        let lists = self
            .blocks
            .entry((block.first.width, block.prefix))
            .or_default();
        add(lists, block.first.bits.to_le_bytes(), target);
    }

    /// Adds the condition that any value is there, which counts.
    pub(in crate::pattern::set) fn count_values(&mut self, condition: Target) {
        self.field.exists.push(condition | COUNTS);
    }

    /// Adds the condition that an `anything-but` does not hold for a value, which counts. Only one that [`Not::fails_once`].
    pub(in crate::pattern::set) fn count_failures(&mut self, not: &Not, condition: Target) {
        self.failures(not, condition | COUNTS);
    }

    fn anything_but(&mut self, not: &Not, condition: Target) {
        let target = self.field.negatives.len() as u32 | FAILS;
        self.field.negatives.push(condition);
        self.failures(not, target);
    }

    fn failures(&mut self, not: &Not, target: Target) {
        match not {
            Not::Texts(texts) => {
                for text in texts {
                    add(&mut self.texts, text.as_bytes(), target);
                }
            }
            Not::Numbers(numbers) => {
                for number in numbers {
                    self.number(*number, target);
                }
            }
            // Of prefixes that extend each other the shortest decides, so that a value fails once.
            Not::Prefixes(texts) => {
                for text in shortest(texts, |text, other| text.starts_with(other)) {
                    add(&mut self.prefixes, text.as_bytes(), target);
                }
            }
            Not::Suffixes(texts) => {
                for text in shortest(texts, |text, other| text.ends_with(other)) {
                    add(&mut self.suffixes, text.as_bytes(), target);
                }
            }
            Not::IgnoreCase(texts) => {
                for folded in texts {
                    self.ignore_case(folded, target);
                }
            }
            Not::Wildcards(wildcards) => {
                for wildcard in wildcards {
                    self.wildcards.add(wildcard, target);
                }
            }
        }
    }

    pub(in crate::pattern::set) fn build(self) -> Field {
        let mut field = self.field;
        field.texts = Lists::new(&self.texts);
        field.numbers = Lists::new(&self.numbers);
        field.written = Lists::new(&self.written);
        field.prefixes = Affixes::new(&self.prefixes);
        field.suffixes = Affixes::new(&self.suffixes);
        field.lower_texts = Lists::new(&self.lower_texts);
        field.lower_prefixes = Affixes::new(&self.lower_prefixes);
        field.lower_suffixes = Affixes::new(&self.lower_suffixes);
        field.folded_keys = Lists::new(&self.folded_keys);
        field.wildcards = self.wildcards.build();
        field.blocks = self
            .blocks
            .into_iter()
            .map(|((width, prefix), lists)| Blocks {
                width,
                prefix,
                lists: Lists::new(&lists),
            })
            .collect();
        field.any_number = !field.numbers.table.is_empty() || !field.ranges.is_empty();
        field.any_text = field.more_than_equal_texts();
        field.only_texts = !field.any_text && field.exists.is_empty() && field.negatives.is_empty();
        field
    }
}

fn lower(text: &str) -> Vec<u8> {
    text.to_ascii_lowercase().into_bytes()
}
