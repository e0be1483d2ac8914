//! Many patterns matched against an event in one reading of its bytes.
//!
//! # How an event is matched
//! The paths of all patterns form a tree. The event is walked along it: a member whose key no pattern names is checked to be
//! well-formed JSON and otherwise skipped; a value at the end of a path is looked up in that path's [`field::Field`], which says
//! the conditions it satisfies. A condition is a path with its list of alternatives, shared by all patterns that have it. Each
//! branch of a pattern (its `$or`s multiplied out) waits on the one of its conditions that the fewest branches share; only when
//! that one holds, its others are asked.
//!
//! Of an `anything-but` that stands alone in its list, the values that fail are counted: it holds if more values are there. So a value
//! costs what it is, not how many patterns want something else.
//!
//! # How it is read
//! Sixteen bytes at once, and an array of numbers sixty-four; a key or a value is looked up by its first sixteen bytes, held in two
//! registers. A filter that stays in the processor's caches says of nearly all that is not looked for that it is not.
//!
//! # Arrays
//! A value in an array counts for the array's path, and conditions below an array of objects must hold for values of the same
//! element (aws-semantics 7.2). `exists: false` holds if no value is at the path within the elements that the conditions on
//! earlier paths (in the order of their names) have chosen. See [`consistency`].
//!
//! # What is checked of an event
//! All of it, skipped parts too: an event is refused exactly if it is not one JSON object (RFC 8259) in UTF-8, or nests deeper
//! than [`MAX_EVENT_DEPTH`]. Half of a surrogate pair, written as an escape, is let through and equals no pattern's text. Of a
//! key that an object has more than once, the last member counts.

mod automaton;
mod build;
mod consistency;
mod field;
mod hits;
mod skip;
mod table;
mod walk;

use consistency::{Contexts, Entries};
use field::{Field, FieldScratch};
use hits::{Hit, Hits};
use table::Table;
use walk::Walk;

use super::Pattern;

/// Patterns a set may hold.
pub const MAX_PATTERNS: usize = 100_000;
/// Objects and arrays an event may nest.
pub const MAX_EVENT_DEPTH: usize = 1000;
/// Hits of conditions that are remembered for one event: values of different array elements, times the conditions each satisfies.
const MAX_HITS: usize = 1 << 22;

const NONE: u32 = u32::MAX;

/// Why a set cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// More than [`MAX_PATTERNS`].
    #[error("{0} patterns, at most {MAX_PATTERNS} fit in one set")]
    TooManyPatterns(usize),
    /// The patterns' branches have more conditions than a set can number.
    #[error("the patterns have too many conditions for one set: divide them")]
    TooManyConditions,
}

/// Why an event cannot be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The outermost value is not an object.
    #[error("Event must be a JSON object")]
    IsNoObject,
    /// The text is not JSON, or not UTF-8.
    #[error("Event is not valid JSON: error near byte {0}")]
    IsMalformed(usize),
    /// It nests deeper than [`MAX_EVENT_DEPTH`].
    #[error("Event nests deeper than {MAX_EVENT_DEPTH} levels")]
    NestsTooDeep,
    /// Its arrays combine with the patterns' conditions in more ways than are followed.
    #[error("Event has too many combinations of array elements")]
    CombinesTooMany,
}

/// Why reading stopped. It is a number so that a result of reading stays in registers: nearly all the time between two tokens would
/// else be its way through memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fault(usize);

impl Fault {
    const NESTS_TOO_DEEP: Self = Self(usize::MAX);
    const COMBINES_TOO_MANY: Self = Self(usize::MAX - 1);

    /// The text is not JSON. No text is so long that the place is taken for something else.
    fn at(place: usize) -> Self {
        Self(place)
    }
}

impl From<Fault> for EventError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NESTS_TOO_DEEP => Self::NestsTooDeep,
            Fault::COMBINES_TOO_MANY => Self::CombinesTooMany,
            Fault(place) => Self::IsMalformed(place),
        }
    }
}

/// Patterns, arranged for matching. Cheap to share between threads; each thread brings its own [`Scratch`].
#[derive(Debug)]
pub struct Set {
    nodes: Vec<Node>,
    fields: Vec<Field>,
    /// A bit for each of `waiting` that has branches: of many patterns, few lines of memory are read for an event.
    awaited: Vec<u64>,
    /// For each condition, the branches that wait on it; at the end those that wait on none.
    waiting: Vec<Waiting>,
    branches: Vec<Branch>,
    keys: Vec<Key>,
    patterns: usize,
    /// Whether any branch has more than one condition, so that array elements must be told apart.
    joins: bool,
}

/// A step of a path.
#[derive(Debug, Default)]
struct Node {
    children: Table,
    /// Whether some child has children, so that a dotted key may skip over it.
    deep: bool,
    /// What is asked of values here, or [`NONE`].
    field: u32,
}

/// Branches that wait on the same condition.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    branches: Span,
    /// Another condition that all of them need, or [`NONE`].
    partner: u32,
}

#[derive(Debug)]
struct Branch {
    pattern: u32,
    /// In the order of their paths.
    keys: Span,
}

/// A part of a list.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct Key {
    condition: u32,
    /// The condition that any value is at the path, if the kind needs it; else [`NONE`].
    presence: u32,
    kind: Kind,
}

/// When a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// If its condition does.
    Holds,
    /// If its condition does, or no value is there.
    OrAbsent,
    /// If some value is there that its condition does not hold for: `anything-but`.
    Not,
}

/// The memory one thread matches with. It grows to what the largest event needs and is then reused.
#[derive(Debug)]
pub struct Scratch {
    matched: Vec<u32>,
    /// The event in which each pattern matched last.
    is_matched: Vec<u64>,
    hits: Hits,
    /// For each step, the last object that had its key.
    keys: Vec<KeyMark>,
    object: u64,
    field: FieldScratch,
    text: Vec<u8>,
    name: Vec<u8>,
    contexts: Contexts,
    entries: Entries,
}

/// The last object that had a step's key, and the hits below it.
#[derive(Debug, Clone, Copy, Default)]
struct KeyMark {
    object: u64,
    start: u32,
    end: u32,
}

impl Set {
    /// Arranges patterns for matching. Their positions are the ids that [`Set::matches`] gives.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Result<Self, SetError> {
        build::build(patterns)
    }

    /// How many patterns the set holds.
    pub fn len(&self) -> usize {
        self.patterns
    }

    /// Whether the set holds no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns == 0
    }

    /// The memory that [`Set::matches`] works in. It fits this set only.
    pub fn scratch(&self) -> Scratch {
        Scratch {
            matched: Vec::new(),
            is_matched: vec![0; self.patterns],
            hits: Hits::new(self.waiting.len()),
            keys: vec![KeyMark::default(); self.nodes.len()],
            object: 0,
            field: FieldScratch::for_fields(self.fields.iter()),
            text: Vec::new(),
            name: Vec::new(),
            contexts: Contexts::default(),
            entries: Entries::default(),
        }
    }

    /// The ids of the patterns that `event` matches, in ascending order.
    ///
    /// `scratch` must come from [`Set::scratch`] of this set; with another set's the answer is an error or wrong, never unsafe.
    pub fn matches<'s>(
        &self,
        event: &[u8],
        scratch: &'s mut Scratch,
    ) -> Result<&'s [u32], EventError> {
        scratch.begin();
        Walk::new(self, event, scratch).event()?;
        scratch.hits.settle();
        for index in 0..scratch.hits.satisfied.len() {
            self.decide(scratch.hits.satisfied[index], scratch)?;
        }
        self.decide(self.waiting.len() as u32 - 1, scratch)?;
        scratch.matched.sort_unstable();
        Ok(&scratch.matched)
    }

    /// Decides the branches that wait on a condition.
    fn decide(&self, condition: u32, scratch: &mut Scratch) -> Result<(), EventError> {
        let (word, bit) = (condition as usize / 64, condition % 64);
        if self.awaited[word] >> bit & 1 == 0 {
            return Ok(());
        }
        let waiting = self.waiting[condition as usize];
        if waiting.partner != NONE && !scratch.hits.are_on(waiting.partner) {
            return Ok(());
        }
        for branch in &self.branches[waiting.branches.range()] {
            let keys = &self.keys[branch.keys.range()];
            let pattern = branch.pattern as usize;
            if scratch.is_matched[pattern] == scratch.hits.event || !scratch.holds(keys) {
                continue;
            }
            let alone = keys.len() < 2 || scratch.contexts.is_empty();
            if alone || consistency::holds(keys, scratch)? {
                scratch.is_matched[pattern] = scratch.hits.event;
                scratch.matched.push(branch.pattern);
            }
        }
        Ok(())
    }
}

impl Scratch {
    fn begin(&mut self) {
        self.matched.clear();
        self.hits.begin();
        self.contexts.clear();
        self.entries.clear();
    }

    /// Whether every key holds somewhere in the event, elements of arrays not told apart.
    fn holds(&self, keys: &[Key]) -> bool {
        // Behind another key, whether a value is absent can depend on the element that was chosen.
        let undecided = keys.len() > 1 && !self.contexts.is_empty();
        keys.iter().all(|key| match key.kind {
            Kind::Holds => self.hits.are_on(key.condition),
            Kind::OrAbsent => {
                undecided || self.hits.are_on(key.condition) || !self.hits.are_on(key.presence)
            }
            Kind::Not => self.hits.count(key.presence) > self.hits.count(key.condition),
        })
    }
}
