//! From patterns to a [`Set`].

use std::collections::HashMap;
use std::sync::Arc;

use super::field::{FieldBuilder, MAX_CONDITIONS};
use super::{Branch, Key, Kind, MAX_PATTERNS, NONE, Node, Set, SetError, Span, Table, Waiting};
use crate::pattern::Pattern;
use crate::pattern::grammar::Path;
use crate::pattern::test::{Not, Test};

/// A step while the tree grows.
#[derive(Default)]
struct Step {
    children: HashMap<Vec<u8>, usize>,
    field: Option<usize>,
}

#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
    fields: Vec<FieldBuilder>,
    conditions: u32,
    /// By the path's field and the text of the alternatives: tests have no order or hash of their own.
    known: HashMap<(usize, String), u32>,
    /// The same by address, to spare the text where branches share a list.
    shared: HashMap<(usize, *const Test), u32>,
    /// For each field, the condition that any value is there.
    presence: HashMap<usize, u32>,
    /// The pattern and the keys of each branch.
    branches: Vec<(u32, Vec<Key>)>,
}

pub(super) fn build<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Result<Set, SetError> {
    let patterns: Vec<_> = patterns.into_iter().collect();
    if patterns.len() > MAX_PATTERNS {
        return Err(SetError::TooManyPatterns(patterns.len()));
    }
    let mut builder = Builder {
        steps: vec![Step::default()],
        ..Builder::default()
    };
    for (number, pattern) in patterns.iter().enumerate() {
        for branch in &pattern.branches {
            let keys = branch
                .iter()
                .map(|(path, list)| builder.key(path, &list.tests))
                .collect::<Result<Vec<_>, _>>()?;
            builder.branches.push((number as u32, keys));
        }
    }
    Ok(builder.finish(patterns.len()))
}

/// The only alternative, if it is an `anything-but` whose failures can be counted. Then a value costs what fails for it, not what
/// holds, which is nearly all of them.
fn counted(tests: &[Test]) -> Option<&Not> {
    match tests {
        [Test::AnythingBut(not)] if not.fails_once() => Some(not),
        _ => None,
    }
}

/// A condition that all the branches need besides the one they wait on, or [`NONE`].
fn partner(awaited: u32, branches: &[(u32, Vec<Key>)]) -> u32 {
    let need = |keys: &[Key], condition| keys.iter().any(|key| key.needed() == Some(condition));
    let [(_, first), rest @ ..] = branches else {
        return NONE;
    };
    let candidates = first.iter().filter_map(Key::needed);
    candidates
        .filter(|candidate| *candidate != awaited)
        .find(|candidate| rest.iter().all(|(_, keys)| need(keys, *candidate)))
        .unwrap_or(NONE)
}

impl Key {
    /// A condition that is on wherever the key holds.
    fn needed(&self) -> Option<u32> {
        match self.kind {
            Kind::Holds => Some(self.condition),
            Kind::Not => Some(self.presence),
            Kind::OrAbsent => None,
        }
    }
}

impl Builder {
    fn key(&mut self, path: &Path, tests: &Arc<[Test]>) -> Result<Key, SetError> {
        let field = self.field(path);
        let shared = (field, tests.as_ptr());
        let condition = if let Some(known) = self.shared.get(&shared) {
            *known
        } else {
            let condition = self.condition(field, tests)?;
            self.shared.insert(shared, condition);
            condition
        };
        let kind = if tests.contains(&Test::Absent) {
            Kind::OrAbsent
        } else if counted(tests).is_some() {
            Kind::Not
        } else {
            Kind::Holds
        };
        let presence = if kind == Kind::Holds {
            NONE
        } else {
            self.presence(field)?
        };
        Ok(Key {
            condition,
            presence,
            kind,
        })
    }

    fn field(&mut self, path: &Path) -> usize {
        let mut at = 0;
        for name in path.0.split('.') {
            let new = self.steps.len();
            at = *self.steps[at]
                .children
                .entry(name.as_bytes().to_vec())
                .or_insert(new);
            if at == new {
                self.steps.push(Step::default());
            }
        }
        let new = self.fields.len();
        let field = *self.steps[at].field.get_or_insert(new);
        if field == new {
            self.fields.push(FieldBuilder::default());
        }
        field
    }

    fn condition(&mut self, field: usize, tests: &[Test]) -> Result<u32, SetError> {
        let text = format!("{tests:?}");
        if let Some(known) = self.known.get(&(field, text.clone())) {
            return Ok(*known);
        }
        let condition = self.number()?;
        let builder = &mut self.fields[field];
        if let Some(not) = counted(tests) {
            builder.count_failures(not, condition);
        } else if *tests == [Test::Exists] {
            builder.count_values(condition);
        } else {
            for test in tests {
                builder.add(test, condition);
            }
        }
        self.known.insert((field, text), condition);
        Ok(condition)
    }

    fn presence(&mut self, field: usize) -> Result<u32, SetError> {
        if let Some(known) = self.presence.get(&field) {
            return Ok(*known);
        }
        let condition = self.condition(field, &[Test::Exists])?;
        self.presence.insert(field, condition);
        Ok(condition)
    }

    fn number(&mut self) -> Result<u32, SetError> {
        if self.conditions == MAX_CONDITIONS {
            return Err(SetError::TooManyConditions);
        }
        self.conditions += 1;
        Ok(self.conditions - 1)
    }

    fn finish(mut self, patterns: usize) -> Set {
        let mut sharing = vec![0_u32; self.conditions as usize];
        for awaitable in self.branches.iter().flat_map(|(_, keys)| keys) {
            if let Some(condition) = awaitable.needed() {
                sharing[condition as usize] += 1;
            }
        }
        // A branch waits on the condition that the fewest share; branches that wait on one stand together, those that wait on
        // none at the end.
        let awaited = |keys: &[Key]| {
            let needed = keys.iter().filter_map(Key::needed);
            let rarest = needed.min_by_key(|condition| sharing[*condition as usize]);
            rarest.unwrap_or(NONE)
        };
        self.branches.sort_by_cached_key(|(_, keys)| awaited(keys));
        let none = Waiting {
            branches: Span::default(),
            partner: NONE,
        };
        let mut waiting = vec![none; self.conditions as usize + 1];
        let (mut branches, mut all_keys) = (Vec::new(), Vec::new());
        for (number, (pattern, keys)) in self.branches.iter().enumerate() {
            let span = &mut waiting[awaited(keys).min(self.conditions) as usize].branches;
            if span.is_empty() {
                span.start = number as u32;
            }
            span.end = number as u32 + 1;
            let start = all_keys.len() as u32;
            all_keys.extend_from_slice(keys);
            let keys = Span {
                start,
                end: all_keys.len() as u32,
            };
            branches.push(Branch {
                pattern: *pattern,
                keys,
            });
        }
        let mut awaited = vec![0; waiting.len().div_ceil(64)];
        for (condition, waiting) in waiting.iter_mut().enumerate() {
            let waits = &self.branches[waiting.branches.range()];
            if !waits.is_empty() {
                awaited[condition / 64] |= 1 << (condition % 64);
                waiting.partner = partner(condition as u32, waits);
            }
        }
        let nodes = self
            .steps
            .iter()
            .map(|step| Node {
                children: Table::new(
                    step.children
                        .iter()
                        .map(|(name, at)| (name.as_slice(), *at as u32)),
                ),
                deep: step
                    .children
                    .values()
                    .any(|at| !self.steps[*at].children.is_empty()),
                field: step.field.map_or(NONE, |field| field as u32),
            })
            .collect();
        Set {
            nodes,
            fields: self.fields.into_iter().map(FieldBuilder::build).collect(),
            awaited,
            waiting,
            joins: self.branches.iter().any(|(_, keys)| keys.len() > 1),
            branches,
            keys: all_keys,
            patterns,
        }
    }
}
