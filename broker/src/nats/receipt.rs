//! What is said to the server about one delivery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::api::Failure;
use super::commit::no_stream;
use super::connection::REQUEST_TIMEOUT;
use super::queue::Shared;
use super::read::delete_copy;
use super::tries::Source;
use crate::error::BrokerError;

/// How long an answer may take of a server that may have forgotten the delivery.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);

/// One delivery: where it came from and where it is answered.
pub(crate) struct Receipt {
    shared: Arc<Shared>,
    reply: String,
    source: Source,
    /// Losses of the connection before it came.
    losses: u64,
}

impl Receipt {
    pub(crate) fn new(shared: Arc<Shared>, reply: String, source: Source) -> Self {
        let losses = shared.connection.link().borrow().losses;
        Self {
            shared,
            reply,
            source,
            losses,
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Losses of the connection before it came.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    /// Says something about the delivery and waits until the server has taken it in.
    pub(crate) async fn say(
        &self,
        operation: &'static str,
        what: &'static str,
    ) -> Result<(), BrokerError> {
        let word = Bytes::from_static(what.as_bytes());
        let connection = &self.shared.connection;
        match connection.request(operation, &self.reply, None, word).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(no_stream(connection, &self.shared.names.stream, failure).await),
        }
    }

    /// As [`Receipt::say`]. False when the server does not answer, as one does not that has
    /// forgotten the delivery: it was killed, or its consumer was made anew.
    pub(crate) async fn say_if_known(
        &self,
        operation: &'static str,
        what: &'static str,
    ) -> Result<bool, BrokerError> {
        let same = self.shared.connection.link().borrow().losses == self.losses;
        let patience = if same {
            REQUEST_TIMEOUT
        } else {
            FORGOTTEN_AFTER
        };
        let word = Bytes::from_static(what.as_bytes());
        let said = self
            .shared
            .connection
            .request(operation, &self.reply, None, word);
        match tokio::time::timeout(patience, said).await {
            Ok(Ok(_)) => Ok(true),
            Err(_)
            | Ok(Err(Failure::NoResponders | Failure::Broker(BrokerError::TimedOut { .. }))) => {
                Ok(false)
            }
            Ok(Err(failure)) => Err(failure.told(&self.shared.names.shown())),
        }
    }

    /// Acknowledges. Where the server has forgotten the delivery, the message is deleted: it would be
    /// delivered as if it were new.
    pub(crate) async fn acknowledge(&self) -> Result<(), BrokerError> {
        if !self.say_if_known("acknowledge", "+ACK").await? {
            let names = &self.shared.names;
            let (sequence, time) = (self.source.sequence, self.source.stored_at);
            delete_copy(&self.shared.connection, &names.stream, sequence, Some(time)).await?;
        }
        self.shared.recent.note(&self.reply, self.source.stored_at);
        Ok(())
    }
}
