//! Starting, changing, stopping: what a configuration does and what a shutdown loses (nothing).

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use weir_core::config::ObjectConfig;
use weir_sidecar::{Config, ConfigSource, RunError};

use crate::harness::{
    Handler, Weir, apply, by_body, consumed_by, consumer, get, send, settings, status_of, until,
    webhook,
};

#[tokio::test]
async fn a_drain_finishes_what_runs_and_leaves_the_rest_for_others() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(200)).await;
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).per_replica = 3;
    consumer(&mut object).retry.max_attempts = 1;
    let one = Weir::start(vec![object.clone()]).await;
    for number in 0..20 {
        one.post("/webhooks/in", format!("{number}")).await;
    }
    until("calls run", || async { handler.running() == 3 }).await;
    let broker = one.broker.clone();
    let before = handler.count();
    one.stop().await.unwrap();
    assert_eq!(
        (handler.cut(), handler.running()),
        (0, 0),
        "running calls were finished"
    );
    assert!(handler.count() <= before + 3, "nothing new was started");

    let two = Weir::start_on(broker, vec![object.clone()], settings()).await;
    assert_eq!(two.settled(&object).await.dead, 0);
    let counts = by_body(&handler.calls());
    assert_eq!(counts.len(), 20);
    assert!(counts.values().all(|times| *times == 1), "{counts:?}");
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_and_the_message_comes_again() {
    let handler = Handler::start(|number, _| async move {
        if number == 0 {
            sleep(Duration::from_mins(10)).await;
        }
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.lease_seconds = 1;
    let mut short = settings();
    short.drain_deadline = Some(Duration::from_millis(100));
    let one = Weir::start_with(vec![object.clone()], short).await;
    one.post("/webhooks/in", "x").await;
    handler.called(1).await;
    let broker = one.broker.clone();
    let error = one.stop().await.unwrap_err();
    assert!(
        matches!(error, RunError::DrainCutShort { calls: 1 }),
        "{error}"
    );
    let two = Weir::start_on(broker, vec![object.clone()], settings()).await;
    assert_eq!(two.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 2);
}

#[tokio::test]
async fn a_killed_process_loses_nothing() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(30)).await;
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.lease_seconds = 1;
    let mut weir = Weir::start(vec![object.clone()]).await;
    let mut accepted = BTreeSet::new();
    for number in 0..30 {
        let text = format!("{number}");
        assert_eq!(weir.post("/webhooks/in", text.clone()).await.status, 202);
        accepted.insert(text);
        if number % 10 == 9 {
            let broker = weir.broker.clone();
            weir.kill().await;
            weir = Weir::start_on(broker, vec![object.clone()], settings()).await;
        }
    }
    assert_eq!(weir.settled(&object).await.dead, 0);
    let handled: BTreeSet<String> = by_body(&handler.calls()).into_keys().collect();
    assert_eq!(handled, accepted);
}

#[tokio::test]
async fn readiness_ends_before_the_intake_does() {
    let object = webhook("in");
    let mut patient = settings();
    patient.drain_delay = Duration::from_millis(300);
    let weir = Weir::start_with(vec![object.clone()], patient).await;
    assert_eq!(get(weir.admin, "/ready").await.status, 200);
    weir.shutdown.cancel();
    until("it is not ready", || async {
        get(weir.admin, "/ready").await.status == 503
    })
    .await;
    assert_eq!(weir.post("/webhooks/in", "late").await.status, 202);
    assert_eq!(get(weir.admin, "/live").await.status, 200);
    weir.end().await.unwrap();
}

#[tokio::test]
async fn a_handler_that_is_about_to_end_gets_nothing_new_and_costs_no_attempt() {
    let first = Handler::start(|_, _| async {
        sleep(Duration::from_millis(100)).await;
        status_of(200)
    })
    .await;
    let address = first.address;
    let mut object = consumed_by(webhook("in"), address);
    consumer(&mut object).per_replica = 2;
    consumer(&mut object).retry.max_attempts = 1;
    let mut guarded = settings();
    guarded.drain_token = Some("token".to_owned());
    let weir = Weir::start_with(vec![object.clone()], guarded).await;
    for number in 0..10 {
        weir.post("/webhooks/in", format!("{number}")).await;
    }
    first.called(1).await;
    let drain = |token: &str| {
        send(
            weir.admin,
            Request::get("/drain").header("weir-drain-token", token),
            "",
        )
    };
    assert_eq!(get(weir.admin, "/drain").await.status, 403);
    assert_eq!(drain("wrong").await.status, 403);
    assert_eq!(drain("token").await.status, 200);
    let calls = first.count();
    assert_eq!((first.running(), first.cut()), (0, 0));
    assert!(calls < 10);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(
        first.count(),
        calls,
        "the handler still answers, but gets nothing"
    );
    first.stop().await;
    until("it is gone", || async {
        weir.object("in").await["consumer"]["handlerLeaving"] == false
    })
    .await;

    let again = tokio::net::TcpListener::bind(address).await.unwrap();
    let second = Handler::start_on(again, |_, _| async { status_of(200) });
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(second.count(), 10 - calls);
}

#[tokio::test]
async fn changes_apply_to_the_next_call_and_cut_none() {
    let old = Handler::start(|_, _| async {
        sleep(Duration::from_millis(200)).await;
        status_of(200)
    })
    .await;
    let new = Handler::answering(200).await;
    let mut object = consumed_by(webhook("in"), old.address);
    consumer(&mut object).per_replica = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    for number in 0..10 {
        weir.post("/webhooks/in", format!("{number}")).await;
    }
    old.called(1).await;
    consumer(&mut object).target = consumed_by(webhook("in"), new.address)
        .consumer
        .unwrap()
        .target;
    consumer(&mut object).per_replica = 2;
    weir.reconfigure(vec![object.clone()]).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!((old.count(), old.cut(), new.count()), (1, 0, 9));
}

#[tokio::test]
async fn a_paused_consumer_pulls_nothing_and_goes_on_when_it_is_not() {
    let handler = Handler::answering(200).await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "0").await;
    handler.called(1).await;
    for limit in [true, false] {
        // By `paused`, and by a limit of 0.
        let mut stopped = object.clone();
        if limit {
            stopped.queue.limit = 0;
        } else {
            consumer(&mut stopped).paused = true;
        }
        weir.reconfigure(vec![stopped]).await;
        until("pulling stops", || async {
            weir.object("in").await["consumer"]["pulling"] == false
        })
        .await;
        let before = handler.count();
        weir.post("/webhooks/in", "waits").await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(
            (handler.count(), weir.depth(&object).await.ready),
            (before, 1)
        );
        weir.reconfigure(vec![object.clone()]).await;
        handler.called(before + 1).await;
        weir.settled(&object).await;
    }
}

#[tokio::test]
async fn objects_come_and_go_without_touching_others() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(100)).await;
        status_of(200)
    })
    .await;
    let (kept, gone) = (
        consumed_by(webhook("kept"), handler.address),
        consumed_by(webhook("gone"), handler.address),
    );
    let weir = Weir::start(vec![kept.clone(), gone.clone()]).await;
    weir.post("/webhooks/gone", "gone").await;
    weir.post("/webhooks/kept", "kept").await;
    handler.called(2).await;
    weir.reconfigure(vec![kept.clone()]).await;
    weir.served(1).await;
    assert_eq!(weir.post("/webhooks/gone", "x").await.status, 404);
    assert_eq!(weir.post("/webhooks/kept", "more").await.status, 202);
    weir.settled(&gone).await;
    weir.settled(&kept).await;
    assert_eq!((handler.count(), handler.cut()), (3, 0));
    let metrics = get(weir.admin, "/metrics").await.text();
    assert!(!metrics.contains("name=\"gone\""));

    weir.reconfigure(vec![kept, gone.clone()]).await;
    weir.served(2).await;
    assert_eq!(weir.post("/webhooks/gone", "back").await.status, 202);
    handler.called(4).await;
}

fn write(dir: &std::path::Path, object: &ObjectConfig) {
    fs::write(
        dir.join(ObjectConfig::file_name(&object.object)),
        object.to_json(),
    )
    .unwrap();
}

#[tokio::test]
async fn a_folder_is_followed_and_a_bad_document_keeps_what_there_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, two) = (webhook("one"), webhook("two"));
    let broker = weir_broker::MemoryBroker::new(Arc::new(weir_broker::SystemClock));
    for object in [&one, &two] {
        apply(&broker, object).await;
    }
    write(dir.path(), &one);
    let source = ConfigSource::Directory {
        path: dir.path().to_owned(),
        reload: Arc::new(Notify::new()),
    };
    let unused = watch::Sender::new(Arc::new(Config::default()));
    let weir = Weir::start_from(broker, source, unused, settings()).await;
    weir.served(1).await;
    assert_eq!(weir.post("/webhooks/one", "x").await.status, 202);

    // A subfolder, as projected ConfigMaps have them.
    fs::create_dir(dir.path().join("1")).unwrap();
    write(&dir.path().join("1"), &two);
    weir.served(2).await;
    assert_eq!(weir.post("/webhooks/two", "x").await.status, 202);

    let file = dir.path().join(ObjectConfig::file_name(&one.object));
    for (text, reason) in [("{", "Shape"), ("{\"version\":999}", "Version")] {
        fs::write(&file, text).unwrap();
        until("the error is shown", || async {
            get(weir.admin, "/config").await.json()["errors"][0]["reason"] == reason
        })
        .await;
        assert_eq!(weir.post("/webhooks/one", "x").await.status, 202);
        assert_eq!(get(weir.admin, "/ready").await.status, 200);
        let series = format!("weir_config_errors_total{{reason=\"{reason}\"}} ");
        assert!((weir.metric(&series).await - 1.0).abs() < 0.1);
    }

    one.intake.as_mut().unwrap().status = 200;
    write(dir.path(), &one);
    until("the new document is used", || async {
        weir.post("/webhooks/one", "x").await.status == 200
    })
    .await;
    let config = get(weir.admin, "/config").await.json();
    assert_eq!(config["errors"].as_array().unwrap().len(), 0);

    fs::remove_file(&file).unwrap();
    weir.served(1).await;
    assert_eq!(weir.post("/webhooks/one", "x").await.status, 404);
    // The folder goes away for a moment, as a volume may: nothing is forgotten.
    fs::rename(dir.path().join("1"), dir.path().join(".1")).unwrap();
    weir.served(0).await;
    fs::rename(dir.path().join(".1"), dir.path().join("1")).unwrap();
    weir.served(1).await;
}

#[tokio::test]
async fn a_folder_is_swapped_by_its_link_as_the_kubelet_does() {
    let dir = tempfile::tempdir().unwrap();
    let object = webhook("one");
    let broker = weir_broker::MemoryBroker::new(Arc::new(weir_broker::SystemClock));
    apply(&broker, &object).await;
    let name = ObjectConfig::file_name(&object.object);
    let version = |number: u32, object: &ObjectConfig| {
        let folder = dir.path().join(format!("..version{number}"));
        fs::create_dir(&folder).unwrap();
        write(&folder, object);
        let link = dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(format!("..version{number}"), &link).unwrap();
        fs::rename(&link, dir.path().join("..data")).unwrap();
    };
    version(1, &object);
    std::os::unix::fs::symlink(format!("..data/{name}"), dir.path().join(&name)).unwrap();
    let source = ConfigSource::Directory {
        path: dir.path().to_owned(),
        reload: Arc::new(Notify::new()),
    };
    let unused = watch::Sender::new(Arc::new(Config::default()));
    let weir = Weir::start_from(broker, source, unused, settings()).await;
    weir.served(1).await;
    let mut changed = object.clone();
    changed.intake.as_mut().unwrap().status = 201;
    version(2, &changed);
    until("the new version is used", || async {
        weir.post("/webhooks/one", "x").await.status == 201
    })
    .await;
}

#[tokio::test]
async fn nothing_is_ready_before_there_is_a_configuration() {
    let source = ConfigSource::Directory {
        path: "/nonexistent/weir".into(),
        reload: Arc::new(Notify::new()),
    };
    let unused = watch::Sender::new(Arc::new(Config::default()));
    let broker = weir_broker::MemoryBroker::new(Arc::new(weir_broker::SystemClock));
    let weir = Weir::start_from(broker, source, unused, settings()).await;
    until("the folder is missed", || async {
        get(weir.admin, "/config").await.json()["errors"][0]["reason"] == "Folder"
    })
    .await;
    assert_eq!(get(weir.admin, "/ready").await.status, 503);
    assert_eq!(get(weir.admin, "/live").await.status, 200);
}
