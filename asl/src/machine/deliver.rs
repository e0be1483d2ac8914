//! Events find what waits for them.

use std::sync::Arc;
use std::time::Duration;

use super::command::Command;
use super::event::{Event, Id};
use super::failure::{Failure, name};
use super::history::{Happening, TaskStage};
use super::map_run::{take_child, take_items};
use super::run::Runner;
use super::state::{MapRunWork, Phase, Position, Strand, TaskWork, Work};
use super::task::Settled;
use crate::definition::StateKind;

impl Runner<'_, '_> {
    /// Gives the event to the visit that waits for it. The event comes back when none does.
    pub(super) fn deliver(&mut self, strand: &mut Strand, event: Event) -> Result<(), Event> {
        let Strand {
            position,
            last_event,
            ..
        } = strand;
        let Position::In(visit) = position else {
            return Err(event);
        };
        match &mut visit.work {
            Work::Wait(id) if fires(&event, *id) => {
                visit.work = Work::Waited;
                Ok(())
            }
            Work::Backoff(id) if fires(&event, *id) => {
                visit.work = Work::Begin;
                Ok(())
            }
            Work::Task(task) => {
                let machine = self.machine;
                let Some(state) = machine.state(&visit.state) else {
                    return Err(event);
                };
                if let Some(next) = self.task_event(task, &state.kind, event, last_event)? {
                    visit.work = next;
                }
                Ok(())
            }
            Work::Parallel(strands) => self.deliver_among(strands, event),
            Work::Map(map) => self.deliver_among(&mut map.running, event),
            Work::MapRun(run) => {
                if let Some(next) = self.run_event(run, event, last_event)? {
                    visit.work = next;
                }
                Ok(())
            }
            _ => Err(event),
        }
    }

    fn deliver_among(&mut self, strands: &mut [Strand], mut event: Event) -> Result<(), Event> {
        for strand in strands {
            match self.deliver(strand, event) {
                Ok(()) => return Ok(()),
                Err(back) => event = back,
            }
        }
        Err(event)
    }

    fn task_event(
        &mut self,
        task: &mut TaskWork,
        kind: &StateKind,
        event: Event,
        last: &mut u64,
    ) -> Result<Option<Work>, Event> {
        let StateKind::Task(definition) = kind else {
            return Err(event);
        };
        let settled = match event {
            Event::TaskSucceeded { id, output } if id == task.id => Settled::Succeeded(output),
            Event::TaskFailed { id, failure } if id == task.id => Settled::Failed(failure),
            Event::TimerFired { id } if task.timeout == Some(id) => Settled::TimedOut {
                missed_heartbeat: false,
            },
            Event::TimerFired { id }
                if task
                    .heartbeat
                    .as_ref()
                    .is_some_and(|heartbeat| heartbeat.timer == Some(id)) =>
            {
                Settled::TimedOut {
                    missed_heartbeat: true,
                }
            }
            Event::TaskStarted { id, worker } if id == task.id && task.is_waiting_for_worker => {
                task.is_waiting_for_worker = false;
                self.record_task(last, &definition.resource, TaskStage::Started { worker });
                self.restart_heartbeat(task);
                return Ok(None);
            }
            Event::TaskSubmitted { id, output } if id == task.id => {
                let output = Arc::new(output);
                self.record_task(last, &definition.resource, TaskStage::Submitted { output });
                return Ok(None);
            }
            Event::TaskHeartbeat { id } if id == task.id => {
                self.restart_heartbeat(task);
                return Ok(None);
            }
            other => return Err(other),
        };
        let task = task.clone();
        Ok(Some(self.settle(kind, &task, settled, last)))
    }

    fn restart_heartbeat(&mut self, task: &mut TaskWork) {
        if let Some(heartbeat) = &mut task.heartbeat {
            if let Some(id) = heartbeat.timer {
                self.commands.push(Command::CancelTimer { id });
            }
            heartbeat.timer = Some(self.timer(Duration::from_secs(heartbeat.seconds)));
        }
    }

    fn run_event(
        &mut self,
        run: &mut MapRunWork,
        event: Event,
        last: &mut u64,
    ) -> Result<Option<Work>, Event> {
        match event {
            Event::ItemsRead { id, items, is_last } if id == run.id && run.is_reading => {
                take_items(run, items, is_last);
                Ok(None)
            }
            Event::ItemsUnreadable { id, cause } if id == run.id && run.is_reading => Ok(Some(
                self.fail_run(run, Failure::new(name::ITEM_READER_FAILED, cause), last),
            )),
            Event::ChildEnded { id, result } if run.running.contains_key(&id) => {
                take_child(run, id, result);
                Ok(None)
            }
            Event::ResultsWritten { id, output } if id == run.id && run.phase == Phase::Writing => {
                Ok(Some(Work::Succeeded(self.end_run(output, last))))
            }
            Event::ResultsUnwritable { id, cause }
                if id == run.id && run.phase == Phase::Writing =>
            {
                Ok(Some(self.fail_run(
                    run,
                    Failure::new(name::RESULT_WRITER_FAILED, cause),
                    last,
                )))
            }
            other => Err(other),
        }
    }

    fn fail_run(&mut self, run: &MapRunWork, failure: Failure, last: &mut u64) -> Work {
        for id in run.running.keys() {
            self.commands.push(Command::StopChild { id: *id });
        }
        self.record(last, Happening::MapRunFailed(failure.clone()));
        Work::Failed(failure)
    }
}

fn fires(event: &Event, timer: Id) -> bool {
    matches!(event, Event::TimerFired { id } if *id == timer)
}
