//! The flow of data through a state: what it works on, what it hands on, what it assigns (aws-semantics 10.3, 10.5).

use std::sync::Arc;

use serde_json::Value;

use super::failure::{Failure, Mishap, name};
use super::run::{Attempt, Completion, Exit, Runner, Stay};
use super::size;
use super::view::{Chain, View};
use crate::definition::{
    Catcher, Choice, Fail, QueryLanguage, ResultPath, Selection, Source, StateKind, Transition,
};
use crate::jsonata::Surroundings;
use crate::path::EvaluatePathError;
use crate::template::{self, EvaluateTemplateError, Template};

impl<'m> Runner<'m, '_> {
    pub(super) fn surroundings(&self) -> Surroundings {
        Surroundings {
            now: self.environment.now,
            limits: self.environment.limits.jsonata,
        }
    }

    /// The value of a template of the state.
    pub(super) fn evaluate(
        &mut self,
        stay: &Stay<'_, '_>,
        template: &Template,
        field: &str,
        view: &View<'_>,
    ) -> Result<Value, Mishap> {
        let surroundings = self.surroundings();
        template
            .evaluate(field, view, &surroundings, self.environment.randomness)
            .map_err(|error| evaluation(stay, error))
    }

    /// What `InputPath` makes of the raw input.
    pub(super) fn effective_input(
        &self,
        stay: &Stay<'_, '_>,
        chain: &Chain<'_>,
    ) -> Result<Arc<Value>, Mishap> {
        self.select(stay, &stay.state.input_path, stay.input, chain)
    }

    fn select(
        &self,
        stay: &Stay<'_, '_>,
        selection: &Selection,
        from: &Arc<Value>,
        chain: &Chain<'_>,
    ) -> Result<Arc<Value>, Mishap> {
        match selection {
            Selection::All => Ok(Arc::clone(from)),
            Selection::Discard => Ok(Arc::new(Value::Object(serde_json::Map::new()))),
            Selection::Path(path) => {
                let view = stay.standing(&self.about, chain).of(from);
                match path.evaluate(&view) {
                    Ok(value) => Ok(Arc::new(value.into_owned())),
                    Err(EvaluatePathError::NotFound { detail }) => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!("Invalid path '{path}' : {detail}"),
                    )),
                    Err(other) => Err(stay.mishap(
                        name::RUNTIME,
                        format_args!("Invalid path '{path}' : {other}"),
                    )),
                }
            }
        }
    }

    /// `Parameters` or `Arguments` applied to the effective input; that itself where there are none.
    pub(super) fn arguments(
        &mut self,
        stay: &Stay<'_, '_>,
        chain: &Chain<'_>,
        token: Option<&str>,
    ) -> Result<Arc<Value>, Mishap> {
        let input = self.effective_input(stay, chain)?;
        let Some(template) = &stay.state.arguments else {
            return Ok(input);
        };
        let field = match stay.state.language {
            QueryLanguage::JsonPath => "Parameters",
            QueryLanguage::Jsonata => "Arguments",
        };
        let about = Arc::clone(&self.about);
        let mut standing = stay.standing(&about, chain);
        standing.token = token;
        let value = self.evaluate(stay, template, field, &standing.of(&input))?;
        let value = Arc::new(value);
        self.check_size(stay, &value)?;
        Ok(value)
    }

    /// A Pass state's result.
    pub(super) fn pass(
        &mut self,
        stay: &Stay<'_, '_>,
        result: Option<&Arc<Value>>,
        chain: &Chain<'_>,
    ) -> Result<Attempt, Mishap> {
        match result {
            Some(result) => {
                // The input is selected all the same: a path that finds nothing fails.
                self.effective_input(stay, chain)?;
                Ok(Attempt::Result(Arc::clone(result)))
            }
            None => self.arguments(stay, chain, None).map(Attempt::Result),
        }
    }

    /// The failure a Fail state reports, or that of its own fields.
    pub(super) fn fail(&mut self, stay: &Stay<'_, '_>, fail: &Fail, chain: &Chain<'_>) -> Mishap {
        let error = self.fail_text(stay, fail.error.as_ref(), "Error", chain);
        let cause = self.fail_text(stay, fail.cause.as_ref(), "Cause", chain);
        match (error, cause) {
            (Ok(error), Ok(cause)) => Failure {
                error,
                cause,
                missed_heartbeat: false,
            }
            .into(),
            (Err(mishap), _) | (_, Err(mishap)) => mishap,
        }
    }

    fn fail_text(
        &mut self,
        stay: &Stay<'_, '_>,
        source: Option<&Source<Arc<str>>>,
        field: &str,
        chain: &Chain<'_>,
    ) -> Result<Option<Arc<str>>, Mishap> {
        let Some(source) = source else {
            return Ok(None);
        };
        let input = self.effective_input(stay, chain)?;
        let about = Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(&input);
        let path_field = format!("{field}Path");
        let value = match source {
            Source::Literal(text) => return Ok(Some(Arc::clone(text))),
            Source::Path(path) => template::evaluate_path(path, &path_field, &view)
                .map_err(|error| evaluation(stay, error))?,
            Source::Call(call) => call
                .evaluate(&view, self.environment.randomness)
                .map_err(|error| evaluation(stay, error.into()))?,
            Source::Expression(expression) => {
                self.expression(stay, expression, field, "string", Value::is_string, &view)?
            }
        };
        match value {
            Value::String(text) => Ok(Some(text.into())),
            other => Err(stay.mishap(
                name::RUNTIME,
                format_args!("The {path_field} field must reference a string, but was: {other}"),
            )),
        }
    }

    /// A result must fit an execution (aws-semantics 10.1.2).
    pub(super) fn check_size(&self, stay: &Stay<'_, '_>, value: &Value) -> Result<(), Mishap> {
        if self.exceeds(value) {
            let text = too_large(&stay.state.name);
            return Err(Failure::new(name::DATA_LIMIT_EXCEEDED, text).into());
        }
        Ok(())
    }

    /// Whether a value is larger, or nested deeper, than an execution may hold.
    pub(super) fn exceeds(&self, value: &Value) -> bool {
        let limits = self.environment.limits;
        size::exceeds(value, limits.data_bytes, limits.data_depth)
    }

    /// From the result to what the state hands on.
    ///
    /// `exit` says how a Choice is left.
    pub(super) fn complete(
        &mut self,
        stay: &Stay<'m, '_>,
        result: Arc<Value>,
        exit: Exit,
        chain: &Chain<'_>,
    ) -> Result<Completion, Mishap> {
        let state = stay.state;
        let (mut assign, mut output, mut next) = match &state.transition {
            Transition::Next(next) => (state.assign.as_ref(), state.output.as_ref(), Some(next)),
            Transition::End => (state.assign.as_ref(), state.output.as_ref(), None),
        };
        if let StateKind::Choice(choice) = &state.kind {
            (assign, output, next) = chosen(choice, exit, assign, output);
        }
        let about = Arc::clone(&self.about);
        let standing = stay.standing(&about, chain);
        let (assigned, output) = match state.language {
            QueryLanguage::JsonPath => {
                let selected = match &state.result_selector {
                    Some(selector) => {
                        let value =
                            self.evaluate(stay, selector, "ResultSelector", &standing.of(&result))?;
                        Arc::new(value)
                    }
                    None => result,
                };
                let assigned = self.assign(stay, assign, "Assign", &standing.of(&selected))?;
                let placed = place(stay, &state.result_path, selected)?;
                (
                    assigned,
                    self.select(stay, &state.output_path, &placed, chain)?,
                )
            }
            QueryLanguage::Jsonata => {
                let works = matches!(
                    state.kind,
                    StateKind::Task(_) | StateKind::Parallel(_) | StateKind::Map(_)
                );
                let view = standing.of(stay.input);
                let view = if works {
                    view.with_result(&result)
                } else {
                    view
                };
                let assigned = self.assign(stay, assign, "Assign", &view)?;
                let output = match output {
                    Some(template) => Arc::new(self.evaluate(stay, template, "Output", &view)?),
                    None => Arc::clone(&result),
                };
                (assigned, output)
            }
        };
        // An output that is the input has been measured when it was made.
        if !Arc::ptr_eq(&output, stay.input) {
            self.check_size(stay, &output)?;
        }
        Ok(Completion {
            output,
            assigned,
            next: next.cloned(),
        })
    }

    /// From a caught failure to what the state hands on.
    pub(super) fn caught(
        &mut self,
        stay: &Stay<'m, '_>,
        index: usize,
        catcher: &Catcher,
        failure: &Failure,
        chain: &Chain<'_>,
    ) -> Result<Completion, Mishap> {
        let error_output = Arc::new(failure.output());
        let about = Arc::clone(&self.about);
        let standing = stay.standing(&about, chain);
        let (assigned, output) = match stay.state.language {
            QueryLanguage::JsonPath => {
                let field = "Assign";
                let view = standing.of(&error_output);
                let assigned = self.assign(stay, catcher.assign.as_ref(), field, &view)?;
                (
                    assigned,
                    place(stay, &catcher.result_path, Arc::clone(&error_output))?,
                )
            }
            QueryLanguage::Jsonata => {
                let view = standing.of(stay.input).with_error_output(&error_output);
                let field = format!("Catch[{index}]/Assign");
                let assigned = self.assign(stay, catcher.assign.as_ref(), &field, &view)?;
                let output = match &catcher.output {
                    Some(template) => {
                        let field = format!("Catch[{index}]/Output");
                        Arc::new(self.evaluate(stay, template, &field, &view)?)
                    }
                    None => Arc::clone(&error_output),
                };
                (assigned, output)
            }
        };
        self.check_size(stay, &output)?;
        Ok(Completion {
            output,
            assigned,
            next: Some(catcher.next.clone()),
        })
    }

    /// All variables of a strand together are bounded too (aws-semantics 10.5.5).
    fn check_variables(
        &self,
        stay: &Stay<'_, '_>,
        assigned: &serde_json::Map<String, Value>,
        view: &View<'_>,
    ) -> Result<(), Mishap> {
        let variables = view.standing.chain.variables;
        let most = self.environment.limits.variable_bytes;
        // One state assigns no more than a value may have, so few variables cannot be too much.
        if variables.len() + assigned.len() <= most / self.environment.limits.data_bytes.max(1) {
            return Ok(());
        }
        let kept = variables
            .iter()
            .filter(|(name, _)| !assigned.contains_key(&***name));
        let bytes = kept.map(|(_, value)| size::of(value)).sum::<usize>()
            + assigned.values().map(size::of).sum::<usize>();
        if bytes > most {
            return Err(stay.mishap(
                name::RUNTIME,
                format_args!("The variables of the execution exceed the maximum of {most} bytes."),
            ));
        }
        Ok(())
    }

    /// The new values of variables, all computed from the old ones.
    fn assign(
        &mut self,
        stay: &Stay<'_, '_>,
        assign: Option<&Template>,
        field: &str,
        view: &View<'_>,
    ) -> Result<Assigned, Mishap> {
        let Some(template) = assign else {
            return Ok(Vec::new());
        };
        let value = self.evaluate(stay, template, field, view)?;
        if self.exceeds(&value) {
            return Err(stay.mishap(
                name::RUNTIME,
                format_args!(
                    "The variables assigned by the state exceed the maximum of {} bytes.",
                    self.environment.limits.data_bytes
                ),
            ));
        }
        let Value::Object(fields) = value else {
            return Ok(Vec::new());
        };
        self.check_variables(stay, &fields, view)?;
        Ok(fields
            .into_iter()
            .map(|(name, value)| (Arc::from(name), Arc::new(value)))
            .collect())
    }
}

/// Variables and their new values.
type Assigned = Vec<(Arc<str>, Arc<Value>)>;

type Chosen<'m> = (
    Option<&'m Template>,
    Option<&'m Template>,
    Option<&'m crate::definition::StateName>,
);

/// A rule that matched says everything itself; what the state says is for its default.
fn chosen<'m>(
    choice: &'m Choice,
    exit: Exit,
    assign: Option<&'m Template>,
    output: Option<&'m Template>,
) -> Chosen<'m> {
    let rule = match exit {
        Exit::Rule(index) => choice.rules.get(index),
        Exit::Stated | Exit::Default => None,
    };
    match rule {
        Some(rule) => (rule.assign.as_ref(), rule.output.as_ref(), Some(&rule.next)),
        None => (assign, output, choice.default.as_ref()),
    }
}

fn place(stay: &Stay<'_, '_>, path: &ResultPath, result: Arc<Value>) -> Result<Arc<Value>, Mishap> {
    match path {
        ResultPath::Replace => Ok(result),
        ResultPath::Discard => Ok(Arc::clone(stay.input)),
        ResultPath::At(path) if path.is_whole_input() => Ok(result),
        ResultPath::At(path) => path
            .place((**stay.input).clone(), Arc::unwrap_or_clone(result))
            .map(Arc::new)
            .map_err(|error| stay.mishap(name::RESULT_PATH_MATCH_FAILURE, error)),
    }
}

/// AWS's words for a result that does not fit.
pub(super) fn too_large(what: &str) -> String {
    format!(
        "The state/task '{what}' returned a result with a size exceeding the maximum number of bytes service limit."
    )
}

/// The failure of a template, a path or an expression.
pub(super) fn evaluation(stay: &Stay<'_, '_>, error: EvaluateTemplateError) -> Mishap {
    let mut mishap = stay.mishap(error.error(), &error);
    if let EvaluateTemplateError::FailExpression { field, .. } = error {
        mishap.location = Some(field);
    }
    mishap
}
