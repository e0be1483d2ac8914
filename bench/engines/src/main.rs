//! The pure engines beside what somebody would write without them: no broker, no server, no tokio.
//!
//! One module for each engine. Without arguments every comparison runs; else the ones that are named.
//! Nothing here asserts a time: ours and the other run in turns in the same process, and the ratio is
//! what to read.

mod asl;
mod breaker;
mod pattern;
mod timing;

/// Counts allocations, for all engines alike.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

const ENGINES: [(&str, fn()); 3] = [
    ("asl", asl::compare),
    ("breaker", breaker::compare),
    ("pattern", || pattern::run(ALLOCATOR)),
];

fn main() -> std::process::ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let unknown = |name: &&String| !ENGINES.iter().any(|(known, _)| known == name);
    if let Some(name) = asked.iter().find(unknown) {
        let known: Vec<_> = ENGINES.iter().map(|(known, _)| *known).collect();
        eprintln!(
            "there is no comparison {name:?}; write one of: {}",
            known.join(", ")
        );
        return std::process::ExitCode::FAILURE;
    }
    for (name, compare) in ENGINES {
        if asked.is_empty() || asked.iter().any(|wanted| wanted == name) {
            compare();
        }
    }
    std::process::ExitCode::SUCCESS
}
