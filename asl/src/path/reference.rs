//! Reference paths: to exactly one field, so that they can be written to.

use std::fmt;

use serde_json::{Map, Value};

use super::{ParsePathError, Path, Root, Segment};

/// How many steps a reference path may have: each may make an object inside the one before.
const MAX_STEPS: usize = 64;

/// A path such as `$.order.lines[0]`: fields and indices only, from the state's input. `ResultPath` is one.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferencePath {
    path: Path,
}

/// The result has no place in the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unable to apply ReferencePath {path} to input {input}")]
pub struct ResultPathMatchFailure {
    /// The path as it was written.
    pub path: String,
    /// The input as JSON.
    pub input: String,
}

impl ReferencePath {
    /// Parses a reference path: no wildcards, filters, slices, unions or functions, and not under `$$` or a variable.
    pub fn parse(source: &str) -> Result<Self, ParsePathError> {
        let path = Path::parse(source)?;
        let why = if path.root != Root::Input {
            Some("it must start with '$.' or be '$'")
        } else if path.function.is_some() {
            Some("functions select no place to write to")
        } else if path.segments.len() > MAX_STEPS {
            Some("it may have at most 64 steps")
        } else {
            path.segments.iter().find_map(|segment| match segment {
                Segment::Names(names) if names.len() == 1 => None,
                Segment::Indices(indices) if indices.len() == 1 && indices[0] >= 0 => None,
                _ => Some("only field names and single indices from the start may be used"),
            })
        };
        match why {
            Some(why) => Err(ParsePathError::NameSeveralFields {
                path: source.to_owned(),
                why,
            }),
            None => Ok(Self { path }),
        }
    }

    /// The same path, for reading.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Whether the path is `$`: the result replaces the input.
    pub fn is_whole_input(&self) -> bool {
        self.path.segments.is_empty()
    }

    /// Puts `result` at the path. Missing objects are made, what is at the last step is replaced; an array can only be
    /// written to where it has an item (aws-semantics 10.3.4).
    pub fn place(&self, mut input: Value, result: Value) -> Result<Value, ResultPathMatchFailure> {
        if !self.fits(&input) {
            return Err(ResultPathMatchFailure {
                path: self.path.source().to_owned(),
                input: input.to_string(),
            });
        }
        let mut place = &mut input;
        for segment in &self.path.segments {
            place = match segment {
                Segment::Names(names) => {
                    if place.is_null() {
                        *place = Value::Object(Map::new());
                    }
                    &mut place[names[0].as_str()]
                }
                Segment::Indices(indices) => &mut place[indices[0] as usize],
                _ => place,
            };
        }
        *place = result;
        Ok(input)
    }

    /// Whether every step finds an object (or nothing, where one can be made) or an item that exists.
    fn fits(&self, input: &Value) -> bool {
        let mut place = Some(input);
        for segment in &self.path.segments {
            place = match (segment, place) {
                (Segment::Names(_), None | Some(Value::Null)) => None,
                (Segment::Names(names), Some(Value::Object(fields))) => fields.get(&names[0]),
                (Segment::Indices(indices), Some(Value::Array(items))) => {
                    match items.get(indices[0] as usize) {
                        Some(item) => Some(item),
                        None => return false,
                    }
                }
                _ => return false,
            };
        }
        true
    }
}

impl fmt::Display for ReferencePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(formatter)
    }
}
