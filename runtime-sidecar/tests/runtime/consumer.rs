//! Limits, retries, dead letters and the life of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;
use weir_core::config::TargetConfig;
use weir_core::dead_letter::Reason;

use crate::harness::{
    Handler, Weir, by_body, consumed_by, consumer, listener, settings, status_of, until, webhook,
};

const SOON: Duration = Duration::from_millis(20);

async fn post_many(weir: &Weir, count: usize) {
    for number in 0..count {
        let answer = weir.post("/webhooks/in", format!("message {number}")).await;
        assert_eq!(answer.status, 202);
    }
}

#[tokio::test]
async fn a_burst_is_throttled_to_the_limit_and_costs_no_attempt() {
    let handler = Handler::start(|_, _| async {
        sleep(SOON).await;
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.limit = 2;
    let weir = Weir::start(vec![object.clone()]).await;
    post_many(&weir, 60).await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.most(), 2);
    assert_eq!(handler.count(), 60);
    assert!(
        handler
            .calls()
            .iter()
            .all(|call| call.header("weir-attempt") == "1")
    );
}

#[tokio::test]
async fn one_replica_makes_at_most_its_own_number_of_calls_at_once() {
    let handler = Handler::start(|_, _| async {
        sleep(SOON).await;
        status_of(204)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).per_replica = 3;
    let weir = Weir::start(vec![object.clone()]).await;
    post_many(&weir, 30).await;
    weir.settled(&object).await;
    assert_eq!((handler.most(), handler.count()), (3, 30));
}

#[tokio::test]
async fn a_storm_of_429_ends_with_everything_handled_and_no_dead_letter() {
    let handler =
        Handler::start(|number, _| async move { status_of(if number < 11 { 429 } else { 200 }) })
            .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).retry.max_attempts = 1;
    // Everything at once: ten calls are refused together, then one trial.
    consumer(&mut object).paused = true;
    let weir = Weir::start(vec![object.clone()]).await;
    post_many(&weir, 40).await;
    consumer(&mut object).paused = false;
    weir.reconfigure(vec![object.clone()]).await;
    let depth = weir.settled(&object).await;
    assert_eq!(depth.dead, 0);
    let calls = handler.calls();
    assert!(calls.iter().all(|call| call.header("weir-attempt") == "1"));
    assert_eq!(by_body(&calls[11..]).len(), 40);
    assert_eq!(
        calls.len(),
        11 + 40,
        "each was accepted once, and refusals did not multiply"
    );
    let series = "weir_throttled_total{kind=\"Webhook\",namespace=\"shop\",name=\"in\"} ";
    assert!((weir.metric(series).await - 11.0).abs() < 0.1);
}

#[tokio::test]
async fn poison_is_dead_lettered_after_its_attempts_with_what_is_known() {
    let handler = Handler::start(|_, _| async {
        let mut answer = status_of(500);
        *answer.body_mut() = http_body_util::Full::new("x".repeat(5000).into());
        answer
    })
    .await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "poison").await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    let attempts: Vec<_> = handler
        .calls()
        .iter()
        .map(|it| it.header("weir-attempt").to_owned())
        .collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    let letter = &letters.items[0].letter;
    assert_eq!(&letter.message.body[..], b"poison");
    assert_eq!(
        (letter.failure.reason, letter.failure.attempts),
        (Reason::MaxAttempts, 3)
    );
    assert_eq!(
        (letter.failure.last_status, letter.failure.answer.len()),
        (Some(500), 1024)
    );
}

#[tokio::test]
async fn a_permanent_status_dead_letters_at_once() {
    let handler = Handler::answering(410).await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "gone").await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    assert_eq!(handler.count(), 1);
    let letters = weir.queue(&object).dead_letters(None, 10).await.unwrap();
    assert_eq!(
        letters.items[0].letter.failure.reason,
        Reason::PermanentStatus
    );
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cut_and_counted() {
    let handler = Handler::start(|number, _| async move {
        if number == 0 {
            sleep(Duration::from_mins(10)).await;
        }
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).timeout_seconds = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "slow").await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.calls()[1].header("weir-attempt"), "2");
    until("the handler sees that its caller is gone", || async {
        handler.cut() == 1
    })
    .await;
    assert_eq!(
        handler.most(),
        1,
        "the connection was closed before the next attempt"
    );
}

#[tokio::test]
async fn a_handler_that_is_down_costs_no_attempt_until_it_is_up() {
    let place = listener().await;
    let address = place.local_addr().unwrap();
    drop(place);
    let mut object = consumed_by(webhook("in"), address);
    consumer(&mut object).retry.max_attempts = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    post_many(&weir, 5).await;
    until("it is known that the handler is down", || async {
        weir.object("in").await["consumer"]["handlerReady"] == false
    })
    .await;
    assert_eq!(crate::harness::get(weir.admin, "/ready").await.status, 503);

    let again = tokio::net::TcpListener::bind(address).await.unwrap();
    let handler = Handler::start_on(again, |_, _| async { status_of(200) });
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 5);
    assert!(
        handler
            .calls()
            .iter()
            .all(|call| call.header("weir-attempt") == "1")
    );
    assert_eq!(crate::harness::get(weir.admin, "/ready").await.status, 200);
}

#[tokio::test]
async fn a_handler_that_crashes_gets_its_message_again_and_nothing_else_until_it_is_back() {
    let first = Handler::start(|_, _| std::future::pending()).await;
    let address = first.address;
    let mut object = consumed_by(webhook("in"), address);
    object.queue.limit = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    post_many(&weir, 3).await;
    first.called(1).await;
    first.stop().await;
    until("pulling has stopped", || async {
        weir.object("in").await["consumer"]["pulling"] == false
    })
    .await;
    let again = tokio::net::TcpListener::bind(address).await.unwrap();
    let second = Handler::start_on(again, |_, _| async { status_of(200) });
    assert_eq!(weir.settled(&object).await.dead, 0);
    let mut attempts: Vec<_> = second
        .calls()
        .iter()
        .map(|it| it.header("weir-attempt").to_owned())
        .collect();
    attempts.sort();
    assert_eq!(attempts, ["1", "1", "2"]);
}

#[tokio::test]
async fn a_readiness_path_is_asked_before_the_first_message() {
    let ready = Arc::new(AtomicBool::new(false));
    let handler = Handler::start({
        let ready = ready.clone();
        move |_, call| {
            let up = call.path != "/healthz" || ready.load(Ordering::SeqCst);
            async move { status_of(if up { 200 } else { 503 }) }
        }
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).target = TargetConfig::Handler {
        url: format!("http://{}/in", handler.address),
        readiness_path: Some("/healthz".to_owned()),
    };
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "first").await;
    handler.called(3).await;
    assert!(handler.calls().iter().all(|call| call.path == "/healthz"));
    ready.store(true, Ordering::SeqCst);
    weir.settled(&object).await;
    assert_eq!(
        handler
            .calls()
            .iter()
            .filter(|call| call.path == "/in")
            .count(),
        1
    );
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = Handler::answering(200).await;
    let location = format!("http://{}/", elsewhere.address);
    let handler = Handler::start(move |_, _| {
        let location = location.clone();
        async move {
            let mut answer = status_of(307);
            answer
                .headers_mut()
                .insert("location", location.parse().unwrap());
            answer
        }
    })
    .await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "x").await;
    assert_eq!(weir.settled(&object).await.dead, 1);
    assert_eq!((handler.count(), elsewhere.count()), (3, 0));
}

#[tokio::test]
async fn a_call_longer_than_the_lease_is_kept_by_heartbeats() {
    let handler = Handler::start(|_, _| async {
        sleep(Duration::from_millis(2500)).await;
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.lease_seconds = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "long").await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 1);
}

#[tokio::test]
async fn without_a_broker_for_a_lease_the_call_is_cut_and_the_message_comes_again() {
    let handler = Handler::start(|number, _| async move {
        if number == 0 {
            sleep(Duration::from_mins(10)).await;
        }
        status_of(200)
    })
    .await;
    let mut object = consumed_by(webhook("in"), handler.address);
    object.queue.lease_seconds = 1;
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "x").await;
    handler.called(1).await;
    weir.broker.set_reachable(false);
    until("the call is cut", || async { handler.cut() == 1 }).await;
    weir.broker.set_reachable(true);
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!((handler.count(), handler.most()), (2, 1));
    let series = "weir_leases_lost_total{kind=\"Webhook\",namespace=\"shop\",name=\"in\"} ";
    assert!((weir.metric(series).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn a_settlement_waits_for_the_broker_to_come_back() {
    let (hold, held) = (
        Arc::new(tokio::sync::Notify::new()),
        Arc::new(AtomicBool::new(false)),
    );
    let handler = Handler::start({
        let (hold, held) = (hold.clone(), held.clone());
        move |_, _| {
            let (hold, held) = (hold.clone(), held.clone());
            async move {
                hold.notified().await;
                held.store(true, Ordering::SeqCst);
                status_of(200)
            }
        }
    })
    .await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "x").await;
    handler.called(1).await;
    weir.broker.set_reachable(false);
    hold.notify_one();
    until("the handler has answered", || async {
        held.load(Ordering::SeqCst)
    })
    .await;
    sleep(SOON).await;
    weir.broker.set_reachable(true);
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(
        handler.count(),
        1,
        "an answer that could not be stored at once is not asked again"
    );
}

/// A server that answers `answer` to each request, one request per connection, and closes.
fn raw(answer: Vec<u8>, listener: tokio::net::TcpListener) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut byte = [0; 1024];
                match stream.read(&mut byte).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => head.extend_from_slice(&byte[..read]),
                }
            }
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    tasks
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_attempt() {
    let place = listener().await;
    let mut object = consumed_by(webhook("in"), place.local_addr().unwrap());
    consumer(&mut object).retry.max_attempts = 1;
    // Promises to keep the connection, and closes it.
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let _server = raw(answer, place);
    let weir = Weir::start(vec![object.clone()]).await;
    for number in 0..20 {
        weir.post("/webhooks/in", format!("{number}")).await;
        assert_eq!(weir.settled(&object).await.dead, 0);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_and_its_status_counts() {
    let place = listener().await;
    let object = consumed_by(webhook("in"), place.local_addr().unwrap());
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
    answer.resize(3 * 1024 * 1024, b'x');
    let _server = raw(answer, place);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "x").await;
    assert_eq!(weir.settled(&object).await.dead, 0);
}

#[tokio::test]
async fn answers_that_are_not_http_or_have_endless_headers_are_failures() {
    let mut bomb = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..100_000 {
        bomb.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
    }
    for answer in [bomb, b"SSH-2.0-OpenSSH\r\n".to_vec(), Vec::new()] {
        let place = listener().await;
        let object = consumed_by(webhook("in"), place.local_addr().unwrap());
        let _server = raw(answer, place);
        let weir = Weir::start(vec![object.clone()]).await;
        weir.post("/webhooks/in", "x").await;
        assert_eq!(weir.settled(&object).await.dead, 1);
        let letters = weir.queue(&object).dead_letters(None, 1).await.unwrap();
        assert_eq!(letters.items[0].letter.failure.reason, Reason::MaxAttempts);
        assert_eq!(letters.items[0].letter.failure.last_status, None);
    }
}

#[tokio::test]
async fn a_target_on_this_machine_is_refused_unless_the_run_is_local() {
    let handler = Handler::answering(200).await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).target = TargetConfig::Url {
        url: format!("http://{}/", handler.address),
    };
    let mut strict = settings();
    strict.allow_loopback_targets = false;
    let weir = Weir::start_with(vec![object.clone()], strict).await;
    weir.post("/webhooks/in", "x").await;
    until("the target is refused", || async {
        weir.object("in").await["problems"][0]["reason"] == "TargetInvalid"
    })
    .await;
    assert_eq!((handler.count(), weir.depth(&object).await.ready), (0, 1));
    weir.stop().await.unwrap();

    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "x").await;
    assert_eq!(weir.settled(&object).await.dead, 0);
    assert_eq!(handler.count(), 1);
}
