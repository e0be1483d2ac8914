//! What must hold for any pattern and any event. `WEIR_PATTERN_PAIRS` sets how many pairs are generated.

use fastrand::Rng;
use proptest::prelude::*;
use serde_json::Value;
use weir_core::pattern::{
    Dialect, EventError, MAX_EVENT_DEPTH, Pattern, Policy, PolicyScope, Set, batch,
};

use crate::{generate, reference};

const SEED: u64 = 20_261_129;
const DIALECTS: [Dialect; 3] = [
    Dialect::EventBridge,
    Dialect::TopicAttributes,
    Dialect::TopicBody,
];

fn pairs() -> usize {
    std::env::var("WEIR_PATTERN_PAIRS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000)
}

fn parse(pattern: &Value) -> Option<Pattern> {
    Pattern::parse(&pattern.to_string(), Dialect::EventBridge).ok()
}

fn found(set: &Set, event: &[u8]) -> Result<Vec<u32>, EventError> {
    set.matches(event, &mut set.scratch()).map(<[u32]>::to_vec)
}

#[test]
fn agrees_with_a_literal_reading_of_the_rules() {
    println!("seed {SEED}");
    let mut random = Rng::with_seed(SEED);
    let (mut matched, mut refused) = (0, 0);
    for pair in 0..pairs() {
        let depth = random.usize(..3);
        let pattern = generate::pattern(&mut random, depth);
        let depth = random.usize(..4);
        let event = generate::event(&mut random, depth);
        // Too many wildcards for AWS: rare, and not what this is about.
        let Some(parsed) = parse(&pattern) else {
            refused += 1;
            continue;
        };
        let set = Set::new([&parsed]).unwrap();
        let ours = !found(&set, event.to_string().as_bytes())
            .unwrap()
            .is_empty();
        let expected = reference::matches(&pattern, &event);
        assert_eq!(
            ours, expected,
            "pair {pair}: pattern {pattern} event {event}"
        );
        matched += usize::from(ours);
    }
    println!("{} pairs, {matched} match, {refused} refused", pairs());
    assert!(matched * 20 > pairs(), "the generator must make matches");
    assert!(
        refused * 10 < pairs(),
        "the generator must make valid patterns"
    );
}

#[test]
fn a_set_answers_what_its_patterns_answer_alone() {
    println!("seed {SEED}");
    let mut random = Rng::with_seed(SEED + 1);
    for _ in 0..pairs() / 400 {
        let patterns: Vec<_> = (0..100)
            .filter_map(|_| parse(&generate::pattern(&mut random, 2)))
            .collect();
        let together = Set::new(&patterns).unwrap();
        let alone: Vec<_> = patterns
            .iter()
            .map(|pattern| Set::new([pattern]).unwrap())
            .collect();
        // One scratch for all events: nothing of one may reach the next.
        let mut scratch = together.scratch();
        for _ in 0..4 {
            let event = generate::event(&mut random, 3).to_string();
            let expected: Vec<_> = (0_u32..)
                .zip(&alone)
                .filter(|(_, set)| !found(set, event.as_bytes()).unwrap().is_empty())
                .map(|(id, _)| id)
                .collect();
            assert_eq!(
                together.matches(event.as_bytes(), &mut scratch),
                Ok(&*expected),
                "{event}"
            );
        }
    }
}

/// A set that names `a`, `a.b` and `c`, so that some members are looked at and others skipped.
fn a_set() -> Set {
    let texts = [
        r#"{"a":{"b":[{"anything-but":"x"}]}}"#,
        r#"{"a":[{"exists":true}],"c":[{"wildcard":"*a*"},{"numeric":[">",0]},{"exists":false}]}"#,
    ];
    let patterns = texts.map(|text| Pattern::parse(text, Dialect::EventBridge).unwrap());
    Set::new(&patterns).unwrap()
}

/// JSON text, or nearly.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\":",
        "\"c\":",
        "\"a\":{",
        "{\"a\":",
        "1",
        "-",
        "0",
        "01",
        "1.5",
        "1e",
        "e5",
        ".",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "\\",
        "\\u00e9",
        "\\ud800",
        "\u{1}",
        "é",
        "\"\\n\"",
        "\"long text \\\" more\"",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..64),
        (any::<u64>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(seed, at, byte)| {
            let mut text = generate::event(&mut Rng::with_seed(seed), 3)
                .to_string()
                .into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            text
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    /// Skipped members too.
    #[test]
    fn an_event_is_refused_exactly_if_it_is_no_json_object(bytes in nearly_json()) {
        let valid = std::str::from_utf8(&bytes).is_ok_and(|text| {
            text.trim_start_matches([' ', '\n']).starts_with('{')
                && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        });
        prop_assert_eq!(found(&a_set(), &bytes).is_ok(), valid, "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn nothing_panics_on_any_text(bytes in nearly_json()) {
        let text = String::from_utf8_lossy(&bytes);
        for dialect in DIALECTS {
            if let Err(error) = Pattern::parse(&text, dialect) {
                prop_assert!(!error.reason().is_empty());
            }
            let answer: Value = serde_json::from_str(&batch::answer(&bytes, dialect)).unwrap();
            prop_assert!(answer["result"].is_string());
        }
        if let Ok(policy) = Policy::parse(r#"{"a":["x"]}"#, PolicyScope::MessageBody) {
            let delivered = policy.delivers(&bytes, &[], &mut policy.scratch());
            prop_assert!(delivered.is_ok());
        }
    }
}

#[test]
fn nesting_is_bounded_where_it_is_looked_at_and_where_it_is_skipped() {
    let set = a_set();
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"z\":", "}")] {
        for name in ["a", "z"] {
            let nested = |depth: usize| {
                format!(
                    "{{\"{name}\":{}1{}}}",
                    open.repeat(depth - 1),
                    close.repeat(depth - 1)
                )
            };
            assert!(found(&set, nested(MAX_EVENT_DEPTH).as_bytes()).is_ok());
            let deeper = found(&set, nested(MAX_EVENT_DEPTH + 1).as_bytes());
            assert_eq!(deeper, Err(EventError::NestsTooDeep), "{open} {name}");
        }
    }
}

#[test]
fn a_key_that_comes_twice_counts_as_the_last() {
    let set = {
        let texts = [
            r#"{"a":["x"]}"#,
            r#"{"a":["y"]}"#,
            r#"{"a":{"b":[1]},"c":[{"exists":false}]}"#,
        ];
        Set::new(&texts.map(|text| Pattern::parse(text, Dialect::EventBridge).unwrap())).unwrap()
    };
    assert_eq!(found(&set, br#"{"a":"x","a":"y"}"#), Ok(vec![1]));
    assert_eq!(found(&set, br#"{"a":"x","\u0061":"y"}"#), Ok(vec![1]));
    assert_eq!(found(&set, br#"{"a":{"b":1},"a":2}"#), Ok(vec![]));
    assert_eq!(found(&set, br#"{"a":{"b":2,"b":1}}"#), Ok(vec![2]));
    assert_eq!(found(&set, br#"{"c":1,"a":{"b":1},"c":{}}"#), Ok(vec![2]));
    assert_eq!(found(&set, br#"{"a":["x","y"]}"#), Ok(vec![0, 1]));
}

#[test]
fn many_elements_and_conditions_are_matched_in_reasonable_time() {
    let pattern =
        r#"{"a":{"x":["0"],"y":["z"]},"b":{"x":["0"],"y":["0"]},"c":{"x":["0"],"y":["nothing"]}}"#;
    let set = Set::new([&Pattern::parse(pattern, Dialect::EventBridge).unwrap()]).unwrap();
    // Each condition holds in each array, but never two of one array in one element.
    let items: Vec<_> = (0..2000)
        .flat_map(|_| [r#"{"x":"0"}"#, r#"{"y":["z","0","nothing"]}"#])
        .collect();
    let items = items.join(",");
    let event = format!(r#"{{"a":[{items}],"b":[{items}],"c":[{items}]}}"#);
    assert_eq!(found(&set, event.as_bytes()), Ok(vec![]));
}
