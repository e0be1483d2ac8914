//! One reading of an event: the members that patterns name are looked up, everything is checked to be JSON.

use super::consistency::ROOT;
use super::field::Value;
use super::{EventError, MAX_EVENT_DEPTH, MAX_HITS, NONE, Scratch, Set, skip};
use crate::pattern::scan;

type Done = Result<(), EventError>;

pub(super) struct Walk<'a> {
    set: &'a Set,
    scratch: &'a mut Scratch,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(set: &'a Set, bytes: &'a [u8], scratch: &'a mut Scratch) -> Self {
        Self {
            set,
            scratch,
            bytes,
            at: 0,
        }
    }

    pub(super) fn event(mut self) -> Done {
        if let Err(error) = std::str::from_utf8(self.bytes) {
            return Err(EventError::IsMalformed(error.valid_up_to()));
        }
        if self.next_byte()? != b'{' {
            self.skip_value(0)?;
            self.end()?;
            return Err(EventError::IsNoObject);
        }
        self.object(0, ROOT, 1)?;
        self.end()
    }

    fn malformed<T>(&self) -> Result<T, EventError> {
        Err(EventError::IsMalformed(self.at))
    }

    fn end(&mut self) -> Done {
        self.skip_whitespace();
        if self.at < self.bytes.len() {
            self.malformed()
        } else {
            Ok(())
        }
    }

    #[inline]
    fn skip_whitespace(&mut self) {
        self.at = scan::space_end(self.bytes, self.at);
    }

    /// Looks at the next byte that is not white space.
    #[inline]
    fn next_byte(&mut self) -> Result<u8, EventError> {
        self.skip_whitespace();
        self.bytes
            .get(self.at)
            .copied()
            .ok_or(EventError::IsMalformed(self.at))
    }

    /// Reads a string from its opening quote; gives its body and whether it must be unescaped.
    #[inline]
    fn string(&mut self) -> Result<(&'a [u8], bool), EventError> {
        let start = self.at + 1;
        let Some(end) = scan::string_end(self.bytes, start) else {
            return self.malformed();
        };
        self.at = end.at + 1;
        Ok((&self.bytes[start..end.at], end.escaped))
    }

    #[inline]
    fn number(&mut self) -> Result<&'a [u8], EventError> {
        let Some(end) = scan::number_end(self.bytes, self.at) else {
            return self.malformed();
        };
        let number = &self.bytes[self.at..end];
        self.at = end;
        Ok(number)
    }

    /// Reads a key and its colon; gives its body and whether it must be unescaped.
    #[inline]
    fn key(&mut self) -> Result<(&'a [u8], bool), EventError> {
        if self.next_byte()? != b'"' {
            return self.malformed();
        }
        let key = self.string()?;
        if self.next_byte()? != b':' {
            return self.malformed();
        }
        self.at += 1;
        Ok(key)
    }

    /// Whether another member or element follows; reads the comma or the closing bracket.
    #[inline]
    fn another(&mut self, close: u8) -> Result<bool, EventError> {
        match self.next_byte()? {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => self.malformed(),
        }
    }

    /// Reads the opening bracket; whether anything is inside. If not, reads the closing one too.
    #[inline]
    fn opens(&mut self, close: u8, depth: usize) -> Result<bool, EventError> {
        if depth > MAX_EVENT_DEPTH {
            return Err(EventError::NestsTooDeep);
        }
        self.at += 1;
        let empty = self.next_byte()? == close;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// Reads an object at a step of the tree. `depth` counts it.
    fn object(&mut self, node: u32, context: u32, depth: usize) -> Done {
        self.scratch.object += 1;
        let object = self.scratch.object;
        let mut more = self.opens(b'}', depth)?;
        while more {
            let (key, escaped) = self.key()?;
            let child = if escaped {
                self.unescaped_child(node, key)
            } else {
                self.child(node, key)
            };
            match child {
                None => self.skip_value(depth)?,
                Some(child) => self.member(child, object, context, depth)?,
            }
            more = self.another(b'}')?;
        }
        Ok(())
    }

    #[inline]
    fn child(&self, node: u32, key: &[u8]) -> Option<u32> {
        let node = &self.set.nodes[node as usize];
        match node.children.get(key) {
            None if node.deep && memchr::memchr(b'.', key).is_some() => {
                self.dotted_child(node, key)
            }
            child => child,
        }
    }

    /// A dotted key names the same path as nested keys.
    #[cold]
    fn dotted_child(&self, node: &super::Node, key: &[u8]) -> Option<u32> {
        let mut parts = key.split(|byte| *byte == b'.');
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
            self.child(node, &name)
        } else {
            None
        };
        self.scratch.name = name;
        child
    }

    fn member(&mut self, child: u32, object: u64, context: u32, depth: usize) -> Done {
        let start = self.scratch.hits.log.len() as u32;
        let mark = self.scratch.keys[child as usize];
        if mark.object == object {
            self.scratch
                .hits
                .retract(mark.start as usize..mark.end as usize);
        }
        self.value(child, context, depth)?;
        let end = self.scratch.hits.log.len() as u32;
        self.scratch.keys[child as usize] = super::KeyMark { object, start, end };
        Ok(())
    }

    /// Reads a value at a step of the tree, inside `depth` brackets.
    fn value(&mut self, node: u32, context: u32, depth: usize) -> Done {
        let value = match self.next_byte()? {
            b'{' if self.set.nodes[node as usize].children.is_empty() => {
                return self.skip_value(depth);
            }
            b'{' => return self.object(node, context, depth + 1),
            b'[' => return self.array(node, context, depth + 1),
            b'"' => {
                let (body, escaped) = self.string()?;
                if escaped {
                    return self.escaped_text(node, body, context);
                }
                Value::Text(body)
            }
            word @ (b't' | b'f' | b'n') => {
                self.at = skip::word_end(self.bytes, self.at)?;
                match word {
                    b't' => Value::True,
                    b'f' => Value::False,
                    _ => Value::Null,
                }
            }
            _ => Value::Number(self.number()?),
        };
        self.look_at(node, value, context)
    }

    #[cold]
    fn escaped_text(&mut self, node: u32, body: &[u8], context: u32) -> Done {
        let mut text = std::mem::take(&mut self.scratch.text);
        text.clear();
        scan::unescape(body, &mut text);
        let done = self.look_at(node, Value::Text(&text), context);
        self.scratch.text = text;
        done
    }

    fn look_at(&mut self, node: u32, value: Value, context: u32) -> Done {
        let field = self.set.nodes[node as usize].field;
        let Some(field) = self.set.fields.get(field as usize) else {
            return Ok(());
        };
        let Scratch {
            field: room, hits, ..
        } = &mut *self.scratch;
        field.look_at(value, room, &mut |condition| hits.hit(condition, context));
        if hits.log.len() > MAX_HITS {
            Err(EventError::CombinesTooMany)
        } else {
            Ok(())
        }
    }

    /// Reads an array at a step of the tree: its elements count as values there. `depth` counts it.
    fn array(&mut self, node: u32, context: u32, depth: usize) -> Done {
        let mut more = self.opens(b']', depth)?;
        if !more {
            return Ok(());
        }
        let tells_apart = self.set.joins;
        let array = if tells_apart {
            self.scratch.contexts.open_array()
        } else {
            NONE
        };
        while more {
            if tells_apart && matches!(self.next_byte()?, b'{' | b'[') {
                let element = self.scratch.contexts.open(context, array);
                self.value(node, element, depth)?;
                self.scratch.contexts.close(element);
            } else {
                self.value(node, context, depth)?;
            }
            more = self.another(b']')?;
        }
        if tells_apart {
            self.scratch.contexts.close_array(array);
        }
        Ok(())
    }

    /// Checks a value and passes over it. It stands inside `depth` brackets.
    #[inline]
    fn skip_value(&mut self, depth: usize) -> Done {
        self.skip_whitespace();
        self.at = skip::value_end(self.bytes, self.at, depth)?;
        Ok(())
    }
}
