//! What the streams and consumers of a queue look like, and how what is there differs from it.
//!
//! Pure. Only the fields named here are ours: whatever else an administrator or a newer server set
//! is kept as it is.

use std::time::Duration;

use serde_json::{Map, Value, json};
use weir_core::names::QueueNames;

use crate::queue::RecordName;
use crate::transport::QueueSpec;

/// The consumer that competing workers share.
pub(crate) const WORKERS: &str = "workers";
/// The consumer of the permits for batched calls.
pub(crate) const PERMITS: &str = "permits";

const UID: &str = "weir.dev/uid";
const OBJECT: &str = "weir.dev/object";
const ORPHANED: &str = "weir.dev/orphaned";

/// How long the server remembers message ids, beside our own keys.
const QUEUE_WINDOW: Duration = Duration::from_mins(2);
const DEAD_WINDOW: Duration = Duration::from_hours(1);
/// Pull requests that may wait, over all processes. Cannot be changed later.
const MAX_WAITING: u32 = 2048;
/// How long a consumer is paused that shall deliver nothing.
pub(crate) const FOR_EVER: &str = "2200-01-01T00:00:00Z";

/// Subjects and names of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) stream: String,
    pub(crate) dead_stream: String,
    pub(crate) keys_stream: String,
    pub(crate) main: String,
    roles: QueueNames,
}

impl Names {
    pub(crate) fn of(spec: &QueueSpec) -> Self {
        let names = QueueNames::of(&spec.object);
        Self {
            stream: names.queue_stream(),
            dead_stream: names.dead_stream(),
            keys_stream: names.keys_stream(),
            main: names.role("main"),
            roles: names,
        }
    }

    /// Where the schedule of a delayed message waits.
    pub(crate) fn retry(&self, id: &str) -> String {
        self.roles.role_of("retry", id)
    }

    /// Where an identity is remembered.
    pub(crate) fn key(&self, identity: &str) -> String {
        self.roles.role_of("dd", identity)
    }

    /// Where the unfinished calls of a stored copy are counted.
    pub(crate) fn tries(&self, sequence: u64) -> String {
        self.roles.role(&format!("try.{sequence}"))
    }

    /// Where the messages of a group are, in order.
    pub(crate) fn group(&self, token: &str) -> String {
        self.roles.role(&format!("group.{token}"))
    }

    /// Where messages are that come before all others of a group.
    pub(crate) fn front(&self, token: &str) -> String {
        self.roles.role(&format!("front.{token}"))
    }

    /// Where the turn of a group is, while it has anything to do.
    pub(crate) fn turn(&self, token: &str) -> String {
        self.roles.role(&format!("turn.{token}"))
    }

    /// Where a group's turn waits for the time of its first message.
    pub(crate) fn wake(&self, token: &str) -> String {
        self.roles.role(&format!("wake.{token}"))
    }

    /// What is known of a group.
    pub(crate) fn note(&self, token: &str) -> String {
        self.roles.role(&format!("note.{token}"))
    }

    pub(crate) fn permit(&self, number: u64) -> String {
        self.roles.role(&format!("permit.{number}"))
    }

    /// Where a record of the queue is.
    pub(crate) fn record(&self, name: RecordName) -> String {
        self.roles.role(&format!("record.{}", name.as_str()))
    }

    pub(crate) fn dead(&self, id: &str) -> String {
        self.roles.role_of("dead", id)
    }

    /// Every subject of a role.
    pub(crate) fn all(&self, role: &str) -> String {
        self.roles.role(&format!("{role}.>"))
    }

    /// For messages about the queue's stream.
    pub(crate) fn shown(&self) -> String {
        format!("stream {}", self.stream)
    }
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn metadata(spec: &QueueSpec) -> Value {
    json!({ UID: spec.uid, OBJECT: spec.object.to_string() })
}

/// Roles of the subjects of a queue that keeps order: messages, turns and what belongs to them.
const FIFO_ROLES: [&str; 7] = ["group", "front", "turn", "wake", "note", "dd", "record"];
const ROLES: [&str; 5] = ["retry", "dd", "try", "permit", "record"];

/// The stream that holds waiting messages, schedules, keys, counts, permits, turns and records.
pub(crate) fn queue_stream(spec: &QueueSpec) -> Value {
    let names = Names::of(spec);
    let mut stream = plain_stream(&names, spec);
    if spec.config.fifo.is_some() {
        let subjects: Vec<String> = FIFO_ROLES.iter().map(|role| names.all(role)).collect();
        stream["subjects"] = subjects.into();
        // A note replaces the one before.
        stream["allow_rollup_hdrs"] = true.into();
    }
    stream
}

/// Whether a stream is one that keeps order.
pub(crate) fn keeps_order(config: &Value, names: &Names) -> bool {
    let turns = names.all("turn");
    let mut subjects = config["subjects"].as_array().into_iter().flatten();
    subjects.any(|subject| subject.as_str() == Some(&turns))
}

fn plain_stream(names: &Names, spec: &QueueSpec) -> Value {
    let mut subjects = vec![names.main.clone()];
    subjects.extend(ROLES.iter().map(|role| names.all(role)));
    json!({
        "name": names.stream,
        "subjects": subjects,
        "retention": "workqueue",
        "storage": "file",
        "discard": "old",
        "num_replicas": spec.config.replicas.max(1),
        "duplicate_window": nanos(QUEUE_WINDOW),
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "allow_direct": true,
        "allow_msg_ttl": true,
        "allow_msg_schedules": true,
        "allow_atomic": true,
        "metadata": metadata(spec),
    })
}

/// The stream that holds dead letters, one for each message.
pub(crate) fn dead_stream(spec: &QueueSpec) -> Value {
    let names = Names::of(spec);
    let kept = Duration::from_secs(spec.config.dead_letter_retention_seconds);
    json!({
        "name": names.dead_stream,
        "subjects": [names.all("dead")],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": spec.config.replicas.max(1),
        // The window must not be longer than messages are kept.
        "duplicate_window": nanos(DEAD_WINDOW.min(kept)),
        "max_age": nanos(kept),
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": 1,
        "allow_direct": true,
        "metadata": metadata(spec),
    })
}

/// The stream that holds the deduplication keys of a queue that another broker holds. Each goes by its
/// own time.
pub(crate) fn keys_stream(spec: &QueueSpec) -> Value {
    let names = Names::of(spec);
    json!({
        "name": names.keys_stream,
        "subjects": [names.all("dd")],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": spec.config.replicas.max(1),
        "duplicate_window": nanos(QUEUE_WINDOW),
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": 1,
        "allow_direct": true,
        "allow_msg_ttl": true,
        "metadata": metadata(spec),
    })
}

/// The consumer of the workers. `max_ack_pending` is the exact limit.
pub(crate) fn workers(spec: &QueueSpec) -> Value {
    let names = Names::of(spec);
    let limit = u64::from(spec.config.limit);
    if spec.config.fifo.is_some() {
        return consumer(WORKERS, &names.all("turn"), spec, limit);
    }
    let outstanding = limit * u64::from(spec.config.batch_max.max(1));
    consumer(WORKERS, &names.main, spec, outstanding)
}

/// The consumer of the permits, where calls are batched.
pub(crate) fn permits(spec: &QueueSpec) -> Option<Value> {
    (spec.config.fifo.is_none() && spec.config.batch_max > 1).then(|| {
        let outstanding = u64::from(spec.config.limit);
        consumer(PERMITS, &Names::of(spec).all("permit"), spec, outstanding)
    })
}

fn consumer(name: &str, filter: &str, spec: &QueueSpec, outstanding: u64) -> Value {
    json!({
        "name": name,
        "durable_name": name,
        "filter_subject": filter,
        "ack_policy": "explicit",
        "ack_wait": nanos(Duration::from_secs(u64::from(spec.config.lease_seconds.max(1)))),
        "max_deliver": -1,
        "max_ack_pending": outstanding.max(1),
        "max_waiting": MAX_WAITING,
        "deliver_policy": "all",
        "replay_policy": "instant",
        "metadata": metadata(spec),
    })
}

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    /// Left behind by an object of the same name.
    Orphaned,
    /// Somebody else's, described for people.
    Other(String),
}

/// Reads the owner from a stream's configuration.
pub(crate) fn owner(config: &Value, spec: &QueueSpec) -> Owner {
    let metadata = &config["metadata"];
    let text = |key: &str| metadata[key].as_str();
    let same_object = text(OBJECT) == Some(spec.object.to_string().as_str());
    match (text(UID), text(ORPHANED)) {
        (Some(_), Some(_)) if same_object => Owner::Orphaned,
        (Some(uid), None) if uid == spec.uid && same_object => Owner::Ours,
        (Some(uid), _) => Owner::Other(format!(
            "{} with uid {uid}",
            text(OBJECT).unwrap_or("an object")
        )),
        (None, _) => Owner::Other("somebody who is not Weir".to_owned()),
    }
}

/// Whether this very object left it behind.
pub(crate) fn is_of(config: &Value, spec: &QueueSpec) -> bool {
    config["metadata"][UID].as_str() == Some(spec.uid.as_str())
        && config["metadata"][OBJECT].as_str() == Some(spec.object.to_string().as_str())
}

/// Names of our fields in which `have` is not as wanted.
pub(crate) fn differing(have: &Value, want: &Value) -> Vec<String> {
    let Some(want) = want.as_object() else {
        return Vec::new();
    };
    let mut fields = Vec::new();
    for (field, wanted) in want {
        let found = &have[field];
        let same = match field.as_str() {
            "metadata" => {
                found[ORPHANED].is_null()
                    && wanted.as_object().is_none_or(|ours| {
                        ours.iter()
                            .all(|(key, value)| &found[key.as_str()] == value)
                    })
            }
            "subjects" => sorted(found) == sorted(wanted),
            _ => found == wanted,
        };
        if !same {
            fields.push(field.clone());
        }
    }
    fields
}

/// `have` with our fields as wanted and everything else kept.
pub(crate) fn merged(have: &Value, want: &Value) -> Value {
    let mut merged: Map<String, Value> = have.as_object().cloned().unwrap_or_default();
    for (field, wanted) in want.as_object().into_iter().flatten() {
        if field == "metadata" {
            let mut metadata = foreign_metadata(have);
            metadata.remove(ORPHANED);
            metadata.extend(wanted.as_object().cloned().unwrap_or_default());
            merged.insert(field.clone(), Value::Object(metadata));
        } else {
            merged.insert(field.clone(), wanted.clone());
        }
    }
    Value::Object(merged)
}

/// `have`, marked as left behind at `now`.
pub(crate) fn orphaned(have: &Value, now: &str) -> Value {
    let mut marked: Map<String, Value> = have.as_object().cloned().unwrap_or_default();
    let mut metadata = foreign_metadata(have);
    metadata.insert(ORPHANED.to_owned(), now.into());
    marked.insert("metadata".to_owned(), Value::Object(metadata));
    Value::Object(marked)
}

pub(crate) fn is_orphaned(have: &Value) -> bool {
    !have["metadata"][ORPHANED].is_null()
}

/// Metadata without what the server writes itself.
fn foreign_metadata(have: &Value) -> Map<String, Value> {
    let mut metadata = have["metadata"].as_object().cloned().unwrap_or_default();
    metadata.retain(|key, _| !key.starts_with("_nats."));
    metadata
}

fn sorted(list: &Value) -> Vec<&str> {
    let mut items: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    items.sort_unstable();
    items
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
                replicas: 1,
                capacity: 1000,
                dead_letter_retention_seconds: 1_209_600,
                fifo: None,
            },
        }
    }

    #[test]
    fn what_the_server_echoes_does_not_differ() {
        let want = queue_stream(&spec());
        let mut echo = want.clone();
        echo["metadata"]["_nats.ver"] = "2.15.1".into();
        echo["allow_rollup_hdrs"] = true.into();
        echo["subjects"].as_array_mut().unwrap().reverse();
        assert_eq!(differing(&echo, &want), Vec::<String>::new());
    }

    #[test]
    fn every_field_of_ours_is_compared_and_no_other() {
        for want in [
            queue_stream(&spec()),
            dead_stream(&spec()),
            workers(&spec()),
        ] {
            for field in want.as_object().unwrap().keys() {
                let mut drifted = want.clone();
                drifted[field.as_str()] = Value::Null;
                assert_eq!(differing(&drifted, &want), [field.as_str()], "{field}");
                assert_eq!(merged(&drifted, &want), want);
            }
            let mut foreign = want.clone();
            foreign["max_msg_size"] = 5.into();
            foreign["metadata"]["team"] = "a".into();
            assert!(differing(&foreign, &want).is_empty());
            let kept = merged(&foreign, &want);
            assert_eq!(
                (&kept["max_msg_size"], &kept["metadata"]["team"]),
                (&5.into(), &"a".into())
            );
        }
    }

    #[test]
    fn ownership_is_read_from_the_metadata_alone() {
        let config = queue_stream(&spec());
        assert_eq!(owner(&config, &spec()), Owner::Ours);
        assert_eq!(
            owner(&json!({"name": "x"}), &spec()),
            Owner::Other("somebody who is not Weir".to_owned())
        );
        let newer = QueueSpec {
            uid: "u2".to_owned(),
            ..spec()
        };
        assert_eq!(
            owner(&config, &newer),
            Owner::Other("webhook/stripe.shop with uid u1".to_owned())
        );
        let left = orphaned(&config, "2026-01-01T00:00:00Z");
        assert_eq!(owner(&left, &newer), Owner::Orphaned);
        assert_eq!(differing(&left, &queue_stream(&spec())), ["metadata"]);
        assert!(!is_orphaned(&merged(&left, &queue_stream(&newer))));
        let mut other = spec();
        other.object.name = "paypal".to_owned();
        assert!(matches!(owner(&left, &other), Owner::Other(_)));
    }

    #[test]
    fn the_limit_counts_messages_of_whole_batches_and_is_never_unlimited() {
        let with = |limit, batch_max| {
            let mut spec = spec();
            spec.config.limit = limit;
            spec.config.batch_max = batch_max;
            let permits = permits(&spec).map(|config| config["max_ack_pending"].clone());
            (workers(&spec)["max_ack_pending"].clone(), permits)
        };
        assert_eq!(with(4, 1), (4.into(), None));
        assert_eq!(with(4, 10), (40.into(), Some(4.into())));
        assert_eq!(
            with(0, 1),
            (1.into(), None),
            "0 would be the server's default of 1000"
        );
    }

    #[test]
    fn a_queue_that_keeps_order_delivers_turns_and_counts_them_one_by_one() {
        let mut ordered = spec();
        ordered.config.fifo = Some(weir_core::config::FifoConfig { partitions: 4 });
        ordered.config.batch_max = 10;
        let names = Names::of(&ordered);
        let want = queue_stream(&ordered);
        assert!(keeps_order(&want, &names) && !keeps_order(&queue_stream(&spec()), &names));
        assert_eq!(permits(&ordered), None);
        let workers = workers(&ordered);
        assert_eq!(workers["max_ack_pending"], 4);
        assert_eq!(workers["filter_subject"], names.all("turn"));
        for partitions in [1, 16] {
            ordered.config.fifo = Some(weir_core::config::FifoConfig { partitions });
            assert_eq!(queue_stream(&ordered), want);
        }
    }

    #[test]
    fn whatever_clients_send_stays_below_its_role() {
        let names = Names::of(&spec());
        for text in ["", ">", "*", "a.b", "x y\r\n", &"z".repeat(9000)] {
            let group = weir_core::names::token(text);
            let of_group = [
                names.group(&group),
                names.front(&group),
                names.turn(&group),
                names.wake(&group),
                names.note(&group),
            ];
            let of_message = [names.key(text), names.retry(text), names.dead(text)];
            for subject in of_message.into_iter().chain(of_group) {
                assert_eq!(subject.split('.').count(), 6, "{subject}");
                assert!(subject.len() < 160 && async_nats::Subject::validated(&subject).is_ok());
            }
        }
    }
}
