//! One file a command.

pub mod dlq;
pub mod lint;
pub mod run;
pub mod send;
pub mod version;
