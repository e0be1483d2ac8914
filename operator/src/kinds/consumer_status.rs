//! What consuming kinds report, besides conditions. Numbers are written by [`crate::numbers`].

use serde_json::{Map, Value};
use weir_crds::ConsumerStatus;
use weir_crds::status::Address;

use super::{Summary, to_map};
use crate::delivery::Resolved;

/// What the conditions of a consuming object depend on.
pub fn summary(resolved: &Resolved) -> Summary<'_> {
    Summary {
        bus: &resolved.bus.name,
        handles: true,
        paused: resolved.paused,
        limit: resolved.queue.limit,
    }
}

/// The status of a consuming object, without conditions and without numbers.
pub fn fields(old: Option<&ConsumerStatus>, resolved: Option<&Resolved>) -> Map<String, Value> {
    let fields = match (resolved, old) {
        (Some(resolved), _) => ConsumerStatus {
            url: Some(resolved.url.clone()),
            address: Some(Address {
                url: Some(resolved.url.clone()),
            }),
            handler_ref: Some(resolved.handler_ref.clone()),
            ..ConsumerStatus::default()
        },
        (None, Some(old)) => ConsumerStatus {
            url: old.url.clone(),
            address: old.address.clone(),
            handler_ref: old.handler_ref.clone(),
            ..ConsumerStatus::default()
        },
        (None, None) => ConsumerStatus::default(),
    };
    to_map(&fields)
}
