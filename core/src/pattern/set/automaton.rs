//! All wildcards of a field in one pass over the value.
//!
//! Each wildcard is a row of places, one behind each of its literals; a bit says that the text so far can lead there. Reading a
//! byte shifts all bits by one where the byte is the next literal, and keeps those before a star: a few word operations for
//! 64 places, whatever the text. Its cost is known before any event is: there are no states to build or to run out of.

use crate::pattern::wildcard::Wildcard;

use super::field::Target;

#[derive(Debug, Default)]
pub(super) struct States {
    words: Vec<u64>,
}

#[derive(Default)]
pub(super) struct AutomatonBuilder {
    wildcards: Vec<(Wildcard, Target)>,
}

impl AutomatonBuilder {
    pub(super) fn add(&mut self, wildcard: &Wildcard, target: Target) {
        self.wildcards.push((wildcard.clone(), target));
    }

    pub(super) fn build(self) -> Option<Automaton> {
        if self.wildcards.is_empty() {
            return None;
        }
        let places: usize = self
            .wildcards
            .iter()
            .map(|(wildcard, _)| wildcard.literals.len() + 1)
            .sum();
        let words = places.div_ceil(64);
        let mut automaton = Automaton {
            words,
            start: vec![0; words].into(),
            stays: vec![0; words].into(),
            enters: vec![0; words * 256].into(),
            ends: Vec::new(),
        };
        let mut place = 0;
        for (wildcard, target) in &self.wildcards {
            set(&mut automaton.start, place);
            for literals in &wildcard.stars {
                set(&mut automaton.stays, place + literals);
            }
            for (index, literal) in wildcard.literals.iter().enumerate() {
                let row = usize::from(*literal) * words;
                set(&mut automaton.enters[row..row + words], place + index + 1);
            }
            place += wildcard.literals.len();
            automaton.ends.push((place as u32, *target));
            place += 1;
        }
        Some(automaton)
    }
}

fn set(bits: &mut [u64], at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

#[derive(Debug)]
pub(super) struct Automaton {
    /// Words that a set of places takes.
    words: usize,
    start: Box<[u64]>,
    /// Places before a star.
    stays: Box<[u64]>,
    /// For each byte, the places it leads to.
    enters: Box<[u64]>,
    /// The last place of each wildcard.
    ends: Vec<(u32, Target)>,
}

impl Automaton {
    pub(super) fn run(&self, text: &[u8], states: &mut States, hit: &mut impl FnMut(Target)) {
        let places = &mut states.words;
        places.clear();
        places.extend_from_slice(&self.start);
        for byte in text {
            let row = usize::from(*byte) * self.words;
            let enters = &self.enters[row..row + self.words];
            let mut carry = 0;
            let mut any = 0;
            for ((word, enter), stay) in places.iter_mut().zip(enters).zip(&self.stays) {
                let moved = (*word << 1 | carry) & enter;
                carry = *word >> 63;
                *word = moved | (*word & stay);
                any |= *word;
            }
            if any == 0 {
                return;
            }
        }
        for (place, target) in &self.ends {
            if places[*place as usize / 64] >> (place % 64) & 1 == 1 {
                hit(*target);
            }
        }
    }
}
