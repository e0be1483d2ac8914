//! Real RabbitMQ servers, each in its own small Debian, its own namespaces and its own folder.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{KEEPER, tools};

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

/// Releases of Debian and the series of RabbitMQ that they carry, the oldest first.
pub const SERIES: [(&str, &str); 2] = [("trixie", "4.0"), ("forky", "4.3")];

/// Whether RabbitMQ is tested here: why not, where it cannot be. The installer says so where it could not
/// install it, and only root can.
///
/// # Errors
/// Where it should be tested and is not installed: it was not tried, or `WEIR_REQUIRE_ALL` is set.
pub fn tested() -> Result<Result<(), String>, String> {
    if std::env::var_os("WEIR_SKIP_RABBITMQ").is_some() {
        return Ok(Err("WEIR_SKIP_RABBITMQ is set".to_owned()));
    }
    let Some(missing) = SERIES.iter().find_map(|(suite, _)| installed(suite).err()) else {
        return Ok(Ok(()));
    };
    if std::env::var_os("WEIR_REQUIRE_ALL").is_some() {
        return Err(missing);
    }
    if let Ok(why) = std::fs::read_to_string(tools().join("rabbitmq/left-out")) {
        return Ok(Err(why.trim().to_owned()));
    }
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if root { Err(missing) } else { Ok(Err(missing)) }
}

/// A port that is free, and not one of those that clients get: nobody must have it when the server is started
/// again.
fn lasting_port() -> u16 {
    loop {
        let port = fastrand::u16(10_240..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where one server runs: its release of Debian, its folder, and addresses that it keeps over restarts.
pub struct Place {
    root: PathBuf,
    folder: PathBuf,
    /// AMQP, management, distribution, port mapper.
    ports: [u16; 4],
}

impl Place {
    /// Prepares a folder for a server.
    ///
    /// # Panics
    /// Where the release is not installed, or the folder not writable.
    pub fn prepare(suite: &str, folder: &Path) -> Self {
        let (root, _) = installed(suite).unwrap_or_else(|why| panic!("{why}"));
        let ports = [(); 4].map(|()| lasting_port());
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
            std::fs::write(folder.join(name), text).unwrap();
        }
        for name in ["db", "log"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        Self {
            root,
            folder: folder.to_owned(),
            ports,
        }
    }

    /// The words that start the server, and start it again on what it had stored. When the process that they
    /// become is killed, so is everything below it.
    pub fn command(&self) -> Vec<String> {
        let [_, _, distribution, mapper] = self.ports;
        let mut words =
            Vec::from(["unshare", "--mount", "--pid", "--fork", "--kill-child"].map(str::to_owned));
        words.extend(["sh", "-c", START, "start"].map(str::to_owned));
        words.push(self.root.to_string_lossy().into_owned());
        words.push(self.folder.to_string_lossy().into_owned());
        words.extend([distribution.to_string(), mapper.to_string()]);
        words
    }

    /// `127.0.0.1:port` of AMQP.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// `127.0.0.1:port` of the management API.
    pub fn management(&self) -> String {
        format!("127.0.0.1:{}", self.ports[1])
    }

    /// Whether the server serves.
    pub fn serves(&self) -> bool {
        TcpStream::connect(self.address()).is_ok()
            && request(&self.management(), "GET", "overview", "").is_some()
    }
}

/// One server with a folder of its own.
pub struct Server {
    place: Place,
    folder: TempDir,
    keeper: Option<Child>,
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start(suite: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self {
            place: Place::prepare(suite, folder.path()),
            folder,
            keeper: None,
        };
        server.restart();
        server
    }

    /// `127.0.0.1:port` of AMQP.
    pub fn address(&self) -> String {
        self.place.address()
    }

    /// `127.0.0.1:port` of the management API.
    pub fn management(&self) -> String {
        self.place.management()
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
            .place
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
            .args(self.place.command())
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let until = Instant::now() + Duration::from_secs(90);
        while !self.place.serves() {
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
