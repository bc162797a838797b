//! A single-threaded executor without `std`: the caller turns the crank and moves the clock.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use portable_atomic::{AtomicBool, AtomicU64, Ordering};

use super::{BoxFuture, Runtime};
use crate::lock::Lock;
use crate::time::Instant;

/// Runs everything on the thread that calls [`run_until_idle`](Self::run_until_idle).
///
/// Time stands still unless it is moved, so it is the runtime of bare metal (feed it a hardware timer) and of
/// tests on virtual time. Tasks run in the order they were woken: a run is repeatable.
#[derive(Clone)]
pub struct PumpRuntime(Arc<Shared>);

struct Shared {
    ready: Lock<VecDeque<Arc<Task>>>,
    now: AtomicU64,
    sleepers: Lock<Vec<Sleeper>>,
    next: AtomicU64,
}

struct Sleeper {
    at: Instant,
    id: u64,
    waker: Waker,
}

struct Task {
    future: Lock<Option<BoxFuture>>,
    queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let shared = self.shared.clone();
            shared.ready.lock().push_back(self);
        }
    }
}

impl Default for PumpRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl PumpRuntime {
    /// A runtime whose clock stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            ready: Lock::default(),
            now: AtomicU64::new(0),
            sleepers: Lock::default(),
            next: AtomicU64::new(0),
        }))
    }

    /// Polls tasks until none is ready. Returns how many polls that took.
    pub fn run_until_idle(&self) -> usize {
        self.run_at_most(usize::MAX)
    }

    /// Polls at most `polls` ready tasks, and returns how many there were.
    pub fn run_at_most(&self, polls: usize) -> usize {
        let mut done = 0;
        while done < polls {
            let Some(task) = self.0.ready.lock().pop_front() else { break };
            done += 1;
            task.queued.store(false, Ordering::Release);
            // Taken out while it runs: a task that wakes itself finds its place free.
            let Some(mut future) = task.future.lock().take() else { continue };
            let waker = Waker::from(task.clone());
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => *task.future.lock() = Some(future),
                Poll::Ready(()) => {}
            }
        }
        done
    }

    /// Moves the clock by `by`, stopping at every deadline on the way, and runs what becomes ready.
    pub fn advance(&self, by: Duration) {
        let end = self.now() + by;
        self.run_until_idle();
        while let Some(next) = self.next_deadline().filter(|at| *at <= end) {
            self.set_time(next);
            self.run_until_idle();
        }
        self.set_time(end);
        self.run_until_idle();
    }

    /// Moves the clock to `now` (never back) and wakes the sleepers whose time has come; runs nothing.
    pub fn set_time(&self, now: Instant) {
        self.0.now.fetch_max(now.as_nanos(), Ordering::AcqRel);
        let mut due = {
            let mut sleepers = self.0.sleepers.lock();
            let mut due = Vec::new();
            let mut at = 0;
            while at < sleepers.len() {
                if sleepers[at].at <= now { due.push(sleepers.swap_remove(at)) } else { at += 1 }
            }
            due
        };
        due.sort_by_key(|sleeper| (sleeper.at, sleeper.id));
        for sleeper in due {
            sleeper.waker.wake();
        }
    }

    /// The earliest deadline somebody sleeps for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.sleepers.lock().iter().map(|sleeper| sleeper.at).min()
    }

    /// Runs `future` on this pump until it completes, moving the clock whenever nothing else is ready.
    ///
    /// Returns `None` when it can never complete: nothing is ready and nobody sleeps, or `within` has passed.
    pub fn block_on<T: Send + 'static>(
        &self,
        within: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let result = Arc::new(Lock::new(None));
        let out = result.clone();
        let end = self.now() + within;
        self.spawn(Box::pin(async move {
            let value = future.await;
            *out.lock() = Some(value);
        }));
        loop {
            self.run_until_idle();
            if let Some(value) = result.lock().take() {
                return Some(value);
            }
            self.set_time(self.next_deadline().filter(|at| *at <= end)?);
        }
    }
}

impl Runtime for PumpRuntime {
    fn spawn(&self, future: BoxFuture) {
        let task = Arc::new(Task {
            future: Lock::new(Some(future)),
            queued: AtomicBool::new(true),
            shared: self.0.clone(),
        });
        self.0.ready.lock().push_back(task);
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.load(Ordering::Acquire))
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        Box::pin(Sleep { shared: self.0.clone(), at, id: self.0.next.fetch_add(1, Ordering::Relaxed) })
    }
}

impl fmt::Debug for PumpRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PumpRuntime").field("now", &self.now()).finish_non_exhaustive()
    }
}

struct Sleep {
    shared: Arc<Shared>,
    at: Instant,
    id: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::from_nanos(self.shared.now.load(Ordering::Acquire)) >= self.at {
            return Poll::Ready(());
        }
        let mut sleepers = self.shared.sleepers.lock();
        match sleepers.iter_mut().find(|sleeper| sleeper.id == self.id) {
            Some(sleeper) => sleeper.waker.clone_from(cx.waker()),
            None => sleepers.push(Sleeper { at: self.at, id: self.id, waker: cx.waker().clone() }),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let old = {
            let mut sleepers = self.shared.sleepers.lock();
            let at = sleepers.iter().position(|sleeper| sleeper.id == self.id);
            at.map(|at| sleepers.swap_remove(at))
        };
        drop(old);
    }
}
