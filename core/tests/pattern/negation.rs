//! `anything-but` alone in a list is matched by counting the values that fail it. That must come to the same as asking each value.

use serde_json::{Value, json};
use weir_core::pattern::{Dialect, Pattern, Set};

fn found(patterns: &[Value], event: &str) -> Vec<u32> {
    let parsed: Vec<_> = patterns
        .iter()
        .map(|pattern| Pattern::parse(&pattern.to_string(), Dialect::EventBridge).unwrap())
        .collect();
    let set = Set::new(&parsed).unwrap();
    let mut scratch = set.scratch();
    let first = set
        .matches(event.as_bytes(), &mut scratch)
        .unwrap()
        .to_vec();
    // Nothing of an event reaches the next.
    set.matches(br#"{"a":["x","q"],"b":{"c":"x"}}"#, &mut scratch)
        .unwrap();
    assert_eq!(set.matches(event.as_bytes(), &mut scratch).unwrap(), first);
    first
}

fn holds(list: &Value, event: &str) -> bool {
    !found(&[json!({"a": list})], event).is_empty()
}

#[test]
fn one_value_that_does_not_fail_is_enough() {
    let but_x = json!([{"anything-but": "x"}]);
    assert!(holds(&but_x, r#"{"a":"y"}"#));
    assert!(holds(&but_x, r#"{"a":null}"#));
    assert!(holds(&but_x, r#"{"a":["x","y","x"]}"#));
    assert!(holds(&but_x, r#"{"a":["x",[["x",["y"]]]]}"#));
    assert!(!holds(&but_x, r#"{"a":"x"}"#));
    assert!(!holds(&but_x, r#"{"a":["x","x","x"]}"#));
    assert!(!holds(&but_x, r#"{"a":["x",["\u0078"]]}"#));
    assert!(!holds(&but_x, r#"{"a":[]}"#));
    assert!(!holds(&but_x, r#"{"b":1}"#));
}

#[test]
fn a_value_fails_once_for_whatever_reasons() {
    for list in [
        json!([{"anything-but": ["x", "x"]}]),
        json!([{"anything-but": {"prefix": ["x", "xy", "xyz", "x"]}}]),
        json!([{"anything-but": {"suffix": ["z", "yz", "xyz", "yz"]}}]),
        json!([{"anything-but": {"equals-ignore-case": ["XYZ", "xyz", "x", "xYz"]}}]),
        json!([{"anything-but": {"wildcard": ["x*", "*z", "x*z", "xyz"]}}]),
    ] {
        let other = holds(&list, r#"{"a":["xyz","x","xz","other"]}"#);
        assert!(other, "{list}");
        assert!(holds(&list, r#"{"a":["other","xyz","xyz"]}"#), "{list}");
    }
    let prefixes = json!([{"anything-but": {"prefix": ["x", "xy"]}}]);
    assert!(!holds(&prefixes, r#"{"a":["xyz","xz"]}"#));
    let numbers = json!([{"anything-but": [1, 1.0, 2]}]);
    assert!(!holds(&numbers, r#"{"a":[1,1.0,1e0,2]}"#));
    assert!(holds(&numbers, r#"{"a":[1,1.0,1e0,2,3]}"#));
    assert!(holds(&numbers, r#"{"a":[1,"1"]}"#));
}

#[test]
fn beside_other_alternatives_it_is_one_of_them() {
    let list = json!([{"anything-but": ["x", "y"]}, "x"]);
    assert!(holds(&list, r#"{"a":"x"}"#));
    assert!(!holds(&list, r#"{"a":"y"}"#));
    assert!(holds(&list, r#"{"a":"z"}"#));
    let absent = json!([{"anything-but": "x"}, {"exists": false}]);
    assert!(holds(&absent, r#"{"b":1}"#));
    assert!(!holds(&absent, r#"{"a":"x"}"#));
}

#[test]
fn of_a_key_that_comes_again_only_the_last_value_counts() {
    let but_x = json!([{"anything-but": "x"}]);
    assert!(!holds(&but_x, r#"{"a":"y","a":"x"}"#));
    assert!(holds(&but_x, r#"{"a":"x","a":"y"}"#));
    assert!(!holds(&but_x, r#"{"a":["x","y"],"a":["x","x"]}"#));
    assert!(!holds(&but_x, r#"{"a":"y","a":{}}"#));
    // The value that stays fails, the one that was taken back did not.
    let nested = [json!({"a.b": [{"anything-but": "x"}]})];
    let event = r#"{"a":{"b":"x"},"a.b":"y","a.b":"x"}"#;
    assert_eq!(found(&nested, event), [0; 0]);
    let event = r#"{"a":{"b":"x"},"a.b":"x","a.b":"y"}"#;
    assert_eq!(found(&nested, event), [0]);
}

#[test]
fn elements_of_arrays_are_told_apart() {
    let patterns = [
        json!({"l": {"k": ["1"], "s": [{"anything-but": ["x"]}]}}),
        json!({"l": {"k": [{"anything-but": "1"}], "s": [{"anything-but": "y"}]}}),
        json!({"l": {"s": [{"anything-but": "x"}]}, "m": [{"anything-but": "x"}]}),
    ];
    let event = r#"{"m":"y","l":[{"k":"1","s":"x"},{"k":"2","s":"y"}]}"#;
    assert_eq!(found(&patterns, event), [2]);
    let event = r#"{"m":["x"],"l":[{"k":"1","s":["x","z"]},{"k":"2","s":["y","y"]}]}"#;
    assert_eq!(found(&patterns, event), [0]);
    let event = r#"{"m":["x",["y"]],"l":[[{"k":["1","2"],"s":"z"}],{"k":"2","s":"x"}]}"#;
    assert_eq!(found(&patterns, event), [0, 1, 2]);
}

#[test]
fn many_negations_share_a_field() {
    let patterns: Vec<_> = (0..300)
        .map(|number| match number % 3 {
            0 => json!({"a": [{"anything-but": [format!("v{number}"), "x"]}]}),
            1 => json!({"a": [{"anything-but": {"prefix": format!("v{number}")}}], "b": ["y"]}),
            _ => json!({"a": [{"exists": true}, {"anything-but": "x"}], "b": [{"anything-but": "y"}]}),
        })
        .collect();
    let expected = |wanted: &dyn Fn(u32) -> bool| -> Vec<u32> {
        (0..300).filter(|number| wanted(*number)).collect()
    };
    let all_but = found(&patterns, r#"{"a":"v30","b":"y"}"#);
    assert_eq!(
        all_but,
        expected(&|number| number % 3 == 1 || number % 3 == 0 && number != 30)
    );
    let none_of_zero = found(&patterns, r#"{"a":"x","b":"z"}"#);
    assert_eq!(none_of_zero, expected(&|number| number % 3 == 2));
    let prefixed = found(&patterns, r#"{"a":"v100-1","b":"y"}"#);
    let fails = |number: u32| number % 3 == 1 && "v100-1".starts_with(&format!("v{number}"));
    assert_eq!(
        prefixed,
        expected(&|number| number % 3 != 2 && !fails(number))
    );
}
