//! What the core asks of an executor: spawn a future, tell the time, sleep.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;

use crate::time::Instant;

mod contained;
mod pump;
#[cfg(feature = "std")]
mod tokio_runtime;

pub use contained::contained;
pub use pump::PumpRuntime;
#[cfg(feature = "std")]
pub use tokio_runtime::TokioRuntime;

/// A future without output, boxed.
pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor. A system holds it erased, so no type carries it as a parameter.
pub trait Runtime: Send + Sync + 'static {
    /// Runs `future` to its end, concurrently with everything else.
    fn spawn(&self, future: BoxFuture);

    /// Now, on this runtime's monotonic clock.
    fn now(&self) -> Instant;

    /// Completes at `at` or soon after, never before.
    fn sleep_until(&self, at: Instant) -> BoxFuture;

    /// The tokio handle, where that is what runs here: actors then reach it without a box in between.
    #[cfg(feature = "std")]
    fn tokio(&self) -> Option<&tokio::runtime::Handle> {
        None
    }
}
