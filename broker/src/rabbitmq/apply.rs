//! Making the topology as wanted, and ending it.
//!
//! Whoever changes it holds a queue that is exclusive to their connection, on the connection that makes
//! the changes: when the broker takes the connection for dead, the lock is gone and so are all further
//! changes. What is not recorded as this object's is never touched. Queues are never deleted on the
//! condition of being empty, which ends connections: emptiness is established first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::json;
use tokio::time::Instant;

use super::connection::{Failure, Live};
use super::control::{Control, Record, Which};
use super::fifo::{self, Fifo};
use super::ladder::SHORT;
use super::names::Names;
use super::pool;
use super::shared::Shared;
use super::tail::Tail;
use super::topology::{self, STATE, Shape, YOUTH};
use crate::error::BrokerError;
use crate::fifo::other_kind;
use crate::transport::{Applied, QueueSpec, Removal, Removed};

/// How long the lock is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a queue must look empty: longer than the statistics of the server are old, which tell of
/// messages that are on their way from a delay queue, and than tokens take to come back.
const SETTLING: Duration = Duration::from_secs(10);
/// Most tokens of a queue.
const MOST_TOKENS: u64 = 100_000;
/// Tokens that are published at once.
const MINTED_AT_ONCE: u64 = 500;

/// The right to change the topology of one queue, or the policies of the virtual host.
struct Lock<'a> {
    live: &'a Live,
    name: &'a str,
    channel: Channel,
}

/// The lock of the policies. A broker goes through all its queues to write one, and two that are written at
/// once make each other begin anew.
const POLICIES: &str = "weir.policies.lock";

impl<'a> Lock<'a> {
    async fn take(live: &'a Live, name: &'a str) -> Result<Self, BrokerError> {
        let told = |failure: Failure| failure.told(&format!("the topology behind {name}"));
        let until = Instant::now() + LONGEST_WAIT;
        loop {
            let channel = live.asking_channel().await.map_err(told)?;
            let options = QueueDeclareOptions {
                exclusive: true,
                ..QueueDeclareOptions::default()
            };
            let declared = channel.queue_declare(name.into(), options, FieldTable::default());
            match live.within("lock topology", declared).await {
                Ok(_) => {
                    return Ok(Self {
                        live,
                        name,
                        channel,
                    });
                }
                Err(Failure::Locked) if Instant::now() < until => {
                    let pause = Duration::from_millis(fastrand::u64(30..150));
                    tokio::time::sleep(pause).await;
                }
                Err(failure) => return Err(told(failure)),
            }
        }
    }

    /// Gives it back.
    async fn release(self) -> Result<(), BrokerError> {
        delete(self.live, &self.channel, self.name).await
    }
}

fn told(failure: Failure, names: &Names) -> BrokerError {
    failure.told(&names.shown())
}

async fn delete(live: &Live, channel: &Channel, queue: &str) -> Result<(), BrokerError> {
    let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    match live.within("delete queue", deleted).await {
        Ok(_) | Err(Failure::Missing) => Ok(()),
        Err(failure) => Err(failure.told(&format!("queue {queue}"))),
    }
}

async fn exists(live: &Live, queue: &str) -> Result<bool, BrokerError> {
    match live.ready(queue).await {
        Ok(_) => Ok(true),
        Err(Failure::Missing) => Ok(false),
        Err(failure) => Err(failure.told(&format!("queue {queue}"))),
    }
}

pub(crate) async fn declare(
    live: &Live,
    names: &Names,
    queue: &str,
    shape: Shape,
    replicas: u32,
) -> Result<(), BrokerError> {
    let told = |failure: Failure| failure.told(&format!("queue {queue}"));
    let channel = live.asking_channel().await.map_err(told)?;
    let declared = channel.queue_declare(
        queue.into(),
        QueueDeclareOptions::durable(),
        topology::arguments(names, shape, replicas),
    );
    live.within("declare queue", declared)
        .await
        .map(drop)
        .map_err(told)
}

/// Makes everything as `spec` says.
pub(crate) async fn apply(shared: &Shared, spec: &QueueSpec) -> Result<Applied, BrokerError> {
    let limit = u64::from(spec.config.limit);
    if limit > MOST_TOKENS {
        return Err(BrokerError::Refused {
            operation: "apply queue",
            why: format!("a limit of {limit} is too high for RabbitMQ; at most {MOST_TOKENS}"),
        });
    }
    let live = shared.connection.live()?;
    let lock = Lock::take(&live, &shared.names.lock).await?;
    let applied = Applying {
        shared,
        live: &live,
        spec,
        applied: Applied::default(),
    }
    .run()
    .await;
    lock.release().await?;
    applied
}

struct Applying<'a> {
    shared: &'a Shared,
    live: &'a Live,
    spec: &'a QueueSpec,
    applied: Applied,
}

impl Applying<'_> {
    async fn run(mut self) -> Result<Applied, BrokerError> {
        let names = &self.shared.names;
        let there = self
            .shared
            .connection
            .management
            .queues(&names.prefix())
            .await?;
        let fifo = self.spec.config.fifo.is_some();
        let log = there.keys().find(|name| names.log_number(name).is_some());
        if let (false, Some(name)) = (fifo, log) {
            return Err(other_kind(name));
        }
        if fifo && there.contains_key(&names.state) && there.contains_key(&names.queue) {
            return Err(other_kind(&names.queue));
        }
        let new = !there.contains_key(&names.state);
        if new {
            for name in [&names.queue, &names.dead] {
                if there.contains_key(name) {
                    return Err(BrokerError::Conflict {
                        what: format!("queue {name}"),
                        owner: "somebody who is not Weir".to_owned(),
                    });
                }
            }
            declare(
                self.live,
                names,
                &names.state,
                STATE,
                self.spec.config.replicas,
            )
            .await?;
        }
        // Read by a reader of its own: the one of the handles may not be there, or lag.
        let control = Tail::start(&self.shared.connection, &names.state);
        read_all(self.live, &control, names).await?;
        self.own(&control).await?;
        self.policies().await?;
        if fifo {
            self.fifo(&control, &there).await?;
            if new {
                // Its streams may be the first of the node.
                tokio::time::sleep(YOUTH).await;
            }
            return Ok(self.applied);
        }
        self.queues(&control, &there).await?;
        self.limit(&control).await?;
        self.mint(&control, Which::Slots).await?;
        self.mint(&control, Which::Permits).await?;
        Ok(self.applied)
    }

    async fn write(&self, control: &Tail<Control>, record: &Record) -> Result<bool, BrokerError> {
        let body = serde_json::to_vec(record).map_err(|error| BrokerError::Refused {
            operation: "write record",
            why: error.to_string(),
        })?;
        control
            .append_and_read(self.live, Vec::new(), &body)
            .await
            .map_err(|failure| told(failure, &self.shared.names))
    }

    fn repaired(&mut self, name: &str, fields: &str) {
        self.applied.repaired.push(format!("{name}: {fields}"));
    }

    /// Makes it this object's.
    async fn own(&mut self, control: &Tail<Control>) -> Result<(), BrokerError> {
        let object = self.spec.object.to_string();
        let (owner, orphaned) = control.read(|control| (control.owner.clone(), control.orphaned));
        let new = owner.is_none();
        if let Some((uid, of)) = owner {
            let ours = uid == self.spec.uid && of == object;
            if ours && !orphaned {
                return Ok(());
            }
            let left = orphaned && of == object;
            if !ours && !left {
                return Err(BrokerError::Conflict {
                    what: self.shared.names.shown(),
                    owner: format!("{of} with uid {uid}"),
                });
            }
        }
        let record = Record::Owned {
            uid: self.spec.uid.clone(),
            object,
        };
        self.write(control, &record).await?;
        if !new {
            self.repaired(&self.shared.names.queue, "owner");
        }
        Ok(())
    }

    async fn policies(&mut self) -> Result<(), BrokerError> {
        let management = &self.shared.connection.management;
        let common = topology::common_policies();
        let own = topology::policies(&self.shared.names, self.spec);
        let mut writing = Vec::new();
        for (name, want) in common.into_iter().chain(own) {
            let have = management.policy(&name).await?;
            let fields = have.map(|have| topology::differing(&have, &want));
            if fields.as_ref().is_none_or(|fields| !fields.is_empty()) {
                writing.push((name, want, fields));
            }
        }
        if writing.is_empty() {
            return Ok(());
        }
        let lock = Lock::take(self.live, POLICIES).await?;
        let written = async {
            for (name, want, fields) in writing {
                management.put_policy(&name, &want).await?;
                match fields {
                    None => self.applied.created.push(format!("policy {name}")),
                    Some(fields) => {
                        self.applied
                            .repaired
                            .push(format!("policy {name}: {}", fields.join(", ")));
                    }
                }
            }
            Ok(())
        }
        .await;
        lock.release().await?;
        written
    }

    async fn queues(
        &mut self,
        control: &Tail<Control>,
        there: &BTreeMap<String, u64>,
    ) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let batched = self.spec.config.batch_max > 1;
        let mut young = false;
        for (name, shape) in topology::queues(names, batched) {
            if there.contains_key(&name) {
                continue;
            }
            for (which, tokens) in [
                (Which::Slots, &names.slots),
                (Which::Permits, &names.permits),
            ] {
                let counted = control.read(|control| control.tokens(which).count());
                if name == *tokens && counted > 0 {
                    self.write(control, &Record::Lost { which }).await?;
                }
            }
            declare(self.live, names, &name, shape, self.spec.config.replicas).await?;
            young |= matches!(shape, Shape::Quorum | Shape::Delay);
            self.applied.created.push(name);
        }
        if young {
            tokio::time::sleep(YOUTH).await;
        }
        if !batched && there.contains_key(&names.permits) {
            let which = Which::Permits;
            self.write(control, &Record::Lost { which }).await?;
            let channel = self
                .live
                .asking_channel()
                .await
                .map_err(|failure| told(failure, names))?;
            delete(self.live, &channel, &names.permits).await?;
            self.repaired(&names.permits, "removed");
        }
        Ok(())
    }

    /// Makes what a FIFO queue has.
    async fn fifo(
        &mut self,
        control: &Tail<Control>,
        there: &BTreeMap<String, u64>,
    ) -> Result<(), BrokerError> {
        let (shared, names) = (self.shared, &self.shared.names);
        let config = &self.spec.config;
        for (name, shape) in topology::fifo_queues(names) {
            if !there.contains_key(&name) {
                declare(self.live, names, &name, shape, config.replicas).await?;
                self.applied.created.push(name);
            }
        }
        let log = shared.log();
        let used = control.read(|control| control.log);
        if used.is_none_or(|used| !there.contains_key(&names.log(used))) {
            // Where a log is gone with what it held, its number is not used again.
            let number = used.map_or(0, |used| used + 1);
            let name = names.log(number);
            declare(self.live, names, &name, topology::LOG, config.replicas).await?;
            log.open_first(self.live, number).await?;
            self.applied.created.push(name);
        } else if let Some(used) = used {
            // What a process left behind that died while it went on to the next log.
            let old = there.keys().filter_map(|name| names.log_number(name));
            for number in old.filter(|number| *number < used) {
                log.delete(number).await?;
            }
        }
        let (limit, capacity) = (u64::from(config.limit), config.capacity);
        let known = log
            .look(|book| (book.groups.base.limit, book.groups.base.capacity))
            .await?;
        if known != (limit, capacity) {
            let record = fifo::record::Record::Limits { limit, capacity };
            log.write(record).await?;
            if known != (0, 0) {
                self.repaired(&names.queue, "limit");
            }
        }
        Ok(())
    }

    async fn limit(&mut self, control: &Tail<Control>) -> Result<(), BrokerError> {
        let config = &self.spec.config;
        let (slots, worth) = (u64::from(config.limit), u64::from(config.batch_max.max(1)));
        let known = control.read(|control| (control.limit, control.worth));
        if known != (slots, worth) {
            self.write(control, &Record::Limit { slots, worth }).await?;
            // A queue that was just made has no limit yet.
            if known != (0, 0) {
                self.repaired(&self.shared.names.queue, "limit");
            }
        }
        Ok(())
    }

    /// Makes the tokens that are missing.
    async fn mint(&mut self, control: &Tail<Control>, which: Which) -> Result<(), BrokerError> {
        let names = &self.shared.names;
        let (from, missing) = control.read(|control| {
            let tokens = control.tokens(which);
            let missing = control.wanted(which).saturating_sub(tokens.count());
            (tokens.next(), missing)
        });
        if missing == 0 {
            return Ok(());
        }
        let to = from + missing;
        self.write(control, &Record::Minting { which, from, to })
            .await?;
        let queue = match which {
            Which::Slots => &names.slots,
            Which::Permits => &names.permits,
        };
        // On the connection that holds the lock, so that nothing of it comes after the lock is lost.
        let channel = self
            .live
            .confirming_channel()
            .await
            .map_err(|failure| told(failure, names))?;
        let mut next = from;
        while next < to {
            let until = (next + MINTED_AT_ONCE).min(to);
            let (live, channel) = (self.live, &channel);
            let publishing = (next..until).map(|serial| async move {
                let properties = super::codec::properties(pool::token(serial))?;
                live.publish_on(channel, "store token", queue, properties, b"", LONGEST_WAIT)
                    .await
            });
            futures::future::try_join_all(publishing)
                .await
                .map_err(|failure| told(failure, names))?;
            next = until;
        }
        let minted = self
            .write(control, &Record::Minted { which, from, to })
            .await?;
        if !minted {
            return Err(self.live.unreachable("others make tokens at the same time"));
        }
        Ok(())
    }
}

/// Reads everything that was decided until now, whatever replica is read.
async fn read_all(live: &Live, control: &Tail<Control>, names: &Names) -> Result<(), BrokerError> {
    let look = json!(Record::Look {}).to_string();
    control
        .append_and_read(live, Vec::new(), look.as_bytes())
        .await
        .map(drop)
        .map_err(|failure| told(failure, names))
}

/// Ends the topology, as `removal` says.
pub(crate) async fn remove(
    shared: &Arc<Shared>,
    spec: &QueueSpec,
    removal: Removal,
) -> Result<Removed, BrokerError> {
    let live = shared.connection.live()?;
    let lock = Lock::take(&live, &shared.names.lock).await?;
    let removed = removing(shared, &live, &lock.channel, spec, removal).await;
    lock.release().await?;
    removed
}

async fn removing(
    shared: &Arc<Shared>,
    live: &Live,
    channel: &Channel,
    spec: &QueueSpec,
    removal: Removal,
) -> Result<Removed, BrokerError> {
    let names = &shared.names;
    let mut removed = Removed::default();
    if !exists(live, &names.state).await? {
        return Ok(removed);
    }
    let control: Tail<Control> = Tail::start(&shared.connection, &names.state);
    read_all(live, &control, names).await?;
    let owner = control.read(|control| control.owner.clone());
    if owner != Some((spec.uid.clone(), spec.object.to_string())) {
        return Ok(removed);
    }
    let keep = |held: u64| match removal {
        Removal::Retain => true,
        Removal::Delete => false,
        Removal::DeleteIfEmpty => held > 0,
    };
    let mut kept = false;
    if let Some(log) = control.read(|control| control.log) {
        let waiting = match removal {
            Removal::Delete => 0,
            _ => Fifo::new(shared, &spec.config).stored().await?,
        };
        if keep(waiting) {
            kept = true;
            removed.retained.push((names.log(log), waiting));
        } else {
            let there = shared.connection.management.queues(&names.prefix()).await?;
            for name in there.keys() {
                if names.log_number(name).is_some() {
                    delete(live, channel, name).await?;
                }
            }
            removed.deleted.push(names.log(log));
        }
    } else if exists(live, &names.queue).await? {
        let waiting = match removal {
            Removal::Delete => 0,
            Removal::Retain => shared.waiting(live, &control).await?,
            Removal::DeleteIfEmpty => settled_waiting(shared, live, &control).await?,
        };
        if keep(waiting) {
            kept = true;
            removed.retained.push((names.queue.clone(), waiting));
        } else {
            delete(live, channel, &names.queue).await?;
            removed.deleted.push(names.queue.clone());
        }
    }
    if removed.retained.is_empty() {
        let delays = control.read(|control| control.delays.clone());
        let delays = SHORT
            .into_iter()
            .chain(delays)
            .map(|bucket| names.delay(bucket));
        let tokens = [&names.slots, &names.permits, &names.notes].map(Clone::clone);
        for name in delays.chain(tokens) {
            delete(live, channel, &name).await?;
        }
    }
    // The queue first: nothing must be delivered any more when the dead letters go.
    if exists(live, &names.dead).await? {
        let dead = match removal {
            Removal::Delete => 0,
            _ => shared.dead(live).await?,
        };
        if keep(dead) {
            kept = true;
            removed.retained.push((names.dead.clone(), dead));
        } else {
            delete(live, channel, &names.dead).await?;
            removed.deleted.push(names.dead.clone());
        }
    }
    if kept {
        if !control.read(|control| control.orphaned) {
            let at = shared.clock.now().to_string();
            let body = json!(Record::Orphaned { at }).to_string();
            control
                .append_and_read(live, Vec::new(), body.as_bytes())
                .await
                .map_err(|failure| told(failure, names))?;
        }
        return Ok(removed);
    }
    let lock = Lock::take(live, POLICIES).await?;
    let deleted = async {
        for (name, _) in topology::policies(names, spec) {
            shared.connection.management.delete_policy(&name).await?;
        }
        Ok(())
    }
    .await;
    lock.release().await?;
    deleted?;
    delete(live, channel, &names.state).await?;
    Ok(removed)
}

/// Messages of the queue, after waiting for what may be on its way back: a queue that looks empty must
/// be empty.
async fn settled_waiting(
    shared: &Shared,
    live: &Live,
    control: &Tail<Control>,
) -> Result<u64, BrokerError> {
    let until = Instant::now() + SETTLING;
    loop {
        let (ready, delayed) = shared.ready_and_delayed(live, control).await?;
        if ready + delayed > 0 {
            return Ok(ready + delayed);
        }
        let out = shared.tokens_out(live, control).await?;
        if Instant::now() > until {
            if out == 0 {
                return Ok(0);
            }
            let held = shared
                .connection
                .management
                .unsettled(&shared.names.queue)
                .await;
            return Ok(held.unwrap_or(out));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
