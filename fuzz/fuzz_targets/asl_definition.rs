//! Any text is judged as a definition, without a panic and within a bounded time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_asl::definition::WorkflowType;
use weir_asl::parse::parse;

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the type, so that one corpus serves both.
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let workflow = if first % 2 == 0 {
        WorkflowType::Standard
    } else {
        WorkflowType::Express
    };
    if let Err(rejection) = parse(text, workflow) {
        assert!(!rejection.problems.is_empty());
        assert!(!rejection.to_string().is_empty());
    }
});
