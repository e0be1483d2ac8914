//! Real processes that can be killed: NATS, sidecars and handlers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A program, how it is started, and the process that runs now.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts a program; what it prints is appended to `<folder>/<name>.log`.
    pub fn start(folder: &Path, name: &str, program: &Path, arguments: &[&str]) -> Self {
        let mut process = Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            log: folder.join(format!("{name}.log")),
            child: None,
        };
        process.start_again();
        process
    }

    /// Name of the log file and of the kills.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it again after a kill.
    pub fn start_again(&mut self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the run's folder is writable");
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log)
            .spawn()
            .expect("the program can be started");
        self.child = Some(child);
    }

    /// SIGKILL to it and everything that it started, and waits until all of it is gone.
    pub fn kill(&mut self) {
        let family = self.family();
        self.signal("-KILL", &family);
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        while family.iter().any(|pid| lives(*pid)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGSTOP: neither it nor what it started runs or ends.
    pub fn pause(&self) {
        self.signal("-STOP", &self.family());
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal("-CONT", &self.family());
    }

    fn signal(&self, signal: &str, family: &[u32]) {
        let Some((own, others)) = family.split_first() else {
            return;
        };
        // Those that it started may end by themselves at any time.
        for pid in others {
            drop(send(signal, *pid));
        }
        let sent = send(signal, *own);
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} cannot be sent {signal}",
            self.name
        );
    }

    /// It, and what it and its descendants started.
    fn family(&self) -> Vec<u32> {
        let mut family: Vec<u32> = self.child.iter().map(Child::id).collect();
        let mut next = 0;
        while let Some(pid) = family.get(next) {
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(children).unwrap_or_default();
            family.extend(children.split_whitespace().flat_map(str::parse::<u32>));
            next += 1;
        }
        family
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let child = self.child.as_ref()?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(signal: &str, pid: u32) -> std::io::Result<ExitStatus> {
    Command::new("kill")
        .args([signal, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
}

/// Whether a process is there and not only waited for.
fn lives(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with(['Z', 'X']))
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}

/// A binary of this workspace, beside the running test.
pub fn workspace_binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its program");
    let beside = test.parent().expect("a program is in a folder");
    let folder = if beside.ends_with("deps") {
        beside.parent().expect("deps is in target/<profile>")
    } else {
        beside
    };
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing; run: cargo build -p weir-sidecar",
        path.display()
    );
    path
}

/// The real server that the installer put into the cache.
pub fn nats_server(version: &str) -> PathBuf {
    let cache = std::env::var_os("WEIR_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/weir"),
        PathBuf::from,
    );
    let path = cache.join("tools/nats").join(version).join("nats-server");
    assert!(
        path.exists(),
        "{} is missing; run: tests/tools/install nats",
        path.display()
    );
    path
}
