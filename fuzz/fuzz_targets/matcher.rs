//! A pattern and any bytes as an event: an answer or an error, the same when the scratch is used again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_core::pattern::{Dialect, Pattern, Set};

fuzz_target!(|data: &[u8]| {
    // A zero byte parts the pattern from the event.
    let (source, event) = match data.iter().position(|byte| *byte == 0) {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (&data[..0], data),
    };
    let Ok(source) = std::str::from_utf8(source) else {
        return;
    };
    let fixed = r#"{"a":{"b":[{"wildcard":"*a*"},{"exists":false}]},"c":[{"anything-but":["x"]},{"numeric":[">",0]}]}"#;
    let patterns: Vec<_> = [source, fixed]
        .iter()
        .filter_map(|source| Pattern::parse(source, Dialect::EventBridge).ok())
        .collect();
    let set = Set::new(&patterns).expect("two patterns fit");
    let mut scratch = set.scratch();
    let first = set.matches(event, &mut scratch).map(<[u32]>::to_vec);
    assert_eq!(first.as_deref(), set.matches(event, &mut scratch).as_deref());
});
