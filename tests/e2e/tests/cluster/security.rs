//! What Weir's pods may do, and what its operator may not.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, bus, shared_nats, signing_secret};
use crate::restarts::home;
use crate::space::{Space, client, in_labelled_space, in_space};
use crate::wait::SOON;
use crate::webhook::webhook;

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn every_generated_pod_is_admitted_where_pod_security_is_restricted() {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"});
    in_labelled_space("restricted", &labels, async |space| {
        space.apply(COUNTER).await;
        space.apply(&signing_secret("signing")).await;
        space.apply(&bus("default", &shared_nats())).await;
        space.apply(&webhook("hook", "")).await;
        space.apply(&consumer("queue", "")).await;
        space.ready("Webhook", "hook").await;
        space.ready("QueueConsumer", "queue").await;
        publish(space, "queue", vec![json!({"n": 1})]).await;
        space
            .stats_when("a handled message", SOON, |s| s.handled().count() == 1)
            .await;

        let pods = space.pods().await;
        assert!(pods.len() >= 4, "{} pods", pods.len());
        for pod in pods {
            let name = pod.name_any();
            let spec = pod.spec.expect("a spec");
            assert_eq!(spec.automount_service_account_token, Some(false), "{name}");
            let tokens = spec.volumes.iter().flatten().filter(|volume| {
                volume
                    .projected
                    .iter()
                    .flat_map(|p| p.sources.iter().flatten())
                    .any(|s| s.service_account_token.is_some())
            });
            assert_eq!(tokens.count(), 0, "{name} has a token");
            let containers = spec
                .containers
                .iter()
                .chain(spec.init_containers.iter().flatten());
            for container in containers.filter(|_| name != "counter") {
                let context = container
                    .security_context
                    .as_ref()
                    .expect("a security context");
                let read_only = context.read_only_root_filesystem == Some(true);
                // What a handler writes to is its own business; ours writes nowhere.
                assert!(
                    read_only || container.name == "handler",
                    "{name}/{} may write its root",
                    container.name
                );
            }
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn the_operator_may_do_nothing_beyond_its_list() {
    in_space("rbac", async |space| {
        let operator = std::env::var("WEIR_E2E_OPERATOR_USER")
            .unwrap_or_else(|_| "system:serviceaccount:weir-system:weir".to_owned());
        let everywhere = "";
        let here = space.name.as_str();
        let verbs = [
            "get",
            "list",
            "watch",
            "create",
            "update",
            "patch",
            "delete",
            "deletecollection",
        ];
        for (group, resource) in [
            ("", "secrets"),
            ("", "nodes"),
            ("", "serviceaccounts/token"),
            ("", "pods/exec"),
            ("", "pods/attach"),
            ("", "pods/portforward"),
            ("", "pods/ephemeralcontainers"),
            ("", "persistentvolumes"),
            ("rbac.authorization.k8s.io", "roles"),
            ("rbac.authorization.k8s.io", "rolebindings"),
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
            (
                "admissionregistration.k8s.io",
                "validatingwebhookconfigurations",
            ),
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("apps", "daemonsets"),
            ("batch", "jobs"),
        ] {
            for verb in verbs {
                for namespace in [everywhere, here] {
                    let allowed = may(space, &operator, verb, group, resource, namespace).await;
                    assert!(!allowed, "it may {verb} {resource} in {namespace:?}");
                }
            }
        }
        for (group, resource) in [
            ("rbac.authorization.k8s.io", "clusterroles"),
            ("rbac.authorization.k8s.io", "roles"),
        ] {
            for verb in ["bind", "escalate"] {
                assert!(
                    !may(space, &operator, verb, group, resource, everywhere).await,
                    "it may {verb} {resource}"
                );
            }
        }
        for resource in ["users", "groups", "serviceaccounts"] {
            assert!(
                !may(space, &operator, "impersonate", "", resource, everywhere).await,
                "it may impersonate {resource}"
            );
        }
        // The check itself sees what is allowed, and pods are not for the operator to make.
        assert!(may(space, &operator, "create", "apps", "deployments", here).await);
        assert!(!may(space, &operator, "create", "", "pods", here).await);
        assert!(!may(space, &operator, "delete", "weir.dev", "webhooks", here).await);
        let default = format!("system:serviceaccount:{here}:default");
        for (group, resource) in [
            ("", "secrets"),
            ("", "configmaps"),
            ("", "pods"),
            ("weir.dev", "webhooks"),
        ] {
            assert!(
                !may(space, &default, "get", group, resource, here).await,
                "a sidecar may get {resource}"
            );
        }
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn the_chart_grants_exactly_the_operators_list() {
    type Grants = BTreeSet<(String, String, String, String)>;
    fn grants(rules: &[PolicyRule]) -> Grants {
        let mut all = Grants::new();
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    for verb in &rule.verbs {
                        let names = rule.resource_names.clone().unwrap_or_default().join(",");
                        all.insert((group.clone(), resource.clone(), names, verb.clone()));
                    }
                }
            }
        }
        all
    }
    let client = client().await;
    let cluster = Api::<ClusterRole>::all(client.clone()).get("weir").await;
    let cluster = cluster.expect("a ClusterRole").rules.unwrap_or_default();
    assert_eq!(
        grants(&cluster),
        grants(&weir_operator::rbac::cluster_rules())
    );
    let reviews = Api::<ClusterRole>::all(client.clone())
        .get("weir-ops-reviews")
        .await;
    let reviews = reviews.expect("a ClusterRole").rules.unwrap_or_default();
    assert_eq!(
        grants(&reviews),
        grants(&weir_operator::rbac::review_rules())
    );
    let own = Api::<Role>::namespaced(client, &home())
        .get("weir-own")
        .await;
    let own = own.expect("a Role").rules.unwrap_or_default();
    assert_eq!(
        grants(&own),
        grants(&weir_operator::rbac::own_namespace_rules())
    );
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn a_queue_of_another_namespace_needs_its_consent() {
    in_space("consent-from", async |from| {
        in_space("consent-to", async |to| {
            for space in [from, to] {
                space.apply(COUNTER).await;
                space.apply(&bus("default", &shared_nats())).await;
            }
            to.apply(&consumer("queue", "")).await;
            let manifest = format!(
                "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {{name: sender}}
spec: {{to: {{kind: QueueConsumer, name: queue, namespace: {}}}}}
",
                to.name
            );
            from.apply(&manifest).await;
            from.condition("QueueConsumer", "sender", "Accepted", |c| {
                c["status"] == "False" && c["reason"] == "TargetNotAllowed"
            })
            .await;

            to.patch(
                "QueueConsumer",
                "queue",
                json!({"spec": {"allowedFrom": {"namespaces": "Listed", "names": [from.name]}}}),
            )
            .await;
            from.ready("QueueConsumer", "sender").await;
            publish(from, "sender", vec![json!({"n": 1})]).await;
            to.stats_when("the message", SOON, |s| s.handled().count() == 1)
                .await;
        })
        .await;
    })
    .await;
}

async fn may(
    space: &Space,
    user: &str,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: &str,
) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let groups = match user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    {
        Some((home, _)) => json!([
            "system:serviceaccounts",
            format!("system:serviceaccounts:{home}"),
            "system:authenticated"
        ]),
        None => json!(["system:authenticated"]),
    };
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"user": user, "groups": groups, "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace}}
    }))
    .unwrap();
    let reviews = Api::<SubjectAccessReview>::all(space.client.clone());
    let answer = reviews
        .create(&PostParams::default(), &review)
        .await
        .expect("the API answers");
    answer.status.is_some_and(|status| status.allowed)
}
