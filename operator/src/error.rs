//! What can go wrong with the world. It is tried again; what users got wrong is not here.

use std::time::Duration;

use weir_broker::BrokerError;

use crate::fence::Fenced;

/// Why a reconcile did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do what was asked.
    #[error("cannot {action} {what}")]
    Kube {
        /// `read`, `apply`, `delete`, ...
        action: &'static str,
        /// Which object.
        what: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The broker did not do what was asked.
    #[error("cannot {action} {what}")]
    Broker {
        /// `apply`, `remove`, ...
        action: &'static str,
        /// Which topology.
        what: String,
        /// What it said.
        #[source]
        source: BrokerError,
    },
    /// A file could not be written.
    #[error("cannot write {what}")]
    File {
        /// Which file.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What a deleted object of the same name left is not gone yet.
    #[error("{what} of a deleted object of the same name is still there")]
    Former {
        /// Which object.
        what: String,
    },
    /// The whole reconcile took too long.
    #[error("not finished within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The lease is not held.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

impl Error {
    /// An answer of the API server.
    pub fn kube(action: &'static str, what: impl Into<String>, source: kube::Error) -> Self {
        Self::Kube {
            action,
            what: what.into(),
            source: Box::new(source),
        }
    }

    /// A short stable word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.is_conflict() => "ApiConflict",
                kube::Error::Api(status) if status.is_forbidden() => "ApiForbidden",
                kube::Error::Api(_) => "ApiRefused",
                _ => "ApiUnreachable",
            },
            Self::Broker { source, .. } => source.reason(),
            Self::File { .. } => "File",
            Self::Former { .. } => "FormerChild",
            Self::TimedOut(_) => "TimedOut",
            Self::Fenced(_) => "LeaseNotHeld",
        }
    }
}

/// The whole chain of an error in one line, for logs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
