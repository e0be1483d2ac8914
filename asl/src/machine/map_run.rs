//! Distributed Maps: their iterations are executions of their own (aws-semantics 10.6.8).
//!
//! The decisions are made here: which items make a batch, how many children run, when too many have failed. Reading,
//! running and writing are the host's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::command::{Command, ReadItems, StartChild, WriteResults};
use super::event::{Id, Item};
use super::failure::{Failure, Mishap, name};
use super::history::Happening;
use super::output::too_large;
use super::run::{Attempt, Runner, Stay};
use super::size;
use super::source::Wording;
use super::state::{Child, MapRunWork, Phase, RunSettings, Work};
use super::view::Chain;
use crate::definition::{self, ExecutionType, Map, Mode, StateKind};

/// How many children of a distributed Map run at once when the definition sets no bound, or a higher one.
const MAX_CHILDREN: u64 = 10_000;
/// How many items are read at a time.
const PAGE: u64 = 1_000;
/// The largest input of one batch, in bytes.
const MAX_BATCH_BYTES: u64 = 262_144;

impl<'m> Runner<'m, '_> {
    #[allow(
        clippy::too_many_arguments,
        reason = "what the state has worked out before it runs"
    )]
    pub(super) fn begin_run(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &'m Map,
        input: Arc<Value>,
        items: Vec<Arc<Value>>,
        max_concurrency: u64,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let settings = self.run_settings(stay, map, &input, max_concurrency, chain)?;
        let id = self.fresh_id();
        let label = map.label.as_deref().unwrap_or(&stay.state.name);
        let run = format!("{}/{label}:{}", self.about.id, id.0);
        self.record(last, Happening::MapRunStarted { run: run.into() });
        let read = items.len() as u64;
        let waiting = (0..)
            .zip(items)
            .map(|(index, value)| Item {
                index,
                key: None,
                value,
            })
            .collect();
        let mut work = MapRunWork {
            id,
            phase: Phase::Running,
            input,
            waiting,
            read,
            has_more: map.reader.is_some(),
            is_reading: false,
            settings,
            running: BTreeMap::new(),
            children: 0,
            failed_items: 0,
            results: BTreeMap::new(),
            result_bytes: 0,
        };
        if let Some(reader) = &map.reader {
            let reading = self.reader_settings(stay, reader, &mut work, chain);
            reading.inspect_err(|mishap| {
                self.record(last, Happening::MapRunFailed(mishap.failure.clone()));
            })?;
        }
        self.map_run(stay, Box::new(work), chain, last)
    }

    fn run_settings(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        input: &Arc<Value>,
        max_concurrency: u64,
        chain: &Chain<'_>,
    ) -> Result<RunSettings, Mishap> {
        let about = Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(input);
        let tolerated_count = match &map.tolerated_failure_count {
            Some(source) => {
                Some(self.integer(stay, source, "ToleratedFailureCount", Wording::Field, &view)?)
            }
            None => None,
        };
        let tolerated_percentage = match &map.tolerated_failure_percentage {
            Some(source) => {
                Some(self.percentage(stay, source, "ToleratedFailurePercentage", &view)?)
            }
            None => None,
        };
        let (mut batch_items, mut batch_bytes, mut batch_input) = (None, None, None);
        if let Some(batcher) = &map.batcher {
            if let Some(source) = &batcher.max_items {
                let field = "MaxItemsPerBatch";
                batch_items = Some(self.integer(stay, source, field, Wording::Field, &view)?);
            }
            if let Some(source) = &batcher.max_bytes {
                let field = "MaxInputBytesPerBatch";
                batch_bytes = Some(self.integer(stay, source, field, Wording::Field, &view)?);
            }
            if let Some(template) = &batcher.batch_input {
                batch_input =
                    Some(self.evaluate(stay, template, "ItemBatcher/BatchInput", &view)?);
            }
            batch_bytes = Some(
                batch_bytes
                    .filter(|bytes| *bytes > 0)
                    .unwrap_or(MAX_BATCH_BYTES),
            );
        }
        let writer_arguments = match map.writer.as_ref() {
            Some(writer) if writer.resource.is_some() => Some(match &writer.arguments {
                Some(template) => self.evaluate(stay, template, "ResultWriter/Arguments", &view)?,
                None => json!({}),
            }),
            _ => None,
        };
        Ok(RunSettings {
            max_concurrency: match max_concurrency {
                0 => MAX_CHILDREN,
                stated => stated.min(MAX_CHILDREN),
            },
            tolerated_count,
            tolerated_percentage,
            max_items: None,
            reader_arguments: None,
            batch_items: batch_items.filter(|items| *items > 0),
            batch_bytes,
            batch_input,
            writer_arguments,
        })
    }

    fn reader_settings(
        &mut self,
        stay: &Stay<'m, '_>,
        reader: &definition::Reader,
        work: &mut MapRunWork,
        chain: &Chain<'_>,
    ) -> Result<(), Mishap> {
        let about = Arc::clone(&self.about);
        let input = Arc::clone(&work.input);
        let view = stay.standing(&about, chain).of(&input);
        work.settings.reader_arguments = Some(match &reader.arguments {
            Some(template) => self.evaluate(stay, template, "ItemReader/Arguments", &view)?,
            None => json!({}),
        });
        if let Some(source) = &reader.max_items {
            let most = self.integer(stay, source, "MaxItems", Wording::Field, &view);
            let most = most.map_err(|mishap| match mishap.location {
                Some(_) => mishap,
                None => {
                    Failure::new(name::ITEM_READER_FAILED, "field MaxItems must be positive").into()
                }
            })?;
            work.settings.max_items = Some(most).filter(|most| *most > 0);
        }
        Ok(())
    }

    /// Goes on with a distributed Map: starts children where there is room, asks for more items, ends.
    pub(super) fn map_run(
        &mut self,
        stay: &Stay<'m, '_>,
        mut work: Box<MapRunWork>,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let StateKind::Map(map) = &stay.state.kind else {
            return Err(Failure::new(name::RUNTIME, "The definition has changed.").into());
        };
        if let Err(mishap) = self.advance_run(stay, map, &mut work, chain) {
            for id in work.running.keys() {
                self.commands.push(Command::StopChild { id: *id });
            }
            self.record(last, Happening::MapRunFailed(mishap.failure.clone()));
            return Err(mishap);
        }
        let is_over = work.phase == Phase::Running
            && work.running.is_empty()
            && work.waiting.is_empty()
            && !work.has_more;
        if !is_over {
            return Ok(Attempt::Waiting(Work::MapRun(work)));
        }
        if let Some(arguments) = work.settings.writer_arguments.take() {
            work.phase = Phase::Writing;
            self.commands
                .push(Command::WriteResults(Box::new(WriteResults {
                    id: work.id,
                    state: Arc::clone(&stay.state.name),
                    arguments,
                })));
            return Ok(Attempt::Waiting(Work::MapRun(work)));
        }
        let outputs = std::mem::take(&mut work.results)
            .into_values()
            .map(Arc::unwrap_or_clone);
        Ok(Attempt::Result(
            self.end_run(Value::Array(outputs.collect()), last),
        ))
    }

    /// The events of a run that succeeded.
    pub(super) fn end_run(&mut self, result: Value, last: &mut u64) -> Arc<Value> {
        self.record(last, Happening::MapRunSucceeded);
        self.record_leaf(*last, Happening::MapStateSucceeded);
        Arc::new(result)
    }

    fn advance_run(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        work: &mut MapRunWork,
        chain: &Chain<'_>,
    ) -> Result<(), Mishap> {
        if work.phase == Phase::Writing {
            return Ok(());
        }
        if is_intolerable(work) {
            return Err(Failure::new(
                name::EXCEED_TOLERATED_FAILURE_THRESHOLD,
                "The specified tolerated failure threshold was exceeded",
            )
            .into());
        }
        if work.settings.writer_arguments.is_none()
            && work.result_bytes > self.environment.limits.data_bytes
        {
            let text = too_large(&stay.state.name);
            return Err(Failure::new(name::DATA_LIMIT_EXCEEDED, text).into());
        }
        let mut taken = 0;
        while (work.running.len() as u64) < work.settings.max_concurrency {
            let Some((count, child)) = self.next_child(stay, map, work, taken, chain)? else {
                break;
            };
            work.running.insert(
                child.id,
                Child {
                    number: work.children,
                    items: count as u64,
                },
            );
            work.children += 1;
            taken += count;
            self.commands.push(Command::StartChild(Box::new(child)));
        }
        work.waiting.drain(..taken);
        if work.has_more && !work.is_reading && (work.waiting.len() as u64) < PAGE {
            let most = work
                .settings
                .max_items
                .map_or(PAGE, |most| PAGE.min(most - work.read));
            work.is_reading = true;
            self.commands.push(Command::ReadItems(Box::new(ReadItems {
                id: work.id,
                state: Arc::clone(&stay.state.name),
                arguments: work.settings.reader_arguments.clone().unwrap_or_default(),
                skip: work.read,
                limit: most,
            })));
        }
        Ok(())
    }

    /// The next child, and how many of the waiting items, of which the first `taken` are gone already, it takes.
    fn next_child(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        work: &MapRunWork,
        taken: usize,
        chain: &Chain<'_>,
    ) -> Result<Option<(usize, StartChild)>, Mishap> {
        let mut waiting = work.waiting.range(taken..).peekable();
        let Some(first) = waiting.peek().copied() else {
            return Ok(None);
        };
        let settings = &work.settings;
        let (count, input, item) = match settings.batch_bytes {
            None => {
                let input = self.item_input(stay, map, &work.input, first, chain)?;
                (1, input, Some(first.clone()))
            }
            Some(most_bytes) => {
                let most = settings.batch_items.unwrap_or(u64::MAX);
                let mut batch = match &settings.batch_input {
                    Some(input) => json!({"BatchInput": input, "Items": []}),
                    None => json!({"Items": []}),
                };
                let mut left = (most_bytes as usize).saturating_sub(batch.to_string().len());
                let mut values = Vec::new();
                let mut is_full = false;
                for item in waiting {
                    let value = self.item_input(stay, map, &work.input, item, chain)?;
                    let bytes = size::of(&value) + 1;
                    if !values.is_empty() && bytes > left {
                        is_full = true;
                        break;
                    }
                    left = left.saturating_sub(bytes);
                    values.push((*value).clone());
                    if values.len() as u64 >= most {
                        is_full = true;
                        break;
                    }
                }
                // A batch that may still grow waits for the items that are being read.
                if !is_full && work.has_more {
                    return Ok(None);
                }
                let count = values.len();
                batch["Items"] = Value::Array(values);
                (count, Arc::new(batch), None)
            }
        };
        let child = StartChild {
            id: self.fresh_id(),
            run: work.id,
            state: Arc::clone(&stay.state.name),
            execution_type: match map.mode {
                Mode::Distributed(execution_type) => execution_type,
                Mode::Inline => ExecutionType::default(),
            },
            input,
            item,
        };
        Ok(Some((count, child)))
    }
}

/// Whether more has failed than the Map tolerates: nothing, unless it says otherwise. A share can be judged only when all
/// items are known.
fn is_intolerable(work: &MapRunWork) -> bool {
    let failed = work.failed_items;
    let settings = &work.settings;
    if failed == 0 {
        return false;
    }
    let above_count = settings.tolerated_count.is_some_and(|most| failed > most);
    let above_share = settings
        .tolerated_percentage
        .is_some_and(|most| !work.has_more && failed as f64 * 100.0 > most * work.read as f64);
    let says_nothing =
        settings.tolerated_count.is_none() && settings.tolerated_percentage.is_none();
    above_count || above_share || says_nothing
}

/// Takes items that were read.
pub(super) fn take_items(work: &mut MapRunWork, items: Vec<Value>, is_last: bool) {
    work.is_reading = false;
    let room = work
        .settings
        .max_items
        .map_or(u64::MAX, |most| most - work.read.min(most));
    for value in items
        .into_iter()
        .take(usize::try_from(room).unwrap_or(usize::MAX))
    {
        let item = Item {
            index: work.read,
            key: None,
            value: Arc::new(value),
        };
        work.waiting.push_back(item);
        work.read += 1;
    }
    work.has_more = !is_last && work.settings.max_items.is_none_or(|most| work.read < most);
}

/// Takes the end of a child.
pub(super) fn take_child(work: &mut MapRunWork, id: Id, result: Result<Value, Failure>) {
    let Some(child) = work.running.remove(&id) else {
        return;
    };
    match result {
        Ok(output) if work.settings.writer_arguments.is_none() => {
            work.result_bytes += size::of(&output) + 1;
            work.results.insert(child.number, Arc::new(output));
        }
        Ok(_) => {}
        Err(_) => work.failed_items += child.items,
    }
}
