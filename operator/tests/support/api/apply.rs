//! Server-side apply, as far as one needs it: fields that a manager applied and no longer does go,
//! unless another one applied them too.

use serde_json::{Map, Value};

/// Lists that are merged by a key.
fn key_of(items: &[Value]) -> Option<&'static str> {
    let first = items.first()?;
    [
        "uid",
        "mountPath",
        "type",
        "containerPort",
        "topologyKey",
        "name",
    ]
    .into_iter()
    .find(|key| first.get(key).is_some_and(|value| !value.is_object()))
}

/// `live` with what a manager applies now, which applied `before` the last time.
pub fn apply(live: &mut Value, before: &Value, now: &Value, others: &[&Value]) {
    remove(live, before, Some(now), others);
    merge(live, now);
}

fn merge(live: &mut Value, new: &Value) {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => {
            for (field, value) in new {
                match live.get_mut(field) {
                    Some(live) => merge(live, value),
                    None => {
                        live.insert(field.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(live), Value::Array(new)) if key_of(new).is_some() => {
            let key = key_of(new).unwrap();
            for value in new {
                match live.iter_mut().find(|live| live[key] == value[key]) {
                    Some(live) => merge(live, value),
                    None => live.push(value.clone()),
                }
            }
        }
        (live, new) => *live = new.clone(),
    }
}

fn remove(live: &mut Value, before: &Value, now: Option<&Value>, others: &[&Value]) {
    match (live, before) {
        (Value::Object(live), Value::Object(before)) => {
            for (field, before) in before {
                let now = now.and_then(|now| now.get(field));
                let others: Vec<&Value> = others.iter().filter_map(|o| o.get(field)).collect();
                remove_field(live, field, before, now, &others);
            }
        }
        (Value::Array(live), Value::Array(before)) => {
            let Some(key) = key_of(before) else { return };
            let find = |list: &Value, value: &Value| {
                list.as_array()?
                    .iter()
                    .find(|item| item[key] == value[key])
                    .cloned()
            };
            for before in before {
                let now = now.and_then(|now| find(now, before));
                let others: Vec<Value> = others.iter().filter_map(|o| find(o, before)).collect();
                let others: Vec<&Value> = others.iter().collect();
                let Some(index) = live.iter().position(|item| item[key] == before[key]) else {
                    continue;
                };
                if now.is_none() && others.is_empty() {
                    live.remove(index);
                } else {
                    remove(&mut live[index], before, now.as_ref(), &others);
                }
            }
        }
        _ => {}
    }
}

fn remove_field(
    live: &mut Map<String, Value>,
    field: &str,
    before: &Value,
    now: Option<&Value>,
    others: &[&Value],
) {
    let is_container = before.is_object()
        || before
            .as_array()
            .is_some_and(|items| key_of(items).is_some());
    if is_container && let Some(inner) = live.get_mut(field) {
        remove(inner, before, now, others);
        let empty = inner.as_object().is_some_and(Map::is_empty)
            || inner.as_array().is_some_and(Vec::is_empty);
        if empty && now.is_none() && others.is_empty() {
            live.remove(field);
        }
    } else if now.is_none() && others.is_empty() {
        live.remove(field);
    }
}
