//! Any text is a pattern or is refused, in every dialect; what is accepted makes a set.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_core::pattern::{Dialect, Pattern, Set};

fuzz_target!(|source: &str| {
    for dialect in [Dialect::EventBridge, Dialect::TopicAttributes, Dialect::TopicBody] {
        match Pattern::parse(source, dialect) {
            Ok(pattern) => drop(Set::new([&pattern]).expect("one pattern fits")),
            Err(error) => {
                let end = error.position().map_or(0, |position| position.offset);
                assert!(end <= source.len() && !error.to_string().is_empty());
            }
        }
    }
});
