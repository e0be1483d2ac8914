//! Any text is judged as an intrinsic call, and what is one is evaluated, without a panic.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use weir_asl::intrinsic::Call;
use weir_asl::randomness::Seeded;
use weir_asl::scope::Values;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (call, input) = text.split_once('\0').unwrap_or((text, "{\"a\":[1,\"x\",null]}"));
    let input = serde_json::from_str(input).unwrap_or(Value::Null);
    let Ok(call) = Call::parse(call) else {
        return;
    };
    let context = json!({"Execution": {"Name": "e"}});
    let variables = BTreeMap::from([("v".to_owned(), json!({"k": [1.5, -1]}))]);
    let scope = Values { input: &input, context: &context, variables: &variables };
    let first = call.evaluate(&scope, &mut Seeded::new(1));
    assert_eq!(first, call.evaluate(&scope, &mut Seeded::new(1)));
});
