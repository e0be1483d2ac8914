//! The files that the judge reads: one JSON line an event, written before or right after it happened.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One thing that somebody outside the system saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// The producer is about to send message `n`, of this group, if it has one. Inside a group
    /// numbers grow, and a message is sent when the one before was accepted.
    Try {
        n: u64,
        sha: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<u64>,
    },
    /// The producer saw a 2xx for message `n`.
    Accepted { n: u64, id: String },
    /// A handler was called.
    Started {
        n: u64,
        id: String,
        sha: String,
        attempt: u32,
        at: u64,
    },
    /// It answered.
    Ended {
        n: u64,
        id: String,
        status: u16,
        started: u64,
        at: u64,
    },
    /// A process was killed or paused, with the calls that may have been running in it.
    Fault {
        what: String,
        in_flight: u64,
        at: u64,
    },
}

/// Appends events; each is handed to the kernel before `write` returns, so that it outlives the
/// process however it ends.
pub struct Ledger(Mutex<File>);

impl Ledger {
    /// Opens or continues a file.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self(Mutex::new(
            OpenOptions::new().create(true).append(true).open(path)?,
        )))
    }

    /// Appends one event.
    pub fn write(&self, event: &Event) {
        let mut line = serde_json::to_vec(event).expect("events are plain data");
        line.push(b'\n');
        self.0
            .lock()
            .expect("no writer panics")
            .write_all(&line)
            .expect("the ledger is writable");
    }
}

/// Reads every event of a file. A last line that was cut by a kill is left out.
pub fn read(path: &Path) -> Vec<Event> {
    let Ok(file) = File::open(path) else {
        return Vec::new();
    };
    BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect()
}

/// Nanoseconds on a clock that all processes of this machine share.
#[expect(
    clippy::disallowed_methods,
    reason = "the ledger is outside the system under test"
)]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// SHA-256 in hex.
pub fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
