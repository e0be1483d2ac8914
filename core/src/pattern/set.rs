//! Many patterns matched against an event in one reading of its bytes.
//!
//! # How an event is matched
//! The paths of all patterns form a tree. The event is walked along it: a member whose key no pattern names is checked to be
//! well-formed JSON and otherwise skipped; a value at the end of a path is looked up in that path's [`field::Field`], which says
//! the conditions it satisfies. A condition is a path with its list of alternatives, shared by all patterns that have it. Each
//! branch of a pattern (its `$or`s multiplied out) waits on the one of its conditions that the fewest branches share; only when
//! that one holds, its others are asked.
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
mod skip;
mod table;
mod walk;

use consistency::{Contexts, Entries};
use field::{Field, FieldScratch};
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

/// Patterns, arranged for matching. Cheap to share between threads; each thread brings its own [`Scratch`].
#[derive(Debug)]
pub struct Set {
    nodes: Vec<Node>,
    fields: Vec<Field>,
    /// For each condition, the branches that wait on it; at the end those that wait on none.
    waiting: Vec<Span>,
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
    /// The condition that any value is at the path, if the key also holds without one; else [`NONE`].
    presence: u32,
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

/// The conditions that hold somewhere in an event.
#[derive(Debug)]
struct Hits {
    /// Counts events, so that nothing needs to be reset between them.
    event: u64,
    satisfied: Vec<u32>,
    marks: Vec<Mark>,
    log: Vec<Hit>,
    /// Whether a repeated key took hits back.
    retracted: bool,
}

/// The last hit of a condition.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    event: u64,
    hit: u32,
}

/// A condition satisfied by a value in a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    condition: u32,
    context: u32,
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
            hits: Hits {
                event: 0,
                satisfied: Vec::new(),
                marks: vec![Mark::default(); self.waiting.len()],
                log: Vec::new(),
                retracted: false,
            },
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
        for branch in &self.branches[self.waiting[condition as usize].range()] {
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
        keys.iter().all(|key| {
            self.hits.are_on(key.condition)
                || key.presence != NONE && (undecided || !self.hits.are_on(key.presence))
        })
    }
}

impl Hits {
    fn begin(&mut self) {
        self.event += 1;
        self.satisfied.clear();
        self.log.clear();
        self.retracted = false;
    }

    fn hit(&mut self, condition: u32, context: u32) {
        let hit = Hit { condition, context };
        let mark = &mut self.marks[condition as usize];
        if mark.event != self.event {
            self.satisfied.push(condition);
        } else if self.log.get(mark.hit as usize) == Some(&hit) {
            return;
        }
        *mark = Mark {
            event: self.event,
            hit: self.log.len() as u32,
        };
        self.log.push(hit);
    }

    fn are_on(&self, condition: u32) -> bool {
        self.marks[condition as usize].event == self.event
    }

    /// Takes back the hits of a member whose key came again.
    #[cold]
    fn retract(&mut self, hits: std::ops::Range<usize>) {
        for hit in &mut self.log[hits] {
            hit.condition = NONE;
            self.retracted = true;
        }
    }

    /// Drops the hits that were taken back.
    fn settle(&mut self) {
        if !self.retracted {
            return;
        }
        self.event += 1;
        self.satisfied.clear();
        self.log.retain(|hit| hit.condition != NONE);
        for (index, hit) in self.log.iter().enumerate() {
            let mark = &mut self.marks[hit.condition as usize];
            if mark.event != self.event {
                self.satisfied.push(hit.condition);
            }
            *mark = Mark {
                event: self.event,
                hit: index as u32,
            };
        }
    }
}
