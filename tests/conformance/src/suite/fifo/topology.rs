//! Topology of queues that keep order.

use weir_broker::{Applied, Removal};
use weir_core::config::FifoConfig;

use super::{handle, ids, queue};
use crate::ground::{Ground, becomes_empty, persist};

/// What is as wanted is not written; a queue does not become one of the other kind.
pub async fn fifo_topology_is_kept(mut ground: Ground) {
    ground.spec.config.batch_max = 5;
    let here = queue(&mut ground).await;
    let transport = ground.connect().await;
    let again = persist(|| transport.apply_queue(&ground.spec)).await;
    assert_eq!(again, Applied::default());
    for partitions in [16, 4] {
        ground.spec.config.fifo = Some(FifoConfig { partitions });
        persist(|| transport.apply_queue(&ground.spec)).await;
        let again = persist(|| transport.apply_queue(&ground.spec)).await;
        assert_eq!(again, Applied::default());
    }
    assert_eq!(
        here.work.consume().await.map(drop).unwrap_err().reason(),
        "BrokerRefused"
    );
    let mut plain = ground.spec.clone();
    plain.config.fifo = None;
    let error = transport.apply_queue(&plain).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let work = transport.queue(&plain);
    assert_eq!(work.fifo().map(drop).unwrap_err().reason(), "BrokerRefused");

    here.publish("a", ids("a", 0..2)).await;
    let remove = || transport.remove_queue(&ground.spec, Removal::DeleteIfEmpty);
    let removed = persist(remove).await;
    assert!(
        removed.retained.iter().any(|(_, held)| *held == 2),
        "{removed:?}"
    );
    persist(|| transport.apply_queue(&ground.spec)).await;
    let mut turns = here.turns(1).await;
    assert_eq!(handle(&mut turns, 2).await, ids("a", 0..2));
    drop(turns);
    becomes_empty(&here.work).await;
    let remove = || transport.remove_queue(&ground.spec, Removal::DeleteIfEmpty);
    let removed = persist(remove).await;
    assert_eq!(
        (removed.deleted.len(), removed.retained.len()),
        (2, 0),
        "{removed:?}"
    );
}
