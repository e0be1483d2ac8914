use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::randomness::Seeded;

struct Fixture {
    input: Value,
    variables: BTreeMap<String, Value>,
}

impl Bindings for Fixture {
    fn states(&self, field: StatesField) -> Option<&Value> {
        (field == StatesField::Input).then_some(&self.input)
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }
}

fn evaluate(expression: &str) -> Result<Value, EvaluateExpressionError> {
    let patient = Duration::from_mins(1);
    evaluate_within(
        expression,
        Limits {
            time: patient,
            ..Limits::default()
        },
    )
}

fn evaluate_within(expression: &str, limits: Limits) -> Result<Value, EvaluateExpressionError> {
    let fixture = Fixture {
        input: json!({"values": [1, 2, 3], "name": "n", "zero": 0, "nested": {"a": [{"b": 1}, {"b": 2}]}}),
        variables: BTreeMap::from([("answer".to_owned(), json!(42))]),
    };
    let surroundings = Surroundings {
        now: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        limits,
    };
    Expression::parse(&format!("{{% {expression} %}}"))
        .unwrap()
        .evaluate(&fixture, &surroundings, &mut Seeded::new(3))
}

fn value(expression: &str) -> Value {
    evaluate(expression).unwrap()
}

fn thrown(expression: &str) -> String {
    match evaluate(expression) {
        Err(EvaluateExpressionError::Throw(text)) => text,
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn an_expression_sees_states_and_variables() {
    assert_eq!(value("$sum($states.input.values) + $answer"), json!(48));
    assert_eq!(value("$states.input.name & '!'"), json!("n!"));
    assert_eq!(value("$states.input.nested.a.b"), json!([1, 2]));
    assert_eq!(
        value("$states"),
        json!({"input": {
            "values": [1, 2, 3], "name": "n", "zero": 0, "nested": {"a": [{"b": 1}, {"b": 2}]}
        }})
    );
    assert_eq!(value("$variable := 1"), json!(1));
    assert_eq!(value("$states.input.zero = 0"), json!(true));
    assert_eq!(value("'x' in ['x', 'y']"), json!(true));
    assert_eq!(value("[1, 'two', 3]"), json!([1, "two", 3]));
    assert_eq!(value("1.5 + 1"), json!(2.5));
    assert_eq!(value("null"), json!(null));
}

#[test]
fn the_functions_step_functions_adds() {
    assert_eq!(
        value("$partition([0, 1, 2, 3], 3)"),
        json!([[0, 1, 2], [3]])
    );
    assert_eq!(value("$partition([0], 5)"), json!([[0]]));
    assert_eq!(value("$range(0, 10, 3)"), json!([0, 3, 6, 9]));
    assert_eq!(value("$range(1, 9, 9)"), json!(1));
    assert_eq!(
        value("$hash('input data', 'MD5')"),
        json!("812f45842bc6d66ee14572ce20db8e86")
    );
    assert_eq!(value("$parse('{\"a\":[1]}')"), json!({"a": [1]}));
    assert_eq!(value("$parse('\"HelloWorld\"')"), json!("HelloWorld"));
    assert_eq!(value("$random(7)"), value("$random(7)"));
    assert_eq!(value("$uuid()").as_str().unwrap().len(), 36);
    assert_eq!(value("$now()"), json!("2026-01-02T03:04:05.678Z"));
    assert_eq!(value("$millis()"), json!(1_767_323_045_678_i64));
    assert_eq!(value("$count($shuffle([1, 2, 3]))"), json!(3));
}

#[test]
fn failures_have_the_texts_of_aws() {
    assert_eq!(
        evaluate("$doesNotExist"),
        Err(EvaluateExpressionError::ReturnNothing)
    );
    assert_eq!(
        evaluate("$states.result"),
        Err(EvaluateExpressionError::ReturnNothing)
    );
    assert_eq!(
        evaluate("name"),
        Err(EvaluateExpressionError::ReturnNothing)
    );
    assert_eq!(
        evaluate("$sum"),
        Err(EvaluateExpressionError::ReturnUnsupported)
    );
    assert_eq!(
        evaluate("function($x){$x}"),
        Err(EvaluateExpressionError::ReturnUnsupported)
    );
    assert_eq!(
        thrown("$undefined()"),
        "T1006: Attempted to invoke a non-function"
    );
    assert_eq!(
        thrown("$parse('x')").split(':').next().unwrap(),
        "The argument of $parse is not valid JSON"
    );
    assert!(
        thrown("1 + 'a'").starts_with("T2002"),
        "{}",
        thrown("1 + 'a'")
    );
    assert!(thrown("$error('stop')").contains("stop"));
}

#[test]
fn what_is_no_expression_is_refused() {
    for wrong in [
        "",
        "1",
        "{% %}",
        "{%%}",
        "{% 1 + %}",
        "{% $eval('1') %}",
        "{% $map([1], $eval) %}",
        "{%}",
        " {% 1 %}",
    ] {
        assert!(
            Expression::parse(wrong).is_err(),
            "{wrong} should be refused"
        );
    }
    assert!(
        Expression::parse(&format!(
            "{{% {}1{} %}}",
            "(".repeat(9_000),
            ")".repeat(9_000)
        ))
        .is_err()
    );
    assert!(Expression::parse(&format!("{{% 1{} %}}", "+1".repeat(12_000))).is_err());
}

#[test]
fn the_measurements_change_no_answer() {
    for (expression, expected) in [
        ("$count($states.input.values[$ > 1])", json!(2)),
        ("$map([1, 2], function($v, $i){ $v * $i })", json!([0, 2])),
        ("$map(['a'], $uppercase)", json!("A")),
        ("$filter([1, 2, 3], function($v){ $v > 2 })", json!(3)),
        ("$reduce([1, 2, 3], function($a, $b){ $a + $b })", json!(6)),
        ("$join(['a', 'b'], '-')", json!("a-b")),
        ("$join($states.input.nested.a.(b & ''))", json!("12")),
        ("$replace('aXbX', 'X', '-')", json!("a-b-")),
        (
            "$replace('aXbX', /X/, function($m){ $m.match & '!' })",
            json!("aX!bX!"),
        ),
        ("$pad('x', 3, '.')", json!("x..")),
        ("($p := $pad; $p('x', 2, '.'))", json!("x.")),
        ("($j := $join; ['a', 'b'] ~> $j)", json!("ab")),
        ("'abc' ~> $uppercase", json!("ABC")),
        ("'abc' ~> $replace('b', '-')", json!("a-c")),
        (
            "($f := function($n){ $n = 0 ? 'done' : $f($n - 1) }; $f(2000))",
            json!("done"),
        ),
        (
            "($add := function($a, $b){ $a + $b }; $inc := $add(1, ?); $inc(2))",
            json!(3),
        ),
        ("$states.input.nested.a[b = 2].b", json!(2)),
        ("$exists($states.input.nope)", json!(false)),
        ("$type($nothing)", json!(null)),
        ("$string([1, {'a': 2}])", json!("[1,{\"a\":2}]")),
        (
            "$states.input ~> |nested|{'a': 1}|",
            json!({"values": [1, 2, 3], "name": "n", "zero": 0, "nested": {"a": 1}}),
        ),
        ("$merge([{'a': 1}, {'b': 2}])", json!({"a": 1, "b": 2})),
        ("$sort([3, 1, 2])", json!([1, 2, 3])),
        ("$count([[1, 2]])", json!(1)),
        ("[[1]]", json!([[1]])),
    ] {
        match evaluate(expression) {
            Err(EvaluateExpressionError::ReturnNothing) => {
                assert_eq!(expected, json!(null), "{expression}");
            }
            answer => assert_eq!(answer, Ok(expected), "{expression}"),
        }
    }
}

#[test]
fn a_bomb_is_an_error_within_its_bounds() {
    let limits = Limits {
        time: Duration::from_millis(200),
        ..Limits::default()
    };
    for bomb in [
        "($f := function($n){ $f($n + 1) }; $f(0))",
        "($f := function($n){ 1 + $f($n + 1) }; $f(0))",
        "$reduce([1..60], function($a, $i){ $a & $a }, 'x')",
        "$reduce([1..60], function($a, $i){ [$a, $a] }, 1)",
        "$reduce([1..60], function($a, $i){ {'a': $a, 'b': $a} }, 1)",
        "$string($reduce([1..60], function($a, $i){ [$a, $a] }, 1))",
        "($f := function($n){ $n = 0 ? 1 : ($x := $f($n - 1); [$x, $x]) }; $f(60))",
        "($f := function($n){ $n = 0 ? 1 : $f($n - 1).[$, $] }; $f(60).*)",
        "[1..100000000]",
        "$range(1, 1000000000, 1)",
        "$pad('x', 1000000000)",
        "$join($map([1..100000], function($i){ 'x' }), $pad('y', 100000))",
        "$replace($pad('', 1000000, 'a'), 'a', $pad('', 1000000, 'b'))",
        "($x := [1..100000]; $map([1..100000], function($i){ $x }))",
        "[1..100000].([1..100000])",
        "$count([1..10000][$count([1..10000][$ > 1]) > 1])",
        "($p := $pad; $p('x', 1000000000000))",
        "$map(['x'], function($v){ $v ~> $pad(1000000000000) })",
    ] {
        let answer = evaluate_within(bomb, limits);
        assert!(
            matches!(answer, Err(EvaluateExpressionError::Throw(_))),
            "{bomb} gave {:?}",
            answer.is_ok()
        );
    }
}
