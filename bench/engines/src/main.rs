//! Engines beside their peers: same machine, same run, same input, alternating. One module an engine.
//!
//! Nothing here asserts a time: the ratios are for people and for the tables in `bench/README.md`.

mod pattern;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let engine = std::env::args().nth(1).unwrap_or_default();
    match engine.as_str() {
        "pattern" => pattern::run(ALLOCATOR),
        other => {
            eprintln!("no engine {other:?}: write pattern");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
