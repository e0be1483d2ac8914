//! What a guarantee is tried on: one transport, one queue of its own, and helpers with deadlines.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use weir_broker::{
    BrokerError, Clock as _, Consumer, Delivery, Depth, Publication, Published, QueueSpec,
    SystemClock, Transport, WorkQueue,
};
use weir_core::config::QueueConfig;
use weir_core::dead_letter::{Failure, Reason};
use weir_core::message::{Headers, Message};
use weir_core::object::{Kind, ObjectKey};

use crate::subject::Subject;

/// How long something may take that must happen.
pub const SOON: Duration = Duration::from_secs(15);
/// The longest lease of any test whose queue is to be empty.
pub const LONGEST_LEASE: Duration = Duration::from_mins(1);
/// How long is watched for something that must not happen.
pub const WHILE: Duration = Duration::from_millis(700);

/// One test's share of a subject.
pub struct Ground {
    /// The transport under test.
    pub subject: Arc<dyn Subject>,
    /// The queue's own specification; tests change the configuration before they apply it.
    pub spec: QueueSpec,
}

impl Ground {
    /// A queue of a name that no other test uses.
    pub fn new(subject: Arc<dyn Subject>, test: &str) -> Self {
        let name: String = test.replace('_', "-").chars().take(28).collect();
        let name = format!("{}-{:08x}", name.trim_end_matches('-'), fastrand::u32(..));
        let spec = QueueSpec {
            object: ObjectKey::new(Kind::QueueConsumer, "conformance", name),
            uid: format!("uid-{:016x}", fastrand::u64(..)),
            config: QueueConfig {
                limit: 10,
                batch_max: 1,
                lease_seconds: 30,
                replicas: subject.replicas(),
                capacity: 100_000,
                dead_letter_retention_seconds: 1_209_600,
                fifo: None,
            },
        };
        Self { subject, spec }
    }

    /// A client as another process would be one.
    pub async fn connect(&self) -> Arc<dyn Transport> {
        self.subject.connect().await
    }

    /// Makes the topology, on a client of its own.
    pub async fn apply(&self) -> Arc<dyn Transport> {
        let transport = self.connect().await;
        // Many are made at once, and a broker may make them one after the other.
        persist_for(4 * SOON, || transport.apply_queue(&self.spec)).await;
        transport
    }

    /// Makes the topology and opens the queue.
    pub async fn queue(&self) -> Arc<dyn WorkQueue> {
        self.apply().await.queue(&self.spec)
    }

    /// Opens the queue as another process would.
    pub async fn another(&self) -> Arc<dyn WorkQueue> {
        self.connect().await.queue(&self.spec)
    }

    /// Changes the limit.
    pub async fn set_limit(&mut self, limit: u32) {
        self.spec.config.limit = limit;
        self.apply().await;
    }

    /// Kills the server and starts it again.
    pub fn kill_and_restart(&self) {
        self.subject.take_down();
        self.subject.bring_up();
    }
}

/// A message.
pub fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        accepted_at: SystemClock.now(),
        headers: Headers::new(),
        body: Bytes::from(format!("body of {id}")),
        group: None,
    }
}

/// A publication without identity and delay.
pub fn plain(id: &str) -> Publication {
    Publication {
        message: message(id),
        dedup: None,
        delay: Duration::ZERO,
    }
}

/// A publication with an identity.
pub fn unique(id: &str, identity: &str, window: Duration) -> Publication {
    Publication {
        dedup: Some((identity.to_owned(), window)),
        ..plain(id)
    }
}

/// A failure as `weir-core` would decide it.
pub fn failure(attempts: u32) -> Failure {
    Failure {
        reason: Reason::MaxAttempts,
        attempts,
        failed_at: Timestamp::from_millisecond(SystemClock.now().as_millisecond()).unwrap(),
        last_status: Some(500),
        message: "handler answered 500".to_owned(),
        answer: "no".to_owned(),
    }
}

/// Publishes messages of these ids, in order.
pub async fn publish(queue: &Arc<dyn WorkQueue>, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        let published = queue.publish(plain(&id)).await.unwrap();
        assert_eq!(
            published,
            Published {
                id,
                duplicate: false
            }
        );
    }
}

/// Ids `m0` to `m<count - 1>`.
pub fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("m{number}")).collect()
}

/// A consumer that wants `wanted` deliveries.
pub async fn consumer(queue: &Arc<dyn WorkQueue>, wanted: usize) -> Box<dyn Consumer> {
    let mut consumer = queue.consume().await.unwrap();
    consumer.want(wanted);
    consumer
}

/// The next delivery, which must come.
pub async fn next(consumer: &mut Box<dyn Consumer>) -> Delivery {
    let came = timeout(SOON, consumer.next()).await;
    match came.unwrap_or_else(|_| panic!("no delivery came")) {
        Ok(Some(delivery)) => delivery,
        Ok(None) => panic!("the consumer ended"),
        Err(error) => panic!("the consumer reports {error}"),
    }
}

/// The next deliveries, which must come.
pub async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(next(consumer).await);
    }
    taken
}

/// Watches for a delivery, which must not come.
pub async fn none_for(consumer: &mut Box<dyn Consumer>, span: Duration) {
    if let Ok(came) = timeout(span, consumer.next()).await {
        panic!("nothing must come, this came: {came:?}");
    }
}

/// Everything that comes until nothing more comes for a while.
pub async fn drain(consumer: &mut Box<dyn Consumer>) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while let Ok(delivery) = timeout(WHILE, consumer.next()).await {
        taken.extend(delivery.unwrap());
    }
    taken
}

/// Repeats an operation while it fails for reasons that pass.
pub async fn persist<T, F: Future<Output = Result<T, BrokerError>>>(
    operation: impl FnMut() -> F,
) -> T {
    // A killed server may take its time to start again.
    persist_for(3 * SOON, operation).await
}

/// The same, for so long.
async fn persist_for<T, F: Future<Output = Result<T, BrokerError>>>(
    patience: Duration,
    mut operation: impl FnMut() -> F,
) -> T {
    let until = Instant::now() + patience;
    loop {
        match operation().await {
            Ok(done) => return done,
            Err(error) if error.is_transient() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until the depth is as described.
pub async fn depth_becomes(queue: &Arc<dyn WorkQueue>, is: impl Fn(&Depth) -> bool) -> Depth {
    depth_becomes_within(SOON, queue, is).await
}

async fn depth_becomes_within(
    patience: Duration,
    queue: &Arc<dyn WorkQueue>,
    is: impl Fn(&Depth) -> bool,
) -> Depth {
    let until = Instant::now() + patience;
    loop {
        let depth = persist(|| queue.depth()).await;
        if is(&depth) {
            return depth;
        }
        assert!(Instant::now() < until, "the depth stays {depth:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the queue holds nothing but dead letters.
pub async fn becomes_empty(queue: &Arc<dyn WorkQueue>) {
    // A killed server may have forgotten that the last message was acknowledged: it counts as in flight until its lease
    // is over.
    depth_becomes_within(LONGEST_LEASE + SOON, queue, |depth| {
        depth.ready + depth.in_flight + depth.delayed == 0
    })
    .await;
}
