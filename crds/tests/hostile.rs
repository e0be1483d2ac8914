//! Text that wants to hurt the reader. Each must give a bounded answer, soon.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use weir_crds::lint::{Linter, MAX_PROBLEMS, Manifest};

const HEAD: &str = "apiVersion: weir.dev/v1alpha1\nkind: QueueConsumer\nmetadata: {name: a}\n";

fn read(text: &str) -> Manifest {
    thread_local!(static LINTER: Linter = Linter::new());
    let manifest = LINTER.with(|linter| linter.read("hostile", text));
    assert!(manifest.problems.len() <= MAX_PROBLEMS + 1);
    for problem in &manifest.problems {
        assert!(
            problem.to_string().len() < 2000,
            "{} bytes",
            problem.to_string().len()
        );
    }
    manifest
}

/// It is refused.
fn refused(text: &str) {
    assert!(!read(text).is_acceptable());
}

#[test]
fn ten_megabytes_of_text_in_one_value() {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\ndata: {{a: \"{}\"}}\n",
        "x".repeat(10 << 20)
    );
    assert!(read(&text).is_acceptable());
    refused(&format!(
        "{HEAD}spec: {{handler: {{image: \"{}\"}}}}\n",
        "x".repeat(10 << 20)
    ));
    refused(&format!("{HEAD}spec: {{{}: 1}}\n", "x".repeat(300)));
    refused(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: \"{}\"\n",
        "x".repeat(1000)
    ));
}

#[test]
fn ten_megabytes_of_entries() {
    let mut text = format!("{HEAD}spec:\n  handler:\n    image: a\n    args:\n");
    while text.len() < 10 << 20 {
        text += "    - aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n";
    }
    refused(&text);
    let mut text = format!("{HEAD}spec:\n");
    for index in 0.. {
        if text.len() > 2 << 20 {
            break;
        }
        let _ = writeln!(text, "  field{index}: 1");
    }
    refused(&text);
}

#[test]
fn very_many_documents() {
    read(&"---\n".repeat(10 << 16));
    read(&format!("---\n{HEAD}").repeat(300));
    read(&"---\na: 1\n".repeat(1 << 12));
}

#[test]
fn many_warnings_do_not_hide_an_error() {
    let nulls = "- {emptyDir: }\n      ".repeat(3 * MAX_PROBLEMS);
    refused(&format!(
        "{HEAD}spec:\n  handler:\n    image: a\n    volumes:\n      {nulls}\n"
    ));
    let warned =
        format!("{HEAD}spec: {{bus: null, handler: {{image: a}}}}\n---\n").repeat(2 * MAX_PROBLEMS);
    assert!(read(&warned).is_acceptable());
    refused(&format!("{warned}---\n{HEAD}spec: {{}}\n"));
}

#[test]
fn alias_bombs() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for index in 1..20 {
        let list = vec![format!("*a{}", index - 1); 10].join(", ");
        let _ = writeln!(text, "a{index}: &a{index} [{list}]");
    }
    refused(&text);
    refused("a: &a [*a]\n");
    refused("a: &a {b: *a}\n");
    refused("a: *b\n");
    refused(&format!(
        "a: &a {{b: 1}}\nc:\n{}",
        "- {<<: *a}\n".repeat(200_000)
    ));
}

#[test]
fn deep_nesting() {
    refused(&"[".repeat(10_000));
    refused(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)));
    refused(&"{a: ".repeat(10_000));
    refused(&format!("{}{}", "{a: ".repeat(10_000), "}".repeat(10_000)));
    refused(&"- ".repeat(10_000));
    let mut text = String::new();
    for depth in 0..10_000 {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
        if text.len() > 20 << 20 {
            break;
        }
    }
    refused(&text);
}

#[test]
fn what_is_not_yaml() {
    for text in [
        "\ta: 1\n",
        "a:\n\tb: 1\n",
        "a: 1\na: 2\n",
        "a: {b: 1, b: 2}\n",
        "a: 'b\n",
        "a: |\n b\nc\n",
        "a: b: c\n",
        "%YAML 9.9\n---\na: 1\n",
        "a: \u{0}\n",
        "a: \u{7}\n",
        "? [a]\n: b\n",
        "? {a: b}\n: c\n",
        "!!python/object:os.system a\n",
        "a: .nan\n",
        "a: .inf\n",
        "a: 1e999\n",
    ] {
        refused(text);
    }
}

#[test]
fn what_is_nothing() {
    for text in [
        "",
        "\n",
        "---\n",
        "---\n---\n",
        "# a\n",
        "--- # a\n# b\n",
        "null\n",
        "~",
        " \t\n",
        "...\n",
        "\u{feff}",
    ] {
        assert_eq!(read(text), Manifest::default(), "{text:?}");
    }
}

#[test]
fn odd_values_in_every_place() {
    for value in [
        "99999999999999999999999999",
        "-99999999999999999999999999",
        "1.5",
        "1e3",
        "0x10",
        "0o17",
        "-0.0",
        "2026-11-24",
        "\u{202e}",
        "\"\\0\"",
        "[]",
        "{}",
        "[[[]]]",
        "~",
        "!!binary aGk=",
    ] {
        for field in [
            "concurrency",
            "retry",
            "handler",
            "to",
            "paused",
            "delaySeconds",
            "allowedFrom",
            "unknown",
        ] {
            refused(&format!("{HEAD}spec: {{{field}: {value}}}\n"));
        }
        for field in ["max", "perReplica"] {
            read(&format!(
                "{HEAD}spec: {{handler: {{image: a}}, concurrency: {{{field}: {value}}}}}\n"
            ));
        }
        read(&format!(
            "apiVersion: {value}\nkind: {value}\nmetadata: {value}\n"
        ));
        read(&format!("apiVersion: weir.dev/v1alpha1\nkind: {value}\n"));
        read(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Webhook\nmetadata: {value}\nspec: {value}\n"
        ));
        read(&format!("apiVersion: v1\nkind: List\nitems: [{value}]\n"));
    }
}
