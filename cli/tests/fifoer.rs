//! `examples/fifoer`, unchanged, as its README runs it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of processes, on their clock"
)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
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
        Self::start_in(&folder())
    }

    /// The example with another `whenExhausted`.
    fn with(when_exhausted: &str, place: &Path) -> Self {
        for file in ["transfers.yaml", "handler.py"] {
            let text = std::fs::read_to_string(folder().join(file)).unwrap();
            let wanted = format!("whenExhausted: {when_exhausted}");
            std::fs::write(
                place.join(file),
                text.replace("whenExhausted: DeadLetter", &wanted),
            )
            .unwrap();
        }
        Self::start_in(place)
    }

    fn start_in(folder: &Path) -> Self {
        let port = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
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
        assert!(
            sent.status.success(),
            "{}",
            String::from_utf8_lossy(&sent.stderr)
        );
        serde_json::from_slice(&sent.stdout).unwrap()
    }

    /// What `weir groups` prints as JSON.
    fn groups(&self, arguments: &[&str]) -> Value {
        let arguments = [&["groups"], arguments, &["-o", "json"]].concat();
        let answer = self.weir(&arguments);
        assert!(
            answer.status.success(),
            "{}",
            String::from_utf8_lossy(&answer.stderr)
        );
        serde_json::from_slice(&answer.stdout).unwrap()
    }

    /// Waits until so many groups wait for a human.
    fn held(&self, count: u64) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let groups = self.groups(&["list", "fifo/transfers"]);
            if groups["held"] == count {
                return groups;
            }
            assert!(Instant::now() < deadline, "still {groups}");
            std::thread::sleep(Duration::from_millis(20));
        }
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

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/fifoer")
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
    let booked = [
        "1 booked, balance 10",
        "2 booked, balance 30",
        "3 booked, balance 60",
        "4 booked, balance 100",
    ];
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
    assert!(
        sent.status.success(),
        "{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    example.until(|lines| lines.iter().any(|line| line.contains("vault: 1 booked")));
    let sent = example.weir(&["send", "fifo/transfers", "--group", "a b", "-d", &body]);
    assert!(String::from_utf8_lossy(&sent.stderr).contains("weir-group must be"));
}

#[test]
fn a_blocked_group_is_listed_and_goes_on_when_it_is_let() {
    let place = tempfile::tempdir().unwrap();
    let example = Example::with("BlockGroup", place.path());
    for number in 1..=2 {
        example.send("bert", number, number - 1);
        example.send("anna", number, 10);
    }
    let groups = example.held(1);
    assert_eq!(groups["items"][0]["group"], "bert");
    assert_eq!(groups["items"][0]["hold"], "Blocked");
    assert_eq!(groups["items"][0]["failure"]["reason"], "MaxAttempts");
    example.until(|lines| lines.iter().any(|line| line.contains("anna: 2 booked")));
    assert_eq!(
        example.about("bert").len(),
        3,
        "{:?}",
        example.about("bert")
    );
    let released = example.groups(&["release", "fifo/transfers", "bert"]);
    assert_eq!(released["released"], true);
    example.until(|lines| {
        lines
            .iter()
            .filter(|line| line.contains("bert: 1 cannot"))
            .count()
            == 6
    });
    example.held(1);
    let unheld = example.groups(&["release", "fifo/transfers", "anna"]);
    assert_eq!(unheld["released"], false);
}

#[test]
fn a_group_that_was_given_up_is_put_back_in_its_order() {
    let place = tempfile::tempdir().unwrap();
    let example = Example::with("DeadLetterGroup", place.path());
    for number in 1..=3 {
        example.send("bert", number, number - 1);
    }
    let groups = example.held(1);
    assert_eq!(groups["items"][0]["hold"], "DeadLettered");
    let redriven = example.groups(&["redrive", "fifo/transfers", "bert"]);
    assert_eq!(redriven["putBack"], 3);
    // The first one fails again, and takes the others with it again.
    example.until(|lines| {
        lines
            .iter()
            .filter(|line| line.contains("bert: 1 cannot"))
            .count()
            == 6
    });
    example.held(1);
    assert!(
        !example
            .about("bert")
            .iter()
            .any(|line| line.contains("balance"))
    );
}

#[test]
fn an_expression_that_cannot_be_parsed_is_found_without_a_cluster() {
    let place = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(folder().join("transfers.yaml")).unwrap();
    let file = place.path().join("transfers.yaml");
    std::fs::write(&file, manifest.replace("data.account", "data.")).unwrap();
    for arguments in [["lint", "-f"], ["run", "-f"]] {
        let output = Command::new(WEIR)
            .args(arguments)
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("spec.groupBy: "), "{said}");
    }
}
