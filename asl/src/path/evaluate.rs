//! Path and value to value.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{EvaluatePathError, Path, Segment, filter};

/// How many values one evaluation may look at.
const MAX_VISITS: usize = 500_000;
/// How many bytes the values an indefinite path selects may have together: 16 times what an execution may hold.
const MAX_SELECTED_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn path<'v>(path: &Path, root: &'v Value) -> Result<Cow<'v, Value>, EvaluatePathError> {
    let mut walk = Walk { root, visits: 0 };
    let selected = walk.evaluate(&path.segments, path.source(), root)?;
    match path.function {
        None => Ok(selected),
        Some(function) => function.apply(&selected).map(Cow::Owned),
    }
}

/// One evaluation: filters may look at the root again, and all of it shares one budget.
pub(super) struct Walk<'v> {
    pub(super) root: &'v Value,
    visits: usize,
}

impl<'v> Walk<'v> {
    fn visit(&mut self) -> Result<(), EvaluatePathError> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(EvaluatePathError::SelectTooMuch {
                limit: "500,000 values",
            });
        }
        Ok(())
    }

    pub(super) fn evaluate<'a>(
        &mut self,
        segments: &[Segment],
        source: &str,
        start: &'a Value,
    ) -> Result<Cow<'a, Value>, EvaluatePathError>
    where
        'v: 'a,
    {
        let definite = segments
            .iter()
            .take_while(|segment| is_single(segment))
            .count();
        let mut current = start;
        for (index, segment) in segments[..definite].iter().enumerate() {
            self.visit()?;
            match step(segment, current) {
                Ok(next) => current = next,
                // What comes after selects from nothing.
                Err(_) if definite < segments.len() && !is_merge(&segments[definite..]) => {
                    return Ok(Cow::Owned(Value::Array(Vec::new())));
                }
                Err(miss) => {
                    let detail = describe(miss, source, segments, index, current);
                    return Err(EvaluatePathError::NotFound { detail });
                }
            }
        }
        let rest = &segments[definite..];
        if rest.is_empty() {
            return Ok(Cow::Borrowed(current));
        }
        if let [Segment::Names(names)] = rest {
            return merge(names, current).map(Cow::Owned).ok_or_else(|| {
                let detail = describe(Miss::Object, source, segments, definite, current);
                EvaluatePathError::NotFound { detail }
            });
        }
        let mut selected = vec![current];
        for segment in rest {
            let mut next = Vec::new();
            for value in selected {
                self.select(segment, value, &mut next)?;
            }
            selected = next;
        }
        let mut bytes = 0;
        for value in &selected {
            bytes += weight(value, MAX_SELECTED_BYTES);
            if bytes > MAX_SELECTED_BYTES {
                return Err(EvaluatePathError::SelectTooMuch { limit: "4 MiB" });
            }
        }
        Ok(Cow::Owned(Value::Array(
            selected.into_iter().cloned().collect(),
        )))
    }

    fn select<'a>(
        &mut self,
        segment: &Segment,
        value: &'a Value,
        found: &mut Vec<&'a Value>,
    ) -> Result<(), EvaluatePathError>
    where
        'v: 'a,
    {
        self.visit()?;
        match segment {
            Segment::Names(names) => {
                if let Value::Object(fields) = value {
                    found.extend(names.iter().filter_map(|name| fields.get(name)));
                }
            }
            Segment::Wildcard => match value {
                Value::Array(items) => found.extend(items),
                Value::Object(fields) => found.extend(fields.values()),
                _ => {}
            },
            Segment::Indices(indices) => {
                if let Value::Array(items) = value {
                    found.extend(indices.iter().filter_map(|index| item(items, *index)));
                }
            }
            Segment::Slice { start, end, step } => {
                if let Value::Array(items) = value {
                    let range = slice(items.len(), *start, *end);
                    let step = usize::try_from(*step).unwrap_or(usize::MAX);
                    found.extend(items[range].iter().step_by(step));
                }
            }
            Segment::Filter(expression) => match value {
                Value::Array(items) => {
                    for item in items {
                        self.visit()?;
                        if filter::accepts(expression, item, self)? {
                            found.push(item);
                        }
                    }
                }
                Value::Object(_) if filter::accepts(expression, value, self)? => found.push(value),
                _ => {}
            },
            Segment::Descend(inner) => self.descend(inner, value, found)?,
        }
        if found.len() > MAX_VISITS {
            return Err(EvaluatePathError::SelectTooMuch {
                limit: "500,000 values",
            });
        }
        Ok(())
    }

    /// Tries `inner` on the value and on everything below it, parents first. Values are at most 128 levels deep, which
    /// their parser sees to; the stack is explicit all the same.
    fn descend<'a>(
        &mut self,
        inner: &Segment,
        value: &'a Value,
        found: &mut Vec<&'a Value>,
    ) -> Result<(), EvaluatePathError>
    where
        'v: 'a,
    {
        let mut pending = vec![value];
        while let Some(next) = pending.pop() {
            match inner {
                // A filter after `..` is asked of every descendant itself; its items come up in their turn.
                Segment::Filter(expression) => {
                    self.visit()?;
                    if next.is_object() && filter::accepts(expression, next, self)? {
                        found.push(next);
                    }
                }
                _ => self.select(inner, next, found)?,
            }
            match next {
                Value::Array(items) => pending.extend(items.iter().rev()),
                Value::Object(fields) => pending.extend(fields.values().rev()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_single(segment: &Segment) -> bool {
    match segment {
        Segment::Names(names) => names.len() == 1,
        Segment::Indices(indices) => indices.len() == 1,
        _ => false,
    }
}

fn is_merge(segments: &[Segment]) -> bool {
    matches!(segments, [Segment::Names(_)])
}

/// Several names at the end of a path give one object of those that exist.
fn merge(names: &[String], value: &Value) -> Option<Value> {
    let Value::Object(fields) = value else {
        return None;
    };
    let mut merged = Map::new();
    for name in names {
        if let Some(field) = fields.get(name) {
            merged.insert(name.clone(), field.clone());
        }
    }
    Some(Value::Object(merged))
}

/// What a step did not find.
#[derive(Clone, Copy)]
enum Miss {
    Field,
    Object,
    Item,
    Array,
}

fn step<'a>(segment: &Segment, value: &'a Value) -> Result<&'a Value, Miss> {
    match (segment, value) {
        (Segment::Names(names), Value::Object(fields)) => names
            .first()
            .and_then(|name| fields.get(name))
            .ok_or(Miss::Field),
        (Segment::Indices(indices), Value::Array(items)) => indices
            .first()
            .and_then(|index| item(items, *index))
            .ok_or(Miss::Item),
        (Segment::Indices(_), _) => Err(Miss::Array),
        _ => Err(Miss::Object),
    }
}

/// The text of AWS's path library for a definite path that ends at the segment `at`.
fn describe(miss: Miss, source: &str, segments: &[Segment], at: usize, value: &Value) -> String {
    let walked = |count: usize| canonical(source, &segments[..count]);
    match miss {
        Miss::Field if at + 1 == segments.len() => {
            format!("No results for path: {}", walked(at + 1))
        }
        Miss::Field => format!("Missing property in path {}", walked(at + 1)),
        Miss::Item => {
            format!(
                "Index out of bounds when evaluating path {}",
                walked(at + 1)
            )
        }
        Miss::Array => format!(
            "Filter: {} can only be applied to arrays. Current context is: {value}",
            canonical("", &segments[at..=at])
        ),
        Miss::Object => format!(
            "Expected to find an object with property {} in path {} but found '{}'. This is not a json object according \
             to the JsonProvider: 'com.jayway.jsonpath.spi.json.JacksonJsonNodeJsonProvider'.",
            canonical("", &segments[at..=at]),
            walked(at),
            match value {
                Value::Null => "null",
                Value::Bool(_) => "com.fasterxml.jackson.databind.node.BooleanNode",
                Value::Number(number) if number.is_f64() => {
                    "com.fasterxml.jackson.databind.node.DoubleNode"
                }
                Value::Number(_) => "com.fasterxml.jackson.databind.node.IntNode",
                Value::String(_) => "com.fasterxml.jackson.databind.node.TextNode",
                Value::Array(_) => "com.fasterxml.jackson.databind.node.ArrayNode",
                Value::Object(_) => "com.fasterxml.jackson.databind.node.ObjectNode",
            }
        ),
    }
}

/// `$['a'][0]`: how the library writes a path it has walked.
fn canonical(source: &str, segments: &[Segment]) -> String {
    let mut text = String::new();
    if !source.is_empty() {
        // The library sees variables and the context object as roots of their own.
        text.push('$');
    }
    for segment in segments {
        match segment {
            Segment::Names(names) => {
                let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
                let _ = write!(text, "[{}]", quoted.join(","));
            }
            Segment::Indices(indices) => {
                let numbers: Vec<_> = indices.iter().map(ToString::to_string).collect();
                let _ = write!(text, "[{}]", numbers.join(","));
            }
            _ => text.push_str("[*]"),
        }
    }
    text
}

fn item(items: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(items.len()).ok()?;
    let position = if index < 0 {
        length.checked_add(index)?
    } else {
        index
    };
    items.get(usize::try_from(position).ok()?)
}

/// The items from `start` up to `end`; negative bounds count from the end, and both are cut to the array.
fn slice(length: usize, start: Option<i64>, end: Option<i64>) -> std::ops::Range<usize> {
    let bound = |given: i64| {
        let length = length as i64;
        let from_start = if given < 0 {
            length.saturating_add(given)
        } else {
            given
        };
        from_start.clamp(0, length) as usize
    };
    let start = start.map_or(0, bound);
    let end = end.map_or(length, bound);
    start..end.max(start)
}

/// About how many bytes the value has as JSON, counting no further than just past `limit`.
pub(crate) fn weight(value: &Value, limit: usize) -> usize {
    let mut total = 0;
    let mut pending = vec![value];
    while let Some(next) = pending.pop() {
        total += match next {
            Value::String(text) => text.len() + 3,
            Value::Array(items) => {
                pending.extend(items);
                2
            }
            Value::Object(fields) => {
                pending.extend(fields.values());
                fields.keys().map(|key| key.len() + 4).sum::<usize>() + 2
            }
            _ => 6,
        };
        if total > limit {
            break;
        }
    }
    total
}
