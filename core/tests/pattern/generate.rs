//! Patterns and events that often nearly match: few keys, few values, much nesting.

use fastrand::Rng;
use serde_json::{Map, Value, json};

const NAMES: [&str; 3] = ["k1", "k2", "k3"];
const TEXTS: [&str; 16] = [
    "",
    "a",
    "b",
    "A",
    "ab",
    "AB",
    "aab",
    "abab",
    "10.0.0.1",
    "10.1.2.3",
    "2001:db8::1",
    "é",
    "É",
    "ß",
    "SS",
    "a*b",
];
const NUMBERS: [f64; 6] = [0.0, 1.0, 2.0, -1.0, 1.5, 1e3];
const BLOCKS: [&str; 4] = ["10.0.0.0/24", "10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"];

fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

fn text(random: &mut Rng) -> Value {
    one(random, &TEXTS).into()
}

fn scalar(random: &mut Rng) -> Value {
    match random.u8(..10) {
        0..6 => text(random),
        6..8 => one(random, &NUMBERS).into(),
        _ => one(random, &[Some(true), Some(false), None]).into(),
    }
}

fn list(random: &mut Rng, least: usize, mut item: impl FnMut(&mut Rng) -> Value) -> Value {
    (0..random.usize(least..4)).map(|_| item(random)).collect()
}

pub fn event(random: &mut Rng, depth: usize) -> Value {
    let mut members = Map::new();
    for name in NAMES {
        if random.u8(..4) > 0 {
            members.insert(name.to_owned(), value(random, depth));
        }
    }
    if random.u8(..8) == 0 {
        let dotted = format!("{}.{}", one(random, &NAMES), one(random, &NAMES));
        members.insert(dotted, value(random, depth));
    }
    members.into()
}

fn value(random: &mut Rng, depth: usize) -> Value {
    if depth == 0 {
        return scalar(random);
    }
    match random.u8(..10) {
        0..4 => scalar(random),
        4 => list(random, 0, scalar),
        5 => list(random, 0, |random| value(random, depth - 1)),
        6..8 => list(random, 0, |random| event(random, depth - 1)),
        _ => event(random, depth - 1),
    }
}

fn some_texts(random: &mut Rng) -> Value {
    let not_empty = |random: &mut Rng| one(random, &TEXTS[1..]).into();
    if random.bool() {
        not_empty(random)
    } else {
        list(random, 1, not_empty)
    }
}

fn wildcard(random: &mut Rng) -> Value {
    let parts = [
        one(random, &["", "a", "b", "ab", "é"]),
        one(random, &["a", "b", "\\*"]),
        one(random, &["", "a", "b"]),
    ];
    let joint = one(random, &["*", ""]);
    format!("{}*{}{joint}{}", parts[0], parts[1], parts[2]).into()
}

fn test(random: &mut Rng) -> Value {
    match random.u8(..24) {
        0..7 => scalar(random),
        7 => json!({"prefix": text(random)}),
        8 => json!({"suffix": text(random)}),
        9 => json!({"prefix": {"equals-ignore-case": text(random)}}),
        10 => json!({"suffix": {"equals-ignore-case": text(random)}}),
        11 => json!({"equals-ignore-case": text(random)}),
        12 => json!({"wildcard": wildcard(random)}),
        13 => json!({"cidr": one(random, &BLOCKS)}),
        14 => {
            json!({"numeric": [one(random, &["=", "<", "<=", ">", ">="]), one(random, &NUMBERS)]})
        }
        15 => json!({"numeric": [one(random, &[">", ">="]), -1, one(random, &["<", "<="]), 2]}),
        16 | 17 => json!({"exists": random.bool()}),
        18 => json!({"anything-but": some_texts(random)}),
        19 => json!({"anything-but": list(random, 1, |random| one(random, &NUMBERS).into())}),
        20 => json!({"anything-but": {"prefix": some_texts(random)}}),
        21 => json!({"anything-but": {"suffix": some_texts(random)}}),
        22 => json!({"anything-but": {"equals-ignore-case": some_texts(random)}}),
        _ => json!({"anything-but": {"wildcard": wildcard(random)}}),
    }
}

pub fn pattern(random: &mut Rng, depth: usize) -> Value {
    let mut members = Map::new();
    while members.is_empty() {
        for name in NAMES {
            if random.bool() {
                let nested = depth > 0 && random.u8(..2) == 0;
                let member = if nested {
                    pattern(random, depth - 1)
                } else {
                    list(random, 1, test)
                };
                members.insert(name.to_owned(), member);
            }
        }
    }
    if random.u8(..8) == 0 {
        let branches = random.usize(2..4);
        let depth = depth.saturating_sub(1);
        members.insert(
            "$or".to_owned(),
            (0..branches).map(|_| pattern(random, depth)).collect(),
        );
    }
    members.into()
}
