//! The admin and ops servers, and what happens when a part fails.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::Request;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_broker::{BrokerError, MemoryBroker, SystemClock, Transport};
use weir_core::config::BusConfig;
use weir_sidecar::{Config, ConfigSource, Connect, Listeners, RunError, run};

use crate::harness::{
    Handler, Weir, apply, consumed_by, consumer, get, listener, queue, send, settings, status_of,
    until, webhook,
};

#[tokio::test]
async fn metrics_are_openmetrics_with_the_names_of_the_documentation() {
    let handler =
        Handler::start(|number, _| async move { status_of([500, 200, 410][number.min(2)]) }).await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    weir.post("/webhooks/in", "a").await;
    weir.settled(&object).await;
    weir.post("/webhooks/in", "b").await;
    weir.settled(&object).await;
    let answer = get(weir.admin, "/metrics").await;
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.starts_with("weir_"), "{line}");
    }
    let labels = "kind=\"Webhook\",namespace=\"shop\",name=\"in\"";
    for (series, value) in [
        (format!("weir_messages_received_total{{{labels}}} "), 2.0),
        (
            format!("weir_messages_processed_total{{{labels},outcome=\"acked\"}} "),
            1.0,
        ),
        (
            format!("weir_messages_processed_total{{{labels},outcome=\"retried\"}} "),
            1.0,
        ),
        (
            format!("weir_messages_processed_total{{{labels},outcome=\"deadlettered\"}} "),
            1.0,
        ),
        (
            format!("weir_handler_errors_total{{{labels},class=\"5xx\"}} "),
            1.0,
        ),
        (
            format!("weir_handler_errors_total{{{labels},class=\"4xx\"}} "),
            1.0,
        ),
        (
            format!("weir_handler_duration_seconds_count{{{labels}}} "),
            3.0,
        ),
        (format!("weir_inflight_messages{{{labels}}} "), 0.0),
        (format!("weir_concurrency_limit{{{labels}}} "), 100.0),
        (format!("weir_leases_lost_total{{{labels}}} "), 0.0),
        ("weir_broker_connected{bus=\"memory\"} ".to_owned(), 1.0),
        ("weir_objects ".to_owned(), 1.0),
    ] {
        assert!(
            (weir.metric(&series).await - value).abs() < 0.1,
            "{series}\n{text}"
        );
    }
    for name in [
        "weir_throttled_total",
        "weir_oldest_message_age_seconds",
        "weir_build_info",
    ] {
        assert!(text.contains(name), "{name}");
    }
    until("the depth is scraped", || async {
        weir.metric(&format!("weir_dead_letters{{{labels}}} "))
            .await
            > 0.5
    })
    .await;
}

#[tokio::test]
async fn the_loss_of_the_broker_is_seen_but_makes_nothing_unready() {
    let handler = Handler::answering(200).await;
    let object = consumed_by(webhook("in"), handler.address);
    let weir = Weir::start(vec![object.clone()]).await;
    until("it is ready", || async {
        get(weir.admin, "/ready").await.status == 200
    })
    .await;
    weir.broker.set_reachable(false);
    until("the loss is shown", || async {
        weir.object("in").await["connected"] == false
            && weir.metric("weir_broker_connected{bus=\"memory\"} ").await < 0.5
    })
    .await;
    assert_eq!(get(weir.admin, "/ready").await.status, 200);
    assert_eq!(get(weir.admin, "/live").await.status, 200);
    weir.broker.set_reachable(true);
    weir.post("/webhooks/in", "x").await;
    handler.called(1).await;
}

#[tokio::test]
async fn the_admin_server_says_what_it_has_and_takes_log_filters() {
    let mut quiet = settings();
    let set = Arc::new(Mutex::new(Vec::new()));
    quiet.set_log_filter = Some(Arc::new({
        let set = set.clone();
        move |filter| {
            if filter == "nonsense=" {
                return Err("no level".to_owned());
            }
            set.lock().unwrap().push(filter.to_owned());
            Ok(())
        }
    }));
    let weir = Weir::start_with(vec![webhook("in")], quiet).await;
    let answer = get(weir.admin, "/").await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("/metrics"));
    assert_eq!(
        send(weir.admin, Request::post("/ready"), "").await.status,
        405
    );
    let put = |filter: &'static str| send(weir.admin, Request::put("/log-level"), filter);
    assert_eq!(put("debug\n").await.status, 200);
    assert_eq!(put("nonsense=").await.status, 400);
    let long = "x".repeat(10_000);
    assert_eq!(
        send(weir.admin, Request::put("/log-level"), long)
            .await
            .status,
        400
    );
    assert_eq!(*set.lock().unwrap(), ["debug"]);
}

#[tokio::test]
async fn the_ops_server_shows_queues_and_changes_nothing() {
    let handler = Handler::answering(410).await;
    let object = consumed_by(queue("in"), handler.address);
    let mut waiting = queue("waiting");
    waiting.intake.as_mut().unwrap().delay_seconds = 600;
    let weir = Weir::start(vec![object.clone(), waiting.clone()]).await;
    let id = weir.post("/queueconsumers/in", "poison").await.json()["id"].clone();
    let id = id.as_str().unwrap();
    weir.settled(&object).await;
    send(
        weir.intake,
        Request::post("/queueconsumers/waiting"),
        vec![0xff, 0x00],
    )
    .await;
    for number in 0..3 {
        weir.post("/queueconsumers/waiting", format!("{number}"))
            .await;
    }
    let ops = |path: &str| get(weir.ops, path.to_owned().leak());

    let all = ops("/v1/objects").await.json();
    assert_eq!(all["objects"].as_array().unwrap().len(), 2);
    let depth = ops("/v1/objects/queueconsumer/in/depth").await.json();
    assert_eq!(
        (depth["dead"].as_u64(), depth["ready"].as_u64()),
        (Some(1), Some(0))
    );
    let dead = ops("/v1/objects/qc/in/dead-letters").await.json();
    assert_eq!(dead["items"][0]["id"], id);
    assert_eq!(dead["items"][0]["body"], "poison");
    assert_eq!(dead["items"][0]["failure"]["reason"], "PermanentStatus");
    assert_eq!(dead["items"][0]["failure"]["lastStatus"], 410);
    let one = ops(&format!("/v1/objects/qc/in/dead-letters/{id}"))
        .await
        .json();
    assert_eq!(one, dead["items"][0]);
    assert_eq!(ops("/v1/objects/qc/in/dead-letters/none").await.status, 404);

    let first = ops("/v1/objects/QueueConsumer/waiting/messages?limit=2")
        .await
        .json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["items"][0]["bodyBase64"], "/wA=");
    assert!(first["items"][0]["due"].is_string());
    let next = first["next"].as_u64().unwrap();
    let rest = ops(&format!(
        "/v1/objects/qc/waiting/messages?limit=9&after={next}"
    ))
    .await
    .json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 2);
    assert!(rest["next"].is_null());

    for path in [
        "/",
        "/v1",
        "/v1/objects/in",
        "/v1/objects/thing/in",
        "/v1/objects/qc/other/depth",
        "/v1/objects/qc/in/nothing",
        "/v1/objects/qc/in/depth?namespace=x/y",
        "/v1/objects/qc/in/depth/",
    ] {
        assert_eq!(ops(path).await.status, 404, "{path}");
    }
    assert_eq!(ops("/v1/objects/qc/in/messages?after=x").await.status, 400);
    assert_eq!(
        ops("/v1/objects/qc/in/depth?namespace=other").await.status,
        404
    );
    let delete = Request::delete("/v1/objects/qc/in/dead-letters");
    assert_eq!(send(weir.ops, delete, "").await.status, 405);
    weir.broker.set_reachable(false);
    assert_eq!(ops("/v1/objects/qc/in/depth").await.status, 503);
}

/// Connects when it is told to, or panics.
struct Moody {
    broker: Arc<MemoryBroker>,
    mood: watch::Receiver<&'static str>,
}

#[async_trait]
impl Connect for Moody {
    async fn connect(&self, _: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        let mood = *self.mood.borrow();
        match mood {
            "well" => Ok(self.broker.clone()),
            "angry" => panic!("no more"),
            _ => Err(BrokerError::Unreachable {
                servers: "nats://nats:4222".to_owned(),
                why: "no credentials file".to_owned(),
            }),
        }
    }
}

async fn moody(
    mood: watch::Receiver<&'static str>,
    objects: Vec<weir_core::config::ObjectConfig>,
) -> (
    tokio::task::JoinHandle<Result<(), RunError>>,
    SocketAddr,
    SocketAddr,
    CancellationToken,
) {
    let broker = MemoryBroker::new(Arc::new(SystemClock));
    for object in &objects {
        apply(&broker, object).await;
    }
    let (intake, admin) = (listener().await, listener().await);
    let addresses = (intake.local_addr().unwrap(), admin.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let (keep, updates) = watch::channel(Config::of(objects));
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let running = tokio::spawn(async move {
        let _keep = keep;
        let listeners = Listeners {
            intake,
            admin: Some(admin),
            ops: None,
        };
        let connect = Arc::new(Moody { broker, mood });
        let source = ConfigSource::Updates(updates);
        run(
            source,
            connect,
            Arc::new(SystemClock),
            listeners,
            settings(),
            stop,
        )
        .await
    });
    (running, addresses.0, addresses.1, shutdown)
}

#[tokio::test]
async fn a_bus_that_cannot_be_opened_is_a_problem_and_is_tried_again() {
    let handler = Handler::answering(200).await;
    let object = consumed_by(webhook("in"), handler.address);
    let (set, mood) = watch::channel("bad");
    let (running, intake, admin, shutdown) = moody(mood, vec![object]).await;
    until("the problem is shown", || async {
        let objects = get(admin, "/objects").await.json();
        objects["objects"][0]["problems"][0]["reason"] == "BrokerUnreachable"
    })
    .await;
    assert_eq!(get(admin, "/ready").await.status, 503);
    let answer = send(intake, Request::post("/webhooks/in"), "x").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
    set.send_replace("well");
    until("it is ready", || async {
        get(admin, "/ready").await.status == 200
    })
    .await;
    assert_eq!(
        send(intake, Request::post("/webhooks/in"), "x")
            .await
            .status,
        202
    );
    handler.called(1).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_anywhere_ends_the_run_with_an_error() {
    let (_set, mood) = watch::channel("angry");
    let (running, ..) = moody(mood, vec![webhook("in")]).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .unwrap()
        .unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("no more"), "{error}");
}

#[tokio::test]
async fn two_objects_of_one_name_are_told_apart_by_a_problem() {
    let first = webhook("in");
    let mut second = webhook("in");
    second.object.namespace = "shop-two".to_owned();
    let weir = Weir::start(vec![first.clone(), second.clone()]).await;
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
    assert_eq!(
        (
            weir.depth(&first).await.ready,
            weir.depth(&second).await.ready
        ),
        (1, 0)
    );
    let objects = get(weir.admin, "/objects").await.json();
    assert_eq!(
        objects["objects"][1]["problems"][0]["reason"],
        "AddressTaken"
    );
}

#[tokio::test]
async fn a_consumer_of_a_queue_that_is_gone_says_so_and_goes_on_when_it_is_back() {
    let handler = Handler::answering(200).await;
    let mut object = consumed_by(webhook("in"), handler.address);
    consumer(&mut object).per_replica = 1;
    let broker = MemoryBroker::new(Arc::new(SystemClock));
    let weir = Weir::start_on(broker.clone(), vec![object.clone()], settings()).await;
    until("the missing topology is shown", || async {
        let object = weir.object("in").await;
        let problems = object["problems"].as_array().unwrap().clone();
        problems
            .iter()
            .any(|problem| problem["reason"] == "TopologyMissing")
    })
    .await;
    apply(&broker, &object).await;
    assert_eq!(weir.post("/webhooks/in", "x").await.status, 202);
    handler.called(1).await;
    until("nothing is wrong any more", || async {
        weir.object("in").await["problems"]
            .as_array()
            .unwrap()
            .is_empty()
    })
    .await;
}
