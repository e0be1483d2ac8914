//! Real RabbitMQ servers, each in its own small Debian, its own namespaces and its own folder.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{KEEPER, tools};
use crate::subject::free_port;

/// Mounts what the server needs where nobody else sees it, and becomes the server. When the outer
/// process dies, everything below it does.
const START: &str = r#"
    mount -t proc proc "$1/proc" && mount --bind "$2" "$1/mnt" && exec chroot "$1" env -i \
    HOME=/mnt PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    RABBITMQ_NODENAME=weir@localhost RABBITMQ_DIST_PORT="$3" ERL_EPMD_PORT="$4" \
    RABBITMQ_MNESIA_BASE=/mnt/db RABBITMQ_LOG_BASE=/mnt/log \
    RABBITMQ_CONFIG_FILE=/mnt/rabbitmq.conf RABBITMQ_ADVANCED_CONFIG_FILE=/mnt/advanced.config \
    RABBITMQ_ENABLED_PLUGINS_FILE=/mnt/enabled_plugins \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none" \
    /usr/lib/rabbitmq/bin/rabbitmq-server
"#;

/// Statistics of quorum queues ten times as often as by default; and after a start, what leaves a delay
/// queue is sent again soon when its queue was not ready for it, not after three minutes.
const ADVANCED: &str = "[{rabbit, [{quorum_tick_interval, 500}, \
                        {dead_letter_worker_publisher_confirm_timeout, 3000}]}].\n";

/// Where the server of a release of Debian is installed, and its version.
pub fn installed(suite: &str) -> Result<(PathBuf, String), String> {
    let root = tools().join("rabbitmq").join(suite);
    match std::fs::read_to_string(root.join("VERSION")) {
        Ok(version) => Ok((root, version.trim().to_owned())),
        Err(_) => Err(format!(
            "RabbitMQ of Debian {suite} is not installed: run `tests/tools/install rabbitmq` as root \
             (or set WEIR_SKIP_RABBITMQ=1 to test without it)"
        )),
    }
}

/// One server with a folder and addresses of its own, which it keeps over restarts.
pub struct Server {
    root: PathBuf,
    folder: TempDir,
    /// AMQP, management, distribution, port mapper.
    ports: [u16; 4],
    keeper: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start(suite: &str) -> Self {
        let (root, _) = installed(suite).unwrap_or_else(|why| panic!("{why}"));
        let folder = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let mut conf = String::new();
        for line in [
            format!("listeners.tcp.default = 127.0.0.1:{}", ports[0]),
            "management.tcp.ip = 127.0.0.1".to_owned(),
            format!("management.tcp.port = {}", ports[1]),
            // Counts of deliveries are as old as this; the default is ten times as long.
            "collect_statistics_interval = 500".to_owned(),
            "disk_free_limit.absolute = 50MB".to_owned(),
        ] {
            writeln!(conf, "{line}").unwrap();
        }
        let files = [
            ("rabbitmq.conf", conf.as_str()),
            ("advanced.config", ADVANCED),
            ("enabled_plugins", "[rabbitmq_management].\n"),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        for name in ["db", "log"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut server = Self {
            root,
            folder,
            ports,
            keeper: None,
        };
        server.restart();
        server
    }

    /// `127.0.0.1:port` of AMQP.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// `127.0.0.1:port` of the management API.
    pub fn management(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    /// A folder that goes with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
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
        let until = Instant::now() + Duration::from_secs(10);
        while self
            .ports
            .iter()
            .any(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        {
            assert!(Instant::now() < until, "the server outlived its kill");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on what it had stored.
    #[expect(clippy::disallowed_methods, reason = "a deadline of a blocking wait")]
    pub fn restart(&mut self) {
        self.kill();
        let out = std::fs::File::create(self.folder.path().join("out")).unwrap();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", START, "start"])
            .arg(&self.root)
            .arg(self.folder.path())
            .args([self.ports[2].to_string(), self.ports[3].to_string()])
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let until = Instant::now() + Duration::from_secs(90);
        while TcpStream::connect(self.address()).is_err()
            || request(&self.management(), "GET", "overview", "").is_none()
        {
            if Instant::now() > until {
                let out = std::fs::read_to_string(self.folder.path().join("out"));
                panic!("RabbitMQ does not start: {}", out.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks the management API. `None` where it does not answer, or not with success.
pub fn request(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    // guest:guest
    write!(
        stream,
        "{method} /api/{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    status.starts_with('2').then(|| body.to_owned())
}
