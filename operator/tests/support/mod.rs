//! What several test programs use.
#![allow(dead_code, reason = "each program uses a part")]

pub mod api;
pub mod manifest;
pub mod operator;
