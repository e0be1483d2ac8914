//! What a task is answered: by a mock, or by a function.

use std::sync::Arc;

use serde_json::{Value, json};

use super::functions::{function_name, invocation, no_function};
use super::host::{Host, Number};
use super::mocks::{Answer, Mock};
use crate::definition::{Integration, Pattern, Resource};
use crate::machine::{Event, Failure, StartTask};
use crate::randomness::uuid;

/// Most heartbeats of one call.
const MAX_HEARTBEATS: u64 = 10_000;

impl Host<'_> {
    pub(super) fn start_task(&mut self, number: Number, task: &StartTask) {
        let request_id = uuid(&mut self.randomness);
        let called = Resource::new(&task.resource);
        let is_invocation = function_name(&task.resource).is_none();
        let name = if is_invocation {
            let invokes = matches!(
                called.integration(),
                Integration::Service { service, .. } if &**service == "lambda" || &**service == "aws-sdk:lambda"
            );
            task.input["FunctionName"]
                .as_str()
                .filter(|_| invokes)
                .and_then(function_name)
        } else {
            function_name(&task.resource)
        };
        let names = [&*task.state, &*task.resource].into_iter().chain(name);
        let mock = self
            .answers
            .mocks
            .and_then(|mocks| mocks.find(names, &mut self.calls))
            .cloned();
        let answer = match mock {
            Some(mock) => Some((mock, json!({}))),
            None => self.call(task, &called, name, &request_id),
        };
        match answer {
            Some((mock, accepted)) => self.answer(number, task, called.pattern(), mock, accepted),
            None => self.refuse(task),
        }
    }

    /// What a function answers, and what the service that calls it says at once.
    fn call(
        &self,
        task: &StartTask,
        called: &Resource,
        name: Option<&str>,
        request_id: &str,
    ) -> Option<(Mock, Value)> {
        let functions = self.answers.functions?;
        let name = name?;
        let is_direct = function_name(&task.resource).is_some();
        let event = match task.input.get("Payload") {
            _ if is_direct => (*task.input).clone(),
            Some(payload) => payload.clone(),
            None => json!({}),
        };
        let (answer, after_seconds) = functions
            .call(name, &event, request_id)
            .unwrap_or_else(|| (no_function(name, request_id), 0));
        let (answer, accepted) = match answer {
            // The function has the token; what it returns is not the answer.
            Answer::Return(payload) if called.pattern() == Pattern::WaitForTaskToken => {
                (Answer::Never, invocation(&payload, request_id))
            }
            Answer::Return(payload) if !is_direct => {
                (Answer::Return(invocation(&payload, request_id)), json!({}))
            }
            answer => (answer, json!({})),
        };
        Some((
            Mock {
                answer,
                after_seconds,
                heartbeat_every_seconds: None,
            },
            accepted,
        ))
    }

    /// A task that nothing stands for ends the execution, whatever would catch an error of it: the
    /// mistake is in the test.
    fn refuse(&mut self, task: &StartTask) {
        let failure = Failure::new(
            "Weir.NoMock",
            format!(
                "The state '{}' calls '{}', and there is no mock for it: add \"{}\": {{\"Return\": \
                 ...}} to the mocks.",
                task.state, task.resource, task.state
            ),
        );
        self.arrange(0, 0, Event::Stop { failure });
    }

    fn answer(
        &mut self,
        number: Number,
        task: &StartTask,
        pattern: Pattern,
        mock: Mock,
        accepted: Value,
    ) {
        let id = task.id;
        if task.token.is_some() && pattern == Pattern::RequestResponse {
            let worker = Some(Arc::from("simulation"));
            self.arrange(0, number, Event::TaskStarted { id, worker });
        } else if pattern != Pattern::RequestResponse {
            self.arrange(
                0,
                number,
                Event::TaskSubmitted {
                    id,
                    output: accepted,
                },
            );
        }
        if let Some(every) = mock.heartbeat_every_seconds {
            for beat in 1..=(mock.after_seconds / every).min(MAX_HEARTBEATS) {
                self.arrange(beat * every, number, Event::TaskHeartbeat { id });
            }
        }
        let event = match mock.answer {
            Answer::Return(output) => Event::TaskSucceeded { id, output },
            Answer::Echo => Event::TaskSucceeded {
                id,
                output: (*task.input).clone(),
            },
            Answer::Throw { error, cause } => Event::TaskFailed {
                id,
                failure: Failure::new(&error, cause),
            },
            Answer::Never => {
                let question = format!("the call of '{}' by '{}'", task.resource, task.state);
                return self.unanswered.push(question);
            }
        };
        self.arrange(mock.after_seconds, number, event);
    }
}
