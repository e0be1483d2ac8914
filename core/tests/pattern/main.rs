//! Event patterns against AWS's recorded answers, and against a matcher written another way.

// Helpers outside test functions fail a test the same way.
#![allow(clippy::unwrap_used, clippy::panic)]
// Numbers are compared as AWS compares them.
#![allow(clippy::float_cmp)]

mod boundaries;
mod conformance;
mod generate;
mod negation;
mod properties;
mod reference;
