//! What the operator is told: flags, each of which can be an environment variable.
#![allow(
    clippy::doc_markdown,
    reason = "the comments of fields are the text of --help"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use weir_crds::shared::Resources;

use crate::settings::Settings;
use crate::stores::Scope;
use crate::world::{Cluster, Name};

/// Turns the custom resources of weir.dev into workloads, configuration and broker topology.
///
/// One operator writes at a time: it holds the Lease "weir-operator". Others started with the same
/// --lease-namespace wait for it. Connects as the pod's service account, or with the current context
/// of KUBECONFIG.
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-operator", version)]
pub struct Options {
    /// Namespaces to look after, separated by commas. Without it: every namespace, which needs a
    /// ClusterRole.
    #[arg(
        long,
        env = "WEIR_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,

    /// MessageBus of objects that name none, in namespaces without one called "default".
    #[arg(long, env = "WEIR_DEFAULT_BUS", value_name = "NAMESPACE/NAME", value_parser = name)]
    pub default_bus: Option<Name>,

    /// Image of the sidecar and of the shared runtime. Best of the operator's own version.
    #[arg(long, env = "WEIR_SIDECAR_IMAGE", value_name = "IMAGE")]
    pub sidecar_image: String,

    /// Pull policy of that image. Without it: the cluster's default.
    #[arg(long, env = "WEIR_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,

    /// Secrets with credentials for that image, separated by commas. They have to be in every
    /// namespace that uses Weir.
    #[arg(
        long,
        env = "WEIR_IMAGE_PULL_SECRETS",
        value_delimiter = ',',
        value_name = "SECRET"
    )]
    pub image_pull_secrets: Vec<String>,

    /// Resources of each sidecar, as JSON: {"requests":{"cpu":"20m"},"limits":{"memory":"256Mi"}}.
    #[arg(long, env = "WEIR_SIDECAR_RESOURCES", value_name = "JSON", value_parser = resources)]
    pub sidecar_resources: Option<Resources>,

    /// Resources of each pod of a shared runtime, as JSON. A MessageBus may say otherwise.
    #[arg(long, env = "WEIR_RUNTIME_RESOURCES", value_name = "JSON", value_parser = resources)]
    pub runtime_resources: Option<Resources>,

    /// Namespace of the Lease: the operator's own.
    #[arg(
        long,
        env = "WEIR_LEASE_NAMESPACE",
        default_value = "weir-system",
        value_name = "NAMESPACE"
    )]
    pub lease_namespace: String,

    /// The operator's service account, named in the command that grants it a Secret.
    #[arg(
        long,
        env = "WEIR_SERVICE_ACCOUNT",
        default_value = "weir-operator",
        value_name = "NAME"
    )]
    pub service_account: String,

    /// Name of this process in the Lease and in events: the pod's name. Without it: the host's.
    #[arg(long, env = "WEIR_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

    /// How often each object is looked at when nothing happens. What was changed by hand in the
    /// broker is repaired then.
    #[arg(long, env = "WEIR_RESYNC_SECONDS", default_value_t = 300, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub resync_seconds: u64,

    /// How long a deleted object waits for its broker. Then it goes, and its streams stay.
    #[arg(long, env = "WEIR_DELETION_TIMEOUT_SECONDS", default_value_t = 600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub deletion_timeout_seconds: u64,

    /// How long a broker may be silent before the conditions of its objects say so.
    #[arg(long, env = "WEIR_BROKER_GRACE_SECONDS", default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub broker_grace_seconds: u64,

    /// How often backlog, dead letters and calls in flight are read and, if changed, written.
    #[arg(long, env = "WEIR_NUMBERS_SECONDS", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub numbers_seconds: u64,

    /// Objects of one kind that are worked on at once. Deletions do not count.
    #[arg(long, env = "WEIR_CONCURRENCY", default_value_t = 8, value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Where /live, /ready and /metrics are served.
    #[arg(
        long,
        env = "WEIR_ADMIN_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub admin_address: std::net::SocketAddr,

    /// Where users of the cluster look at dead letters and move them (kubectl weir dlq), over TLS.
    /// Needs the right to create TokenReviews and SubjectAccessReviews. Without it: nowhere.
    #[arg(long, env = "WEIR_OPS_ADDRESS", value_name = "ADDRESS")]
    pub ops_address: Option<std::net::SocketAddr>,

    /// Folder for credentials of brokers that the operator connects to. It should be in memory.
    #[arg(
        long,
        env = "WEIR_CREDENTIALS_DIR",
        default_value = "/tmp/weir",
        value_name = "FOLDER"
    )]
    pub credentials_dir: PathBuf,

    /// What is logged: a level, or a filter such as "info,weir_operator=debug".
    #[arg(long, env = "WEIR_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

impl Options {
    /// What is watched.
    pub fn scopes(&self) -> Vec<Scope> {
        let mut names: Vec<&String> = self
            .watch_namespaces
            .iter()
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return vec![Scope::Cluster];
        }
        names
            .into_iter()
            .map(|name| Scope::Namespace(name.clone()))
            .collect()
    }

    /// What is rendered.
    pub fn cluster(&self) -> Cluster {
        let standard = Cluster::default();
        let or = |given: &Option<Resources>, standard| given.clone().unwrap_or(standard);
        Cluster {
            sidecar_image: self.sidecar_image.clone(),
            image_pull_policy: self.image_pull_policy.clone(),
            image_pull_secrets: self.image_pull_secrets.clone(),
            sidecar_resources: or(&self.sidecar_resources, standard.sidecar_resources),
            runtime_resources: or(&self.runtime_resources, standard.runtime_resources),
            default_bus: self.default_bus.clone(),
        }
    }

    /// Times and limits.
    pub fn settings(&self) -> Settings {
        Settings {
            resync: Duration::from_secs(self.resync_seconds),
            deletion_timeout: Duration::from_secs(self.deletion_timeout_seconds),
            broker_grace: Duration::from_secs(self.broker_grace_seconds),
            numbers_interval: Duration::from_secs(self.numbers_seconds),
            concurrency: usize::from(self.concurrency),
            ..Settings::default()
        }
    }
}

/// Reads NAMESPACE/NAME.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(Name::new(namespace, name))
        }
        _ => Err("write NAMESPACE/NAME, for example weir-system/nats".to_owned()),
    }
}

fn resources(text: &str) -> Result<Resources, String> {
    serde_json::from_str(text).map_err(|error| {
        format!("{error}; write JSON, for example {{\"limits\":{{\"memory\":\"256Mi\"}}}}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn options_are_read_and_explain_themselves() {
        Options::command().debug_assert();
        let parse = |more: &[&str]| {
            Options::try_parse_from(["weir-operator", "--sidecar-image", "i"].iter().chain(more))
        };
        assert_eq!(parse(&[]).unwrap().scopes(), [Scope::Cluster]);
        let options = parse(&["--watch-namespaces", "b,a,b", "--default-bus", "sys/nats"]).unwrap();
        let namespaces = [Scope::Namespace("a".into()), Scope::Namespace("b".into())];
        assert_eq!(options.scopes(), namespaces);
        assert_eq!(
            options.cluster().default_bus,
            Some(Name::new("sys", "nats"))
        );
        let error = parse(&["--default-bus", "nats"]).unwrap_err().to_string();
        assert!(error.contains("weir-system/nats"), "{error}");
        let error = parse(&["--sidecar-resources", "256Mi"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("write JSON"), "{error}");
        assert!(
            Options::try_parse_from(["weir-operator"]).is_err(),
            "the image has no default"
        );
    }
}
