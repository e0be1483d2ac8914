//! The definitions and their fixtures, judged by the API server.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use crate::space::{Space, client, in_space};
use crate::webhook::kubectl;

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crds/fixtures")
        .join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no fixtures in {folder}");
    found
}

/// Asks for a creation that is checked and not done. Unknown fields are refused, as kubectl does.
async fn dry_run(space: &Space, yaml: &str) -> Result<(), String> {
    let mut object = crate::manifests::parse(yaml)?;
    object["metadata"]["namespace"] = space.name.as_str().into();
    let resource = crate::space::resource(object["kind"].as_str().unwrap_or_default());
    let path = format!(
        "/apis/weir.dev/v1alpha1/namespaces/{}/{}",
        space.name, resource.plural
    );
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object).unwrap())
        .map_err(|e| e.to_string())?;
    space
        .client
        .request::<Value>(request)
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn the_api_server_accepts_the_accepted_fixtures() {
    in_space("accepted", async |space| {
        let mut refused = Vec::new();
        let all = fixtures("accepted");
        for path in &all {
            if let Err(error) = dry_run(space, &fs::read_to_string(path).unwrap()).await {
                refused.push(format!("{}: {error}", path.display()));
            }
        }
        println!("{} fixtures", all.len());
        assert!(refused.is_empty(), "{refused:#?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn the_api_server_refuses_the_rejected_fixtures_with_the_message_they_name() {
    in_space("rejected", async |space| {
        let mut wrong = Vec::new();
        let all = fixtures("rejected");
        for path in &all {
            let text = fs::read_to_string(path).unwrap();
            let marks = ["# expect: ", "# path: "];
            let expected: Vec<_> = text
                .lines()
                .map_while(|line| marks.iter().find_map(|mark| line.strip_prefix(mark)))
                .collect();
            assert!(
                !expected.is_empty(),
                "{} does not begin with `# expect: `",
                path.display()
            );
            match dry_run(space, &text).await {
                Ok(()) => wrong.push(format!("{}: accepted", path.display())),
                Err(error) => wrong.extend(
                    expected
                        .iter()
                        .filter(|words| !error.contains(*words))
                        .map(|words| format!("{}: not `{words}` but {error}", path.display())),
                ),
            }
        }
        println!("{} fixtures", all.len());
        assert!(wrong.is_empty(), "{wrong:#?}");
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn kubectl_explains_every_field() {
    let text = kubectl(&["explain", "webhook.spec.retry"]);
    assert!(
        text.contains("maxAttempts") && text.contains("Attempts in all"),
        "{text}"
    );
    let text = kubectl(&["explain", "webhooks.weir.dev", "--recursive"]);
    assert!(
        text.contains("permanentStatuses") && text.contains("deletionPolicy"),
        "{text}"
    );
}

#[tokio::test]
#[ignore = "needs a cluster: tests/e2e/run"]
async fn every_definition_is_established_and_small() {
    let crds = Api::<CustomResourceDefinition>::all(client().await);
    let all = crds
        .list(&ListParams::default())
        .await
        .expect("the API answers");
    let ours: Vec<_> = all
        .items
        .into_iter()
        .filter(|crd| crd.spec.group == "weir.dev")
        .collect();
    assert!(ours.len() >= 3, "{} definitions", ours.len());
    for crd in ours {
        let size = serde_json::to_vec(&crd.spec).unwrap().len();
        println!("{}: {} KiB", crd.spec.names.kind, size / 1024);
        assert!(
            size < 100 * 1024,
            "{} has {size} bytes",
            crd.spec.names.kind
        );
        let conditions = crd.status.and_then(|s| s.conditions).unwrap_or_default();
        let holds = |name: &str| {
            conditions
                .iter()
                .any(|c| c.type_ == name && c.status == "True")
        };
        assert!(holds("Established"), "{conditions:?}");
        // The server says here what it dislikes about a schema that it accepted all the same.
        assert!(!holds("NonStructuralSchema"), "{conditions:?}");
        assert!(
            crd.spec
                .names
                .categories
                .is_some_and(|c| c.contains(&"weir".to_owned()))
        );
    }
}
