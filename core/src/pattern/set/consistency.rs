//! Whether conditions hold for the same elements of arrays.
//!
//! Each object or array that is an element of an array opens a *context* inside the one around it. Two values go together if no
//! array has them in different elements: where the ways from the event to their contexts part, they part into different arrays.
//!
//! The keys of a branch are taken in the order of their paths, keeping all sets of elements that can be chosen so far. An array
//! that no later key reaches into is forgotten, so that usually few sets are left.

use super::{EventError, Hit, Key, Kind, Scratch, Span};

/// The context outside any array.
pub(super) const ROOT: u32 = 0;

/// Sets of elements that are followed for one branch.
const MAX_SETS: usize = 1 << 20;

/// The array elements of an event. A context's number is less than those of the contexts inside it.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    contexts: Vec<Context>,
    arrays: Vec<Array>,
}

#[derive(Debug, Clone, Copy)]
struct Context {
    parent: u32,
    array: u32,
    /// One more than the last context inside.
    end: u32,
}

/// The contexts that an array's elements opened are those from `start` up to `end`.
#[derive(Debug, Clone, Copy)]
struct Array {
    start: u32,
    end: u32,
}

impl Contexts {
    pub(super) fn clear(&mut self) {
        self.contexts.clear();
        self.arrays.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    fn next(&self) -> u32 {
        self.contexts.len() as u32 + 1
    }

    pub(super) fn open_array(&mut self) -> u32 {
        let start = self.next();
        self.arrays.push(Array { start, end: start });
        self.arrays.len() as u32 - 1
    }

    pub(super) fn close_array(&mut self, array: u32) {
        self.arrays[array as usize].end = self.next();
    }

    pub(super) fn open(&mut self, parent: u32, array: u32) -> u32 {
        let context = self.next();
        self.contexts.push(Context {
            parent,
            array,
            end: context + 1,
        });
        context
    }

    pub(super) fn close(&mut self, context: u32) {
        let end = self.next();
        self.contexts[context as usize - 1].end = end;
    }

    /// None outside any array.
    fn get(&self, context: u32) -> Option<&Context> {
        self.contexts.get((context as usize).wrapping_sub(1))
    }

    fn end(&self, context: u32) -> u32 {
        self.get(context).map_or(self.next(), |context| context.end)
    }

    fn is_inside(&self, inner: u32, outer: u32) -> bool {
        (outer..self.end(outer)).contains(&inner)
    }

    /// Whether no array has the two in different elements.
    fn go_together(&self, a: u32, b: u32) -> bool {
        let mut way = a;
        // The innermost context around both is the first around `a` that `b` is in.
        let mut parting = None;
        while !self.is_inside(b, way) {
            let Some(context) = self.get(way) else {
                return true;
            };
            parting = Some(context.array);
            way = context.parent;
        }
        let Some(array) = parting.map(|array| self.arrays[array as usize]) else {
            return true;
        };
        !(array.start..array.end).contains(&b)
    }
}

/// The hits of an event in order, and room to follow a branch.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// One for each condition and context; behind them, for the branch that is followed, where its [`Kind::Not`] keys hold.
    sorted: Vec<Hit>,
    is_sorted: bool,
    /// How many there are without those.
    conditions: usize,
    /// The hits of each key of the branch.
    keys: Vec<KeyHits>,
    /// For each array, one more than the last key that reaches into it; 0 for none.
    last_key: Vec<u32>,
    now: Sets,
    next: Sets,
    set: Vec<u32>,
}

impl Entries {
    pub(super) fn clear(&mut self) {
        self.is_sorted = false;
    }

    /// Gathers the hits of a branch's keys.
    fn gather(&mut self, keys: &[Key], log: &[Hit]) {
        if !self.is_sorted {
            self.sorted.clear();
            self.sorted.extend_from_slice(log);
            self.sorted.sort_unstable();
            self.sorted.dedup_by(|again, hit| {
                let same = hit.is(again.condition, again.context);
                if same {
                    hit.count += again.count;
                }
                same
            });
            self.is_sorted = true;
            self.conditions = self.sorted.len();
        }
        self.sorted.truncate(self.conditions);
        self.keys.clear();
        for key in keys {
            let hits = match key.kind {
                Kind::Holds => KeyHits {
                    holds: self.of(key.condition),
                    present: Span::default(),
                },
                Kind::OrAbsent => KeyHits {
                    holds: self.of(key.condition),
                    present: self.of(key.presence),
                },
                Kind::Not => KeyHits {
                    holds: self.without(self.of(key.presence), self.of(key.condition)),
                    present: Span::default(),
                },
            };
            self.keys.push(hits);
        }
    }

    /// The hits of a condition, ascending by context.
    fn of(&self, condition: u32) -> Span {
        let sorted = &self.sorted[..self.conditions];
        let start = sorted.partition_point(|hit| hit.condition < condition);
        let length = sorted[start..].partition_point(|hit| hit.condition == condition);
        Span {
            start: start as u32,
            end: (start + length) as u32,
        }
    }

    /// Adds hits where more values are than fail.
    fn without(&mut self, values: Span, failing: Span) -> Span {
        let start = self.sorted.len() as u32;
        let mut failures = failing.range().peekable();
        for value in values.range() {
            let value = self.sorted[value];
            // Wherever a value fails there is one.
            let fails = failures.next_if(|failure| self.sorted[*failure].context == value.context);
            if fails.is_none_or(|failure| self.sorted[failure].count < value.count) {
                self.sorted.push(value);
            }
        }
        Span {
            start,
            end: self.sorted.len() as u32,
        }
    }

    fn at(&self, span: Span) -> &[Hit] {
        &self.sorted[span.range()]
    }
}

/// Where a key holds, and where it would hold if no value were there.
#[derive(Debug, Clone, Copy)]
struct KeyHits {
    holds: Span,
    present: Span,
}

/// Sets of contexts, each ascending and none inside another of its set.
#[derive(Debug, Default)]
struct Sets {
    members: Vec<u32>,
    ends: Vec<u32>,
    order: Vec<u32>,
}

impl Sets {
    fn clear(&mut self) {
        self.members.clear();
        self.ends.clear();
    }

    fn push(&mut self, set: &[u32]) {
        // Neighbours are often the same.
        if !self.ends.is_empty() && self.get(self.ends.len() - 1) == set {
            return;
        }
        self.members.extend_from_slice(set);
        self.ends.push(self.members.len() as u32);
    }

    fn get(&self, index: usize) -> &[u32] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.members[start as usize..self.ends[index] as usize]
    }

    fn deduplicate_into(&mut self, distinct: &mut Self) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.ends.len() as u32);
        order.sort_unstable_by(|a, b| self.get(*a as usize).cmp(self.get(*b as usize)));
        distinct.clear();
        for index in &order {
            distinct.push(self.get(*index as usize));
        }
        self.order = order;
    }
}

/// Whether the keys hold for one choice of elements. Each holds for some.
pub(super) fn holds(keys: &[Key], scratch: &mut Scratch) -> Result<bool, EventError> {
    let Scratch {
        hits,
        contexts,
        entries,
        ..
    } = scratch;
    entries.gather(keys, &hits.log);
    find_last_keys(contexts, entries);

    entries.now.clear();
    entries.now.push(&[]);
    // An empty set is stored as nothing but an end.
    for (index, key) in keys.iter().enumerate() {
        let hits = entries.keys[index];
        let mut next = std::mem::take(&mut entries.next);
        let mut set = std::mem::take(&mut entries.set);
        next.clear();
        for number in 0..entries.now.ends.len() {
            let chosen = entries.now.get(number);
            let mut add = |context: u32| {
                set.clear();
                set.extend(
                    chosen
                        .iter()
                        .chain([&context])
                        .copied()
                        .filter_map(|context| {
                            still_needed(context, index, contexts, &entries.last_key)
                        }),
                );
                set.sort_unstable();
                set.dedup();
                outermost_dropped(&mut set, contexts);
                next.push(&set);
                next.ends.len() <= MAX_SETS
            };
            let mut complete = true;
            for_each_together(chosen, entries.at(hits.holds), contexts, &mut |context| {
                complete = add(context);
                complete
            });
            let mut present = false;
            for_each_together(chosen, entries.at(hits.present), contexts, &mut |_| {
                present = true;
                false
            });
            if key.kind == Kind::OrAbsent && !present {
                complete &= add(ROOT);
            }
            if !complete {
                return Err(EventError::CombinesTooMany);
            }
        }
        next.deduplicate_into(&mut entries.now);
        entries.next = next;
        entries.set = set;
        if entries.now.ends.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn find_last_keys(contexts: &Contexts, entries: &mut Entries) {
    let mut last_key = std::mem::take(&mut entries.last_key);
    last_key.clear();
    last_key.resize(contexts.arrays.len(), 0);
    for (index, key) in entries.keys.iter().enumerate() {
        let last = index as u32 + 1;
        for hit in entries.at(key.holds).iter().chain(entries.at(key.present)) {
            let mut way = contexts.get(hit.context);
            while let Some(context) = way {
                let known = &mut last_key[context.array as usize];
                if *known == last {
                    break;
                }
                *known = last;
                way = contexts.get(context.parent);
            }
        }
    }
    entries.last_key = last_key;
}

/// The innermost context around `context` whose array a key behind `index` reaches into.
fn still_needed(context: u32, index: usize, contexts: &Contexts, last_key: &[u32]) -> Option<u32> {
    let mut at = context;
    loop {
        let found = contexts.get(at)?;
        if last_key[found.array as usize] as usize > index + 1 {
            return Some(at);
        }
        at = found.parent;
    }
}

/// Drops contexts that have another of the set inside.
fn outermost_dropped(set: &mut Vec<u32>, contexts: &Contexts) {
    // What is inside a context follows it in order.
    for index in (1..set.len()).rev() {
        if contexts.is_inside(set[index], set[index - 1]) {
            set.remove(index - 1);
        }
    }
}

/// Calls `each` for the contexts among `hits` that go together with all of `chosen`, until it says no.
fn for_each_together(
    chosen: &[u32],
    hits: &[Hit],
    contexts: &Contexts,
    each: &mut impl FnMut(u32) -> bool,
) {
    let Some(first) = chosen.first() else {
        hits.iter().all(|hit| each(hit.context));
        return;
    };
    let rest = &chosen[1..];
    let mut among = |from: u32, to: u32| {
        let start = hits.partition_point(|hit| hit.context < from);
        let within = hits[start..].iter().take_while(|hit| hit.context < to);
        within
            .filter(|hit| {
                rest.iter()
                    .all(|other| contexts.go_together(*other, hit.context))
            })
            .all(|hit| each(hit.context))
    };
    // Inside the chosen context; then, going outward, each context around it without the array the way came through.
    if !among(*first, contexts.end(*first)) {
        return;
    }
    let mut at = *first;
    while let Some(context) = contexts.get(at) {
        let array = contexts.arrays[context.array as usize];
        let around = context.parent;
        if !(among(around, array.start) && among(array.end, contexts.end(around))) {
            return;
        }
        at = around;
    }
}
