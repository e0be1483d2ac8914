//! Consumer: stored to acknowledged, beside a hand-written loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep};
use weir_broker::{Clock as _, Publication, QueueSpec, SystemClock, WorkQueue};
use weir_core::message::{Headers, Message};
use weir_core::names::QueueNames;

use crate::nats::Site;
use crate::process::{Process, free_port, listening};
use crate::{Failure, median};

/// Measures both, round by round, and prints the table.
pub async fn compare(site: &Site, messages: u64, rounds: usize) -> Result<(), Failure> {
    let me = std::env::current_exe()?;
    let handler_port = free_port()?;
    let _handler = Process::start(&me, &["handler", &handler_port.to_string()])?;
    listening(handler_port).await?;
    let (mut raw, mut ours) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..rounds {
        let (spec, _) = site
            .object(&format!("raw-{round}"), false, Some(handler_port), 64)
            .await?;
        fill(&site.queue(&spec), messages).await?;
        let stream = QueueNames::of(&spec.object).queue_stream();
        let url = format!("http://127.0.0.1:{handler_port}/");
        let process = Process::start(&me, &["raw-consumer", &site.url, &stream, "workers", &url])?;
        let (rate, cpu) = drain(site, &spec, &process, messages).await?;
        raw.0.push(rate);
        raw.1.push(cpu);
        drop(process);

        let (spec, config) = site
            .object(&format!("ours-{round}"), false, Some(handler_port), 64)
            .await?;
        fill(&site.queue(&spec), messages).await?;
        let (process, _) = site.start_sidecar(&config).await?;
        let (rate, cpu) = drain(site, &spec, &process, messages).await?;
        ours.0.push(rate);
        ours.1.push(cpu);
    }
    let base = median(raw.0.clone());
    println!("consumer                  msg/s   ratio   CPU us/msg");
    for (name, (rates, cpu)) in [("raw pull + hyper + ack", raw), ("weir consumer", ours)] {
        let rate = median(rates);
        println!(
            "{name:24} {rate:7.0}   {:5.2}   {:10.1}",
            rate / base,
            median(cpu)
        );
    }
    memory(site, messages, handler_port).await
}

/// Resident memory with 256 calls in flight.
async fn memory(site: &Site, messages: u64, handler_port: u16) -> Result<(), Failure> {
    let (spec, config) = site
        .object("loaded", false, Some(handler_port), 256)
        .await?;
    fill(&site.queue(&spec), messages).await?;
    let (process, _) = site.start_sidecar(&config).await?;
    let (queue, mut most) = (site.queue(&spec), 0_f64);
    let deadline = Instant::now() + Duration::from_mins(2);
    while pending(&queue).await? > 0 && Instant::now() < deadline {
        most = most.max(process.resident_mib());
        sleep(Duration::from_millis(50)).await;
    }
    println!("memory: at most {most:.1} MiB with 256 in flight");
    Ok(())
}

async fn fill(queue: &Arc<dyn WorkQueue>, messages: u64) -> Result<(), Failure> {
    let body = Bytes::from(vec![b'x'; 1024]);
    futures::stream::iter(0..messages)
        .map(|n| {
            let message = Message {
                id: format!("bench-{n}"),
                accepted_at: SystemClock.now(),
                headers: Headers::new(),
                body: body.clone(),
                group: None,
            };
            queue.publish(Publication {
                message,
                dedup: None,
                delay: Duration::ZERO,
            })
        })
        .buffer_unordered(256)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

async fn pending(queue: &Arc<dyn WorkQueue>) -> Result<u64, Failure> {
    let depth = queue.depth().await?;
    Ok(depth.ready + depth.in_flight + depth.delayed)
}

/// Rate and CPU microseconds a message, from the tenth of the way to nine tenths.
async fn drain(
    site: &Site,
    spec: &QueueSpec,
    process: &Process,
    messages: u64,
) -> Result<(f64, f64), Failure> {
    let queue = site.queue(spec);
    let mut first: Option<(Instant, f64, u64)> = None;
    let deadline = Instant::now() + Duration::from_mins(3);
    loop {
        let left = pending(&queue).await?;
        let now = (Instant::now(), process.cpu_micros(), left);
        match first {
            None if left < messages - messages / 10 => first = Some(now),
            Some((began, cpu, from)) if left < messages / 10 => {
                let done = (from - left) as f64;
                return Ok((done / (now.0 - began).as_secs_f64(), (now.1 - cpu) / done));
            }
            _ if Instant::now() > deadline => {
                return Err(format!("{left} messages left after 180 s").into());
            }
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}
