//! The data plane of `weir run`: the cluster's own, in this process.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_broker::{BrokerError, SystemClock, Transport};
use weir_core::config::{BusConfig, ObjectConfig};
use weir_sidecar::{Config, ConfigSource, Connect, Listeners, Settings};

use crate::failure::Failure;

/// Every bus is the one of this run.
struct Shared(Arc<dyn Transport>);

#[async_trait]
impl Connect for Shared {
    async fn connect(&self, _bus: &BusConfig) -> Result<Arc<dyn Transport>, BrokerError> {
        Ok(self.0.clone())
    }
}

/// Serves the objects until `shutdown`, then finishes what runs.
pub async fn serve(
    configs: Vec<ObjectConfig>,
    transport: Arc<dyn Transport>,
    data: TcpListener,
    ops: TcpListener,
    ops_token: Option<String>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    // Held until the end: without a sender the runtime would take the configuration as final.
    let (_publish, updates) = watch::channel(Config::of(configs));
    let settings = Settings {
        allow_loopback_targets: true,
        ops_token,
        ..Settings::default()
    };
    weir_sidecar::run(
        ConfigSource::Updates(updates),
        Arc::new(Shared(transport)),
        Arc::new(SystemClock),
        Listeners {
            intake: data,
            admin: None,
            ops: Some(ops),
        },
        settings,
        shutdown,
    )
    .await
    .map_err(Failure::other)
}
