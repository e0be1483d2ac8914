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

/// The whole chain of an error in one line, for logs and conditions. An answer of the API server is
/// told in its own words.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
        let (words, is_last) = match boxed.or_else(|| error.downcast_ref::<kube::Error>()) {
            Some(kube::Error::Api(status)) => {
                (format!("{} ({})", status.message, status.code), true)
            }
            _ => (error.to_string(), false),
        };
        if !text.ends_with(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = error.source().filter(|_| !is_last);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_everything_once_and_quotes_the_server() {
        let status = kube::core::Status {
            message: "pods is forbidden".to_owned(),
            code: 403,
            reason: "Forbidden".to_owned(),
            ..kube::core::Status::default()
        };
        let error = Error::kube("list", "pods in shop", kube::Error::Api(Box::new(status)));
        assert_eq!(
            chain(&error),
            "cannot list pods in shop: pods is forbidden (403)"
        );
        assert_eq!(error.reason(), "ApiForbidden");
        let why = BrokerError::Missing {
            what: "S".to_owned(),
        };
        let error = Error::Broker {
            action: "apply",
            what: "queue".to_owned(),
            source: why,
        };
        assert_eq!(chain(&error), "cannot apply queue: S does not exist");
        assert_eq!(chain(&Error::Fenced(Fenced)), Fenced.to_string());
    }
}
