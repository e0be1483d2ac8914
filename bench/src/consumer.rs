//! Consumers: stored to handled, beside a hand-written program.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use tokio::time::{Instant, sleep};
use weir_broker::{Clock as _, Publication, QueueSpec, SystemClock, WorkQueue};
use weir_core::message::{Headers, Message};
use weir_core::names::QueueNames;

use crate::handler::Handler;
use crate::process::Process;
use crate::site::{Site, Wanted};
use crate::{Failure, median};

/// The hand-written program that ours stands beside.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Pull, call, acknowledge on NATS.
    Pulled,
    /// Consume, call, acknowledge on RabbitMQ.
    Pushed,
    /// Queues in memory by key over one consumer in order, on NATS.
    Keyed,
}

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub struct Contest {
    /// What is compared with.
    pub peer: Peer,
    /// Calls at once.
    pub slots: u32,
    /// The longest call.
    pub work: Duration,
    /// Messages of one measurement.
    pub messages: u64,
    /// Measurements of each; the median counts.
    pub rounds: usize,
}

/// Groups among which the messages of a queue in order are spread in turn.
const GROUPS: u64 = 1000;

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Pulled => "raw pull + hyper + ack",
            Self::Pushed => "raw lapin + hyper + ack",
            Self::Keyed => "raw keyed, no ack + hyper",
        }
    }

    /// Arguments of this program that start it.
    fn arguments(
        self,
        site: &Site,
        spec: &QueueSpec,
        handler: &Handler,
        slots: u32,
    ) -> Vec<String> {
        let (names, url) = (QueueNames::of(&spec.object), handler.url());
        let mut words = match self {
            Self::Pulled => vec!["raw-pulled".to_owned(), site.address.clone()],
            Self::Pushed => vec!["raw-pushed".to_owned(), site.address.clone()],
            Self::Keyed => vec!["raw-keyed".to_owned(), site.address.clone()],
        };
        match self {
            Self::Pulled => words.extend([names.queue_stream(), "workers".to_owned()]),
            Self::Pushed => words.push(names.role("queue")),
            Self::Keyed => words.extend([plain_stream(spec), format!("{}.>", plain_stream(spec))]),
        }
        words.extend([url, slots.to_string()]);
        words
    }
}

/// Measures both, round by round, and prints the table.
pub async fn compare(site: &Site, contest: Contest) -> Result<(), Failure> {
    let Contest {
        peer,
        slots,
        work,
        messages,
        rounds,
    } = contest;
    let me = std::env::current_exe()?;
    let handler = Handler::start(work).await?;
    let fifo = matches!(peer, Peer::Keyed);
    let wanted = Wanted {
        handler: Some(handler.port),
        slots,
        fifo,
        dedup: false,
    };
    let (mut raw, mut ours) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..rounds {
        let name = format!("raw-{slots}-{}-{round}", work.as_millis());
        let (spec, _) = site.object(&name, wanted).await?;
        if fifo {
            fill_plain(site, &plain_stream(&spec), messages).await?;
        } else {
            fill(&site.queue(&spec), messages, false).await?;
        }
        let words = peer.arguments(site, &spec, &handler, slots);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (rate, cpu) =
            measure(&handler, messages, async { Process::start(&me, &words) }).await?;
        raw.0.push(rate);
        raw.1.push(cpu);

        let name = format!("ours-{slots}-{}-{round}", work.as_millis());
        let (spec, config) = site.object(&name, wanted).await?;
        fill(&site.queue(&spec), messages, fifo).await?;
        let started = async { Ok(site.start_sidecar(&config).await?.0) };
        let (rate, cpu) = measure(&handler, messages, started).await?;
        ours.0.push(rate);
        ours.1.push(cpu);
    }
    let base = median(raw.0.clone());
    let title = if fifo { "in order" } else { "consumer" };
    let title = format!("{title}, {slots} at once, 0-{} ms", work.as_millis());
    println!("{title:30} msg/s   ratio   CPU us/msg");
    for (name, (rates, cpu)) in [(peer.name(), raw), ("weir consumer", ours)] {
        let (rate, cpu) = (median(rates), median(cpu));
        println!("{name:28} {rate:7.0}   {:5.2}   {cpu:10.1}", rate / base);
    }
    println!();
    Ok(())
}

/// Resident memory with 256 calls in flight.
pub async fn memory(site: &Site, messages: u64) -> Result<(), Failure> {
    let handler = Handler::start(Duration::ZERO).await?;
    let wanted = Wanted {
        handler: Some(handler.port),
        slots: 256,
        ..Wanted::default()
    };
    let (spec, config) = site.object("loaded", wanted).await?;
    fill(&site.queue(&spec), messages, false).await?;
    let (process, _) = site.start_sidecar(&config).await?;
    let mut most = 0_f64;
    let deadline = Instant::now() + Duration::from_mins(2);
    while handler.calls().await? < messages && Instant::now() < deadline {
        most = most.max(process.resident_mib());
        sleep(Duration::from_millis(50)).await;
    }
    println!("memory: at most {most:.1} MiB with 256 in flight\n");
    Ok(())
}

async fn fill(queue: &Arc<dyn WorkQueue>, messages: u64, fifo: bool) -> Result<(), Failure> {
    let body = Bytes::from(vec![b'x'; 1024]);
    futures::stream::iter(0..messages)
        .map(|n| {
            let message = Message {
                id: format!("bench-{n}"),
                accepted_at: SystemClock.now(),
                headers: Headers::new(),
                body: body.clone(),
                group: fifo.then(|| format!("g{}", n % GROUPS)),
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

/// The stream of the program in order: nobody may read a queue's own stream without acknowledging.
fn plain_stream(spec: &QueueSpec) -> String {
    format!("plain-{}", spec.object.name)
}

/// The same messages in a stream of their own.
async fn fill_plain(site: &Site, stream: &str, messages: u64) -> Result<(), Failure> {
    let js = jetstream::new(async_nats::connect(&site.address).await?);
    js.create_stream(jetstream::stream::Config {
        name: stream.to_owned(),
        subjects: vec![format!("{stream}.>")],
        ..Default::default()
    })
    .await?;
    let body = Bytes::from(vec![b'x'; 1024]);
    futures::stream::iter(0..messages)
        .map(|n| {
            let (js, body, subject) = (&js, body.clone(), format!("{stream}.g{}", n % GROUPS));
            async move {
                js.publish(subject, body).await?.await?;
                Ok::<_, Failure>(())
            }
        })
        .buffered(256)
        .try_for_each(|()| async { Ok(()) })
        .await
}

/// Rate and CPU microseconds a message of a program, from the tenth of the way to nine tenths, as the handler counts
/// its calls.
async fn measure(
    handler: &Handler,
    messages: u64,
    starting: impl Future<Output = Result<Process, Failure>>,
) -> Result<(f64, f64), Failure> {
    let before = handler.calls().await?;
    let process = starting.await?;
    let mut first: Option<(Instant, f64, u64)> = None;
    let deadline = Instant::now() + Duration::from_mins(3);
    loop {
        let done = handler.calls().await?.saturating_sub(before);
        let now = (Instant::now(), process.cpu_micros(), done);
        match first {
            None if done > messages / 10 => first = Some(now),
            Some((began, cpu, from)) if done > messages - messages / 10 => {
                let done = (done - from) as f64;
                return Ok((done / (now.0 - began).as_secs_f64(), (now.1 - cpu) / done));
            }
            _ if Instant::now() > deadline => {
                return Err(format!("{done} of {messages} messages handled after 180 s").into());
            }
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}
