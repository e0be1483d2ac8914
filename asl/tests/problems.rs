//! What is wrong with a definition is said completely, in its place, and with what to write instead.

use serde_json::{Value, json};
use weir_asl::definition::{StateKind, Transition, WorkflowType};
use weir_asl::parse::{from_value, parse};
use weir_asl::problem::{Code, Problem};

fn problems(definition: &Value) -> Vec<Problem> {
    from_value(definition, WorkflowType::Standard)
        .err()
        .map(|r| r.problems)
        .unwrap_or_default()
}

/// `CODE: message at path`, one a problem.
fn said(definition: &Value) -> Vec<String> {
    problems(definition)
        .iter()
        .map(Problem::to_string)
        .collect()
}

fn hints(definition: &Value) -> Vec<String> {
    problems(definition)
        .into_iter()
        .filter_map(|problem| problem.hint)
        .collect()
}

/// A machine of one state, which ends it unless it says otherwise.
fn one(state: Value) -> Value {
    let mut state = state;
    let fields = state.as_object_mut().expect("an object");
    let kind = fields["Type"].as_str().unwrap_or_default().to_owned();
    if !fields.contains_key("Next") && !["Choice", "Succeed", "Fail"].contains(&kind.as_str()) {
        fields.entry("End").or_insert(json!(true));
    }
    json!({"StartAt": "S", "States": {"S": state}})
}

/// The same with JSONata as the machine's language.
fn one_jsonata(state: Value) -> Value {
    let mut machine = one(state);
    machine["QueryLanguage"] = json!("JSONata");
    machine
}

const SCHEMA: &str = "SCHEMA_VALIDATION_FAILED";

#[test]
fn a_machine_needs_a_start_and_states() {
    assert_eq!(
        said(&json!({})),
        [format!(
            "{SCHEMA}: These fields are required: [StartAt, States] at /"
        )]
    );
    assert_eq!(
        said(&json!({"StartAt": "A"})),
        [format!(
            "{SCHEMA}: These fields are required: [States] at /"
        )]
    );
    assert_eq!(
        said(&json!([])),
        [format!("{SCHEMA}: Expected value of type Object at /")]
    );
    assert_eq!(
        said(&json!({"StartAt": "A", "States": {}})),
        [format!(
            "{SCHEMA}: At least one state is required at /States"
        )]
    );
}

#[test]
fn texts_that_are_no_definition_say_why() {
    let of = |text: &str| {
        parse(text, WorkflowType::Standard)
            .unwrap_err()
            .problems
            .remove(0)
    };
    assert_eq!(of(" ").code, Code::MissingDescription);
    assert_eq!(of("{'a': 1}").code, Code::InvalidJsonDescription);
    assert!(of("{'a': 1}").message.contains("double-quote"));
    assert_eq!(
        of(&format!("\"{}\"", "x".repeat(1_048_577))).code,
        Code::TooDeeplyNested
    );
    assert_eq!(of(&"[".repeat(100_000)).code, Code::InvalidJsonDescription);
}

#[test]
fn a_value_nested_too_deep_is_refused_before_it_is_read() {
    let deep = (0..200).fold(json!(1), |inner, _| Value::Array(vec![inner]));
    assert_eq!(problems(&deep)[0].code, Code::TooDeeplyNested);
}

#[test]
fn a_value_larger_than_a_definition_may_be_is_refused_before_it_is_read() {
    assert_eq!(
        problems(&one(
            json!({"Type": "Pass", "Result": "x".repeat(1_048_577)})
        ))[0]
            .code,
        Code::TooDeeplyNested
    );
    assert_eq!(
        problems(&one(json!({"Type": "Pass", "Result": vec![0; 600_000]})))[0].code,
        Code::TooDeeplyNested
    );
    assert!(
        problems(&one(
            json!({"Type": "Pass", "Result": "x".repeat(1_000_000)})
        ))
        .is_empty()
    );
}

#[test]
fn a_state_that_a_text_names_twice_is_not_lost_in_silence() {
    let text = r#"{"StartAt": "A", "States": {"A": {"Type": "Fail"}, "A": {"Type": "Succeed"}}}"#;
    assert_eq!(
        parse(text, WorkflowType::Standard).unwrap_err().to_string(),
        "Invalid State Machine Definition: 'DUPLICATE_STATE_NAME: State name 'A' is duplicated at /States/A'"
    );
}

#[test]
fn every_problem_is_reported_in_aws_s_order() {
    let definition = json!({
        "StartAt": "pass1",
        "States": {"pass1": {"Type": "Pass", "Next": "pass3"}, "pass2": {"Type": "Pass", "End": true}}
    });
    assert_eq!(
        from_value(&definition, WorkflowType::Standard)
            .unwrap_err()
            .to_string(),
        "Invalid State Machine Definition: 'MISSING_TRANSITION_TARGET: Missing 'Next' target: pass3 \
         at /States/pass1/Next, MISSING_TRANSITION_TARGET: State \"pass2\" is not reachable. at \
         /States/pass2'"
    );
}

#[test]
fn a_flow_without_an_end_is_said_to_have_none_and_nothing_more() {
    let ring = |c: Value| {
        let mut states =
            json!({"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "Next": "A"}});
        states
            .as_object_mut()
            .unwrap()
            .extend(c.as_object().unwrap().clone());
        said(&json!({"StartAt": "A", "States": states}))
    };
    assert_eq!(
        ring(json!({})),
        ["MISSING_END_STATE: Workflow has no terminal state at null"]
    );
    assert_eq!(
        ring(json!({"C": {"Type": "Pass", "Next": "A"}})),
        ["MISSING_END_STATE: Workflow has no terminal state at null"]
    );
    assert_eq!(
        ring(json!({"C": {"Type": "Pass", "End": true}})),
        ["MISSING_TRANSITION_TARGET: State \"C\" is not reachable. at /States/C"]
    );
    assert_eq!(
        said(&json!({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "NOPE"}}})),
        [
            "MISSING_TRANSITION_TARGET: Missing 'Next' target: NOPE at /States/A/Next",
            "MISSING_END_STATE: Workflow has no terminal state at null",
        ]
    );
}

#[test]
fn every_kind_of_transition_is_checked_and_the_nearest_name_suggested() {
    let definition = json!({"StartAt": "Chose", "States": {
        "Choose": {"Type": "Choice", "Choices": [{"Variable": "$.a", "IsNull": true, "Next": "Chrage"}], "Default": "Nowhere"},
        "Charge": {"Type": "Task", "Resource": "charge", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Refnd"}], "End": true},
        "Refund": {"Type": "Succeed"}
    }});
    let mut said: Vec<(String, Option<String>)> = problems(&definition)
        .into_iter()
        .filter(|problem| problem.message.starts_with("Missing"))
        .map(|problem| (problem.to_string(), problem.hint))
        .collect();
    said.sort();
    let missing = |target: &str, at: &str, hint: &str| {
        let text = format!("MISSING_TRANSITION_TARGET: Missing 'Next' target: {target} at {at}");
        (text, Some(hint.to_owned()))
    };
    assert_eq!(
        said,
        [
            missing("Chose", "/StartAt", "did you mean 'Choose'?"),
            missing(
                "Chrage",
                "/States/Choose/Choices[0]/Next",
                "did you mean 'Charge'?"
            ),
            missing(
                "Nowhere",
                "/States/Choose/Default",
                "a target is a state of the same 'States'"
            ),
            missing(
                "Refnd",
                "/States/Charge/Catch[0]/Next",
                "did you mean 'Refund'?"
            ),
        ]
    );
}

#[test]
fn a_transition_does_not_leave_its_branch() {
    let definition = json!({"StartAt": "P", "States": {
        "P": {"Type": "Parallel", "Next": "Out", "Branches": [
            {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "Out"}, "A2": {"Type": "Pass", "End": true}}},
            {"StartAt": "B", "States": {"B": {"Type": "Pass", "End": true}}}
        ]},
        "Out": {"Type": "Succeed"}
    }});
    assert_eq!(
        said(&definition),
        [
            "MISSING_TRANSITION_TARGET: Missing 'Next' target: Out at /States/P/Branches[0]/States/A/Next",
            "MISSING_TRANSITION_TARGET: State \"A2\" is not reachable. at /States/P/Branches[0]/States/A2",
        ]
    );
}

#[test]
fn names_are_unique_over_the_whole_machine_and_short() {
    let definition = json!({"StartAt": "A", "States": {
        "A": {"Type": "Map", "Next": "B", "ItemProcessor": {"StartAt": "B", "States": {"B": {"Type": "Pass", "End": true}}}},
        "B": {"Type": "Succeed"}
    }});
    assert_eq!(
        said(&definition),
        ["DUPLICATE_STATE_NAME: State name 'B' is duplicated at /States/B"]
    );
    let long = "n".repeat(81);
    let definition = json!({"StartAt": long, "States": {long.clone(): {"Type": "Succeed"}}});
    assert_eq!(problems(&definition)[0].code, Code::InvalidStateName);
    let umlauts = "ü".repeat(80);
    assert!(
        said(&json!({"StartAt": umlauts, "States": {umlauts.clone(): {"Type": "Succeed"}}}))
            .is_empty()
    );
}

#[test]
fn a_field_of_another_kind_is_not_supported() {
    for kind in ["Pass", "Succeed", "Fail"] {
        for field in ["TimeoutSeconds", "Catch", "Retry"] {
            assert_eq!(
                said(&one(
                    json!({"Type": kind, field: if field == "TimeoutSeconds" { json!(1) } else { json!([]) }})
                )),
                [format!(
                    "{SCHEMA}: Field '{field}' is not supported at /States/S"
                )]
            );
        }
    }
    let definition =
        one(json!({"Type": "Task", "Resource": "r", "ResultsPath": "$.a", "Timeout": 5}));
    assert_eq!(said(&definition).len(), 2);
    assert_eq!(hints(&definition), ["did you mean 'ResultPath'?"]);
    assert_eq!(
        hints(&one(json!({"Type": "Tsak"}))),
        ["did you mean 'Task'?"]
    );
}

#[test]
fn exactly_one_of_next_and_end() {
    let of = |state: Value| {
        said(&json!({"StartAt": "S", "States": {"S": state, "T": {"Type": "Succeed"}}}))
    };
    assert_eq!(
        of(json!({"Type": "Pass"}))[0],
        format!("{SCHEMA}: Exactly one of these fields is required: [Next, End] at /States/S")
    );
    assert_eq!(
        of(json!({"Type": "Pass", "Next": "T", "End": true})),
        [format!(
            "{SCHEMA}: Only one of these fields may be present: [Next, End] at /States/S"
        )]
    );
    assert!(of(json!({"Type": "Pass", "End": false}))[0].ends_with("at /States/S/End"));
    assert!(
        of(json!({"Type": "Succeed", "End": true}))[0].contains("Field 'End' is not supported")
    );
    assert!(
        of(json!({"Type": "Pass", "End": "yes"}))[0].contains("Expected value of type Boolean")
    );
}

#[test]
fn query_languages_do_not_mix_within_a_state() {
    assert_eq!(
        said(&one(json!({"Type": "Pass", "Output": 1}))),
        [format!(
            "{SCHEMA}: The QueryLanguage is set to 'JSONPath', but field 'Output' is only supported for the 'JSONata' QueryLanguage at /States/S"
        )]
    );
    assert_eq!(
        said(&one(
            json!({"Type": "Pass", "QueryLanguage": "JSONata", "InputPath": "$.a"})
        )),
        [format!(
            "{SCHEMA}: The QueryLanguage is set to 'JSONata', but field 'InputPath' is only supported for the 'JSONPath' QueryLanguage at /States/S"
        )]
    );
    assert_eq!(
        said(&one_jsonata(
            json!({"Type": "Pass", "QueryLanguage": "JSONPath"})
        )),
        [format!(
            "{SCHEMA}: 'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine at /States/S"
        )]
    );
    assert!(
        said(&one(
            json!({"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% $states.input %}"})
        ))
        .is_empty()
    );
    let wrong = one(json!({"Type": "Pass", "QueryLanguage": "jsonata", "Output": 1}));
    assert_eq!(hints(&wrong), ["did you mean 'JSONata'?"]);
    assert_eq!(said(&wrong).len(), 1);
}

#[test]
fn a_nested_flow_has_the_language_of_the_machine_not_of_its_map() {
    let definition = one(
        json!({"Type": "Map", "QueryLanguage": "JSONata", "ItemProcessor": {
        "QueryLanguage": "JSONata", "StartAt": "P", "States": {"P": {"Type": "Pass", "Output": 1, "End": true}}}}),
    );
    assert_eq!(
        said(&definition),
        [
            format!("{SCHEMA}: Field 'QueryLanguage' is not supported at /States/S/ItemProcessor"),
            format!(
                "{SCHEMA}: The QueryLanguage is set to 'JSONPath', but field 'Output' is only supported for the 'JSONata' QueryLanguage at /States/S/ItemProcessor/States/P"
            ),
        ]
    );
}

#[test]
fn payload_templates_are_judged_place_by_place() {
    let definition = one(json!({"Type": "Task", "Resource": "r", "Parameters": {
        "a.$": "no path", "b": {"c.$": 5, "d": [{"e.$": "States.Nope()"}]}, "good.$": "$.x", "kept": "$.x"}}));
    let places: Vec<String> = problems(&definition).into_iter().map(|p| p.path).collect();
    assert_eq!(
        places,
        [
            "/States/S/Parameters",
            "/States/S/Parameters/b",
            "/States/S/Parameters/b/d[0]"
        ]
    );
    assert!(said(&definition)[0].contains(
        "The value for the field 'a.$' must be a valid JSONPath or a valid intrinsic function call"
    ));
}

#[test]
fn a_name_and_the_same_name_with_a_path_do_not_stand_together() {
    let definition = one(json!({"Type": "Pass", "Parameters": {"a": {"x": 1, "x.$": "$.y"}}}));
    assert_eq!(
        said(&definition),
        [format!(
            "{SCHEMA}: The fields 'x' and 'x.$' stand for the same name at /States/S/Parameters/a"
        )]
    );
    // JSONata has no such names, and a result is taken as it stands.
    assert!(
        said(&one_jsonata(
            json!({"Type": "Pass", "Output": {"x": 1, "x.$": "$.y"}})
        ))
        .is_empty()
    );
    assert!(
        said(&one(
            json!({"Type": "Pass", "Result": {"x": 1, "x.$": "$.y"}})
        ))
        .is_empty()
    );
}

#[test]
fn jsonata_expressions_are_parsed_with_the_definition() {
    let definition = one_jsonata(
        json!({"Type": "Pass", "Output": {"a": "{% 1 + %}", "b": ["{% 2", "fine", "{% 3 %}"]}}),
    );
    let found = problems(&definition);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        (found[0].code, &*found[0].path),
        (Code::InvalidJsonataExpression, "/States/S/Output/a")
    );
    assert_eq!(
        (found[1].code, &*found[1].path),
        (Code::InvalidJsonataExpression, "/States/S/Output/b[0]")
    );
}

#[test]
fn a_name_at_the_top_level_of_an_expression_is_refused() {
    let of = |text: &str| said(&one_jsonata(json!({"Type": "Pass", "Output": {"v": text}})));
    assert_eq!(
        of("{% phone %}"),
        [
            "UNSUPPORTED_JSONATA_EXPRESSION: Reference to 'phone' at the top level is not supported. at /States/S/Output/v"
        ]
    );
    assert_eq!(of("{% $sum(a.b) + c[d=1] %}").len(), 2);
    for sound in [
        "{% $states.input.phone %}",
        "{% $v[name = 'x'].{'a': b} %}",
        "{% $states.input.list^(price) %}",
        "{% $states.input.(a + b) %}",
        "{% $states.input{kind: $sum(price)} %}",
        "{% $map($v, function($i) { $i.a }) %}",
        "{% ($x := 1; {'a': $x}) %}",
        "{% $v ~> |$|{'a': b}| %}",
    ] {
        assert!(of(sound).is_empty(), "{sound}: {:?}", of(sound));
    }
    assert_eq!(
        of("{% 1 + %}"),
        ["INVALID_JSONATA_EXPRESSION: Unexpected end of expression at /States/S/Output/v"]
    );
}

#[test]
fn retriers_are_within_their_bounds() {
    let of = |retrier: Value| {
        said(&one(
            json!({"Type": "Task", "Resource": "r", "Retry": [retrier]}),
        ))
    };
    assert!(of(json!({"ErrorEquals": ["A"], "MaxAttempts": 0, "BackoffRate": 1, "IntervalSeconds": 1, "MaxDelaySeconds": 2, "JitterStrategy": "NONE"})).is_empty());
    for (field, value) in [
        ("BackoffRate", json!(0.99)),
        ("BackoffRate", json!("2")),
        ("IntervalSeconds", json!(0)),
        ("IntervalSeconds", json!(1.5)),
        ("MaxAttempts", json!(-1)),
        ("MaxAttempts", json!(100_000_000)),
        ("MaxDelaySeconds", json!(1)),
        ("MaxDelaySeconds", json!(31_622_400)),
        ("JitterStrategy", json!("HALF")),
    ] {
        let mut retrier = json!({"ErrorEquals": ["A"]});
        retrier[field] = value;
        let said = of(retrier.clone());
        assert_eq!(said.len(), 1, "{retrier}: {said:?}");
        assert!(
            said[0].ends_with(&format!("at /States/S/Retry[0]/{field}")),
            "{said:?}"
        );
    }
    assert!(of(json!({}))[0].contains("These fields are required: [ErrorEquals]"));
}

#[test]
fn states_all_stands_alone_and_last() {
    let of = |retry: Value| {
        said(&one(
            json!({"Type": "Task", "Resource": "r", "Retry": retry}),
        ))
    };
    assert!(of(json!([{"ErrorEquals": ["A"]}, {"ErrorEquals": ["States.ALL"]}])).is_empty());
    assert!(
        of(json!([{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["A"]}]))[0].contains("last")
    );
    assert!(of(json!([{"ErrorEquals": ["States.ALL", "A"]}]))[0].contains("alone"));
    assert!(of(json!([])).is_empty(), "an empty list is accepted");
    assert!(said(&one(json!({"Type": "Task", "Resource": "r", "Catch": []}))).is_empty());
}

#[test]
fn a_choice_rule_has_one_test_of_the_right_type() {
    let of = |rule: Value| {
        said(
            &json!({"StartAt": "S", "States": {"S": {"Type": "Choice", "Choices": [rule]}, "T": {"Type": "Succeed"}}}),
        )
    };
    let sound = |rule: Value| {
        let said = of(rule);
        assert!(said.is_empty(), "{said:?}");
    };
    sound(json!({"Variable": "$.a", "StringEquals": "x", "Next": "T"}));
    sound(json!({"Variable": "$.a", "NumericGreaterThanEqualsPath": "$.b", "Next": "T"}));
    sound(
        json!({"Not": {"And": [{"Variable": "$v", "IsPresent": true}, {"Or": [{"Variable": "$$.a", "StringMatches": "*"}]}]}, "Next": "T"}),
    );
    let wrong = |rule: Value, part: &str| {
        let said = of(rule);
        assert!(said[0].contains(part), "{said:?}");
    };
    wrong(
        json!({"Variable": "$.a", "StringEquals": 1, "Next": "T"}),
        "type String at /States/S/Choices[0]/StringEquals",
    );
    wrong(
        json!({"Variable": "$.a", "NumericEquals": "1", "Next": "T"}),
        "type Number",
    );
    wrong(
        json!({"Variable": "$.a", "BooleanEquals": "true", "Next": "T"}),
        "type Boolean",
    );
    wrong(
        json!({"Variable": "$.a", "IsNull": "true", "Next": "T"}),
        "type Boolean",
    );
    wrong(
        json!({"Variable": "$.a", "TimestampEquals": "2024-01-01", "Next": "T"}),
        "String does not match RFC3339 timestamp",
    );
    wrong(
        json!({"Variable": "$.a", "StringEqualsPath": "b", "Next": "T"}),
        "JSONPath",
    );
    wrong(
        json!({"StringEquals": "x", "Next": "T"}),
        "These fields are required: [Variable]",
    );
    wrong(
        json!({"Variable": "$.a", "Next": "T"}),
        "A rule needs one test",
    );
    wrong(
        json!({"Variable": "$.a", "IsNull": true, "IsString": true, "Next": "T"}),
        "Only one of these fields",
    );
    wrong(json!({"And": [], "Next": "T"}), "non-empty");
    wrong(
        json!({"And": [{"Variable": "$.a", "IsNull": true, "Next": "T"}], "Next": "T"}),
        "Field 'Next' is not supported at /States/S/Choices[0]/And[0]",
    );
    wrong(
        json!({"Variable": "$.a", "Condition": "{% true %}", "Next": "T"}),
        "only supported for the 'JSONata'",
    );
    wrong(
        json!({"Variable": "$.a", "IsNull": true}),
        "These fields are required: [Next]",
    );
    let typo = json!({"StartAt": "S", "States": {"S": {"Type": "Choice", "Choices": [{"Variable": "$.a", "StringEqual": "x", "Next": "T"}]}, "T": {"Type": "Succeed"}}});
    assert_eq!(hints(&typo), ["did you mean 'StringEquals'?"]);
}

#[test]
fn a_jsonata_choice_rule_has_a_condition() {
    let of = |rule: Value| {
        said(
            &json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {"Type": "Choice", "Choices": [rule]}, "T": {"Type": "Succeed"}}}),
        )
    };
    assert!(of(json!({"Condition": "{% $states.input.a = 1 %}", "Next": "T", "Output": "{% 1 %}", "Assign": {"v": 1}})).is_empty());
    assert!(
        of(json!({"Condition": "$states.input.a = 1", "Next": "T"}))[0]
            .contains("JSONata expression")
    );
    assert!(of(json!({"Next": "T"}))[0].contains("These fields are required: [Condition]"));
    assert!(
        of(json!({"Variable": "$.a", "IsNull": true, "Next": "T"}))[0]
            .contains("only supported for the 'JSONPath'")
    );
}

#[test]
fn a_wait_has_one_duration() {
    let of = |wait: Value| {
        let mut state = json!({"Type": "Wait"});
        state
            .as_object_mut()
            .unwrap()
            .extend(wait.as_object().unwrap().clone());
        said(&one(state))
    };
    assert!(of(json!({"Seconds": 0})).is_empty());
    assert!(of(json!({"Timestamp": "2024-01-01T00:00:00+02:00"})).is_empty());
    assert!(of(json!({"SecondsPath": "$.a.b[0]"})).is_empty());
    assert!(of(json!({}))[0].contains("[Seconds, SecondsPath, Timestamp, TimestampPath]"));
    assert!(of(json!({"Seconds": 1, "SecondsPath": "$.a"}))[0].contains("[Seconds, SecondsPath]"));
    assert!(of(json!({"Seconds": -1}))[0].contains("between 0 and 99999999"));
    assert!(of(json!({"Seconds": "{% 1 %}"}))[0].contains("type Integer"));
    assert!(of(json!({"SecondsPath": "$.a[*]"}))[0].contains("Reference Path"));
    assert_eq!(
        of(json!({"Timestamp": "2016-12-05T21:29:29"})),
        [format!(
            "{SCHEMA}: String does not match RFC3339 timestamp at /States/S/Timestamp"
        )]
    );
}

#[test]
fn a_heartbeat_is_shorter_than_the_timeout() {
    let of = |timeout: u64, heartbeat: u64| {
        said(&one(
            json!({"Type": "Task", "Resource": "r", "TimeoutSeconds": timeout, "HeartbeatSeconds": heartbeat}),
        ))
    };
    assert!(of(2, 1).is_empty());
    assert!(of(2, 2)[0].contains("HeartbeatSeconds (2) must be smaller than TimeoutSeconds (2)"));
    assert!(of(0, 1)[0].contains("between 1 and 99999999 at /States/S/TimeoutSeconds"));
}

#[test]
fn express_machines_do_not_wait_for_others() {
    let of = |resource: &str| {
        let definition = one(json!({"Type": "Task", "Resource": resource}));
        from_value(&definition, WorkflowType::Express)
            .err()
            .map(|r| r.problems[0].to_string())
    };
    assert_eq!(of("arn:aws:states:::lambda:invoke"), None);
    assert_eq!(
        of("arn:aws:states:::lambda:invoke.waitForTaskToken").unwrap(),
        format!(
            "{SCHEMA}: Express state machine does not support '.waitForTaskToken' service integration at /States/S/Resource"
        )
    );
    assert!(
        of("arn:aws:states:::states:startExecution.sync:2")
            .unwrap()
            .contains("'.sync' service")
    );
    assert!(
        of("arn:aws:states:us-east-1:1:activity:a")
            .unwrap()
            .contains("Activity")
    );
}

#[test]
fn children_of_a_distributed_map_may_be_express() {
    let definition = one(json!({"Type": "Map", "Label": "Items", "ItemProcessor": {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}, "StartAt": "T",
        "States": {"T": {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "End": true}}}}));
    assert_eq!(
        problems(&definition)[0].path,
        "/States/S/ItemProcessor/States/T/Resource"
    );
}

#[test]
fn the_parts_of_a_distributed_map_are_checked() {
    let of = |more: Value| {
        let mut state = json!({"Type": "Map", "ItemProcessor": {
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, "StartAt": "P",
            "States": {"P": {"Type": "Pass", "End": true}}}});
        state
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        said(&one(state))
    };
    assert!(of(json!({
        "ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key.$": "$.key"},
            "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["a"], "CSVDelimiter": "TAB", "MaxItemsPath": "$.n"}},
        "ItemBatcher": {"MaxItemsPerBatch": 10, "BatchInput": {"a.$": "$.a"}},
        "ResultWriter": {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b"}, "WriterConfig": {"Transformation": "FLATTEN", "OutputType": "JSONL"}},
        "ToleratedFailurePercentage": 12.5, "ToleratedFailureCountPath": "$.c", "MaxConcurrency": 1000, "Label": "x"
    })).is_empty());
    let wrong = |more: Value, part: &str| {
        let said = of(more);
        assert!(said[0].contains(part), "{said:?}");
    };
    wrong(
        json!({"ItemReader": {}}),
        "These fields are required: [Resource] at /States/S/ItemReader",
    );
    wrong(
        json!({"ItemReader": {"Resource": "r", "ReaderConfig": {"InputType": "XML"}}}),
        "at /States/S/ItemReader/ReaderConfig/InputType",
    );
    wrong(
        json!({"ItemReader": {"Resource": "r", "ReaderConfig": {"CSVHeaderLocation": "GIVEN"}}}),
        "[CSVHeaders]",
    );
    wrong(json!({"ItemBatcher": {}}), "MaxItemsPerBatch");
    wrong(
        json!({"ItemBatcher": {"MaxInputBytesPerBatch": 262_145}}),
        "between 1 and 262144",
    );
    wrong(json!({"ResultWriter": {}}), "Resource");
    wrong(
        json!({"ToleratedFailurePercentage": 101}),
        "between 0 and 100",
    );
    wrong(
        json!({"ToleratedFailureCount": 1, "ToleratedFailureCountPath": "$.c"}),
        "Only one",
    );
    wrong(json!({"Label": "a b"}), "INVALID_LABEL_NAME");
    wrong(json!({"Iterator": {}}), "[ItemProcessor, Iterator]");
}

#[test]
fn credentials_name_a_role() {
    let of = |credentials: Value| {
        said(&one(
            json!({"Type": "Task", "Resource": "r", "Credentials": credentials}),
        ))
    };
    assert!(of(json!({"RoleArn": "arn:aws:iam::1:role/r"})).is_empty());
    assert!(of(json!({"RoleArn.$": "$.role"})).is_empty());
    assert_eq!(
        of(json!({})),
        [format!(
            "{SCHEMA}: The field 'RoleArn' is required but was missing at /States/S/Credentials"
        )]
    );
    assert!(of(json!("r"))[0].contains("type Object"));
}

#[test]
fn variables_have_names_and_are_not_assigned_from_within() {
    let of = |assign: Value| said(&one(json!({"Type": "Pass", "Assign": assign})));
    assert!(of(json!({"a": 1, "über_2.$": "$.x"})).is_empty());
    assert!(of(json!({"1a": 1}))[0].contains("The variable name '1a'"));
    assert!(of(json!({"a-b": 1}))[0].contains("'a-b'"));
    assert!(of(json!({"states": 1}))[0].contains("reserved"));
    assert!(of(json!({"x".repeat(81): 1}))[0].contains("80 characters"));
    assert!(of(json!([]))[0].contains("type Object"));
    let nested = |mode: Value| {
        said(&json!({"StartAt": "A", "States": {
            "A": {"Type": "Pass", "Assign": {"total": 0}, "Next": "M"},
            "M": {"Type": "Map", "End": true, "ItemProcessor": {"ProcessorConfig": mode, "StartAt": "I",
                "States": {"I": {"Type": "Pass", "Assign": {"total": 1}, "End": true}}}}}}))
    };
    assert!(nested(json!({"Mode": "INLINE"}))[0].contains("'total' is assigned by a flow around"));
    assert!(nested(json!({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"})).is_empty());
}

#[test]
fn no_more_problems_are_reported_than_one_can_read() {
    let states: serde_json::Map<String, Value> = (0..500)
        .map(|i| (format!("S{i}"), json!({"Type": "Nope"})))
        .collect();
    let count = problems(&json!({"StartAt": "S0", "States": states})).len();
    assert_eq!(count, 100);
}

#[test]
fn the_model_has_what_the_definition_says() {
    let machine = parse(
        r#"{"Comment": "c", "Version": "1.0", "TimeoutSeconds": 60, "StartAt": "P", "States": {
            "P": {"Type": "Parallel", "Next": "D", "Branches": [
                {"StartAt": "T", "States": {"T": {"Type": "Task", "Resource": "r", "End": true}}}]},
            "D": {"Type": "Succeed"}}}"#,
        WorkflowType::Standard,
    )
    .unwrap();
    assert_eq!(machine.timeout_seconds(), Some(60));
    assert_eq!(
        (machine.comment(), machine.version()),
        (Some("c"), Some("1.0"))
    );
    let names: Vec<&str> = machine.states().map(|state| &*state.name).collect();
    assert_eq!(names, ["D", "P", "T"]);
    let parallel = machine.state("P").unwrap();
    assert_eq!(parallel.transition, Transition::Next("D".into()));
    assert!(
        matches!(&parallel.kind, StateKind::Parallel(branches) if &*branches[0].start_at == "T")
    );
    assert!(
        machine.flow().state("T").is_none(),
        "a branch's state is not of the outer flow"
    );
}

fn shareable<T: Send + Sync + Clone>() {}

#[test]
fn a_machine_is_shared_between_threads() {
    shareable::<weir_asl::definition::StateMachine>();
}
