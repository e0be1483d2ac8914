//! What the linter says beside the fixtures: lines, several documents, other groups, hints.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;
use weir_crds::lint::{Linter, Manifest};
use weir_crds::{Document, Problem, Severity};

fn read(text: &str) -> Manifest {
    Linter::new().read("a.yaml", text)
}

fn shown(problem: &Problem) -> String {
    format!(
        "{}:{} {problem}",
        problem.file,
        problem.line.unwrap_or_default()
    )
}

#[test]
fn problems_tell_file_line_and_object() {
    let manifest = read(
        "# a queue\napiVersion: weir.dev/v1alpha1\nkind: QueueConsumer\nmetadata:\n  name: orders\n\
         spec:\n  handler:\n    image: a:1\n    env:\n    - name: A\n    - name: WEIR_B\n      value: x\n  \
         retry: {maxAttempts: 0}\n",
    );
    let shown: Vec<String> = manifest.problems.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "a.yaml:11 spec.handler.env[1].name: names that start with `WEIR_` are set by Weir: choose another name",
            "a.yaml:13 spec.retry.maxAttempts: should be greater than or equal to 1",
        ]
    );
    assert!(
        manifest
            .problems
            .iter()
            .all(|problem| problem.object == "QueueConsumer/orders")
    );
    assert!(!manifest.is_acceptable());
}

#[test]
fn one_bad_document_does_not_hide_the_others() {
    let good = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
    let text = format!("{good}---\na: [\n---\n{good}--- # and\n\n---\nkind: Secret\n---\n- a\n");
    let manifest = read(&text);
    let shown: Vec<String> = manifest.problems.iter().map(shown).collect();
    assert_eq!(
        shown,
        [
            "a.yaml:5 not YAML: unclosed bracket '['",
            "a.yaml:13 apiVersion: Required value",
            "a.yaml:15 not an object: write `apiVersion`, `kind`, `metadata` and `spec`",
        ]
    );
    let lines: Vec<u32> = manifest
        .documents
        .iter()
        .map(|located| located.line)
        .collect();
    assert_eq!(lines, [1, 7]);
}

#[test]
fn lines_count_with_windows_line_ends_and_a_byte_order_mark() {
    let manifest = read(
        "\u{feff}apiVersion: v1\r\nkind: A\r\n---\r\napiVersion: weir.dev/v1alpha1\r\nkind: Webhok\r\n",
    );
    assert_eq!(
        manifest.problems.iter().map(shown).collect::<Vec<_>>(),
        [
            "a.yaml:5 kind: no matches for kind \"Webhok\" in version \"weir.dev/v1alpha1\"; did you mean \"Webhook\"?"
        ]
    );
}

#[test]
fn objects_of_other_groups_pass_untouched() {
    let value = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"x": null}});
    let manifest = read(&value.to_string());
    assert_eq!(manifest.problems, []);
    assert_eq!(
        manifest.documents[0].document,
        Document::Other(Box::new(value))
    );
}

#[test]
fn objects_in_a_list_are_judged_one_by_one() {
    let manifest = read(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n- apiVersion: weir.dev/v1alpha1\n  \
         kind: MessageBus\n  metadata: {name: a}\n  spec: {memory: {}, nat: 1}\n",
    );
    assert_eq!(
        manifest.problems.iter().map(shown).collect::<Vec<_>>(),
        ["a.yaml:9 spec.nat: unknown field \"spec.nat\"; did you mean \"nats\"?"]
    );
    assert_eq!(manifest.documents.len(), 1);
}

#[test]
fn wrong_versions_and_kinds_are_told_apart() {
    let said = |api_version: &str, kind: &str| {
        let problems = Linter::new().judge(&json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": {"memory": {}}
        }));
        problems
            .first()
            .map(|problem| (problem.severity, problem.message.clone()))
    };
    let error = |message: &str| Some((Severity::Error, message.to_owned()));
    assert_eq!(said("weir.dev/v1alpha1", "MessageBus"), None);
    assert_eq!(
        said("weir.dev/v1", "MessageBus"),
        error(
            "no matches for kind \"MessageBus\" in version \"weir.dev/v1\": write `apiVersion: weir.dev/v1alpha1`"
        )
    );
    assert_eq!(
        said("weir.dev/v1alpha1", "StateMachine"),
        error(
            "no matches for kind \"StateMachine\" in version \"weir.dev/v1alpha1\": this version of Weir does not have it yet"
        )
    );
    let (severity, message) = said("wier.dev/v1alpha1", "MessageBus").unwrap();
    assert_eq!(severity, Severity::Warning);
    assert!(
        message.ends_with("did you mean \"weir.dev/v1alpha1\"?"),
        "{message}"
    );
    assert_eq!(said("v1", "Secret"), None);
    assert_eq!(said("events.example.com/v1", "Webhook"), None);
}

#[test]
fn values_are_read_as_kubectl_reads_them() {
    let manifest = read(
        "apiVersion: weir.dev/v1alpha1\nkind: QueueConsumer\nmetadata: {generateName: a-}\nspec:\n  paused: yes\n  \
         delaySeconds: 5.0\n  handler:\n    image: a:1\n    volumes:\n    - mountPath: /a\n      \
         configMap: {name: b, defaultMode: 0755}\n",
    );
    assert_eq!(manifest.problems, []);
    let Document::QueueConsumer(queue) = &manifest.documents[0].document else {
        panic!()
    };
    let handler = queue.spec.handler.as_ref().unwrap();
    assert!(queue.spec.paused);
    assert_eq!(queue.spec.delay_seconds, 5);
    assert_eq!(
        handler.volumes[0].config_map.as_ref().unwrap().default_mode,
        Some(493)
    );
}

#[test]
fn nulls_that_some_ways_of_writing_refuse_are_told() {
    let manifest = read(
        "apiVersion: weir.dev/v1alpha1\nkind: MessageBus\nmetadata: {name: a}\nspec:\n  memory: {}\n  nats:\n  \
         runtime:\n",
    );
    assert_eq!(
        manifest.problems.iter().map(shown).collect::<Vec<_>>(),
        ["a.yaml:6 spec.nats: null is not a value: leave the field out"]
    );
    assert_eq!(manifest.problems[0].severity, Severity::Warning);
    assert!(manifest.is_acceptable());
    assert_eq!(manifest.documents.len(), 1);
}

#[test]
fn metadata_is_checked_as_the_server_does() {
    let said = |metadata: serde_json::Value| {
        let problems = Linter::new().judge(&json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "MessageBus", "metadata": metadata, "spec": {"memory": {}}
        }));
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(
        said(json!({"name": "a", "labels": {"a": "b"}, "namespace": "shop"})),
        ""
    );
    assert_eq!(
        said(json!({})),
        "metadata.name: Required value: name or generateName is required"
    );
    assert_eq!(
        said(json!({"name": ""})),
        "metadata.name: Required value: name or generateName is required"
    );
    assert_eq!(
        said(json!({"name": "a", "labels": {"app": 5}})),
        "metadata.labels.app: must be text, not a number: write it in quotes"
    );
    assert_eq!(
        said(json!({"name": "a", "lables": {}})),
        "metadata.lables: unknown field \"metadata.lables\"; did you mean \"labels\"?"
    );
    assert!(said(json!({"name": "a", "namespace": "a.b"})).contains("RFC 1123 label"));
    assert!(said(json!({"name": 5})).contains("must be text"));
    assert!(said(json!({"name": "a_b"})).contains("RFC 1123 subdomain"));
}

#[test]
fn an_exported_object_with_status_is_accepted() {
    let status = json!({"conditions": [], "whatever": 1});
    let mut value = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "MessageBus",
        "metadata": {"name": "a", "uid": "x", "resourceVersion": "1", "managedFields": []},
        "spec": {"memory": {}}, "status": {"conditions": []}
    });
    assert_eq!(Linter::new().judge(&value), []);
    value["status"] = status;
    assert_eq!(Linter::new().judge(&value).len(), 1);
}
