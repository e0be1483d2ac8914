//! What the queues, streams and policies of a queue look like. Pure.
//!
//! What may change is in policies, because the arguments of a queue cannot; what must never change is
//! in arguments, so that nobody can lose messages by changing a policy.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use super::ladder::SHORT;
use super::names::{Names, exactly};
use crate::transport::QueueSpec;

/// Above the policies that administrators write for everything.
const PRIORITY: i64 = 50;
/// Longest that a delivery may stay unacknowledged before the broker takes it back: above every
/// handler's time. Leases are kept by the consumers.
const CONSUMER_TIMEOUT: Duration = Duration::from_hours(25);
/// Never reached: attempts are counted by Weir, and a message that is given back must not die of it.
/// A number, because without one the broker puts a message that comes back at the end of its queue.
const DELIVERY_LIMIT: u64 = 1_000_000;
/// How much of the notes is kept.
const NOTES_BYTES: u64 = 64 * 1024 * 1024;

/// How long a new queue is left alone. Which members of quorum queues a node has, and that it coordinates
/// streams, is on its disk a second after the last of them was made; were it killed before, it would begin
/// anew with nothing of what was confirmed.
pub(crate) const YOUTH: Duration = Duration::from_millis(1500);

/// A queue that is made with fixed arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Quorum,
    /// A quorum queue of a delay.
    Delay,
    /// With the size of its parts: only whole parts are ever removed.
    Stream {
        segment_bytes: i64,
    },
}

/// The name and shape of what must exist, in the order of making. Dead letters come first: a queue
/// must not deliver before they have a place.
pub(crate) fn queues(names: &Names, permits: bool) -> Vec<(String, Shape)> {
    let stream = |segment_bytes| Shape::Stream { segment_bytes };
    let mut queues = vec![
        (names.dead.clone(), stream(50_000_000)),
        (names.notes.clone(), stream(8_000_000)),
        (names.slots.clone(), Shape::Quorum),
        (names.queue.clone(), Shape::Quorum),
    ];
    if permits {
        queues.insert(3, (names.permits.clone(), Shape::Quorum));
    }
    let delays = SHORT.map(|bucket| (names.delay(bucket), Shape::Delay));
    queues.extend(delays);
    queues
}

/// The stream that says whose everything is. It is made before, and removed after, all others.
pub(crate) const STATE: Shape = Shape::Stream {
    segment_bytes: 8_000_000,
};

/// What a FIFO queue has beside its log.
pub(crate) fn fifo_queues(names: &Names) -> Vec<(String, Shape)> {
    let shape = Shape::Stream {
        segment_bytes: 50_000_000,
    };
    vec![(names.dead.clone(), shape)]
}

/// The log of a FIFO queue. It is never shortened: it is copied, and deleted as a whole.
pub(crate) const LOG: Shape = Shape::Stream {
    segment_bytes: 50_000_000,
};

/// The arguments of a queue.
pub(crate) fn arguments(names: &Names, shape: Shape, replicas: u32) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |name: &str, value: AMQPValue| {
        table.insert(name.into(), value);
    };
    let replicas = AMQPValue::LongLongInt(i64::from(replicas.max(1)));
    match shape {
        Shape::Quorum | Shape::Delay => {
            put("x-queue-type", text("quorum"));
            put("x-quorum-initial-group-size", replicas);
        }
        Shape::Stream { segment_bytes } => {
            put("x-queue-type", text("stream"));
            put("x-initial-cluster-size", replicas);
            put(
                "x-stream-max-segment-size-bytes",
                AMQPValue::LongLongInt(segment_bytes),
            );
        }
    }
    if shape == Shape::Delay {
        // What leaves it by age goes to the work queue, at least once.
        put("x-dead-letter-exchange", text(""));
        put("x-dead-letter-routing-key", text(&names.queue));
        put("x-dead-letter-strategy", text("at-least-once"));
        put("x-overflow", text("reject-publish"));
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The policies of one queue: names, and what they say.
pub(crate) fn policies(names: &Names, spec: &QueueSpec) -> Vec<(String, Value)> {
    let config = &spec.config;
    let queue = json!({
        // The queue takes one more than this.
        "max-length": config.capacity.saturating_sub(1),
        "overflow": "reject-publish",
        "delivery-limit": DELIVERY_LIMIT,
        "dead-letter-exchange": "",
        "dead-letter-routing-key": names.dead,
        "dead-letter-strategy": "at-least-once",
        "consumer-timeout": CONSUMER_TIMEOUT.as_millis() as u64,
    });
    let mut policies = vec![(
        names.queue.clone(),
        policy(&exactly(&names.queue), "quorum_queues", &queue),
    )];
    if config.fifo.is_some() {
        policies.clear();
    }
    let dead = json!({ "max-age": format!("{}s", config.dead_letter_retention_seconds.max(1)) });
    policies.push((
        names.dead.clone(),
        policy(&exactly(&names.dead), "streams", &dead),
    ));
    policies
}

/// The policies that all queues of a virtual host share, because they say the same for each: a broker
/// goes through all its queues when a policy is written.
pub(crate) fn common_policies() -> Vec<(String, Value)> {
    let tokens = json!({
        "delivery-limit": DELIVERY_LIMIT,
        "consumer-timeout": CONSUMER_TIMEOUT.as_millis() as u64,
    });
    let notes = json!({ "max-length-bytes": NOTES_BYTES });
    let of = |role: &str| format!(r"^weir\.[^.]+\.[^.]+\.[^.]+\.{role}$");
    vec![
        (
            "weir.tokens".to_owned(),
            policy(&of("(slots|permits)"), "quorum_queues", &tokens),
        ),
        (
            "weir.notes".to_owned(),
            policy(&of("notes"), "streams", &notes),
        ),
    ]
}

fn policy(pattern: &str, to: &str, definition: &Value) -> Value {
    json!({
        "pattern": pattern,
        "definition": definition,
        "priority": PRIORITY,
        "apply-to": to,
    })
}

/// Names of the fields in which a policy is not as wanted. What others added to its definition counts:
/// a policy of ours is ours alone.
pub(crate) fn differing(have: &Value, want: &Value) -> Vec<String> {
    let empty = Map::new();
    let of = |policy: &Value| policy["definition"].as_object().cloned();
    let (have_says, want_says) = (
        of(have).unwrap_or_else(|| empty.clone()),
        of(want).unwrap_or(empty),
    );
    let mut fields: Vec<String> = ["pattern", "priority", "apply-to"]
        .into_iter()
        .filter(|field| have[*field] != want[*field])
        .map(str::to_owned)
        .collect();
    let mut keys: Vec<&String> = have_says.keys().chain(want_says.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    fields.extend(
        keys.into_iter()
            .filter(|key| have_says.get(*key) != want_says.get(*key))
            .cloned(),
    );
    fields
}

#[cfg(test)]
mod tests {
    use weir_core::config::QueueConfig;
    use weir_core::object::{Kind, ObjectKey};

    use super::*;

    fn spec() -> QueueSpec {
        QueueSpec {
            object: ObjectKey::new(Kind::Webhook, "shop", "stripe"),
            uid: "u1".to_owned(),
            config: QueueConfig {
                limit: 4,
                batch_max: 1,
                lease_seconds: 30,
                replicas: 3,
                capacity: 1000,
                dead_letter_retention_seconds: 1_209_600,
                fifo: None,
            },
        }
    }

    #[test]
    fn every_field_of_a_policy_is_compared() {
        let spec = spec();
        let mut all = policies(&Names::of(&spec.object), &spec);
        all.extend(common_policies());
        for (_, want) in all {
            assert!(differing(&want, &want).is_empty());
            for field in ["pattern", "priority", "apply-to"] {
                let mut drifted = want.clone();
                drifted[field] = Value::Null;
                assert_eq!(differing(&drifted, &want), [field]);
            }
            for key in want["definition"].as_object().unwrap().keys() {
                let mut drifted = want.clone();
                drifted["definition"][key.as_str()] = 1.into();
                assert_eq!(differing(&drifted, &want), [key.as_str()]);
            }
            let mut added = want.clone();
            added["definition"]["message-ttl"] = 1.into();
            assert_eq!(differing(&added, &want), ["message-ttl"]);
        }
    }

    #[test]
    fn dead_letters_have_a_place_before_the_queue_and_no_queue_is_without_one() {
        let spec = spec();
        let names = Names::of(&spec.object);
        for permits in [false, true] {
            let made = queues(&names, permits);
            assert_eq!(made.first().unwrap().0, names.dead);
            let place = |name: &String| made.iter().position(|(made, _)| made == name);
            assert!(place(&names.queue) < place(&names.delay(SHORT[0])));
            assert_eq!(made.len(), 4 + SHORT.len() + usize::from(permits));
        }
        let (name, policy) = policies(&names, &spec).remove(0);
        assert_eq!(name, names.queue);
        assert_eq!(policy["definition"]["dead-letter-routing-key"], names.dead);
        assert_eq!(
            policy["definition"]["dead-letter-strategy"],
            "at-least-once"
        );
        let delay = arguments(&names, Shape::Delay, 1);
        assert!(delay.contains_key("x-dead-letter-strategy"));
    }
}
