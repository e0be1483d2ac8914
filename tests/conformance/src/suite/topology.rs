//! Making, keeping and ending topology.

use std::time::Duration;

use futures::future::join_all;
use weir_broker::{Applied, Depth, Publication, QueueSpec, Removal, Removed};

use crate::ground::{Ground, consumer, depth_becomes, ids, next, persist, plain, publish, unique};

/// Idempotent: what is as wanted is not written.
pub async fn second_apply_changes_nothing(mut ground: Ground) {
    for (limit, batch_max) in [(10, 1), (0, 1), (3, 5), (7, 5), (0, 5), (2, 1)] {
        ground.spec.config.limit = limit;
        ground.spec.config.batch_max = batch_max;
        let transport = ground.connect().await;
        let first = transport.apply_queue(&ground.spec).await.unwrap();
        assert_ne!(first, Applied::default());
        let second = transport.apply_queue(&ground.spec).await.unwrap();
        assert_eq!(
            second,
            Applied::default(),
            "limit {limit}, batches of {batch_max}"
        );
    }
}

/// Two operators, or an operator and a runtime, do not disturb each other.
pub async fn two_processes_may_apply_at_once(mut ground: Ground) {
    for batch_max in [1, 3] {
        ground.spec.config.batch_max = batch_max;
        let transports = join_all((0..6).map(|_| ground.connect())).await;
        let all = transports
            .iter()
            .map(|transport| persist(|| transport.apply_queue(&ground.spec)));
        join_all(all).await;
        let after = transports[0].apply_queue(&ground.spec).await.unwrap();
        assert_eq!(after, Applied::default());
    }
    let queue = ground.another().await;
    publish(&queue, ids(1)).await;
    next(&mut consumer(&queue, 1).await).await;
}

/// What is not ours is neither changed nor removed.
pub async fn foreign_stream_is_refused(ground: Ground) {
    ground.subject.plant_foreign(&ground.spec).await;
    let transport = ground.connect().await;
    for _ in 0..2 {
        let error = transport.apply_queue(&ground.spec).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.is_transient()),
            ("TopologyConflict", false),
            "{error}"
        );
    }
    for removal in [Removal::Delete, Removal::DeleteIfEmpty, Removal::Retain] {
        let removed = transport.remove_queue(&ground.spec, removal).await.unwrap();
        let queue = |name: &String| name.rsplit(['_', '.']).next() == Some("queue");
        assert!(!removed.deleted.iter().any(queue));
        assert!(!removed.retained.iter().any(|(name, _)| queue(name)));
    }
    let error = transport.apply_queue(&ground.spec).await.unwrap_err();
    assert_eq!(error.reason(), "TopologyConflict", "it is still there");
}

/// An object that is made again under its old name gets what it left.
pub async fn orphans_are_adopted(ground: Ground) {
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    publish(&queue, ids(2)).await;
    let newer = QueueSpec {
        uid: "newer".to_owned(),
        ..ground.spec.clone()
    };
    let error = transport.apply_queue(&newer).await.unwrap_err();
    assert_eq!(error.reason(), "TopologyConflict", "its owner is there");
    let removed = transport
        .remove_queue(&newer, Removal::Delete)
        .await
        .unwrap();
    assert_eq!(removed, Removed::default(), "not its own");

    transport
        .remove_queue(&ground.spec, Removal::Retain)
        .await
        .unwrap();
    let again = transport
        .remove_queue(&ground.spec, Removal::Retain)
        .await
        .unwrap();
    assert_eq!(again.retained.iter().map(|(_, held)| held).sum::<u64>(), 2);
    let applied = transport.apply_queue(&newer).await.unwrap();
    assert!(
        applied.created.is_empty() && !applied.repaired.is_empty(),
        "{applied:?}"
    );
    assert_eq!(
        transport.apply_queue(&newer).await.unwrap(),
        Applied::default()
    );
    let error = transport.apply_queue(&ground.spec).await.unwrap_err();
    assert_eq!(error.reason(), "TopologyConflict", "it has a new owner");
    let queue = transport.queue(&newer);
    assert_eq!(next(&mut consumer(&queue, 1).await).await.message.id, "m0");
}

/// What somebody changed is changed back, without losing what is in flight.
pub async fn drift_is_repaired(ground: Ground) {
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    publish(&queue, ids(3)).await;
    let mut consumer = consumer(&queue, 3).await;
    let held = next(&mut consumer).await;
    ground.subject.drift(&ground.spec).await;
    let applied = transport.apply_queue(&ground.spec).await.unwrap();
    assert!(
        applied.created.is_empty() && !applied.repaired.is_empty(),
        "{applied:?}"
    );
    assert_eq!(
        transport.apply_queue(&ground.spec).await.unwrap(),
        Applied::default()
    );
    for _ in 0..2 {
        let delivery = next(&mut consumer).await;
        assert!(!delivery.redelivered);
    }
    held.lease.ack().await.unwrap();
}

/// Deleting the object keeps its messages or removes them, as it says.
pub async fn retain_keeps_and_delete_removes(ground: Ground) {
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    publish(&queue, ids(3)).await;
    let removed = transport
        .remove_queue(&ground.spec, Removal::Retain)
        .await
        .unwrap();
    assert!(removed.deleted.is_empty());
    assert_eq!(
        removed.retained.iter().map(|(_, held)| held).sum::<u64>(),
        3
    );
    depth_becomes(&queue, |depth| depth.ready == 3).await;
    let removed = transport
        .remove_queue(&ground.spec, Removal::Delete)
        .await
        .unwrap();
    assert_eq!((removed.deleted.len(), removed.retained.len()), (2, 0));
    assert_eq!(queue.depth().await.unwrap_err().reason(), "TopologyMissing");
    let removed = transport
        .remove_queue(&ground.spec, Removal::Delete)
        .await
        .unwrap();
    assert_eq!(removed, Removed::default());
    let applied = transport.apply_queue(&ground.spec).await.unwrap();
    assert!(
        !applied.created.is_empty() && applied.repaired.is_empty(),
        "{applied:?}"
    );
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// Delayed messages and dead letters are messages; what the transport keeps for itself is not.
pub async fn only_what_is_empty_is_deleted_if_empty(mut ground: Ground) {
    ground.spec.config.batch_max = 2;
    let transport = ground.apply().await;
    let queue = transport.queue(&ground.spec);
    let delay = Duration::from_mins(10);
    queue
        .publish(Publication {
            delay,
            ..plain("late")
        })
        .await
        .unwrap();
    let removed = transport
        .remove_queue(&ground.spec, Removal::DeleteIfEmpty)
        .await
        .unwrap();
    assert!(
        removed.retained.iter().any(|(_, held)| *held == 1),
        "{removed:?}"
    );
    // Whatever was empty is gone, and the message is not.
    let again = transport
        .remove_queue(&ground.spec, Removal::Retain)
        .await
        .unwrap();
    assert_eq!(again.retained.iter().map(|(_, held)| held).sum::<u64>(), 1);
    transport
        .remove_queue(&ground.spec, Removal::Delete)
        .await
        .unwrap();

    transport.apply_queue(&ground.spec).await.unwrap();
    queue
        .publish(unique("m", "identity", Duration::from_mins(10)))
        .await
        .unwrap();
    next(&mut consumer(&queue, 1).await)
        .await
        .lease
        .ack()
        .await
        .unwrap();
    crate::ground::becomes_empty(&queue).await;
    let removed = transport
        .remove_queue(&ground.spec, Removal::DeleteIfEmpty)
        .await
        .unwrap();
    assert_eq!(
        (removed.deleted.len(), removed.retained.len()),
        (2, 0),
        "{removed:?}"
    );
}

/// A server that is new enough says what it is.
pub async fn the_server_is_supported(ground: Ground) {
    let server = ground.connect().await.server().await.unwrap();
    assert!(!server.version.is_empty());
    assert!(server.max_message_bytes >= 512 * 1024);
    let queue = ground.queue().await;
    assert_eq!(queue.max_message_bytes(), server.max_message_bytes);
}
