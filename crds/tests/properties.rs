//! Objects with one value exchanged for any other: the linter answers, and what it accepts can be read.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::fixtures;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_crds::lint::{Linter, Parsed, parse};

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just(String::new()),
        "[a-z]{1,10}",
        "/[a-z./]{0,20}",
        "WEIR_[A-Z]{0,3}",
        "[ -~]{0,40}",
        "\\PC{0,20}",
        Just("Lambda".to_owned()),
        Just("HTTP".to_owned()),
        Just("http://a/b".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3_i64..50).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-zA-Z]{1,8}", inner, 0..5).prop_map(|map| json!(map)),
        ]
    })
}

/// Pointers to everything in a value.
fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(object) => {
            for (name, child) in object {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(child, &format!("{here}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                pointers(child, &format!("{here}/{index}"), all);
            }
        }
        _ => {}
    }
}

fn bases() -> Vec<Value> {
    fixtures("accepted")
        .iter()
        .filter(|fixture| fixture.name.contains("every-field-set"))
        .map(|fixture| match parse(&fixture.text).pop() {
            Some(Parsed::Document { value, .. }) => value,
            other => panic!("{other:?}"),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_can_be_read(
        base in prop::sample::select(bases()),
        place in any::<prop::sample::Index>(),
        value in any_value(),
    ) {
        thread_local!(static LINTER: Linter = Linter::new());
        let mut all = Vec::new();
        pointers(&base, "", &mut all);
        let mut changed = base;
        *changed.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        let problems = LINTER.with(|linter| linter.judge(&changed));
        for problem in problems {
            prop_assert!(!problem.message.starts_with("accepted by the schema"), "{problem} {changed}");
            prop_assert!(!problem.message.contains("could not be evaluated"), "{problem} {changed}");
        }
    }

    #[test]
    fn any_text_gives_an_answer(text in "[-a-z0-9:#|>&*!%@`\"'{}\\[\\], \t\n~.]{0,200}") {
        thread_local!(static LINTER: Linter = Linter::new());
        LINTER.with(|linter| linter.read("any", &text));
    }
}
