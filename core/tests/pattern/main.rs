//! Event patterns against AWS's recorded answers, and against a matcher written another way.

mod conformance;
mod generate;
mod properties;
mod reference;
