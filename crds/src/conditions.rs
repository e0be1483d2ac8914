//! Conditions: their types, the closed list of reasons, the events, and how a list is kept.
//!
//! `Ready` means that there is nothing for a human to fix. It is the summary of the types for which
//! [`ConditionType::counts_for_ready`] holds. Types that are [`ConditionType::only_when_true`] are
//! weather or progress: they are absent unless true, and weather never touches `Ready`.
//!
//! Two lists that differ only in order or transition time are the same list ([`same_conditions`]), so
//! that nothing is written when nothing changed.

mod event;
mod list;
mod reason;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use event::Event;
pub use list::{find, remove_condition, same_conditions, set_condition, summarise};
pub use reason::Reason;

/// Defines an enum whose variants have a name, and a text that the documentation prints.
macro_rules! closed_list {
    ($(#[$meta:meta])* pub enum $name:ident { $($variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $(#[doc = $text] $variant,)+
        }

        impl $name {
            /// Every one, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name, as it is written in the cluster.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }

            /// What it means, and what to do about it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Types of conditions, the same for all kinds.
    pub enum ConditionType {
        Ready => "There is nothing for a human to fix. The summary of the types that count; its reason and message are those of the worst one.",
        Accepted => "The spec is valid, and what it refers to exists and may be used.",
        TopologyReady => "The streams and consumers in the broker are as wanted.",
        HandlerReady => "The handler can be reached, or is scaled to zero with nothing wrong.",
        RouteReady => "The route is accepted and programmed by its Gateway. Only with `spec.route`.",
        ScalerReady => "The scaler is accepted. Only with KEDA. When false, a fixed number of pods runs.",
        Reconciling => "The operator is working on a change. Present only while it does.",
        Stalled => "It will not get better without a change. Present only then.",
        Paused => "Deliveries are stopped by `spec.paused`. Present only then.",
        DeadLettersPresent => "Dead letters are stored. Present only then.",
        LimitReached => "All places of `spec.concurrency.max` are taken and messages wait. Present only then.",
        CircuitOpen => "The circuit breaker is open; nothing is delivered. Present only then.",
        BacklogStale => "The numbers in the status are old, because the broker does not answer. Present only then.",
    }
}

impl ConditionType {
    /// `Ready` is true only when this one is, if it is present.
    pub const fn counts_for_ready(self) -> bool {
        matches!(
            self,
            Self::Accepted | Self::TopologyReady | Self::HandlerReady | Self::RouteReady
        )
    }

    /// Absent unless true.
    pub const fn only_when_true(self) -> bool {
        matches!(
            self,
            Self::Reconciling
                | Self::Stalled
                | Self::Paused
                | Self::DeadLettersPresent
                | Self::LimitReached
                | Self::CircuitOpen
                | Self::BacklogStale
        )
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet, or no longer.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One observation about an object, in the form that all Kubernetes tools read.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64), regex(pattern = "^[A-Z][A-Za-z]*$"))]
    pub type_: String,

    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,

    /// Generation of the spec that this is about, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,

    /// When `status` last changed.
    #[schemars(with = "String", length(max = 64), extend("format" = "date-time"))]
    pub last_transition_time: Timestamp,

    /// Why, in one word of a closed list.
    #[schemars(length(max = 64), regex(pattern = "^[A-Z][A-Za-z]*$"))]
    pub reason: String,

    /// What, where, and what to do.
    #[schemars(length(max = 32_768))]
    pub message: String,
}

impl Condition {
    /// A condition observed at `now`. Times are kept to the second, as Kubernetes does.
    pub fn new(
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            type_: type_.as_str().into(),
            status: status.into(),
            observed_generation: None,
            last_transition_time: Timestamp::from_second(now.as_second()).unwrap_or(now),
            reason: reason.as_str().into(),
            message: message.into(),
        }
    }

    /// The same, about this generation of the spec.
    #[must_use]
    pub fn of_generation(mut self, generation: Option<i64>) -> Self {
        self.observed_generation = generation;
        self
    }

    /// It is of this type.
    pub fn is(&self, type_: ConditionType) -> bool {
        self.type_ == type_.as_str()
    }
}
