//! `weir dlq`: dead letters, from a first look to the end of a redrive.

mod look;
mod redrive;
mod transfer;

use serde_json::Value;
use weir_core::object::Kind;
use weir_core::ops::ObjectList;

use crate::args::{Dlq, Which};
use crate::failure::Failure;
use crate::place::{Place, parse_object, path_segment};

/// Runs one of the subcommands.
pub async fn dlq(command: Dlq) -> Result<(), Failure> {
    match command {
        Dlq::List(arguments) => look::list(arguments).await,
        Dlq::Peek(arguments) => look::peek(arguments).await,
        Dlq::Show(arguments) => look::show(arguments).await,
        Dlq::Redrive(arguments) => redrive::redrive(arguments).await,
        Dlq::RedriveStatus(arguments) => redrive::status(arguments).await,
        Dlq::RedriveCancel(arguments) => redrive::cancel(arguments).await,
        Dlq::Purge(arguments) => redrive::purge(arguments).await,
        Dlq::Export(arguments) => transfer::export(arguments).await,
        Dlq::Import(arguments) => transfer::import(arguments).await,
    }
}

impl Which {
    /// The filter, checked here, where its author sees it.
    fn check(&self) -> Result<(), Failure> {
        weir_core::ops::parse_filter(self.filter.as_deref())
            .map(drop)
            .map_err(|why| Failure::usage(format!("--{why}")))
    }

    /// As a parameter behind others.
    fn parameter(&self) -> String {
        let filter = self.filter.as_deref();
        filter.map_or_else(String::new, |filter| {
            format!("&where={}", path_segment(filter))
        })
    }
}

/// The objects that a command is about.
async fn objects(place: &Place, named: Option<&str>) -> Result<Vec<(Kind, String)>, Failure> {
    if let Some(object) = named {
        return Ok(vec![parse_object(object)?]);
    }
    let list: ObjectList = place.ops(&place.objects_path()).await?;
    let part = |object: &std::collections::BTreeMap<String, Value>, field: &str| {
        let value = object.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    list.objects
        .iter()
        .map(|object| {
            parse_object(&format!(
                "{}/{}",
                part(object, "kind"),
                part(object, "name")
            ))
        })
        .collect()
}

/// The value as a cell of a table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
