//! What a NATS server does with handled messages if removing them one call after the other in each of 1,000
//! subjects is all that it does.

use async_nats::jetstream::{self, Context};
use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_conformance::server::Server;

use super::{AT_ONCE, BODY, GROUPS, MESSAGES};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `STREAM.PURGE` of the subject up to the message.
    Purge,
    /// `STREAM.MSG.DELETE` of each message, without overwriting it.
    Delete,
}

/// Messages a second that are removed, `batch` at once of a subject.
pub async fn removed(version: &str, how: How, batch: usize) -> f64 {
    let server = Server::start(version, Vec::new());
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "RAW".to_owned(),
        subjects: vec!["raw.*".to_owned()],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let context = &context;
    stream::iter(0..MESSAGES)
        .map(|number| async move {
            let subject = format!("raw.g{}", number % GROUPS);
            let stored = context.publish(subject, vec![b'x'; BODY].into()).await;
            stored.unwrap().await.unwrap();
        })
        .buffered(256)
        .for_each(|()| async {})
        .await;
    let started = Instant::now();
    stream::iter(0..GROUPS)
        .map(|group| async move {
            let all: Vec<usize> = (group..MESSAGES).step_by(GROUPS).collect();
            for call in all.chunks(batch) {
                match how {
                    How::Purge => {
                        let last = call.last().unwrap() + 1;
                        let body = json!({ "filter": format!("raw.g{group}"), "seq": last + 1 });
                        asked(context, "STREAM.PURGE.RAW", &body).await;
                    }
                    How::Delete => {
                        for number in call {
                            let body = json!({ "seq": number + 1, "no_erase": true });
                            asked(context, "STREAM.MSG.DELETE.RAW", &body).await;
                        }
                    }
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|()| async {})
        .await;
    let rate = MESSAGES as f64 / started.elapsed().as_secs_f64();
    eprintln!("  {how:?} {rate:8.0}/s");
    rate
}

async fn asked(context: &Context, api: &str, body: &Value) {
    let answer: Value = context.request(api.to_owned(), body).await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
}
