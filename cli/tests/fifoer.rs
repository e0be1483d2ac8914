//! `examples/fifoer`, unchanged, as its README runs it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes, on their clock"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// The example while it runs, and what its handler printed.
struct Example {
    child: Child,
    ops: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Example {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fifoer");
        let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, ops) = (port().to_string(), port().to_string());
        let mut child = Command::new(WEIR)
            .args(["run", "-f"])
            .arg(folder)
            .args(["--listen", &listen, "--ops", &ops])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let printed = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in printed.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let example = Self {
            child,
            ops: format!("http://{ops}"),
            lines,
        };
        example.until(|lines| lines.iter().any(|line| line.contains("ready after")));
        example
    }

    fn weir(&self, arguments: &[&str]) -> Output {
        Command::new(WEIR)
            .args(arguments)
            .args(["--ops", &self.ops])
            .output()
            .unwrap()
    }

    fn send(&self, account: &str, number: u32, amount: u32) -> Value {
        let body = json!({"account": account, "number": number, "amount": amount}).to_string();
        let sent = self.weir(&["send", "fifo/transfers", "-d", &body, "-o", "json"]);
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        serde_json::from_slice(&sent.stdout).unwrap()
    }

    fn until(&self, wanted: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.lines.lock().unwrap().clone();
            if wanted(&lines) {
                return;
            }
            assert!(Instant::now() < deadline, "still {lines:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was printed about an account, without its name.
    fn about(&self, account: &str) -> Vec<String> {
        let mark = format!("{account}: ");
        let lines = self.lines.lock().unwrap();
        let about = lines.iter().filter_map(|line| line.split_once(&mark));
        about.map(|(_, said)| said.to_owned()).collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
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

#[test]
fn accounts_keep_their_order_and_a_bad_transfer_stops_no_other() {
    let example = Example::start();
    for number in 1..=4 {
        for account in ["anna", "bert", "carl"] {
            let bad = account == "bert" && number == 2;
            example.send(account, number, if bad { 0 } else { number * 10 });
        }
    }
    example.until(|lines| lines.iter().any(|line| line.contains("bert: 4 booked")));
    let booked = ["1 booked, balance 10", "2 booked, balance 30", "3 booked, balance 60", "4 booked, balance 100"];
    assert_eq!(example.about("anna"), booked);
    assert_eq!(example.about("carl"), booked);
    assert_eq!(
        example.about("bert"),
        [
            "1 booked, balance 10",
            "2 cannot be booked, attempt 1",
            "2 cannot be booked, attempt 2",
            "2 cannot be booked, attempt 3",
            "3 booked, balance 40",
            "4 booked, balance 80",
        ]
    );
    // The others were done while the bad one was tried.
    let lines = example.lines.lock().unwrap().clone();
    let place = |part: &str| lines.iter().position(|line| line.contains(part)).unwrap();
    assert!(place("anna: 4 booked") < place("bert: 2 cannot be booked, attempt 3"));

    let dead = example.weir(&["dlq", "list", "fifo/transfers", "-o", "json"]);
    let dead = String::from_utf8_lossy(&dead.stdout).into_owned();
    assert!(dead.contains("MaxAttempts"), "{dead}");

    // The same transfer again is known; of another account it is another transfer.
    assert_eq!(example.send("anna", 1, 10)["duplicate"], true);
    let sent = example.weir(&["send", "fifo/transfers", "-d", "{\"amount\": 1}"]);
    assert!(!sent.status.success());
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(said.contains("spec.groupBy gave nothing"), "{said}");
}

#[test]
fn a_sender_can_name_the_group_itself() {
    let example = Example::start();
    let body = json!({"account": "dora", "number": 1, "amount": 5}).to_string();
    let sent = example.weir(&["send", "fifo/transfers", "--group", "vault", "-d", &body]);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    example.until(|lines| lines.iter().any(|line| line.contains("vault: 1 booked")));
    let sent = example.weir(&["send", "fifo/transfers", "--group", "a b", "-d", &body]);
    assert!(String::from_utf8_lossy(&sent.stderr).contains("weir-group must be"));
}
