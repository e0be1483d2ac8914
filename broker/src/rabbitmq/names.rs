//! Names of what one queue has on RabbitMQ: `weir.<namespace>.<kind>.<name>.<role>`.

use weir_core::names::QueueNames;
use weir_core::object::ObjectKey;

/// The names that one work queue uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    base: QueueNames,
    /// Quorum queue of waiting messages.
    pub(crate) queue: String,
    /// Stream of dead letters.
    pub(crate) dead: String,
    /// Quorum queue of the tokens that deliveries hold.
    pub(crate) slots: String,
    /// Quorum queue of the tokens that batched calls hold.
    pub(crate) permits: String,
    /// Stream of what was decided: owner, limits, tokens, delay queues.
    pub(crate) state: String,
    /// Stream of notes about single copies: calls that began, copies that are done.
    pub(crate) notes: String,
    /// Exclusive queue of whoever changes the topology.
    pub(crate) lock: String,
}

impl Names {
    pub(crate) fn of(key: &ObjectKey) -> Self {
        let base = QueueNames::of(key);
        let role = |role: &str| base.role(role);
        Self {
            queue: role("queue"),
            dead: role("dead"),
            slots: role("slots"),
            permits: role("permits"),
            state: role("state"),
            notes: role("notes"),
            lock: role("lock"),
            base,
        }
    }

    /// Quorum queue of messages that are delayed by at most `bucket` milliseconds.
    pub(crate) fn delay(&self, bucket: u64) -> String {
        self.base.role(&format!("delay.{bucket}"))
    }

    /// Stream of everything that happened to a FIFO queue, the copy of this number.
    pub(crate) fn log(&self, number: u64) -> String {
        self.base.role(&format!("log.{number}"))
    }

    /// Exclusive queue of a consumer of turns while it is connected.
    pub(crate) fn consumer(&self, consumer: u64) -> String {
        self.base.role(&format!("consumer.{consumer:016x}"))
    }

    /// The number of a log by its name.
    pub(crate) fn log_number(&self, name: &str) -> Option<u64> {
        name.strip_prefix(&self.base.role("log."))?.parse().ok()
    }

    /// What all of them begin with.
    pub(crate) fn prefix(&self) -> String {
        self.base.role("")
    }

    /// What the delay queues begin with.
    pub(crate) fn delays(&self) -> String {
        self.base.role("delay.")
    }

    pub(crate) fn shown(&self) -> String {
        format!("queue {}", self.queue)
    }
}

/// A pattern that matches exactly `name`, for a policy.
pub(crate) fn exactly(name: &str) -> String {
    let mut pattern = String::from("^");
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() && c != '-' && c != '_' {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('$');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::object::Kind;

    #[test]
    fn a_policy_matches_one_queue_only() {
        let names = Names::of(&ObjectKey::new(Kind::Webhook, "shop", "a-b"));
        assert_eq!(exactly(&names.queue), r"^weir\.shop\.webhook\.a-b\.queue$");
        assert_eq!(names.delay(500), "weir.shop.webhook.a-b.delay.500");
    }
}
