//! Distributed Maps.

use serde_json::{Value, json};

use super::*;

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
