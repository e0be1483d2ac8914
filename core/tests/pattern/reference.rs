//! A matcher over parsed values, as literal as it can be: no tables, no sharing, one pattern, one event.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

/// A value of an event with the array elements it stands in: the array's number and the index.
struct Leaf {
    path: String,
    value: Value,
    elements: BTreeMap<usize, usize>,
}

/// The lists of alternatives of one way through the `$or`s, with how many of these each stands in.
type Rule = BTreeMap<String, (usize, Vec<Value>)>;

pub fn matches(pattern: &Value, event: &Value) -> bool {
    let mut leaves = Vec::new();
    flatten(event, "", &BTreeMap::new(), &mut 0, &mut leaves);
    let mut rules = vec![Rule::new()];
    expand(pattern, "", 0, &mut rules);
    rules.iter().any(|rule| {
        let lists: Vec<_> = rule
            .iter()
            .map(|(path, (_, tests))| (path.as_str(), tests.as_slice()))
            .collect();
        choose(&lists, &leaves, &BTreeMap::new())
    })
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn flatten(
    value: &Value,
    path: &str,
    elements: &BTreeMap<usize, usize>,
    arrays: &mut usize,
    leaves: &mut Vec<Leaf>,
) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                flatten(member, &join(path, name), elements, arrays, leaves);
            }
        }
        Value::Array(items) => {
            let array = *arrays;
            *arrays += 1;
            for (index, item) in items.iter().enumerate() {
                let mut inside = elements.clone();
                if item.is_object() || item.is_array() {
                    inside.insert(array, index);
                }
                flatten(item, path, &inside, arrays, leaves);
            }
        }
        scalar => leaves.push(Leaf {
            path: path.to_owned(),
            value: scalar.clone(),
            elements: elements.clone(),
        }),
    }
}

fn expand(pattern: &Value, path: &str, ors: usize, rules: &mut Vec<Rule>) {
    for (name, member) in pattern.as_object().unwrap() {
        if name == "$or" {
            let before = std::mem::take(rules);
            for object in member.as_array().unwrap() {
                let mut branch = before.clone();
                expand(object, path, ors + 1, &mut branch);
                rules.append(&mut branch);
            }
            continue;
        }
        let path = join(path, name);
        match member {
            Value::Array(tests) => {
                for rule in &mut *rules {
                    if rule.get(&path).is_none_or(|(known, _)| *known <= ors) {
                        rule.insert(path.clone(), (ors, tests.clone()));
                    }
                }
            }
            object => expand(object, &path, ors, rules),
        }
    }
}

fn together(a: &BTreeMap<usize, usize>, b: &BTreeMap<usize, usize>) -> bool {
    a.iter()
        .all(|(array, index)| b.get(array).is_none_or(|other| other == index))
}

fn choose(lists: &[(&str, &[Value])], leaves: &[Leaf], chosen: &BTreeMap<usize, usize>) -> bool {
    let Some(((path, tests), rest)) = lists.split_first() else {
        return true;
    };
    let here: Vec<_> = leaves
        .iter()
        .filter(|leaf| leaf.path == *path && together(&leaf.elements, chosen))
        .collect();
    let absent = tests
        .iter()
        .any(|test| test["exists"] == Value::Bool(false));
    if absent && here.is_empty() && choose(rest, leaves, chosen) {
        return true;
    }
    here.iter()
        .filter(|leaf| tests.iter().any(|test| passes(test, &leaf.value)))
        .any(|leaf| {
            let mut further = chosen.clone();
            further.extend(&leaf.elements);
            choose(rest, leaves, &further)
        })
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

fn passes(test: &Value, value: &Value) -> bool {
    let text = value.as_str();
    let Some(operator) = test.as_object() else {
        return match (test, value) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::String(a), Value::String(b)) => match (address(a), address(b)) {
                (Some(a), Some(b)) => a == b,
                _ => a == b,
            },
            _ => test == value,
        };
    };
    let (name, operand) = operator.iter().next().unwrap();
    let with_text = |check: &dyn Fn(&str, &str) -> bool| {
        texts(operand)
            .iter()
            .any(|operand| text.is_some_and(|text| check(text, operand)))
    };
    match name.as_str() {
        "exists" => operand == &Value::Bool(true),
        "prefix" | "suffix" if operand.is_object() => {
            let operand = operand["equals-ignore-case"].as_str().unwrap();
            let parts = |text: &str| -> Vec<String> {
                let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
                ends.map(|at| {
                    if name == "prefix" {
                        text[..at].to_owned()
                    } else {
                        text[at..].to_owned()
                    }
                })
                .collect()
            };
            text.is_some_and(|text| parts(text).iter().any(|part| same_but_case(operand, part)))
        }
        "prefix" => with_text(&|text, operand| text.starts_with(operand)),
        "suffix" => with_text(&|text, operand| text.ends_with(operand)),
        "equals-ignore-case" => with_text(&|text, operand| same_but_case(operand, text)),
        "wildcard" => with_text(&|text, operand| wild(operand.as_bytes(), text.as_bytes())),
        "cidr" => {
            let (base, bits) = operand.as_str().unwrap().split_once('/').unwrap();
            let bits: u32 = bits.parse().unwrap();
            text.and_then(address)
                .is_some_and(|found| match (address(base).unwrap(), found) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => {
                        bits == 0 || (a.to_bits() ^ b.to_bits()) >> (32 - bits) == 0
                    }
                    (IpAddr::V6(a), IpAddr::V6(b)) => {
                        bits == 0 || (a.to_bits() ^ b.to_bits()) >> (128 - bits) == 0
                    }
                    _ => false,
                })
        }
        "numeric" => value.as_f64().is_some_and(|number| {
            operand.as_array().unwrap().chunks(2).all(|pair| {
                let bound = pair[1].as_f64().unwrap();
                match pair[0].as_str().unwrap() {
                    "=" => number == bound,
                    "<" => number < bound,
                    "<=" => number <= bound,
                    ">" => number > bound,
                    _ => number >= bound,
                }
            })
        }),
        "anything-but" => match operand {
            Value::Object(_) => !passes(operand, value),
            Value::Array(items) => !items.iter().any(|item| passes_exactly(item, value)),
            single => !passes_exactly(single, value),
        },
        other => panic!("the generator makes no {other}"),
    }
}

/// As `anything-but` compares: addresses are texts like others.
fn passes_exactly(test: &Value, value: &Value) -> bool {
    if test.is_string() {
        test == value
    } else {
        passes(test, value)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn same_but_case(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return text.is_empty();
    };
    let forms = [
        first.to_lowercase().collect::<String>(),
        first.to_uppercase().collect(),
    ];
    let rest = &pattern[first.len_utf8()..];
    forms.iter().any(|form| {
        text.strip_prefix(form.as_str())
            .is_some_and(|text| same_but_case(rest, text))
    })
}

fn wild(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skipped| wild(rest, &text[skipped..])),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.first() == Some(literal) && wild(rest, &text[1..])
        }
    }
}
