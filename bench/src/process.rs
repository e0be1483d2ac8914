//! Child processes, with what the kernel knows about them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Failure;

/// A child that ends with this value.
pub struct Process(Child);

impl Process {
    /// Starts a program, silent.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let quiet = std::env::var_os("BENCH_VERBOSE").is_none();
        let out = || {
            if quiet {
                Stdio::null()
            } else {
                Stdio::inherit()
            }
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out())
            .stderr(out());
        Ok(Self(command.spawn()?))
    }

    /// User and system time so far, microseconds.
    pub fn cpu_micros(&self) -> f64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<f64> = after_name
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // utime and stime are fields 14 and 15 of the line, 100 ticks a second.
        fields
            .get(11..13)
            .map_or(0.0, |ticks| ticks.iter().sum::<f64>() * 10_000.0)
    }

    /// Resident memory, MiB.
    pub fn resident_mib(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap_or_default();
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0.0);
        kib / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A port of the loopback interface that is free now.
pub fn free_port() -> Result<u16, Failure> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Waits until a port takes connections.
pub async fn listening(port: u16) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        if tokio::time::Instant::now() > deadline {
            return Err(format!("nothing listens on port {port} after 20 s").into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}
