//! Printing: aligned columns for people, JSON and YAML for programs. Results go to standard output,
//! everything else to standard error.

use std::fmt::Write as _;

use serde_json::Value;

use crate::args::Output;
use crate::failure::Failure;

/// Prints a document, as columns by `table` when people read it and as ids by `names`.
pub fn print(
    output: Output,
    document: &Value,
    table: impl FnOnce(&Value) -> String,
    names: impl FnOnce(&Value) -> Vec<String>,
) -> Result<(), Failure> {
    let text = match output {
        Output::Table => table(document),
        Output::Json => serde_json::to_string_pretty(document).map_err(Failure::other)?,
        Output::Yaml => serde_saphyr::to_string(document).map_err(Failure::other)?,
        Output::Name => names(document).join("\n"),
    };
    if !text.is_empty() {
        // A reader that went away (`| head`) is no error.
        let mut out = std::io::stdout().lock();
        let _ = std::io::Write::write_fmt(&mut out, format_args!("{}\n", text.trim_end()));
    }
    Ok(())
}

/// Columns, two spaces apart, as kubectl prints them. Control characters of values are shown escaped, so
/// that a message cannot drive the terminal.
pub fn columns(heads: &[&str], rows: &[Vec<String>]) -> String {
    let clean: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect())
        .collect();
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(n, head)| {
            let cells = clean
                .iter()
                .filter_map(|row| row.get(n))
                .map(|cell| cell.chars().count());
            cells.chain([head.len()]).max().unwrap_or(0)
        })
        .collect();
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(&clean) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The text with control characters escaped.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// A span of time as kubectl prints ages: `42s`, `3m`, `5h`, `9d`.
pub fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_never_end_in_spaces() {
        let rows = vec![
            vec!["a".into(), "long value".into()],
            vec!["bbbb".into(), String::new()],
        ];
        assert_eq!(
            columns(&["ID", "WHY"], &rows),
            "ID    WHY\na     long value\nbbbb\n"
        );
    }

    #[test]
    fn a_message_cannot_drive_the_terminal() {
        assert_eq!(printable("\u{1b}[31mred\n"), "\\u{1b}[31mred\\n");
    }

    #[test]
    fn ages_use_one_unit() {
        assert_eq!(
            [age(-1), age(119), age(120), age(7_200), age(172_800)],
            ["0s", "119s", "2m", "2h", "2d"]
        );
    }
}
