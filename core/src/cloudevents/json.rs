//! Objects of JSON whose values are kept as they were written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{DEEPEST_JSON, InvalidEvent};
use crate::dead_letter::one_line;

/// The fields of an object in their order, with repetitions.
pub(super) struct Fields<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((Cow::Owned(name), value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// Reads a document that is nested at most [`DEEPEST_JSON`] deep.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, InvalidEvent> {
    if is_too_deep(body) {
        let why = format!("it is nested more than {DEEPEST_JSON} deep");
        return Err(InvalidEvent::NotJson { why });
    }
    serde_json::from_slice(body).map_err(|error| InvalidEvent::NotJson {
        why: one_line(&error.to_string()),
    })
}

/// Whether `body` is one value of JSON, not too deep.
pub(super) fn is_value(body: &[u8]) -> bool {
    read::<&RawValue>(body).is_ok()
}

/// `body` as one value of JSON, when it is one and not too deep.
pub(crate) fn as_json(body: &[u8]) -> Option<serde_json::Value> {
    read(body).ok()
}

/// Looks at brackets only; what else is wrong with the text is found by the parser, which keeps raw
/// values without a bound of its own.
fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST_JSON {
            return true;
        }
    }
    false
}
