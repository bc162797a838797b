//! What runs a system and moves its clock.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::runtime::Runtime;

/// A runtime and the resolution of the timers on it.
#[derive(Clone)]
pub struct TickDriverConfig {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) tick: Duration,
}

impl TickDriverConfig {
    /// Timers at the runtime's own resolution.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, tick: Duration::ZERO }
    }

    /// Timers rounded up to whole multiples of `tick`: fewer wake-ups for coarser deadlines.
    #[must_use]
    pub const fn with_tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// The tokio runtime this is called in.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn current() -> Option<Self> {
        crate::runtime::TokioRuntime::try_current().map(|runtime| Self::new(Arc::new(runtime)))
    }

    /// Without `std` there is no current runtime.
    #[cfg(not(feature = "std"))]
    #[must_use]
    pub const fn current() -> Option<Self> {
        None
    }
}

impl fmt::Debug for TickDriverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TickDriverConfig").field("tick", &self.tick).finish_non_exhaustive()
    }
}

/// Ready-made drivers where there is an operating system.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct StdTickDriverConfig;

#[cfg(feature = "std")]
impl StdTickDriverConfig {
    /// The tokio runtime this is called in, or a new multi-threaded one that lives as long as the system.
    /// Timers have tokio's resolution of a millisecond.
    ///
    /// # Panics
    /// When no runtime runs here and the operating system refuses the threads for a new one.
    #[must_use]
    pub fn tokio_quickstart() -> TickDriverConfig {
        TickDriverConfig::current()
            .unwrap_or_else(|| TickDriverConfig::new(Arc::new(crate::runtime::TokioRuntime::own())))
    }
}
