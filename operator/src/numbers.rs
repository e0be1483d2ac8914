//! Small numbers in the status, and the weather that follows from them. Read from the broker every
//! half minute, written only when they changed, by a field manager of their own, so that a
//! reconcile never waits for them and never undoes them.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use weir_broker::fifo::GroupCounts;
use weir_broker::{BrokerError, Depth, WorkQueue};
use weir_crds::conditions::{Condition, ConditionType, Event, Reason, same_conditions};
use weir_crds::{FifoConsumer, QueueConsumer, Webhook};

use crate::context::Context;
use crate::error::{Error, chain};
use crate::kinds::Kind as _;
use crate::memory::{Key, Remembered};
use crate::reconcile::key_of;
use crate::status_shell::patch;
use crate::stores::{Read, Stored};

/// Types that are made here.
const OURS: [ConditionType; 3] = [
    ConditionType::DeadLettersPresent,
    ConditionType::LimitReached,
    ConditionType::BacklogStale,
];
/// Fields that are written here.
const FIELDS: [&str; 8] = [
    "backlog",
    "groups",
    "blockedGroups",
    "oldestSeconds",
    "deadLetters",
    "inFlight",
    "replicas",
    "readyReplicas",
];
/// Queues that are looked at together.
const TOGETHER: usize = 8;
/// Longest look at one queue.
const LONGEST: Duration = Duration::from_secs(5);

/// Looks at all queues, again and again. Those that should be reconciled go to `busy`; one that finds it
/// full comes again.
pub async fn run(context: Arc<Context>, busy: mpsc::Sender<Key>) {
    let mut ticks = interval(context.settings.numbers_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look_at_all::<Webhook>(&context, &busy).await;
        look_at_all::<QueueConsumer>(&context, &busy).await;
        look_at_all::<FifoConsumer>(&context, &busy).await;
    }
}

async fn look_at_all<K: Stored>(context: &Context, busy: &mpsc::Sender<Key>) {
    let all = context.stores.all::<K>(None);
    futures::stream::iter(all)
        .for_each_concurrent(TOGETHER, |read| async move {
            if let Err(error) = look_at(&read, context, busy).await {
                tracing::debug!(object = %key_of(&*read), error = chain(&error), "numbers not written");
            }
        })
        .await;
}

async fn look_at<K: Stored>(
    read: &Read<K>,
    context: &Context,
    busy: &mpsc::Sender<Key>,
) -> Result<(), Error> {
    let Ok(object) = &read.0 else { return Ok(()) };
    if object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let key = key_of(read);
    let uid = object.uid().unwrap_or_default();
    let remembered = context.memory.get(&key, &uid);
    let Some(queue) = &remembered.queue else {
        return Ok(());
    };
    let ordered = K::NAME == FifoConsumer::NAME;
    let (depth, groups) = timeout(LONGEST, read_queue(&**queue, ordered))
        .await
        .ok()
        .and_then(Result::ok)
        .unzip();
    let groups = groups.flatten();
    let is_due = remembered
        .reconciled
        .is_some_and(|last| last.elapsed() > context.settings.busy_resync);
    if is_due && depth.as_ref().is_some_and(|depth| depth.in_flight > 0) {
        let _ = busy.try_send(key.clone());
    }
    if depth.is_some() || remembered.numbers_read.is_none() {
        let now = Instant::now();
        context
            .memory
            .update(&key, &uid, |entry| entry.numbers_read = Some(now));
    }
    let is_stale = depth.is_none()
        && remembered
            .numbers_read
            .is_some_and(|read| read.elapsed() > context.settings.numbers_grace);
    let old = serde_json::to_value(object).map(|mut object| object["status"].take());
    let old = old.unwrap_or_default();
    let now = context.clock.now();
    let numbers = numbers(depth.as_ref(), groups, &remembered, &old, now);
    let facts = Facts {
        depth: depth.as_ref(),
        limit: remembered.limit,
        is_stale,
        generation: object.meta().generation,
    };
    let weather = weather(&facts, object.conditions(), &key.to_string(), now);
    if is_same(&old, &numbers, object.conditions(), &weather) {
        return Ok(());
    }
    let mut status = numbers;
    if !weather.is_empty() {
        status["conditions"] = json!(weather);
    }
    let held = |status: &Value| status["blockedGroups"].as_u64().unwrap_or(0);
    let newly_held = held(&status).saturating_sub(held(&old));
    patch(object, "numbers", status, context).await?;
    if newly_held > 0 {
        let note = format!(
            "{newly_held} more groups stopped after a message that could not be handled; see weir dlq list, correct what is wrong, and let them go on"
        );
        context.events.tell(object, Event::GroupBlocked, note).await;
    }
    Ok(())
}

/// What the broker says about a queue, and about its groups where it has some.
async fn read_queue(
    queue: &dyn WorkQueue,
    ordered: bool,
) -> Result<(Depth, Option<GroupCounts>), BrokerError> {
    let depth = queue.depth().await?;
    let groups = if ordered {
        Some(queue.fifo()?.groups().await?)
    } else {
        None
    };
    Ok((depth, groups))
}

/// The numbers, those that are not known now as they were.
fn numbers(
    depth: Option<&Depth>,
    groups: Option<GroupCounts>,
    remembered: &Remembered,
    old: &Value,
    now: Timestamp,
) -> Value {
    let mut numbers = json!({});
    for field in FIELDS {
        if let Some(value) = old.get(field) {
            numbers[field] = value.clone();
        }
    }
    if let Some(depth) = depth {
        numbers["backlog"] = json!(depth.ready + depth.in_flight + depth.delayed);
        numbers["deadLetters"] = json!(depth.dead);
        numbers["inFlight"] = json!(depth.in_flight);
        numbers["oldestSeconds"] = json!(age(depth, now));
    }
    if let Some(groups) = groups {
        numbers["groups"] = json!(groups.runnable + groups.held);
        numbers["blockedGroups"] = json!(groups.held);
    }
    if let Some((replicas, ready)) = remembered.replicas {
        numbers["replicas"] = json!(replicas);
        numbers["readyReplicas"] = json!(ready);
    } else if remembered.queue.is_some() {
        // It has no handler of its own, or no longer.
        for field in ["replicas", "readyReplicas"] {
            numbers.as_object_mut().map(|fields| fields.remove(field));
        }
    }
    numbers
}

fn age(depth: &Depth, now: Timestamp) -> u64 {
    let oldest = depth.oldest.unwrap_or(now);
    u64::try_from(now.as_second() - oldest.as_second()).unwrap_or(0)
}

struct Facts<'a> {
    depth: Option<&'a Depth>,
    limit: u32,
    is_stale: bool,
    generation: Option<i64>,
}

/// Conditions that are present only when true, and never touch `Ready`.
fn weather(facts: &Facts<'_>, old: &[Condition], object: &str, now: Timestamp) -> Vec<Condition> {
    let mut weather = Vec::new();
    let mut add = |type_: ConditionType, reason, message: String| {
        let mut new =
            Condition::new(type_, true, reason, message, now).of_generation(facts.generation);
        if let Some(old) = old.iter().find(|old| old.is(type_)) {
            new.last_transition_time = old.last_transition_time;
        }
        weather.push(new);
    };
    if facts.depth.is_some_and(|depth| depth.dead > 0) {
        let words = format!("messages of {object} could not be handled; see weir dlq list");
        add(
            ConditionType::DeadLettersPresent,
            Reason::DeadLettersStored,
            words,
        );
    }
    if facts.limit == 0 {
        let words = "spec.concurrency.max is 0: nothing is delivered".to_owned();
        add(ConditionType::LimitReached, Reason::StoppedByLimit, words);
    } else if facts
        .depth
        .is_some_and(|d| d.in_flight >= u64::from(facts.limit) && d.ready > 0)
    {
        let words = format!("{} calls run, as many as may; messages wait", facts.limit);
        add(ConditionType::LimitReached, Reason::AllPlacesTaken, words);
    }
    if facts.is_stale {
        let words = "the broker does not answer; the numbers are old".to_owned();
        add(ConditionType::BacklogStale, Reason::NumbersOutdated, words);
    }
    // What is not known now stays as it was.
    for condition in old {
        let unknown = facts.depth.is_none()
            && (condition.is(ConditionType::DeadLettersPresent)
                || condition.is(ConditionType::LimitReached));
        if unknown && !weather.iter().any(|new| new.type_ == condition.type_) {
            weather.push(condition.clone());
        }
    }
    weather
}

/// An age that grew with the time alone is no change: only a notable one is.
fn is_same(old: &Value, new: &Value, conditions: &[Condition], weather: &[Condition]) -> bool {
    let ours: Vec<Condition> = conditions
        .iter()
        .filter(|condition| OURS.iter().any(|type_| condition.is(*type_)))
        .cloned()
        .collect();
    same_conditions(&ours, weather)
        && FIELDS
            .iter()
            .all(|field| match (*field, old.get(*field), new.get(*field)) {
                ("oldestSeconds", Some(old), Some(new)) => is_about(old, new),
                (_, old, new) => old == new,
            })
}

fn is_about(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_u64(), new.as_u64()) else {
        return old == new;
    };
    (old == 0) == (new == 0) && old.abs_diff(new) <= (old / 10).max(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn weather_is_there_only_while_it_is_true_and_keeps_its_time() {
        let calm = Depth {
            in_flight: 5,
            ..Depth::default()
        };
        let busy = Depth {
            ready: 1,
            in_flight: 5,
            dead: 2,
            ..Depth::default()
        };
        let weather = |depth: &Depth, limit, old: &[Condition], now| {
            super::weather(
                &Facts {
                    depth: Some(depth),
                    limit,
                    is_stale: false,
                    generation: Some(3),
                },
                old,
                "o",
                now,
            )
        };
        assert!(weather(&calm, 5, &[], now()).is_empty());
        let first = weather(&busy, 5, &[], now());
        let types: Vec<&str> = first.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["DeadLettersPresent", "LimitReached"]);
        assert!(first.iter().all(|c| c.observed_generation == Some(3)));
        let later = now() + jiff::SignedDuration::from_secs(60);
        assert_eq!(weather(&busy, 5, &first, later), first);
        assert_eq!(weather(&calm, 0, &[], now())[0].reason, "StoppedByLimit");
        let silent = Facts {
            depth: None,
            limit: 5,
            is_stale: true,
            generation: Some(3),
        };
        assert_eq!(
            super::weather(&silent, &first, "o", later).len(),
            3,
            "what was known stays"
        );
    }

    #[test]
    fn groups_are_counted_where_there_are_some_and_stay_while_unknown() {
        let of = |groups, old: &Value| {
            let depth = Depth::default();
            numbers(Some(&depth), groups, &Remembered::default(), old, now())
        };
        let counts = GroupCounts {
            runnable: 5,
            in_turn: 2,
            held: 1,
        };
        let known = of(Some(counts), &json!({}));
        assert_eq!(
            (&known["groups"], &known["blockedGroups"]),
            (&json!(6), &json!(1))
        );
        assert_eq!(of(None, &known)["groups"], json!(6));
        assert_eq!(of(None, &json!({})).get("groups"), None);
    }

    #[test]
    fn an_age_that_grows_is_not_written_every_time() {
        let status = |age: u64| json!({ "backlog": 1, "oldestSeconds": age });
        assert!(is_same(&status(30), &status(60), &[], &[]));
        assert!(!is_same(&status(0), &status(30), &[], &[]));
        assert!(!is_same(&status(30), &status(0), &[], &[]));
        assert!(!is_same(&status(30), &status(120), &[], &[]));
        assert!(is_same(&status(10_000), &status(10_900), &[], &[]));
        assert!(!is_same(
            &json!({ "backlog": 1 }),
            &json!({ "backlog": 2 }),
            &[],
            &[]
        ));
    }
}
