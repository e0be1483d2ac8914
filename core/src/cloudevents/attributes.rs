//! Names and values of attributes, and their form in headers.

use super::InvalidEvent;
use crate::encoding::{percent_decode, percent_encode};

/// What every event has.
pub(super) const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// Longest part of a wrong name or value that an error repeats.
const SHOWN: usize = 40;

/// The name, if it may be one. `data` and what is not an attribute in JSON may not.
pub(super) fn check_name(name: &str) -> Result<&str, InvalidEvent> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=20).contains(&name.len()) && name.bytes().all(plain) && name != "data" {
        Ok(name)
    } else {
        Err(InvalidEvent::Name { name: shown(name) })
    }
}

/// Checks the rules of the specification for the value of an attribute.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), InvalidEvent> {
    let wrong = |why| {
        Err(InvalidEvent::Attribute {
            name: name.to_owned(),
            why,
        })
    };
    if value.contains(char::is_control) {
        return wrong("has a control character: leave it out");
    }
    match name {
        "specversion" if value != "1.0" => Err(InvalidEvent::Version {
            found: shown(value),
        }),
        "id" | "source" | "type" if value.is_empty() => wrong("is empty"),
        "source" | "dataschema" if value.contains(char::is_whitespace) => {
            wrong("must be a URI, which has no spaces")
        }
        "time" if value.parse::<jiff::Timestamp>().is_err() => {
            wrong("must be a time as in RFC 3339, 2026-01-02T03:04:05Z")
        }
        "datacontenttype" if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            wrong("must be a media type as application/json")
        }
        _ => Ok(()),
    }
}

/// Writes the value of an attribute as that of a header (HTTP binding 3.1.3.2).
pub(super) fn to_header(value: &str) -> String {
    percent_encode(value, |byte| {
        byte.is_ascii_graphic() && byte != b'"' && byte != b'%'
    })
}

/// Reads the value of an attribute from that of a header: double quotes are undone, then
/// percent-encoding. Bytes above ASCII are read as UTF-8. `None` where that is not text.
pub(super) fn from_header(value: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
    percent_decode(&unquoted(&String::from_utf8(bytes?).ok()?))
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

pub(super) fn shown(text: &str) -> String {
    text[..text.floor_char_boundary(SHOWN)].to_owned()
}
