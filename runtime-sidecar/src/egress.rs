//! Where this process may connect to.
//!
//! A handler's address is written by whoever renders the pod and is trusted. A target URL is written
//! by a user, so it must not become a way to the cloud's metadata service, to this pod's other ports or
//! to anything that trusts this machine: names are resolved here, each address is judged, and the
//! connection goes to an address that was judged (a second answer of the name server changes nothing).
//! Redirects are not followed anywhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

mod rules;

use rules::{forbidden, plain};

/// Longest wait for one address to take a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Who wrote an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator: a handler beside this process.
    Handler,
    /// A user: any URL.
    User,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    host: String,
    port: u16,
    tls: bool,
    trust: Trust,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The text is not a URL that can be called.
    #[error("{url} cannot be called: {why}")]
    BadUrl {
        /// The URL, without what may be secret in it.
        url: String,
        /// What is wrong and what to write.
        why: &'static str,
    },
    /// The name has no address.
    #[error("{host} has no address: {why}")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The name leads to where users may not send requests.
    #[error("{host} leads to {address}, which is {why}; requests to it are not allowed")]
    Refused {
        /// The name.
        host: String,
        /// The address.
        address: IpAddr,
        /// Which rule.
        why: &'static str,
    },
    /// Nobody took the connection.
    #[error("{address}: {why}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The connection could not be secured.
    #[error("TLS with {host}: {why}")]
    Tls {
        /// The name.
        host: String,
        /// What went wrong.
        why: String,
    },
}

/// A connection.
pub enum Connection {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// The rules, and the means to connect.
#[derive(Default)]
pub struct Egress {
    /// Whether users may name this machine (`weir run`).
    pub allow_loopback: bool,
    /// Ports of this process that are nobody else's business.
    pub own_ports: Vec<u16>,
    /// Addresses that are refused besides the fixed rules, such as the Kubernetes API.
    pub refused: Vec<IpAddr>,
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl Origin {
    /// Reads a URL: its origin, and its path with a leading slash.
    pub fn parse(url: &str, trust: Trust) -> Result<(Self, String), EgressError> {
        let bad = |why| EgressError::BadUrl {
            url: redact(url),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(bad("write http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad(
                "remove the user and password; use a header or a signed call",
            ));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(bad("it has no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        Ok((
            Self {
                host,
                port,
                tls,
                trust,
            },
            path,
        ))
    }

    /// The value of `Host`.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl Egress {
    /// Refuses an origin that is an address which would be refused anyway. Names are judged when they
    /// are resolved.
    pub fn check(&self, origin: &Origin) -> Result<(), EgressError> {
        let Ok(address) = origin.host.parse() else {
            return Ok(());
        };
        match self.refuses(address, origin.trust) {
            Some(why) => Err(refusal(origin, address, why)),
            None => Ok(()),
        }
    }

    /// Connects to the first address that is allowed and answers.
    pub async fn connect(&self, origin: &Origin) -> Result<Connection, EgressError> {
        let stream = self.connect_tcp(origin).await?;
        let _ = stream.set_nodelay(true);
        if !origin.tls {
            return Ok(Connection::Plain(stream));
        }
        let tls_error = |why: String| EgressError::Tls {
            host: origin.host.clone(),
            why,
        };
        let connector = self.tls.get_or_init(tls_connector).as_ref();
        let connector = connector.map_err(|why| tls_error(why.clone()))?;
        let name = ServerName::try_from(origin.host.clone())
            .map_err(|_| tls_error("the host is not a name".to_owned()))?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| tls_error(error.to_string()))?;
        Ok(Connection::Tls(Box::new(stream)))
    }

    async fn connect_tcp(&self, origin: &Origin) -> Result<TcpStream, EgressError> {
        let no_address = |why: String| EgressError::NoAddress {
            host: origin.host.clone(),
            why,
        };
        let addresses: Vec<SocketAddr> = match origin.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, origin.port)],
            Err(_) => tokio::net::lookup_host((origin.host.as_str(), origin.port))
                .await
                .map_err(|error| no_address(error.to_string()))?
                .collect(),
        };
        let mut last = no_address("the name server knows none".to_owned());
        for address in addresses {
            if let Some(why) = self.refuses(address.ip(), origin.trust) {
                last = refusal(origin, address.ip(), why);
                continue;
            }
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => match self.own_port(&stream, origin) {
                    Some(why) => last = refusal(origin, address.ip(), why),
                    None => return Ok(stream),
                },
                Ok(Err(error)) => {
                    last = EgressError::Connect {
                        address,
                        why: error.kind().to_string(),
                    };
                }
                Err(_) => {
                    last = EgressError::Connect {
                        address,
                        why: "no answer".to_owned(),
                    };
                }
            }
        }
        Err(last)
    }

    /// Why users may not name `address`; `None` when they may.
    fn refuses(&self, address: IpAddr, trust: Trust) -> Option<&'static str> {
        if trust == Trust::Handler {
            return None;
        }
        let address = plain(address);
        if self.refused.contains(&address) {
            return Some("closed to handlers and targets");
        }
        if address.is_loopback() {
            return (!self.allow_loopback).then_some("this machine");
        }
        forbidden(address)
    }

    /// A connection to our own address on one of our own ports, by whatever name.
    fn own_port(&self, stream: &TcpStream, origin: &Origin) -> Option<&'static str> {
        let to_self = match (stream.local_addr(), stream.peer_addr()) {
            (Ok(local), Ok(peer)) => plain(local.ip()) == plain(peer.ip()),
            _ => true,
        };
        let own = origin.trust == Trust::User && self.own_ports.contains(&origin.port);
        (own && to_self).then_some("a port of this process")
    }
}

fn refusal(origin: &Origin, address: IpAddr, why: &'static str) -> EgressError {
    EgressError::Refused {
        host: origin.host.clone(),
        address,
        why,
    }
}

fn tls_connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this machine has no certificate authorities".to_owned());
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A URL without user, password and query.
pub fn redact(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.rsplit('@').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(url: &str) -> Origin {
        Origin::parse(url, Trust::User).unwrap().0
    }

    #[test]
    fn only_http_and_https_without_credentials_are_urls() {
        for url in [
            "file:///etc/passwd",
            "gopher://a/",
            "ftp://a/",
            "a",
            "/path",
            "",
            "http://",
            "http://user:secret@a/",
            "http://a b/",
            "unix:/run/x.sock",
        ] {
            let error = Origin::parse(url, Trust::User).expect_err(url).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let (origin, path) = Origin::parse("https://a.example/in?x=1", Trust::User).unwrap();
        assert_eq!(
            (origin.port, origin.tls, path.as_str()),
            (443, true, "/in?x=1")
        );
        assert_eq!(origin.host_header(), "a.example");
        assert_eq!(user("http://[::1]:81").host_header(), "[::1]:81");
    }

    #[test]
    fn errors_show_no_password_and_no_query() {
        assert_eq!(redact("http://u:p@a/b?token=c#d"), "http://a/b");
        assert_eq!(redact("u:p@a"), "a");
    }

    #[tokio::test]
    async fn users_cannot_reach_this_machine_or_its_link_by_any_spelling() {
        let egress = Egress {
            own_ports: vec![9901],
            ..Egress::default()
        };
        for host in [
            "169.254.169.254",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "127.0.0.1",
            "127.8.8.8",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "[2002:7f00:1::]",
            "[::127.0.0.1]",
            "0.0.0.0",
            "[::]",
            "0.1.2.3",
            "224.0.0.1",
            "[ff02::1]",
            "255.255.255.255",
            "100.100.100.200",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "localhost",
        ] {
            let error = egress
                .connect(&user(&format!("http://{host}:9/")))
                .await
                .err();
            let refused = matches!(
                error,
                Some(EgressError::Refused { .. } | EgressError::NoAddress { .. })
            );
            assert!(refused, "{host}: {error:?}");
        }
    }

    #[tokio::test]
    async fn local_runs_may_reach_this_machine_but_not_the_ports_of_the_process() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = |listener: &tokio::net::TcpListener| listener.local_addr().unwrap().port();
        let egress = Egress {
            allow_loopback: true,
            own_ports: vec![port(&own)],
            ..Egress::default()
        };
        let url = |port| user(&format!("http://127.0.0.1:{port}/"));
        assert!(egress.connect(&url(port(&open))).await.is_ok());
        let error = egress
            .connect(&url(port(&own)))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("a port of this process"), "{error}");
        let strict = Egress::default();
        assert!(strict.connect(&url(port(&open))).await.is_err());
        let (handler, _) = Origin::parse(
            &format!("http://127.0.0.1:{}/", port(&open)),
            Trust::Handler,
        )
        .unwrap();
        assert!(strict.connect(&handler).await.is_ok());
    }

    #[test]
    fn private_networks_are_allowed_because_services_live_there() {
        let egress = Egress {
            refused: vec!["10.96.0.1".parse().unwrap()],
            ..Egress::default()
        };
        for (address, allowed) in [
            ("10.0.0.1", true),
            ("192.168.1.1", true),
            ("fd12::1", true),
            ("10.96.0.1", false),
        ] {
            let refusal = egress.refuses(address.parse().unwrap(), Trust::User);
            assert_eq!(refusal.is_none(), allowed, "{address}");
        }
    }
}
