//! Whether an object is already as wanted. Pure.
//!
//! Only the fields that we decide are compared; what defaulting, other controllers and users added
//! is theirs. A field that we no longer decide is noticed by the hash of what we applied last, which
//! is kept in an annotation.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Annotation with the hash of the object as it was last applied.
pub const APPLIED_HASH: &str = "weir.dev/applied-hash";

/// Adds the hash of an object to its annotations.
pub fn stamp(object: &mut Value) {
    let hash = hash(object);
    let metadata = object["metadata"]
        .as_object_mut()
        .expect("objects have metadata");
    let annotations = metadata
        .entry("annotations")
        .or_insert_with(|| Value::Object(Map::new()));
    annotations[APPLIED_HASH] = Value::String(hash);
}

fn hash(object: &Value) -> String {
    let digest = Sha256::digest(object.to_string().as_bytes());
    digest
        .iter()
        .take(8)
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Whether `live` has everything that `wanted` says.
pub fn is_as_wanted(wanted: &Value, live: &Value) -> bool {
    matches(wanted, live, "")
}

fn matches(wanted: &Value, live: &Value, field: &str) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(field, value)| {
            live.get(field)
                .map_or_else(|| is_empty(value), |live| matches(value, live, field))
        }),
        (Value::Array(wanted), Value::Array(live)) => lists_match(wanted, live, field),
        (Value::String(wanted), Value::String(live)) => {
            wanted == live || is_amount(field, wanted, live)
        }
        _ => wanted == live,
    }
}

/// Lists of named things match when each wanted one is there; other lists when they are equal.
fn lists_match(wanted: &[Value], live: &[Value], field: &str) -> bool {
    match wanted.first().and_then(key_of) {
        Some(key) => wanted.iter().all(|wanted| {
            live.iter()
                .find(|live| {
                    key.iter()
                        .all(|field| live.get(*field) == wanted.get(*field))
                })
                .is_some_and(|live| matches(wanted, live, field))
        }),
        None => {
            wanted.len() == live.len()
                && wanted
                    .iter()
                    .zip(live)
                    .all(|(wanted, live)| matches(wanted, live, field))
        }
    }
}

/// The fields that tell the elements of a list apart, as the API server merges them. Lists whose
/// elements have neither are compared as a whole.
fn key_of(element: &Value) -> Option<&'static [&'static str]> {
    let has = |field: &str| element.get(field).is_some();
    match () {
        () if has("uid") => Some(&["uid"]),
        () if has("mountPath") => Some(&["mountPath"]),
        () if has("containerPort") => Some(&["containerPort", "protocol"]),
        () if has("topologyKey") => Some(&["topologyKey", "whenUnsatisfiable"]),
        () if has("name") => Some(&["name"]),
        () => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Resources whose amounts the API server writes in its own way: `0.1` becomes `100m`.
fn is_amount(field: &str, wanted: &str, live: &str) -> bool {
    let amounts = ["cpu", "memory", "ephemeral-storage", "sizeLimit"];
    let known = amounts.contains(&field) || field.starts_with("hugepages-") || field.contains('/');
    known && amount(wanted).is_some_and(|wanted| amount(live) == Some(wanted))
}

/// A quantity in thousandths of a millionth, exactly; none for what is not a quantity.
fn amount(text: &str) -> Option<i128> {
    const NANO: i128 = 1_000_000_000;
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let suffixes: BTreeMap<&str, i128> = [
        ("n", 1),
        ("u", 1000),
        ("m", 1_000_000),
        ("", NANO),
        ("k", NANO * 1000),
        ("M", NANO * 1_000_000),
        ("G", NANO * 1_000_000_000),
        ("T", NANO * 1_000_000_000_000),
        ("P", NANO * 1_000_000_000_000_000),
        ("Ki", NANO << 10),
        ("Mi", NANO << 20),
        ("Gi", NANO << 30),
        ("Ti", NANO << 40),
        ("Pi", NANO << 50),
    ]
    .into();
    let unit = if let Some(unit) = suffixes.get(suffix) {
        *unit
    } else {
        let power: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        NANO.checked_mul(10_i128.checked_pow(power)?)?
    };
    let digits = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<i128>().ok()
        }
    };
    if fraction.len() > 9 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = digits(whole)?.checked_mul(unit)?;
    let fraction = digits(fraction)?.checked_mul(unit)? / scale;
    whole.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_added_is_theirs_and_what_they_changed_is_noticed() {
        let wanted = json!({
            "metadata": { "labels": { "a": "1" }, "ownerReferences": [{ "uid": "u", "name": "n" }] },
            "spec": { "replicas": 2, "template": { "containers": [
                { "name": "a", "image": "x", "ports": [{ "containerPort": 1, "protocol": "TCP", "name": "p" }],
                  "args": ["--x"], "resources": { "limits": { "cpu": "0.1", "memory": "1024Mi" } } },
            ] } },
            "emptyDir": {},
        });
        let mut live = json!({
            "metadata": {
                "labels": { "a": "1", "b": "2" }, "resourceVersion": "7",
                "ownerReferences": [{ "uid": "other" }, { "uid": "u", "name": "n" }],
            },
            "spec": { "replicas": 2, "paused": false, "template": { "containers": [
                { "name": "injected" },
                { "name": "a", "image": "x", "imagePullPolicy": "Always",
                  "ports": [{ "containerPort": 1, "protocol": "TCP", "name": "p" }],
                  "args": ["--x"], "resources": { "limits": { "cpu": "100m", "memory": "1Gi" } } },
            ] } },
        });
        assert!(is_as_wanted(&wanted, &live));
        for (pointer, value) in [
            ("/metadata/labels/a", json!("2")),
            ("/metadata/labels", json!({})),
            ("/metadata/ownerReferences/1/uid", json!("x")),
            ("/spec/replicas", json!(3)),
            ("/spec/template/containers/1/image", json!("y")),
            ("/spec/template/containers/1/name", json!("b")),
            ("/spec/template/containers/1/args", json!(["--x", "--y"])),
            ("/spec/template/containers/1/args", json!([])),
            (
                "/spec/template/containers/1/ports/0/containerPort",
                json!(2),
            ),
            (
                "/spec/template/containers/1/resources/limits/cpu",
                json!("101m"),
            ),
        ] {
            let before = std::mem::replace(live.pointer_mut(pointer).unwrap(), value);
            assert!(!is_as_wanted(&wanted, &live), "{pointer}");
            *live.pointer_mut(pointer).unwrap() = before;
        }
    }

    #[test]
    fn a_hash_changes_with_the_object() {
        let stamped = |replicas: i32| {
            let mut object =
                json!({ "metadata": { "name": "n" }, "spec": { "replicas": replicas } });
            stamp(&mut object);
            object["metadata"]["annotations"][APPLIED_HASH].clone()
        };
        assert_eq!(stamped(1), stamped(1));
        assert_ne!(stamped(1), stamped(2));
    }

    #[test]
    fn amounts_are_compared_as_numbers() {
        for (left, right) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1e3", "1k"),
            ("1.5Gi", "1536Mi"),
        ] {
            assert!(is_amount("memory", left, right), "{left} {right}");
        }
        assert!(!is_amount("memory", "1G", "1Gi"));
        assert!(!is_amount("memory", "x", "y"));
        assert!(
            !is_amount("MODE", "1", "1000m"),
            "only where amounts are written"
        );
        assert_eq!(amount("99999999999999999999999999999999999999P"), None);
    }
}
