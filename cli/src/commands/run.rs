//! pending
use crate::{args::Run, failure::Failure}; pub async fn run(_a: Run) -> Result<(), Failure> { Ok(()) }
