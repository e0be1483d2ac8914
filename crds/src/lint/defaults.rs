//! Defaults as the API server fills them in.

use serde_json::Value;

/// `value` with nulls taken away, where the schema knows the field and does not allow null, and with
/// the schema's defaults in place of what is missing. A default that is itself an object is
/// completed in turn, as the server does.
pub fn with_defaults(schema: &Value, value: &Value) -> Value {
    let mut value = value.clone();
    fill(schema, &mut value);
    value
}

fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(properties) = schema["properties"].as_object() {
                object.retain(|name, child| !(child.is_null() && properties.contains_key(name)));
                for (name, property) in properties {
                    if let Some(default) = property.get("default") {
                        object
                            .entry(name.clone())
                            .or_insert_with(|| default.clone());
                    }
                    if let Some(child) = object.get_mut(name) {
                        fill(property, child);
                    }
                }
            }
            if let Some(schema) = schema.get("additionalProperties").filter(|s| s.is_object()) {
                object.retain(|_, child| !child.is_null());
                object.values_mut().for_each(|child| fill(schema, child));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill(schema, item);
                }
            }
        }
        _ => {}
    }
}

/// 5.0 is the integer 5, to the server and to the types.
pub(super) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let number = number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && n.abs() < 9e15);
            if let Some(number) = number {
                *value = Value::from(number as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(object) => object.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_block_and_a_partial_block_are_completed() {
        let schema = json!({"properties": {"retry": {
            "default": {}, "properties": {"max": {"default": 5}, "min": {"default": 1}}
        }}});
        let full = json!({"retry": {"max": 5, "min": 1}});
        assert_eq!(with_defaults(&schema, &json!({})), full);
        assert_eq!(with_defaults(&schema, &json!({"retry": null})), full);
        assert_eq!(
            with_defaults(&schema, &json!({"retry": {"max": null}})),
            full
        );
        assert_eq!(
            with_defaults(&schema, &json!({"retry": {"max": 9}})),
            json!({"retry": {"max": 9, "min": 1}})
        );
    }

    #[test]
    fn entries_of_lists_and_maps_are_completed() {
        let entry = json!({"properties": {"optional": {"default": false}}});
        let schema = json!({"properties": {
            "list": {"items": entry}, "map": {"additionalProperties": entry}
        }});
        assert_eq!(
            with_defaults(&schema, &json!({"list": [{}], "map": {"a": {}, "b": null}})),
            json!({"list": [{"optional": false}], "map": {"a": {"optional": false}}})
        );
    }
}
