//! "Did you mean": the known name that is nearest to a wrong one.

/// Longest name, in bytes, for which a neighbour is sought.
const MAX_LENGTH: usize = 80;

/// The name that differs least from `wrong`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.is_empty() || wrong.len() > MAX_LENGTH {
        return None;
    }
    let wrong: Vec<char> = wrong.to_lowercase().chars().collect();
    names
        .into_iter()
        .filter(|name| name.len() <= MAX_LENGTH)
        .filter_map(|name| {
            let letters: Vec<char> = name.to_lowercase().chars().collect();
            // A third of the letters may be wrong; names of less than three letters never match.
            let allowed = letters.len().max(wrong.len()) / 3;
            let distance = distance(&wrong, &letters);
            (distance <= allowed).then_some((distance, name))
        })
        .min_by_key(|(distance, name)| (*distance, name.len()))
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out, changed or swapped with the next one.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 0..left.len() {
        let mut row = vec![i + 1];
        for j in 0..right.len() {
            let mut cost = (last[j] + usize::from(left[i] != right[j]))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && left[i] == right[j - 1] && left[i - 1] == right[j] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = ["Charge", "Reserve", "ResultPath", "OutputPath", "End"];

    #[test]
    fn a_typing_mistake_finds_its_name() {
        assert_eq!(nearest("Chrage", NAMES), Some("Charge"));
        assert_eq!(nearest("reserve", NAMES), Some("Reserve"));
        assert_eq!(nearest("ResultsPath", NAMES), Some("ResultPath"));
        assert_eq!(nearest("Edn", NAMES), Some("End"));
    }

    #[test]
    fn a_different_word_finds_nothing() {
        assert_eq!(nearest("Ship", NAMES), None);
        assert_eq!(nearest("", NAMES), None);
        assert_eq!(nearest(&"a".repeat(1_000_000), NAMES), None);
    }
}
