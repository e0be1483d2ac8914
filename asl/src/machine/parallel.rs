//! Parallel states and inline Maps: strands inside a visit (aws-semantics 10.6.6, 10.6.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::command::Command;
use super::failure::{Failure, Mishap, name};
use super::history::Happening;
use super::output::too_large;
use super::run::{Attempt, Progress, Runner, Stay};
use super::size;
use super::state::{Items, MapWork, Position, Strand, Variables, Work};
use super::view::Chain;
use crate::definition::{Flow, Map, StateKind};

/// How many iterations of an inline Map run at once when the definition sets no bound, or a higher one.
const MAX_INLINE_CONCURRENCY: u64 = 40;

impl<'m> Runner<'m, '_> {
    pub(super) fn parallel(
        &mut self,
        stay: &Stay<'m, '_>,
        flows: &[Arc<Flow>],
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let input = self.arguments(stay, chain, None)?;
        self.record(last, Happening::ParallelStateStarted);
        let strands = flows
            .iter()
            .map(|flow| beginning(flow, Arc::clone(&input), *last))
            .collect();
        self.branches(strands, chain, last)
    }

    /// Goes on with the branches of a Parallel.
    pub(super) fn branches(
        &mut self,
        mut strands: Vec<Strand>,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let mut is_paused = false;
        for index in 0..strands.len() {
            let strand = &mut strands[index];
            if matches!(strand.position, Position::Done(_)) {
                continue;
            }
            match self.strand(strand, Some(chain)) {
                Ok(Progress::Done(_)) => *last = strand.last_event,
                Ok(Progress::Waiting) => {}
                Ok(Progress::Paused) => is_paused = true,
                Err(failure) => {
                    *last = strand.last_event;
                    self.abandon_all(&strands);
                    return Err(Mishap::inner(failure));
                }
            }
        }
        if is_paused {
            return Ok(Attempt::Paused(Work::Parallel(strands)));
        }
        if !strands
            .iter()
            .all(|strand| matches!(strand.position, Position::Done(_)))
        {
            return Ok(Attempt::Waiting(Work::Parallel(strands)));
        }
        self.record_leaf(*last, Happening::ParallelStateSucceeded);
        let outputs = strands
            .into_iter()
            .filter_map(|strand| match strand.position {
                Position::Done(output) => Some(Arc::unwrap_or_clone(output)),
                _ => None,
            });
        Ok(Attempt::Result(Arc::new(Value::Array(outputs.collect()))))
    }

    /// Begins an inline Map.
    pub(super) fn inline_map(
        &mut self,
        stay: &Stay<'m, '_>,
        input: Arc<Value>,
        items: Items,
        max_concurrency: u64,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let max_concurrency = match max_concurrency {
            0 => MAX_INLINE_CONCURRENCY,
            stated => stated.min(MAX_INLINE_CONCURRENCY),
        };
        let work = MapWork {
            input,
            items: Arc::new(items),
            begun: 0,
            max_concurrency,
            running: Vec::new(),
            results: BTreeMap::new(),
            result_bytes: 0,
        };
        self.iterations(stay, Box::new(work), chain, last)
    }

    /// Goes on with the iterations of an inline Map, and begins more where there is room.
    pub(super) fn iterations(
        &mut self,
        stay: &Stay<'m, '_>,
        mut work: Box<MapWork>,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let StateKind::Map(map) = &stay.state.kind else {
            return Err(Failure::new(name::RUNTIME, "The definition has changed.").into());
        };
        let total = work.items.values.len() as u64;
        let mut is_paused = false;
        // Those that run go on first; what they leave free is taken by new ones, which run in the same round.
        let mut index = 0;
        loop {
            while work.begun < total && (work.running.len() as u64) < work.max_concurrency {
                if is_paused || self.is_full {
                    break;
                }
                match self.iteration(stay, map, &work, chain, *last) {
                    Ok(strand) => work.running.push(strand),
                    Err(mishap) => {
                        self.record_evaluation(stay, &mishap, last);
                        self.fail_iteration(stay, &work, work.begun, &mishap.failure, *last);
                        return Err(Mishap::inner(mishap.failure));
                    }
                }
                work.begun += 1;
            }
            let Some(strand) = work.running.get_mut(index) else {
                break;
            };
            let number = strand.item.as_ref().map_or(0, |item| item.index);
            match self.strand(strand, Some(chain)) {
                Ok(Progress::Done(output)) => {
                    *last = strand.last_event;
                    let name = Arc::clone(&stay.state.name);
                    self.record_leaf(
                        *last,
                        Happening::MapIterationSucceeded {
                            name,
                            index: number,
                        },
                    );
                    work.result_bytes += size::of(&output) + 1;
                    work.results.insert(number, output);
                    work.running.remove(index);
                    // What is too large already does not become smaller: the rest need not run.
                    if work.result_bytes > self.environment.limits.data_bytes + 1 {
                        self.abandon_all(&work.running);
                        let text = too_large(&stay.state.name);
                        return Err(Failure::new(name::DATA_LIMIT_EXCEEDED, text).into());
                    }
                }
                Ok(Progress::Waiting) => index += 1,
                Ok(Progress::Paused) => {
                    is_paused = true;
                    index += 1;
                }
                Err(failure) => {
                    *last = strand.last_event;
                    self.fail_iteration(stay, &work, number, &failure, *last);
                    return Err(Mishap::inner(failure));
                }
            }
        }
        if is_paused || self.is_full {
            return Ok(Attempt::Paused(Work::Map(work)));
        }
        if work.results.len() as u64 == total {
            self.record_leaf(*last, Happening::MapStateSucceeded);
            let outputs = work
                .results
                .into_values()
                .map(Arc::unwrap_or_clone)
                .collect();
            return Ok(Attempt::Result(Arc::new(Value::Array(outputs))));
        }
        Ok(Attempt::Waiting(Work::Map(work)))
    }

    /// The end of a Map whose iteration failed: the others are given up.
    fn fail_iteration(
        &mut self,
        stay: &Stay<'m, '_>,
        work: &MapWork,
        index: u64,
        failure: &Failure,
        last: u64,
    ) {
        let name = Arc::clone(&stay.state.name);
        let failed = Happening::MapIterationFailed {
            name: Arc::clone(&name),
            index,
            failure: failure.clone(),
        };
        self.record_leaf(last, failed);
        for strand in &work.running {
            if let Some(item) = strand.item.as_ref().filter(|item| item.index != index) {
                let name = Arc::clone(&name);
                let aborted = Happening::MapIterationAborted {
                    name,
                    index: item.index,
                };
                self.record_leaf(strand.last_event, aborted);
            }
            self.abandon(strand);
        }
    }

    fn iteration(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        work: &MapWork,
        chain: &Chain<'_>,
        last: u64,
    ) -> Result<Strand, Mishap> {
        let Some(item) = work.items.item(work.begun) else {
            return Err(Failure::new(name::RUNTIME, "An item is missing.").into());
        };
        let name = Arc::clone(&stay.state.name);
        let began = self.record_leaf(
            last,
            Happening::MapIterationStarted {
                name,
                index: work.begun,
            },
        );
        let input = self.item_input(stay, map, &work.input, &item, chain)?;
        let mut strand = beginning(&map.processor, input, began);
        strand.item = Some(item);
        Ok(strand)
    }

    fn abandon_all(&mut self, strands: &[Strand]) {
        for strand in strands {
            self.abandon(strand);
        }
    }

    /// Gives up a strand: whatever it waits for is cancelled.
    pub(super) fn abandon(&mut self, strand: &Strand) {
        let Position::In(visit) = &strand.position else {
            return;
        };
        match &visit.work {
            Work::Wait(id) | Work::Backoff(id) => {
                self.commands.push(Command::CancelTimer { id: *id });
            }
            Work::Task(task) => {
                self.commands.push(Command::CancelTask { id: task.id });
                self.stop_timers(task);
            }
            Work::Parallel(strands) => self.abandon_all(strands),
            Work::Map(map) => self.abandon_all(&map.running),
            Work::MapRun(run) => {
                for id in run.running.keys() {
                    self.commands.push(Command::StopChild { id: *id });
                }
            }
            Work::Begin | Work::Waited | Work::Succeeded(_) | Work::Failed(_) => {}
        }
    }
}

/// A strand before the first state of a flow.
pub(super) fn beginning(flow: &Flow, input: Arc<Value>, last_event: u64) -> Strand {
    Strand {
        position: Position::Before {
            state: Arc::clone(&flow.start_at),
            input,
        },
        variables: Variables::new(),
        item: None,
        last_event,
    }
}
