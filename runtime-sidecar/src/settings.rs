//! What the process decides for itself, apart from the objects that it serves.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Sets the log filter (`info`, `weir_sidecar=debug`), or says what is wrong with it.
pub type SetLogFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Limits and times. [`Settings::default`] is what the binary uses; tests shorten it.
#[derive(Clone)]
pub struct Settings {
    /// Limits of the HTTP servers.
    pub http: HttpLimits,
    /// Bytes of request bodies held at once by the intake; over it: 503.
    pub intake_memory: u64,
    /// Readiness fails this long before the intake stops listening, so that load balancers can follow.
    pub drain_delay: Duration,
    /// Longest wait for running calls and requests at the end; absent: the longest `timeoutSeconds`
    /// of all objects and 5 s.
    pub drain_deadline: Option<Duration>,
    /// Whether targets may be on this machine. Only for `weir run`: in a cluster it would reach the
    /// other containers of the pod.
    pub allow_loopback_targets: bool,
    /// Addresses that targets may not have besides the fixed rules: the Kubernetes API.
    pub refused_addresses: Vec<IpAddr>,
    /// How often keys and depths are looked at while there is traffic.
    pub housekeeping_interval: Duration,
    /// How often a handler that is not ready is tried; one that is ready, ten times less often.
    pub readiness_interval: Duration,
    /// How often the configuration folder is looked at.
    pub config_interval: Duration,
    /// What a caller of `/drain` must know; absent: 404.
    pub drain_token: Option<String>,
    /// What a change over the ops server must be authorized with; absent: it only shows things.
    pub ops_token: Option<String>,
    /// `PUT /log-level`; absent: 404.
    pub set_log_filter: Option<SetLogFilter>,
}

/// Limits of the HTTP servers.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Connections at once; more wait in the kernel.
    pub connections: usize,
    /// Connections at once that have sent the head of a request. Each takes about 17 KiB.
    pub served: usize,
    /// A request's head must be complete by then.
    pub header_deadline: Duration,
    /// A request's body must be complete by then.
    pub body_deadline: Duration,
    /// A connection without a request is closed after this.
    pub idle: Duration,
    /// Header lines of one request.
    pub header_count: usize,
    /// Bytes of one request's head.
    pub header_bytes: usize,
    /// Requests at once in one HTTP/2 connection.
    pub http2_streams: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: HttpLimits::default(),
            intake_memory: 64 * 1024 * 1024,
            drain_delay: Duration::ZERO,
            drain_deadline: None,
            allow_loopback_targets: false,
            refused_addresses: Vec::new(),
            housekeeping_interval: Duration::from_secs(1),
            readiness_interval: Duration::from_millis(250),
            config_interval: Duration::from_secs(1),
            drain_token: None,
            ops_token: None,
            set_log_filter: None,
        }
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            served: 2048,
            header_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            header_count: 100,
            header_bytes: 16 * 1024,
            http2_streams: 256,
        }
    }
}
