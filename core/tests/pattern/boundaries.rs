//! Events are read sixteen and sixty-four bytes at once: whatever stands across the edge of such a block must be read as anywhere else.
//! What is right is what `serde_json` takes.

use weir_core::pattern::{Dialect, MAX_EVENT_DEPTH, Pattern, Set};

fn set(patterns: &[&str]) -> Set {
    let parsed: Vec<_> = patterns
        .iter()
        .map(|text| Pattern::parse(text, Dialect::EventBridge).unwrap())
        .collect();
    Set::new(&parsed).unwrap()
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
        && std::str::from_utf8(text).is_ok()
}

fn found(set: &Set, event: &[u8]) -> Option<Vec<u32>> {
    let mut scratch = set.scratch();
    set.matches(event, &mut scratch).ok().map(<[u32]>::to_vec)
}

/// That an event is refused exactly if it is not JSON, whether its member `z` is named or skipped.
fn agrees(sets: &[Set; 2], event: &[u8]) {
    let valid = is_json(event);
    for set in sets {
        let accepted = set.matches(event, &mut set.scratch()).is_ok();
        assert_eq!(accepted, valid, "{}", String::from_utf8_lossy(event));
    }
}

fn naming_z_or_not() -> [Set; 2] {
    [
        set(&[r#"{"a":["x"]}"#]),
        set(&[r#"{"z":[{"anything-but":"x"}]}"#]),
    ]
}

#[test]
fn strings_end_and_go_wrong_at_any_place_of_a_block() {
    let sets = naming_z_or_not();
    let pieces = [
        "",
        "\\\"",
        "\\\\",
        "\\u0041",
        "\\ud83d\\ude00",
        "\\u004",
        "\\x",
        "\\",
        "\u{1}",
        "\n",
        "\u{1f}",
        "\u{7f}",
        "é",
        "漢",
        "\"",
    ];
    for length in 0..70 {
        for place in (0..=length).rev().take(36) {
            for piece in pieces {
                let text = format!("{}{piece}{}", "q".repeat(place), "q".repeat(length - place));
                agrees(&sets, format!(r#"{{"z":"{text}"}}"#).as_bytes());
                agrees(
                    &sets,
                    format!(r#"{{"z":["{text}",{{"{text}" :0}}]}}"#).as_bytes(),
                );
                agrees(&sets, format!(r#"{{"{text}":"{text}"#).as_bytes());
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_at_any_place_of_a_block() {
    let sets = naming_z_or_not();
    for length in 0..70 {
        for bad in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98"] {
            let mut event = format!(r#"{{"z":["{}"#, "q".repeat(length)).into_bytes();
            event.extend_from_slice(bad);
            event.extend_from_slice(br#"","more text than a block has"]}"#);
            agrees(&sets, &event);
            assert!(!is_json(&event));
        }
    }
}

#[test]
fn keys_and_values_of_any_length_are_told_apart() {
    for length in 0..70_usize {
        let text = "v".repeat(length);
        let key = "k".repeat(length.max(1));
        let exact = set(&[
            &format!(r#"{{"{key}":["{text}"]}}"#),
            &format!(r#"{{"{key}":[{{"prefix":"{text}"}}]}}"#),
            &format!(r#"{{"{key}":[{{"suffix":"{text}"}}]}}"#),
            &format!(r#"{{"{key}":[{{"anything-but":["{text}","other"]}}]}}"#),
        ]);
        // Near the end of the event and far from it; written with an escape and without.
        for rest in ["", r#","more":"than enough bytes for another block""#] {
            let ask = |key: &str, value: &str| {
                found(&exact, format!(r#"{{"{key}":"{value}"{rest}}}"#).as_bytes()).unwrap()
            };
            assert_eq!(ask(&key, &text), [0, 1, 2], "{length}");
            let escaped = text.replacen('v', "\\u0076", 1);
            assert_eq!(ask(&key.replacen('k', "\\u006b", 1), &escaped), [0, 1, 2]);
            assert_eq!(ask(&key, &format!("{text}w"))[..1], [1], "{length}");
            assert_eq!(ask(&format!("{key}k"), &text), [0; 0], "{length}");
            for place in 0..length {
                let mut other = text.clone().into_bytes();
                other[place] = b'w';
                let other = String::from_utf8(other).unwrap();
                assert_eq!(ask(&key, &other), [3], "{length} {place}");
            }
        }
    }
}

#[test]
fn white_space_of_any_length_is_passed_over() {
    let set = set(&[r#"{"a":{"b":["x"]}}"#]);
    let sets = naming_z_or_not();
    for length in 0..40 {
        for space in [" ", "\n", "\t", "\r", "\n  "] {
            let gap = space.repeat(length);
            let event = [
                "", "{", r#""z""#, ":", "[", "1", ",", "{", r#""q""#, ":", "null", "}", "]", ",",
            ]
            .into_iter()
            .chain([r#""a""#, ":", "{", r#""b""#, ":", r#""x""#, "}", "}", ""])
            .collect::<Vec<_>>()
            .join(&gap);
            assert_eq!(found(&set, event.as_bytes()), Some(vec![0]), "{event}");
        }
        for wrong in ["\u{b}", "\u{0}", "\u{a0}", "/"] {
            let gap = format!("{}{wrong}", " ".repeat(length));
            agrees(&sets, format!(r#"{{"z":{gap}[1,{gap}2]}}"#).as_bytes());
            agrees(&sets, format!(r#"{{"z":[1,2]{gap}}}"#).as_bytes());
        }
    }
}

#[test]
fn one_wrong_byte_in_an_array_of_numbers_is_seen_at_any_place_of_a_window() {
    let sets = naming_z_or_not();
    let array = "[[ -122.42, 0.0,10],[-0,7 , [8.125,99] ],[100,-1.5]]";
    let bytes = b" 019-.,[]{}:eE+\"n\t\n\0";
    for shift in 0..66 {
        let event = format!(
            r#"{{"z":[{}{array}],"more":"{}"}}"#,
            " ".repeat(shift),
            "q".repeat(66)
        );
        agrees(&sets, event.as_bytes());
        assert!(is_json(event.as_bytes()));
        let start = 6 + shift;
        for place in start..=start + array.len() {
            for byte in bytes {
                let mut event = event.clone().into_bytes();
                event[place] = *byte;
                agrees(&sets, &event);
            }
        }
    }
}

#[test]
fn arrays_of_numbers_are_read_as_any_other_array() {
    let sets = naming_z_or_not();
    let mut random = fastrand::Rng::with_seed(20_261_130);
    let pieces = [
        "0",
        "-0",
        "-7",
        "12",
        "3.25",
        "-122.421846501824",
        "1234567890123456789012345",
        "0.0",
        "12345678901234567890.12345678901234567890",
        ",",
        ", ",
        ",",
        "[",
        "]",
        "],[",
        "], [",
        " ",
        "[]",
        "00",
        "1.",
        ".5",
        "-",
        "1e5",
        "1E-7",
        "\"x\"",
        "{}",
        "true",
        "],",
        "1,2,3",
        "  ",
    ];
    let mut valid = 0;
    for _ in 0..60_000 {
        // Mostly numbers between commas, so that much of it is right; at times anything.
        let wild = random.u8(..4) == 0;
        let mut level = 1;
        let mut text = String::from("[");
        for count in 0..random.usize(..40) {
            if wild && random.u8(..12) == 0 {
                text += pieces[random.usize(..pieces.len())];
                continue;
            }
            let close = level > 1 && count > 0 && random.u8(..6) == 0;
            if close && !text.ends_with('[') {
                text += "]";
                level -= 1;
            }
            if !text.ends_with('[') {
                text += [",", ", ", " ,"][random.usize(..3)];
            }
            if random.u8(..6) == 0 {
                text += "[";
                level += 1;
            }
            text += pieces[random.usize(..if wild { 9 } else { 8 })];
        }
        text += &"]".repeat(level);
        let tail = "q".repeat(random.usize(..70));
        let event = format!(r#"{{"z":{text},"q":"{tail}"}}"#);
        valid += usize::from(is_json(event.as_bytes()));
        agrees(&sets, event.as_bytes());
        agrees(&sets, format!(r#"{{"z":{text}}}"#).as_bytes());
        agrees(&sets, format!(r#"{{"z":{text}"#).as_bytes());
    }
    assert!(valid > 20_000, "{valid}");
}

#[test]
fn brackets_of_both_kinds_nest_to_the_bound_and_no_deeper() {
    let set = set(&[r#"{"a":["x"]}"#]);
    for inner in ["1", "[1]", "[1,2,3]", "{}", "[]"] {
        for unit in [
            ("[{\"z\":", "}]"),
            ("[[{\"z\":", "}]]"),
            ("{\"z\":[ 1, ", "]}"),
        ] {
            let levels = unit.0.matches(['[', '{']).count();
            let own = usize::from(inner != "1");
            for extra in 0..levels + 2 {
                let count = (MAX_EVENT_DEPTH - 1 - own) / levels;
                // Arrays around make up what the units leave, and one too many at the end.
                let nested = format!("{}{inner}{}", unit.0.repeat(count), unit.1.repeat(count));
                let event = format!(
                    "{{\"z\":{}{nested}{}}}",
                    "[".repeat(extra),
                    "]".repeat(extra)
                );
                let depth = 1 + count * levels + own + extra;
                let accepted = found(&set, event.as_bytes()).is_some();
                assert_eq!(
                    accepted,
                    depth <= MAX_EVENT_DEPTH,
                    "{depth} {inner} {unit:?}"
                );
            }
        }
    }
    // A bracket that closes another kind, at each level around the size of a word.
    for level in 1..140 {
        let mut event =
            format!("{{\"z\":{}1{}}}", "[{\"z\":".repeat(70), "}]".repeat(70)).into_bytes();
        let place = event.len() - 1 - level;
        event[place] ^= 0x20;
        assert_eq!(found(&set, &event), None, "{level}");
    }
}

#[test]
fn skipping_takes_time_in_proportion_to_the_event() {
    let set = set(&[r#"{"a":["x"]}"#]);
    // Each level looks like an array of numbers until the very end.
    let numbers = "1,".repeat(100_000);
    let event = format!(
        "{{\"z\":{}{numbers}\"x\"{}}}",
        "[".repeat(MAX_EVENT_DEPTH - 1),
        "]".repeat(MAX_EVENT_DEPTH - 1)
    );
    for _ in 0..20 {
        assert_eq!(found(&set, event.as_bytes()), Some(vec![]));
    }
}
