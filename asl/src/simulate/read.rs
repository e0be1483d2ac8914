//! The items of a distributed Map from the content of a file.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::definition::{HeaderLocation, InputType, Reader};

/// The items in a text, in the format that the reader names. The error is a cause for
/// `States.ItemReaderFailed` (aws-semantics 10.6.8).
pub fn read_items(text: &str, reader: &Reader) -> Result<Vec<Value>, String> {
    match reader.input_type {
        Some(InputType::Csv) => csv(text, &reader.csv_headers, reader.csv_delimiter),
        Some(InputType::Jsonl) => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| {
                serde_json::from_str(line).map_err(|error| format!("Line {}: {error}", i + 1))
            })
            .collect(),
        Some(InputType::Parquet) => Err("A Parquet file is not text".into()),
        None | Some(InputType::Json | InputType::Manifest) => {
            let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            elements(document, reader.items_pointer.as_deref())
        }
    }
}

/// The elements of an array or an object within a document.
pub(super) fn elements(document: Value, pointer: Option<&str>) -> Result<Vec<Value>, String> {
    let found = match pointer {
        None => document,
        Some(pointer) => document
            .pointer(pointer)
            .cloned()
            .ok_or_else(|| format!("The document has nothing at '{pointer}'."))?,
    };
    match found {
        Value::Array(items) => Ok(items),
        Value::Object(fields) => Ok(fields
            .into_iter()
            .map(|(key, value)| json!({"Key": key, "Value": value}))
            .collect()),
        _ => Err("Attempting to map over non-iterable node.".into()),
    }
}

fn csv(text: &str, headers: &HeaderLocation, delimiter: char) -> Result<Vec<Value>, String> {
    let mut rows = rows(text, delimiter)?.into_iter();
    let headers: Vec<String> = match headers {
        HeaderLocation::FirstRow => rows.next().unwrap_or_default(),
        HeaderLocation::Given(names) => names.iter().map(ToString::to_string).collect(),
    };
    if headers.iter().collect::<BTreeSet<_>>().len() < headers.len() {
        return Err("CSV headers cannot contain duplicates.".into());
    }
    Ok(rows
        .map(|row| {
            // Missing columns are empty, surplus ones are dropped.
            let mut cells = row.into_iter();
            let fields: Map<String, Value> = headers
                .iter()
                .map(|name| {
                    (
                        name.clone(),
                        Value::String(cells.next().unwrap_or_default()),
                    )
                })
                .collect();
            Value::Object(fields)
        })
        .collect())
}

/// Rows of cells; a cell in quotes may hold delimiters, line ends and doubled quotes.
fn rows(text: &str, delimiter: char) -> Result<Vec<Vec<String>>, String> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut letters = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .chars()
        .peekable();
    while let Some(c) = letters.next() {
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            c if quoted => cell.push(c),
            '"' if cell.is_empty() => quoted = true,
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => end_row(&mut rows, &mut row, &mut cell),
            c if c == delimiter => row.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    if quoted {
        return Err("A quoted CSV cell is not closed.".into());
    }
    end_row(&mut rows, &mut row, &mut cell);
    Ok(rows)
}

/// Ends a row; an empty line is none.
fn end_row(rows: &mut Vec<Vec<String>>, row: &mut Vec<String>, cell: &mut String) {
    if !row.is_empty() || !cell.is_empty() {
        row.push(std::mem::take(cell));
        rows.push(std::mem::take(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, headers: &HeaderLocation) -> Result<Vec<Value>, String> {
        csv(text, headers, ',')
    }

    #[test]
    fn rows_become_objects_of_strings() {
        assert_eq!(
            read(
                "a,b\r\n1,\"x, \"\"y\"\"\nz\"\n\n2",
                &HeaderLocation::FirstRow
            )
            .unwrap(),
            [
                json!({"a": "1", "b": "x, \"y\"\nz"}),
                json!({"a": "2", "b": ""})
            ]
        );
        assert_eq!(
            read(
                "1,2,3\n",
                &HeaderLocation::Given(vec!["x".into(), "y".into()])
            )
            .unwrap(),
            [json!({"x": "1", "y": "2"})]
        );
        assert_eq!(
            read("", &HeaderLocation::FirstRow).unwrap(),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn a_faulty_file_is_told() {
        assert_eq!(
            read("a,a\n", &HeaderLocation::FirstRow).unwrap_err(),
            "CSV headers cannot contain duplicates."
        );
        assert!(
            read("a\n\"x", &HeaderLocation::FirstRow)
                .unwrap_err()
                .contains("not closed")
        );
    }

    #[test]
    fn elements_are_those_of_an_array_or_an_object() {
        assert_eq!(elements(json!([1, 2]), None).unwrap(), [1, 2]);
        assert_eq!(
            elements(json!({"a": {"b": [3]}}), Some("/a/b")).unwrap(),
            [3]
        );
        assert_eq!(
            elements(json!({"k": 1}), None).unwrap(),
            [json!({"Key": "k", "Value": 1})]
        );
        assert_eq!(
            elements(json!(5), None).unwrap_err(),
            "Attempting to map over non-iterable node."
        );
        assert!(elements(json!([]), Some("/x")).is_err());
    }
}
