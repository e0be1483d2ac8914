//! The program as its users call it, and a `weir run` that ends with the test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes, on their clock; each program uses a part"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

pub fn weir(arguments: &[&str]) -> Output {
    Command::new(WEIR)
        .args(arguments)
        .env_remove("WEIR_OPS")
        .output()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// A `weir run` that ends with the test.
pub struct Running {
    pub child: Child,
    pub ops: String,
    pub beside: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Runs a manifest; `{}` in it is a folder of its own. Ready when this returns.
    pub fn start(manifest: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        let port = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (listen, ops) = (port().to_string(), port().to_string());
        let mut child = Command::new(WEIR)
            .args(["run", "-f"])
            .arg(&file)
            .args(["--listen", &listen, "--ops", &ops])
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .map_while(Result::ok)
            .find(|line| line.contains("ready after"));
        assert!(ready.is_some(), "weir run ended before it was ready");
        // Somebody has to read, or the program blocks when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            ops: format!("http://{ops}"),
            beside: Vec::new(),
            _folder: folder,
        }
    }

    /// Ends another process with this one.
    pub fn with(mut self, child: Child) -> Self {
        self.beside.push(child);
        self
    }

    pub fn weir(&self, arguments: &[&str]) -> Output {
        weir(&[arguments, &["--ops", &self.ops]].concat())
    }

    /// Asks until the answer is as wanted.
    pub fn until(
        &self,
        arguments: &[&str],
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = json(&self.weir(&[arguments, &["-o", "json"]].concat()));
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "still {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.beside {
            child.kill().ok();
            child.wait().ok();
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub const QUEUE: &str = "
apiVersion: weir.dev/v1alpha1
kind: QueueConsumer
metadata: {name: rows}
spec:
  concurrency: {max: 1}
  retry: {maxAttempts: 1}
  handler: {image: none}
";

/// A handler of one line: what it answers is in the body.
pub const HANDLER: &str = r"
import http.server, json, os
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['content-length'])))
        self.send_response(body['answer']); self.send_header('content-length', '0'); self.end_headers()
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()
";
