//! From configuration to running parts: connections, queues, addresses, consumers.
//!
//! A change of one object touches that object only, and no running call.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weir_broker::{Clock, QueueSpec};
use weir_core::config::{BusConfig, ObjectConfig};
use weir_core::object::ObjectKey;

use crate::bus::{Buses, Servers};
use crate::config_source::Config;
use crate::consumer::{Engine, Spec};
use crate::egress::Egress;
use crate::intake::reject;
use crate::metrics::Metrics;
use crate::objects::{Object, Objects, Problem, Queue, Shared, Snapshot};
use crate::settings::Settings;
use crate::supervise::{Heart, Hearts, RunError, panicked};

/// Looks at depths and keys without traffic only this often, in housekeeping rounds.
const IDLE_ROUNDS: u64 = 10;

/// Queues whose depth is asked for at once.
const DEPTHS_AT_ONCE: usize = 16;

/// What a manager is given.
pub struct Parts {
    /// Where it publishes what is served.
    pub objects: Objects,
    /// Series.
    pub metrics: Arc<Metrics>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Where targets may be.
    pub egress: Arc<Egress>,
    /// Times.
    pub settings: Settings,
    /// Liveness.
    pub hearts: Hearts,
    /// Stop pulling; end when every consumer has ended.
    pub stop: CancellationToken,
}

/// Runs everything that the configuration asks for.
pub struct Manager {
    parts: Parts,
    config: watch::Receiver<Arc<Config>>,
    buses: Buses,
    queues: HashMap<ObjectKey, (QueueSpec, BusConfig, Queue)>,
    shared: BTreeMap<ObjectKey, Arc<Shared>>,
    engines: HashMap<ObjectKey, Running>,
    tasks: JoinSet<Ended>,
    looks: JoinSet<()>,
}

/// An engine that has ended: whose it was, whether it was told to, how.
type Ended = (ObjectKey, CancellationToken, Result<(), RunError>);

struct Running {
    spec: watch::Sender<Spec>,
    stop: CancellationToken,
}

impl Manager {
    /// Nothing runs yet.
    pub fn new(parts: Parts, config: watch::Receiver<Arc<Config>>, buses: Buses) -> Self {
        Self {
            parts,
            config,
            buses,
            queues: HashMap::new(),
            shared: BTreeMap::new(),
            engines: HashMap::new(),
            tasks: JoinSet::new(),
            looks: JoinSet::new(),
        }
    }

    /// Runs until told to stop and every consumer has ended.
    pub async fn run(mut self, heart: Heart) -> Result<(), RunError> {
        let mut rounds = tokio::time::interval(self.parts.settings.housekeeping_interval);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = 0;
        self.apply();
        loop {
            heart.beat();
            let stopping = self.parts.stop.is_cancelled();
            if stopping && self.tasks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                Ok(()) = self.config.changed(), if !stopping => self.apply(),
                changed = self.buses.changed() => {
                    changed.map_err(|error| panicked("connect", error))?;
                    self.apply();
                }
                Some(ended) = self.tasks.join_next() => ended_as_told(ended)?,
                Some(look) = self.looks.join_next() => {
                    look.map_err(|error| panicked("housekeeping", error))?;
                }
                () = self.parts.stop.cancelled(), if !stopping => self.stop_engines(),
                _ = rounds.tick() => {
                    self.housekeeping(round % IDLE_ROUNDS == 0);
                    round += 1;
                }
            }
        }
    }

    /// Makes what runs fit the configuration.
    fn apply(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let gone = self
            .buses
            .keep(config.objects.values().map(|object| &object.bus));
        for bus in gone {
            self.parts.metrics.remove_broker(&Servers(&bus).to_string());
        }
        self.forget(&config);
        let mut all = BTreeMap::new();
        for (key, object) in &config.objects {
            let metrics = &self.parts.metrics;
            let shared = self
                .shared
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Shared::new(key.clone(), metrics.object(key))))
                .clone();
            let queue = self.queue(object, &shared);
            self.engine(object, queue.clone(), &shared);
            let group = object
                .intake
                .as_ref()
                .and_then(|intake| intake.group.as_ref());
            let grouping = shared.grouping(group);
            all.insert(
                key.clone(),
                Arc::new(Object {
                    config: object.clone(),
                    queue,
                    grouping,
                    shared,
                }),
            );
        }
        self.parts
            .metrics
            .objects
            .set(i64::try_from(all.len()).unwrap_or(i64::MAX));
        self.parts.objects.replace(Snapshot::new(all));
        self.housekeeping(true);
    }

    /// Lets go of objects that are gone. Their running calls finish.
    fn forget(&mut self, config: &Config) {
        self.engines.retain(|key, engine| {
            let wanted = config
                .objects
                .get(key)
                .is_some_and(|object| object.consumer.is_some());
            if !wanted {
                engine.stop.cancel();
            }
            wanted
        });
        self.queues
            .retain(|key, _| config.objects.contains_key(key));
        let metrics = &self.parts.metrics;
        self.shared.retain(|key, _| {
            let wanted = config.objects.contains_key(key);
            if !wanted {
                metrics.remove(key, &reject::REASONS);
            }
            wanted
        });
    }

    /// The handle on an object's queue; a new one only when the queue is another one.
    fn queue(&mut self, object: &ObjectConfig, shared: &Shared) -> Option<Queue> {
        let problem = self.buses.error(&object.bus).map(|error| Problem {
            reason: error.reason(),
            message: error.to_string(),
        });
        shared.set_problem("bus", problem);
        let spec = QueueSpec {
            object: object.object.clone(),
            uid: object.uid.clone(),
            config: object.queue.clone(),
        };
        if let Some((known, bus, queue)) = self.queues.get(&object.object)
            && *known == spec
            && *bus == object.bus
        {
            return Some(queue.clone());
        }
        let transport = self.buses.transport(&object.bus)?;
        let queue = Queue {
            handle: transport.queue(&spec),
            connected: transport.connected(),
        };
        self.queues.insert(
            object.object.clone(),
            (spec, object.bus.clone(), queue.clone()),
        );
        Some(queue)
    }

    fn engine(&mut self, object: &Arc<ObjectConfig>, queue: Option<Queue>, shared: &Arc<Shared>) {
        if object.consumer.is_none() || self.parts.stop.is_cancelled() {
            return;
        }
        let spec = Spec {
            config: object.clone(),
            queue,
        };
        if let Some(running) = self.engines.get(&object.object) {
            running.spec.send_if_modified(|known| {
                let same = known.config == spec.config && same_queue(known, &spec);
                *known = spec;
                !same
            });
            return;
        }
        let (spec, receiver) = watch::channel(spec);
        let stop = CancellationToken::new();
        let engine = Engine {
            shared: shared.clone(),
            spec: receiver,
            clock: self.parts.clock.clone(),
            egress: self.parts.egress.clone(),
            settings: self.parts.settings.clone(),
            stop: stop.clone(),
            hearts: self.parts.hearts.clone(),
        };
        let key = object.object.clone();
        let told = stop.clone();
        self.tasks
            .spawn(async move { (key, told, engine.run().await) });
        self.engines
            .insert(object.object.clone(), Running { spec, stop });
    }

    fn stop_engines(&mut self) {
        for engine in self.engines.values() {
            engine.stop.cancel();
        }
    }

    /// Looks at what changes by itself: keys, depths, connections. `all` looks also where there is no
    /// traffic.
    fn housekeeping(&mut self, all: bool) {
        for (bus, transport) in self.buses.iter() {
            let connected = transport.is_some_and(|transport| *transport.connected().borrow());
            self.parts
                .metrics
                .broker_connected(&Servers(bus).to_string(), connected);
        }
        // One look at a time: a broker that does not answer must not collect questions.
        if !self.looks.is_empty() {
            return;
        }
        let objects = self.parts.objects.snapshot();
        let due: Vec<Arc<Object>> = objects
            .all
            .values()
            .filter(|object| object.shared.traffic.swap(false, Ordering::Relaxed) || all)
            .cloned()
            .collect();
        if due.is_empty() {
            return;
        }
        let clock = self.parts.clock.clone();
        let due_for_keys: Vec<Arc<Object>> = due
            .iter()
            .filter(|object| {
                object
                    .config
                    .intake
                    .as_ref()
                    .is_some_and(|it| it.verify.is_some())
            })
            .cloned()
            .collect();
        if !due_for_keys.is_empty() {
            self.looks
                .spawn_blocking(move || due_for_keys.iter().for_each(|it| look_at_keys(it)));
        }
        self.looks.spawn(async move {
            for some in due.chunks(DEPTHS_AT_ONCE) {
                join_all(some.iter().map(|object| look_at_depth(object, &*clock))).await;
            }
        });
    }
}

fn ended_as_told(ended: Result<Ended, JoinError>) -> Result<(), RunError> {
    let (key, told, result) = ended.map_err(|error| panicked("consumer", error))?;
    result?;
    if told.is_cancelled() {
        return Ok(());
    }
    let task = format!("consumer {key}");
    Err(RunError::TaskEnded {
        task,
        why: "nobody asked it to".to_owned(),
    })
}

fn same_queue(one: &Spec, other: &Spec) -> bool {
    match (&one.queue, &other.queue) {
        (Some(one), Some(other)) => Arc::ptr_eq(&one.handle, &other.handle),
        (None, None) => true,
        _ => false,
    }
}

async fn look_at_depth(object: &Object, clock: &dyn Clock) {
    let Some(queue) = object.queue.as_ref().filter(|queue| queue.is_connected()) else {
        return;
    };
    match queue.handle.depth().await {
        Ok(depth) => {
            object.shared.metrics.depth(&depth, clock.now());
            object.shared.set_depth(depth, object.config.queue.capacity);
            object.shared.set_problem("queue", None);
            if object.config.queue.fifo.is_some()
                && let Ok(fifo) = queue.handle.fifo()
                && let Ok(counts) = fifo.groups().await
            {
                object.shared.metrics.groups(counts);
            }
        }
        // An outage is shown by `connected`, not as something to fix.
        Err(error) if error.is_transient() => {}
        Err(error) => object.shared.set_problem(
            "queue",
            Some(Problem {
                reason: error.reason(),
                message: error.to_string(),
            }),
        ),
    }
}

fn look_at_keys(object: &Object) {
    let Some(verify) = object
        .config
        .intake
        .as_ref()
        .and_then(|it| it.verify.as_ref())
    else {
        return;
    };
    object.shared.read_keys(verify);
}
