//! `weir send`: one message over HTTP, as any producer would post it.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use weir_broker::{Clock as _, SystemClock};

use crate::args::Send;
use crate::failure::Failure;
use crate::output::print;
use crate::place::{Place, parse_object};
use crate::sign;

/// Largest body that is read, bytes: what no broker takes need not be read.
const BODY_LIMIT: u64 = 64 << 20;

/// Sends it and prints the id.
pub async fn send(arguments: Send) -> Result<(), Failure> {
    let (kind, name) = parse_object(&arguments.object)?;
    let body = match (&arguments.data, &arguments.file) {
        (Some(data), _) => data.clone().into_bytes(),
        (None, Some(path)) => read_body(path)?,
        (None, None) => {
            return Err(Failure::usage("nothing to send")
                .next("give a body with -d '{\"hello\": 1}' or -f FILE (`-` is standard input)"));
        }
    };
    let mut request = Request::post(format!("/{}/{name}", kind.plural())).header("host", "weir");
    let content_type = arguments.content_type.clone().unwrap_or_else(|| {
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        if is_json {
            "application/json"
        } else {
            "application/octet-stream"
        }
        .to_owned()
    });
    request = request.header("content-type", content_type);
    if let Some(delay) = arguments.delay {
        request = request.header("weir-delay-seconds", delay);
    }
    if let Some(group) = &arguments.group {
        request = request.header("weir-group", group);
    }
    for header in &arguments.headers {
        let (name, value) = header.split_once('=').ok_or_else(|| {
            Failure::usage(format!("`{header}` is no header")).next("write --header name=value")
        })?;
        request = request.header(name.trim(), value.trim());
    }
    if let Some(key) = &arguments.sign_with {
        let random = std::array::from_fn(|_| fastrand::u8(..));
        for (name, value) in sign::headers(&arguments, key, &body, SystemClock.now(), random)? {
            request = request.header(name, value);
        }
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|why| Failure::usage(format!("a header cannot be sent: {why}")))?;

    let place = Place::find(&arguments.place).await?;
    let (status, answer) = place.send(request).await?;
    let document: Value = serde_json::from_slice(&answer).unwrap_or_else(|_| json!({}));
    if !status.is_success() {
        let said = document["message"].as_str().unwrap_or("no explanation");
        return Err(Failure::new(format!("not accepted: {status}: {said}")));
    }
    print(arguments.output, &document, table, |d| vec![text(d, "id")])
}

fn table(document: &Value) -> String {
    let repeated = document["duplicate"].as_bool().unwrap_or(false);
    format!(
        "{}{}",
        text(document, "id"),
        if repeated {
            "  (known: nothing was stored)"
        } else {
            ""
        }
    )
}

fn text(document: &Value, field: &str) -> String {
    document[field].as_str().unwrap_or_default().to_owned()
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(BODY_LIMIT).read_to_end(&mut body)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BODY_LIMIT).read_to_end(&mut body))
    };
    read.map_err(|why| Failure::usage(format!("cannot read {}: {why}", path.display())))?;
    Ok(body)
}
