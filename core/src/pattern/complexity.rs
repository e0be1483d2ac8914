//! How costly a pattern's wildcards can become, and the limit AWS sets.
//!
//! The measure is event-ruler's: the largest number of places, over all wildcards of a list, at which a matcher could stand at
//! once after reading some text. `*a*` has 3, `*:*:*:*:*:event-bus/*` has 11. EventBridge was seen to accept 7 and to refuse 11;
//! 10 is the limit event-ruler's documentation suggests.

use std::collections::{BTreeMap, HashSet, VecDeque};

use super::error::PatternError;
use super::grammar::{Branch, List, Path};
use super::test::{Not, Test};
use super::wildcard::Wildcard;

const MAX_COMPLEXITY: usize = 10;
/// Sets of places that are looked at. Beyond, the wildcards are too complex as well.
const MAX_SETS: usize = 20_000;

pub(super) fn check(branches: &[Branch]) -> Result<(), PatternError> {
    let too_complex = lists(branches)
        .into_iter()
        .any(|tests| exceeds_limit(&tests));
    if too_complex {
        return Err(PatternError::of(
            "Rule is too complex - try using fewer wildcard characters or fewer repeating character sequences after a wildcard character",
        ));
    }
    Ok(())
}

type Members<'a> = Vec<(&'a Path, &'a List)>;

/// The tests that are compared with the same value: those of branches that agree in all paths before.
fn lists(branches: &[Branch]) -> Vec<Vec<Test>> {
    let mut lists: Vec<(Members, &Path, Vec<Test>)> = Vec::new();
    let with_wildcards = branches.iter().filter(|branch| {
        branch
            .values()
            .any(|list| list.tests.iter().any(|test| wildcards(test).is_some()))
    });
    for branch in with_wildcards {
        let members: Vec<_> = branch.iter().collect();
        for (at, (path, list)) in members.iter().enumerate() {
            let found = list.tests.iter().filter(|test| wildcards(test).is_some());
            let before = &members[..at];
            match lists.iter_mut().find(|(b, p, _)| b == before && p == path) {
                Some((_, _, known)) => {
                    for test in found {
                        if !known.contains(test) {
                            known.push(test.clone());
                        }
                    }
                }
                None => lists.push((before.to_vec(), path, found.cloned().collect())),
            }
        }
    }
    lists
        .into_iter()
        .map(|(_, _, list)| list)
        .filter(|list| !list.is_empty())
        .collect()
}

fn wildcards(test: &Test) -> Option<&[Wildcard]> {
    match test {
        Test::Wildcard(wildcard) => Some(std::slice::from_ref(wildcard)),
        Test::AnythingBut(Not::Wildcards(wildcards)) => Some(wildcards),
        _ => None,
    }
}

/// A place in a tree of wildcards that share their beginnings.
#[derive(Default)]
struct Place {
    literals: BTreeMap<u8, usize>,
    /// The place that a star leads to; it leads to itself by any byte.
    star: Option<usize>,
    is_star: bool,
    /// The tests whose wildcards pass here.
    tests: Vec<usize>,
}

fn tree(tests: &[Test]) -> Vec<Place> {
    let mut places = vec![Place::default()];
    for (number, test) in tests.iter().enumerate() {
        for wildcard in wildcards(test).unwrap_or_default() {
            let quoted = std::iter::once(b'"')
                .chain(wildcard.literals.iter().copied())
                .chain([b'"']);
            let mut at = 0;
            for (index, byte) in quoted.enumerate() {
                // The opening quote shifts the stars by one.
                if index > 0 && wildcard.has_star_after(index - 1) {
                    at = step(&mut places, at, number, None);
                }
                at = step(&mut places, at, number, Some(byte));
            }
        }
    }
    places
}

fn step(places: &mut Vec<Place>, from: usize, test: usize, literal: Option<u8>) -> usize {
    let new = places.len();
    let to = match literal {
        Some(byte) => *places[from].literals.entry(byte).or_insert(new),
        None => *places[from].star.get_or_insert(new),
    };
    if to == new {
        places.push(Place {
            is_star: literal.is_none(),
            ..Place::default()
        });
    }
    if !places[to].tests.contains(&test) {
        places[to].tests.push(test);
    }
    to
}

fn exceeds_limit(tests: &[Test]) -> bool {
    let places = tree(tests);
    let mut alphabet: Vec<Option<u8>> = places
        .iter()
        .flat_map(|place| place.literals.keys().copied().map(Some))
        .collect();
    // Any byte that no wildcard names.
    alphabet.push(None);
    alphabet.sort_unstable();
    alphabet.dedup();

    let mut seen = HashSet::from([vec![0]]);
    let mut queue = VecDeque::from([vec![0]]);
    while let Some(set) = queue.pop_front() {
        for byte in &alphabet {
            let next = advance(&places, &set, *byte);
            if size(&places, &next) > MAX_COMPLEXITY || seen.len() > MAX_SETS {
                return true;
            }
            if !next.is_empty() && seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    false
}

fn advance(places: &[Place], set: &[usize], byte: Option<u8>) -> Vec<usize> {
    let mut next = Vec::new();
    for at in set {
        let place = &places[*at];
        if place.is_star {
            next.push(*at);
        }
        let behind_star = place.star.map(|star| &places[star]);
        next.extend(place.star);
        if let Some(byte) = byte {
            next.extend(place.literals.get(&byte));
            next.extend(behind_star.and_then(|star| star.literals.get(&byte)));
        }
    }
    next.sort_unstable();
    next.dedup();
    next
}

fn size(places: &[Place], set: &[usize]) -> usize {
    let unread_stars = set
        .iter()
        .filter_map(|at| places[*at].star)
        .filter(|star| !set.contains(star));
    set.iter()
        .copied()
        .chain(unread_stars)
        .map(|at| places[at].tests.len())
        .sum()
}
