//! Event patterns: EventBridge's grammar and the two dialects of SNS filter policies.
