//! Numbers and dead letters, read without consuming.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::try_join;
use jiff::Timestamp;
use weir_core::dead_letter::DeadLetter;
use weir_core::wire;

use super::codec::{COPY, RESTORED, new_copy};
use super::connection::{Failure, Live};
use super::control::{self, Control, Which};
use super::dead::{self, Letters};
use super::ladder::SHORT;
use super::shared::Shared;
use super::tail::{Tail, fetch};
use crate::error::BrokerError;
use crate::queue::{Depth, Page, Record, StoredDeadLetter};

/// Most letters that are read at once.
const MOST_AT_ONCE: usize = 1000;

impl Shared {
    fn missing(&self, failure: Failure) -> BrokerError {
        failure.told(&self.names.shown())
    }

    /// Messages that are ready, and that wait for their time.
    pub(crate) async fn ready_and_delayed(
        &self,
        live: &Live,
        control: &Tail<Control>,
    ) -> Result<(u64, u64), BrokerError> {
        let ready = live
            .ready(&self.names.queue)
            .await
            .map_err(|failure| self.missing(failure))?;
        let delays = control.read(|control| control.delays.clone());
        let counts = SHORT.into_iter().chain(delays).map(|bucket| {
            let name = self.names.delay(bucket);
            async move {
                match live.ready(&name).await {
                    Ok(count) => Ok(count),
                    Err(Failure::Missing) => Ok(0),
                    Err(failure) => Err(self.missing(failure)),
                }
            }
        });
        let delayed: u64 = futures::future::try_join_all(counts).await?.iter().sum();
        // What is leaving a delay queue is in neither; only the statistics know.
        let leaving = self
            .connection
            .management
            .queues(&self.names.delays())
            .await;
        let leaving: u64 = leaving.map_or(0, |queues| queues.values().sum());
        Ok((ready, delayed + leaving))
    }

    /// Slots that somebody has.
    pub(crate) async fn tokens_out(
        &self,
        live: &Live,
        control: &Tail<Control>,
    ) -> Result<u64, BrokerError> {
        let home = match live.ready(&self.names.slots).await {
            Ok(home) => home,
            Err(Failure::Missing) => return Ok(0),
            Err(failure) => return Err(self.missing(failure)),
        };
        let counted = control.read(|control| control.tokens(Which::Slots).count());
        Ok(counted.saturating_sub(home))
    }

    /// Deliveries that are not settled. Exact where all slots that are out are held by this process;
    /// otherwise as old as the statistics of the server, and never more than there are slots out.
    async fn in_flight(&self, live: &Live, control: &Tail<Control>) -> Result<u64, BrokerError> {
        let out = self.tokens_out(live, control).await?;
        let (held, flying) = self.held();
        if out <= held {
            return Ok(if out == 0 { 0 } else { flying });
        }
        let most = out.saturating_mul(control.read(|control| control.worth.max(1)));
        match self
            .connection
            .management
            .unsettled(&self.names.queue)
            .await
        {
            Ok(unsettled) => Ok(unsettled.min(most)),
            // Not reachable from here: what may be in flight.
            Err(_) => Ok(most),
        }
    }

    /// Messages that are ready, in flight or delayed.
    pub(crate) async fn waiting(
        &self,
        live: &Live,
        control: &Tail<Control>,
    ) -> Result<u64, BrokerError> {
        let (ready, delayed) = self.ready_and_delayed(live, control).await?;
        Ok(ready + delayed + self.in_flight(live, control).await?)
    }

    /// Dead letters.
    pub(crate) async fn dead(&self, live: &Live) -> Result<u64, BrokerError> {
        let letters = self.letters();
        letters.catch_up(live).await?;
        let oldest = self.oldest_letter();
        Ok(letters.read(|letters| letters.count(oldest)))
    }

    pub(crate) async fn depth(&self) -> Result<Depth, BrokerError> {
        let live = self.connection.live()?;
        // A queue that does not exist is said to be missing, not its records.
        live.ready(&self.names.queue)
            .await
            .map_err(|failure| self.missing(failure))?;
        let control = self.control();
        control.catch_up(&live).await?;
        let in_flight = self.in_flight(&live, control);
        let numbers = try_join(self.ready_and_delayed(&live, control), in_flight);
        let ((ready, delayed), in_flight) = numbers.await?;
        Ok(Depth {
            ready,
            in_flight,
            delayed,
            dead: self.dead(&live).await?,
            oldest: None,
        })
    }

    pub(crate) async fn dead_letters(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Page<StoredDeadLetter>, BrokerError> {
        let live = self.connection.live()?;
        let letters = self.letters();
        letters.catch_up(&live).await?;
        let (limit, oldest) = (limit.min(MOST_AT_ONCE), self.oldest_letter());
        let mut places = letters.read(|letters| letters.page(after, oldest, limit + 1));
        let more = places.len() > limit;
        places.truncate(limit);
        let next = places.last().copied().filter(|_| more);
        let items = self.letters_at(&live, &places).await?;
        Ok(Page { items, next })
    }

    async fn letters_at(
        &self,
        live: &Live,
        places: &[u64],
    ) -> Result<Vec<StoredDeadLetter>, BrokerError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let offsets: Vec<u64> = places.iter().map(|place| place - 1).collect();
        let found = fetch(live, &self.names.dead, &offsets, Timestamp::UNIX_EPOCH)
            .await
            .map_err(|failure| failure.told(&format!("stream {}", self.names.dead)))?;
        Ok(found
            .into_iter()
            .map(|(offset, raw)| StoredDeadLetter {
                letter: raw.dead_letter(),
                position: offset + 1,
            })
            .collect())
    }

    pub(crate) async fn dead_letter_of(
        &self,
        id: &str,
    ) -> Result<Option<StoredDeadLetter>, BrokerError> {
        let live = self.connection.live()?;
        let letters = self.letters();
        letters.catch_up(&live).await?;
        let oldest = self.oldest_letter();
        let Some(place) = letters.read(|letters| letters.position(id, oldest)) else {
            return Ok(None);
        };
        Ok(self.letters_at(&live, &[place]).await?.pop())
    }

    pub(crate) async fn last_dead_letter(&self) -> Result<Option<u64>, BrokerError> {
        let live = self.connection.live()?;
        let letters = self.letters();
        letters.catch_up(&live).await?;
        Ok(letters.read(Letters::last))
    }

    /// Stores a letter again, unless its message has one of the same or a later time: the order of the
    /// records decides.
    pub(crate) async fn restore_dead_letter(
        &self,
        letter: &DeadLetter,
    ) -> Result<bool, BrokerError> {
        let live = self.connection.live()?;
        let mut pairs = wire::encode_dead_letter(letter);
        pairs.push((COPY.to_owned(), new_copy()));
        pairs.push((RESTORED.to_owned(), "1".to_owned()));
        self.letters()
            .append_and_read(&live, pairs, &letter.message.body)
            .await
            .map_err(|failure| failure.told(&format!("stream {}", self.names.dead)))
    }

    pub(crate) async fn purge_dead_letters(&self, through: u64) -> Result<u64, BrokerError> {
        let live = self.connection.live()?;
        let letters = self.letters();
        letters.catch_up(&live).await?;
        let oldest = self.oldest_letter();
        let there = letters.read(|letters| letters.count_through(through, oldest));
        if there == 0 {
            return Ok(0);
        }
        letters
            .append_and_read(&live, dead::removing_through(through), b"")
            .await
            .map_err(|failure| failure.told(&format!("stream {}", self.names.dead)))?;
        Ok(there)
    }

    /// A document of the queue: version and content.
    pub(crate) async fn document(&self, name: &str) -> Result<Option<Record>, BrokerError> {
        let live = self.connection.live()?;
        let control = self.control();
        control.catch_up(&live).await?;
        let found = control.read(|control| control.documents.get(name).cloned());
        let Some((version, body)) = found else {
            return Ok(None);
        };
        let body = STANDARD
            .decode(body)
            .map_err(|error| BrokerError::Refused {
                operation: "read record",
                why: error.to_string(),
            })?;
        Ok(Some(Record {
            body: body.into(),
            version,
        }))
    }

    /// Replaces a document. `None` where its version is another.
    pub(crate) async fn put_document(
        &self,
        name: &str,
        expected: u64,
        body: &[u8],
    ) -> Result<Option<u64>, BrokerError> {
        let live = self.connection.live()?;
        let control = self.control();
        let content = STANDARD.encode(body);
        let record = control::Record::Document {
            name: name.to_owned(),
            expected,
            body: content.clone(),
        };
        let record = serde_json::to_vec(&record).unwrap_or_default();
        let took = control
            .append_and_read(&live, Vec::new(), &record)
            .await
            .map_err(|failure| self.missing(failure))?;
        let known = control.read(|control| control.documents.get(name).cloned());
        // One that a later writer has replaced already is as good as one that was not written.
        Ok(match known {
            Some((version, found)) if took && found == content => Some(version),
            _ => None,
        })
    }

    pub(crate) async fn remove_dead_letter(&self, position: u64) -> Result<bool, BrokerError> {
        let live = self.connection.live()?;
        let letters = self.letters();
        letters.catch_up(&live).await?;
        let oldest = self.oldest_letter();
        if !letters.read(|letters| letters.holds(position, oldest)) {
            return Ok(false);
        }
        // Of two who remove it at once, the one whose record is first did.
        letters
            .append_and_read(&live, dead::removing(position), b"")
            .await
            .map_err(|failure| failure.told(&format!("stream {}", self.names.dead)))
    }
}
