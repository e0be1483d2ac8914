//! "Did you mean": the known name that is nearest to a wrong one.

/// The name of `names` that differs least from `wrong`, if it is near enough to be what was meant.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name of any length may be written; ours are short.
    if wrong.is_empty() || wrong.len() > 64 {
        return None;
    }
    let folded = wrong.to_lowercase().replace(['-', '_'], "");
    names
        .into_iter()
        .map(|name| (distance(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min_by_key(|(distance, name)| (*distance, name.len()))
        .map(|(_, name)| name)
}

/// `; did you mean "..."?`, or nothing.
pub(super) fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names)
        .map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default()
}

/// How many characters must be put in, taken out, changed or swapped with the next one.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for (i, from) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let mut cost = (rows[i][j] + usize::from(from != to))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *from == right[j - 1] && left[i - 1] == *to {
                cost = cost.min(rows[i - 1][j - 1] + 1);
            }
            row.push(cost);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["concurrency", "circuitBreaker", "retry", "to", "deadLetter"];

    #[test]
    fn a_typing_mistake_finds_its_field() {
        assert_eq!(nearest("concurency", NAMES), Some("concurrency"));
        assert_eq!(nearest("rerty", NAMES), Some("retry"));
        assert_eq!(nearest("circuit_breaker", NAMES), Some("circuitBreaker"));
        assert_eq!(nearest("deadletter", NAMES), Some("deadLetter"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("replicas", NAMES), None);
        assert_eq!(nearest("xy", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), NAMES), None);
    }
}
