//! An object of the definition, read field by field.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::context::Context;
use crate::problem::{Code, Problem, nearest};

/// An object and where it stands.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    cx: &'a Context,
}

impl<'a> Fields<'a> {
    /// The definition itself.
    pub(super) fn root(value: &'a Value, cx: &'a Context) -> Option<Self> {
        Self::new(value, String::new(), cx)
    }

    /// The object at a place; a problem if it is none.
    pub(super) fn new(value: &'a Value, path: String, cx: &'a Context) -> Option<Self> {
        let Some(map) = value.as_object() else {
            let path = if path.is_empty() {
                "/".to_owned()
            } else {
                path
            };
            cx.schema(path, "Expected value of type Object");
            return None;
        };
        Some(Self { map, path, cx })
    }

    pub(super) fn cx(&self) -> &'a Context {
        self.cx
    }

    /// Where this object stands; empty for the definition itself.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Where a field of it stands.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.iter()
    }

    /// Notes a problem of this object.
    pub(super) fn problem(&self, message: impl Into<String>) {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        self.cx.schema(path, message);
    }

    /// Notes a problem of one of its fields.
    pub(super) fn problem_at(&self, name: &str, message: impl Into<String>) {
        self.cx.schema(self.at(name), message);
    }

    /// Notes a field that does not belong here, with the one that was probably meant.
    pub(super) fn unsupported(&self, name: &str, known: &[&str]) {
        let hint = nearest(name, known.iter().copied().filter(|near| *near != name))
            .map(|near| format!("did you mean '{near}'?"));
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        self.cx.report(Problem {
            path: path.to_owned(),
            code: Code::SchemaValidationFailed,
            message: format!("Field '{name}' is not supported"),
            hint,
        });
    }

    /// Notes every field that is not one of these.
    pub(super) fn only(&self, known: &[&str]) {
        for name in self
            .map
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
        {
            self.unsupported(name, known);
        }
    }

    /// Notes which of these fields are missing, in one problem.
    pub(super) fn required(&self, names: &[&str]) {
        let missing: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !self.has(name))
            .collect();
        if !missing.is_empty() {
            self.problem(format!(
                "These fields are required: [{}]",
                missing.join(", ")
            ));
        }
    }

    /// Notes when more than one of these fields is present.
    pub(super) fn at_most_one(&self, names: &[&str]) {
        let present: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| self.has(name))
            .collect();
        if present.len() > 1 {
            self.problem(format!(
                "Only one of these fields may be present: [{}]",
                present.join(", ")
            ));
        }
    }

    /// Notes when not exactly one of these fields is present.
    pub(super) fn exactly_one(&self, names: &[&str]) {
        if names.iter().any(|name| self.has(name)) {
            self.at_most_one(names);
        } else {
            self.problem(format!(
                "Exactly one of these fields is required: [{}]",
                names.join(", ")
            ));
        }
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Option<Arc<str>> {
        let value = self.get(name)?;
        if let Some(text) = value.as_str() {
            return Some(text.into());
        }
        self.problem_at(name, "Expected value of type String");
        None
    }

    /// A boolean.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            self.problem_at(name, "Expected value of type Boolean");
        }
        value.as_bool()
    }

    /// An integer within bounds.
    pub(super) fn integer(&self, name: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(name)?;
        if !(value.is_u64() || value.is_i64()) {
            self.problem_at(name, "Expected value of type Integer");
            return None;
        }
        let found = value.as_u64().filter(|number| bounds.contains(number));
        if found.is_none() {
            let (low, high) = bounds.into_inner();
            let bounds = if high == u64::MAX {
                format!("at least {low}")
            } else {
                format!("between {low} and {high}")
            };
            self.problem_at(name, format!("The value {value} must be {bounds}"));
        }
        found
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(&self, name: &str, options: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        if let Some((_, found)) = options.iter().find(|(option, _)| *option == &*text) {
            return Some(*found);
        }
        let names: Vec<&str> = options.iter().map(|(option, _)| *option).collect();
        let hint = nearest(&text, names.iter().copied()).map(|n| format!("did you mean '{n}'?"));
        self.cx.report(Problem {
            path: self.at(name),
            code: Code::SchemaValidationFailed,
            message: format!("Value '{text}' is not one of [{}]", names.join(", ")),
            hint,
        });
        None
    }

    /// An array.
    pub(super) fn array(&self, name: &str) -> Option<&'a Vec<Value>> {
        let value = self.get(name)?;
        if value.as_array().is_none() {
            self.problem_at(name, "Expected value of type Array");
        }
        value.as_array()
    }

    /// An object.
    pub(super) fn object(&self, name: &str) -> Option<Fields<'a>> {
        Fields::new(self.get(name)?, self.at(name), self.cx)
    }

    /// The objects of an array; those that are none are noted and left out.
    pub(super) fn objects(&self, name: &str) -> Vec<Fields<'a>> {
        let items = self.array(name).map(Vec::as_slice).unwrap_or_default();
        let at = |i: usize| format!("{}[{i}]", self.at(name));
        items
            .iter()
            .enumerate()
            .filter_map(|(i, v)| Fields::new(v, at(i), self.cx))
            .collect()
    }
}
