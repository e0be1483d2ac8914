//! What a NATS server alone does with handled messages of 1,000 subjects, one confirmed removal each, 64 at
//! once: the ceiling of a FIFO queue that removes what was handled one by one.
//! `cargo run --profile fast -p weir-conformance --example removal -- 2.15.1`.
#![expect(clippy::unwrap_used, reason = "a measurement")]

use async_nats::jetstream::{self, Context};
use futures::StreamExt as _;
use futures::stream;
use serde_json::json;
use tokio::time::Instant;
use weir_conformance::server::Server;

const SUBJECTS: usize = 1000;
const EACH: usize = 60;
const AT_ONCE: usize = 64;
const ROUNDS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `STREAM.PURGE` of the subject up to the message.
    Purge,
    /// `STREAM.MSG.DELETE` of the message, overwritten.
    Delete,
    /// The same without overwriting it.
    NoErase,
    /// What is handled is noted for 64 subjects in one stored message; each subject is purged once.
    Noted,
    /// One purge of a subject for all that was handled of it.
    PurgeOnce,
    /// A publication to another subject, as large as a note.
    Publish,
}

const ALL: [How; 6] = [
    How::Purge,
    How::Delete,
    How::NoErase,
    How::Noted,
    How::PurgeOnce,
    How::Publish,
];

#[tokio::main]
async fn main() {
    let version = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "2.15.1".to_owned());
    for _ in 0..ROUNDS {
        for how in ALL {
            let rate = removed(&version, how).await;
            println!("nats {version} {how:?} {rate:.0} messages/s");
        }
    }
}

async fn removed(version: &str, how: How) -> f64 {
    let server = Server::start(version, Vec::new());
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client);
    let config = jetstream::stream::Config {
        name: "RAW".to_owned(),
        subjects: vec!["raw.*".to_owned(), "note.*".to_owned()],
        allow_direct: true,
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let context = &context;
    stream::iter(0..SUBJECTS * EACH)
        .map(|number| async move {
            let subject = format!("raw.g{}", number % SUBJECTS);
            let stored = context.publish(subject, vec![b'x'; 1024].into()).await;
            stored.unwrap().await.unwrap();
        })
        .buffered(256)
        .for_each(|()| async {})
        .await;
    let started = Instant::now();
    if how == How::Noted {
        let notes = async {
            for _ in 0..SUBJECTS * EACH / AT_ONCE {
                let note = vec![b'x'; 40 * AT_ONCE];
                let stored = context.publish("note.p", note.into()).await;
                stored.unwrap().await.unwrap();
            }
        };
        tokio::join!(notes, each(context, How::PurgeOnce));
    } else {
        each(context, how).await;
    }
    (SUBJECTS * EACH) as f64 / started.elapsed().as_secs_f64()
}

async fn each(context: &Context, how: How) {
    stream::iter(0..SUBJECTS)
        .map(|subject| async move {
            for number in 0..EACH {
                let sequence = number * SUBJECTS + subject + 1;
                match how {
                    How::PurgeOnce if number + 1 < EACH => {}
                    How::Purge | How::PurgeOnce | How::Noted => {
                        let filter = format!("raw.g{subject}");
                        let body = json!({ "filter": filter, "seq": sequence + 1 });
                        asked(context, "STREAM.PURGE.RAW", &body).await;
                    }
                    How::Delete | How::NoErase => {
                        let body = json!({ "seq": sequence, "no_erase": how == How::NoErase });
                        asked(context, "STREAM.MSG.DELETE.RAW", &body).await;
                    }
                    How::Publish => {
                        let stored = context.publish("note.p", vec![b'x'; 64].into()).await;
                        stored.unwrap().await.unwrap();
                    }
                }
            }
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|()| async {})
        .await;
}

async fn asked(context: &Context, api: &str, body: &serde_json::Value) {
    let answer: serde_json::Value = context.request(api.to_owned(), body).await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
}
