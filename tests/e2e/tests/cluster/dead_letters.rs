//! Dead letters from a user's side: the command line, the API server's proxy, roles.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::limits::{consumer, publish};
use crate::manifests::{COUNTER, bus, shared_nats};
use crate::restarts::{UNDISTURBED, home};
use crate::space::{Space, in_space};
use crate::wait::{SOON, until};

/// Somebody with a kubeconfig of their own: a service account with a token.
struct Somebody {
    kubeconfig: PathBuf,
    token: String,
}

impl Somebody {
    /// A service account of the space, with a role where one is named.
    async fn new(space: &Space, name: &str, role: Option<&str>) -> Self {
        space
            .apply(&format!(
                "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}"
            ))
            .await;
        if let Some(role) = role {
            let namespace = &space.name;
            space
                .apply(&format!(
                    "
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"
                ))
                .await;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(space.client.clone(), &space.name);
        let wanted = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let given = accounts
            .create_token_request(name, &PostParams::default(), &wanted)
            .await
            .expect("a token is given");
        let token = given.status.expect("a status").token;
        let config = kube::Config::infer().await.expect("a kubeconfig");
        let mut cluster = json!({ "server": config.cluster_url.to_string() });
        match config
            .root_cert
            .as_ref()
            .and_then(|certificates| certificates.first())
        {
            Some(der) => {
                let pem = format!(
                    "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                    STANDARD.encode(der)
                );
                cluster["certificate-authority-data"] = STANDARD.encode(pem).into();
            }
            None => cluster["insecure-skip-tls-verify"] = config.accept_invalid_certs.into(),
        }
        let file = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{ "name": "it", "cluster": cluster }],
            "users": [{ "name": "it", "user": { "token": token } }],
            "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it", "namespace": space.name } }],
        });
        let path = std::env::temp_dir().join(format!("weir-e2e-{}-{name}.kubeconfig", space.name));
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(&path).unwrap();
        out.write_all(file.to_string().as_bytes()).unwrap();
        Self {
            kubeconfig: path,
            token,
        }
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        let program =
            std::env::var_os("WEIR_E2E_CLI").expect("WEIR_E2E_CLI names the program weir");
        Command::new(program)
            .args(arguments)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .env_remove("WEIR_OPS")
            .env("WEIR_OPERATOR", format!("{}/weir-ops", home()))
            .output()
            .expect("weir starts")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.weir(&[arguments, &["-o", "json"]].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "weir {arguments:?}: {said}");
        serde_json::from_slice(&done.stdout).expect("JSON")
    }

    /// A command that must fail; what it says.
    fn refused(&self, arguments: &[&str]) -> String {
        let done = self.weir(arguments);
        assert_eq!(
            done.status.code(),
            Some(1),
            "weir {arguments:?} did not fail"
        );
        String::from_utf8_lossy(&done.stderr).into_owned()
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        std::fs::remove_file(&self.kubeconfig).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn dead_letters_are_seen_and_redriven_by_those_who_may() {
    let _undisturbed = UNDISTURBED.read().await;
    in_space("letters", async |space| {
        space.apply(COUNTER).await;
        space.apply(&bus("default", &shared_nats())).await;
        let more = "retry: {maxAttempts: 1}";
        space.apply(&consumer("rows", more)).await;
        space.ready("QueueConsumer", "rows").await;
        let ids = publish(
            space,
            "rows",
            (0..5).map(|n| json!({ "n": n, "status": 500 })).collect(),
        )
        .await;
        let viewer = Somebody::new(space, "viewer", Some("weir-dlq-viewer")).await;
        let mover = Somebody::new(space, "mover", Some("weir-dlq-operator")).await;
        let nobody = Somebody::new(space, "nobody", None).await;

        let list = ["dlq", "list", "qc/rows"];
        until("five dead letters on the command line", SOON, async || {
            let found = viewer.json(&list)["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if found.len() == ids.len() {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
        let everything = viewer.json(&["dlq", "list"]);
        assert_eq!(everything["items"].as_array().unwrap().len(), 5);
        let counts = viewer.json(&["dlq", "list", "qc/rows", "--by", "status"]);
        assert_eq!(
            (&counts["counts"][0]["key"], &counts["counts"][0]["count"]),
            (&"500".into(), &5.into())
        );
        let letter = viewer.json(&["dlq", "show", "qc/rows", &ids[0]]);
        assert!(letter["body"].as_str().unwrap().contains("500"), "{letter}");

        // Who has no role reads no payload and moves nothing; who may look moves nothing.
        let said = nobody.refused(&["dlq", "show", "qc/rows", &ids[0]]);
        assert!(
            said.contains("403") && said.contains("weir-dlq-viewer"),
            "{said}"
        );
        assert!(!said.contains("\"n\""), "{said}");
        for command in [
            &["dlq", "redrive", "qc/rows"][..],
            &["dlq", "purge", "qc/rows", "--yes"],
        ] {
            let said = viewer.refused(command);
            assert!(
                said.contains("403") && said.contains("weir-dlq-operator"),
                "{said}"
            );
        }
        assert_eq!(viewer.json(&list)["items"].as_array().unwrap().len(), 5);

        // One with another body is handled; the others die again, beyond the end of their redrive.
        let body = std::env::temp_dir().join(format!("weir-e2e-{}-body", space.name));
        std::fs::write(&body, "{\"mended\": true}").unwrap();
        let path = body.to_string_lossy().into_owned();
        mover.json(&[
            "dlq", "redrive", "qc/rows", "--id", &ids[0], "--body", &path,
        ]);
        std::fs::remove_file(&body).ok();
        space
            .stats_when("the mended message", SOON, |stats| {
                stats.handled().any(|id| id == ids[0])
            })
            .await;
        let ended = mover.json(&["dlq", "redrive", "qc/rows", "--rate", "20"]);
        assert_eq!(
            (&ended["state"], &ended["counts"]["moved"]),
            (&"Completed".into(), &4.into())
        );
        let by = ended["by"].as_str().unwrap();
        assert_eq!(by, format!("system:serviceaccount:{}:mover", space.name));
        space
            .stats_when("the second death of four", SOON, |stats| {
                ids[1..]
                    .iter()
                    .all(|id| stats.messages.get(id).is_some_and(|calls| calls.len() == 2))
            })
            .await;
        until("four dead letters again", SOON, async || {
            let found = viewer.json(&list)["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if found.len() == 4 {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;

        // Export, purge, import.
        let file = std::env::temp_dir().join(format!("weir-e2e-{}.ndjson", space.name));
        let path = file.to_string_lossy().into_owned();
        assert_eq!(
            mover.json(&["dlq", "export", "qc/rows", &path])["exported"],
            4
        );
        assert_eq!(
            mover.json(&["dlq", "purge", "qc/rows", "--yes"])["purged"],
            4
        );
        assert_eq!(
            mover.json(&["dlq", "import", "qc/rows", &path])["stored"],
            4
        );
        assert_eq!(mover.json(&["dlq", "import", "qc/rows", &path])["known"], 4);
        std::fs::remove_file(&file).ok();
        assert_eq!(viewer.json(&list)["items"].as_array().unwrap().len(), 4);

        // Neither a token nor a payload is in the operator's log.
        let log = Command::new("kubectl")
            .args([
                "logs",
                "--namespace",
                &home(),
                "-l",
                "app.kubernetes.io/name=weir-operator",
                "--tail=-1",
            ])
            .output()
            .expect("kubectl is on the PATH");
        let log = String::from_utf8_lossy(&log.stdout);
        assert!(
            log.contains("a redrive begins"),
            "the log says who moved what"
        );
        for somebody in [&viewer, &mover, &nobody] {
            assert!(!log.contains(&somebody.token), "a token is in the log");
        }
        assert!(!log.contains("mended"), "a payload is in the log");
    })
    .await;
}
