use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::randomness::Seeded;
use crate::scope::Values;

fn evaluate(call: &str, input: &Value) -> Result<Value, EvaluateCallError> {
    let context = json!({"StateMachine": {"Id": "arn", "Name": "m"}});
    let variables = BTreeMap::from([("name".to_owned(), json!("Ann"))]);
    let scope = Values {
        input,
        context: &context,
        variables: &variables,
    };
    Call::parse(call)
        .unwrap()
        .evaluate(&scope, &mut Seeded::new(1))
}

fn value(call: &str) -> Value {
    evaluate(
        call,
        &json!({"a": [1, 2, 2, {"x": 1}], "f": 1.5, "n": null, "s": "text", "o": {"k": [1, "v"]}}),
    )
    .unwrap()
}

#[test]
fn arrays() {
    assert_eq!(value("States.Array()"), json!([]));
    assert_eq!(
        value("States.Array(1, 'a', $.n, true)"),
        json!([1, "a", null, true])
    );
    assert_eq!(
        value("States.ArrayPartition($.a, 3)"),
        json!([[1, 2, 2], [{"x": 1}]])
    );
    assert_eq!(value("States.ArrayPartition(States.Array(), 3)"), json!([]));
    assert_eq!(value("States.ArrayContains($.a, $.a[3])"), json!(true));
    assert_eq!(value("States.ArrayRange(1, 9, 2)"), json!([1, 3, 5, 7, 9]));
    assert_eq!(value("States.ArrayRange(1, 9, 9)"), json!([1]));
    assert_eq!(value("States.ArrayRange(3, 1, -1)"), json!([3, 2, 1]));
    assert_eq!(value("States.ArrayRange(3, 1, 1)"), json!([]));
    assert_eq!(value("States.ArrayGetItem($.a, 1)"), json!(2));
    assert_eq!(value("States.ArrayLength($.a)"), json!(4));
    assert_eq!(value("States.ArrayUnique($.a)"), json!([1, 2, {"x": 1}]));
}

#[test]
fn encodings() {
    assert_eq!(
        value("States.Base64Encode('Hello World')"),
        json!("SGVsbG8gV29ybGQ=")
    );
    assert_eq!(
        value("States.Base64Decode('SGVsbG8gV29ybGQ=')"),
        json!("Hello World")
    );
    assert_eq!(
        value("States.Hash('input data', 'SHA-1')"),
        json!("aaff4a450a104cd177d28d18d74485e8cae074b7")
    );
    assert_eq!(
        value("States.Hash('input data', 'MD5')"),
        json!("812f45842bc6d66ee14572ce20db8e86")
    );
    assert_eq!(value("States.StringToJson('')"), json!(null));
    assert_eq!(value("States.StringToJson('-0')"), json!(0));
    assert_eq!(
        value("States.StringToJson('\\{\"a\":[1]\\}')"),
        json!({"a": [1]})
    );
    assert_eq!(
        value("States.JsonToString($.o)"),
        json!("{\"k\":[1,\"v\"]}")
    );
    assert_eq!(
        value("States.JsonMerge($.o, $.a[3], false)"),
        json!({"k": [1, "v"], "x": 1})
    );
}

#[test]
fn numbers_are_rounded_half_up() {
    assert_eq!(value("States.MathAdd(1.5, 0)"), json!(2));
    assert_eq!(value("States.MathAdd(-1.5, -1.51)"), json!(-3));
    assert_eq!(value("States.MathAdd(-1.49, -1.5)"), json!(-2));
    let seeded = value("States.MathRandom(0, 999, 3)");
    assert_eq!(seeded, value("States.MathRandom(0, 999, 3)"));
    assert!((0..999).contains(&seeded.as_i64().unwrap()));
}

#[test]
fn texts() {
    assert_eq!(
        value("States.Format('{} is {}', $name, 30)"),
        json!("Ann is 30")
    );
    assert_eq!(value("States.Format('null {}', $.n)"), json!("null null"));
    assert_eq!(
        value(r"States.Format('\{\} it\'s \\ {}', 1.1)"),
        json!(r"{} it's \ 1.1")
    );
    assert_eq!(
        value("States.Format('{} {}', $$.StateMachine, $.o)"),
        json!("{Id=arn, Name=m} {k=[1, v]}")
    );
    assert_eq!(
        value("States.StringSplit('a,b;,c', ',;')"),
        json!(["a", "b", "c"])
    );
    assert_eq!(value("States.StringSplit(',,,,', ',')"), json!([]));
    assert_eq!(value("States.UUID()").as_str().unwrap().len(), 36);
}

#[test]
fn calls_nest_ten_deep_and_no_deeper() {
    let nested = |depth: usize| format!("{}{}", "States.Array(".repeat(depth), ")".repeat(depth));
    assert!(Call::parse(&nested(10)).is_ok());
    assert_eq!(Call::parse(&nested(11)), Err(ParseCallError::ExceedNesting));
    assert_eq!(
        value(
            "States.ArrayGetItem(States.StringSplit('a-b-c', '-'), States.MathAdd(States.ArrayLength(States.StringSplit('a-b-c', '-')), -1))"
        ),
        json!("c")
    );
}

#[test]
fn paths_as_arguments_may_hold_commas_and_parentheses() {
    let input = json!({"a,b": 1, "l": [{"n": 1}, {"n": 2}], "x)": 3});
    assert_eq!(
        evaluate("States.Array($['a,b'], $['x)'])", &input).unwrap(),
        json!([1, 3])
    );
    assert_eq!(
        evaluate("States.ArrayLength($.l[?(@.n > 1)])", &input).unwrap(),
        json!(1)
    );
    assert_eq!(
        evaluate("States.Array($.l.length())", &input).unwrap(),
        json!([2])
    );
}

#[test]
fn a_missing_argument_is_told_from_a_wrong_one() {
    let missing = evaluate("States.Format('{}', $.x)", &json!({"a": 1})).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "The function 'States.Format('{}', $.x)' had the following error: The JsonPath argument for the field '$.x' \
         could not be found in the input '{\"a\":1}'"
    );
    for wrong in [
        "States.ArrayGetItem(States.Array(), 0)",
        "States.ArrayPartition(States.Array(1), 0)",
        "States.ArrayRange(0, 1000, 1)",
        "States.ArrayRange(0, 1, 0)",
        "States.ArrayLength('x')",
        "States.Format('{}')",
        "States.Format('{')",
        "States.Format(1)",
        "States.Hash('a', 'CRC')",
        "States.JsonMerge(1, 2, false)",
        "States.MathAdd('1', 2)",
        "States.MathAdd(99999999999, 2)",
        "States.MathRandom(5, 5)",
        "States.StringToJson('x')",
        "States.StringSplit(1, 2)",
        "States.Base64Decode('!')",
        "States.ArrayContains(1, 1)",
        "States.ArrayUnique(null)",
        "States.ArrayRange(-2147483648, 2147483647, 1)",
    ] {
        let error = evaluate(wrong, &json!({}));
        assert!(
            matches!(error, Err(EvaluateCallError::RefuseArguments { .. })),
            "{wrong}: {error:?}"
        );
    }
}

#[test]
fn what_is_no_call_is_refused() {
    for wrong in [
        "",
        "States",
        "States.Nope()",
        "States.UUID",
        "States.UUID(",
        "States.UUID())",
        "States.UUID(1)",
        "States.MathAdd(1)",
        "States.MathAdd(1,)",
        "States.Format()",
        "States.Format('a)",
        "States.Array(a)",
        "States.Array(\"a\")",
        "States.Array($.)",
        "States.Format('\\\"')",
        "States.Format('\\n')",
        "x States.UUID()",
        "States.Array(1 2)",
        "States.Format('\\é')",
    ] {
        assert!(Call::parse(wrong).is_err(), "{wrong} should be refused");
    }
}
