use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::scope::Values;

fn evaluate(path: &str, input: &Value) -> Result<Value, EvaluatePathError> {
    let context = json!({"Execution": {"Name": "e"}});
    let variables = BTreeMap::from([("list".to_owned(), json!([1, 2, 3]))]);
    let scope = Values {
        input,
        context: &context,
        variables: &variables,
    };
    Path::parse(path)
        .unwrap()
        .evaluate(&scope)
        .map(Cow::into_owned)
}

fn detail(path: &str, input: &Value) -> String {
    evaluate(path, input).unwrap_err().to_string()
}

#[test]
fn a_definite_path_gives_the_value_itself() {
    let input = json!({"a": {"b": [10, 20, 30]}, "delivery-partner": "UQS", "x y": {"z": null}});
    assert_eq!(evaluate("$", &input).unwrap(), input);
    assert_eq!(evaluate("$.a.b[1]", &input).unwrap(), json!(20));
    assert_eq!(evaluate("$.a.b[-1]", &input).unwrap(), json!(30));
    assert_eq!(evaluate("$['a']['b'][0]", &input).unwrap(), json!(10));
    assert_eq!(evaluate("$[\"x y\"].z", &input).unwrap(), json!(null));
    assert_eq!(
        evaluate("$.delivery-partner", &input).unwrap(),
        json!("UQS")
    );
    assert_eq!(evaluate("$$.Execution.Name", &input).unwrap(), json!("e"));
    assert_eq!(evaluate("$list[2]", &input).unwrap(), json!(3));
    assert_eq!(
        evaluate("$['a','nothing']", &input).unwrap(),
        json!({"a": {"b": [10, 20, 30]}})
    );
}

#[test]
fn an_indefinite_path_gives_an_array_even_of_nothing() {
    let input = json!({"items": [{"n": 1}, {"n": 2}, {"n": 3}], "o": {"p": 1, "q": 2}});
    assert_eq!(evaluate("$.items[*].n", &input).unwrap(), json!([1, 2, 3]));
    assert_eq!(evaluate("$.items[1:].n", &input).unwrap(), json!([2, 3]));
    assert_eq!(evaluate("$.items[-1:].n", &input).unwrap(), json!([3]));
    assert_eq!(evaluate("$.items[:2].n", &input).unwrap(), json!([1, 2]));
    assert_eq!(evaluate("$.items[0,2].n", &input).unwrap(), json!([1, 3]));
    assert_eq!(evaluate("$.items[0:3:2].n", &input).unwrap(), json!([1, 3]));
    assert_eq!(evaluate("$.o.*", &input).unwrap(), json!([1, 2]));
    assert_eq!(evaluate("$..n", &input).unwrap(), json!([1, 2, 3]));
    assert_eq!(evaluate("$.no.items[*]", &input).unwrap(), json!([]));
    assert_eq!(evaluate("$.items[7:]", &input).unwrap(), json!([]));
    assert_eq!(evaluate("$.items[?(@.n == 9)]", &input).unwrap(), json!([]));
}

#[test]
fn filters_compare_combine_and_look_back_at_the_root() {
    let input = json!({"limit": 2, "items": [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}, {"n": 3}]});
    let pick = |path: &str| evaluate(path, &input).unwrap();
    assert_eq!(pick("$.items[?(@.n>=$.limit)].n"), json!([2, 3]));
    assert_eq!(pick("$.items[?(@.n > 1 && @.t == 'b')].n"), json!([2]));
    assert_eq!(
        pick("$.items[?(@.n == 3 || @['t'] == \"a\")].n"),
        json!([1, 3])
    );
    assert_eq!(pick("$.items[?(@.t)].n"), json!([1, 2]));
    assert_eq!(pick("$.items[?(!@.t)].n"), json!([3]));
    assert_eq!(pick("$.items[?(!(@.n < 3))].n"), json!([3]));
    assert_eq!(pick("$.items[?(@.t in ['a','z'])].n"), json!([1]));
    assert_eq!(pick("$.items[?(@.t != 'a')].n"), json!([2, 3]));
    assert_eq!(pick("$.items[?(@.n == '2')].n"), json!([2]));
    assert_eq!(pick("$.items[?(@.t =~ /[A]/i)].n"), json!([1]));
    assert_eq!(pick("$.items[?(@.t =~ /x|./)].n"), json!([1, 2]));
    assert_eq!(pick("$..[?(@.t == 'a')].n"), json!([1]));
}

#[test]
fn functions_end_a_path() {
    let input = json!({"items": [4, 1, 3], "o": {"k": 1}});
    assert_eq!(evaluate("$.items.length()", &input).unwrap(), json!(3));
    assert_eq!(evaluate("$.items.sum()", &input).unwrap(), json!(8.0));
    assert_eq!(evaluate("$.items.min()", &input).unwrap(), json!(1.0));
    assert_eq!(evaluate("$.o.keys()", &input).unwrap(), json!(["k"]));
    assert_eq!(evaluate("$.no[*].length()", &input).unwrap(), json!(0));
    assert!(Path::parse("$.items.frobnicate()").is_err());
}

#[test]
fn a_definite_path_that_finds_nothing_says_so_in_the_words_of_aws() {
    let input = json!({"a": {"b": "text", "l": [1]}});
    assert_eq!(detail("$.x", &input), "No results for path: $['x']");
    assert_eq!(detail("$.no.x", &input), "Missing property in path $['no']");
    assert_eq!(
        detail("$.a.l[3]", &input),
        "Index out of bounds when evaluating path $['a']['l'][3]"
    );
    assert!(detail("$.a.b.c", &input).starts_with(
        "Expected to find an object with property ['c'] in path $['a']['b'] but found"
    ));
    assert_eq!(detail("$missing", &input), "No results for path: $missing");
}

#[test]
fn a_backslash_stands_for_itself_except_before_the_quote_and_itself() {
    let input = json!({"Test\\\"\"Name\"": 1, "it's": 2, "back\\slash": 3});
    assert_eq!(evaluate("$['Test\\\"\"Name\"']", &input).unwrap(), json!(1));
    assert_eq!(evaluate("$['it\\'s']", &input).unwrap(), json!(2));
    assert_eq!(evaluate("$['back\\\\slash']", &input).unwrap(), json!(3));
}

#[test]
fn what_is_no_path_is_refused_with_the_place() {
    for wrong in [
        "",
        "a",
        ".a",
        "$a.",
        "$.",
        "$..",
        "$[",
        "$[]",
        "$['a",
        "$['a'",
        "$.a b",
        "$[1.5]",
        "$[?(@.a ==)]",
        "$[?(@.a",
        "$[?]",
        "$.a[-]",
        "$[99999999999999999999]",
        "$1",
        "$.a)",
        "$[0:1:0]",
        "$$$",
        "$.x(1)",
        "$[?(@.a =~ /x)]",
        "$[?(@.a =~ /(/)]",
        "$[?(@.a = 1)]",
    ] {
        assert!(Path::parse(wrong).is_err(), "{wrong} should be refused");
    }
    let error = Path::parse("$.a[x]").unwrap_err().to_string();
    assert!(
        error.starts_with("at byte 4 of '$.a[x]': expected an index") || error.contains("an index"),
        "{error}"
    );
}

#[test]
fn nesting_and_selection_are_bounded() {
    let deep = format!("$[?({}@.a{})]", "(".repeat(100), ")".repeat(100));
    assert!(Path::parse(&deep).is_err());
    assert!(matches!(
        Path::parse(&"$.a".repeat(9000)),
        Err(ParsePathError::ExceedLength(_))
    ));
    let wide: Value = (0..300).map(|n| Value::Array(vec![json!(n); 50])).collect();
    let error = evaluate("$..*..*..*", &json!([wide, [wide.clone()]]));
    let many = evaluate(
        &format!("${}", "..*".repeat(12)),
        &json!([[[[[[[[1, 2], [3]], [4]], [5]], [6]], [7]], [8]], [9]]),
    );
    for result in [error, many] {
        assert!(matches!(
            result,
            Ok(_) | Err(EvaluatePathError::SelectTooMuch { .. })
        ));
    }
}

#[test]
fn a_reference_path_writes_exactly_one_place() {
    let place =
        |path: &str, input: Value| ReferencePath::parse(path).unwrap().place(input, json!("r"));
    assert_eq!(place("$", json!(1)).unwrap(), json!("r"));
    assert_eq!(
        place("$.a", json!({"b": 1})).unwrap(),
        json!({"a": "r", "b": 1})
    );
    assert_eq!(
        place("$.a.b.c", json!({})).unwrap(),
        json!({"a": {"b": {"c": "r"}}})
    );
    assert_eq!(
        place("$.l[1]", json!({"l": [1, 2]})).unwrap(),
        json!({"l": [1, "r"]})
    );
    assert_eq!(
        place("$.l[2]", json!({"l": [1, 2]}))
            .unwrap_err()
            .to_string(),
        "Unable to apply ReferencePath $.l[2] to input {\"l\":[1,2]}"
    );
    assert!(place("$.a", json!("text")).is_err());
    for wrong in [
        "$$.a",
        "$v",
        "$.a[*]",
        "$..a",
        "$.a[-1]",
        "$['a','b']",
        "$.a.length()",
        "$[0:1]",
    ] {
        assert!(
            ReferencePath::parse(wrong).is_err(),
            "{wrong} should be refused"
        );
    }
}
