//! What the operator may do, as data. The chart is generated from it and a test holds it to a golden
//! file.
//!
//! No wildcard, no Secret outside the operator's own namespace, nothing that gives more than it has.
//! A tenant lets the operator read the credentials of a bus with a Role of its own.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Rules for every watched namespace: a `ClusterRole`, or a `Role` in each of them.
pub fn cluster_rules() -> Vec<PolicyRule> {
    let kinds = [
        "fifoconsumers",
        "messagebuses",
        "queueconsumers",
        "webhooks",
    ];
    let of = |suffix: &str| kinds.map(|kind| format!("{kind}{suffix}"));
    vec![
        rule("weir.dev", &kinds, &["get", "list", "watch", "patch"]),
        rule("weir.dev", &of("/status"), &["patch"]),
        // Owner references with `blockOwnerDeletion` need it where that is enforced.
        rule("weir.dev", &of("/finalizers"), &["update"]),
        rule("apps", &["deployments"], &CHILD),
        rule("", &["configmaps", "services"], &CHILD),
        rule("policy", &["poddisruptionbudgets"], &CHILD),
        rule("autoscaling", &["horizontalpodautoscalers"], &CHILD),
        // To tell why pods do not start, and to make kubelets refresh their configuration.
        rule("", &["pods"], &["get", "list", "patch"]),
        // To see whether handlers may use one.
        rule("", &["serviceaccounts"], &["get"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// Rules for the operator's own namespace alone: the lease, and credentials of its default bus.
pub fn own_namespace_rules() -> Vec<PolicyRule> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["create"]),
        PolicyRule {
            resource_names: Some(vec![crate::lease::NAME.to_owned()]),
            ..rule("coordination.k8s.io", &["leases"], &["get", "update"])
        },
        rule("", &["secrets"], &["get"]),
    ]
}

/// Rules of the ops API, for the whole cluster, because reviews are not in a namespace: to ask who a
/// token is and what they may do. They read and change nothing.
pub fn review_rules() -> Vec<PolicyRule> {
    vec![
        rule("authentication.k8s.io", &["tokenreviews"], &["create"]),
        rule(
            "authorization.k8s.io",
            &["subjectaccessreviews"],
            &["create"],
        ),
    ]
}

/// What is done with children. Server-side apply of an object that is not there is a create as well.
const CHILD: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

fn rule<T: ToString>(group: &str, resources: &[T], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(ToString::to_string).collect()),
        verbs: verbs.iter().map(ToString::to_string).collect(),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_wildcard_and_no_secret_is_read_cluster_wide() {
        let all = [cluster_rules(), own_namespace_rules(), review_rules()];
        for rule in all.iter().flatten() {
            let all = rule
                .api_groups
                .iter()
                .chain(&rule.resources)
                .flatten()
                .chain(&rule.verbs);
            assert!(all.into_iter().all(|word| !word.contains('*')), "{rule:?}");
            for verb in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!rule.verbs.iter().any(|other| other == verb), "{rule:?}");
            }
        }
        let resources: Vec<String> = cluster_rules()
            .into_iter()
            .flat_map(|rule| rule.resources.unwrap_or_default())
            .collect();
        for forbidden in ["secrets", "pods/exec", "roles", "nodes", "leases"] {
            assert!(
                !resources.iter().any(|other| other == forbidden),
                "{forbidden}"
            );
        }
    }
}
