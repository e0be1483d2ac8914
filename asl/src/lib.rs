//! Amazon States Language: parser, validator and interpreter.
//!
//! Pure, as `weir-core`: no IO, no clock, no randomness that is not passed in. The host starts tasks
//! and timers, stores the state after every step, and feeds what happened back in.
#![warn(missing_docs)]

pub mod batch;
pub mod definition;
pub mod input;
pub mod intrinsic;
pub mod jsonata;
pub mod machine;
pub mod parse;
pub mod path;
pub mod problem;
pub mod randomness;
pub mod scope;
pub mod simulate;
pub mod template;
pub mod timestamp;
pub mod validate;
