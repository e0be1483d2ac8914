//! The program as its users call it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes, on their clock"
)]

mod support;

use support::{HANDLER, QUEUE, Running, examples, json, text, weir};

#[test]
fn what_fails_is_listed_counted_and_shown_whole() {
    let run = Running::start(QUEUE, &["--", "python3", "-c", HANDLER]);
    let sent = run.weir(&["send", "qc/rows", "-d", r#"{"answer": 500}"#, "-o", "json"]);
    let id = json(&sent)["id"].as_str().unwrap().to_owned();
    run.weir(&["send", "queueconsumer/rows", "-d", r#"{"answer": 204}"#]);

    let list = ["dlq", "list", "queueconsumer/rows"];
    let answer = run.until(&list, |answer| {
        answer["items"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    });
    let item = &answer["items"][0];
    assert_eq!(item["id"], id.as_str());
    assert_eq!(
        (&item["reason"], &item["attempts"]),
        (&"MaxAttempts".into(), &1.into())
    );
    assert_eq!(answer["items"].as_array().unwrap().len(), 1);

    let table = text(&run.weir(&["dlq", "list"]).stdout);
    assert!(
        table.starts_with("OBJECT") && table.contains("queueconsumer/rows"),
        "{table}"
    );
    let counts = json(&run.weir(&["dlq", "list", "--by", "status", "-o", "json"]));
    let count = &counts["counts"][0];
    assert_eq!((&count["key"], &count["count"]), (&"500".into(), &1.into()));
    let letter = text(&run.weir(&["dlq", "show", "qc/rows", &id]).stdout);
    assert!(
        letter.contains("MaxAttempts") && letter.contains(r#"{"answer": 500}"#),
        "{letter}"
    );
    assert_eq!(
        text(&run.weir(&["dlq", "list", "-o", "name"]).stdout).trim(),
        id
    );

    let missing = run.weir(&["dlq", "show", "qc/rows", "no/such id"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("404"),
        "{}",
        text(&missing.stderr)
    );
}

#[test]
fn a_webhook_without_its_secret_says_so_and_a_wrong_key_is_refused() {
    let manifest = "
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {a: it is a secret of enough length}
---
apiVersion: weir.dev/v1alpha1
kind: Webhook
metadata: {name: hub}
spec:
  verify: {scheme: GitHub, secretRef: {name: key}}
  handler: {image: none}
";
    let run = Running::start(manifest, &["--", "python3", "-c", HANDLER]);
    let send = |key: &str| {
        run.weir(&[
            "send",
            "webhook/hub",
            "-d",
            r#"{"answer":204}"#,
            "--scheme",
            "github",
            "--sign-with",
            key,
        ])
    };
    assert!(send("it is a secret of enough length").status.success());
    let refused = send("another secret of enough length");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("401"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn mistakes_on_the_command_line_say_what_to_write() {
    for (arguments, wanted) in [
        (&["send", "rows", "-d", "x"][..], "KIND/NAME"),
        (
            &["send", "topic/rows", "-d", "x"],
            "no kind is called `topic`",
        ),
        (&["send", "qc/Rows", "-d", "x"], "lower case"),
        (&["send", "qc/rows"], "-d"),
        (
            &["dlq", "list", "qc/rows", "--ops", "http://x", "-n", "shop"],
            "one or the other",
        ),
        (&["run", "-f", "/nowhere"], "cannot read /nowhere"),
        (&["lint", "-f", "/nowhere"], "cannot read /nowhere"),
    ] {
        let output = weir(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).contains(wanted),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty(), "errors go to standard error");
    }
}

#[test]
fn without_a_runtime_the_next_step_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = weir(&["dlq", "list", "--ops", &format!("http://{port}")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("weir run"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn examples_pass_lint_and_bad_manifests_name_line_and_field() {
    for folder in std::fs::read_dir(examples()).unwrap().flatten() {
        let output = weir(&["lint", "-f", &folder.path().to_string_lossy()]);
        assert!(
            output.status.success(),
            "{}: {}",
            folder.path().display(),
            text(&output.stdout)
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, QUEUE.replace("maxAttempts: 1", "maxAttemps: 1")).unwrap();
    let output = weir(&["lint", "-f", &file.to_string_lossy(), "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let problem =
        &serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["problems"][0];
    assert_eq!(problem["path"], "spec.retry.maxAttemps");
    assert_eq!(problem["line"], 7);
    assert!(
        problem["message"].as_str().unwrap().contains("maxAttempts"),
        "{problem}"
    );
}

#[test]
fn a_handler_that_is_missing_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("q.yaml");
    std::fs::write(&file, QUEUE).unwrap();
    let output = weir(&[
        "run",
        "-f",
        &file.to_string_lossy(),
        "--listen",
        "127.0.0.1:0",
        "--ops",
        "127.0.0.1:0",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("--handler rows="),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn completion_covers_every_command_and_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&weir(&["completion", shell]).stdout);
        for command in ["run", "send", "dlq", "lint", "version", "completion"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

#[test]
fn versions_are_data_too() {
    let version = json(&weir(&["version", "--client", "-o", "json"]));
    assert_eq!(version["client"], env!("CARGO_PKG_VERSION"));
}
