//! What is planned for given manifests, as files that are reviewed as code.
//!
//! `tests/golden/<case>/input.yaml` is what a user wrote; `expected/` is everything planned for it.
//! `UPDATE_GOLDEN=1 cargo test -p weir-operator --test golden` writes the files anew.
#![allow(
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::manifest;
use weir_core::config::ObjectConfig;
use weir_crds::messagebus::Runtime;
use weir_operator::kinds::Object;
use weir_operator::plan::{Child, Plan};
use weir_operator::runtime;
use weir_operator::world::{Cluster, Place, World};

#[test]
fn plans_are_as_reviewed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(case)).collect();
    assert!(
        wrong.is_empty(),
        "UPDATE_GOLDEN=1 writes these anew:\n{}",
        wrong.join("\n")
    );
}

/// Says which files differ.
fn check(case: &Path) -> Vec<String> {
    let planned = plan(&std::fs::read_to_string(case.join("input.yaml")).unwrap());
    let folder = case.join("expected");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in &planned {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }
    let expected: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let case = case.file_name().unwrap().to_string_lossy();
    planned
        .keys()
        .chain(expected.keys())
        .filter(|file| planned.get(*file) != expected.get(*file))
        .map(|file| format!("{case}/expected/{file}"))
        .collect()
}

/// File names and texts of everything planned for a manifest.
fn plan(input: &str) -> BTreeMap<String, String> {
    let objects = manifest::objects(input);
    let cluster = Cluster {
        sidecar_image: "registry.example/weir/sidecar:1".to_owned(),
        ..Cluster::default()
    };
    let mut world = World::cluster(cluster.clone());
    world.service_accounts = manifest::service_accounts(input);
    for object in &objects {
        object.add_to(&mut world);
    }
    let mut files = BTreeMap::new();
    for object in &objects {
        let name = manifest::file_name(object);
        match object.decide(&world) {
            Ok(plan) => add_plan(&mut files, &name, &plan),
            Err(rejected) => {
                let text =
                    json!({ "reason": rejected.reason.as_str(), "message": rejected.message });
                files.insert(format!("{name}.rejected.yaml"), yaml(&text));
            }
        }
    }
    let members: Vec<_> = objects
        .iter()
        .filter_map(|object| object.member(&world))
        .collect();
    let sizing = objects
        .iter()
        .find_map(|object| match object {
            Object::MessageBus(bus) => Some(bus.spec.runtime.clone()),
            _ => None,
        })
        .unwrap_or_else(Runtime::default);
    let Place::Cluster(cluster) = &world.place else {
        unreachable!()
    };
    for child in runtime::children("shop", &members, &sizing, cluster) {
        add_child(&mut files, "runtime", &child);
    }
    files
}

fn add_plan(files: &mut BTreeMap<String, String>, name: &str, plan: &Plan) {
    for child in &plan.workloads {
        add_child(files, name, child);
    }
    let mut config = |role: &str, config: &Option<ObjectConfig>| {
        if let Some(config) = config {
            let value = serde_json::to_value(config).unwrap();
            files.insert(format!("{name}.config-{role}.yaml"), yaml(&value));
        }
    };
    config("worker", &plan.config.worker);
    config("runtime", &plan.config.runtime);
    for queue in &plan.topology {
        let value = json!({
            "object": queue.object.to_string(),
            "uid": queue.uid,
            "config": serde_json::to_value(&queue.config).unwrap(),
        });
        files.insert(format!("{name}.topology.yaml"), yaml(&value));
    }
}

fn add_child(files: &mut BTreeMap<String, String>, name: &str, child: &Child) {
    let kind = child.kind.as_str().to_lowercase();
    files.insert(format!("{name}.{kind}.yaml"), yaml(&child.object));
}

fn yaml(value: &Value) -> String {
    // Keys are in order whatever a dependency asks of serde_json.
    let mut value = value.clone();
    value.sort_all_objects();
    let mut text = serde_saphyr::to_string(&value).unwrap();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
