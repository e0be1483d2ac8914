use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::definition::WorkflowType;
use crate::parse;
use crate::randomness::Seeded;

/// An execution whose world is driven by hand.
struct Bench {
    machine: StateMachine,
    execution: Option<Execution>,
    now: Timestamp,
    limits: Limits,
    tasks: BTreeMap<Id, StartTask>,
    timers: BTreeMap<Id, Timestamp>,
    children: BTreeMap<Id, StartChild>,
    others: Vec<Command>,
    history: Vec<HistoryEvent>,
}

impl Bench {
    fn new(definition: &Value, input: Value) -> Self {
        Self::with(definition, input, Limits::default())
    }

    fn with(definition: &Value, input: Value, limits: Limits) -> Self {
        let machine = parse::from_value(definition, WorkflowType::Standard).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let about = About {
            id: "arn:e".into(),
            name: "e".into(),
            input: Arc::new(input),
            start_time: now,
            role: "arn:r".into(),
            machine_id: "arn:m".into(),
            machine_name: "m".into(),
            is_express: false,
            processor_of: None,
            item: None,
        };
        let execution = Execution::new(&machine, about);
        let mut bench = Self {
            machine,
            execution,
            now,
            limits,
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            children: BTreeMap::new(),
            others: Vec::new(),
            history: Vec::new(),
        };
        bench.tell(Event::Start);
        bench
    }

    fn tell(&mut self, event: Event) {
        let mut randomness = Seeded::new(self.history.len() as u64);
        let mut environment = Environment {
            now: self.now,
            randomness: &mut randomness,
            limits: &self.limits,
        };
        let execution = self.execution.take().unwrap();
        let made = step(&self.machine, execution, event, &mut environment);
        self.execution = Some(made.execution);
        self.history.extend(made.history);
        for command in made.commands {
            match command {
                Command::StartTask(task) => drop(self.tasks.insert(task.id, *task)),
                Command::CancelTask { id } => drop(self.tasks.remove(&id)),
                Command::StartTimer { id, at } => drop(self.timers.insert(id, at)),
                Command::CancelTimer { id } => drop(self.timers.remove(&id)),
                Command::StartChild(child) => drop(self.children.insert(child.id, *child)),
                Command::StopChild { id } => drop(self.children.remove(&id)),
                other => self.others.push(other),
            }
        }
    }

    /// The only task that waits, and is not waited for any more.
    fn task(&mut self) -> StartTask {
        assert_eq!(self.tasks.len(), 1, "{:?}", self.tasks);
        self.tasks.pop_first().unwrap().1
    }

    fn succeed(&mut self, output: Value) {
        let id = self.task().id;
        self.tell(Event::TaskSucceeded { id, output });
    }

    fn fail(&mut self, error: &str) {
        let id = self.task().id;
        self.tell(Event::TaskFailed {
            id,
            failure: Failure::new(error, "cause"),
        });
    }

    /// Lets the next timer fire; gives the seconds until then.
    fn wait(&mut self) -> i64 {
        let (at, id) = self.timers.iter().map(|(id, at)| (*at, *id)).min().unwrap();
        self.timers.remove(&id);
        let seconds = at.duration_since(self.now).as_secs();
        self.now = at;
        self.tell(Event::TimerFired { id });
        seconds
    }

    fn outcome(&self) -> Option<&Outcome> {
        self.execution.as_ref().unwrap().outcome()
    }

    fn output(&self) -> &Value {
        match self.outcome() {
            Some(Outcome::Succeeded(output)) => output,
            other => panic!("{other:?}"),
        }
    }

    fn failure(&self) -> (&str, &str) {
        match self.outcome() {
            Some(
                Outcome::Failed(failure) | Outcome::TimedOut(failure) | Outcome::Aborted(failure),
            ) => (
                failure.error(),
                failure.cause.as_deref().unwrap_or_default(),
            ),
            other => panic!("{other:?}"),
        }
    }

    fn types(&self) -> Vec<String> {
        self.history.iter().map(HistoryEvent::type_name).collect()
    }

    /// Type and previous id of each event.
    fn links(&self) -> Vec<(String, u64)> {
        self.history
            .iter()
            .map(|event| (event.type_name(), event.previous_id))
            .collect()
    }
}

const SERVICE: &str = "arn:aws:states:::lambda:invoke";

fn single(state: &Value) -> Value {
    json!({"StartAt": "S", "States": {"S": state}})
}

#[test]
fn a_retried_task_waits_longer_each_time_and_then_is_caught() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "End": true,
                "Retry": [{"ErrorEquals": ["ErrorA", "ErrorB"], "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 2},
                          {"ErrorEquals": ["ErrorC"], "IntervalSeconds": 5}],
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z", "ResultPath": "$.error"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({"x": 1}),
    );
    let mut waits = Vec::new();
    for error in ["ErrorA", "ErrorB", "ErrorC", "ErrorB"] {
        bench.fail(error);
        if bench.outcome().is_none() {
            waits.push(bench.wait());
        }
    }
    assert_eq!(waits, [1, 2, 5]);
    assert_eq!(
        bench.output(),
        &json!({"x": 1, "error": {"Error": "ErrorB", "Cause": "cause"}})
    );
    assert!(bench.types().ends_with(&[
        "TaskFailed".into(),
        "TaskStateExited".into(),
        "PassStateEntered".into(),
        "PassStateExited".into(),
        "ExecutionSucceeded".into()
    ]));
}

#[test]
fn the_count_of_retries_is_in_the_context_and_begins_anew_with_each_visit() {
    let mut bench = Bench::new(
        &single(&json!({"Type": "Task", "Resource": SERVICE, "End": true,
            "Parameters": {"n.$": "$$.State.RetryCount"}, "Retry": [{"ErrorEquals": ["States.ALL"]}]})),
        json!({}),
    );
    assert_eq!(*bench.tasks.values().next().unwrap().input, json!({"n": 0}));
    bench.fail("E");
    bench.wait();
    assert_eq!(*bench.tasks.values().next().unwrap().input, json!({"n": 1}));
}

#[test]
fn a_task_times_out_and_a_late_answer_finds_nothing() {
    let mut bench = Bench::new(
        &single(&json!({"Type": "Task", "Resource": SERVICE, "End": true, "TimeoutSeconds": 5})),
        json!({}),
    );
    let id = *bench.tasks.keys().next().unwrap();
    assert_eq!(bench.wait(), 5);
    assert!(bench.tasks.is_empty(), "the task is cancelled");
    assert_eq!(bench.failure(), ("States.Timeout", ""));
    bench.tell(Event::TaskSucceeded {
        id,
        output: json!(1),
    });
    assert_eq!(bench.failure(), ("States.Timeout", ""));
    assert!(bench.types().contains(&"TaskTimedOut".to_owned()));
}

#[test]
fn heartbeats_keep_a_task_alive_until_they_stop() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "End": true,
                "TimeoutSeconds": 600, "HeartbeatSeconds": 10, "Parameters": {"token.$": "$$.Task.Token"},
                "Catch": [{"ErrorEquals": ["States.HeartbeatTimeout"], "Next": "Z"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    let task = bench.tasks.values().next().unwrap().clone();
    assert_eq!(task.input["token"], json!(task.token.unwrap()));
    for _ in 0..3 {
        bench.now = bench.now.checked_add(SignedDuration::from_secs(9)).unwrap();
        bench.tell(Event::TaskHeartbeat { id: task.id });
    }
    assert_eq!(bench.wait(), 10);
    assert_eq!(
        bench.output(),
        &json!({"Error": "States.Timeout", "Cause": ""})
    );
    assert!(bench.timers.is_empty(), "the long timer is cancelled");
}

#[test]
fn an_activity_starts_when_somebody_takes_it() {
    let mut bench = Bench::new(
        &single(
            &json!({"Type": "Task", "Resource": "arn:aws:states:us-east-1:1:activity:a", "End": true}),
        ),
        json!({}),
    );
    let id = *bench.tasks.keys().next().unwrap();
    assert_eq!(bench.types().last().unwrap(), "ActivityScheduled");
    bench.tell(Event::TaskStarted {
        id,
        worker: Some("w".into()),
    });
    bench.succeed(json!(1));
    assert_eq!(
        bench.types()[2..],
        [
            "ActivityScheduled",
            "ActivityStarted",
            "ActivitySucceeded",
            "TaskStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[test]
fn a_failing_branch_gives_up_the_others() {
    let branch = |name: &str, more: Value| {
        let mut state = json!({"Type": "Task", "Resource": SERVICE, "End": true});
        state
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"StartAt": name, "States": {name: state}})
    };
    let mut bench = Bench::new(
        &single(&json!({"Type": "Parallel", "End": true, "Branches": [
            branch("A", json!({"TimeoutSeconds": 60})), branch("B", json!({})),
            json!({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 9, "End": true}}})
        ]})),
        json!({}),
    );
    assert_eq!((bench.tasks.len(), bench.timers.len()), (2, 2));
    let id = *bench.tasks.keys().next_back().unwrap();
    bench.tell(Event::TaskFailed {
        id,
        failure: Failure::new("E", "c"),
    });
    assert_eq!(bench.failure(), ("E", "c"));
    assert_eq!(bench.timers.len(), 0);
    assert!(bench.tasks.len() <= 1 && !bench.tasks.keys().any(|open| *open != id));
    assert!(bench.types().ends_with(&[
        "TaskFailed".into(),
        "ParallelStateFailed".into(),
        "ExecutionFailed".into()
    ]));
}

#[test]
fn outputs_of_branches_are_in_the_order_of_branches() {
    let branch = |name: &str| json!({"StartAt": name, "States": {name: {"Type": "Task", "Resource": SERVICE, "End": true}}});
    let mut bench = Bench::new(
        &single(
            &json!({"Type": "Parallel", "End": true, "Branches": [branch("A"), branch("B"), branch("C")],
            "ResultPath": "$.all"}),
        ),
        json!({"in": 0}),
    );
    for id in bench.tasks.keys().copied().rev().collect::<Vec<_>>() {
        let output = json!(&*bench.tasks.remove(&id).unwrap().state);
        bench.tell(Event::TaskSucceeded { id, output });
    }
    assert_eq!(bench.output(), &json!({"in": 0, "all": ["A", "B", "C"]}));
}

#[test]
fn a_map_runs_no_more_at_once_than_it_may() {
    let map = |concurrency: u64| {
        single(
            &json!({"Type": "Map", "End": true, "MaxConcurrency": concurrency, "ItemProcessor": {
            "StartAt": "T", "States": {"T": {"Type": "Task", "Resource": SERVICE, "End": true}}}}),
        )
    };
    let items: Vec<u64> = (0..100).collect();
    for (concurrency, most) in [(1, 1), (3, 3), (0, 40), (1000, 40)] {
        let mut bench = Bench::new(&map(concurrency), json!(items));
        let mut seen = 0;
        while bench.outcome().is_none() {
            assert!(bench.tasks.len() <= most);
            seen = seen.max(bench.tasks.len());
            let (id, task) = bench.tasks.pop_last().unwrap();
            bench.tell(Event::TaskSucceeded {
                id,
                output: json!({"was": *task.input}),
            });
        }
        assert_eq!(seen, most);
        let outputs: Vec<Value> = items.iter().map(|item| json!({"was": item})).collect();
        assert_eq!(bench.output(), &json!(outputs));
    }
}

#[test]
fn events_of_a_map_follow_its_last_inner_event() {
    let bench = Bench::new(
        &single(
            &json!({"Type": "Map", "End": true, "MaxConcurrency": 1, "ItemProcessor": {
            "StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}}}),
        ),
        json!([1, 2]),
    );
    let links = bench.links();
    let expected = [
        ("ExecutionStarted", 0),
        ("MapStateEntered", 0),
        ("MapStateStarted", 2),
        ("MapIterationStarted", 3),
        ("PassStateEntered", 4),
        ("PassStateExited", 5),
        ("MapIterationSucceeded", 6),
        ("MapIterationStarted", 6),
        ("PassStateEntered", 8),
        ("PassStateExited", 9),
        ("MapIterationSucceeded", 10),
        ("MapStateSucceeded", 10),
        ("MapStateExited", 10),
        ("ExecutionSucceeded", 13),
    ];
    assert_eq!(
        links,
        expected.map(|(name, previous)| (name.to_owned(), previous))
    );
}

#[test]
fn a_map_that_is_tried_again_starts_again_without_an_exit() {
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Map", "Next": "Z", "Retry": [{"ErrorEquals": ["E"], "MaxAttempts": 1}],
                "Catch": [{"ErrorEquals": ["E"], "Next": "Z"}],
                "ItemProcessor": {"StartAt": "F", "States": {"F": {"Type": "Fail", "Error": "E"}}}},
            "Z": {"Type": "Pass", "End": true}}}),
        json!([1]),
    );
    bench.wait();
    assert_eq!(
        bench.types(),
        [
            "ExecutionStarted",
            "MapStateEntered",
            "MapStateStarted",
            "MapIterationStarted",
            "FailStateEntered",
            "MapIterationFailed",
            "MapStateStarted",
            "MapIterationStarted",
            "FailStateEntered",
            "MapIterationFailed",
            "MapStateFailed",
            "MapStateExited",
            "PassStateEntered",
            "PassStateExited",
            "ExecutionSucceeded"
        ]
    );
    assert_eq!(bench.output(), &json!({"Error": "E", "Cause": ""}));
}

#[test]
fn inner_variables_are_gone_after_the_branch_and_outer_ones_are_seen_inside() {
    let bench = Bench::new(
        &json!({"StartAt": "A", "States": {
            "A": {"Type": "Pass", "Assign": {"outer": 1}, "Next": "P"},
            "P": {"Type": "Parallel", "Next": "Z", "Branches": [
                {"StartAt": "B", "States": {
                    "B": {"Type": "Pass", "Assign": {"inner.$": "$outer"}, "Next": "C"},
                    "C": {"Type": "Pass", "Parameters": {"seen.$": "$inner", "outer.$": "$outer"}, "End": true}}}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    assert_eq!(bench.output(), &json!([{"seen": 1, "outer": 1}]));
    assert!(
        !bench
            .execution
            .unwrap()
            .root
            .variables
            .contains_key("inner")
    );
}

#[test]
fn what_nothing_can_catch_ends_the_execution_inside_a_map_too() {
    let bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Map", "Next": "Z", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Z"}],
                "ItemProcessor": {"StartAt": "P", "States": {"P": {"Type": "Pass", "InputPath": "$.no", "End": true}}}},
            "Z": {"Type": "Pass", "End": true}}}),
        json!([{}]),
    );
    let (error, cause) = bench.failure();
    assert_eq!(error, "States.Runtime");
    assert_eq!(
        cause,
        "An error occurred while executing the state 'P' (entered at the event id #5). Invalid path '$.no' : No results \
         for path: $['no']"
    );
    assert!(bench.types().ends_with(&[
        "MapIterationFailed".into(),
        "MapStateFailed".into(),
        "ExecutionFailed".into()
    ]));
}

#[test]
fn data_beyond_the_limit_is_refused_and_can_be_caught() {
    let big = "x".repeat(262_145);
    let mut bench = Bench::new(
        &json!({"StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "Next": "Z",
                "Catch": [{"ErrorEquals": ["States.DataLimitExceeded"], "Next": "Z"}]},
            "Z": {"Type": "Pass", "End": true}}}),
        json!({}),
    );
    bench.succeed(json!(big));
    assert_eq!(bench.output()["Error"], "States.DataLimitExceeded");

    let half = "x".repeat(150_000);
    let bench = Bench::new(
        &single(&json!({"Type": "Pass", "Parameters": {"a.$": "$.t", "b.$": "$.t"}, "End": true})),
        json!({"t": half}),
    );
    assert_eq!(bench.failure().0, "States.DataLimitExceeded");
}

#[test]
fn a_machine_without_an_end_stops_when_its_history_is_full() {
    let limits = Limits {
        history_events: 1_000,
        ..Limits::default()
    };
    let mut bench = Bench::with(
        &json!({"StartAt": "A", "States": {
            "A": {"Type": "Pass", "Next": "B"},
            "B": {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsPresent": true, "Next": "Z"}], "Default": "A"},
            "Z": {"Type": "Succeed"}}}),
        json!({}),
        limits,
    );
    while bench.outcome().is_none() {
        assert_eq!(bench.others.pop(), Some(Command::Continue));
        bench.tell(Event::Continue);
    }
    assert_eq!(bench.failure().0, "States.Runtime");
    assert_eq!(bench.history.len(), 1_000);
    assert_eq!(bench.types().last().unwrap(), "ExecutionFailed");
}

#[test]
fn the_time_of_the_machine_ends_all_of_it() {
    let mut bench = Bench::new(
        &json!({"TimeoutSeconds": 30, "StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "End": true, "TimeoutSeconds": 100}}}),
        json!({}),
    );
    assert_eq!(bench.wait(), 30);
    assert!(matches!(bench.outcome(), Some(Outcome::TimedOut(_))));
    assert!(bench.tasks.is_empty() && bench.timers.is_empty());
    assert_eq!(bench.types().last().unwrap(), "ExecutionTimedOut");
}

fn distributed(more: &Value) -> Value {
    let mut map = json!({"Type": "Map", "End": true, "ItemProcessor": {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
        "StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}}});
    map.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    single(&map)
}

impl Bench {
    fn end_child(&mut self, result: Result<Value, Failure>) {
        let (id, _) = self.children.pop_first().unwrap();
        self.tell(Event::ChildEnded { id, result });
    }
}

#[test]
fn items_are_batched_by_count_and_bytes() {
    let bench = Bench::new(
        &distributed(&json!({"ItemBatcher": {"MaxItemsPerBatch": 2, "BatchInput": {"k": 1}}})),
        json!([1, 2, 3]),
    );
    let inputs: Vec<&Value> = bench.children.values().map(|child| &*child.input).collect();
    assert_eq!(
        inputs,
        [
            &json!({"BatchInput": {"k": 1}, "Items": [1, 2]}),
            &json!({"BatchInput": {"k": 1}, "Items": [3]})
        ]
    );
    let bench = Bench::new(
        &distributed(&json!({"ItemBatcher": {"MaxInputBytesPerBatch": 40}})),
        json!(["aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"]),
    );
    assert!(
        bench
            .children
            .values()
            .all(|child| child.input.to_string().len() <= 40)
    );
    assert_eq!(bench.children.len(), 2);
}

#[test]
fn a_distributed_map_fails_when_more_fails_than_it_tolerates() {
    let failure = || Failure::new("E", "c");
    let mut strict = Bench::new(&distributed(&json!({})), json!([1, 2, 3]));
    strict.end_child(Err(failure()));
    assert_eq!(
        strict.failure(),
        (
            "States.ExceedToleratedFailureThreshold",
            "The specified tolerated failure threshold was exceeded"
        )
    );
    assert!(strict.children.is_empty(), "the others are stopped");
    assert!(strict.types().ends_with(&[
        "MapRunFailed".into(),
        "MapStateFailed".into(),
        "ExecutionFailed".into()
    ]));

    let mut lenient = Bench::new(
        &distributed(&json!({"ToleratedFailurePercentage": 40})),
        json!([1, 2, 3]),
    );
    lenient.end_child(Err(failure()));
    lenient.end_child(Ok(json!("b")));
    lenient.end_child(Ok(json!("c")));
    assert_eq!(lenient.output(), &json!(["b", "c"]));
}

#[test]
fn items_are_read_in_pages_and_results_written() {
    let mut bench = Bench::new(
        &distributed(&json!({
            "MaxConcurrency": 2,
            "ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "ReaderConfig": {"InputType": "JSON", "MaxItems": 3},
                "Parameters": {"Bucket": "b", "Key.$": "$.key"}},
            "ResultWriter": {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "o", "Prefix": "p"}}})),
        json!({"key": "k"}),
    );
    let Some(Command::ReadItems(reading)) = bench.others.pop() else {
        panic!("nothing is read")
    };
    assert_eq!(
        (reading.arguments, reading.skip, reading.limit),
        (json!({"Bucket": "b", "Key": "k"}), 0, 3)
    );
    let id = reading.id;
    bench.tell(Event::ItemsRead {
        id,
        items: vec![json!(1), json!(2)],
        is_last: false,
    });
    let Some(Command::ReadItems(reading)) = bench.others.pop() else {
        panic!("nothing more is read")
    };
    assert_eq!((reading.skip, reading.limit), (2, 1));
    bench.tell(Event::ItemsRead {
        id,
        items: vec![json!(3), json!(4)],
        is_last: false,
    });
    assert_eq!(bench.children.len(), 2);
    for _ in 0..3 {
        bench.end_child(Ok(json!("done")));
    }
    let Some(Command::WriteResults(writing)) = bench.others.pop() else {
        panic!("nothing is written")
    };
    assert_eq!(writing.arguments, json!({"Bucket": "o", "Prefix": "p"}));
    bench.tell(Event::ResultsWritten {
        id,
        output: json!({"MapRunArn": "r"}),
    });
    assert_eq!(bench.output(), &json!({"MapRunArn": "r"}));
    assert_eq!(
        bench.types(),
        [
            "ExecutionStarted",
            "MapStateEntered",
            "MapStateStarted",
            "MapRunStarted",
            "MapRunSucceeded",
            "MapStateSucceeded",
            "MapStateExited",
            "ExecutionSucceeded"
        ]
    );
}

#[test]
fn a_child_runs_the_processor_of_its_map() {
    let machine = parse::from_value(&distributed(&json!({})), WorkflowType::Standard).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let about = |processor_of: &str| About {
        id: "arn:c".into(),
        name: "c".into(),
        input: Arc::new(json!(7)),
        start_time: now,
        role: "arn:r".into(),
        machine_id: "arn:m".into(),
        machine_name: "m".into(),
        is_express: true,
        processor_of: Some(processor_of.into()),
        item: None,
    };
    assert!(Execution::new(&machine, about("P")).is_none());
    let execution = Execution::new(&machine, about("S")).unwrap();
    let mut randomness = Seeded::new(1);
    let mut environment = Environment {
        now,
        randomness: &mut randomness,
        limits: &Limits::default(),
    };
    let made = step(&machine, execution, Event::Start, &mut environment);
    assert_eq!(
        made.execution.outcome(),
        Some(&Outcome::Succeeded(Arc::new(json!(7))))
    );
}

#[test]
fn a_failed_expression_is_an_event_and_can_be_tried_again() {
    let mut bench = Bench::new(
        &json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {"S": {
            "Type": "Task", "Resource": SERVICE, "Arguments": {"a": "{% $nothing %}"}, "End": true,
            "Retry": [{"ErrorEquals": ["States.QueryEvaluationError"], "MaxAttempts": 1}]}}}),
        json!({}),
    );
    bench.wait();
    assert_eq!(
        bench.types(),
        [
            "ExecutionStarted",
            "TaskStateEntered",
            "EvaluationFailed",
            "EvaluationFailed",
            "ExecutionFailed"
        ]
    );
    let details = bench.history[2].to_json();
    assert_eq!(
        details["evaluationFailedEventDetails"]["location"],
        "Arguments/a"
    );
    assert_eq!(details["evaluationFailedEventDetails"]["state"], "S");
}

#[test]
fn the_catcher_of_a_jsonata_state_sees_the_error_and_the_input() {
    let mut bench = Bench::new(
        &json!({"QueryLanguage": "JSONata", "StartAt": "S", "States": {
            "S": {"Type": "Task", "Resource": SERVICE, "Next": "Z", "Assign": {"v": "result"}, "Catch": [{
                "ErrorEquals": ["E"], "Next": "Z", "Output": {"e": "{% $states.errorOutput.Error %}", "i": "{% $states.input.x %}"},
                "Assign": {"v": "error"}}]},
            "Z": {"Type": "Pass", "Output": {"v": "{% $v %}", "in": "{% $states.input %}"}, "End": true}}}),
        json!({"x": 1}),
    );
    bench.fail("E");
    assert_eq!(
        bench.output(),
        &json!({"v": "error", "in": {"e": "E", "i": 1}})
    );
}
