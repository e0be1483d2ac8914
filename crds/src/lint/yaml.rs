//! YAML text to JSON values, with the line of every field.
//!
//! Documents are split at `---` as kubectl does, and each is parsed on its own: one broken document
//! does not hide the others. Booleans and octal numbers are those of YAML 1.1, because kubectl's are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// Deepest nesting of a document.
const DEPTH: usize = 64;
/// Stack for a document of that depth: unoptimised, a level takes up to 40 KiB.
const STACK: usize = 16 << 20;

/// Most problems that one file is reported with.
pub const MAX_PROBLEMS: usize = 1000;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// It is YAML.
    Document {
        /// Its content.
        value: Value,
        /// Where its fields are.
        lines: Lines,
    },
    /// It is not.
    Broken {
        /// Line in the file, from 1.
        line: Option<u32>,
        /// What the parser says.
        message: String,
    },
}

/// The line of a value, and those of what is in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lines {
    line: u32,
    children: BTreeMap<String, Lines>,
}

impl Lines {
    /// Line of the value, from 1.
    pub fn line(&self) -> Option<u32> {
        (self.line > 0).then_some(self.line)
    }

    /// Of a field.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name)
    }

    /// Of an entry of a list.
    pub fn item(&self, index: usize) -> Option<&Self> {
        self.children.get(&index.to_string())
    }

    /// Line of the field at `path`, or of the nearest one around it that is written.
    pub fn line_of(&self, path: &str) -> Option<u32> {
        let mut here = self;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((lines, after)) = here.step(rest) else {
                break;
            };
            here = lines;
            rest = after;
        }
        here.line()
    }

    /// The child that a path begins with, and the rest of the path. Keys of maps may contain dots: the
    /// longest name that is there wins.
    fn step<'a>(&self, path: &'a str) -> Option<(&Self, &'a str)> {
        if let Some(inside) = path.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            let child = self.children.get(index)?;
            return Some((child, after.strip_prefix('.').unwrap_or(after)));
        }
        let ends = path
            .match_indices(['.', '['])
            .map(|(at, _)| at)
            .chain([path.len()]);
        ends.take(32)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .find_map(|end| {
                let after = &path[end..];
                let child = self.children.get(&path[..end])?;
                Some((child, after.strip_prefix('.').unwrap_or(after)))
            })
    }

    fn shift(&mut self, by: u32) {
        self.line += by;
        self.children.values_mut().for_each(|child| child.shift(by));
    }
}

/// The documents of a file; empty ones are left out.
///
/// The parser descends into the text by recursion, and its frames are large. The depth is bounded,
/// and a thread of our own has the stack for that depth whatever the caller's thread has.
pub fn parse(text: &str) -> Vec<Parsed> {
    let work = || parse_all(text.strip_prefix('\u{feff}').unwrap_or(text));
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work);
        thread.map(std::thread::ScopedJoinHandle::join)
    });
    let failed = |message| {
        vec![Parsed::Broken {
            line: None,
            message,
        }]
    };
    match result {
        Ok(Ok(documents)) => documents,
        Ok(Err(_)) => failed("not YAML: the parser failed".into()),
        Err(error) => failed(format!("cannot be read: no thread: {error}")),
    }
}

fn parse_all(text: &str) -> Vec<Parsed> {
    let written = |part: &str| {
        part.lines()
            .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
    };
    split(text)
        .filter(|(_, part)| written(part))
        .filter_map(|(offset, part)| parse_one(part, offset))
        .collect()
}

fn parse_one(text: &str, offset: u32) -> Option<Parsed> {
    match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options()) {
        Ok(node) => {
            let Node { value, mut lines } = node.value;
            if value.is_null() {
                return None;
            }
            lines.line = node.referenced.line() as u32;
            lines.shift(offset);
            Some(Parsed::Document { value, lines })
        }
        Err(error) => {
            let line = error.location().map(|at| at.line() as u32 + offset);
            Some(Parsed::Broken {
                line,
                message: format!("not YAML: {}", sentence(&error)),
            })
        }
    }
}

/// What the parser says, in one bounded line, without its picture of the source.
fn sentence(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    // Its line is that of the document, not of the file.
    let text = text.split(" at line ").next().unwrap_or_default();
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_nodes: 500_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
    }
}

/// Parts between lines that begin with `---`, each with the number of lines before it.
fn split(text: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut rest = Some((0, text));
    std::iter::from_fn(move || {
        let (offset, part) = rest.take()?;
        let mut length = 0;
        for (lines, line) in (0..).zip(part.split_inclusive('\n')) {
            let content = line.trim_end_matches(['\n', '\r']);
            let marker = content.strip_prefix("---").filter(|after| {
                let after = after.trim_start();
                after.is_empty() || after.starts_with('#')
            });
            if marker.is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t'])) {
                rest = Some((offset + lines + 1, &part[length + line.len()..]));
                break;
            }
            length += line.len();
        }
        Some((offset, &part[..length]))
    })
}

/// A value and its lines.
struct Node {
    value: Value,
    lines: Lines,
}

impl Node {
    fn scalar(value: impl Into<Value>) -> Self {
        Self {
            value: value.into(),
            lines: Lines::default(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::scalar(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        match Number::from_f64(value) {
            Some(number) => Ok(Node::scalar(number)),
            None => Err(E::custom(
                "not a finite number; write it in quotes if it is text",
            )),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::scalar(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::scalar(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut values = Vec::new();
        let mut lines = Lines::default();
        while let Some(Spanned {
            value: mut node,
            referenced,
            ..
        }) = items.next_element::<Spanned<Node>>()?
        {
            node.lines.line = referenced.line() as u32;
            lines.children.insert(values.len().to_string(), node.lines);
            values.push(node.value);
        }
        Ok(Node {
            value: Value::Array(values),
            lines,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut values = Map::new();
        let mut lines = Lines::default();
        while let Some((key, mut node)) = entries.next_entry::<Spanned<String>, Node>()? {
            node.lines.line = key.referenced.line() as u32;
            if values.contains_key(&key.value) {
                return Err(A::Error::custom(format_args!(
                    "key {:?} is there twice",
                    key.value
                )));
            }
            lines.children.insert(key.value.clone(), node.lines);
            values.insert(key.value, node.value);
        }
        Ok(Node {
            value: Value::Object(values),
            lines,
        })
    }
}
