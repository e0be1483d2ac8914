//! Dead letters as a lifecycle: redrive, purge, export and import. Guarantees 11 and 12.

pub mod many;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use weir_broker::redrive::{Pauses, RealPauses, RecordError, Runner, begin, cancel, read};
use weir_broker::{Clock, Publication, RecordName, StoredDeadLetter, SystemClock, WorkQueue};
use weir_core::dead_letter::{Failure, Reason};
use weir_core::object::ObjectKey;
use weir_core::redrive::{Counts, Redrive, State};

use crate::fragile::{Fragile, Kill};
use crate::ground::{
    Ground, becomes_empty, consumer, failure, ids, message, next, persist, publish, take, unique,
};

/// Time as one process sees it: later by some minutes than it is, and waiting takes none unless it is real.
struct Process {
    ahead: SignedDuration,
    slept: Mutex<Duration>,
    real: Option<RealPauses>,
}

impl Process {
    fn ahead(minutes: i64) -> Arc<Self> {
        Arc::new(Self {
            ahead: SignedDuration::from_mins(minutes),
            slept: Mutex::new(Duration::ZERO),
            real: None,
        })
    }
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.ahead
    }
}

#[async_trait]
impl Pauses for Process {
    fn elapsed(&self) -> Duration {
        let slept = || *self.slept.lock().unwrap();
        self.real.as_ref().map_or_else(slept, Pauses::elapsed)
    }

    async fn sleep(&self, span: Duration) {
        if let Some(real) = &self.real {
            return real.sleep(span).await;
        }
        *self.slept.lock().unwrap() += span;
        // Others run, too.
        tokio::task::yield_now().await;
    }
}

/// A process that runs redrives of a queue.
fn runner(queue: &Arc<dyn WorkQueue>, owner: &str, process: &Arc<Process>) -> Runner {
    Runner {
        queue: Arc::clone(queue),
        target: Arc::clone(queue),
        clock: Arc::<Process>::clone(process),
        pauses: Arc::<Process>::clone(process),
        owner: owner.to_owned(),
        stop: CancellationToken::new(),
    }
}

fn wanted(ground: &Ground, id: &str, owner: &str) -> Redrive {
    Redrive {
        id: id.to_owned(),
        object: ground.spec.object.clone(),
        to: None,
        by: None,
        filter: weir_core::redrive::Filter::default(),
        ids: Vec::new(),
        rate: None,
        state: State::Running,
        counts: Counts::default(),
        total: 0,
        until: 0,
        done: 0,
        in_hand: Vec::new(),
        message: String::new(),
        started_at: SystemClock.now(),
        updated_at: SystemClock.now(),
        finished_at: None,
        owner: owner.to_owned(),
    }
}

/// Makes dead letters of these ids, in order.
async fn die(queue: &Arc<dyn WorkQueue>, ids: &[String]) {
    publish(queue, ids.iter().cloned()).await;
    bury(queue, ids.len()).await;
}

/// Dead-letters the next messages.
async fn bury(queue: &Arc<dyn WorkQueue>, count: usize) {
    let mut consumer = consumer(queue, 1).await;
    for number in 0..count {
        let delivery = next(&mut consumer).await;
        delivery.lease.dead_letter(&failure(3)).await.unwrap();
        consumer.want(usize::from(number + 1 < count));
    }
}

async fn letters(queue: &Arc<dyn WorkQueue>) -> Vec<StoredDeadLetter> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = persist(|| queue.dead_letters(after, 50)).await;
        found.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return found,
        }
    }
}

/// Ids of all messages that wait, with no attempts, in order; they are handled.
async fn handle(queue: &Arc<dyn WorkQueue>, count: usize) -> Vec<String> {
    let mut consumer = consumer(queue, 1).await;
    let mut handled = Vec::new();
    for number in 0..count {
        let delivery = next(&mut consumer).await;
        assert_eq!((delivery.attempts, delivery.redelivered), (0, false));
        delivery.lease.ack().await.unwrap();
        consumer.want(usize::from(number + 1 < count));
        handled.push(delivery.message.id);
    }
    becomes_empty(queue).await;
    handled
}

/// Guarantee 11.
pub async fn records_change_one_at_a_time(ground: Ground) {
    let queue = ground.queue().await;
    let name = RecordName::Redrives;
    let kept = Duration::from_hours(1);
    let put = |expected, body: &'static str| {
        let queue = Arc::clone(&queue);
        async move {
            let body = Bytes::from_static(body.as_bytes());
            queue.put_record(name, expected, body, kept).await.unwrap()
        }
    };
    assert_eq!(queue.record(name).await.unwrap(), None);
    assert_eq!(put(7, "early").await, None);
    let first = put(0, "first").await.unwrap();
    assert_eq!(put(0, "second").await, None);
    let second = put(first, "second").await.unwrap();
    assert!(second > first);
    let together =
        (0..8).map(|number| put(second, ["a", "b", "c", "d", "e", "f", "g", "h"][number]));
    let won = futures::future::join_all(together).await;
    let winners: Vec<usize> = (0..8).filter(|number| won[*number].is_some()).collect();
    assert_eq!(winners.len(), 1, "{won:?}");
    let record = ground.another().await.record(name).await.unwrap().unwrap();
    assert_eq!(Some(record.version), won[winners[0]]);
    assert_eq!(record.body[0], b'a' + winners[0] as u8);
    // Neither a message nor a dead letter.
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.delayed, depth.dead), (0, 0, 0));
}

/// Each change that a redrive makes, lost before it is made and after it: whoever goes on finishes it.
pub async fn a_redrive_killed_at_any_point_loses_and_doubles_nothing(ground: Ground) {
    const LETTERS: usize = 3;
    let queue = ground.queue().await;
    let mut point = 0;
    loop {
        let mut survived = true;
        for kill in [Kill::Before(point), Kill::After(point)] {
            let ids: Vec<String> = (0..LETTERS).map(|n| format!("{kill:?}-{n}")).collect();
            let ids: Vec<String> = ids.iter().map(|id| id.replace(['(', ')'], "-")).collect();
            die(&queue, &ids).await;
            begin(&*queue, wanted(&ground, &ids[0], "first"))
                .await
                .unwrap();
            let fragile = Fragile::new(Arc::clone(&queue), kill);
            let shared: Arc<dyn WorkQueue> = Arc::<Fragile>::clone(&fragile);
            let first = runner(&shared, "first", &Process::ahead(0));
            let ended = tokio::select! {
                ended = first.run() => Some(ended.unwrap().unwrap()),
                () = fragile.killed() => None,
            };
            let second = runner(&queue, "second", &Process::ahead(5));
            second.run().await.unwrap();
            survived &= ended.is_some();
            let done = read(&*queue).await.unwrap().redrives.swap_remove(0);
            assert_eq!(done.state, State::Completed, "{kill:?}: {done:?}");
            assert_eq!(done.counts.moved, LETTERS as u64, "{kill:?}: {done:?}");
            assert_eq!(handle(&queue, LETTERS).await, ids, "{kill:?}");
            assert!(letters(&queue).await.is_empty(), "{kill:?}");
        }
        if survived {
            break;
        }
        point += 1;
    }
    // One record and three letters, twice each, then the last record: no point was left out.
    assert!(point >= 2 + 2 * LETTERS, "{point}");
}

/// A redrive is no repeat of the sender, whose identity is still remembered.
pub async fn ids_stay_and_the_window_of_the_intake_is_bypassed(ground: Ground) {
    let queue = ground.queue().await;
    let window = Duration::from_mins(10);
    let mut sent = unique("a", "identity", window);
    sent.message.headers.append("ce-type", "paid");
    sent.message.headers.append("traceparent", "00-1-2-03");
    sent.message.body = Bytes::from_static(b"\xff\x00 bytes");
    queue.publish(sent.clone()).await.unwrap();
    bury(&queue, 1).await;
    begin(&*queue, wanted(&ground, "r", "p")).await.unwrap();
    let before = SystemClock.now();
    let done = runner(&queue, "p", &Process::ahead(0)).run().await.unwrap();
    assert_eq!(done.unwrap().counts.moved, 1);
    let mut consumer = consumer(&queue, 1).await;
    let delivery = next(&mut consumer).await;
    let mut wanted = sent.message.clone();
    assert!(delivery.message.accepted_at >= before - SignedDuration::from_millis(1));
    wanted.accepted_at = delivery.message.accepted_at;
    assert_eq!(delivery.message, wanted);
    assert_eq!(delivery.attempts, 0);
    // The sender's own repeat is still one.
    assert!(
        queue
            .publish(unique("b", "identity", window))
            .await
            .unwrap()
            .duplicate
    );
}

/// What dies while the redrive runs is beyond its end.
pub async fn a_letter_that_dies_again_is_not_redriven_again(ground: Ground) {
    let queue = ground.queue().await;
    let ids = ids(20);
    die(&queue, &ids).await;
    begin(&*queue, wanted(&ground, "r", "p")).await.unwrap();
    let running = runner(&queue, "p", &Process::ahead(0));
    let (done, ()) = tokio::join!(running.run(), bury(&queue, 20));
    let done = done.unwrap().unwrap();
    assert_eq!((done.state, done.counts.moved), (State::Completed, 20));
    becomes_empty(&queue).await;
    let found = letters(&queue).await;
    let dead: Vec<&str> = found.iter().map(|l| l.letter.message.id.as_str()).collect();
    assert_eq!(dead, ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(found.iter().all(|letter| letter.position > done.until));
}

/// By filter and by id, in order of position.
pub async fn only_what_is_asked_for_is_moved(ground: Ground) {
    let queue = ground.queue().await;
    let all = ids(40);
    publish(&queue, all.iter().cloned()).await;
    let mut source = consumer(&queue, 1).await;
    for number in 0..40 {
        let delivery = next(&mut source).await;
        let failure = Failure {
            last_status: Some(if number % 2 == 0 { 500 } else { 422 }),
            reason: if number % 4 == 0 {
                Reason::MaxAttempts
            } else {
                Reason::PermanentStatus
            },
            ..failure(1)
        };
        delivery.lease.dead_letter(&failure).await.unwrap();
        source.want(usize::from(number < 39));
    }
    let mut by_filter = wanted(&ground, "filter", "p");
    by_filter.filter = "status=5xx,reason=MaxAttempts".parse().unwrap();
    begin(&*queue, by_filter).await.unwrap();
    let done = runner(&queue, "p", &Process::ahead(0)).run().await.unwrap();
    let counts = done.unwrap().counts;
    assert_eq!((counts.moved, counts.passed), (10, 30));
    let moved: Vec<String> = all.iter().step_by(4).cloned().collect();
    assert_eq!(handle(&queue, 10).await, moved);

    let mut by_id = wanted(&ground, "ids", "p");
    by_id.ids = ["m39", "gone", "m1", "m2", "m39"]
        .map(str::to_owned)
        .to_vec();
    begin(&*queue, by_id).await.unwrap();
    let done = runner(&queue, "p", &Process::ahead(0)).run().await.unwrap();
    assert_eq!(done.unwrap().counts.moved, 3);
    assert_eq!(handle(&queue, 3).await, ["m1", "m2", "m39"]);
    assert_eq!(letters(&queue).await.len(), 27);
}

/// Measured by a clock of which only the waiting of the redrive is time.
pub async fn the_rate_is_honoured(ground: Ground) {
    let queue = ground.queue().await;
    die(&queue, &ids(31)).await;
    let mut slow = wanted(&ground, "r", "p");
    slow.rate = Some(5);
    begin(&*queue, slow).await.unwrap();
    let process = Process::ahead(0);
    let done = runner(&queue, "p", &process).run().await.unwrap();
    assert_eq!(done.unwrap().counts.moved, 31);
    let slept = *process.slept.lock().unwrap();
    assert_eq!(slept.as_millis(), 30 * 200, "30 gaps between 31 messages");
}

/// A letter is either still there or published, never both.
pub async fn a_cancelled_redrive_finishes_what_is_in_hand(ground: Ground) {
    let queue = ground.queue().await;
    let ids = ids(60);
    die(&queue, &ids).await;
    begin(&*queue, wanted(&ground, "r", "p")).await.unwrap();
    let fragile = Fragile::new(Arc::clone(&queue), Kill::After(5));
    let shared: Arc<dyn WorkQueue> = Arc::<Fragile>::clone(&fragile);
    let killed = runner(&shared, "p", &Process::ahead(0));
    tokio::select! {
        ended = killed.run() => panic!("{ended:?}"),
        () = fragile.killed() => {}
    }
    assert_eq!(cancel(&*queue, "r").await.unwrap().state, State::Cancelling);
    let next = runner(&queue, "q", &Process::ahead(5));
    let done = next.run().await.unwrap().unwrap();
    assert_eq!(done.state, State::Cancelled);
    let moved = done.counts.moved as usize;
    assert!((1..60).contains(&moved), "{moved}");
    assert_eq!(handle(&queue, moved).await, ids[..moved]);
    assert_eq!(letters(&queue).await.len(), 60 - moved);
    assert_eq!(cancel(&*queue, "r").await.unwrap().state, State::Cancelled);
    let error = cancel(&*queue, "none").await.unwrap_err();
    assert!(matches!(error, RecordError::NotFound { .. }), "{error}");

    // While it runs, too: the process that runs it sees it at its next record.
    begin(&*queue, wanted(&ground, "s", "p")).await.unwrap();
    let running = runner(&queue, "p", &Process::ahead(0));
    let (ended, told) = tokio::join!(running.run(), cancel(&*queue, "s"));
    let (ended, told) = (ended.unwrap().unwrap(), told.unwrap());
    assert!(
        told.state == State::Cancelling && ended.state == State::Cancelled
            || ended.state == State::Completed
    );
    let rest = 60 - moved - ended.counts.moved as usize;
    assert_eq!(letters(&queue).await.len(), rest);
    assert_eq!(
        handle(&queue, ended.counts.moved as usize).await.len(),
        60 - moved - rest
    );
}

/// The record stays with the dead letters, the messages go elsewhere.
pub async fn letters_go_to_another_queue(ground: Ground) {
    let transport = ground.apply().await;
    let mut spec = ground.spec.clone();
    spec.object = ObjectKey::new(
        spec.object.kind,
        "conformance",
        format!("{}-2", spec.object.name),
    );
    spec.uid = format!("{}-2", spec.uid);
    persist(|| transport.apply_queue(&spec)).await;
    let (from, to) = (transport.queue(&ground.spec), transport.queue(&spec));
    let ids = ids(5);
    die(&from, &ids).await;
    let mut moving = wanted(&ground, "r", "p");
    moving.to = Some(spec.object.clone());
    begin(&*from, moving).await.unwrap();
    let process = Process::ahead(0);
    let runner = Runner {
        target: Arc::clone(&to),
        ..runner(&from, "p", &process)
    };
    let done = runner.run().await.unwrap().unwrap();
    assert_eq!((done.state, done.counts.moved), (State::Completed, 5));
    assert_eq!(handle(&to, 5).await, ids);
    becomes_empty(&from).await;
    assert!(letters(&from).await.is_empty());
    assert!(read(&*to).await.unwrap().latest().is_none());

    // A target that is gone is no reason to lose a letter.
    die(&from, &ids).await;
    spec.object.name.push_str("-none");
    begin(&*from, wanted(&ground, "s", "p")).await.unwrap();
    let runner = Runner {
        target: transport.queue(&spec),
        ..runner
    };
    let done = runner.run().await.unwrap().unwrap();
    assert_eq!((done.state, done.counts.moved), (State::Failed, 0));
    assert!(done.message.contains("does not exist"), "{}", done.message);
    assert_eq!(letters(&from).await.len(), 5);
}

/// As many processes may try as like.
pub async fn one_redrive_at_a_time_and_one_process_each(ground: Ground) {
    let queue = ground.queue().await;
    let all = ids(40);
    die(&queue, &all).await;
    begin(&*queue, wanted(&ground, "r", "p")).await.unwrap();
    let error = begin(&*queue, wanted(&ground, "s", "p")).await.unwrap_err();
    assert!(error.to_string().contains('r'), "{error}");
    // Nobody takes it from a process that lives.
    let other = runner(&queue, "q", &Process::ahead(0));
    assert!(other.run().await.unwrap().is_none());
    // Three take each other for dead: it is done all the same, once.
    let runners: Vec<Runner> = (0..3_i64)
        .map(|number| {
            runner(
                &queue,
                &format!("q{number}"),
                &Process::ahead(5 + number * 5),
            )
        })
        .collect();
    let ended = futures::future::join_all(runners.iter().map(Runner::run)).await;
    assert!(
        ended
            .iter()
            .any(|done| matches!(done, Ok(Some(done)) if done.state == State::Completed))
    );
    assert_eq!(handle(&queue, 40).await, all);
    assert!(letters(&queue).await.is_empty());
    begin(&*queue, wanted(&ground, "s", "p")).await.unwrap();
}

/// Guarantee 12.
pub async fn what_was_exported_is_restored_after_a_purge(ground: Ground) {
    let queue = ground.queue().await;
    let mut sent = message("odd");
    sent.headers.append("x-a", "1");
    sent.headers.append("x-a", "\u{e9} \t");
    sent.body = Bytes::from_static(b"\x00\xffbytes");
    let odd = Publication {
        message: sent,
        dedup: None,
        delay: Duration::ZERO,
    };
    queue.publish(odd).await.unwrap();
    bury(&queue, 1).await;
    die(&queue, &ids(20)).await;
    let exported = letters(&queue).await;
    let last = queue.last_dead_letter().await.unwrap().unwrap();
    assert_eq!(last, exported.last().unwrap().position);
    assert_eq!(queue.purge_dead_letters(last).await.unwrap(), 21);
    assert_eq!(queue.depth().await.unwrap().dead, 0);
    for round in 0..2 {
        for stored in &exported {
            let stored = persist(|| queue.store_dead_letter(&stored.letter)).await;
            assert_eq!(stored, round == 0);
        }
    }
    let restored = letters(&queue).await;
    let only = |all: &[StoredDeadLetter]| all.iter().map(|l| l.letter.clone()).collect::<Vec<_>>();
    assert_eq!(only(&restored), only(&exported));

    // A later death is not undone, an earlier one is.
    let mut letter = exported[0].letter.clone();
    letter.failure.failed_at -= SignedDuration::from_secs(5);
    letter.failure.attempts = 9;
    assert!(!queue.store_dead_letter(&letter).await.unwrap());
    letter.failure.failed_at += SignedDuration::from_secs(9);
    assert!(queue.store_dead_letter(&letter).await.unwrap());
    let found = queue
        .dead_letter(&letter.message.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.letter, letter);
    assert_eq!(queue.depth().await.unwrap().dead, 21);

    // And it can be redriven as any other.
    begin(&*queue, wanted(&ground, "r", "p")).await.unwrap();
    let done = runner(&queue, "p", &Process::ahead(0)).run().await.unwrap();
    assert_eq!(done.unwrap().counts.moved, 21);
    assert_eq!(handle(&queue, 21).await.len(), 21);
}

/// What dies meanwhile stays.
pub async fn a_purge_removes_what_it_has_seen(ground: Ground) {
    let queue = ground.queue().await;
    assert_eq!(queue.last_dead_letter().await.unwrap(), None);
    assert_eq!(queue.purge_dead_letters(0).await.unwrap(), 0);
    die(&queue, &ids(3)).await;
    let seen = queue.last_dead_letter().await.unwrap().unwrap();
    die(&queue, &["late".to_owned()]).await;
    assert_eq!(queue.purge_dead_letters(seen).await.unwrap(), 3);
    let rest = letters(&queue).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].letter.message.id, "late");
    assert_eq!(queue.purge_dead_letters(u64::MAX).await.unwrap(), 1);
    publish(&queue, ids(1)).await;
    let mut consumer = consumer(&queue, 1).await;
    assert_eq!(
        take(&mut consumer, 1).await.len(),
        1,
        "messages are not touched"
    );
}
