//! Encodings, hashes and JSON as text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::Digest as _;

use super::MAX_TEXT_CHARACTERS;

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("the {what} argument must be a string, but was: {value}"))?;
    if text.chars().count() > MAX_TEXT_CHARACTERS {
        return Err(format!(
            "the {what} argument must have at most {MAX_TEXT_CHARACTERS} characters"
        ));
    }
    Ok(text)
}

pub(super) fn base64_encode(value: &Value) -> Result<Value, String> {
    Ok(Value::String(STANDARD.encode(text(value, "first")?)))
}

pub(super) fn base64_decode(value: &Value) -> Result<Value, String> {
    let bytes = STANDARD
        .decode(text(value, "first")?)
        .map_err(|error| format!("the argument is not valid Base64: {error}"))?;
    Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
}

pub(super) fn hash(data: &Value, algorithm: &Value) -> Result<Value, String> {
    let data = text(data, "first")?;
    digest(data, text(algorithm, "second")?).map(Value::String).ok_or_else(|| {
        format!("the algorithm must be one of MD5, SHA-1, SHA-256, SHA-384, SHA-512, but was: {algorithm}")
    })
}

/// The digest in lower-case hexadecimal; none for an unknown algorithm.
pub(crate) fn digest(data: &str, algorithm: &str) -> Option<String> {
    let bytes = match algorithm {
        "MD5" => md5::Md5::digest(data).to_vec(),
        "SHA-1" => sha1::Sha1::digest(data).to_vec(),
        "SHA-256" => sha2::Sha256::digest(data).to_vec(),
        "SHA-384" => sha2::Sha384::digest(data).to_vec(),
        "SHA-512" => sha2::Sha512::digest(data).to_vec(),
        _ => return None,
    };
    Some(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Fields of both, the second's where both have one. Deep merging does not exist.
pub(super) fn merge(arguments: Vec<Value>) -> Result<Value, String> {
    let mut arguments = arguments.into_iter();
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(Value::Object(mut left)), Some(Value::Object(right)), Some(Value::Bool(false))) => {
            left.extend(right);
            Ok(Value::Object(left))
        }
        (Some(Value::Object(_)), Some(Value::Object(_)), _) => {
            Err("the third argument must be false: only shallow merging is supported".to_owned())
        }
        _ => Err("the first two arguments must be JSON objects".to_owned()),
    }
}

pub(super) fn string_to_json(value: &Value) -> Result<Value, String> {
    let Some(text) = value.as_str() else {
        return Err(format!("the argument must be a string, but was: {value}"));
    };
    parse_json(text).map_err(|error| format!("the argument is not valid JSON: {error}"))
}

/// JSON text to value: an empty text is null and `-0` is 0, as recorded.
pub(crate) fn parse_json(text: &str) -> Result<Value, serde_json::Error> {
    match text.trim() {
        "" => Ok(Value::Null),
        "-0" => Ok(Value::from(0)),
        text => serde_json::from_str(text),
    }
}
