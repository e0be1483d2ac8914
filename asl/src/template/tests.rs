use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::jsonata::{Limits, StatesField};
use crate::randomness::Seeded;

struct Fixture {
    input: Value,
    context: Value,
    variables: BTreeMap<String, Value>,
}

impl Scope for Fixture {
    fn input(&self) -> &Value {
        &self.input
    }

    fn context(&self) -> &Value {
        &self.context
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }
}

impl Bindings for Fixture {
    fn states(&self, field: StatesField) -> Option<&Value> {
        match field {
            StatesField::Input => Some(&self.input),
            StatesField::Context => Some(&self.context),
            StatesField::Result | StatesField::ErrorOutput => None,
        }
    }

    fn variable(&self, name: &str) -> Option<&Value> {
        self.variables.get(name)
    }
}

fn evaluate(template: &Value, language: QueryLanguage) -> Result<Value, EvaluateTemplateError> {
    let fixture = Fixture {
        input: json!({"a": 1, "l": [1, 2]}),
        context: json!({"State": {"Name": "S"}}),
        variables: BTreeMap::from([("v".to_owned(), json!({"deep": true}))]),
    };
    let surroundings = Surroundings {
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        limits: Limits::default(),
    };
    Template::parse(template, language).unwrap().evaluate(
        "Arguments",
        &fixture,
        &surroundings,
        &mut Seeded::new(1),
    )
}

#[test]
fn keys_that_end_in_a_dollar_are_evaluated_in_jsonpath_mode() {
    let template = json!({
        "x.$": "$.a", "c.$": "$$.State.Name", "v.$": "$v.deep", "all.$": "$.l[*]",
        "f.$": "States.Format('{}!', $.a)", "in": [{"y.$": "$"}, "$.a"], "literal": "$.a", "{% 1 %}": "{% 1 %}"
    });
    assert_eq!(
        evaluate(&template, QueryLanguage::JsonPath).unwrap(),
        json!({
            "x": 1, "c": "S", "v": true, "all": [1, 2], "f": "1!", "in": [{"y": {"a": 1, "l": [1, 2]}}, "$.a"],
            "literal": "$.a", "{% 1 %}": "{% 1 %}"
        })
    );
}

#[test]
fn strings_between_delimiters_are_evaluated_in_jsonata_mode() {
    let template = json!({
        "x": "{% $states.input.a + 1 %}", "k.$": "$", "in": ["{% $v.deep %}", " {% 1 %}"], "s": "{% $states.context.State.Name %}"
    });
    assert_eq!(
        evaluate(&template, QueryLanguage::Jsonata).unwrap(),
        json!({"x": 2, "k.$": "$", "in": [true, " {% 1 %}"], "s": "S"})
    );
    assert_eq!(
        evaluate(&json!("{% $states.input.l %}"), QueryLanguage::Jsonata).unwrap(),
        json!([1, 2])
    );
}

#[test]
fn errors_have_the_texts_of_aws() {
    let missing = evaluate(&json!({"in": {"x.$": "$.no"}}), QueryLanguage::JsonPath).unwrap_err();
    assert_eq!(missing.error(), "States.Runtime");
    assert_eq!(
        missing.to_string(),
        "The JSONPath '$.no' specified for the field 'x.$' could not be found in the input '{\"a\":1,\"l\":[1,2]}'"
    );
    let nothing = evaluate(&json!({"F": {"n": "{% $no %}"}}), QueryLanguage::Jsonata).unwrap_err();
    assert_eq!(nothing.error(), "States.QueryEvaluationError");
    assert_eq!(
        nothing.to_string(),
        "The JSONata expression '$no' specified for the field 'Arguments/F/n' returned nothing (undefined)."
    );
    let failed = evaluate(
        &json!({"x.$": "States.MathAdd('a', 1)"}),
        QueryLanguage::JsonPath,
    )
    .unwrap_err();
    assert_eq!(failed.error(), "States.IntrinsicFailure");
}

#[test]
fn what_is_no_template_is_refused_with_its_place() {
    let refused = |value: Value, language| Template::parse(&value, language).unwrap_err();
    let error = refused(
        json!({"a": [{"b.$": "States.Nope()"}]}),
        QueryLanguage::JsonPath,
    );
    assert_eq!(
        (error.pointer.as_str(), error.field.as_str()),
        ("/a/0", "b.$")
    );
    assert!(matches!(error.why, MistakenValue::Call(_)));
    let error = refused(json!({"b.$": 1}), QueryLanguage::JsonPath);
    assert_eq!((error.pointer.as_str(), error.field.as_str()), ("", "b.$"));
    assert!(matches!(
        refused(json!({"b.$": "$["}), QueryLanguage::JsonPath).why,
        MistakenValue::Path(_)
    ));
    assert!(matches!(
        refused(json!({"b": "{% 1 + %}"}), QueryLanguage::Jsonata).why,
        MistakenValue::Expression(_)
    ));
    let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
    assert!(matches!(
        refused(deep, QueryLanguage::JsonPath).why,
        MistakenValue::NestTooDeep
    ));
}
