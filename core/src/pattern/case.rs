//! Comparison that ignores case, as AWS does it: each character of the pattern stands for its lower-case or its upper-case form,
//! whatever their lengths (`ß` also stands for `SS`). The relation is of pattern to text: `ss` does not match `ß`.

/// The text a pattern's character stands for.
fn forms(character: char) -> [String; 2] {
    [
        character.to_lowercase().collect(),
        character.to_uppercase().collect(),
    ]
}

/// A pattern that ignores case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folded {
    pattern: String,
}

impl Folded {
    pub(super) fn new(pattern: &str) -> Self {
        Self {
            pattern: pattern.to_owned(),
        }
    }

    pub(super) fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether lower-casing the ASCII letters of both sides decides.
    pub(super) fn is_ascii(&self) -> bool {
        self.pattern.is_ascii()
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.after_prefix(text).is_some_and(<[u8]>::is_empty)
    }

    /// What follows the pattern in `text`; None if `text` does not start with it.
    pub(super) fn after_prefix<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        // The two forms of a character differ in their first code point, so at most one of them fits.
        self.pattern.chars().try_fold(text, |rest, character| {
            forms(character)
                .iter()
                .find_map(|form| rest.strip_prefix(form.as_bytes()))
        })
    }

    pub(super) fn is_suffix_of(&self, text: &[u8]) -> bool {
        let before = self
            .pattern
            .chars()
            .rev()
            .try_fold(text, |rest, character| {
                forms(character)
                    .iter()
                    .find_map(|form| rest.strip_suffix(form.as_bytes()))
            });
        before.is_some()
    }
}

/// A key that is the same for a pattern and for every text it matches. Texts it does not match may share it.
pub(super) fn key(text: &str) -> String {
    text.to_lowercase_each()
        .to_uppercase_each()
        .to_lowercase_each()
}

trait EachCharacter {
    fn to_lowercase_each(&self) -> String;
    fn to_uppercase_each(&self) -> String;
}

impl EachCharacter for str {
    fn to_lowercase_each(&self) -> String {
        self.chars().flat_map(char::to_lowercase).collect()
    }
    fn to_uppercase_each(&self) -> String {
        self.chars().flat_map(char::to_uppercase).collect()
    }
}
