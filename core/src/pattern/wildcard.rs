//! Wildcards: `*` stands for any run of bytes, also an empty one; `\*` and `\\` are themselves.

/// Literal bytes, with stars before, between or behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wildcard {
    pub(super) literals: Vec<u8>,
    /// In ascending order: a star stands after that many literals.
    pub(super) stars: Vec<usize>,
}

impl Wildcard {
    /// Reads a wildcard. The error counts bytes from an opening quote, as AWS does.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut wildcard = Self {
            literals: Vec::new(),
            stars: Vec::new(),
        };
        let mut bytes = text
            .bytes()
            .enumerate()
            .map(|(at, byte)| (at + 1, byte))
            .peekable();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'*' => {
                    if bytes.peek().is_some_and(|(_, next)| *next == b'*') {
                        return Err(format!("Consecutive wildcard characters at pos {at}"));
                    }
                    wildcard.stars.push(wildcard.literals.len());
                }
                b'\\' => match bytes.next() {
                    Some((_, escaped @ (b'*' | b'\\'))) => wildcard.literals.push(escaped),
                    _ => return Err(format!("Invalid escape character at pos {at}")),
                },
                literal => wildcard.literals.push(literal),
            }
        }
        Ok(wildcard)
    }

    pub(super) fn has_star_after(&self, literals: usize) -> bool {
        self.stars.binary_search(&literals).is_ok()
    }
}
