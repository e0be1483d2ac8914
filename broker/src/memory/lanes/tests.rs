//! The rules of turns beside a model that knows only lists.

use proptest::prelude::*;
use weir_core::dead_letter::{Failure, Reason};
use weir_core::message::Headers;

use super::*;

const LEASE: Duration = Duration::from_secs(10);
const LIMIT: usize = 2;
const BATCH: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Take,
    Begin(usize),
    Ack(usize, usize),
    Count(usize, u32),
    More(usize),
    End(usize),
    Rest(usize, u64),
    Extend(usize),
    Block(usize),
    Release(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let any = 0usize..4;
    prop_oneof![
        4 => (0usize..3).prop_map(Step::Publish),
        4 => Just(Step::Take),
        2 => any.clone().prop_map(Step::Begin),
        3 => (any.clone(), 0usize..4).prop_map(|(at, count)| Step::Ack(at, count)),
        1 => (any.clone(), 1u32..9).prop_map(|(at, attempts)| Step::Count(at, attempts)),
        3 => any.clone().prop_map(Step::More),
        1 => any.clone().prop_map(Step::End),
        2 => (any.clone(), 1u64..9).prop_map(|(at, seconds)| Step::Rest(at, seconds)),
        1 => any.clone().prop_map(Step::Extend),
        1 => any.prop_map(Step::Block),
        1 => (0usize..3).prop_map(Step::Release),
        2 => (1u64..12).prop_map(Step::Pass),
    ]
}

/// One turn as the test holds it.
#[derive(Clone, Debug)]
struct Taken {
    group: String,
    number: u64,
    positions: Vec<u64>,
}

/// A group as a list of position, attempts and whether it is in a call.
#[derive(Clone, Debug, Default)]
struct Group {
    stored: Vec<(u64, u32, bool)>,
    /// Number of the turn, end of its lease, messages handed out.
    turn: Option<(u64, u64, usize)>,
    blocked: bool,
    /// The message that waits, and until when.
    rests: Option<(u64, u64)>,
    /// When it is looked at again whether it can have a turn.
    looks: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    groups: [Group; 3],
    /// Groups that wait, in the order in which they began to.
    waiting: Vec<usize>,
}

impl Model {
    fn settle(&mut self) {
        // Leases end in the order of their times.
        let mut over: Vec<(u64, usize)> = (0..3)
            .filter_map(|at| Some((self.groups[at].turn?.1, at)))
            .filter(|(until, _)| *until <= self.now)
            .collect();
        over.sort_unstable();
        for (_, at) in over {
            let group = &mut self.groups[at];
            group.turn = None;
            for message in &mut group.stored {
                message.1 += u32::from(message.2);
                message.2 = false;
            }
            self.line_up(at);
        }
        let mut over: Vec<(u64, usize)> = (0..3)
            .filter_map(|at| Some((self.groups[at].looks?, at)))
            .filter(|(until, _)| *until <= self.now)
            .collect();
        over.sort_unstable();
        for (_, at) in over {
            self.groups[at].looks = None;
            self.line_up(at);
        }
    }

    fn line_up(&mut self, at: usize) {
        let now = self.now;
        let group = &mut self.groups[at];
        group.looks = None;
        let Some((first, ..)) = group.stored.first() else {
            return;
        };
        if group.turn.is_some() || group.blocked || self.waiting.contains(&at) {
            return;
        }
        match group.rests {
            Some((position, until)) if position == *first && until > now => {
                group.looks = Some(until);
            }
            _ => self.waiting.push(at),
        }
    }

    fn in_turn(&self) -> usize {
        self.groups
            .iter()
            .filter(|group| group.turn.is_some())
            .count()
    }

    fn holds(&self, taken: &Taken) -> Option<usize> {
        let at: usize = taken.group.parse().ok()?;
        let (number, ..) = self.groups[at].turn?;
        (number == taken.number).then_some(at)
    }
}

fn message(group: usize, position: u64) -> Message {
    Message {
        id: format!("m{position}"),
        accepted_at: Timestamp::UNIX_EPOCH,
        headers: Headers::new(),
        body: bytes::Bytes::new(),
        group: Some(group.to_string()),
    }
}

fn held(group: &str) -> HeldGroup {
    HeldGroup {
        group: group.to_owned(),
        hold: Hold::Blocked,
        since: Timestamp::UNIX_EPOCH,
        message_id: "m".to_owned(),
        failure: Failure {
            reason: Reason::MaxAttempts,
            attempts: 1,
            failed_at: Timestamp::UNIX_EPOCH,
            last_status: None,
            message: "no".to_owned(),
            answer: String::new(),
        },
    }
}

proptest! {
    #[test]
    fn turns_are_those_of_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let start = Instant::now();
        let (mut lanes, mut model) = (Lanes::default(), Model::default());
        let mut turns: Vec<Taken> = Vec::new();
        let mut position = 0;
        for step in steps {
            let now = start + Duration::from_secs(model.now);
            let until = model.now + LEASE.as_secs();
            let of = |at: usize| turns.get(at % turns.len().max(1)).cloned();
            match step {
                Step::Publish(at) => {
                    position += 1;
                    let wall = Timestamp::UNIX_EPOCH;
                    let back = lanes.store(message(at, position), position, None, now, wall);
                    prop_assert!(back.is_none());
                    model.groups[at].stored.push((position, 0, false));
                    model.line_up(at);
                }
                Step::Take => {
                    let taken = lanes.take(now, LIMIT as u32, BATCH, LEASE);
                    if model.in_turn() >= LIMIT || model.waiting.is_empty() {
                        prop_assert!(taken.is_none());
                        continue;
                    }
                    let at = model.waiting.remove(0);
                    let taken = taken.expect("a group waits and there is room");
                    prop_assert_eq!(&taken.group, &at.to_string());
                    let group = &mut model.groups[at];
                    let first: Vec<(u64, u32)> = group
                        .stored
                        .iter()
                        .take(BATCH as usize)
                        .map(|message| (message.0, message.1))
                        .collect();
                    let found: Vec<(u64, u32)> = taken
                        .entries
                        .iter()
                        .map(|entry| (entry.position, entry.attempts))
                        .collect();
                    prop_assert_eq!(&found, &first);
                    group.turn = Some((taken.number, until, first.len()));
                    turns.push(Taken {
                        group: taken.group,
                        number: taken.number,
                        positions: found.into_iter().map(|(position, _)| position).collect(),
                    });
                }
                Step::Begin(at) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    prop_assert_eq!(lanes.begin(&turn.group, turn.number), ours.is_some());
                    if let Some(at) = ours {
                        let group = &mut model.groups[at];
                        let size = group.turn.map_or(0, |turn| turn.2);
                        group.stored.iter_mut().take(size).for_each(|message| message.2 = true);
                    }
                }
                Step::Ack(at, count) => {
                    let Some(turn) = of(at) else { continue };
                    let count = count.min(turn.positions.len());
                    let named = &turn.positions[..count];
                    lanes.remove(&turn.group, named);
                    let at: usize = turn.group.parse().unwrap();
                    let group = &mut model.groups[at];
                    while group.stored.first().is_some_and(|first| named.contains(&first.0)) {
                        group.stored.remove(0);
                        if let Some(turn) = &mut group.turn {
                            turn.2 = turn.2.saturating_sub(1);
                        }
                    }
                    if group.stored.is_empty() && group.turn.is_none() {
                        model.waiting.retain(|waiting| *waiting != at);
                        model.groups[at].looks = None;
                    }
                }
                Step::Count(at, attempts) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    let counted = lanes.count(&turn.group, turn.number, &[attempts]);
                    prop_assert_eq!(counted, ours.is_some());
                    if let Some(at) = ours {
                        let group = &mut model.groups[at];
                        group.stored.iter_mut().for_each(|message| message.2 = false);
                        if let Some(first) = group.stored.first_mut() {
                            first.1 = attempts;
                        }
                    }
                }
                Step::More(at) => {
                    let index = at % turns.len().max(1);
                    let Some(turn) = of(at) else { continue };
                    let more = lanes.more(&turn.group, turn.number, BATCH, now);
                    let Some(at) = model.holds(&turn) else {
                        prop_assert!(matches!(more, More::Over));
                        continue;
                    };
                    let group = &mut model.groups[at];
                    let size = group.turn.map_or(0, |turn| turn.2);
                    match more {
                        More::Over => prop_assert!(false, "the turn is held"),
                        More::Ended => {
                            prop_assert_eq!(size, 0, "nothing is taken back");
                            group.turn = None;
                            group.stored.iter_mut().for_each(|message| message.2 = false);
                            model.line_up(at);
                        }
                        More::Messages(entries) => {
                            let wanted = if size > 0 { size } else { BATCH as usize };
                            let first = group.stored.iter().take(wanted);
                            let first: Vec<u64> = first.map(|message| message.0).collect();
                            let found: Vec<u64> =
                                entries.iter().map(|entry| entry.position).collect();
                            prop_assert_eq!(&found, &first);
                            if let Some(turn) = &mut group.turn {
                                turn.2 = found.len();
                            }
                            turns[index].positions = found;
                        }
                    }
                }
                Step::End(at) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    prop_assert_eq!(lanes.end(&turn.group, turn.number, now), ours.is_some());
                    if let Some(at) = ours {
                        let group = &mut model.groups[at];
                        group.turn = None;
                        group.stored.iter_mut().for_each(|message| message.2 = false);
                        model.line_up(at);
                    }
                }
                Step::Rest(at, seconds) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    let wakes = now + Duration::from_secs(seconds);
                    let until = (wakes, Timestamp::UNIX_EPOCH);
                    let rests = lanes.rest(&turn.group, turn.number, until, 1, now);
                    prop_assert_eq!(rests, ours.is_some());
                    if let Some(at) = ours {
                        let until = model.now + seconds;
                        let group = &mut model.groups[at];
                        let left = group.turn.take().is_some_and(|turn| turn.2 > 0);
                        if let Some(first) = group.stored.first().filter(|_| left) {
                            group.rests = Some((first.0, until));
                        }
                        group.stored.iter_mut().for_each(|message| message.2 = false);
                        model.line_up(at);
                    }
                }
                Step::Extend(at) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    let extended = lanes.extend(&turn.group, turn.number, now + LEASE);
                    prop_assert_eq!(extended, ours.is_some());
                    if let Some(turn) = ours.and_then(|at| model.groups[at].turn.as_mut()) {
                        turn.1 = until;
                    }
                }
                Step::Block(at) => {
                    let Some(turn) = of(at) else { continue };
                    let ours = model.holds(&turn);
                    let blocked = lanes.hold(turn.number, held(&turn.group));
                    prop_assert_eq!(blocked.is_some(), ours.is_some());
                    if let Some(at) = ours {
                        let group = &mut model.groups[at];
                        group.turn = None;
                        group.blocked = true;
                        group.stored.iter_mut().for_each(|message| message.2 = false);
                    }
                }
                Step::Release(at) => {
                    let was = model.groups[at].blocked;
                    prop_assert_eq!(lanes.release(&at.to_string(), now), was);
                    let group = &mut model.groups[at];
                    group.blocked = false;
                    if was {
                        group.stored.iter_mut().for_each(|message| message.1 = 0);
                    }
                    model.line_up(at);
                }
                Step::Pass(seconds) => {
                    model.now += seconds;
                    model.settle();
                    lanes.tick(start + Duration::from_secs(model.now));
                }
            }
            let stored: usize = model.groups.iter().map(|group| group.stored.len()).sum();
            prop_assert_eq!(lanes.stored(), stored as u64);
            prop_assert_eq!(lanes.in_turn(), model.in_turn() as u64);
            let looked_at = model.groups.iter().filter(|group| group.looks.is_some());
            prop_assert_eq!(lanes.delayed(), looked_at.count() as u64);
            let known = model.groups.iter().filter(|group| {
                !group.stored.is_empty() || group.turn.is_some() || group.blocked
            });
            prop_assert_eq!(lanes.groups.len(), known.count(), "idle groups are forgotten");
        }
    }
}
