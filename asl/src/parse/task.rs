//! Task states.

use serde_json::Value;

use super::fields::Fields;
use super::{scalar, template};
use crate::definition::{
    Integration, MAX_SECONDS, Pattern, QueryLanguage, Resource, Source, Task, WorkflowType,
};

pub(super) const FIELDS: &[&str] = &[
    "Resource",
    "TimeoutSeconds",
    "TimeoutSecondsPath",
    "HeartbeatSeconds",
    "HeartbeatSecondsPath",
    "Credentials",
];

pub(super) fn task(
    fields: &Fields<'_>,
    language: QueryLanguage,
    workflow: WorkflowType,
) -> Option<Task> {
    fields.required(&["Resource"]);
    let resource = resource(fields);
    if let (Some(resource), WorkflowType::Express) = (&resource, workflow) {
        refuse_in_express(fields, resource);
    }
    fields.at_most_one(&["TimeoutSeconds", "TimeoutSecondsPath"]);
    fields.at_most_one(&["HeartbeatSeconds", "HeartbeatSecondsPath"]);
    let bounds = 1..=MAX_SECONDS;
    let timeout_seconds = scalar::integer(
        fields,
        "TimeoutSeconds",
        Some("TimeoutSecondsPath"),
        language,
        bounds.clone(),
    );
    let heartbeat_seconds = scalar::integer(
        fields,
        "HeartbeatSeconds",
        Some("HeartbeatSecondsPath"),
        language,
        bounds,
    );
    if let (Some(Source::Literal(timeout)), Some(Source::Literal(heartbeat))) =
        (&timeout_seconds, &heartbeat_seconds)
        && heartbeat >= timeout
    {
        fields.problem_at(
            "HeartbeatSeconds",
            format!(
                "HeartbeatSeconds ({heartbeat}) must be smaller than TimeoutSeconds ({timeout})"
            ),
        );
    }
    check_credentials(fields, language);
    Some(Task {
        resource: resource?,
        timeout_seconds,
        heartbeat_seconds,
        credentials: template::template(fields, "Credentials", language),
    })
}

/// `Resource`: an ARN, a URI, or a name that the host knows.
pub(super) fn resource(fields: &Fields<'_>) -> Option<Resource> {
    let text = fields.text("Resource")?;
    if text.is_empty() || text.chars().any(char::is_control) {
        fields.problem_at("Resource", "Value is not a valid resource ARN");
        return None;
    }
    Some(Resource::new(&text))
}

fn refuse_in_express(fields: &Fields<'_>, resource: &Resource) {
    let pattern = match resource.pattern() {
        Pattern::RequestResponse if *resource.integration() == Integration::Activity => {
            return fields.problem_at(
                "Resource",
                format!("Express state machine does not support Activity ARN '{resource}'"),
            );
        }
        Pattern::RequestResponse => return,
        Pattern::Sync | Pattern::SyncJson => Pattern::Sync,
        Pattern::WaitForTaskToken => Pattern::WaitForTaskToken,
    };
    fields.problem_at(
        "Resource",
        format!(
            "Express state machine does not support '{}' service integration",
            pattern.suffix()
        ),
    );
}

fn check_credentials(fields: &Fields<'_>, language: QueryLanguage) {
    if let Some(Value::String(text)) = fields.get("Credentials")
        && language == QueryLanguage::Jsonata
        && template::is_expression(text)
    {
        return;
    }
    let Some(credentials) = fields.object("Credentials") else {
        return;
    };
    let role = |key: &str| key.trim_end_matches(".$").eq_ignore_ascii_case("RoleArn");
    if !credentials.iter().any(|(key, _)| role(key)) {
        credentials.problem("The field 'RoleArn' is required but was missing");
    }
}
