//! `States.Format` and `States.StringSplit`.

use serde_json::Value;

/// The template with each `{}` replaced by the next argument. A backslash takes the meaning from the character after it.
pub(super) fn format(template: &str, arguments: &[Value]) -> Result<Value, String> {
    let mut text = String::with_capacity(template.len());
    let mut given = arguments.iter();
    let mut places = 0;
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(escaped @ ('\'' | '{' | '}' | '\\')) => text.push(escaped),
                Some(other) => {
                    text.push('\\');
                    text.push(other);
                }
                None => text.push('\\'),
            },
            '{' if rest.peek() == Some(&'}') => {
                rest.next();
                places += 1;
                if let Some(argument) = given.next() {
                    write(argument, &mut text);
                }
            }
            '{' | '}' => {
                return Err(format!(
                    "the template has a '{c}' that is neither part of {{}} nor escaped by a backslash"
                ));
            }
            other => text.push(other),
        }
    }
    if places != arguments.len() {
        return Err(format!(
            "the template has {places} places {{}}, but {} arguments were given",
            arguments.len()
        ));
    }
    Ok(Value::String(text))
}

/// Texts without quotes; objects and arrays as `{a=1, b=[x, y]}`, as recorded.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push('{');
            for (index, (name, field)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                text.push_str(name);
                text.push('=');
                write(field, text);
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// The parts between delimiters. Every character of the second argument is a delimiter, and empty parts are dropped, as
/// recorded.
pub(super) fn split(text: &Value, delimiters: &Value) -> Result<Value, String> {
    let (Some(text), Some(delimiters)) = (text.as_str(), delimiters.as_str()) else {
        return Err("both arguments must be strings".to_owned());
    };
    let parts = text
        .split(|c| delimiters.contains(c))
        .filter(|part| !part.is_empty());
    Ok(parts.map(Value::from).collect())
}
