//! What is refused, with which reason, and what the user is told to do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::large_stack_arrays,
    reason = "a test program"
)]

mod support;

use serde_json::{Value, json};
use support::manifest;
use weir_core::config::BusConfig;
use weir_crds::conditions::Reason;
use weir_operator::kinds::Object;
use weir_operator::plan::{Plan, Rejected};
use weir_operator::world::{Cluster, Local, Name, World};

const BUSES: &str = r#"
{kind: MessageBus, apiVersion: weir.dev/v1alpha1, metadata: {name: default, namespace: shop}, spec: {nats: {servers: ["nats://n:4222"]}}}
---
{kind: MessageBus, apiVersion: weir.dev/v1alpha1, metadata: {name: memory, namespace: shop}, spec: {memory: {}}}
---
{kind: MessageBus, apiVersion: weir.dev/v1alpha1, metadata: {name: both, namespace: shop}, spec: {memory: {}, nats: {servers: ["nats://n:4222"]}}}
---
{kind: MessageBus, apiVersion: weir.dev/v1alpha1, metadata: {name: rabbit, namespace: shop}, spec: {rabbitmq: {uriSecret: {name: rmq, key: uri}, tls: {caSecret: {name: ca, key: ca.crt}}, replicas: 1}}}
---
{kind: MessageBus, apiVersion: weir.dev/v1alpha1, metadata: {name: remembering, namespace: shop}, spec: {rabbitmq: {uriSecret: {name: rmq, key: uri}}, state: {nats: {servers: ["nats://n:4222"], credentialsSecret: {name: creds, key: user.creds}}}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: own, namespace: shop}, spec: {to: {url: "http://a"}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: closed, namespace: other}, spec: {to: {url: "http://a"}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: listed, namespace: other}, spec: {to: {url: "http://a"}, allowedFrom: {namespaces: Listed, names: [a, shop]}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: open, namespace: other}, spec: {to: {url: "http://a"}, allowedFrom: {namespaces: All}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: back, namespace: shop}, spec: {to: {kind: QueueConsumer, name: subject}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: far, namespace: shop}, spec: {to: {kind: QueueConsumer, name: back}}}
---
{kind: FifoConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: ordered, namespace: shop}, spec: {to: {url: "http://a"}}}
---
{kind: FifoConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: other-way, namespace: shop}, spec: {to: {kind: FifoConsumer, name: subject}}}
---
{kind: QueueConsumer, apiVersion: weir.dev/v1alpha1, metadata: {name: round, namespace: shop}, spec: {to: {kind: QueueConsumer, name: round}}}
"#;

fn world(cluster: Cluster) -> World {
    let mut world = World::cluster(cluster);
    for object in &manifest::objects(BUSES) {
        object.add_to(&mut world);
    }
    world
        .service_accounts
        .insert(Name::new("shop", "plain"), false);
    world
        .service_accounts
        .insert(Name::new("shop", "allowed"), true);
    world
}

fn queue(spec: Value) -> Object {
    Object::QueueConsumer(
        serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "QueueConsumer",
            "metadata": { "name": "subject", "namespace": "shop", "uid": "u" },
            "spec": spec,
        }))
        .unwrap(),
    )
}

fn fifo(spec: Value) -> Object {
    let mut spec = spec;
    if spec.get("handler").is_none() && spec.get("to").is_none() {
        spec["handler"] = json!({ "image": "i" });
    }
    Object::FifoConsumer(
        serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "FifoConsumer",
            "metadata": { "name": "subject", "namespace": "shop", "uid": "u" },
            "spec": spec,
        }))
        .unwrap(),
    )
}

fn webhook(spec: Value) -> Object {
    let mut spec = spec;
    if spec.get("verify").is_none() {
        spec["verify"] = json!({ "scheme": "None" });
    }
    if spec.get("to").is_none() {
        spec["to"] = json!({ "url": "http://a" });
    }
    Object::Webhook(
        serde_json::from_value(json!({
            "apiVersion": "weir.dev/v1alpha1",
            "kind": "Webhook",
            "metadata": { "name": "subject", "namespace": "shop", "uid": "u" },
            "spec": spec,
        }))
        .unwrap(),
    )
}

fn decide(object: &Object) -> Result<Plan, Rejected> {
    object.decide(&world(Cluster::default()))
}

#[track_caller]
fn rejected(object: &Object, reason: Reason, advice: &str) {
    let rejected = decide(object).unwrap_err();
    assert_eq!(rejected.reason, reason, "{}", rejected.message);
    assert!(
        rejected.message.contains(advice),
        "{:?} lacks {advice:?}",
        rejected.message
    );
}

fn to(target: Value) -> Object {
    queue(json!({ "to": target }))
}

fn handler(field: &str, value: Value) -> Object {
    let mut handler = json!({ "image": "i" });
    handler[field] = value;
    queue(json!({ "handler": handler }))
}

#[test]
fn what_this_version_lacks_is_refused_and_never_ignored() {
    let url = json!({ "url": "http://a" });
    let with = |field: &str, value: Value| {
        let mut spec = json!({ "to": url });
        spec[field] = value;
        spec
    };
    rejected(
        &queue(with("circuitBreaker", json!("payments"))),
        Reason::Unsupported,
        "remove the field",
    );
    rejected(
        &queue(with("scaling", json!({ "provider": "Push" }))),
        Reason::Unsupported,
        "write Auto or None",
    );
    rejected(
        &queue(with("scaling", json!({ "provider": "Builtin" }))),
        Reason::Unsupported,
        "write Auto or None",
    );
    rejected(
        &handler("protocol", json!("Lambda")),
        Reason::Unsupported,
        "use CloudEvents or HTTP",
    );
    for kind in [
        "Function",
        "Notifier",
        "Router",
        "FanOut",
        "Stream",
        "StateMachine",
    ] {
        rejected(
            &to(json!({ "kind": kind, "name": "x" })),
            Reason::Unsupported,
            "spec.to.url",
        );
    }
    let route = json!({ "route": { "gatewayRef": { "name": "public" }, "path": "/in" } });
    rejected(&webhook(route), Reason::Unsupported, "status.url");
    let verify = json!({ "verify": {
        "scheme": "HmacSha256", "secretRef": { "name": "s" },
        "hmac": { "header": "x", "payload": "TimestampDotBody" },
    } });
    rejected(&webhook(verify), Reason::InvalidSpec, "timestampHeader");
}

#[test]
fn a_webhook_that_looks_protected_is() {
    let verify = json!({ "verify": { "scheme": "Stripe" } });
    rejected(
        &webhook(verify),
        Reason::InvalidSpec,
        "or write scheme: None",
    );
    let verify = json!({ "verify": { "scheme": "HmacSha256", "secretRef": { "name": "s" } } });
    rejected(&webhook(verify), Reason::InvalidSpec, "spec.verify.hmac");
}

#[test]
fn the_bus_is_the_named_one_else_the_default_else_the_operators() {
    let named = |bus: &str| queue(json!({ "bus": bus, "to": { "url": "http://a" } }));
    assert_eq!(
        decide(&named("default")).unwrap().bus.name,
        Name::new("shop", "default")
    );
    rejected(
        &named("none"),
        Reason::BusNotFound,
        "create a MessageBus named none",
    );
    rejected(&named("memory"), Reason::MemoryInCluster, "write spec.nats");
    rejected(&named("both"), Reason::InvalidSpec, "exactly one");

    let unnamed = queue(json!({ "to": { "url": "http://a" } }));
    assert_eq!(
        decide(&unnamed).unwrap().bus.name,
        Name::new("shop", "default")
    );

    let mut bare = world(Cluster::default());
    bare.buses.remove(&Name::new("shop", "default"));
    let message = unnamed.decide(&bare).unwrap_err().message;
    assert!(
        message.contains("create a MessageBus named default in namespace shop"),
        "{message}"
    );

    let default_bus = Some(Name::new("weir-system", "nats"));
    let mut bare = world(Cluster {
        default_bus,
        ..Cluster::default()
    });
    let own = bare.buses.remove(&Name::new("shop", "default")).unwrap();
    let message = unnamed.decide(&bare).unwrap_err().message;
    assert!(
        message.contains("nor the operator's default weir-system/nats"),
        "{message}"
    );
    bare.buses.insert(Name::new("weir-system", "nats"), own);
    assert_eq!(
        unnamed.decide(&bare).unwrap().bus.name,
        Name::new("weir-system", "nats")
    );
}

#[test]
fn rabbitmq_is_reached_by_files_and_remembers_only_with_a_state() {
    let on = |bus: &str| json!({ "bus": bus, "to": { "url": "http://a" } });
    let bus = decide(&queue(on("rabbit"))).unwrap().bus;
    let folder = "/etc/weir/bus/shop.rabbit";
    assert_eq!(
        bus.config.files(),
        [format!("{folder}/uri/uri"), format!("{folder}/ca/ca.crt")]
    );
    assert_eq!(bus.replicas, 1);

    let deduplicated = |bus: &str| {
        let mut spec = on(bus);
        spec["deduplicate"] = json!({ "by": "ContentHash" });
        queue(spec)
    };
    rejected(
        &deduplicated("rabbit"),
        Reason::Unsupported,
        "add spec.state (NATS) to MessageBus shop/rabbit",
    );
    let bus = decide(&deduplicated("remembering")).unwrap().bus;
    let folder = "/etc/weir/bus/shop.remembering";
    assert_eq!(
        bus.config.files(),
        [
            format!("{folder}/uri/uri"),
            format!("{folder}/state-credentials/user.creds")
        ]
    );
    let mounted: Vec<String> = bus
        .secrets
        .iter()
        .map(weir_operator::bus::BusSecret::file)
        .collect();
    assert_eq!(mounted, bus.config.files(), "every file is mounted");
}

#[test]
fn a_queue_in_another_namespace_takes_messages_only_with_consent() {
    let other =
        |name: &str| to(json!({ "kind": "QueueConsumer", "name": name, "namespace": "other" }));
    rejected(
        &other("none"),
        Reason::TargetNotFound,
        "create it, or change spec.to",
    );
    rejected(
        &other("closed"),
        Reason::TargetNotAllowed,
        "spec.allowedFrom",
    );
    assert!(decide(&other("listed")).is_ok());
    assert!(decide(&other("open")).is_ok());
    let plan = decide(&to(json!({ "kind": "QueueConsumer", "name": "own" }))).unwrap();
    let config = serde_json::to_value(plan.config.runtime.unwrap()).unwrap();
    assert_eq!(
        config["consumer"]["target"]["url"]["url"],
        "http://weir-runtime.shop.svc/queueconsumers/own"
    );
}

#[test]
fn queues_that_send_in_a_circle_are_refused() {
    let queue = |name: &str| to(json!({ "kind": "QueueConsumer", "name": name }));
    rejected(&queue("subject"), Reason::TargetLoop, "itself");
    rejected(&queue("back"), Reason::TargetLoop, "shop/back");
    rejected(&queue("far"), Reason::TargetLoop, "shop/far, shop/back");
    assert!(
        decide(&queue("round")).is_ok(),
        "somebody else's circle is theirs to break"
    );
}

#[test]
fn an_ordered_queue_is_named_as_any_other() {
    let named = |name: &str| json!({ "to": { "kind": "FifoConsumer", "name": name } });
    for object in [webhook(named("ordered")), queue(named("ordered"))] {
        let plan = decide(&object).unwrap();
        let config = serde_json::to_value(plan.config.runtime.unwrap()).unwrap();
        assert_eq!(
            config["consumer"]["target"]["url"]["url"],
            "http://weir-runtime.shop.svc/fifoconsumers/ordered"
        );
    }
    let other = json!({ "to": { "kind": "FifoConsumer", "name": "closed", "namespace": "other" } });
    rejected(
        &webhook(other),
        Reason::TargetNotFound,
        "FifoConsumer other/closed not found",
    );
    rejected(&fifo(named("subject")), Reason::TargetLoop, "itself");
    // A queue and an ordered queue of one name are two objects.
    rejected(
        &fifo(named("other-way")),
        Reason::TargetLoop,
        "shop/other-way",
    );
    let own = json!({ "to": { "kind": "QueueConsumer", "name": "own" } });
    assert!(decide(&fifo(own)).is_ok());
}

#[test]
fn a_group_by_that_cannot_be_used_is_refused_before_it_refuses_messages() {
    for text in [
        "{% data. %}",
        "{% $eval('1') %}",
        "data.accountId",
        "header:",
    ] {
        rejected(
            &fifo(json!({ "groupBy": text })),
            Reason::InvalidSpec,
            "spec.groupBy",
        );
    }
    let group = |text: &str| {
        let plan = decide(&fifo(json!({ "groupBy": text }))).unwrap();
        serde_json::to_value(plan.config.runtime.unwrap().intake.unwrap().group).unwrap()
    };
    assert_eq!(
        group("{% data.accountId %}"),
        json!({ "expression": { "text": "data.accountId" } })
    );
    assert_eq!(
        group("header: X-Group"),
        json!({ "header": { "name": "x-group" } })
    );
}

#[test]
fn an_ordered_queue_runs_on_rabbitmq_and_remembers_identities_without_a_state() {
    for deduplicate in [json!(null), json!({ "by": "ContentHash" })] {
        let mut spec = json!({ "bus": "rabbit", "whenExhausted": "BlockGroup" });
        if !deduplicate.is_null() {
            spec["deduplicate"] = deduplicate;
        }
        let plan = decide(&fifo(spec)).unwrap();
        assert!(plan.topology[0].config.fifo.is_some());
    }
}

#[test]
fn an_ordered_queue_refuses_what_this_release_cannot_do() {
    for (spec, advice) in [
        (
            json!({ "circuitBreaker": "payments" }),
            "spec.circuitBreaker",
        ),
        (
            json!({ "handler": { "image": "i", "protocol": "Lambda" } }),
            "spec.handler.protocol",
        ),
        (
            json!({ "scaling": { "provider": "Push" } }),
            "spec.scaling.provider",
        ),
    ] {
        rejected(&fifo(spec), Reason::Unsupported, advice);
    }
}

#[test]
fn handlers_use_only_service_accounts_that_allow_it() {
    rejected(
        &handler("serviceAccountName", json!("none")),
        Reason::ServiceAccountNotFound,
        "create it",
    );
    rejected(
        &handler("serviceAccountName", json!("plain")),
        Reason::ServiceAccountNotAllowed,
        "kubectl -n shop annotate serviceaccount plain weir.dev/allow-handler=true",
    );
    assert!(decide(&handler("serviceAccountName", json!("allowed"))).is_ok());
}

#[test]
fn handler_and_to_exclude_each_other() {
    let both = json!({ "to": { "url": "http://a" }, "handler": { "image": "i" } });
    rejected(&queue(both), Reason::InvalidSpec, "exactly one");
    rejected(&queue(json!({})), Reason::InvalidSpec, "exactly one");
    rejected(&to(json!({})), Reason::InvalidSpec, "exactly one");
    rejected(
        &to(json!({ "url": "http://a", "kind": "Function" })),
        Reason::InvalidSpec,
        "exactly",
    );
}

/// As if the API server had been told not to validate.
#[test]
fn a_hostile_handler_takes_nothing_of_the_sidecar_or_the_node() {
    let volume = |volume: Value| handler("volumes", json!([volume]));
    let empty = json!({});
    for (object, advice) in [
        (handler("port", json!(9901)), "belong to the sidecar"),
        (handler("port", json!(0)), "spec.handler.port"),
        (handler("path", json!("no-slash")), "must start with /"),
        (handler("path", json!("/a\r\nHost: b")), "must start with /"),
        (handler("readinessPath", json!("x")), "must start with /"),
        (
            handler("env", json!([{ "name": "WEIR_X", "value": "1" }])),
            "are set by Weir",
        ),
        (
            handler(
                "envFrom",
                json!([{ "prefix": "WEIR_", "configMapRef": { "name": "a" } }]),
            ),
            "are set by Weir",
        ),
        (
            volume(json!({ "mountPath": "/etc/weir/config", "emptyDir": empty })),
            "belongs to Weir",
        ),
        (
            volume(json!({ "mountPath": "/etc/weir", "emptyDir": empty })),
            "belongs to Weir",
        ),
        (
            volume(json!({ "mountPath": "/etc/x/../weir", "emptyDir": empty })),
            "must be a folder",
        ),
        (
            volume(json!({ "mountPath": "/", "emptyDir": empty })),
            "must be a folder",
        ),
        (
            volume(json!({ "mountPath": "a", "emptyDir": empty })),
            "must be a folder",
        ),
        (
            volume(json!({ "mountPath": "/a", "subPath": "../..", "emptyDir": empty })),
            "relative path",
        ),
        (
            volume(json!({ "mountPath": "/a", "secret": { "secretName": "s",
                "items": [{ "key": "k", "path": "../../root" }] } })),
            "relative path",
        ),
        (volume(json!({ "mountPath": "/a" })), "exactly one of"),
        (
            volume(json!({ "mountPath": "/a", "hostPath": { "path": "/" } })),
            "exactly one of",
        ),
        (
            handler(
                "volumes",
                json!([{ "mountPath": "/a", "emptyDir": empty }, { "mountPath": "/a", "emptyDir": empty }]),
            ),
            "mounted twice",
        ),
    ] {
        rejected(&object, Reason::InvalidSpec, advice);
    }
}

#[test]
fn replicas_are_what_the_limit_needs_within_the_bounds_and_never_none() {
    let replicas = |max: u32, per: u32, least: u32, most: u32| {
        let plan = decide(&queue(json!({
            "handler": { "image": "i" },
            "concurrency": { "max": max, "perReplica": per },
            "scaling": { "minReplicas": least, "maxReplicas": most },
        })))
        .unwrap();
        plan.workloads[1].object["spec"]["replicas"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(replicas(0, 10, 0, 5), 1);
    assert_eq!(replicas(1, 10, 0, 5), 1);
    assert_eq!(replicas(11, 10, 0, 5), 2);
    assert_eq!(replicas(100_000, 1, 0, 5), 5);
    assert_eq!(replicas(1, 10, 3, 5), 3);
}

#[test]
fn the_same_manifest_is_planned_without_a_cluster() {
    let world = World::local(Local {
        bus: BusConfig::Memory {},
        replicas: 1,
        base_url: "http://127.0.0.1:8080/".to_owned(),
        keys_dir: "/tmp/keys/".to_owned(),
    });
    let object = webhook(json!({
        "bus": "anything",
        "route": { "gatewayRef": { "name": "public" }, "path": "/in" },
        "verify": { "scheme": "GitHub", "secretRef": { "name": "s" } },
        "handler": { "image": "i", "serviceAccountName": "unknown" },
        "to": null,
    }));
    let plan = object.decide(&world).unwrap();
    assert!(plan.workloads.is_empty());
    let runtime = plan.config.runtime.unwrap();
    assert_eq!(runtime.bus, BusConfig::Memory {});
    assert_eq!(
        runtime.intake.unwrap().verify.unwrap().keys_dir,
        "/tmp/keys/webhook.subject"
    );
    assert!(plan.config.worker.is_some());
}
