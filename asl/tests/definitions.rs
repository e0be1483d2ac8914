//! Definitions that were accepted or refused elsewhere are accepted or refused here.

mod support;

use serde_json::Value;
use weir_asl::definition::WorkflowType;
use weir_asl::parse::from_value;
use weir_asl::problem::Rejection;

fn refusal(definition: &Value, workflow: WorkflowType) -> Option<Rejection> {
    from_value(definition, workflow).err()
}

#[test]
fn definitions_that_aws_refuses_are_refused_in_its_words() {
    let (mut failures, mut count, mut skipped) = (Vec::new(), 0, 0);
    for case in support::cases("asl-create-errors.jsonl") {
        let recorded = recorded_rejection(&case["recorded"]);
        let machines = case["machines"].as_array().expect("machines");
        for (i, machine) in machines.iter().enumerate() {
            let workflow = machine["type"]
                .as_str()
                .map_or(WorkflowType::Standard, |t| {
                    WorkflowType::from_name(t).expect("a type")
                });
            let said = refusal(&machine["definition"], workflow).map(|r| r.to_string());
            let last = i + 1 == machines.len();
            // The other cases are refused for something that is not in the definition.
            let applies = recorded.is_some() && last;
            count += usize::from(applies);
            skipped += usize::from(!applies);
            match (&recorded, said) {
                (Some(expected), Some(said)) if last && said == *expected => {}
                (_, None) if !applies => {}
                (expected, said) => failures.push(format!(
                    "{}\n  expected {expected:?}\n  said     {said:?}",
                    case["id"].as_str().unwrap_or_default()
                )),
            }
        }
    }
    support::report("create errors", count, skipped, &failures);
}

/// The message of the `InvalidDefinition` in a recording, if there is one.
fn recorded_rejection(recorded: &Value) -> Option<String> {
    recorded.as_object()?.values().find_map(|answer| {
        let text = answer["Error"]["Message"]
            .as_str()
            .or(answer["exception_value"].as_str())?;
        let start = text.find("Invalid State Machine Definition")?;
        Some(text[start..].to_owned())
    })
}

#[test]
fn definitions_of_statelint_are_judged_as_it_judges_them() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for case in support::cases("asl-definitions-statelint.jsonl") {
        count += 1;
        let refused = refusal(&case["definition"], WorkflowType::Standard);
        let valid = case["valid"].as_bool().expect("valid");
        if valid != refused.is_none() {
            let said = refused.map(|r| r.to_string());
            failures.push(format!("{} is valid: {valid}, said {said:?}", case["name"]));
        }
    }
    support::report("statelint", count, 0, &failures);
}

#[test]
fn workflows_in_use_are_accepted() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for case in support::cases("asl-definitions-real-world.jsonl") {
        count += 1;
        let workflow = case["type"]
            .as_str()
            .and_then(WorkflowType::from_name)
            .unwrap_or_default();
        if let Some(said) = refusal(&case["definition"], workflow) {
            failures.push(format!("{}: {said}", case["path"]));
        }
    }
    support::report("workflows in use", count, 0, &failures);
}

#[test]
fn definitions_that_ran_are_accepted() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for case in support::cases("asl-executions.jsonl") {
        count += 1;
        let workflow = case["type"]
            .as_str()
            .and_then(WorkflowType::from_name)
            .unwrap_or_default();
        if let Some(said) = refusal(&case["definition"], workflow) {
            failures.push(format!("{}: {said}", case["id"]));
        }
    }
    support::report("definitions that ran", count, 0, &failures);
}
