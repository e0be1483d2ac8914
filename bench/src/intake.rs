//! Intake: POST to stored, beside a hand-written hyper server.

use std::time::Duration;

use crate::load::{Seen, post};
use crate::process::{Process, free_port, listening};
use crate::site::{Site, Wanted};
use crate::{Failure, median};

struct Row {
    name: &'static str,
    rates: Vec<f64>,
    cpu: Vec<f64>,
    p50_at_64: Vec<f64>,
    p99_at_64: Vec<f64>,
    p50_alone: Vec<f64>,
}

/// Measures all three, round by round, and prints the table.
pub async fn compare(site: &Site, seconds: u64, rounds: usize) -> Result<(), Failure> {
    let time = Duration::from_secs(seconds);
    let wanted = |dedup| Wanted {
        dedup,
        slots: 64,
        ..Wanted::default()
    };
    let (raw_spec, _) = site.object("raw-intake", wanted(false)).await?;
    let subject = weir_core::names::QueueNames::of(&raw_spec.object).role("main");
    let port = free_port()?;
    let me = std::env::current_exe()?;
    let raw = Process::start(
        &me,
        &["raw-intake", &port.to_string(), &site.address, &subject],
    )?;
    listening(port).await?;
    let (_, plain_config) = site.object("plain", wanted(false)).await?;
    let (_, dedup_config) = site.object("dedup", wanted(true)).await?;
    let (plain, plain_port) = site.start_sidecar(&plain_config).await?;
    let (dedup, dedup_port) = site.start_sidecar(&dedup_config).await?;
    let idle = plain.resident_mib();

    let row = |name| Row {
        name,
        rates: Vec::new(),
        cpu: Vec::new(),
        p50_at_64: Vec::new(),
        p99_at_64: Vec::new(),
        p50_alone: Vec::new(),
    };
    let mut rows = [
        row("raw hyper + async-nats"),
        row("weir intake"),
        row("weir intake, dedup"),
    ];
    let programs = [
        (&raw, port, "/", false),
        (&plain, plain_port, "/webhooks/plain", false),
        (&dedup, dedup_port, "/webhooks/dedup", true),
    ];
    for _ in 0..rounds {
        for (row, (process, port, path, ids)) in rows.iter_mut().zip(programs) {
            let before = process.cpu_micros();
            let seen = post(port, path, 64, time, ids).await?;
            row.cpu
                .push((process.cpu_micros() - before) / seen.accepted.max(1) as f64);
            complain(row.name, &seen);
            row.rates.push(seen.rate);
            row.p50_at_64.push(seen.quantile(0.5));
            row.p99_at_64.push(seen.quantile(0.99));
            let alone = post(port, path, 1, time / 4, ids).await?;
            row.p50_alone.push(alone.quantile(0.5));
        }
    }
    println!(
        "intake                    msg/s   ratio   CPU us/msg   p50 ms   p99 ms   p50 ms at one"
    );
    let base = median(rows[0].rates.clone());
    for row in rows {
        let rate = median(row.rates);
        println!(
            "{:24} {rate:7.0}   {:5.2}   {:10.1}   {:6.2}   {:6.2}   {:13.2}",
            row.name,
            rate / base,
            median(row.cpu),
            median(row.p50_at_64),
            median(row.p99_at_64),
            median(row.p50_alone)
        );
    }
    println!(
        "memory: idle {idle:.1} MiB, after the load {:.1} MiB\n",
        plain.resident_mib()
    );
    Ok(())
}

fn complain(name: &str, seen: &Seen) {
    if seen.other > 0 {
        println!("! {name}: {} requests were not answered 202", seen.other);
    }
}
