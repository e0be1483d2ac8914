//! Everything together, under kills: what was accepted is handled or a dead letter, and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join3;
use tokio::time::{Instant, timeout};
use weir_broker::{Delivery, Published, WorkQueue};

use crate::ground::{Ground, failure, persist, unique};

const MESSAGES: usize = 600;
const MOST_ATTEMPTS: u32 = 3;

#[derive(Default)]
struct Ledger {
    accepted: BTreeSet<String>,
    handled: BTreeMap<String, u32>,
    given_up: BTreeSet<String>,
    most_attempts: u32,
}

/// Two processes handle, fail, give back and lose messages while servers are killed. Nothing is lost,
/// nothing is stored twice, and no message is tried more often than it may be.
pub async fn accepted_is_handled_or_dead_under_kills(mut ground: Ground) {
    ground.spec.config.lease_seconds = 2;
    ground.spec.config.limit = 16;
    let seed = std::env::var("WEIR_SEED").ok();
    let seed: u64 = seed.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("ledger: WEIR_SEED={seed} {}", ground.spec.object.name);
    let queue = ground.queue().await;
    let ledger = Mutex::new(Ledger::default());
    let publishing = async {
        for number in 0..MESSAGES {
            let id = format!("m{number}");
            let window = Duration::from_mins(5);
            let published = persist(|| queue.publish(unique(&id, &id, window))).await;
            assert_eq!(
                published,
                Published {
                    id: id.clone(),
                    duplicate: published.duplicate
                }
            );
            ledger.lock().unwrap().accepted.insert(id);
        }
    };
    let killing = async {
        for _ in 0..4 {
            tokio::time::sleep(ground.subject.between_kills()).await;
            tokio::task::block_in_place(|| ground.subject.kill_one());
        }
    };
    let until = Instant::now() + Duration::from_secs(100);
    let working = async {
        let first = work(&ground, &ledger, until, fastrand::Rng::with_seed(seed));
        let second = work(&ground, &ledger, until, fastrand::Rng::with_seed(!seed));
        futures::future::join(first, second).await;
    };
    join3(publishing, killing, working).await;

    let letters = letters(&queue).await;
    let ledger = ledger.into_inner().unwrap();
    let dead: BTreeSet<String> = letters.iter().cloned().collect();
    assert_eq!(dead.len(), letters.len(), "a message has two dead letters");
    assert!(
        ledger.given_up.iter().all(|id| dead.contains(id)),
        "given up but not stored"
    );
    assert!(
        ledger.most_attempts <= MOST_ATTEMPTS,
        "{} attempts",
        ledger.most_attempts
    );
    let again: u32 = ledger.handled.values().map(|times| times - 1).sum();
    assert!(
        again <= 4 * 16,
        "{again} messages were handled more than once"
    );
}

/// The messages of all dead letters.
async fn letters(queue: &Arc<dyn WorkQueue>) -> Vec<String> {
    let mut letters = Vec::new();
    let mut after = None;
    loop {
        let page = persist(|| queue.dead_letters(after, 100)).await;
        let ids = page
            .items
            .into_iter()
            .map(|stored| stored.letter.message.id);
        letters.extend(ids);
        match page.next {
            Some(next) => after = Some(next),
            None => return letters,
        }
    }
}

/// What was accepted and is neither handled nor a dead letter.
async fn missing(queue: &Arc<dyn WorkQueue>, ledger: &Mutex<Ledger>) -> Vec<String> {
    let dead = letters(queue).await;
    let ledger = ledger.lock().unwrap();
    let accepted = ledger.accepted.iter();
    let missing = accepted.filter(|id| !ledger.handled.contains_key(*id) && !dead.contains(id));
    missing.cloned().collect()
}

/// Works until everything was published and is handled or dead, and the queue holds nothing any more. What a killed
/// server forgot comes again meanwhile, and is handled again; what it had not moved on is in no count until it does.
async fn work(ground: &Ground, ledger: &Mutex<Ledger>, until: Instant, mut random: fastrand::Rng) {
    let queue = ground.another().await;
    let mut consumer = persist(|| queue.consume()).await;
    consumer.want(12);
    let mut quiet_since = Instant::now();
    loop {
        if let Ok(delivery) = timeout(Duration::from_secs(1), consumer.next()).await {
            quiet_since = Instant::now();
            settle(delivery.unwrap().unwrap(), ledger, &mut random).await;
            consumer.want(1);
            continue;
        }
        let asked = Instant::now();
        let depth = persist(|| queue.depth()).await;
        if asked.elapsed() > Duration::from_secs(1) {
            // Nothing comes from a server that is down: that is no quiet.
            quiet_since = Instant::now();
        }
        let published = ledger.lock().unwrap().accepted.len();
        if published == MESSAGES && depth.ready + depth.in_flight + depth.delayed == 0 {
            // A number that is old may have missed what moved from one place to the next.
            if quiet_since.elapsed() > ground.subject.lag() {
                let missing = missing(&queue, ledger).await;
                if missing.is_empty() {
                    return;
                }
                assert!(Instant::now() < until, "lost: {missing:?}");
            }
        } else {
            quiet_since = Instant::now();
        }
        assert!(
            Instant::now() < until,
            "not empty in time: {published} published, {depth:?}"
        );
    }
}

/// What a process does with a delivery. A process that gives up on the broker drops it.
async fn settle(delivery: Delivery, ledger: &Mutex<Ledger>, random: &mut fastrand::Rng) {
    let Delivery {
        message,
        attempts,
        lease,
        ..
    } = delivery;
    let fate = random.u32(0..100);
    {
        let mut ledger = ledger.lock().unwrap();
        ledger.most_attempts = ledger.most_attempts.max(attempts);
    }
    let spent = attempts >= MOST_ATTEMPTS;
    if !spent && (!attempt(|| lease.begin()).await || fate < 8) {
        return;
    }
    if spent || (fate < 30 && attempts + 1 == MOST_ATTEMPTS) {
        let death = failure(MOST_ATTEMPTS);
        if attempt(|| lease.dead_letter(&death)).await {
            ledger.lock().unwrap().given_up.insert(message.id);
        }
    } else if fate < 30 {
        let delay = Duration::from_millis(random.u64(0..400));
        attempt(|| lease.retry(delay, attempts + 1)).await;
    } else if fate < 40 {
        attempt(|| lease.give_back()).await;
    } else {
        // The work is done before it is acknowledged, and stays done if the acknowledgement's answer is lost.
        *ledger
            .lock()
            .unwrap()
            .handled
            .entry(message.id)
            .or_default() += 1;
        attempt(|| lease.ack()).await;
    }
}

/// Repeats a step while it fails for reasons that pass and the lease may last.
async fn attempt<F: Future<Output = Result<(), weir_broker::BrokerError>>>(
    mut step: impl FnMut() -> F,
) -> bool {
    let until = Instant::now() + Duration::from_secs(8);
    loop {
        match step().await {
            Ok(()) => return true,
            Err(error) if error.is_transient() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            Err(error) if error.is_transient() || error.reason() == "LeaseOver" => return false,
            Err(error) => panic!("{error}"),
        }
    }
}
