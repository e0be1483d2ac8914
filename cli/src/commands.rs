//! One file a command.

pub mod dlq;
pub mod filter;
pub mod groups;
pub mod lint;
pub mod run;
pub mod send;
pub mod sm;
pub mod version;
