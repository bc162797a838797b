//! What stands between an actor's handlers and its task: panics, and the time a stop leaves.

use alloc::boxed::Box;
use alloc::string::String;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;

use super::{Ended, local};
use crate::actor_ref::ActorRef;
use crate::mailbox::SystemQueue;
use crate::scheduler::Cancel;
use crate::supervision::Failure;
use crate::time::Instant;

/// Polls `work`; turns a panic into a failure, and ends a suspended handler that a stop has waited for long
/// enough. System messages that arrive meanwhile are collected in `system`.
pub(super) struct Guard<'a, M, F> {
    work: Pin<&'a mut Option<F>>,
    me: &'a ActorRef<M>,
    system: &'a mut SystemQueue,
    stop_after: Option<Duration>,
    /// The actor stops already: the handler's time runs from its first pause.
    stopping: bool,
    /// Boxed: most turns never need it.
    stop_at: Option<Box<(Instant, StopTimer)>>,
}

/// Wakes the actor when its handler has had its time. Cancelled when dropped, or it would keep an actor that has ended
/// until then.
struct StopTimer(Cancel);

impl Drop for StopTimer {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl<'a, M, F> Guard<'a, M, F> {
    pub(super) fn new(
        work: Pin<&'a mut Option<F>>,
        me: &'a ActorRef<M>,
        stop_after: Option<Duration>,
        stopping: bool,
        system: &'a mut SystemQueue,
    ) -> Self {
        Self { work, me, system, stop_after, stopping, stop_at: None }
    }
}

impl<M, F> Future for Guard<'_, M, F>
where
    M: Send + 'static,
    F: Future<Output = Ended>,
{
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Ended> {
        let this = &mut *self;
        match catch(|| this.work.as_mut().as_pin_mut().map(|work| work.poll(cx))) {
            Ok(Some(Poll::Ready(ended))) => return Poll::Ready(ended),
            Ok(Some(Poll::Pending) | None) => {}
            Err(text) => return Poll::Ready(Ended::Failed(Failure::Panic(text))),
        }
        let local = local(this.me);
        local.mailbox.poll_system(cx, this.system);
        if this.stopping || this.system.has_stop() {
            let owner = &local.nest.system;
            let now = owner.now();
            let stop_after = this.stop_after;
            let stop_at = this.stop_at.get_or_insert_with(|| {
                let at = now + stop_after.unwrap_or_else(|| owner.stop_deadline());
                let waker = cx.waker().clone();
                Box::new((at, StopTimer(owner.scheduler().schedule_at(at, move || waker.wake()))))
            });
            if now >= stop_at.0 {
                // What the handler held is dropped here, and that is user code too.
                let _ = catch(|| this.work.set(None));
                return Poll::Ready(Ended::Stop);
            }
        }
        Poll::Pending
    }
}

/// Runs `f`; a panic inside becomes its text. Without `std` a panic cannot be caught.
pub(super) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    #[cfg(feature = "std")]
    {
        use core::panic::AssertUnwindSafe;
        std::panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
            let text = crate::context::panic_text(&*payload);
            // A payload may panic as it goes; what that throws is let go of unseen.
            if let Err(again) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                core::mem::forget(again);
            }
            text
        })
    }
    #[cfg(not(feature = "std"))]
    {
        Ok(f())
    }
}
