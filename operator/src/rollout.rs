//! How far a Deployment is, and what keeps it. Pure.
//!
//! The words never contain the name of a pod: they are the same as long as the cause is.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use weir_crds::conditions::Reason;

/// Longest part of somebody else's words that is repeated, characters.
const LONGEST_QUOTE: usize = 300;

/// How far a Deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Every pod is of the wanted version, and ready.
    Complete,
    /// Enough pods are ready, and new ones are starting.
    Updating,
    /// Not enough pods are ready yet.
    Starting,
    /// Enough pods were ready once, and are no longer.
    Unavailable,
    /// New pods did not become ready in time.
    Failed,
}

/// The state of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// How far it is.
    pub progress: Progress,
    /// What keeps it.
    pub cause: Option<(Reason, String)>,
    /// Pods there are.
    pub replicas: u32,
    /// Pods that are ready.
    pub ready: u32,
}

/// Looks at a Deployment and, where it is not complete, at its pods.
pub fn rollout(deployment: &Deployment, pods: &[Pod]) -> Rollout {
    let status = deployment.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| u32::try_from(number.unwrap_or(0)).unwrap_or(0);
    let wanted = count(
        deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .or(Some(1)),
    );
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_)
    };
    let observed =
        status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0);
    let updated = count(status.updated_replicas);
    let complete = observed
        && updated >= wanted
        && count(status.replicas) <= updated
        && count(status.available_replicas) >= wanted;
    let available = condition("Available").is_some_and(|condition| condition.status == "True");
    let late = observed
        && condition("Progressing").is_some_and(|condition| {
            condition.status == "False"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        });
    // The first rollout has never been complete.
    let was_complete = condition("Progressing")
        .and_then(|condition| condition.reason.as_deref())
        .is_some_and(|reason| reason == "NewReplicaSetAvailable");
    let progress = match () {
        () if complete => Progress::Complete,
        () if late => Progress::Failed,
        () if available => Progress::Updating,
        () if was_complete && observed => Progress::Unavailable,
        () => Progress::Starting,
    };
    let refused = condition("ReplicaFailure")
        .filter(|condition| condition.status == "True")
        .and_then(|condition| condition.message.as_deref())
        .map(refusal);
    Rollout {
        progress,
        cause: if complete {
            None
        } else {
            refused.or_else(|| pods_cause(pods))
        },
        replicas: count(status.replicas),
        ready: count(status.ready_replicas),
    }
}

/// Why pods are not created. The words name a pod that does not exist; that part is left out.
fn refusal(message: &str) -> (Reason, String) {
    let words = match message.split_once("pods \"") {
        Some((before, rest)) => {
            let after = rest.split_once('"').map_or(rest, |(_, after)| after);
            format!("{before}pods{after}")
        }
        None => message.to_owned(),
    };
    let reason = if message.contains("exceeded quota") {
        Reason::QuotaExceeded
    } else {
        Reason::PodRejected
    };
    (reason, quote(&words))
}

/// The first cause in a fixed order, whichever pod has it.
fn pods_cause(pods: &[Pod]) -> Option<(Reason, String)> {
    let causes: BTreeSet<(Reason, String)> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .flat_map(pod_causes)
        .collect();
    causes.into_iter().next()
}

fn pod_causes(pod: &Pod) -> Vec<(Reason, String)> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .filter(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
        })
        .map(|condition| {
            let words = quote(condition.message.as_deref().unwrap_or_default());
            (
                Reason::Unschedulable,
                format!("no node takes the pods: {words}"),
            )
        });
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter_map(|container| container_cause(pod, container));
    unschedulable.chain(containers).collect()
}

fn container_cause(pod: &Pod, container: &ContainerStatus) -> Option<(Reason, String)> {
    let name = &container.name;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or_default();
    match waiting.reason.as_deref()? {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable" => Some((
            Reason::ImagePullFailed,
            format!(
                "image {} of container {name} cannot be pulled; check its name and spec.handler.imagePullSecrets",
                image(pod, name).unwrap_or(&container.image)
            ),
        )),
        "CrashLoopBackOff" => Some((Reason::CrashLooping, crash(pod, container))),
        "CreateContainerConfigError" => Some(missing(message)),
        "CreateContainerError" | "RunContainerError" => Some((
            Reason::PodRejected,
            format!("container {name} cannot be started: {}", quote(message)),
        )),
        _ => None,
    }
}

fn image<'a>(pod: &'a Pod, container: &str) -> Option<&'a String> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|other| other.name == container)?
        .image
        .as_ref()
}

fn crash(pod: &Pod, container: &ContainerStatus) -> String {
    let ended = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let how = match ended {
        Some(ended) if ended.reason.as_deref() == Some("OOMKilled") => {
            "it uses more memory than its limit".to_owned()
        }
        Some(ended) => format!("last with exit code {}", ended.exit_code),
        None => "at once".to_owned(),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let selector: Vec<String> = [crate::plan::KIND_LABEL, crate::plan::NAME_LABEL]
        .iter()
        .filter_map(|label| Some(format!("{label}={}", labels.get(*label)?)))
        .collect();
    format!(
        "container {} ends again and again, {how}; see kubectl -n {namespace} logs -l {} -c {} --previous",
        container.name,
        selector.join(","),
        container.name
    )
}

/// Something that a container refers to is not there.
fn missing(message: &str) -> (Reason, String) {
    let lower = message.to_ascii_lowercase();
    let reason = match () {
        () if lower.contains("couldn't find key") && lower.contains("secret") => {
            Reason::SecretKeyNotFound
        }
        () if lower.starts_with("secret ") => Reason::SecretNotFound,
        () if lower.starts_with("configmap ") => Reason::ConfigMapNotFound,
        () => Reason::PodRejected,
    };
    (
        reason,
        format!("the handler cannot be started: {}", quote(message)),
    )
}

fn quote(words: &str) -> String {
    let line: String = words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match line.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
