//! The handler that both sides call, a process of its own. It counts.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::Failure;
use crate::process::{Process, free_port, listening};

/// A handler that answers 204.
pub struct Handler {
    /// Where it listens.
    pub port: u16,
    client: Client<HttpConnector, Empty<Bytes>>,
    _process: Process,
}

impl Handler {
    /// Starts one whose calls take a random time of at most `work`.
    pub async fn start(work: Duration) -> Result<Self, Failure> {
        let (me, port) = (std::env::current_exe()?, free_port()?);
        let (at, work) = (port.to_string(), work.as_micros().to_string());
        let process = Process::start(&me, &["handler", &at, "--work-micros", &work])?;
        listening(port).await?;
        Ok(Self {
            port,
            client: Client::builder(TokioExecutor::new()).build_http(),
            _process: process,
        })
    }

    /// Where it is called.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Calls so far.
    pub async fn calls(&self) -> Result<u64, Failure> {
        let answer = self.client.get(self.url().parse()?).await?;
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(std::str::from_utf8(&body)?.parse()?)
    }
}
