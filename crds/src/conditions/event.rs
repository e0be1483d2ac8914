//! The closed list of Kubernetes Events that Weir writes.

use super::closed_list;

closed_list! {
    /// Reasons of Kubernetes Events.
    pub enum Event {
        TopologyCreated => "Streams and consumers were created in the broker.",
        TopologyDriftRepaired => "Somebody changed them in the broker; they are as wanted again.",
        TopologyOrphaned => "An object was deleted and its streams stay in the broker, with how many messages; an object of the same name takes them up.",
        BrokerUnreachable => "The broker does not answer.",
        BrokerReconnected => "The broker answers again.",
        HandlerUnavailable => "The handler cannot be reached.",
        HandlerTimeouts => "Calls take longer than `timeoutSeconds`.",
        HandlerAnswerInvalid => "The handler's answer to a batch could not be understood; the whole batch is retried.",
        MessagesDeadLettered => "Messages became dead letters: how many, the last error, one id.",
        DeadLettersRedriven => "Dead letters were sent back: by whom, how many.",
        DeadLettersPurged => "Dead letters were deleted: by whom.",
        SignatureRejected => "Requests with a wrong signature were refused.",
        ConcurrencyLimitReached => "All places are taken; messages wait.",
        GroupBlocked => "A group of ordered messages waits for a failed one.",
        CircuitOpened => "The breaker opened.",
        CircuitHalfOpened => "The breaker tries again.",
        CircuitClosed => "The breaker closed.",
        CircuitForced => "Somebody set the breaker by hand.",
        ExecutionFailed => "Executions of a state machine failed.",
        ExecutionRedriven => "An execution was continued: by whom.",
        InvalidDefinition => "A definition does not parse.",
        Paused => "Deliveries were stopped.",
        Resumed => "Deliveries run again.",
        ScalerUnavailable => "The scaler does not work; a fixed number of pods runs.",
    }
}

impl Event {
    /// Events that tell of nothing wrong have type `Normal`, the others `Warning`.
    pub const fn is_normal(self) -> bool {
        matches!(
            self,
            Self::TopologyCreated
                | Self::BrokerReconnected
                | Self::DeadLettersRedriven
                | Self::ConcurrencyLimitReached
                | Self::CircuitHalfOpened
                | Self::CircuitClosed
                | Self::ExecutionRedriven
                | Self::Paused
                | Self::Resumed
        )
    }
}
