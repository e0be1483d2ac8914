//! Only one operator writes at a time, whatever clocks say.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

mod support;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as Record;
use kube::Api as KubeApi;
use serde_json::json;
use support::api::Api;
use tokio::time::{Instant, timeout};
use weir_broker::Clock;
use weir_operator::fence::Fence;
use weir_operator::lease::{Lease, Lost, Times};

/// A clock that is wrong.
struct Wrong(&'static str);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        self.0.parse().unwrap()
    }
}

const EARLY: Wrong = Wrong("1999-01-01T00:00:00Z");
const LATE: Wrong = Wrong("2199-01-01T00:00:00Z");

fn candidate<'a>(api: &Api, name: &str, clock: &'a Wrong) -> (Lease<'a>, Fence) {
    let fence = Fence::default();
    let records: KubeApi<Record> = KubeApi::namespaced(api.client(), "weir-system");
    (
        Lease::new(
            records,
            name.to_owned(),
            Times::default(),
            fence.clone(),
            clock,
        ),
        fence,
    )
}

fn holder(api: &Api) -> serde_json::Value {
    api.get("leases", "weir-operator").unwrap()["spec"]["holderIdentity"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_is_not_taken_however_wrong_the_clocks_are() {
    let api = Api::default();
    let (mut first, fence) = candidate(&api, "first", &EARLY);
    first.acquire().await;
    let (mut second, other) = candidate(&api, "second", &LATE);
    let race = async {
        tokio::select! {
            lost = first.hold() => panic!("{lost}"),
            () = second.acquire() => panic!("two hold it"),
        }
    };
    assert!(timeout(Duration::from_mins(2), race).await.is_err());
    assert!(fence.check().is_ok() && other.check().is_err());
    assert_eq!(holder(&api), "first");
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lease_is_taken_after_its_holder_stopped_writing() {
    let api = Api::default();
    let (mut first, fence) = candidate(&api, "first", &LATE);
    first.acquire().await;
    let began = Instant::now();
    let (mut second, other) = candidate(&api, "second", &EARLY);
    second.acquire().await;
    assert!(
        began.elapsed() >= Times::default().duration,
        "{:?}",
        began.elapsed()
    );
    assert!(fence.check().is_err(), "the first stopped long before");
    assert!(other.check().is_ok());
    assert_eq!(holder(&api), "second");
    // The first wakes up: it learns of it, and never writes again.
    let lost = first.hold().await;
    assert!(matches!(lost, Lost::Taken(by) if by == "second"));
    assert!(fence.check().is_err());
    assert_eq!(holder(&api), "second");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_renew_stops_writing_and_ends() {
    let api = Api::default();
    let (mut first, fence) = candidate(&api, "first", &EARLY);
    first.acquire().await;
    let began = Instant::now();
    api.fail("GET", "/leases", 500, usize::MAX);
    let lost = first.hold().await;
    assert!(matches!(lost, Lost::NotRenewed(_)), "{lost}");
    assert!(fence.check().is_err());
    assert!(
        began.elapsed() < Times::default().duration,
        "before anybody may take it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_is_survived() {
    let api = Api::default();
    let (mut first, fence) = candidate(&api, "first", &EARLY);
    api.fail("POST", "/leases", 500, 2);
    first.acquire().await;
    api.fail("PUT", "/leases", 409, 1);
    api.fail("GET", "/leases", 500, 2);
    assert!(timeout(Duration::from_mins(1), first.hold()).await.is_err());
    assert!(fence.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_at_once() {
    let api = Api::default();
    let (mut first, fence) = candidate(&api, "first", &EARLY);
    first.acquire().await;
    first.release().await;
    assert!(fence.check().is_err());
    let began = Instant::now();
    let (mut second, _) = candidate(&api, "second", &EARLY);
    second.acquire().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(
        api.get("leases", "weir-operator").unwrap()["spec"]["leaseTransitions"],
        1
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_that_try_at_once_one_gets_it() {
    let api = Api::default();
    let stale = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "weir-operator", "namespace": "weir-system" },
        "spec": { "holderIdentity": "dead", "leaseDurationSeconds": 15 },
    });
    api.put(&stale);
    let (mut first, one) = candidate(&api, "first", &EARLY);
    let (mut second, two) = candidate(&api, "second", &LATE);
    tokio::select! {
        () = first.acquire() => {}
        () = second.acquire() => {}
    }
    assert_ne!(one.check().is_ok(), two.check().is_ok());
}
