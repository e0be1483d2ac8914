//! Waiting for a state.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take that needs pods to start on a busy machine of two cores.
pub const SOON: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(200);

/// Calls `probe` until it answers, and gives that. Panics after `within`, with what was there instead.
pub async fn until<T, E: Display>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(instead) if Instant::now() > deadline => {
                panic!("waited {} s for {what}, but {instead}", within.as_secs())
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Checks over and over that something stays as it is.
pub async fn stays<E: Display>(
    what: &str,
    during: Duration,
    mut probe: impl AsyncFnMut() -> Result<(), E>,
) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        if let Err(instead) = probe().await {
            panic!("{what} did not last: {instead}");
        }
        sleep(PAUSE).await;
    }
}
