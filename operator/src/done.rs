//! What was found and done while a plan was carried out: values from which the status is made.

use weir_broker::{Applied, BrokerError, Server};
use weir_crds::conditions::Reason;

use crate::error::Error;
use crate::plan::Rejected;
use crate::rollout::Rollout;

/// The outcome of [`crate::apply`].
#[derive(Debug)]
pub struct Done {
    /// The broker.
    pub topology: Topology,
    /// What the broker said about itself.
    pub server: Option<Server>,
    /// An object that the API server does not take, or that is not ours.
    pub refused: Option<Rejected>,
    /// The Deployment of the handler.
    pub worker: Option<Rollout>,
    /// The Deployment of the shared runtime.
    pub runtime: Option<Rollout>,
    /// What the data plane says about what the object refers to.
    pub unresolved: Option<Rejected>,
    /// The data plane cannot store dead letters, in its own words.
    pub letters_blocked: Option<String>,
    /// What else the data plane says is wrong with the object.
    pub unserved: Option<Rejected>,
    /// The data plane has not loaded the object yet.
    pub loading: bool,
    /// Not everything was looked at: something went wrong before.
    pub incomplete: bool,
    /// What went wrong and is tried again.
    pub error: Option<Error>,
}

impl Default for Done {
    fn default() -> Self {
        Self {
            topology: Topology::NotTried,
            server: None,
            refused: None,
            worker: None,
            runtime: None,
            unresolved: None,
            letters_blocked: None,
            unserved: None,
            loading: false,
            incomplete: false,
            error: None,
        }
    }
}

/// What became of the topology.
#[derive(Debug)]
pub enum Topology {
    /// It is as wanted.
    Applied(Applied),
    /// The broker did not do it.
    Failed(BrokerError),
    /// The bus cannot be used: its credentials are not there, or may not be read.
    BusRefused(Rejected),
    /// Something came before it.
    NotTried,
}

impl Topology {
    /// The broker was asked and did not answer.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::Failed(BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. })
        )
    }
}

/// The reason that a broker's error is reported with.
pub fn broker_reason(error: &BrokerError) -> Reason {
    let says = |words: &[&str], why: &str| {
        let why = why.to_ascii_lowercase();
        words.iter().any(|word| why.contains(word))
    };
    match error {
        BrokerError::Unreachable { why, .. } | BrokerError::Refused { why, .. }
            if says(
                &[
                    "authorization",
                    "permission",
                    "authentication",
                    "credential",
                ],
                why,
            ) =>
        {
            Reason::BrokerRefused
        }
        BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. } => Reason::BrokerUnreachable,
        BrokerError::Unsupported { why, .. }
            if says(&["jetstream"], why) && !says(&["2."], why) =>
        {
            Reason::JetStreamDisabled
        }
        BrokerError::Unsupported { .. } => Reason::BrokerTooOld,
        BrokerError::Conflict { .. } => Reason::NameConflict,
        BrokerError::Full { .. } => Reason::StorageFull,
        BrokerError::Refused { why, .. }
            if says(&["no suitable peers", "insufficient", "replicas > 1"], why) =>
        {
            Reason::NotEnoughServers
        }
        BrokerError::Refused { why, .. } if says(&["not enabled"], why) => {
            Reason::JetStreamDisabled
        }
        BrokerError::Refused { .. }
        | BrokerError::LeaseOver { .. }
        | BrokerError::Missing { .. }
        | BrokerError::TooLarge { .. } => Reason::TopologyFailed,
    }
}
