//! What the expressions of a state can see.

use std::collections::BTreeMap;

use serde_json::Value;

/// The roots of paths and intrinsic arguments: `$`, `$$` and `$name` (aws-semantics 10.3.2).
///
/// A trait, so that the interpreter builds the context object only when an expression asks for it.
pub trait Scope {
    /// What `$` stands for.
    fn input(&self) -> &Value;
    /// What `$$` stands for: the context object.
    fn context(&self) -> &Value;
    /// The value of the variable `$name`, nearest scope first.
    fn variable(&self, name: &str) -> Option<&Value>;
}

/// A scope of plain values.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    /// `$`.
    pub input: &'a Value,
    /// `$$`.
    pub context: &'a Value,
    /// `$name`.
    pub variables: &'a BTreeMap<String, Value>,
}

impl Scope for Values<'_> {
    fn input(&self) -> &Value {
        self.input
    }

    fn context(&self) -> &Value {
        self.context
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }
}
