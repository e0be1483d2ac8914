//! Dead letters over their whole life, as users handle them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes, on their clock"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde_json::{Value, json as value};
use support::{Running, WEIR, json, text, weir};

const TWO: &str = "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {name: rows}
spec:
  concurrency: {max: 1}
  retry: {maxAttempts: 1}
  handler: {image: none}
---
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {name: other}
spec:
  concurrency: {max: 1}
  retry: {maxAttempts: 1}
  handler: {image: none}
";

/// Answers what the file says, and writes down what it was called with.
const SCRIPTED: &str = r"
import http.server, json, os
HERE = os.environ['SCRIPT']
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length'])).decode()
        status = int(open(HERE).read())
        with open(HERE + '.log', 'a') as log:
            log.write(json.dumps({'id': self.headers['ce-id'], 'body': body, 'status': status,
                                  'attempt': self.headers['weir-attempt']}) + '\n')
        self.send_response(status); self.send_header('content-length', '0'); self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()
";

struct Scene {
    run: Running,
    handler: u16,
    more: Vec<String>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "500").unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let handler = std::process::Command::new("python3")
            .args(["-c", SCRIPTED])
            .env("SCRIPT", &script)
            .env("PORT", port.to_string())
            .spawn()
            .unwrap();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        Self {
            run: Self::run(port, &more).with(handler),
            handler: port,
            more,
            folder,
        }
    }

    fn run(handler: u16, more: &[String]) -> Running {
        let url = |name: &str| format!("{name}=http://127.0.0.1:{handler}");
        let (rows, other) = (url("rows"), url("other"));
        let mut words = vec!["--handler", &rows, "--handler", &other];
        words.extend(more.iter().map(String::as_str));
        Running::start(TWO, &words)
    }

    /// Starts `weir run` again, beside the same handler.
    fn restart(&mut self) {
        let handlers = std::mem::take(&mut self.run.beside);
        self.run = Self::run(self.handler, &self.more);
        self.run.beside = handlers;
    }

    fn answers(&self, status: u16) {
        std::fs::write(self.folder.path().join("script"), status.to_string()).unwrap();
    }

    fn calls(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.folder.path().join("script.log"));
        let log = log.unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Sends messages that die, and answers their ids.
    fn die(&self, count: usize) -> Vec<String> {
        self.answers(500);
        let before = self.dead().len();
        let ids = (0..count)
            .map(|n| {
                let body = format!("{{\"n\": {n}}}");
                let sent = self
                    .run
                    .weir(&["send", "qc/rows", "-d", &body, "-o", "json"]);
                json(&sent)["id"].as_str().unwrap().to_owned()
            })
            .collect();
        self.run.until(&["dlq", "list", "qc/rows"], |answer| {
            answer["items"].as_array().unwrap().len() == before + count
        });
        ids
    }

    fn dead(&self) -> Vec<String> {
        let listed = json(&self.run.weir(&["dlq", "list", "qc/rows", "-o", "json"]));
        let items = listed["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn handled(&self, count: usize) -> Vec<String> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let done: Vec<String> = self
                .calls()
                .iter()
                .filter(|call| call["status"] == 204)
                .map(|call| call["id"].as_str().unwrap().to_owned())
                .collect();
            if done.len() >= count {
                return done;
            }
            assert!(std::time::Instant::now() < deadline, "{:?}", self.calls());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn what_was_mended_is_redriven_in_order_with_its_ids() {
    let scene = Scene::start();
    let ids = scene.die(5);
    assert_eq!(scene.dead(), ids);

    let tried = scene
        .run
        .weir(&["dlq", "redrive", "qc/rows", "--dry-run", "-o", "json"]);
    let tried = json(&tried);
    assert_eq!(
        (&tried["matching"], &tried["lookedAt"]),
        (&5.into(), &5.into())
    );
    assert_eq!(scene.dead(), ids, "a dry run moves nothing");

    scene.answers(204);
    let done = json(&scene.run.weir(&["dlq", "redrive", "qc/rows", "-o", "json"]));
    assert_eq!(done["state"], "Completed");
    assert_eq!(
        done["counts"],
        value!({"moved": 5, "passed": 0, "failed": 0})
    );
    assert_eq!(scene.handled(5), ids);
    assert!(scene.dead().is_empty());
    let last = scene.calls().pop().unwrap();
    assert_eq!(last["attempt"], "1", "attempts begin again");

    let table = text(&scene.run.weir(&["dlq", "redrive-status", "qc/rows"]).stdout);
    assert!(
        table.contains("Completed") && table.starts_with("ID"),
        "{table}"
    );
    let id = done["id"].as_str().unwrap();
    let one = json(
        &scene
            .run
            .weir(&["dlq", "redrive-status", "qc/rows", id, "-o", "json"]),
    );
    assert_eq!(one["counts"]["moved"], 5);
}

#[test]
fn one_message_is_edited_and_some_go_elsewhere() {
    let scene = Scene::start();
    let ids = scene.die(4);
    scene.answers(204);
    let body = scene.folder.path().join("body");
    std::fs::write(&body, "{\"n\": \"mended\"}").unwrap();
    let path = body.to_str().unwrap();
    let edited = scene
        .run
        .weir(&["dlq", "redrive", "qc/rows", "--id", &ids[2], "--body", path]);
    assert!(edited.status.success(), "{}", text(&edited.stderr));
    assert_eq!(scene.handled(1), [ids[2].clone()]);
    assert_eq!(scene.calls().pop().unwrap()["body"], "{\"n\": \"mended\"}");

    let editor = scene.folder.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/3/30/' \"$1\"\n").unwrap();
    std::process::Command::new("chmod")
        .arg("+x")
        .arg(&editor)
        .status()
        .unwrap();
    let edited = std::process::Command::new(WEIR)
        .args([
            "dlq",
            "redrive",
            "qc/rows",
            "--id",
            &ids[3],
            "--edit",
            "--ops",
            &scene.run.ops,
        ])
        .env("VISUAL", &editor)
        .output()
        .unwrap();
    assert!(edited.status.success(), "{}", text(&edited.stderr));
    scene.handled(2);
    assert_eq!(scene.calls().pop().unwrap()["body"], "{\"n\": 30}");

    let moved = scene.run.weir(&[
        "dlq", "redrive", "qc/rows", "--id", &ids[0], "--to", "qc/other", "-o", "json",
    ]);
    assert_eq!(json(&moved)["to"]["name"], "other");
    assert_eq!(scene.handled(3)[2], ids[0]);
    assert_eq!(scene.dead(), [ids[1].clone()]);
}

#[test]
fn a_slow_redrive_is_seen_and_cancelled() {
    let scene = Scene::start();
    let ids = scene.die(6);
    scene.answers(204);
    let start = [
        "dlq",
        "redrive",
        "qc/rows",
        "--rate",
        "1",
        "--no-wait",
        "-o",
        "json",
    ];
    let begun = json(&scene.run.weir(&start));
    assert_eq!(
        (&begun["state"], &begun["rate"]),
        (&"Running".into(), &1.into())
    );
    let twice = scene.run.weir(&start);
    assert_eq!(twice.status.code(), Some(1));
    let said = text(&twice.stderr);
    assert!(
        said.contains("409") && said.contains("redrive-cancel"),
        "{said}"
    );
    let purge = scene.run.weir(&["dlq", "purge", "qc/rows", "--yes"]);
    assert!(
        text(&purge.stderr).contains("under way"),
        "{}",
        text(&purge.stderr)
    );
    scene.handled(1);
    let ended = json(
        &scene
            .run
            .weir(&["dlq", "redrive-cancel", "qc/rows", "-o", "json"]),
    );
    assert_eq!(ended["state"], "Cancelled");
    let moved = ended["counts"]["moved"].as_u64().unwrap() as usize;
    assert!((1..6).contains(&moved), "{ended}");
    assert_eq!(scene.handled(moved), ids[..moved]);
    assert_eq!(scene.dead(), ids[moved..]);
}

#[test]
fn an_export_restores_what_was_purged() {
    let scene = Scene::start();
    scene.die(3);
    let before = json(&scene.run.weir(&["dlq", "peek", "qc/rows", "-o", "json"]));
    let file = scene.folder.path().join("letters.ndjson");
    let file = file.to_str().unwrap();
    let exported = json(
        &scene
            .run
            .weir(&["dlq", "export", "qc/rows", file, "-o", "json"]),
    );
    assert_eq!(exported["exported"], 3);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads messages");
    assert!(!Path::new(&format!("{file}.part")).exists());

    let refused = scene.run.weir(&["dlq", "purge", "qc/rows"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("--yes"));
    let none = json(&scene.run.weir(&[
        "dlq",
        "purge",
        "qc/rows",
        "--yes",
        "--where",
        "status=404",
        "-o",
        "json",
    ]));
    assert_eq!(none["purged"], 0);
    let purged = json(
        &scene
            .run
            .weir(&["dlq", "purge", "qc/rows", "--yes", "-o", "json"]),
    );
    assert_eq!(purged["purged"], 3);
    assert!(scene.dead().is_empty());

    for (stored, known) in [(3, 0), (0, 3)] {
        let done = json(
            &scene
                .run
                .weir(&["dlq", "import", "qc/rows", file, "-o", "json"]),
        );
        assert_eq!(done, value!({"stored": stored, "known": known}));
    }
    let after = json(&scene.run.weir(&["dlq", "peek", "qc/rows", "-o", "json"]));
    let without_position = |mut all: Value| {
        for item in all["items"].as_array_mut().unwrap() {
            item.as_object_mut().unwrap().remove("position");
        }
        all
    };
    assert_eq!(without_position(after), without_position(before));

    let stdout = text(&scene.run.weir(&["dlq", "export", "qc/rows", "-"]).stdout);
    assert_eq!(stdout.lines().count(), 3);
    std::fs::write(file, format!("{stdout}{{\"id\": 1}}\n")).unwrap();
    let bad = scene.run.weir(&["dlq", "import", "qc/rows", file]);
    let said = text(&bad.stderr);
    assert!(said.contains("letter 4: not a dead letter"), "{said}");
}

#[test]
fn a_web_page_can_neither_look_nor_change_and_a_program_needs_the_token() {
    let scene = Scene::start();
    let ids = scene.die(1);
    let ops = scene.run.ops.trim_start_matches("http://").to_owned();
    let ask = |method: &str, path: &str, headers: &str| {
        let mut stream = std::net::TcpStream::connect(&ops).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].parse::<u16>().unwrap()
    };
    let (letters, redrives) = (
        "/v1/objects/qc/rows/dead-letters",
        "/v1/objects/qc/rows/redrives",
    );
    let host = format!("host: {ops}\r\n");
    assert_eq!(ask("GET", letters, &host), 200);
    assert_eq!(ask("GET", letters, "host: rebound.example\r\n"), 403);
    assert_eq!(
        ask(
            "GET",
            letters,
            &format!("{host}origin: http://evil.example\r\n")
        ),
        403
    );
    assert_eq!(ask("POST", redrives, &host), 401);
    assert_eq!(
        ask(
            "POST",
            redrives,
            &format!("{host}authorization: Bearer x\r\n")
        ),
        401
    );
    assert_eq!(scene.dead(), ids);

    // Another user has another folder, and no token.
    let other = tempfile::tempdir().unwrap();
    let refused = std::process::Command::new(WEIR)
        .args(["dlq", "redrive", "qc/rows", "--ops", &scene.run.ops])
        .env("XDG_RUNTIME_DIR", other.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(
        said.contains("401") && said.contains("its token is in"),
        "{said}"
    );
    assert_eq!(scene.dead(), ids);
}

#[test]
fn mistakes_about_dead_letters_say_what_to_write() {
    for (arguments, wanted) in [
        (
            &["dlq", "redrive", "qc/rows", "--where", "reasn=x"][..],
            "did you mean `reason`?",
        ),
        (&["dlq", "redrive", "qc/rows", "--rate", "0"], "1 to 5000"),
        (&["dlq", "redrive", "qc/rows", "--edit"], "--id"),
        (
            &["dlq", "redrive", "qc/rows", "--to", "elsewhere"],
            "KIND/NAME",
        ),
        (
            &["dlq", "list", "--where", "status=banana"],
            "a class (5xx)",
        ),
        (
            &["dlq", "import", "qc/rows", "/nowhere"],
            "cannot read /nowhere",
        ),
        (&["dlq", "purge", "rows", "--yes"], "KIND/NAME"),
    ] {
        let output = weir(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        let said = text(&output.stderr);
        assert!(said.contains(wanted), "{arguments:?}: {said}");
    }
}

/// A server that ends with the test; absent where NATS is not installed.
struct Nats {
    child: std::process::Child,
    port: u16,
    _store: tempfile::TempDir,
}

impl Nats {
    fn start() -> Option<Self> {
        let cache = std::env::var_os("WEIR_CACHE").map_or_else(
            || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/weir"),
            std::path::PathBuf::from,
        );
        let binary = cache.join("tools/nats/2.15.1/nats-server");
        if !binary.is_file() || std::env::var_os("WEIR_SKIP_NATS").is_some() {
            eprintln!("skipped: no nats-server; run tests/tools/install nats");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = std::process::Command::new(binary)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(std::time::Instant::now() < deadline, "NATS does not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(Self {
            child,
            port,
            _store: folder,
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_redrive_survives_the_kill_of_weir_run() {
    let Some(nats) = Nats::start() else { return };
    let mut scene = Scene::start_with(&["--nats", &format!("nats://127.0.0.1:{}", nats.port)]);
    let ids = scene.die(6);
    scene.answers(204);
    let start = [
        "dlq",
        "redrive",
        "qc/rows",
        "--rate",
        "2",
        "--no-wait",
        "-o",
        "json",
    ];
    let begun = json(&scene.run.weir(&start));
    scene.handled(2);
    scene.run.child.kill().unwrap();
    scene.run.child.wait().unwrap();
    scene.restart();
    let watch = ["dlq", "redrive-status", "qc/rows", "--watch", "-o", "json"];
    let ended = json(&scene.run.weir(&watch));
    assert_eq!(
        (&ended["id"], &ended["state"]),
        (&begun["id"], &"Completed".into())
    );
    assert_eq!(ended["counts"]["moved"], 6, "{ended}");
    let handled = scene.handled(6);
    let mut once = handled.clone();
    once.dedup();
    assert_eq!(once, ids, "each once, in order: {handled:?}");
    assert!(scene.dead().is_empty());
}
