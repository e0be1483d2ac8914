//! One reading of an event: the members that patterns name are looked up, everything is checked to be JSON.

// A call for a byte or two would cost more than its work. Without optimisation each inlined call has its own place on the stack, of
// which an event may need a thousand times that of an object: there what is not a byte or two stays a call.
#![allow(clippy::inline_always)]

use super::consistency::ROOT;
use super::field::Value;
use super::skip::{self, End, malformed};
use super::table::Text;
use super::{EventError, Fault, MAX_EVENT_DEPTH, MAX_HITS, NONE, Scratch, Set};
use crate::pattern::scan::{self, after_mark, after_space};

pub(super) struct Walk<'a> {
    set: &'a Set,
    scratch: &'a mut Scratch,
    bytes: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(super) fn new(set: &'a Set, bytes: &'a [u8], scratch: &'a mut Scratch) -> Self {
        Self {
            set,
            scratch,
            bytes,
        }
    }

    pub(super) fn event(mut self) -> Result<(), EventError> {
        // Many events are ASCII, which is told faster.
        if !self.bytes.is_ascii()
            && let Err(error) = std::str::from_utf8(self.bytes)
        {
            return Err(EventError::IsMalformed(error.valid_up_to()));
        }
        let (first, at) = after_space(self.bytes, 0);
        let is_object = first == b'{';
        let end = if is_object {
            self.object(0, at, ROOT, 1)?
        } else {
            skip::value_end(self.bytes, at, 0)?
        };
        let (_, end) = after_space(self.bytes, end);
        if end < self.bytes.len() {
            Err(EventError::IsMalformed(end))
        } else if is_object {
            Ok(())
        } else {
            Err(EventError::IsNoObject)
        }
    }

    /// Reads an object at a step of the tree. `depth` counts it.
    fn object(&mut self, node: u32, at: usize, context: u32, depth: usize) -> End {
        if depth > MAX_EVENT_DEPTH {
            return Err(Fault::NESTS_TOO_DEEP);
        }
        self.scratch.object += 1;
        let object = self.scratch.object;
        let bytes = self.bytes;
        let (mut first, mut at) = after_space(bytes, at + 1);
        if first == b'}' {
            return Ok(at + 1);
        }
        loop {
            if first != b'"' {
                return malformed(at);
            }
            let Some(end) = scan::string_end(bytes, at + 1) else {
                return malformed(at);
            };
            let child = if end.escaped {
                self.unescaped_child(node, &bytes[at + 1..end.at])
            } else {
                self.child(node, Text::within(bytes, at + 1, end.at))
            };
            let (_, value) = after_mark(bytes, end.at + 1, b':').or_else(malformed)?;
            let end = match child {
                None => skip::value_end(bytes, value, depth)?,
                Some(child) => self.member(child, value, object, context, depth)?,
            };
            (first, at) = match after_mark(bytes, end, b',') {
                Ok(next) => next,
                Err(place) if bytes.get(place) == Some(&b'}') => return Ok(place + 1),
                Err(place) => return malformed(place),
            };
        }
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn child(&self, node: u32, key: Text) -> Option<u32> {
        let node = &self.set.nodes[node as usize];
        match node.children.get(key) {
            None if node.deep => self.dotted_child(node, key.bytes),
            child => child,
        }
    }

    /// A dotted key names the same path as nested keys.
    fn dotted_child(&self, node: &super::Node, key: &[u8]) -> Option<u32> {
        memchr::memchr(b'.', key)?;
        let mut parts = key.split(|byte| *byte == b'.').map(Text::new);
        let first = node.children.get(parts.next()?)?;
        parts.try_fold(first, |at, part| {
            self.set.nodes[at as usize].children.get(part)
        })
    }

    #[cold]
    fn unescaped_child(&mut self, node: u32, key: &[u8]) -> Option<u32> {
        let mut name = std::mem::take(&mut self.scratch.name);
        name.clear();
        let child = if scan::unescape(key, &mut name) {
            self.child(node, Text::new(&name))
        } else {
            None
        };
        self.scratch.name = name;
        child
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn member(&mut self, child: u32, at: usize, object: u64, context: u32, depth: usize) -> End {
        let start = self.scratch.hits.log.len() as u32;
        let mark = self.scratch.keys[child as usize];
        if mark.object == object {
            self.scratch
                .hits
                .retract(mark.start as usize..mark.end as usize);
        }
        self.scratch.hits.member = start;
        let at = self.value(child, at, context, depth)?;
        let end = self.scratch.hits.log.len() as u32;
        self.scratch.keys[child as usize] = super::KeyMark { object, start, end };
        Ok(at)
    }

    /// Reads the value that starts at `at`, at a step of the tree, inside `depth` brackets.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn value(&mut self, node: u32, at: usize, context: u32, depth: usize) -> End {
        let bytes = self.bytes;
        let first = bytes.get(at).copied().unwrap_or(0);
        let (value, end) = match first {
            b'"' => {
                let Some(end) = scan::string_end(bytes, at + 1) else {
                    return malformed(at);
                };
                if end.escaped {
                    self.escaped_text(node, &bytes[at + 1..end.at], context)?;
                    return Ok(end.at + 1);
                }
                let text = Text::within(bytes, at + 1, end.at);
                (Value::Text(text), end.at + 1)
            }
            b'{' if self.set.nodes[node as usize].children.is_empty() => {
                return skip::value_end(bytes, at, depth);
            }
            b'{' => return self.object(node, at, context, depth + 1),
            b'[' => return self.array(node, at, context, depth + 1),
            b't' | b'f' | b'n' => {
                let end = skip::word_end(bytes, at)?;
                let value = match first {
                    b't' => Value::True,
                    b'f' => Value::False,
                    _ => Value::Null,
                };
                (value, end)
            }
            _ => match scan::number_end(bytes, at) {
                Some(end) => (Value::Number(&bytes[at..end]), end),
                None => return malformed(at),
            },
        };
        self.look_at(node, value, context)?;
        Ok(end)
    }

    #[cold]
    fn escaped_text(&mut self, node: u32, body: &[u8], context: u32) -> Result<(), Fault> {
        let mut text = std::mem::take(&mut self.scratch.text);
        text.clear();
        scan::unescape(body, &mut text);
        let done = self.look_at(node, Value::Text(Text::new(&text)), context);
        self.scratch.text = text;
        done
    }

    #[inline]
    fn look_at(&mut self, node: u32, value: Value, context: u32) -> Result<(), Fault> {
        let field = self.set.nodes[node as usize].field;
        let Some(field) = self.set.fields.get(field as usize) else {
            return Ok(());
        };
        let Scratch {
            field: room, hits, ..
        } = &mut *self.scratch;
        field.look_at(value, room, &mut |condition| hits.hit(condition, context));
        if hits.log.len() > MAX_HITS {
            Err(Fault::COMBINES_TOO_MANY)
        } else {
            Ok(())
        }
    }

    /// Reads an array at a step of the tree: its elements count as values there. `depth` counts it.
    fn array(&mut self, node: u32, at: usize, context: u32, depth: usize) -> End {
        if depth > MAX_EVENT_DEPTH {
            return Err(Fault::NESTS_TOO_DEEP);
        }
        let bytes = self.bytes;
        let (mut first, mut at) = after_space(bytes, at + 1);
        if first == b']' {
            return Ok(at + 1);
        }
        let tells_apart = self.set.joins;
        let array = if tells_apart {
            self.scratch.contexts.open_array()
        } else {
            NONE
        };
        loop {
            let apart = tells_apart && matches!(first, b'{' | b'[');
            let element = if apart {
                self.scratch.contexts.open(context, array)
            } else {
                context
            };
            let end = self.value(node, at, element, depth)?;
            if apart {
                self.scratch.contexts.close(element);
            }
            let (next, place) = after_space(bytes, end);
            if next == b']' {
                if tells_apart {
                    self.scratch.contexts.close_array(array);
                }
                return Ok(place + 1);
            }
            if next != b',' {
                return malformed(place);
            }
            (first, at) = after_space(bytes, place + 1);
        }
    }
}
