//! Transitions of state machines: the interpreter, beside a loop that walks the definition's JSON and copies the data from
//! state to state, as one would write it first.

use std::hint::black_box;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_asl::definition::{StateMachine, WorkflowType};
use weir_asl::machine::{About, Command, Environment, Event, Execution, Limits, Outcome, step};
use weir_asl::parse;
use weir_asl::randomness::Seeded;

use crate::timing::{Cost, measure, median};

const ROUNDS: usize = 5;
const TRANSITIONS: u64 = 200_000;
const STATES: u64 = 1_000;

/// Compares them and prints the table.
pub fn compare() {
    println!("state machines, transitions a second of one core's time (median of {ROUNDS} rounds)");
    println!(
        "{:<34}{:>14}{:>14}{:>9}",
        "", "transitions/s", "ns each", "ratio"
    );
    let pass = chain(|_| json!({"Type": "Pass"}));
    let naive: Vec<Cost> = (0..ROUNDS).map(|_| run_naive(&pass)).collect();
    let first = print("walk the JSON, copy the data: Pass", &naive, None);
    for (name, definition, transitions) in [
        ("Pass", pass.clone(), 1_000),
        ("Pass, one step a transition", pass.clone(), 1),
        ("Choice, third rule of four", choices(), 1_000),
        (
            "Pass with Parameters",
            chain(
                |_| json!({"Type": "Pass", "Parameters": {"id.$": "$.id", "items.$": "$.items", "kind": "copy"}}),
            ),
            1_000,
        ),
        (
            "Pass with Output in JSONata",
            {
                let mut chain = chain(
                    |_| json!({"Type": "Pass", "Output": "{% $merge([$states.input, {'step': 4}]) %}"}),
                );
                chain["QueryLanguage"] = "JSONata".into();
                chain
            },
            1_000,
        ),
    ] {
        let costs: Vec<Cost> = (0..ROUNDS)
            .map(|_| run(&definition, transitions, false))
            .collect();
        print(name, &costs, Some(first));
    }
    let costs: Vec<Cost> = (0..ROUNDS).map(|_| run(&pass, 1, true)).collect();
    print("Pass, state written each time", &costs, Some(first));
}

fn print(name: &str, costs: &[Cost], first: Option<f64>) -> f64 {
    let nanos = median(costs.iter().map(|cost| cost.cpu));
    let ratio = first.map_or(String::new(), |first| format!("{:.2}", first / nanos));
    println!("{name:<34}{:>14.0}{nanos:>14.0}{ratio:>9}", 1e9 / nanos);
    nanos
}

fn input() -> Value {
    json!({
        "id": "order-17", "customer": {"name": "Ann", "city": "Bern"}, "total": 12.5, "step": 3,
        "items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}, {"sku": "c", "count": 3}]
    })
}

/// States that follow each other.
fn chain(state: impl Fn(u64) -> Value) -> Value {
    let mut states = serde_json::Map::new();
    for index in 0..STATES {
        let mut state = state(index);
        if index + 1 == STATES {
            state["End"] = true.into();
        } else {
            state["Next"] = format!("State{}", index + 1).into();
        }
        states.insert(format!("State{index}"), state);
    }
    json!({"StartAt": "State0", "States": states})
}

fn choices() -> Value {
    let mut states = serde_json::Map::new();
    for index in 0..STATES {
        let next = if index + 1 == STATES {
            "Done".to_owned()
        } else {
            format!("State{}", index + 1)
        };
        let rule = |rule: Value| {
            let mut rule = rule;
            rule["Next"] = next.clone().into();
            rule
        };
        let state = json!({"Type": "Choice", "Choices": [
            rule(json!({"Variable": "$.total", "NumericGreaterThan": 100})),
            rule(json!({"Variable": "$.customer.city", "StringEquals": "Zug"})),
            rule(json!({"Variable": "$.step", "NumericEquals": 3})),
            rule(json!({"Variable": "$.id", "StringMatches": "order-*"})),
        ], "Default": next});
        states.insert(format!("State{index}"), state);
    }
    states.insert("Done".into(), json!({"Type": "Succeed"}));
    json!({"StartAt": "State0", "States": states})
}

fn run(definition: &Value, transitions: u32, is_written: bool) -> Cost {
    let machine = parse::from_value(definition, WorkflowType::Express)
        .expect("the benchmark's definitions are valid");
    let limits = Limits {
        transitions,
        ..Limits::default()
    };
    let is_slow = is_written || definition["QueryLanguage"] == "JSONata";
    let calls = if is_slow {
        TRANSITIONS / 10
    } else {
        TRANSITIONS
    };
    measure(1, calls, |_| {
        for _ in 0..calls / STATES {
            black_box(execute(&machine, &limits, is_written));
        }
    })
}

fn execute(machine: &StateMachine, limits: &Limits, is_written: bool) -> Outcome {
    let now = Timestamp::UNIX_EPOCH;
    let about = About {
        id: "arn:execution".into(),
        name: "execution".into(),
        input: Arc::new(input()),
        start_time: now,
        role: "arn:role".into(),
        machine_id: "arn:machine".into(),
        machine_name: "machine".into(),
        is_express: true,
        processor_of: None,
        item: None,
    };
    let mut randomness = Seeded::new(1);
    let mut execution = Execution::new(machine, about).expect("the machine has a flow");
    let mut event = Event::Start;
    loop {
        let mut environment = Environment {
            now,
            randomness: &mut randomness,
            limits,
        };
        let made = step(machine, execution, event, &mut environment);
        black_box(&made.history);
        if is_written {
            black_box(serde_json::to_vec(&made.execution).expect("a state is JSON"));
        }
        if let Some(outcome) = made.execution.outcome() {
            return outcome.clone();
        }
        assert!(
            made.commands.contains(&Command::Continue),
            "the chain waits for nothing"
        );
        execution = made.execution;
        event = Event::Continue;
    }
}

/// The first thing one would write: the definition stays JSON, and so does the history.
fn run_naive(definition: &Value) -> Cost {
    measure(1, TRANSITIONS, |_| {
        for _ in 0..TRANSITIONS / STATES {
            let mut data = input();
            let mut history = Vec::new();
            let mut name = definition["StartAt"].as_str().map(str::to_owned);
            while let Some(current) = name {
                let state = &definition["States"][&current];
                history.push(json!({"type": "PassStateEntered", "name": current, "input": data}));
                let output = data.clone();
                history.push(json!({"type": "PassStateExited", "name": current, "output": output}));
                data = output;
                name = state["Next"].as_str().map(str::to_owned);
            }
            black_box((data, history));
        }
    })
}
