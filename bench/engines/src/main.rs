//! Engines beside their peers: same machine, same run, same input, alternating. One module an engine.
//!
//! Nothing here asserts a time: the ratios are for people and for the tables in `bench/README.md`.

mod pattern;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("pattern") => pattern::run(ALLOCATOR),
        _ => {
            eprintln!("write which engine to measure: pattern");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
