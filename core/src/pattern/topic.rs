//! SNS filter policies: the limits a policy is held to, and how a message's attributes or body are matched.

use super::error::PatternError;
use super::grammar::Grammar;
use super::set::{EventError, Scratch, Set};
use super::{Dialect, Pattern, scan};

/// Keys a filter policy may have (aws-semantics 6.8).
const MAX_KEYS: usize = 5;
/// Combinations of values a filter policy may have.
const MAX_COMBINATIONS: u64 = 150;

pub(super) fn check_limits(grammar: &Grammar, dialect: Dialect) -> Result<(), PatternError> {
    if dialect == Dialect::TopicAttributes && grammar.nested {
        return Err(PatternError::of(
            "Filter policy scope MessageAttributes does not support nested filter policy",
        ));
    }
    if grammar.keys > MAX_KEYS {
        return Err(PatternError::of(format!(
            "Filter policy can not have more than {MAX_KEYS} keys"
        )));
    }
    if grammar.combinations > MAX_COMBINATIONS {
        return Err(PatternError::of("Filter policy is too complex"));
    }
    Ok(())
}

/// What of a message a filter policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum PolicyScope {
    /// The message's attributes.
    #[default]
    MessageAttributes,
    /// The message's body, a JSON object.
    MessageBody,
}

/// An attribute of a message, as SNS has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Unique among the message's attributes.
    pub name: &'a str,
    /// `String`, `Number`, `Binary` or `String.Array`; a label may follow a dot (`Number.float`).
    pub data_type: &'a str,
    /// The text of the value; empty for `Binary`, which filters ignore.
    pub value: &'a str,
}

/// Why a message cannot be matched. A body that is no JSON object is not such a case: it matches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be matched: {0}")]
pub struct MessageError(#[from] EventError);

/// A subscription's filter policy.
#[derive(Debug)]
pub struct Policy {
    set: Set,
    scope: PolicyScope,
    /// An empty policy lets everything pass, also what is not JSON.
    is_empty: bool,
}

impl Policy {
    /// Reads a filter policy and checks what SNS checks when it is attached to a subscription.
    pub fn parse(source: &str, scope: PolicyScope) -> Result<Self, PatternError> {
        let dialect = match scope {
            PolicyScope::MessageAttributes => Dialect::TopicAttributes,
            PolicyScope::MessageBody => Dialect::TopicBody,
        };
        let pattern = Pattern::parse(source, dialect)?;
        let set = Set::new([&pattern]).map_err(|error| PatternError::of(error.to_string()))?;
        let is_empty = pattern
            .branches
            .iter()
            .any(super::grammar::Branch::is_empty);
        Ok(Self {
            set,
            scope,
            is_empty,
        })
    }

    /// The memory that [`Policy::delivers`] works in.
    pub fn scratch(&self) -> Scratch {
        self.set.scratch()
    }

    /// Whether the subscription gets the message. One that is filtered out goes nowhere, never to the dead letters.
    pub fn delivers(
        &self,
        body: &[u8],
        attributes: &[Attribute],
        scratch: &mut Scratch,
    ) -> Result<bool, MessageError> {
        let event;
        let bytes = match self.scope {
            PolicyScope::MessageBody => body,
            PolicyScope::MessageAttributes => {
                event = as_event(attributes);
                event.as_bytes()
            }
        };
        match self.set.matches(bytes, scratch) {
            Ok(matched) => Ok(!matched.is_empty()),
            Err(EventError::IsNoObject | EventError::IsMalformed(_) | EventError::NestsTooDeep) => {
                Ok(self.is_empty)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The attributes as an object whose members have the types the attributes say.
///
/// `Binary`, `Number.Array` and values that are not of their type are left out, as if the message did not have them.
fn as_event(attributes: &[Attribute]) -> String {
    let mut event = String::from("{");
    for attribute in attributes {
        let base = attribute.data_type.split('.').next().unwrap_or_default();
        let value = match base {
            "String" if attribute.data_type == "String.Array" => {
                match serde_json::from_str::<Vec<serde_json::Value>>(attribute.value) {
                    Ok(_) => attribute.value.to_owned(),
                    Err(_) => continue,
                }
            }
            "String" => serde_json::Value::from(attribute.value).to_string(),
            "Number" if attribute.data_type != "Number.Array" => match number(attribute.value) {
                Some(number) => number.to_owned(),
                None => continue,
            },
            _ => continue,
        };
        if event.len() > 1 {
            event.push(',');
        }
        // A dot in an attribute's name is part of it, and so it is in a policy: both are joined the same way.
        event.push_str(&serde_json::Value::from(attribute.name).to_string());
        event.push(':');
        event.push_str(&value);
    }
    event.push('}');
    event
}

fn number(text: &str) -> Option<&str> {
    let text = text.trim();
    (scan::number_end(text.as_bytes(), 0) == Some(text.len())).then_some(text)
}
