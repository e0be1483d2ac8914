//! Any definition that is accepted runs to its end, or to a bound, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_asl::definition::WorkflowType;
use weir_asl::parse;
use weir_asl::simulate::{Answers, Options, simulate};

fuzz_target!(|data: &[u8]| {
    // The first byte is the seed; a zero byte parts the definition from the input.
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let (definition, input) = text.split_once('\0').unwrap_or((text, "{}"));
    let (Ok(machine), Ok(input)) =
        (parse::parse(definition, WorkflowType::Standard), serde_json::from_str(input))
    else {
        return;
    };
    let options = Options {
        seed: u64::from(*first),
        max_events: 500,
        ..Options::default()
    };
    let report = simulate(&machine, input, &options, Answers::default());
    for (position, event) in report.history.iter().enumerate() {
        assert_eq!(event.id, position as u64 + 1);
        assert!(event.to_json().is_object());
    }
});
