//! The one place that starts tasks: each belongs to a value and ends with it.

use tokio_util::task::AbortOnDropHandle;

/// Starts a task that is aborted when the handle is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "the handle is owned by whoever needs the task"
)]
pub(crate) fn start<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
