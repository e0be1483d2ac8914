//! An execution that is interrupted anywhere, stored, read again and resumed ends as one that is not.

#![allow(clippy::panic, reason = "a test says with it what went wrong")]

mod generate;

use std::collections::BTreeMap;

use generate::Generator;
use jiff::Timestamp;
use serde_json::{Value, json};
use weir_asl::definition::{StateMachine, WorkflowType};
use weir_asl::jsonata;
use weir_asl::machine::{
    About, Command, Environment, Event, Execution, Failure, HistoryEvent, Id, Limits, Outcome,
    Step, step,
};
use weir_asl::parse;
use weir_asl::randomness::{Randomness, Seeded};

/// What a host keeps: the execution, and what it was told to do and has not done.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    execution: Execution,
    now: Timestamp,
    open: BTreeMap<Id, Open>,
    is_begun: bool,
    must_continue: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Open {
    Task { is_mute: bool, signs: u64 },
    Timer { at: Timestamp },
    Reading,
    Child { input: Value },
    Writing,
}

struct Host<'m> {
    machine: &'m StateMachine,
    seed: u64,
    limits: Limits,
}

impl Host<'_> {
    fn begin(&self) -> Stored {
        let now = Timestamp::constant(1_767_225_600, 0);
        let about = About {
            id: "arn:execution".into(),
            name: "execution".into(),
            input: std::sync::Arc::new(json!({"items": [0.1, "two", null], "n": 1})),
            start_time: now,
            role: "arn:role".into(),
            machine_id: "arn:machine".into(),
            machine_name: "machine".into(),
            is_express: false,
            processor_of: None,
            item: None,
        };
        Stored {
            execution: Execution::new(self.machine, about).expect("the machine has a flow"),
            now,
            open: BTreeMap::new(),
            is_begun: false,
            must_continue: false,
        }
    }

    /// Randomness that belongs to a moment, not to a run: a step that is made again makes the same choices.
    fn randomness(&self, stored: &Stored, salt: u64) -> Seeded {
        let moment = stored.execution.next_event_id() ^ stored.now.as_second() as u64;
        Seeded::new(self.seed ^ moment.wrapping_mul(0x9E37_79B9) ^ (salt << 40))
    }

    /// What happens next; none when nothing ever will.
    fn next_event(&self, stored: &mut Stored) -> Option<Event> {
        if !stored.is_begun {
            stored.is_begun = true;
            return Some(Event::Start);
        }
        if std::mem::take(&mut stored.must_continue) {
            return Some(Event::Continue);
        }
        let mut dice = self.randomness(stored, 1);
        let ready: Vec<Id> = stored
            .open
            .iter()
            .filter(|(_, open)| {
                !matches!(open, Open::Timer { .. } | Open::Task { is_mute: true, .. })
            })
            .map(|(id, _)| *id)
            .collect();
        if !ready.is_empty() {
            let id = ready[dice.next_u64() as usize % ready.len()];
            return Some(answer(stored.open.get_mut(&id)?, id, &mut dice));
        }
        let timers = stored.open.iter().filter_map(|(id, open)| match open {
            Open::Timer { at } => Some((*at, *id)),
            _ => None,
        });
        if let Some((at, id)) = timers.min() {
            stored.now = stored.now.max(at);
            return Some(Event::TimerFired { id });
        }
        // Nobody answers the task that is left: it ends the run.
        let id = *stored.open.keys().next()?;
        Some(Event::TaskFailed {
            id,
            failure: Failure::new("Silent", "nobody answered"),
        })
    }

    fn take(&self, stored: &Stored, event: &Event) -> Step {
        let mut randomness = self.randomness(stored, 2);
        let mut environment = Environment {
            now: stored.now,
            randomness: &mut randomness,
            limits: &self.limits,
        };
        step(
            self.machine,
            stored.execution.clone(),
            event.clone(),
            &mut environment,
        )
    }

    /// Makes one step and carries out its commands, as far as that means to remember them.
    fn advance(&self, stored: &mut Stored, history: &mut Vec<HistoryEvent>) -> bool {
        self.advance_checked(stored, history, false)
    }

    fn advance_checked(
        &self,
        stored: &mut Stored,
        history: &mut Vec<HistoryEvent>,
        is_told_twice: bool,
    ) -> bool {
        let Some(event) = self.next_event(stored) else {
            return false;
        };
        if let Some(id) = id_of(&event) {
            let stays = matches!(
                event,
                Event::TaskHeartbeat { .. }
                    | Event::TaskStarted { .. }
                    | Event::TaskSubmitted { .. }
            );
            let reads = matches!(event, Event::ItemsRead { .. });
            if !stays && !reads {
                stored.open.remove(&id);
            }
        }
        let made = self.take(stored, &event);
        if is_told_twice && id_of(&event).is_some() {
            let repeated = Stored {
                execution: made.execution.clone(),
                ..stored.clone()
            };
            // A heartbeat or a worker that comes twice is one that came later.
            if !matches!(
                event,
                Event::TaskHeartbeat { .. } | Event::TaskSubmitted { .. }
            ) {
                let again = self.take(&repeated, &event);
                assert_eq!(again.execution, made.execution, "{event:?} came twice");
                assert!(
                    again.commands.is_empty() && again.history.is_empty(),
                    "{event:?} came twice"
                );
            }
        }
        let mut dice = self.randomness(stored, 3);
        stored.execution = made.execution;
        history.extend(made.history);
        for command in made.commands {
            match command {
                Command::StartTask(task) => {
                    let is_mute = dice.next_u64().is_multiple_of(8);
                    stored
                        .open
                        .insert(task.id, Open::Task { is_mute, signs: 0 });
                }
                Command::StartTimer { id, at } => {
                    stored.open.insert(id, Open::Timer { at });
                }
                Command::CancelTask { id }
                | Command::CancelTimer { id }
                | Command::StopChild { id } => {
                    stored.open.remove(&id);
                }
                Command::ReadItems(reading) => {
                    stored.open.insert(reading.id, Open::Reading);
                }
                Command::StartChild(child) => {
                    let input = (*child.input).clone();
                    stored.open.insert(child.id, Open::Child { input });
                }
                Command::WriteResults(writing) => {
                    stored.open.insert(writing.id, Open::Writing);
                }
                Command::Continue => stored.must_continue = true,
                Command::End(_) => stored.open.clear(),
            }
        }
        stored.execution.outcome().is_none()
    }

    fn finish(&self, mut stored: Stored, history: &mut Vec<HistoryEvent>) -> Stored {
        for _ in 0..20_000 {
            if !self.advance(&mut stored, history) {
                return stored;
            }
        }
        panic!("seed {}: the execution does not end", self.seed);
    }
}

fn id_of(event: &Event) -> Option<Id> {
    match event {
        Event::TaskStarted { id, .. }
        | Event::TaskSubmitted { id, .. }
        | Event::TaskHeartbeat { id }
        | Event::TaskSucceeded { id, .. }
        | Event::TaskFailed { id, .. }
        | Event::TimerFired { id }
        | Event::ItemsRead { id, .. }
        | Event::ItemsUnreadable { id, .. }
        | Event::ChildEnded { id, .. }
        | Event::ResultsWritten { id, .. }
        | Event::ResultsUnwritable { id, .. } => Some(*id),
        Event::Start | Event::Continue | Event::Stop { .. } => None,
    }
}

fn answer(open: &mut Open, id: Id, dice: &mut Seeded) -> Event {
    let failure = |dice: &mut Seeded| {
        let names = ["ErrorA", "ErrorB", "States.Timeout", "States.TaskFailed"];
        Failure::new(names[dice.next_u64() as usize % names.len()], "by the dice")
    };
    match open {
        Open::Child { input } => {
            let result = match dice.next_u64() % 4 {
                0 => Err(failure(dice)),
                _ => Ok(input.clone()),
            };
            Event::ChildEnded { id, result }
        }
        Open::Reading => Event::ItemsRead {
            id,
            items: vec![json!(1), json!(0.2)],
            is_last: true,
        },
        Open::Writing => Event::ResultsWritten {
            id,
            output: json!({"written": true}),
        },
        Open::Task { is_mute, signs } => match (dice.next_u64() + *signs) % 10 {
            0 => {
                *signs += 1;
                *is_mute = dice.next_u64().is_multiple_of(2);
                Event::TaskHeartbeat { id }
            }
            1 => Event::TaskSubmitted {
                id,
                output: json!({"ok": true}),
            },
            2..=4 => Event::TaskFailed {
                id,
                failure: failure(dice),
            },
            _ => Event::TaskSucceeded {
                id,
                output: json!({"value": (dice.next_u64() % 1000) as f64 / 7.0}),
            },
        },
        Open::Timer { .. } => Event::TimerFired { id },
    }
}

fn machine(seed: u64) -> StateMachine {
    let definition = Generator::new(seed).machine();
    parse::from_value(&definition, WorkflowType::Standard)
        .unwrap_or_else(|rejection| panic!("seed {seed}: {rejection:?}\n{definition}"))
}

/// Ids count up from 1, and every event follows one that is there already.
fn check_history(seed: u64, history: &[HistoryEvent]) {
    for (position, event) in history.iter().enumerate() {
        assert_eq!(event.id, position as u64 + 1, "seed {seed}");
        assert!(event.previous_id < event.id, "seed {seed}: {event:?}");
    }
}

#[test]
fn an_execution_cut_anywhere_ends_as_the_whole_one() {
    let (mut cuts, mut events, mut outcomes) = (0, 0, BTreeMap::new());
    for seed in 0..machines() {
        let machine = machine(seed);
        let limits = Limits {
            transitions: 1,
            ..patient()
        };
        let host = Host {
            machine: &machine,
            seed,
            limits,
        };

        let mut history = Vec::new();
        let mut stored = host.begin();
        let mut moments = vec![(stored.clone(), 0)];
        while host.advance_checked(&mut stored, &mut history, true) {
            moments.push((stored.clone(), history.len()));
            assert!(
                moments.len() < 20_000,
                "seed {seed}: the execution does not end"
            );
        }
        check_history(seed, &history);
        *outcomes
            .entry(stored.execution.outcome().map(Outcome::status))
            .or_insert(0) += 1;
        events += history.len();

        for (moment, written) in moments {
            cuts += 1;
            let text = moment.execution.encode().expect("a state is JSON");
            let execution = Execution::decode(&text).expect("what was written can be read");
            let read = Stored {
                execution,
                ..moment.clone()
            };
            assert_eq!(read, moment, "seed {seed}: after event {written}");
            let mut resumed = history[..written].to_vec();
            let end = host.finish(read, &mut resumed);
            assert_eq!(end, stored, "seed {seed}: cut after event {written}");
            assert_eq!(resumed, history, "seed {seed}: cut after event {written}");
        }
    }
    println!(
        "{} machines, {cuts} cuts, {events} events, ended {outcomes:?}",
        machines()
    );
    assert!(
        outcomes.len() >= 2,
        "the machines end too much alike: {outcomes:?}"
    );
}

#[test]
fn the_bound_of_a_step_changes_nothing_but_its_length() {
    for seed in 0..machines().min(300) {
        let machine = machine(seed);
        let run = |transitions| {
            let host = Host {
                machine: &machine,
                seed,
                limits: Limits {
                    transitions,
                    ..patient()
                },
            };
            let mut history = Vec::new();
            let mut stored = host.begin();
            // One event: only what needs nobody from outside.
            host.advance(&mut stored, &mut history);
            while stored.must_continue {
                host.advance(&mut stored, &mut history);
            }
            let types: Vec<String> = history.iter().map(HistoryEvent::type_name).collect();
            (types, stored.execution.outcome().map(Outcome::status))
        };
        let (mut one, mut many) = (run(1), run(1_000));
        // Branches that run beside each other take turns.
        one.0.sort_unstable();
        many.0.sort_unstable();
        if one.1.is_some_and(|status| status == "SUCCEEDED")
            || !one.0.iter().any(|name| name.starts_with("Parallel"))
        {
            assert_eq!(one.1, many.1, "seed {seed}");
        }
    }
}

#[test]
fn events_nobody_waits_for_change_nothing() {
    for seed in 0..machines().min(300) {
        let machine = machine(seed);
        let host = Host {
            machine: &machine,
            seed,
            limits: patient(),
        };
        let mut history = Vec::new();
        let mut stored = host.begin();
        while host.advance(&mut stored, &mut history) {
            for id in [0, 999_999, u64::MAX].map(Id) {
                for event in [
                    Event::TimerFired { id },
                    Event::TaskSucceeded {
                        id,
                        output: json!(1),
                    },
                    Event::TaskFailed {
                        id,
                        failure: Failure::default(),
                    },
                    Event::TaskHeartbeat { id },
                    Event::ChildEnded {
                        id,
                        result: Ok(json!(1)),
                    },
                    Event::ItemsRead {
                        id,
                        items: vec![json!(1)],
                        is_last: false,
                    },
                    Event::Start,
                ] {
                    let made = host.take(&stored, &event);
                    assert_eq!(made.execution, stored.execution, "seed {seed}: {event:?}");
                    assert!(made.commands.is_empty() && made.history.is_empty());
                }
            }
        }
        let late = host.take(
            &stored,
            &Event::Stop {
                failure: Failure::default(),
            },
        );
        assert_eq!(
            late.execution, stored.execution,
            "seed {seed}: an end is final"
        );
    }
}

#[test]
fn a_stopped_execution_cancels_all_it_waits_for() {
    for seed in 0..machines().min(300) {
        let machine = machine(seed);
        let host = Host {
            machine: &machine,
            seed,
            limits: patient(),
        };
        let mut history = Vec::new();
        let mut stored = host.begin();
        if !host.advance(&mut stored, &mut history) || stored.must_continue {
            continue;
        }
        let made = host.take(
            &stored,
            &Event::Stop {
                failure: Failure::new("Stop", "now"),
            },
        );
        let mut open = stored.open.clone();
        for command in &made.commands {
            match command {
                Command::CancelTask { id }
                | Command::CancelTimer { id }
                | Command::StopChild { id } => {
                    open.remove(id);
                }
                Command::End(outcome) => assert_eq!(outcome.status(), "ABORTED"),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        assert!(open.is_empty(), "seed {seed}: left open {open:?}");
        assert!(made.execution.outcome().is_some());
    }
}

/// How many machines are cut: `WEIR_RESUME_MACHINES`, or a thousand where the compiler has optimised
/// (`cargo test --release -p weir-asl --test resume`) and fewer where it has not.
fn machines() -> u64 {
    let stated = std::env::var("WEIR_RESUME_MACHINES").ok();
    let usual = if cfg!(debug_assertions) { 100 } else { 1_000 };
    stated.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// The usual bounds, but for the time of an expression: a busy machine must not decide how an execution ends.
fn patient() -> Limits {
    let time = std::time::Duration::from_mins(1);
    Limits {
        jsonata: jsonata::Limits {
            time,
            ..jsonata::Limits::default()
        },
        ..Limits::default()
    }
}
