//! One client connection: made without waiting for the server, kept for ever, asked with a deadline.
//!
//! While there is no connection every request is refused at once: nothing is buffered for later,
//! because the intake must be able to answer 503. A request whose connection ends is over at once,
//! too; whether it was done is then unknown. No credential is ever logged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, HeaderMap, Message, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::api::{ApiError, Envelope, Failure};
use crate::error::BrokerError;

/// How long an answer may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Two of these unanswered and the connection counts as lost: about 20 s.
const PING_INTERVAL: Duration = Duration::from_secs(7);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(5);

/// Whether the connection is up, and how often it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) up: bool,
    pub(crate) losses: u64,
}

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    client: Client,
    link: watch::Receiver<Link>,
    connected: watch::Receiver<bool>,
    servers: Arc<str>,
    last_error: Arc<Mutex<String>>,
}

impl Connection {
    /// Starts to connect and returns at once. An error means that the configuration cannot work.
    pub(crate) async fn open(
        servers: &[String],
        credentials_file: Option<&str>,
        ca_file: Option<&str>,
    ) -> Result<Self, BrokerError> {
        let shown: Arc<str> = servers
            .iter()
            .map(|url| without_secrets(url))
            .collect::<Vec<_>>()
            .join(",")
            .into();
        let (link_tx, link) = watch::channel(Link::default());
        let (connected_tx, connected) = watch::channel(false);
        let last_error = Arc::new(Mutex::new("not connected yet".to_owned()));
        let noted = Arc::clone(&last_error);
        let watched = Arc::new((link_tx, connected_tx, Arc::clone(&shown)));
        let mut options = match credentials_file {
            Some(path) => credentials_from(path.to_owned()),
            None => ConnectOptions::new(),
        };
        if let Some(path) = ca_file {
            options = options.add_root_certificates(path.into());
        }
        let client = options
            .name("weir")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .reconnect_delay_callback(reconnect_pause)
            .event_callback(move |event| {
                let watched = Arc::clone(&watched);
                let noted = Arc::clone(&noted);
                async move {
                    let (link, connected, servers) = &*watched;
                    note(&event, link, connected, servers, &noted);
                }
            })
            .connect(servers.to_vec())
            .await
            .map_err(|error| BrokerError::Refused {
                operation: "connect",
                why: format!("{shown}: {error}"),
            })?;
        Ok(Self {
            client,
            link,
            connected,
            servers: shown,
            last_error,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    pub(crate) fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.borrow().up
    }

    pub(crate) fn unreachable(&self) -> BrokerError {
        let why = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        BrokerError::Unreachable {
            servers: self.servers.to_string(),
            why,
        }
    }

    /// A refusal that passes by itself.
    pub(crate) fn unavailable(&self, why: impl Into<String>) -> BrokerError {
        BrokerError::Unreachable {
            servers: self.servers.to_string(),
            why: why.into(),
        }
    }

    /// Runs `work` while the connection that it starts on lasts, at most [`REQUEST_TIMEOUT`].
    async fn while_up<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut link = self.link.clone();
        let at = *link.borrow_and_update();
        if !at.up {
            return Err(self.unreachable().into());
        }
        let lost = async {
            // An error means that the client is gone, and with it the connection.
            drop(link.wait_for(|now| now.losses != at.losses).await);
        };
        tokio::select! {
            biased;
            done = work => done,
            () = lost => Err(self.unreachable().into()),
            () = tokio::time::sleep(REQUEST_TIMEOUT) => {
                Err(BrokerError::TimedOut { operation, after: REQUEST_TIMEOUT }.into())
            }
        }
    }

    /// Sends without waiting for an answer.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        subject: &str,
        reply: Option<&str>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), Failure> {
        let subject = checked(operation, subject)?;
        let reply = reply.map(|reply| checked(operation, reply)).transpose()?;
        let work = async {
            let sent = match reply {
                Some(reply) if headers.is_empty() => {
                    self.client
                        .publish_with_reply(subject, reply, payload)
                        .await
                }
                Some(reply) => {
                    self.client
                        .publish_with_reply_and_headers(subject, reply, headers, payload)
                        .await
                }
                None => {
                    self.client
                        .publish_with_headers(subject, headers, payload)
                        .await
                }
            };
            sent.map_err(|error| refused(operation, &error).into())
        };
        self.while_up(operation, work).await
    }

    /// Sends and waits for the answer.
    pub(crate) async fn request(
        &self,
        operation: &'static str,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Failure> {
        let subject = checked(operation, subject)?;
        // The deadline is the one of `while_up`.
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let work = async {
            self.client
                .send_request(subject, request)
                .await
                .map_err(|error| {
                    use async_nats::RequestErrorKind::{
                        MaxPayloadExceeded, NoResponders, TimedOut,
                    };
                    match error.kind() {
                        NoResponders => Failure::NoResponders,
                        TimedOut => BrokerError::TimedOut {
                            operation,
                            after: REQUEST_TIMEOUT,
                        }
                        .into(),
                        MaxPayloadExceeded => {
                            let limit = self.client.max_payload();
                            BrokerError::TooLarge {
                                size: limit + 1,
                                limit,
                            }
                            .into()
                        }
                        _ => refused(operation, &error).into(),
                    }
                })
        };
        self.while_up(operation, work).await
    }

    /// Asks the JetStream API.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        subject: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        let payload = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        let subject = format!("$JS.API.{subject}");
        let answer = self.request(operation, &subject, None, payload).await?;
        parse(operation, &answer.payload)
    }
}

/// Reads an answer of JetStream, which is an error or a value.
pub(crate) fn parse<T: DeserializeOwned>(
    operation: &'static str,
    answer: &[u8],
) -> Result<T, Failure> {
    let malformed = |error: serde_json::Error| {
        Failure::from(BrokerError::Refused {
            operation,
            why: format!("the answer is not understood: {error}"),
        })
    };
    let envelope: Envelope = serde_json::from_slice(answer).map_err(malformed)?;
    if let Some(error) = envelope.error {
        return Err(Failure::Api(ApiError { operation, ..error }));
    }
    serde_json::from_slice(answer).map_err(malformed)
}

fn checked(operation: &'static str, subject: &str) -> Result<async_nats::Subject, Failure> {
    async_nats::Subject::validated(subject).map_err(|error| refused(operation, &error).into())
}

fn refused(operation: &'static str, error: &dyn std::fmt::Display) -> BrokerError {
    BrokerError::Refused {
        operation,
        why: error.to_string(),
    }
}

/// What happened to the connection, for those who watch it and for the log.
fn note(
    event: &Event,
    link: &watch::Sender<Link>,
    connected: &watch::Sender<bool>,
    servers: &str,
    last_error: &Mutex<String>,
) {
    let remember = |why: String| {
        *last_error.lock().unwrap_or_else(PoisonError::into_inner) = why;
    };
    match event {
        Event::Connected => {
            tracing::info!(servers, "connected to NATS");
            link.send_modify(|link| link.up = true);
            connected.send_replace(true);
        }
        Event::Disconnected | Event::Closed => {
            tracing::warn!(servers, "connection to NATS lost");
            remember("the connection was lost".to_owned());
            link.send_modify(|link| {
                *link = Link {
                    up: false,
                    losses: link.losses + 1,
                }
            });
            connected.send_replace(false);
        }
        Event::ServerError(error) => {
            tracing::warn!(servers, %error, "NATS reports an error");
            remember(error.to_string());
        }
        Event::ClientError(error) => {
            tracing::debug!(servers, %error, "NATS client reports an error");
            remember(error.to_string());
        }
        Event::SlowConsumer(_) => {
            tracing::error!(servers, "messages were dropped before they were read");
        }
        Event::LameDuckMode | Event::Draining => tracing::info!(servers, %event, "NATS says"),
    }
}

/// Doubles from 50 ms to 5 s, jittered over its upper half; the first try is at once.
fn reconnect_pause(tries: usize) -> Duration {
    if tries <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(tries - 2).unwrap_or(u32::MAX).min(10);
    let pause = (Duration::from_millis(50) * 2u32.pow(doublings)).min(LONGEST_RECONNECT_PAUSE);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// A server address as it may be logged.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// Reads the file at every connect, so that renewed credentials need no restart.
fn credentials_from(path: String) -> ConnectOptions {
    ConnectOptions::with_auth_callback(move |nonce| {
        let path = path.clone();
        async move {
            let text = tokio::fs::read_to_string(&path)
                .await
                .map_err(|error| AuthError::new(format!("credentials file {path}: {error}")))?;
            sign(&text, &nonce)
                .map_err(|why| AuthError::new(format!("credentials file {path} {why}")))
        }
    })
}

/// Answers the server's challenge with the JWT and the key of a `.creds` file.
fn sign(credentials: &str, nonce: &[u8]) -> Result<Auth, &'static str> {
    let mut parts = credentials.split("-----BEGIN").skip(1).map(|part| {
        part.lines()
            .skip(1)
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("")
    });
    let jwt = parts
        .next()
        .filter(|jwt| !jwt.is_empty())
        .ok_or("holds no user JWT")?;
    let seed = parts
        .next()
        .filter(|seed| !seed.is_empty())
        .ok_or("holds no key")?;
    let key = nkeys::KeyPair::from_seed(seed).map_err(|_| "holds a key that cannot be read")?;
    let signature = key
        .sign(nonce)
        .map_err(|_| "holds a key that cannot sign")?;
    let mut auth = Auth::new();
    auth.jwt = Some(jwt.to_owned());
    auth.signature = Some(signature);
    Ok(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(
            without_secrets("nats://user:p@ss@host:4222"),
            "nats://host:4222"
        );
        assert_eq!(without_secrets("host:4222"), "nats://host:4222");
        assert_eq!(without_secrets("tls://token@host"), "tls://host");
    }

    #[test]
    fn reconnect_pauses_grow_to_five_seconds_and_no_further() {
        assert_eq!(reconnect_pause(1), Duration::ZERO);
        for tries in [2, 5, 9, 50, usize::MAX] {
            let pause = reconnect_pause(tries);
            assert!(pause >= Duration::from_millis(25) && pause <= LONGEST_RECONNECT_PAUSE);
        }
    }

    #[test]
    fn a_challenge_is_signed_with_the_key_of_the_file() {
        let key = nkeys::KeyPair::new_user();
        let seed = key.seed().unwrap();
        let file = format!(
            "-----BEGIN NATS USER JWT-----\nthe.jwt\n------END NATS USER JWT------\n\n\
             *** IMPORTANT ***\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let auth = sign(&file, b"nonce").unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("the.jwt"));
        assert!(key.verify(b"nonce", &auth.signature.unwrap()).is_ok());
        assert!(sign("", b"nonce").is_err());
        assert!(
            sign(
                "-----BEGIN A-----\nx\n-----BEGIN B-----\nnot a seed\n",
                b"n"
            )
            .is_err()
        );
    }
}
