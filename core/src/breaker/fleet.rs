//! Whole fleets on one thread: replicas with skewed clocks, one store, and a network that delays,
//! reorders, repeats and loses. A run is made from one seed, which every failure prints.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::config::BreakerConfig;
use super::machine::{Breaker, Effect, Event, LONGEST_WAIT};
use super::record::{Phase, Record};
use super::{Moment, Outcome, State, Ticket, millis};

/// Where every run begins, milliseconds since 1970.
const START: u64 = 1_800_000_000_000;

struct Random(u64);

impl Random {
    /// `splitmix64`.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 32) as f64 / (1_u64 << 32) as f64
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Told(usize, u64, Event),
    CallArrives(usize),
    CallEnds(usize, u64, Ticket, Outcome),
    StoreReceives(usize, u64, u64, Record),
    Ticks(usize, u64),
    Restarts(usize),
    Disconnects(usize, bool),
    TargetTurns(bool),
}

#[derive(Clone, Copy)]
struct Weather {
    /// Replicas lose the store and find it again, and restart.
    outages: bool,
    /// Longest delay of anything sent, milliseconds.
    delay: u64,
}

struct Replica {
    breaker: Breaker,
    life: u64,
    skew: u64,
    connected: bool,
}

struct Fleet {
    seed: u64,
    random: Random,
    config: BreakerConfig,
    weather: Weather,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    replicas: Vec<Replica>,
    store: Option<Record>,
    healthy: bool,
    calls: u64,
    /// Calls without an answer, and when they arrived.
    unanswered: BTreeMap<(usize, u64), u64>,
    /// Probes under way: replica, life, and the number of its permit.
    probes: BTreeMap<(usize, u64, u64), u64>,
    most_probes: usize,
    /// Every state that the store has had.
    history: Vec<Record>,
    admitted: u64,
    refused: u64,
}

impl Fleet {
    fn new(seed: u64, replicas: usize, config: BreakerConfig, weather: Weather) -> Self {
        let mut random = Random(seed);
        let replicas = (0..replicas)
            .map(|index| Replica {
                breaker: Breaker::shared(config.clone(), &format!("pod-{index}"), 1),
                life: 1,
                skew: random.below(240_000),
                connected: true,
            })
            .collect();
        let mut fleet = Self {
            seed,
            random,
            config,
            weather,
            now: START,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            replicas,
            store: None,
            healthy: true,
            calls: 0,
            unanswered: BTreeMap::new(),
            probes: BTreeMap::new(),
            most_probes: 0,
            history: Vec::new(),
            admitted: 0,
            refused: 0,
        };
        for replica in 0..fleet.replicas.len() {
            fleet.step(replica, Event::Stored(None));
            fleet.plan(fleet.now, Happening::CallArrives(replica));
            fleet.plan(fleet.now, Happening::Ticks(replica, 1));
        }
        fleet
    }

    fn plan(&mut self, at: u64, happening: Happening) {
        self.queue
            .push(Reverse((at, self.order, self.happenings.len())));
        self.order += 1;
        self.happenings.push(Some(happening));
    }

    fn delay(&mut self) -> u64 {
        let longest = if self.random.chance(10) {
            self.weather.delay
        } else {
            20
        };
        self.now + self.random.below(longest + 1)
    }

    /// Runs until `until`; what happens later stays planned.
    fn run(&mut self, until: u64) {
        while let Some(&Reverse((at, _, index))) = self.queue.peek() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = at;
            let happening = self.happenings[index].take().expect("each happens once");
            self.happen(happening);
            let late = self
                .unanswered
                .iter()
                .find(|&(_, arrived)| self.now > arrived + millis(LONGEST_WAIT) + 250);
            assert!(
                late.is_none(),
                "seed {}: {late:?} waits at {}",
                self.seed,
                self.now
            );
        }
        self.now = until;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told(replica, life, event) => {
                if self.replicas[replica].life == life {
                    self.step(replica, event);
                }
            }
            Happening::CallArrives(replica) => {
                self.calls += 1;
                let call = self.calls;
                self.unanswered.insert((replica, call), self.now);
                self.step(replica, Event::Call { call });
                let pause = self.random.below(250) + 1;
                self.plan(self.now + pause, Happening::CallArrives(replica));
            }
            Happening::CallEnds(replica, life, ticket, outcome) => {
                if let Some(number) = ticket.probe {
                    self.probes.remove(&(replica, life, number));
                }
                if self.replicas[replica].life == life && !self.random.chance(3) {
                    self.step(replica, Event::Ended { ticket, outcome });
                }
            }
            Happening::StoreReceives(replica, life, expected, record) => {
                self.receive(replica, life, expected, &record);
            }
            Happening::Ticks(replica, life) => {
                if self.replicas[replica].life == life {
                    self.step(replica, Event::Tick);
                    let wake = self.replicas[replica].breaker.wake_in();
                    let wake = wake.map_or(200, |wake| millis(wake).clamp(1, 200));
                    self.plan(self.now + wake, Happening::Ticks(replica, life));
                }
            }
            Happening::Restarts(replica) => {
                let life = self.replicas[replica].life + 1;
                let name = format!("pod-{replica}");
                self.replicas[replica].breaker = Breaker::shared(self.config.clone(), &name, life);
                self.replicas[replica].life = life;
                // Its calls die with it.
                self.probes.retain(|&(other, ..), _| other != replica);
                self.unanswered.retain(|&(other, _), _| other != replica);
                let stored = self.store.clone();
                let at = self.delay();
                self.plan(at, Happening::Told(replica, life, Event::Stored(stored)));
                self.plan(self.now, Happening::Ticks(replica, life));
            }
            Happening::Disconnects(replica, away) => {
                self.replicas[replica].connected = !away;
                if away {
                    self.step(replica, Event::StoreAway);
                } else {
                    let stored = self.store.clone();
                    self.step(replica, Event::Stored(stored));
                }
            }
            Happening::TargetTurns(healthy) => self.healthy = healthy,
        }
    }

    /// The store compares and sets, answers, and tells everyone.
    fn receive(&mut self, replica: usize, life: u64, expected: u64, record: &Record) {
        if !self.replicas[replica].connected {
            return;
        }
        let current = self.store.as_ref().map_or(0, |record| record.version);
        let version = record.version;
        let answer = if current == expected {
            assert!(version > current, "seed {}: versions go back", self.seed);
            if record.state == Phase::Closed {
                self.probes.clear();
            }
            self.history.push(record.clone());
            self.store = Some(record.clone());
            for other in 0..self.replicas.len() {
                let life = self.replicas[other].life;
                let copies = [1, 1, 1, 2, 0][self.random.below(5) as usize];
                for _ in 0..copies {
                    let at = self.delay();
                    let event = Event::Changed(record.clone());
                    if self.replicas[other].connected {
                        self.plan(at, Happening::Told(other, life, event));
                    }
                }
            }
            Event::Accepted { version }
        } else {
            let current = self.store.clone();
            Event::Lost { version, current }
        };
        let at = self.delay();
        self.plan(at, Happening::Told(replica, life, answer));
    }

    fn step(&mut self, replica: usize, event: Event) {
        let random = self.random.unit();
        let Replica {
            breaker,
            life,
            skew,
            ..
        } = &mut self.replicas[replica];
        let (life, now) = (*life, Moment::from_millis(self.now + *skew));
        let effects = breaker.step(event, now, random);
        for effect in effects {
            match effect {
                Effect::Admit { call, ticket } => {
                    self.unanswered
                        .remove(&(replica, call))
                        .expect("answered once");
                    self.admitted += 1;
                    self.begin(replica, life, ticket);
                }
                Effect::Refuse { call, retry_after } => {
                    self.unanswered
                        .remove(&(replica, call))
                        .expect("answered once");
                    assert!(!retry_after.is_zero(), "seed {}", self.seed);
                    self.refused += 1;
                }
                Effect::Propose { expected, record } => {
                    let copy = Record::decode(record.encode().as_bytes()).expect("a record");
                    assert_eq!(copy, record, "seed {}", self.seed);
                    let at = self.delay();
                    self.plan(
                        at,
                        Happening::StoreReceives(replica, life, expected, record),
                    );
                }
                Effect::Publish(delta) => {
                    for other in 0..self.replicas.len() {
                        let life = self.replicas[other].life;
                        for _ in 0..self.random.below(3) {
                            let at = self.delay();
                            let event = Event::Heard(delta.clone());
                            self.plan(at, Happening::Told(other, life, event));
                        }
                    }
                }
                Effect::Became { state, .. } => {
                    if state == State::Closed && self.weather.outages {
                        // What it decided alone: its probes are calls like any other now.
                        self.probes.retain(|&(other, ..), _| other != replica);
                    }
                }
            }
        }
    }

    fn begin(&mut self, replica: usize, life: u64, ticket: Ticket) {
        if let Some(number) = ticket.probe {
            self.probes.insert((replica, life, number), self.now);
            self.most_probes = self.most_probes.max(self.probes.len());
            let extra = if self.weather.outages {
                self.replicas.len()
            } else {
                0
            };
            let limit = self.config.half_open.probes as usize + extra;
            assert!(
                self.probes.len() <= limit,
                "seed {}: {} probes at {}: {:?}",
                self.seed,
                self.probes.len(),
                self.now,
                self.probes
            );
        }
        let timeout = millis(self.config.timeout());
        let took = match self.random.below(10) {
            0 | 1 => timeout,
            2 => self.random.below(timeout),
            _ => self.random.below(100),
        };
        let outcome = match self.random.below(20) {
            0 => Outcome::Abandoned,
            _ if self.healthy && took < timeout => Outcome::Succeeded,
            _ => Outcome::Failed,
        };
        self.plan(
            self.now + took,
            Happening::CallEnds(replica, life, ticket, outcome),
        );
    }

    /// The target fails half of the time, the world is as bad as the weather says.
    fn live_through(&mut self, seconds: u64) {
        let end = self.now + seconds * 1_000;
        let mut at = self.now;
        let mut healthy = true;
        while at < end {
            at += self.random.below(20_000);
            healthy = !healthy;
            self.plan(at, Happening::TargetTurns(healthy));
        }
        for replica in 0..self.replicas.len() {
            let mut at = self.now;
            while self.weather.outages && at < end {
                at += self.random.below(30_000);
                if self.random.chance(30) {
                    self.plan(at, Happening::Restarts(replica));
                } else {
                    self.plan(at, Happening::Disconnects(replica, true));
                    at += self.random.below(15_000);
                    self.plan(at, Happening::Disconnects(replica, false));
                }
            }
        }
        self.run(end + 60_000);
    }
}

#[cfg(test)]
mod tests;
