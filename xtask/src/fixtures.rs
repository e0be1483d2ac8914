//! Later.
use crate::output::Output;
use std::path::Path;
pub fn files(_root: &Path) -> Result<Output, String> {
    Ok(Output::default())
}
