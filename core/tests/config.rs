//! The runtime configuration is a format between two programs of possibly different releases. The
//! golden file is what version 1 looks like; it must never need a change.

use proptest::prelude::*;
use weir_core::config::{
    BusConfig, ConsumerConfig, DeduplicateBy, DeduplicateConfig, DeduplicateScope, GroupBy,
    HmacConfig, HmacEncoding, HmacPayload, IntakeConfig, ObjectConfig, ParseConfigError, Protocol,
    QueueConfig, RetryConfig, SignatureScheme, TargetConfig, VERSION, VerifyConfig, WhenExhausted,
};
use weir_core::object::{Kind, ObjectKey};

const GOLDEN: &str = include_str!("golden/config-v1.json");

fn parse(text: &str) -> Result<ObjectConfig, ParseConfigError> {
    ObjectConfig::parse(text.as_bytes())
}

/// The error of a document that differs from the golden one in one place.
fn changed(from: &str, to: &str) -> ParseConfigError {
    let text = GOLDEN.replacen(from, to, 1);
    assert_ne!(text, GOLDEN, "{from} is not in the golden file");
    parse(&text).expect_err("a change that is refused")
}

#[test]
fn the_golden_file_of_version_1_is_read_and_written_as_it_is() {
    let config = parse(GOLDEN).unwrap();
    assert_eq!(config.to_json(), GOLDEN);
    assert_eq!(
        config.object,
        ObjectKey::new(Kind::Webhook, "shop", "stripe")
    );
    let intake = config.intake.unwrap();
    assert_eq!(intake.verify.unwrap().hmac.unwrap().prefix, "sha256=");
    assert_eq!(intake.deduplicate.unwrap().by, DeduplicateBy::Header);
    let consumer = config.consumer.unwrap();
    assert_eq!((consumer.protocol, consumer.paused), (Protocol::Http, true));
    assert_eq!(consumer.retry.permanent_statuses, [400, 410, 413, 415, 422]);
    assert_eq!(
        ObjectConfig::file_name(&config.object),
        "webhook.stripe.json"
    );
}

#[test]
fn a_rabbitmq_bus_is_written_as_it_was_when_it_came() {
    let text = r#"{"rabbitMq":{"uriFile":"/etc/weir/bus/uri","managementUrl":"http://rabbitmq:15672","vhost":"/","caFile":"/etc/weir/bus/ca.crt","state":{"nats":{"servers":["nats://nats:4222"]}}}}"#;
    let bus: BusConfig = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&bus).unwrap(), text);
    let least = r#"{"rabbitMq":{"uriFile":"/u"}}"#;
    let bus: BusConfig = serde_json::from_str(least).unwrap();
    assert_eq!(serde_json::to_string(&bus).unwrap(), least);
}

#[test]
fn what_version_1_left_out_has_the_value_it_had_then() {
    let text = r#"{
        "version": 1,
        "object": {"kind": "QueueConsumer", "namespace": "shop", "name": "writer"},
        "uid": "u", "generation": 1,
        "bus": {"memory": {}},
        "queue": {"limit": 5, "batchMax": 1, "leaseSeconds": 45, "replicas": 1, "capacity": 10,
                  "deadLetterRetentionSeconds": 60},
        "intake": {"methods": ["POST"], "maxBodyBytes": 1, "status": 202, "publishApi": true,
                   "verify": {"scheme": "GitHub", "keysDir": "/k", "toleranceSeconds": 300}},
        "consumer": {"target": {"url": {"url": "http://a/"}}, "protocol": "CloudEvents",
                     "timeoutSeconds": 30, "perReplica": 10,
                     "retry": {"maxAttempts": 5, "initialSeconds": 1, "multiplier": 2,
                               "maxSeconds": 900, "maxAgeSeconds": 1, "permanentStatuses": []}}
    }"#;
    let config = parse(text).unwrap();
    let intake = config.intake.as_ref().unwrap();
    assert_eq!((intake.delay_seconds, &intake.deduplicate), (0, &None));
    assert_eq!(intake.verify.as_ref().unwrap().hmac, None);
    assert_eq!(intake.group, None);
    let consumer = config.consumer.as_ref().unwrap();
    assert_eq!(consumer.when_exhausted, WhenExhausted::DeadLetter);
    assert_eq!((consumer.batch_window_seconds, consumer.paused), (0, false));
    assert_eq!(config.bus, BusConfig::Memory {});
    assert!(
        !config.to_json().contains("null"),
        "what is absent is left out"
    );
}

#[test]
fn a_bus_of_rabbitmq_names_files_and_can_be_moved_to_others() {
    let text = r#"{"rabbitMq":{"uriFile":"/a/uri","caFile":"/a/ca","state":
        {"nats":{"servers":["nats://n:4222"],"credentialsFile":"/a/creds"}}}}"#;
    let bus: BusConfig = serde_json::from_str(text).unwrap();
    assert_eq!(bus.files(), ["/a/uri", "/a/ca", "/a/creds"]);
    let moved = bus.with_files(&|file| file.replace("/a/", "/b/"));
    assert_eq!(moved.files(), ["/b/uri", "/b/ca", "/b/creds"]);
    let again: BusConfig = serde_json::from_str(&serde_json::to_string(&bus).unwrap()).unwrap();
    assert_eq!(again, bus);
    assert!(bus.remembers());
    let BusConfig::RabbitMq {
        uri_file, ca_file, ..
    } = bus
    else {
        panic!("read as {bus:?}");
    };
    let alone = BusConfig::RabbitMq {
        uri_file,
        management_url: None,
        vhost: None,
        ca_file,
        state: None,
    };
    assert!(!alone.remembers());
}

#[test]
fn an_unknown_field_is_refused_and_named_wherever_it_is() {
    for before in [
        "\"version\"",
        "\"namespace\"",
        "\"servers\"",
        "\"limit\"",
        "\"methods\"",
        "\"scheme\"",
        "\"encoding\"",
        "\"by\"",
        "\"protocol\"",
        "\"maxAttempts\"",
        "\"readinessPath\"",
    ] {
        let error = changed(before, &format!("\"surprise\": 1, {before}"));
        assert_eq!(error.reason(), "Shape", "{before}");
        assert!(error.to_string().contains("surprise"), "{before}: {error}");
    }
}

#[test]
fn another_version_is_named_as_such_even_if_nothing_else_can_be_read() {
    let error = changed("\"version\": 1", "\"version\": 2, \"surprise\": {}");
    assert_eq!(error.reason(), "Version");
    assert_eq!(
        error.to_string(),
        "runtime configuration has version 2, this build reads version 1"
    );
    assert_eq!(
        parse(r#"{"version": 18446744073709551615}"#)
            .unwrap_err()
            .reason(),
        "Version"
    );
    assert_eq!(parse(r#"{"version": 0}"#).unwrap_err().reason(), "Version");
}

#[test]
fn what_is_no_configuration_is_refused_without_a_panic() {
    for text in [
        "",
        "{",
        "null",
        "[]",
        "{}",
        r#"{"version": "1"}"#,
        r#"{"version": 1}"#,
    ] {
        assert_eq!(parse(text).unwrap_err().reason(), "Shape", "{text}");
    }
    assert_eq!(changed("\"limit\": 5", "\"limit\": -5").reason(), "Shape");
    assert_eq!(
        changed("\"limit\": 5", "\"limit\": \"5\"").reason(),
        "Shape"
    );
    assert_eq!(changed("\"HmacSha256\"", "\"None\"").reason(), "Shape");
    assert_eq!(changed("\"Webhook\"", "\"webhook\"").reason(), "Shape");
    assert_eq!(ObjectConfig::parse(b"\xff").unwrap_err().reason(), "Shape");
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}"
}

fn bus() -> impl Strategy<Value = BusConfig> {
    let files = (prop::option::of(text()), prop::option::of(text()));
    prop_oneof![
        Just(BusConfig::Memory {}),
        (prop::collection::vec(text(), 0..3), files).prop_map(|(servers, files)| {
            BusConfig::Nats {
                servers,
                credentials_file: files.0,
                ca_file: files.1,
            }
        }),
        (
            text(),
            prop::option::of(text()),
            prop::option::of(text()),
            prop::option::of(text()),
            any::<bool>()
        )
            .prop_map(|(uri_file, management_url, vhost, ca_file, state)| {
                BusConfig::RabbitMq {
                    uri_file,
                    management_url,
                    vhost,
                    ca_file,
                    state: state.then(|| Box::new(BusConfig::Memory {})),
                }
            },),
    ]
}

fn queue() -> impl Strategy<Value = QueueConfig> {
    (any::<[u32; 4]>(), any::<u64>(), any::<u64>()).prop_map(|(numbers, capacity, retention)| {
        QueueConfig {
            limit: numbers[0],
            batch_max: numbers[1],
            lease_seconds: numbers[2],
            replicas: numbers[3],
            capacity,
            dead_letter_retention_seconds: retention,
            fifo: None,
        }
    })
}

fn verify() -> impl Strategy<Value = VerifyConfig> {
    let scheme = prop::sample::select(vec![
        SignatureScheme::StandardWebhooks,
        SignatureScheme::GitHub,
        SignatureScheme::Stripe,
        SignatureScheme::Slack,
        SignatureScheme::Shopify,
        SignatureScheme::HmacSha256,
    ]);
    let encoding = prop::sample::select(vec![HmacEncoding::Hex, HmacEncoding::Base64]);
    let hmac = (text(), encoding, text()).prop_map(|(header, encoding, prefix)| HmacConfig {
        header,
        encoding,
        prefix,
        payload: HmacPayload::Body,
    });
    (scheme, text(), any::<u32>(), prop::option::of(hmac)).prop_map(
        |(scheme, keys_dir, tolerance_seconds, hmac)| VerifyConfig {
            scheme,
            keys_dir,
            tolerance_seconds,
            hmac,
        },
    )
}

fn deduplicate() -> impl Strategy<Value = DeduplicateConfig> {
    let by = prop::sample::select(vec![
        DeduplicateBy::MessageId,
        DeduplicateBy::ContentHash,
        DeduplicateBy::Header,
    ]);
    let scope = prop::sample::select(vec![DeduplicateScope::Queue, DeduplicateScope::Group]);
    (by, prop::option::of(text()), any::<u32>(), scope).prop_map(
        |(by, header, window_seconds, scope)| DeduplicateConfig {
            by,
            header,
            window_seconds,
            scope,
        },
    )
}

fn group() -> impl Strategy<Value = GroupBy> {
    prop_oneof![
        text().prop_map(|name| GroupBy::Header { name }),
        text().prop_map(|text| GroupBy::Expression { text }),
    ]
}

fn intake() -> impl Strategy<Value = IntakeConfig> {
    let checks = (
        prop::option::of(verify()),
        prop::option::of(deduplicate()),
        prop::option::of(group()),
    );
    let numbers = (any::<u64>(), any::<u16>(), any::<u32>());
    (
        prop::collection::vec(text(), 0..3),
        numbers,
        checks,
        any::<bool>(),
    )
        .prop_map(
            |(
                methods,
                (max_body_bytes, status, delay_seconds),
                (verify, deduplicate, group),
                publish_api,
            )| {
                IntakeConfig {
                    methods,
                    max_body_bytes,
                    status,
                    verify,
                    deduplicate,
                    group,
                    delay_seconds,
                    publish_api,
                }
            },
        )
}

fn retry() -> impl Strategy<Value = RetryConfig> {
    let statuses = prop::collection::vec(any::<u16>(), 0..5);
    (any::<[u32; 4]>(), any::<u64>(), statuses).prop_map(|(numbers, max_age_seconds, statuses)| {
        RetryConfig {
            max_attempts: numbers[0],
            initial_seconds: numbers[1],
            multiplier: numbers[2],
            max_seconds: numbers[3],
            max_age_seconds,
            permanent_statuses: statuses,
        }
    })
}

fn consumer() -> impl Strategy<Value = ConsumerConfig> {
    let target = prop_oneof![
        text().prop_map(|url| TargetConfig::Url { url }),
        (text(), prop::option::of(text())).prop_map(|(url, readiness_path)| {
            TargetConfig::Handler {
                url,
                readiness_path,
            }
        }),
    ];
    let protocol = prop::sample::select(vec![Protocol::CloudEvents, Protocol::Http]);
    let ends = prop::sample::select(vec![
        WhenExhausted::DeadLetter,
        WhenExhausted::DeadLetterGroup,
        WhenExhausted::BlockGroup,
    ]);
    let numbers = any::<[u32; 3]>();
    (target, protocol, numbers, retry(), ends, any::<bool>()).prop_map(
        |(target, protocol, numbers, retry, when_exhausted, paused)| ConsumerConfig {
            target,
            protocol,
            timeout_seconds: numbers[0],
            per_replica: numbers[1],
            batch_window_seconds: numbers[2],
            retry,
            when_exhausted,
            paused,
        },
    )
}

fn object_config() -> impl Strategy<Value = ObjectConfig> {
    let object = (prop::sample::select(&Kind::ALL[..]), text(), text())
        .prop_map(|(kind, namespace, name)| ObjectKey::new(kind, namespace, name));
    let sides = (prop::option::of(intake()), prop::option::of(consumer()));
    (object, text(), any::<i64>(), bus(), queue(), sides).prop_map(
        |(object, uid, generation, bus, queue, (intake, consumer))| ObjectConfig {
            version: VERSION,
            object,
            uid,
            generation,
            bus,
            queue,
            intake,
            consumer,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_configuration_is_read_as_it_was_written(config in object_config()) {
        let text = config.to_json();
        prop_assert!(text.ends_with('\n'));
        prop_assert_eq!(parse(&text).unwrap(), config);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, cut in 0..GOLDEN.len()) {
        let _ = ObjectConfig::parse(&bytes);
        prop_assert!(ObjectConfig::parse(&GOLDEN.as_bytes()[..cut.min(GOLDEN.len() - 2)]).is_err());
    }
}
