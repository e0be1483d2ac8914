//! Real servers, found in the tool cache. They never outlive the test process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod rabbitmq;

/// Kills the server when our end of its input closes, which also happens when we are killed.
const KEEPER: &str =
    r#""$@" & server=$!; read -r _; kill -9 "$server"; wait "$server" 2>/dev/null"#;

/// Where the tools are.
fn tools() -> PathBuf {
    let cache = std::env::var_os("WEIR_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/weir"),
        PathBuf::from,
    );
    cache.join("tools")
}

/// Where the NATS server of a version is installed.
pub fn binary(version: &str) -> Result<PathBuf, String> {
    let path = tools().join("nats").join(version).join("nats-server");
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "nats-server {version} is not installed: run `tests/tools/install nats` (or set \
         WEIR_SKIP_NATS=1 to test without it)"
    ))
}

/// Settings of a server beside its address and folder.
pub type Extra = Vec<String>;

/// One NATS server with a folder and an address of its own, which it keeps over restarts.
pub struct Server {
    binary: PathBuf,
    folder: TempDir,
    extra: Extra,
    port: Option<u16>,
    keeper: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(version: &str, extra: Extra) -> Self {
        let binary = binary(version).unwrap_or_else(|why| panic!("{why}"));
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            binary,
            folder,
            extra,
            port: None,
            keeper: None,
        };
        server.restart();
        server
    }

    /// `nats://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.unwrap())
    }

    /// Whether it was started and not killed.
    pub fn is_up(&self) -> bool {
        self.keeper.is_some()
    }

    /// Ends it like a power cut of the process: SIGKILL, nothing written any more.
    #[expect(clippy::disallowed_methods, reason = "a deadline of a blocking wait")]
    pub fn kill(&mut self) {
        let Some(mut keeper) = self.keeper.take() else {
            return;
        };
        drop(keeper.stdin.take());
        drop(keeper.wait());
        // Bound by the old process until the kernel is done with it.
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(self.address()).is_ok() {
            assert!(Instant::now() < until, "the server outlived its kill");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on what it had stored.
    #[expect(clippy::disallowed_methods, reason = "a deadline of a blocking wait")]
    pub fn restart(&mut self) {
        self.kill();
        let ports = self.folder.path().join("ports");
        drop(std::fs::remove_dir_all(&ports));
        std::fs::create_dir(&ports).unwrap();
        let port = self
            .port
            .map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.binary)
            .args(["-a", "127.0.0.1", "-p", &port, "-js", "-sd"])
            .arg(self.folder.path().join("store"))
            .arg("--ports_file_dir")
            .arg(&ports)
            .arg("-l")
            .arg(self.folder.path().join("log"))
            .args(&self.extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(port) = read_port(&ports) {
                self.port = Some(port);
                if std::net::TcpStream::connect(self.address()).is_ok() {
                    return;
                }
            }
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("the server does not start: {}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port of the first client address in the file that the server writes.
fn read_port(ports: &Path) -> Option<u16> {
    let file = std::fs::read_dir(ports).ok()?.flatten().next()?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}
