//! What is wrong with a JSON text, in the words of the parser behind AWS's API.

const VALUES: &str = "JSON String, Number, Array, Object or token 'null', 'true' or 'false'";

/// Why this text is not JSON. The words follow those that AWS answers where they are recorded; the
/// rest says the same thing in the same manner.
pub fn complaint(text: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    if said.starts_with("EOF while parsing") {
        return match said.split_whitespace().nth(4) {
            Some("object") => "Unexpected end-of-input: expected close marker for Object".into(),
            Some("list") => "Unexpected end-of-input: expected close marker for Array".into(),
            Some("string") => "Unexpected end-of-input: was expecting closing quote".into(),
            _ => "Unexpected end-of-input".into(),
        };
    }
    if said.starts_with("recursion limit exceeded") {
        return "Document nesting depth exceeds the maximum allowed (128)".into();
    }
    let rest = from(text, error.line(), error.column());
    if said.starts_with("expected ident") || said.starts_with("expected value") {
        // The position is that of the first letter that did not fit; the word begins before it.
        let word = word_at(text, text.len() - rest.len());
        if word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return format!("Unrecognized token '{word}': was expecting ({VALUES})");
        }
    }
    let Some(character) = rest.chars().next() else {
        return said;
    };
    let expected = if said.starts_with("key must be a string") {
        "was expecting double-quote to start field name".to_owned()
    } else if said.starts_with("expected `,` or `}`") {
        "was expecting comma to separate Object entries".to_owned()
    } else if said.starts_with("expected `,` or `]`") {
        "was expecting comma to separate Array entries".to_owned()
    } else if said.starts_with("expected `:`") {
        "was expecting a colon to separate field name and value".to_owned()
    } else if said.starts_with("trailing comma") || said.starts_with("expected value") {
        format!("expected a valid value ({VALUES})")
    } else if said.starts_with("trailing characters") {
        "was expecting end-of-input".to_owned()
    } else {
        // Anything rarer: the parser's own words without its coordinates.
        return said
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
    };
    format!(
        "Unexpected character ('{character}' (code {})): {expected}",
        u32::from(character)
    )
}

/// The text from a line and a column of bytes, both counted from one.
fn from(text: &str, line: usize, column: usize) -> &str {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[at..]
}

/// The word around a position.
fn word_at(text: &str, at: usize) -> &str {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let before = text[..at].trim_end_matches(part).len();
    let end = text[at..]
        .find(|c| !part(c))
        .map_or(text.len(), |length| at + length);
    &text[before..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        complaint(
            text,
            &serde_json::from_str::<serde_json::Value>(text).unwrap_err(),
        )
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert_eq!(
            of("not some json"),
            "Unrecognized token 'not': was expecting (JSON String, Number, Array, Object or token \
             'null', 'true' or 'false')"
        );
        assert!(of("{\"a\": nope}").starts_with("Unrecognized token 'nope'"));
        assert!(of("true_").starts_with("Unexpected character ('_' (code 95))"));
    }

    #[test]
    fn a_wrong_character_is_named_with_what_was_expected() {
        assert_eq!(
            of("{'not': 'json'"),
            "Unexpected character (''' (code 39)): was expecting double-quote to start field name"
        );
        assert_eq!(
            of("{\"a\": 1 \"b\"}"),
            "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries"
        );
        assert_eq!(
            of("{\"a\" 1}"),
            "Unexpected character ('1' (code 49)): was expecting a colon to separate field name \
             and value"
        );
        assert!(of("[1 2]").ends_with("was expecting comma to separate Array entries"));
        assert!(of("[1,\n ü]").starts_with("Unrecognized token 'ü'"));
    }

    #[test]
    fn a_text_that_stops_says_what_is_open() {
        assert_eq!(
            of("{"),
            "Unexpected end-of-input: expected close marker for Object"
        );
        assert_eq!(of("[1,"), "Unexpected end-of-input");
        assert_eq!(of(""), "Unexpected end-of-input");
        assert!(of("\"a").contains("closing quote"));
        assert!(of(&"[".repeat(1000)).contains("nesting depth"));
    }
}
