//! `weir version`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::args::Version;
use crate::failure::Failure;
use crate::output::print;
use crate::place::Place;

/// Prints the version of this program and, where one answers, of the runtime.
pub async fn version(arguments: Version) -> Result<(), Failure> {
    let mut document = json!({ "client": env!("CARGO_PKG_VERSION") });
    if !arguments.client
        && let Ok(place) = Place::find(&arguments.place).await
        && let Ok(objects) = place.ops::<Value>(&place.objects_path()).await
    {
        document["runtime"] = json!({ "version": objects["version"], "at": place.describe() });
    }
    print(arguments.output, &document, table, |d| {
        vec![d["client"].as_str().unwrap_or("").into()]
    })
}

fn table(document: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut text = format!("client   {}\n", part(&document["client"]));
    if let Some(runtime) = document.get("runtime") {
        let (version, at) = (part(&runtime["version"]), part(&runtime["at"]));
        let _ = writeln!(text, "runtime  {version} ({at})");
    }
    text
}
