//! What the expressions of a state see, and the context object.

use std::cell::OnceCell;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::event::{About, Item};
use super::state::Variables;
use crate::jsonata::{Bindings, StatesField};
use crate::scope::Scope;

/// The variables and items of a strand and of those around it, innermost first.
#[derive(Clone, Copy)]
pub(super) struct Chain<'a> {
    pub(super) variables: &'a Variables,
    pub(super) item: Option<&'a Item>,
    pub(super) outer: Option<&'a Chain<'a>>,
}

impl<'a> Chain<'a> {
    fn variable(&self, name: &str) -> Option<&'a Value> {
        let mut chain = Some(self);
        while let Some(here) = chain {
            if let Some(value) = here.variables.get(name) {
                return Some(value);
            }
            chain = here.outer;
        }
        None
    }

    fn item(&self) -> Option<&'a Item> {
        let mut chain = Some(self);
        while let Some(here) = chain {
            if here.item.is_some() {
                return here.item;
            }
            chain = here.outer;
        }
        None
    }
}

/// What is fixed during a visit, or an attempt of it.
#[derive(Clone, Copy)]
pub(super) struct Standing<'a> {
    pub(super) about: &'a About,
    pub(super) state: &'a str,
    pub(super) entered_at: Timestamp,
    /// None where the state cannot be tried again.
    pub(super) retry_count: Option<u64>,
    pub(super) chain: &'a Chain<'a>,
    pub(super) token: Option<&'a str>,
    /// The item an item template is evaluated for.
    pub(super) item: Option<&'a Item>,
}

impl<'a> Standing<'a> {
    /// The view where `$`, and `$states.input`, is this value.
    pub(super) fn of(self, input: &'a Value) -> View<'a> {
        View {
            standing: self,
            input,
            result: None,
            error_output: None,
            context: OnceCell::new(),
        }
    }

    /// The context object (aws-semantics 10.9).
    fn context(&self) -> Value {
        let about = self.about;
        let mut context = json!({
            "Execution": {
                "Id": &*about.id,
                "Input": &*about.input,
                "StartTime": format!("{:.3}", about.start_time),
                "Name": &*about.name,
                "RoleArn": &*about.role,
                "RedriveCount": 0,
            },
            "StateMachine": {"Id": &*about.machine_id, "Name": &*about.machine_name},
            "State": {
                "Name": self.state,
                "EnteredTime": format!("{:.3}", self.entered_at),
            },
        });
        if let Some(count) = self.retry_count {
            context["State"]["RetryCount"] = count.into();
        }
        if let Some(token) = self.token {
            context["Task"] = json!({"Token": token});
        }
        if let Some(item) = self
            .item
            .or_else(|| self.chain.item())
            .or(about.item.as_ref())
        {
            let mut fields = Map::new();
            fields.insert("Index".into(), item.index.into());
            if let Some(key) = &item.key {
                fields.insert("Key".into(), (&**key).into());
            }
            fields.insert("Value".into(), (*item.value).clone());
            context["Map"] = json!({"Item": fields});
        }
        context
    }
}

/// What one expression sees.
pub(super) struct View<'a> {
    pub(super) standing: Standing<'a>,
    pub(super) input: &'a Value,
    pub(super) result: Option<&'a Value>,
    pub(super) error_output: Option<&'a Value>,
    /// Built when an expression asks for it: few do.
    context: OnceCell<Value>,
}

impl<'a> View<'a> {
    pub(super) fn with_result(self, result: &'a Value) -> Self {
        Self {
            result: Some(result),
            ..self
        }
    }

    pub(super) fn with_error_output(self, output: &'a Value) -> Self {
        Self {
            error_output: Some(output),
            ..self
        }
    }

    fn context(&self) -> &Value {
        self.context.get_or_init(|| self.standing.context())
    }
}

impl Scope for View<'_> {
    fn input(&self) -> &Value {
        self.input
    }

    fn context(&self) -> &Value {
        View::context(self)
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.standing.chain.variable(name)
    }
}

impl Bindings for View<'_> {
    fn states(&self, field: StatesField) -> Option<&Value> {
        match field {
            StatesField::Input => Some(self.input),
            StatesField::Result => self.result,
            StatesField::ErrorOutput => self.error_output,
            StatesField::Context => Some(View::context(self)),
        }
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.standing.chain.variable(name)
    }
}
