//! The ops API of the operator: who may, and what they then get.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use support::api::{Api, User};
use support::operator::{Memory, Operator, bus, queue, quick};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use weir_broker::WorkQueue;
use weir_core::dead_letter::{DeadLetter, Failure, Reason};
use weir_core::message::{Headers, Message};
use weir_core::object::{Kind, ObjectKey};
use weir_operator::ops::{OpsListener, self_signed};

/// Everything that is logged by this program, at every level.
fn logged() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        struct Log;
        impl Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                logged().lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(|| Log)
            .init();
        Mutex::default()
    })
}

struct Scene {
    operator: Operator,
    memory: Arc<Memory>,
    address: SocketAddr,
}

const VIEWER: &str = "token-of-the-viewer";
const MOVER: &str = "token-of-the-mover";
const STRANGER: &str = "token-of-the-stranger";
const BOUND: &str = "token-for-this-alone";

impl Scene {
    async fn start() -> Self {
        logged();
        let api = Api::default();
        api.put(&bus("default", "nats://a:4222"));
        api.put(&queue("rows", &json!({})));
        api.put(&queue("other", &json!({})));
        let user = |token: &str, name: &str, rights: &[&str]| User {
            token: token.to_owned(),
            name: name.to_owned(),
            audience: None,
            rights: rights.iter().map(|right| (*right).to_owned()).collect(),
        };
        api.add_user(user(
            VIEWER,
            "vera",
            &[
                "get queueconsumers shop",
                "get queueconsumers/deadletters shop",
            ],
        ));
        api.add_user(user(MOVER, "mo", &["* queueconsumers/deadletters shop"]));
        api.add_user(user(STRANGER, "sam", &["* * elsewhere"]));
        api.add_user(User {
            audience: Some("weir.dev/ops".to_owned()),
            ..user(
                BOUND,
                "system:serviceaccount:shop:bot",
                &["* queueconsumers/deadletters shop"],
            )
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ops = OpsListener {
            listener,
            tls: None,
        };
        let memory: Arc<Memory> = Arc::default();
        let operator = Operator::start_with_ops(&api, &memory, &quick(), Some(ops));
        for name in ["rows", "other"] {
            operator
                .until("queueconsumers", name, "TopologyReady", "True")
                .await;
        }
        Self {
            operator,
            memory,
            address,
        }
    }

    fn queue(&self, name: &str) -> Arc<dyn WorkQueue> {
        let object = ObjectKey::new(Kind::QueueConsumer, "shop", name);
        self.memory.queue("nats://a:4222", object, "")
    }

    async fn die(&self, ids: &[&str]) {
        let queue = self.queue("rows");
        for id in ids {
            let letter = DeadLetter {
                message: Message {
                    id: (*id).to_owned(),
                    accepted_at: Timestamp::UNIX_EPOCH,
                    headers: Headers::new(),
                    group: None,
                    body: "the payload".into(),
                },
                failure: Failure {
                    reason: Reason::MaxAttempts,
                    attempts: 3,
                    failed_at: Timestamp::UNIX_EPOCH,
                    last_status: Some(500),
                    message: "handler answered 500".to_owned(),
                    answer: String::new(),
                },
            };
            assert!(queue.store_dead_letter(&letter).await.unwrap());
        }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> (u16, Value) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        exchange(TokioIo::new(stream), method, path, token, body).await
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.ask("GET", path, Some(token), &Value::Null).await
    }
}

async fn exchange<S>(
    stream: S,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> (u16, Value)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "weir-ops");
    if let Some(token) = token {
        request = request.header("weir-authorization", format!("Bearer {token}"));
    }
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = request.body(Full::new(Bytes::from(text))).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    (status, value)
}

const LETTERS: &str = "/v1/objects/queueconsumer/rows/dead-letters?namespace=shop";
const REDRIVES: &str = "/v1/objects/queueconsumer/rows/redrives?namespace=shop";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_decide_who_reads_payloads_and_who_moves_them() {
    let scene = Scene::start().await;
    scene.die(&["a", "b"]).await;
    let nothing = Value::Null;

    // Without a token, with one that nobody has.
    for token in [None, Some("token-of-nobody")] {
        for (method, path) in [
            ("GET", LETTERS),
            ("POST", REDRIVES),
            ("GET", "/v1/objects"),
            ("GET", "/v1/objects/queueconsumer/none/depth?namespace=shop"),
            ("GET", "/nothing"),
        ] {
            let (status, said) = scene.ask(method, path, token, &nothing).await;
            assert_eq!(status, 401, "{method} {path}");
            assert_eq!(said["error"], "Unauthorized");
            assert!(!said.to_string().contains("payload"));
        }
    }
    // With one that may not, whether or not there is such an object.
    for path in [
        LETTERS,
        "/v1/objects/queueconsumer/none/dead-letters?namespace=shop",
    ] {
        let (status, said) = scene.get(path, STRANGER).await;
        assert_eq!(status, 403, "{path}");
        let words = said["message"].as_str().unwrap();
        for wanted in [
            "\"sam\" may not get queueconsumers.weir.dev/deadletters",
            "weir-dlq-viewer",
        ] {
            assert!(words.contains(wanted), "{words}");
        }
    }
    // One that may look, and may not move.
    let (status, page) = scene.get(LETTERS, VIEWER).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(page["items"][0]["body"], "the payload");
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    for (method, path) in [
        ("POST", REDRIVES),
        (
            "POST",
            "/v1/objects/queueconsumer/rows/purge?namespace=shop",
        ),
        (
            "POST",
            "/v1/objects/queueconsumer/rows/import?namespace=shop",
        ),
        (
            "DELETE",
            "/v1/objects/queueconsumer/rows/redrives/latest?namespace=shop",
        ),
        (
            "GET",
            "/v1/objects/queueconsumer/rows/messages?namespace=shop",
        ),
    ] {
        let (status, said) = scene.ask(method, path, Some(VIEWER), &nothing).await;
        assert_eq!(status, 403, "{method} {path}: {said}");
    }
    // The list has what may be looked at.
    let (status, list) = scene.get("/v1/objects?namespace=shop", VIEWER).await;
    assert_eq!(
        (status, list["objects"].as_array().unwrap().len()),
        (200, 2)
    );
    assert_eq!(
        scene.get("/v1/objects?namespace=elsewhere", VIEWER).await.0,
        403
    );
    let (status, said) = scene.get("/v1/objects", VIEWER).await;
    assert_eq!(status, 400, "{said}");
    // What makes no sense is told so to whoever has a name.
    let (status, said) = scene.get(&format!("{LETTERS}&limit=0"), VIEWER).await;
    assert_eq!((status, &said["error"]), (400, &"BadRequest".into()));

    let log = String::from_utf8_lossy(&logged().lock().unwrap()).into_owned();
    assert!(log.len() > 1000, "everything is logged here");
    for token in [VIEWER, STRANGER, "token-of-nobody"] {
        assert!(!log.contains(token), "a token is in the log");
    }
    assert!(!log.contains("the payload"), "a payload is in the log");
    scene.operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_is_carried_out_by_the_operator_and_says_who_asked() {
    let scene = Scene::start().await;
    scene.die(&["a", "b", "c"]).await;
    let body = json!({ "ids": ["c", "a"] });
    let (status, begun) = scene.ask("POST", REDRIVES, Some(MOVER), &body).await;
    assert_eq!(status, 202, "{begun}");
    assert_eq!(begun["by"], "mo");
    let id = begun["id"].as_str().unwrap();
    let path = format!("/v1/objects/queueconsumer/rows/redrives/{id}?namespace=shop");
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let done = loop {
        let (status, now) = scene.get(&path, VIEWER).await;
        assert_eq!(status, 200, "{now}");
        if now["state"] != "Running" {
            break now;
        }
        assert!(tokio::time::Instant::now() < until, "{now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&done["state"], &done["counts"]["moved"]),
        (&"Completed".into(), &2.into())
    );
    let waiting = scene.queue("rows").peek(None, 10).await.unwrap().items;
    let ids: Vec<&str> = waiting
        .iter()
        .map(|stored| stored.message.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "c"], "in the order in which they died");

    let what = "an event that says who redrove what";
    scene
        .operator
        .api
        .until(what, |api| {
            api.all("events").iter().any(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                event["reason"] == "DeadLettersRedriven" && note.contains("by mo is Completed: 2")
            })
        })
        .await;

    // A token for this audience alone is as good, here.
    let body = json!({ "to": "qc/other" });
    let (status, begun) = scene.ask("POST", REDRIVES, Some(BOUND), &body).await;
    assert_eq!(status, 202, "{begun}");
    assert_eq!(begun["by"], "system:serviceaccount:shop:bot");
    let purge = "/v1/objects/queueconsumer/rows/purge?namespace=shop";
    let (status, said) = scene.ask("POST", purge, Some(MOVER), &json!({})).await;
    assert_eq!(status, 400, "{said}");
    scene.operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_does_not_say_is_no_consent() {
    let scene = Scene::start().await;
    scene.operator.api.fail("POST", "/tokenreviews", 500, 1);
    let (status, said) = scene.get(LETTERS, VIEWER).await;
    assert_eq!((status, &said["error"]), (503, &"ReviewFailed".into()));
    scene
        .operator
        .api
        .fail("POST", "/subjectaccessreviews", 403, 1);
    let (status, said) = scene.get(LETTERS, VIEWER).await;
    assert_eq!((status, &said["error"]), (503, &"ReviewFailed".into()));
    assert_eq!(scene.get(LETTERS, VIEWER).await.0, 200);
    scene.operator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_that_is_made_at_the_start_encrypts() {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    /// As the API server's proxy: it takes any certificate.
    #[derive(Debug)]
    struct Any;
    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }

    let api = Api::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ops = OpsListener {
        listener,
        tls: Some(self_signed().unwrap()),
    };
    let operator = Operator::start_with_ops(&api, &Arc::default(), &quick(), Some(ops));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("weir-ops").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let nothing = Value::Null;
    let (status, said) = exchange(TokioIo::new(stream), "GET", LETTERS, None, &nothing).await;
    assert_eq!((status, &said["error"]), (401, &"Unauthorized".into()));
    operator.stop().await.unwrap();
}
