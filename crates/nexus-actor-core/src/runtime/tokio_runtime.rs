//! The runtime on tokio.

use alloc::boxed::Box;
use alloc::sync::Arc;

use tokio::runtime::{Handle, Runtime as TokioRt};
use tokio::time::Instant as TokioInstant;

use super::{BoxFuture, Runtime};
use crate::time::Instant;

/// Runs actors as tokio tasks. Its clock is tokio's, so a paused tokio clock pauses the system.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
    start: TokioInstant,
    owned: Option<Arc<Owned>>,
}

/// A runtime made here. It is let go in the background: the last handle may be dropped on one of its own
/// threads, which could not wait for itself.
#[derive(Debug)]
struct Owned(Option<TokioRt>);

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl TokioRuntime {
    /// The runtime behind `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        let start = {
            let _inside = handle.enter();
            TokioInstant::now()
        };
        Self { handle, start, owned: None }
    }

    /// A new multi-threaded runtime that lives as long as this handle and its clones.
    ///
    /// # Panics
    /// When the operating system refuses the threads.
    #[must_use]
    pub fn own() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("nexus")
            .build()
            .expect("the operating system gives threads to a new runtime");
        let mut this = Self::new(runtime.handle().clone());
        this.owned = Some(Arc::new(Owned(Some(runtime))));
        this
    }

    /// The runtime this is called in, or `None` outside of one.
    #[must_use]
    pub fn try_current() -> Option<Self> {
        Handle::try_current().ok().map(Self::new)
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, future: BoxFuture) {
        drop(self.handle.spawn(future));
    }

    fn now(&self) -> Instant {
        let elapsed = TokioInstant::now().saturating_duration_since(self.start);
        Instant::from_nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        let at = self.start.checked_add(at - Instant::ZERO);
        let _inside = self.handle.enter();
        match at {
            Some(at) => Box::pin(tokio::time::sleep_until(at)),
            None => Box::pin(core::future::pending()),
        }
    }

    fn tokio(&self) -> Option<&Handle> {
        Some(&self.handle)
    }
}
