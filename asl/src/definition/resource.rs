//! What a Task calls.

use std::fmt;
use std::sync::Arc;

/// The `Resource` of a Task, an `ItemReader` or a `ResultWriter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    text: Arc<str>,
    integration: Integration,
    pattern: Pattern,
}

/// What kind of thing a resource is; the history events of a Task follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integration {
    /// A function called directly: its input is the state's, its result the function's
    /// (`arn:aws:lambda:…:function:name`). Events are `LambdaFunction…`.
    Function,
    /// Work that pollers take (`arn:aws:states:…:activity:name`). Events are `Activity…`.
    Activity,
    /// A service's API (`arn:aws:states:::service:action`). Events are `Task…`.
    Service {
        /// As `lambda`, or `aws-sdk:dynamodb` for the SDK form.
        service: Arc<str>,
        /// As `invoke`.
        action: Arc<str>,
    },
    /// Anything else: a name or a URI that the host knows.
    Named,
}

/// When a call counts as answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// When the service responds.
    #[default]
    RequestResponse,
    /// When the job that it started has ended (`.sync`).
    Sync,
    /// As `Sync`, with the job's output as JSON (`.sync:2`).
    SyncJson,
    /// When somebody answers with the task token (`.waitForTaskToken`).
    WaitForTaskToken,
}

impl Pattern {
    /// The ending of a resource with this pattern.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::RequestResponse => "",
            Self::Sync => ".sync",
            Self::SyncJson => ".sync:2",
            Self::WaitForTaskToken => ".waitForTaskToken",
        }
    }
}

impl Resource {
    /// Reads a resource; every text is one.
    pub fn new(text: &str) -> Self {
        let (integration, pattern) = classify(text);
        Self {
            text: text.into(),
            integration,
            pattern,
        }
    }

    /// As the definition writes it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of thing it is.
    pub fn integration(&self) -> &Integration {
        &self.integration
    }

    /// When a call counts as answered.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn classify(text: &str) -> (Integration, Pattern) {
    let mut parts = text.splitn(6, ':');
    let (arn, _partition, service, _region, _account, rest) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next().unwrap_or_default(),
    );
    match (arn, service) {
        (Some("arn"), Some("lambda")) if rest.starts_with("function:") => {
            (Integration::Function, Pattern::RequestResponse)
        }
        (Some("arn"), Some("states")) if rest.starts_with("activity:") => {
            (Integration::Activity, Pattern::RequestResponse)
        }
        (Some("arn"), Some("states")) => {
            let (call, pattern) = split_pattern(rest);
            match call.rsplit_once(':') {
                Some((service, action)) => {
                    let integration = Integration::Service {
                        service: service.into(),
                        action: action.into(),
                    };
                    (integration, pattern)
                }
                None => (Integration::Named, Pattern::RequestResponse),
            }
        }
        _ => (Integration::Named, Pattern::RequestResponse),
    }
}

fn split_pattern(call: &str) -> (&str, Pattern) {
    for pattern in [Pattern::SyncJson, Pattern::Sync, Pattern::WaitForTaskToken] {
        if let Some(call) = call.strip_suffix(pattern.suffix()) {
            return (call, pattern);
        }
    }
    (call, Pattern::RequestResponse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> (String, String, Pattern) {
        let resource = Resource::new(text);
        match resource.integration() {
            Integration::Service { service, action } => {
                (service.to_string(), action.to_string(), resource.pattern())
            }
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn a_service_and_its_pattern_are_read_from_the_arn() {
        let of = |s: &str, a: &str, p| (s.to_owned(), a.to_owned(), p);
        assert_eq!(
            service("arn:aws:states:::lambda:invoke"),
            of("lambda", "invoke", Pattern::RequestResponse)
        );
        assert_eq!(
            service("arn:aws:states:::states:startExecution.sync:2"),
            of("states", "startExecution", Pattern::SyncJson)
        );
        assert_eq!(
            service("arn:aws-cn:states:::aws-sdk:dynamodb:putItem.waitForTaskToken"),
            of("aws-sdk:dynamodb", "putItem", Pattern::WaitForTaskToken)
        );
    }

    #[test]
    fn functions_activities_and_names_are_told_apart() {
        let kind = |text: &str| Resource::new(text).integration().clone();
        assert_eq!(
            kind("arn:aws:lambda:us-east-1:1:function:f"),
            Integration::Function
        );
        assert_eq!(
            kind("arn:aws:lambda:us-east-1::function:f"),
            Integration::Function
        );
        assert_eq!(
            kind("arn:aws:states:us-west-2:42:activity:a"),
            Integration::Activity
        );
        assert_eq!(kind("reserve"), Integration::Named);
        assert_eq!(kind("foo:bar"), Integration::Named);
        assert_eq!(kind(""), Integration::Named);
    }
}
