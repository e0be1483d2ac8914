//! What a queue keeps about its redrives, changed by compare-and-set.

use std::time::Duration;

use weir_core::redrive::{Redrive, Redrives, StillActive};

use crate::error::BrokerError;
use crate::queue::{RecordName, WorkQueue};

/// How long the record of a redrive is kept when nobody writes it.
const RECORD_KEPT: Duration = Duration::from_hours(30 * 24);
/// How often a change of the record is tried against others.
const TRIES: usize = 8;

/// Why the record of the redrives was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What is stored is not a record.
    #[error(
        "the record of the redrives cannot be read ({why}); was it written by a newer release?"
    )]
    Damaged {
        /// What the reader says.
        why: String,
    },
    /// Another redrive has not ended.
    #[error(transparent)]
    StillActive(#[from] StillActive),
    /// There is no such redrive.
    #[error("there is no redrive {id}; the last ten of each object are remembered")]
    NotFound {
        /// What was asked for.
        id: String,
    },
    /// Others change it all the time.
    #[error("the record of the redrives is being changed by others; try again")]
    Contended,
}

/// What is known of the redrives of a queue.
pub async fn read(queue: &dyn WorkQueue) -> Result<Redrives, RecordError> {
    read_with_version(queue).await.map(|(redrives, _)| redrives)
}

pub(super) async fn read_with_version(
    queue: &dyn WorkQueue,
) -> Result<(Redrives, u64), RecordError> {
    let Some(record) = queue.record(RecordName::Redrives).await? else {
        return Ok((Redrives::default(), 0));
    };
    match serde_json::from_slice(&record.body) {
        Ok(redrives) => Ok((redrives, record.version)),
        Err(error) => Err(RecordError::Damaged {
            why: error.to_string(),
        }),
    }
}

/// Begins a redrive: from when this returns, it survives the process. It is carried out by [`Runner::run`](super::Runner::run).
///
/// `until`, `total` and `done` are filled in here, the times by whoever makes it.
pub async fn begin(queue: &dyn WorkQueue, redrive: Redrive) -> Result<Redrive, RecordError> {
    let mut redrive = redrive;
    redrive.until = queue.last_dead_letter().await?.unwrap_or(0);
    redrive.total = if redrive.ids.is_empty() {
        queue.depth().await?.dead
    } else {
        redrive.ids.len() as u64
    };
    change(queue, |redrives| {
        redrives.begin(redrive.clone())?;
        Ok(redrive.clone())
    })
    .await
}

/// Tells a redrive to end. Answers it as it is now: `Cancelling` while what is in hand is finished,
/// or as it ended.
pub async fn cancel(queue: &dyn WorkQueue, id: &str) -> Result<Redrive, RecordError> {
    change(queue, |redrives| {
        let found = redrives.redrives.iter_mut().find(|known| known.id == id);
        let Some(redrive) = found else {
            return Err(RecordError::NotFound { id: id.to_owned() });
        };
        redrive.cancel();
        Ok(redrive.clone())
    })
    .await
}

/// Changes the record, however many others do.
async fn change(
    queue: &dyn WorkQueue,
    edit: impl Fn(&mut Redrives) -> Result<Redrive, RecordError>,
) -> Result<Redrive, RecordError> {
    for _ in 0..TRIES {
        let (mut redrives, version) = read_with_version(queue).await?;
        let before = redrives.clone();
        let changed = edit(&mut redrives)?;
        if redrives == before || write(queue, &redrives, version).await?.is_some() {
            return Ok(changed);
        }
    }
    Err(RecordError::Contended)
}

pub(super) async fn write(
    queue: &dyn WorkQueue,
    redrives: &Redrives,
    version: u64,
) -> Result<Option<u64>, BrokerError> {
    let body = serde_json::to_vec(redrives).expect("a record has only string keys");
    queue
        .put_record(RecordName::Redrives, version, body.into(), RECORD_KEPT)
        .await
}
