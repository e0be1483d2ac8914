//! Task and Wait states: what a visit waits for outside.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::command::{Command, StartTask};
use super::event::Id;
use super::failure::{Failure, Mishap, name};
use super::history::{Happening, TaskStage};
use super::output::too_large;
use super::run::{Attempt, Runner, Stay};
use super::source::Wording;
use super::state::{Heartbeat, TaskWork, Work};
use super::view::Chain;
use crate::definition::{Integration, Pattern, Resource, StateKind, Task, Wait};
use crate::randomness::uuid;
use crate::timestamp;

impl<'m> Runner<'m, '_> {
    /// Starts a timer that fires after a delay.
    pub(super) fn timer(&mut self, delay: Duration) -> Id {
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
        let at = self
            .environment
            .now
            .saturating_add(delay)
            .unwrap_or(Timestamp::MAX);
        self.timer_at(at)
    }

    fn timer_at(&mut self, at: Timestamp) -> Id {
        let id = self.fresh_id();
        self.commands.push(Command::StartTimer { id, at });
        id
    }

    pub(super) fn wait(
        &mut self,
        stay: &Stay<'m, '_>,
        wait: &Wait,
        chain: &Chain<'_>,
    ) -> Result<Attempt, Mishap> {
        let input = self.effective_input(stay, chain)?;
        let about = Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(&input);
        let now = self.environment.now;
        let until = match wait {
            Wait::Seconds(source) => {
                let seconds = self.integer(stay, source, "Seconds", Wording::Parameter, &view)?;
                let delay = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                now.saturating_add(delay).unwrap_or(Timestamp::MAX)
            }
            Wait::Timestamp(source) => {
                let text = self.timestamp(stay, source, &view)?;
                let instant = timestamp::parse(&text)
                    .and_then(|instant| Timestamp::from_nanosecond(instant).ok());
                instant.unwrap_or(Timestamp::MAX)
            }
        };
        if until <= now {
            return Ok(Attempt::Result(input.clone()));
        }
        let timer = self.timer_at(until);
        Ok(Attempt::Waiting(Work::Wait(timer)))
    }

    pub(super) fn task(
        &mut self,
        stay: &Stay<'m, '_>,
        task: &Task,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let needs_token = task.resource.pattern() == Pattern::WaitForTaskToken
            || *task.resource.integration() == Integration::Activity;
        let token: Option<Arc<str>> = needs_token.then(|| uuid(self.environment.randomness).into());
        let input = self.arguments(stay, chain, token.as_deref())?;

        let effective = self.effective_input(stay, chain)?;
        let about = Arc::clone(&self.about);
        let mut standing = stay.standing(&about, chain);
        standing.token = token.as_deref();
        let view = standing.of(&effective);
        let timeout_seconds = match &task.timeout_seconds {
            Some(source) => {
                Some(self.integer(stay, source, "TimeoutSeconds", Wording::Limit, &view)?)
            }
            None => None,
        };
        let heartbeat_seconds = match &task.heartbeat_seconds {
            Some(source) => {
                Some(self.integer(stay, source, "HeartbeatSeconds", Wording::Limit, &view)?)
            }
            None => None,
        };
        let credentials = match &task.credentials {
            Some(template) => Some(self.evaluate(stay, template, "Credentials", &view)?),
            None => None,
        };

        let resource = &task.resource;
        let id = self.fresh_id();
        self.record_task(
            last,
            resource,
            TaskStage::Scheduled {
                input: Arc::clone(&input),
                timeout_seconds,
                heartbeat_seconds,
            },
        );
        let is_waiting_for_worker = *resource.integration() == Integration::Activity;
        if !is_waiting_for_worker {
            self.record_task(last, resource, TaskStage::Started { worker: None });
        }
        let now = self.environment.now;
        let deadline = timeout_seconds.map(|seconds| {
            let delay = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.saturating_add(delay).unwrap_or(Timestamp::MAX)
        });
        self.commands.push(Command::StartTask(Box::new(StartTask {
            id,
            state: Arc::clone(&stay.state.name),
            attempt: stay.retry_count,
            resource: resource.as_str().into(),
            pattern: resource.pattern(),
            input,
            token,
            credentials,
            deadline,
            heartbeat_seconds,
        })));
        let timeout = deadline.map(|at| self.timer_at(at));
        let heartbeat = heartbeat_seconds.map(|seconds| Heartbeat {
            timer: (!is_waiting_for_worker).then(|| self.timer(Duration::from_secs(seconds))),
            seconds,
        });
        Ok(Attempt::Waiting(Work::Task(TaskWork {
            id,
            timeout,
            heartbeat,
            is_waiting_for_worker,
        })))
    }

    pub(super) fn record_task(&mut self, last: &mut u64, resource: &Resource, stage: TaskStage) {
        self.record(
            last,
            Happening::Task {
                stage,
                resource: resource.clone(),
            },
        );
    }

    /// Takes the outcome of a task into the history, and gives what its visit goes on with.
    pub(super) fn settle(
        &mut self,
        kind: &StateKind,
        work: &TaskWork,
        settled: Settled,
        last: &mut u64,
    ) -> Work {
        let StateKind::Task(task) = kind else {
            return Work::Failed(Failure::new(name::RUNTIME, "The definition has changed."));
        };
        let resource = &task.resource;
        self.stop_timers(work);
        if work.is_waiting_for_worker && !matches!(settled, Settled::TimedOut { .. }) {
            self.record_task(last, resource, TaskStage::Started { worker: None });
        }
        match settled {
            Settled::Succeeded(output) => {
                if self.exceeds(&output) {
                    let failure = Failure::new(
                        name::DATA_LIMIT_EXCEEDED,
                        too_large(&resource_type(resource)),
                    );
                    self.record_task(last, resource, TaskStage::Failed(failure.clone()));
                    return Work::Failed(failure);
                }
                let output = Arc::new(output);
                self.record_task(
                    last,
                    resource,
                    TaskStage::Succeeded {
                        output: Arc::clone(&output),
                    },
                );
                Work::Succeeded(output)
            }
            Settled::Failed(failure) => {
                let stage = match failure.error() {
                    name::TIMEOUT => TaskStage::TimedOut(failure.clone()),
                    _ => TaskStage::Failed(failure.clone()),
                };
                self.record_task(last, resource, stage);
                Work::Failed(failure)
            }
            Settled::TimedOut { missed_heartbeat } => {
                let failure = if missed_heartbeat {
                    Failure::missed_heartbeat()
                } else {
                    Failure::timeout()
                };
                self.commands.push(Command::CancelTask { id: work.id });
                self.record_task(last, resource, TaskStage::TimedOut(failure.clone()));
                Work::Failed(failure)
            }
        }
    }

    pub(super) fn stop_timers(&mut self, work: &TaskWork) {
        let heartbeat = work
            .heartbeat
            .as_ref()
            .and_then(|heartbeat| heartbeat.timer);
        for id in work.timeout.into_iter().chain(heartbeat) {
            self.commands.push(Command::CancelTimer { id });
        }
    }
}

/// How a task ended.
pub(super) enum Settled {
    Succeeded(serde_json::Value),
    Failed(Failure),
    TimedOut { missed_heartbeat: bool },
}

/// What AWS's texts call a resource: the service, or all of it.
fn resource_type(resource: &Resource) -> String {
    match resource.integration() {
        Integration::Service { service, .. } => service.to_string(),
        _ => resource.as_str().to_owned(),
    }
}
