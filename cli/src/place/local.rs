//! A `weir run` on this machine.
//!
//! Whoever reaches its port may look; a change needs the token that `weir run` keeps in a file that
//! only its user can read. No web page can know it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use tokio::net::TcpStream;

use super::{Answer, exchange};
use crate::failure::Failure;

/// Where `weir run` answers unless told otherwise.
pub const LOCAL_OPS: &str = "http://127.0.0.1:9401";

/// A `weir run` on this machine.
pub struct Local {
    /// `host:port` of its operations.
    ops: String,
}

impl Local {
    /// The one at this address.
    pub fn at(url: &str) -> Self {
        let ops = url
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        Self { ops }
    }

    pub(super) async fn ops(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, &self.ops)
            .header(CONTENT_TYPE, "application/json");
        if method != Method::GET
            && let Ok(token) = std::fs::read_to_string(token_path(&self.ops))
        {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Full::new(body)).map_err(Failure::other)?;
        self.exchange(&self.ops, request).await
    }

    pub(super) async fn send(
        &self,
        listen: Option<SocketAddr>,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let listen = listen.ok_or_else(|| {
            let ops = &self.ops;
            Failure::new(format!("the runtime at {ops} does not take messages"))
        })?;
        self.exchange(&listen.to_string(), request).await
    }

    async fn exchange(
        &self,
        address: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|why| {
            Failure::new(format!("no `weir run` answers at {address}: {why}"))
                .next("start one: weir run -f DIR; or name a namespace of a cluster with -n")
        })?;
        exchange(stream, request).await
    }

    pub(super) fn describe(&self) -> String {
        format!("weir run at {}", self.ops)
    }

    pub(super) fn about_the_token(&self) -> String {
        format!(
            "its token is in {}, which only the user who started `weir run` can read: run this as that user, with the same XDG_RUNTIME_DIR or HOME",
            token_path(&self.ops).display()
        )
    }
}

/// Where the token of the runtime at `host:port` is: a folder of this user, by port.
fn token_path(ops: &str) -> PathBuf {
    let port: String = ops
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    folder().join(format!("ops-{port}.token"))
}

fn folder() -> PathBuf {
    let variable = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    variable("XDG_RUNTIME_DIR")
        .or_else(|| variable("XDG_CACHE_HOME"))
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("weir")
}

/// The token of a `weir run`, in its file for as long as this lives.
pub struct TokenFile {
    path: PathBuf,
    /// The token.
    pub token: String,
}

impl TokenFile {
    /// Makes a token for the server at `ops` and writes it where only this user can read it.
    pub fn create(ops: SocketAddr) -> Result<Self, Failure> {
        let token = secret()?;
        let path = token_path(&ops.to_string());
        write(&path, &token).map_err(|why| {
            Failure::new(format!("cannot write {}: {why}", path.display()))
                .next("set XDG_RUNTIME_DIR to a folder of yours, or --ops to another port")
        })?;
        Ok(Self { path, token })
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        // Another run at this port may have replaced it.
        if std::fs::read_to_string(&self.path).is_ok_and(|found| found == self.token) {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// 256 bits that nobody can guess, in base64.
fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Failure::new("the operating system gives no random bytes"))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

/// Writes a file of mode 0600 in a folder of mode 0700, in one step.
fn write(path: &Path, content: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(format!(".token-{:016x}", fastrand::u64(..)));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content.as_bytes())?;
    drop(file);
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_of_a_port_is_found_by_any_name_of_this_machine() {
        let names = ["127.0.0.1:9401", "localhost:9401", "[::1]:9401"].map(token_path);
        assert!(names.iter().all(|path| *path == names[0]));
        assert!(names[0].ends_with("weir/ops-9401.token"));
        assert_ne!(token_path("127.0.0.1:1"), names[0]);
        assert!(token_path("../../x:1/../2").ends_with("weir/ops-12.token"));
    }

    #[test]
    fn only_its_user_can_read_a_token_and_no_two_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir/token");
        write(&path, "first").unwrap();
        write(&path, "second").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1
        );
        assert_ne!(secret().unwrap(), secret().unwrap());
    }
}
