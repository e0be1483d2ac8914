//! The pattern matcher beside quamina: lines of GeoJSON like those of San Francisco's city lots.

use std::alloc::System;
use std::hint::black_box;

use quamina::Quamina;
use stats_alloc::{Region, StatsAlloc};
use weir_core::pattern::{Dialect, Pattern, Set};

const LINES: usize = 5_000;
const ROUNDS: usize = 5;
const SEED: u64 = 7;
/// Processor time of one measurement.
const SECONDS: f64 = 0.1;

pub fn run(allocator: &'static StatsAlloc<System>) {
    let lines = lots(LINES);
    let bytes: usize = lines.iter().map(String::len).sum();
    println!(
        "{LINES} lines of {} bytes on average, seed {SEED}, median of {ROUNDS} rounds",
        bytes / LINES
    );
    println!(
        "{:<44} {:>12} {:>12} {:>7} {:>9}",
        "patterns", "ours /s", "quamina /s", "ratio", "matches"
    );
    let exact = [
        r#"{"properties":{"STREET":["CRANLEIGH"]}}"#.to_owned(),
        r#"{"properties":{"STREET":["17TH"],"ODD_EVEN":["E"]}}"#.to_owned(),
        r#"{"properties":{"MAPBLKLOT":["0011008"],"BLKLOT":["0011008"]}}"#.to_owned(),
        r#"{"properties":{"BLOCK_NUM":["0452"],"ST_TYPE":["AVE"]}}"#.to_owned(),
        r#"{"type":["Feature"],"properties":{"LOT_NUM":["999"]}}"#.to_owned(),
    ];
    compare("5 exact", &exact, &lines);
    let mut deep = exact.to_vec();
    deep[4] =
        String::from(r#"{"geometry":{"type":["MultiPolygon"]},"properties":{"ODD_EVEN":["E"]}}"#);
    compare("5 exact, one behind the coordinates' key", &deep, &lines);
    let mut coordinates = exact.to_vec();
    coordinates[4] = String::from(r#"{"geometry":{"coordinates":[37.807807921694092]}}"#);
    compare("5 exact, one of the coordinates", &coordinates, &lines);
    for count in [10, 1_000, 10_000] {
        compare(&format!("{count} exact"), &lots_of_exact(count), &lines);
    }
    compare("100 overlapping wildcards", &wildcards(100), &lines);
    compare(
        "1000 overlapping wildcards, ours only",
        &wildcards(1_000),
        &lines,
    );
    compare("100 prefixes", &affixes(100, "prefix"), &lines);
    compare("100 anything-but", &anything_but(100), &lines);
    allocations(
        allocator,
        "5 exact, nothing matches",
        &[exact[0].replace("CRANLEIGH", "NONE")],
        &lines,
    );
    allocations(
        allocator,
        "100 wildcards, nothing matches",
        &wildcards_without_match(),
        &lines,
    );
}

fn set_of(patterns: &[String]) -> Set {
    let parsed: Vec<_> = patterns
        .iter()
        .map(|text| Pattern::parse(text, Dialect::EventBridge).expect("a valid pattern"))
        .collect();
    Set::new(&parsed).expect("few enough patterns")
}

fn compare(name: &str, patterns: &[String], lines: &[String]) {
    let set = set_of(patterns);
    let mut scratch = set.scratch();
    let quamina = (!name.contains("ours only")).then(|| quamina_of(patterns));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut our_matches, mut their_matches) = (0, 0);
    // The first round warms up and is not counted.
    for _ in 0..=ROUNDS {
        ours.push(rate(lines, &mut our_matches, |line| {
            set.matches(line, &mut scratch).expect("an event").len()
        }));
        if let Some(quamina) = &quamina {
            theirs.push(rate(lines, &mut their_matches, |line| {
                quamina.matches_for_event(line).expect("an event").len()
            }));
        }
    }
    let ours = median(ours);
    if quamina.is_none() {
        println!(
            "{name:<44} {ours:>12.0} {:>12} {:>7} {our_matches:>9}",
            "-", "-"
        );
        return;
    }
    let theirs = median(theirs);
    println!(
        "{name:<44} {ours:>12.0} {theirs:>12.0} {:>7.2} {our_matches:>9}",
        ours / theirs
    );
    assert_eq!(our_matches, their_matches, "the two disagree");
}

fn quamina_of(patterns: &[String]) -> Quamina<usize> {
    let mut quamina = Quamina::<usize>::new();
    quamina.set_matcher_build_mode(quamina::MatcherBuildMode::BuiltForSpeed);
    for (id, pattern) in patterns.iter().enumerate() {
        quamina.add_pattern(id, pattern).expect("a valid pattern");
    }
    quamina
}

/// Events a second of processor time, over enough passes to measure.
fn rate(lines: &[String], matches: &mut usize, mut match_one: impl FnMut(&[u8]) -> usize) -> f64 {
    let start = processor_seconds();
    let (mut passes, mut used) = (0, 0.0);
    while used < SECONDS {
        *matches = 0;
        for line in lines {
            *matches += black_box(match_one(black_box(line.as_bytes())));
        }
        passes += 1;
        used = processor_seconds() - start;
    }
    (lines.len() * passes) as f64 / used
}

/// What this thread has used, as the kernel counts it: neighbours on the machine do not add to it.
fn processor_seconds() -> f64 {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    let nanoseconds: u64 = text
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    nanoseconds as f64 / 1e9
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn allocations(
    allocator: &'static StatsAlloc<System>,
    name: &str,
    patterns: &[String],
    lines: &[String],
) {
    let set = set_of(patterns);
    let mut scratch = set.scratch();
    let mut matched = 0;
    for line in lines {
        matched += set
            .matches(line.as_bytes(), &mut scratch)
            .expect("an event")
            .len();
    }
    let region = Region::new(allocator);
    for line in lines {
        matched += set
            .matches(line.as_bytes(), &mut scratch)
            .expect("an event")
            .len();
    }
    let change = region.change();
    println!(
        "{name}: {} allocations, {} reallocations in {} events, {matched} matches",
        change.allocations,
        change.reallocations,
        lines.len()
    );
}

fn lots(count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(SEED);
    (0..count).map(|_| lot(&mut random)).collect()
}

const STREETS: [&str; 12] = [
    "UNKNOWN",
    "CRANLEIGH",
    "17TH",
    "MARKET",
    "BEACH",
    "JEFFERSON",
    "NORTH POINT",
    "POLK",
    "LARKIN",
    "HYDE",
    "COLUMBUS",
    "VAN NESS",
];
const TYPES: [&str; 5] = ["null", "\"ST\"", "\"AVE\"", "\"BLVD\"", "\"DR\""];

fn lot(random: &mut fastrand::Rng) -> String {
    let (block, lot) = (random.u32(0..9999), random.u32(0..999));
    let number = random.u32(0..4000);
    let street = STREETS[random.usize(..STREETS.len())];
    let kind = TYPES[random.usize(..TYPES.len())];
    let parity = if number.is_multiple_of(2) { "E" } else { "O" };
    let points: Vec<_> = (0..random.usize(4..8))
        .map(|_| {
            format!(
                "[ -122.{:015}, 37.{:015}, 0.0 ]",
                random.u64(0..1_000_000_000_000_000),
                random.u64(0..1_000_000_000_000_000)
            )
        })
        .collect();
    format!(
        r#"{{ "type": "Feature", "properties": {{ "MAPBLKLOT": "{block:04}{lot:03}", "BLKLOT": "{block:04}{lot:03}", "BLOCK_NUM": "{block:04}", "LOT_NUM": "{lot:03}", "FROM_ST": "{number}", "TO_ST": "{number}", "STREET": "{street}", "ST_TYPE": {kind}, "ODD_EVEN": "{parity}" }}, "geometry": {{ "type": "Polygon", "coordinates": [ [ {} ] ] }} }}"#,
        points.join(", ")
    )
}

/// Patterns over the same three fields, each with values of its own.
fn lots_of_exact(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| match number % 3 {
            0 => format!(r#"{{"properties":{{"MAPBLKLOT":["{number:07}"]}}}}"#),
            1 => format!(r#"{{"properties":{{"STREET":["17TH"],"BLKLOT":["{number:07}"]}}}}"#),
            _ => format!(
                r#"{{"properties":{{"BLOCK_NUM":["{:04}"],"FROM_ST":["{number}"]}}}}"#,
                number % 10_000
            ),
        })
        .collect()
}

/// Wildcards on one field that all can match at once.
fn wildcards(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            format!(
                r#"{{"properties":{{"MAPBLKLOT":[{{"wildcard":"*{}*{}*"}}]}}}}"#,
                number / 10 % 10,
                number % 100
            )
        })
        .collect()
}

fn wildcards_without_match() -> Vec<String> {
    (0..100)
        .map(|number| {
            format!(r#"{{"properties":{{"MAPBLKLOT":[{{"wildcard":"*{number}*x*"}}]}}}}"#)
        })
        .collect()
}

fn affixes(count: usize, operator: &str) -> Vec<String> {
    (0..count)
        .map(|number| {
            format!(r#"{{"properties":{{"MAPBLKLOT":[{{"{operator}":"{number:03}"}}]}}}}"#)
        })
        .collect()
}

fn anything_but(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            format!(
                r#"{{"properties":{{"BLOCK_NUM":["{number:04}"],"STREET":[{{"anything-but":["MARKET","S{number}"]}}]}}}}"#
            )
        })
        .collect()
}
