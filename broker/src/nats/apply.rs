//! Making the topology as wanted, and ending it.
//!
//! Reads first and writes only what differs: an update that changes nothing is never sent. What is
//! not marked as this object's is never touched, and a consumer is never recreated, because that
//! would deliver again what is in flight.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{
    CONSUMER_EXISTS, ConsumerInfo, Done, Failure, PubAck, STREAM_NAME_IN_USE, SUBJECTS_OVERLAP,
    StreamInfo,
};
use super::codec::put;
use super::connection::{Connection, REQUEST_TIMEOUT, parse};
use super::topology::{
    FOR_EVER, Names, Owner, PERMITS, WORKERS, dead_stream, differing, is_of, is_orphaned,
    keeps_order, merged, orphaned, owner, permits, queue_stream, workers,
};
use crate::clock::Clock;
use crate::error::BrokerError;
use crate::fifo::other_kind;
use crate::transport::{Applied, QueueSpec, Removal, Removed};

/// How often something is read again that another process changes meanwhile.
const TRIES: usize = 4;

pub(crate) async fn apply(
    connection: &Connection,
    spec: &QueueSpec,
) -> Result<Applied, BrokerError> {
    let mut applied = Applied::default();
    // Dead letters first: a queue must not deliver before they have a place.
    for want in [dead_stream(spec), queue_stream(spec)] {
        stream(connection, spec, &want, &mut applied).await?;
    }
    consumer(connection, spec, WORKERS, &workers(spec), &mut applied).await?;
    pause(connection, spec, &mut applied).await?;
    match permits(spec) {
        Some(want) => {
            consumer(connection, spec, PERMITS, &want, &mut applied).await?;
            store_permits(connection, spec, u64::from(spec.config.limit), &mut applied).await?;
        }
        None => remove_permits(connection, spec, &mut applied).await?,
    }
    Ok(applied)
}

fn name_of(config: &Value) -> &str {
    config["name"].as_str().unwrap_or_default()
}

pub(crate) async fn read_stream(
    connection: &Connection,
    name: &str,
    filter: Option<&str>,
) -> Result<Option<StreamInfo>, BrokerError> {
    let body = filter.map_or(Value::Null, |filter| json!({ "subjects_filter": filter }));
    match connection
        .api("read stream", &format!("STREAM.INFO.{name}"), &body)
        .await
    {
        Ok(info) => Ok(Some(info)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(Failure::NoResponders) => Err(connection.unavailable("JetStream does not answer")),
        Err(failure) => Err(failure.told(&format!("stream {name}"))),
    }
}

/// Creates or repairs one stream.
pub(crate) async fn stream(
    connection: &Connection,
    spec: &QueueSpec,
    want: &Value,
    applied: &mut Applied,
) -> Result<(), BrokerError> {
    let name = name_of(want);
    let shown = format!("stream {name}");
    for _ in 0..TRIES {
        let Some(info) = read_stream(connection, name, None).await? else {
            let subject = format!("STREAM.CREATE.{name}");
            match connection
                .api::<StreamInfo>("create stream", &subject, want)
                .await
            {
                Ok(made) => {
                    check_echo(&shown, &made.config, want)?;
                    applied.created.push(name.to_owned());
                    return Ok(());
                }
                // Another process was faster.
                Err(failure) if failure.code() == STREAM_NAME_IN_USE => continue,
                Err(failure) if failure.code() == SUBJECTS_OVERLAP => {
                    return Err(BrokerError::Conflict {
                        what: format!("the subjects of {shown}"),
                        owner: "another stream".to_owned(),
                    });
                }
                Err(failure) => return Err(failure.told(&shown)),
            }
        };
        if let Owner::Other(owner) = owner(&info.config, spec) {
            return Err(BrokerError::Conflict { what: shown, owner });
        }
        let fields = differing(&info.config, want);
        if fields.is_empty() {
            return Ok(());
        }
        let names = Names::of(spec);
        if name == names.stream && keeps_order(&info.config, &names) != keeps_order(want, &names) {
            return Err(other_kind(name));
        }
        let subject = format!("STREAM.UPDATE.{name}");
        let update = merged(&info.config, want);
        let made: StreamInfo = connection
            .api("update stream", &subject, &update)
            .await
            .map_err(|failure| failure.told(&shown))?;
        check_echo(&shown, &made.config, want)?;
        applied
            .repaired
            .push(format!("{name}: {}", fields.join(", ")));
        return Ok(());
    }
    Err(connection.unavailable(format!("{shown} is being changed by others")))
}

/// Old servers answer "ok" to fields that they do not know.
fn check_echo(what: &str, echo: &Value, want: &Value) -> Result<(), BrokerError> {
    let ignored = differing(echo, want);
    if ignored.is_empty() {
        return Ok(());
    }
    Err(BrokerError::Unsupported {
        server: "NATS".to_owned(),
        why: format!(
            "it took the configuration of {what} without {}",
            ignored.join(", ")
        ),
    })
}

async fn read_consumer(
    connection: &Connection,
    stream: &str,
    name: &str,
) -> Result<Option<ConsumerInfo>, BrokerError> {
    let subject = format!("CONSUMER.INFO.{stream}.{name}");
    match connection
        .api("read consumer", &subject, &Value::Null)
        .await
    {
        Ok(info) => Ok(Some(info)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(Failure::NoResponders) => Err(connection.unavailable("JetStream does not answer")),
        Err(failure) => Err(failure.told(&format!("consumer {name} of stream {stream}"))),
    }
}

/// Creates or repairs one consumer. One that shall deliver nothing is born paused.
async fn consumer(
    connection: &Connection,
    spec: &QueueSpec,
    name: &str,
    want: &Value,
    applied: &mut Applied,
) -> Result<(), BrokerError> {
    let stream = Names::of(spec).stream;
    let shown = format!("consumer {name} of stream {stream}");
    let filter = want["filter_subject"].as_str().unwrap_or_default();
    let subject = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
    for _ in 0..TRIES {
        let found = read_consumer(connection, &stream, name).await?;
        let (action, config, fields) = match &found {
            None => {
                let mut config = want.clone();
                if spec.config.limit == 0 {
                    config["pause_until"] = FOR_EVER.into();
                }
                ("create", config, Vec::new())
            }
            Some(info) => {
                let fields = differing(&info.config, want);
                if fields.is_empty() {
                    return Ok(());
                }
                ("update", merged(&info.config, want), fields)
            }
        };
        let body = json!({ "stream_name": stream, "action": action, "config": config });
        match connection
            .api::<ConsumerInfo>("write consumer", &subject, &body)
            .await
        {
            Ok(made) => {
                check_echo(&shown, &made.config, want)?;
                if found.is_none() {
                    applied.created.push(format!("{stream}/{name}"));
                } else {
                    applied
                        .repaired
                        .push(format!("{stream}/{name}: {}", fields.join(", ")));
                }
                return Ok(());
            }
            Err(failure) if failure.code() == CONSUMER_EXISTS => {}
            Err(failure) => return Err(failure.told(&shown)),
        }
    }
    Err(connection.unavailable(format!("{shown} is being changed by others")))
}

/// A limit of 0 pauses the workers, any other resumes them. Returns when it has taken effect.
async fn pause(
    connection: &Connection,
    spec: &QueueSpec,
    applied: &mut Applied,
) -> Result<(), BrokerError> {
    let stream = Names::of(spec).stream;
    let shown = format!("consumer {WORKERS} of stream {stream}");
    let wanted = spec.config.limit == 0;
    let mut asked = false;
    let until = Instant::now() + REQUEST_TIMEOUT;
    loop {
        let Some(info) = read_consumer(connection, &stream, WORKERS).await? else {
            return Err(BrokerError::Missing { what: shown });
        };
        if info.paused.unwrap_or(false) == wanted {
            return Ok(());
        }
        if !asked {
            let body = if wanted {
                json!({ "pause_until": FOR_EVER })
            } else {
                json!({})
            };
            let subject = format!("CONSUMER.PAUSE.{stream}.{WORKERS}");
            connection
                .api::<Done>("pause consumer", &subject, &body)
                .await
                .map_err(|failure| failure.told(&shown))?;
            applied.repaired.push(format!("{stream}/{WORKERS}: paused"));
            asked = true;
            continue;
        }
        // A cluster answers before the consumer's leader has heard of it.
        if Instant::now() >= until {
            return Err(connection.unavailable(format!("{shown} does not pause")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes exactly the permits 0 to `limit`.
async fn store_permits(
    connection: &Connection,
    spec: &QueueSpec,
    limit: u64,
    applied: &mut Applied,
) -> Result<(), BrokerError> {
    let names = Names::of(spec);
    let filter = names.all("permit");
    let info = read_stream(connection, &names.stream, Some(&filter)).await?;
    let stored = info
        .and_then(|info| info.state.subjects)
        .unwrap_or_default();
    let wanted: Vec<String> = (0..limit).map(|number| names.permit(number)).collect();
    let mut changed = false;
    for subject in wanted
        .iter()
        .filter(|subject| !stored.contains_key(*subject))
    {
        let mut headers = async_nats::HeaderMap::new();
        put(&mut headers, "Nats-Expected-Last-Subject-Sequence", "0")?;
        let empty = bytes::Bytes::new();
        let stored = async {
            let answer = connection
                .request("store permit", subject, Some(headers), empty)
                .await?;
            parse::<PubAck>("store permit", &answer.payload)
        };
        match stored.await {
            Ok(_) => changed = true,
            Err(failure) if failure.is_wrong_sequence() => {}
            Err(failure) => return Err(failure.told(&names.shown())),
        }
    }
    for subject in stored.keys().filter(|subject| !wanted.contains(subject)) {
        purge(connection, &names.stream, subject).await?;
        changed = true;
    }
    if changed {
        applied.repaired.push(format!("{}: permits", names.stream));
    }
    Ok(())
}

async fn remove_permits(
    connection: &Connection,
    spec: &QueueSpec,
    applied: &mut Applied,
) -> Result<(), BrokerError> {
    let names = Names::of(spec);
    if read_consumer(connection, &names.stream, PERMITS)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let subject = format!("CONSUMER.DELETE.{}.{PERMITS}", names.stream);
    match connection
        .api::<Done>("delete consumer", &subject, &Value::Null)
        .await
    {
        Err(failure) if !failure.is_absent() => return Err(failure.told(&names.shown())),
        _ => {}
    }
    purge(connection, &names.stream, &names.all("permit")).await?;
    applied
        .repaired
        .push(format!("{}/{PERMITS}: removed", names.stream));
    Ok(())
}

/// Removes every message of a subject.
pub(crate) async fn purge(
    connection: &Connection,
    stream: &str,
    subject: &str,
) -> Result<(), BrokerError> {
    let api = format!("STREAM.PURGE.{stream}");
    connection
        .api::<Done>("purge", &api, &json!({ "filter": subject }))
        .await
        .map(|_| ())
        .map_err(|failure| failure.told(&format!("stream {stream}")))
}

pub(crate) async fn remove(
    connection: &Connection,
    spec: &QueueSpec,
    removal: Removal,
    clock: &dyn Clock,
) -> Result<Removed, BrokerError> {
    let names = Names::of(spec);
    let mut removed = Removed::default();
    // The queue first: nothing must be delivered any more when the dead letters go.
    for name in [&names.stream, &names.dead_stream] {
        let Some(info) = read_stream(connection, name, None).await? else {
            continue;
        };
        if !is_of(&info.config, spec) {
            continue;
        }
        // Keys, counts and permits are not messages.
        let held = if name == &names.dead_stream {
            info.state.messages
        } else {
            waiting(connection, &names).await? + scheduled(connection, &names).await?
        };
        let delete = match removal {
            Removal::Retain => false,
            Removal::Delete => true,
            Removal::DeleteIfEmpty => held == 0,
        };
        let shown = format!("stream {name}");
        if delete {
            let subject = format!("STREAM.DELETE.{name}");
            match connection
                .api::<Done>("delete stream", &subject, &Value::Null)
                .await
            {
                Err(failure) if !failure.is_absent() => return Err(failure.told(&shown)),
                _ => removed.deleted.push(name.clone()),
            }
            continue;
        }
        if !is_orphaned(&info.config) {
            let marked = orphaned(&info.config, &clock.now().to_string());
            let subject = format!("STREAM.UPDATE.{name}");
            connection
                .api::<StreamInfo>("update stream", &subject, &marked)
                .await
                .map_err(|failure| failure.told(&shown))?;
        }
        removed.retained.push((name.clone(), held));
    }
    Ok(removed)
}

/// Messages that are ready or in flight.
async fn waiting(connection: &Connection, names: &Names) -> Result<u64, BrokerError> {
    let main = messages_on(connection, names, &names.main).await?;
    let groups = messages_on(connection, names, &names.all("group")).await?;
    let fronts = messages_on(connection, names, &names.all("front")).await?;
    Ok(main + groups + fronts)
}

/// Messages on all subjects that match a filter.
pub(crate) async fn messages_on(
    connection: &Connection,
    names: &Names,
    filter: &str,
) -> Result<u64, BrokerError> {
    let mut messages = 0;
    subjects_on(connection, names, filter, |_, count| messages += count).await?;
    Ok(messages)
}

/// Tells every subject that matches a filter with the number of its messages.
pub(crate) async fn subjects_on(
    connection: &Connection,
    names: &Names,
    filter: &str,
    mut tell: impl FnMut(&str, u64),
) -> Result<(), BrokerError> {
    let api = format!("STREAM.INFO.{}", names.stream);
    let mut offset = 0;
    loop {
        let body = json!({ "subjects_filter": filter, "offset": offset });
        let info: StreamInfo = connection
            .api("read stream", &api, &body)
            .await
            .map_err(|failure| failure.told(&names.shown()))?;
        let page = info.state.subjects.unwrap_or_default();
        for (subject, count) in &page {
            tell(subject, *count);
        }
        offset += page.len() as u64;
        if page.is_empty() || offset >= info.total {
            return Ok(());
        }
    }
}

/// Messages that wait for their time. Each has a subject of its own; the page asked for lies behind
/// the last one, so that the server answers their number without listing them.
pub(crate) async fn scheduled(connection: &Connection, names: &Names) -> Result<u64, BrokerError> {
    subjects_in(connection, names, &names.all("retry")).await
}

/// How many subjects match a filter.
pub(crate) async fn subjects_in(
    connection: &Connection,
    names: &Names,
    filter: &str,
) -> Result<u64, BrokerError> {
    let subject = format!("STREAM.INFO.{}", names.stream);
    let body = json!({ "subjects_filter": filter, "offset": 1_000_000_000 });
    let info: StreamInfo = connection
        .api("read stream", &subject, &body)
        .await
        .map_err(|failure| failure.told(&names.shown()))?;
    Ok(info.total)
}
