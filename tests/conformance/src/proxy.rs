//! A connection that can be cut at a chosen place or fall silent.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    #[default]
    Pass,
    /// When a client sends this, the connection ends before it; no other is accepted.
    CutBefore(&'static [u8]),
    /// Nothing passes in either direction, nothing is closed.
    Silent,
    /// Connections are closed as they come.
    Closed,
}

/// A proxy before a server. Ends when dropped.
pub struct Proxy {
    address: String,
    mode: Arc<watch::Sender<Mode>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts it before `upstream`.
    pub async fn start(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mode, _) = watch::channel(Mode::Pass);
        let mode = Arc::new(mode);
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&mode);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *shared.borrow() == Mode::Closed {
                    continue;
                }
                connections.spawn(carry(client, upstream.clone(), Arc::clone(&shared)));
            }
        });
        Self {
            address,
            mode,
            _tasks: tasks,
        }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes what happens to the bytes from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until a connection was cut.
    pub async fn was_cut(&self) {
        self.mode
            .subscribe()
            .wait_for(|mode| *mode == Mode::Closed)
            .await
            .unwrap();
    }
}

async fn carry(mut client: TcpStream, upstream: String, mode: Arc<watch::Sender<Mode>>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    let mut changes = mode.subscribe();
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let now = changes.borrow_and_update().clone();
        if now == Mode::Closed {
            return;
        }
        if now == Mode::Silent {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let armed = mode.borrow().clone();
                if let Mode::CutBefore(pattern) = armed
                    && let Some(at) = find(&up[..read], pattern)
                {
                    drop(server.write_all(&up[..at]).await);
                    mode.send_replace(Mode::Closed);
                    return;
                }
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
