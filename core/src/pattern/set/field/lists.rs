//! Tables whose values are targets.

// A call for a byte or two would cost more than its work.
#![allow(clippy::inline_always)]

use std::collections::BTreeMap;

use super::{LIST, Target};
use crate::pattern::set::table::{Table, Text};

/// What a table is made of.
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<Target>>;

/// Keys with their targets; nearly always one each.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) table: Table,
    lists: Vec<Box<[Target]>>,
}

impl Lists {
    pub(super) fn new(entries: &Entries) -> Self {
        let mut lists = Vec::new();
        let value = |targets: &Vec<Target>| match **targets {
            [target] => target,
            ref several => {
                lists.push(several.into());
                (lists.len() as u32 - 1) | LIST
            }
        };
        let values: Vec<_> = entries.values().map(value).collect();
        let table = Table::new(entries.keys().map(Vec::as_slice).zip(values));
        Self { table, lists }
    }

    /// Calls `hit` for each target of `key`; whether there is any.
    #[inline(always)]
    pub(super) fn visit(&self, key: Text, hit: &mut impl FnMut(Target)) -> bool {
        let Some(target) = self.table.get(key) else {
            return false;
        };
        if target & LIST == 0 {
            hit(target);
        } else {
            self.lists[(target & !LIST) as usize]
                .iter()
                .copied()
                .for_each(hit);
        }
        true
    }
}

/// Prefixes or suffixes.
#[derive(Debug, Default)]
pub(super) struct Affixes {
    lists: Lists,
    /// In ascending order.
    pub(super) lengths: Box<[usize]>,
}

impl Affixes {
    pub(super) fn new(entries: &Entries) -> Self {
        let mut lengths: Vec<_> = entries.keys().map(Vec::len).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self {
            lists: Lists::new(entries),
            lengths: lengths.into(),
        }
    }

    fn fitting(&self, text: Text) -> impl Iterator<Item = usize> {
        let longest = text.bytes.len();
        self.lengths
            .iter()
            .copied()
            .take_while(move |length| *length <= longest)
    }

    #[inline]
    pub(super) fn starting(&self, text: Text, hit: &mut impl FnMut(Target)) {
        for length in self.fitting(text) {
            self.lists.visit(text.prefix(length), hit);
        }
    }

    #[inline]
    pub(super) fn ending(&self, text: Text, hit: &mut impl FnMut(Target)) {
        for length in self.fitting(text) {
            let suffix = &text.bytes[text.bytes.len() - length..];
            self.lists.visit(Text::new(suffix), hit);
        }
    }
}
