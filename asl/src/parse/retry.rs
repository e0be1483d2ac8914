//! `Retry` and `Catch`.

use std::sync::Arc;

use super::context::StateOutline;
use super::fields::Fields;
use super::state::result_path;
use super::template;
use super::variables::{self, Scope};
use crate::definition::{Catcher, Jitter, MAX_SECONDS, QueryLanguage, Retrier};

const ALL: &str = "States.ALL";

/// Longest `MaxDelaySeconds`: below a leap year.
const MAX_DELAY: u64 = 31_622_399;

const RETRIER: &[&str] = &[
    "BackoffRate",
    "Comment",
    "ErrorEquals",
    "IntervalSeconds",
    "JitterStrategy",
    "MaxAttempts",
    "MaxDelaySeconds",
];

/// The retriers of a state; nothing if one of them is faulty.
pub(super) fn retriers(fields: &Fields<'_>) -> Option<Vec<Retrier>> {
    let entries = fields.objects("Retry");
    let count = entries.len();
    let retriers: Vec<Retrier> = entries
        .iter()
        .enumerate()
        .filter_map(|(i, entry)| retrier(entry, i + 1 == count))
        .collect();
    (retriers.len() == count).then_some(retriers)
}

fn retrier(fields: &Fields<'_>, last: bool) -> Option<Retrier> {
    fields.only(RETRIER);
    let error_equals = error_equals(fields, last);
    let interval_seconds = fields
        .integer("IntervalSeconds", 1..=MAX_SECONDS)
        .unwrap_or(1);
    let max_attempts = fields.integer("MaxAttempts", 0..=MAX_SECONDS).unwrap_or(3);
    let max_delay_seconds = fields.integer("MaxDelaySeconds", 1..=MAX_DELAY);
    if max_delay_seconds.is_some_and(|delay| delay <= interval_seconds) {
        fields.problem_at(
            "MaxDelaySeconds",
            format!("MaxDelaySeconds must be greater than IntervalSeconds ({interval_seconds})"),
        );
    }
    let jitter = fields
        .choice(
            "JitterStrategy",
            &[("FULL", Jitter::Full), ("NONE", Jitter::None)],
        )
        .unwrap_or_default();
    Some(Retrier {
        error_equals: error_equals?,
        interval_seconds,
        max_attempts,
        backoff_rate: backoff_rate(fields),
        max_delay_seconds,
        jitter,
    })
}

fn backoff_rate(fields: &Fields<'_>) -> f64 {
    const DEFAULT: f64 = 2.0;
    let Some(value) = fields.get("BackoffRate") else {
        return DEFAULT;
    };
    match value.as_f64() {
        None => fields.problem_at("BackoffRate", "Expected value of type Float"),
        Some(rate) if rate < 1.0 => {
            fields.problem_at(
                "BackoffRate",
                format!("The value {value} must be at least 1.0"),
            );
        }
        Some(rate) => return rate,
    }
    DEFAULT
}

const CATCHER: &[&str] = &[
    "Assign",
    "Comment",
    "ErrorEquals",
    "Next",
    "Output",
    "ResultPath",
];

/// The catchers of a state; nothing if one of them is faulty.
pub(super) fn catchers(
    fields: &Fields<'_>,
    language: QueryLanguage,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Vec<Catcher>> {
    let entries = fields.objects("Catch");
    let count = entries.len();
    let mut catchers = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        catchers.extend(catcher(entry, i + 1 == count, language, scope, noted));
    }
    (catchers.len() == count).then_some(catchers)
}

fn catcher(
    fields: &Fields<'_>,
    last: bool,
    language: QueryLanguage,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Catcher> {
    fields.only(CATCHER);
    fields.required(&["Next"]);
    let wrong = match language {
        QueryLanguage::JsonPath => ("Output", QueryLanguage::Jsonata),
        QueryLanguage::Jsonata => ("ResultPath", QueryLanguage::JsonPath),
    };
    if fields.has(wrong.0) {
        fields.problem(format!(
            "The QueryLanguage is set to '{}', but field '{}' is only supported for the '{}' \
             QueryLanguage",
            language.name(),
            wrong.0,
            wrong.1.name()
        ));
    }
    let error_equals = error_equals(fields, last);
    let next = fields.text("Next");
    if let Some(next) = &next {
        noted.targets.push((fields.at("Next"), next.to_string()));
    }
    variables::check(fields, language, scope);
    Some(Catcher {
        error_equals: error_equals?,
        next: next?,
        result_path: result_path(fields),
        output: template::template(fields, "Output", language),
        assign: template::template(fields, "Assign", language),
        comment: fields.text("Comment"),
    })
}

/// `ErrorEquals`: names, at least one; `States.ALL` alone and in the last entry.
fn error_equals(fields: &Fields<'_>, last: bool) -> Option<Vec<Arc<str>>> {
    fields.required(&["ErrorEquals"]);
    let values = fields.array("ErrorEquals")?;
    if values.is_empty() {
        fields.problem_at("ErrorEquals", "A non-empty array is required");
        return None;
    }
    let names: Vec<Arc<str>> = values
        .iter()
        .filter_map(|v| v.as_str())
        .map(Arc::from)
        .collect();
    if names.len() < values.len() {
        fields.problem_at("ErrorEquals", "Expected an array of values of type String");
        return None;
    }
    if names.iter().any(|name| &**name == ALL) {
        if names.len() > 1 {
            fields.problem_at("ErrorEquals", format!("{ALL} must appear alone"));
        } else if !last {
            fields.problem_at("ErrorEquals", format!("{ALL} must be in the last entry"));
        }
    }
    Some(names)
}
