//! Task states, and the retriers and catchers that Parallel and Map have too.

use std::sync::Arc;

use super::{Resource, ResultPath, Source, StateName};
use crate::template::Template;

/// What is particular to a Task.
#[derive(Debug)]
pub struct Task {
    /// What is called.
    pub resource: Resource,
    /// `TimeoutSeconds` or its path: longest time of one attempt. Absent means 99,999,999.
    pub timeout_seconds: Option<Source<u64>>,
    /// `HeartbeatSeconds` or its path: longest silence of one attempt; below the timeout.
    pub heartbeat_seconds: Option<Source<u64>>,
    /// `Credentials`: whose rights the call uses. The template is an object with `RoleArn`.
    pub credentials: Option<Template>,
}

/// One entry of `Retry` (aws-semantics 10.7.3).
#[derive(Clone, Debug)]
pub struct Retrier {
    /// Names of errors, at least one. `States.ALL` stands alone and last.
    pub error_equals: Vec<Arc<str>>,
    /// Seconds before the first retry, 1 to 99,999,999; default 1.
    pub interval_seconds: u64,
    /// How many retries, 0 to 99,999,999; default 3. 0 means the error is not retried.
    pub max_attempts: u64,
    /// Factor from one delay to the next, at least 1; default 2.
    pub backoff_rate: f64,
    /// Longest delay in seconds, above `interval_seconds` and below 31,622,400.
    pub max_delay_seconds: Option<u64>,
    /// Whether delays are spread.
    pub jitter: Jitter,
}

/// `JitterStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// The delay as computed; the default.
    #[default]
    None,
    /// A random delay between zero and the computed one.
    Full,
}

/// One entry of `Catch` (aws-semantics 10.7.5).
#[derive(Clone, Debug)]
pub struct Catcher {
    /// Names of errors, at least one. `States.ALL` stands alone and last.
    pub error_equals: Vec<Arc<str>>,
    /// Where the flow goes on.
    pub next: StateName,
    /// Where the error output is put; JSONPath only. Default `$`.
    pub result_path: ResultPath,
    /// The state's output when this catcher is used; JSONata only.
    pub output: Option<Template>,
    /// The variables when this catcher is used, instead of the state's own.
    pub assign: Option<Template>,
    /// Its comment.
    pub comment: Option<Arc<str>>,
}
