//! Timers: one queue of deadlines per system, driven by one task of its runtime.

use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use hashbrown::HashMap;

use crate::lock::Lock;
use crate::runtime::{BoxFuture, Runtime, contained};
use crate::time::Instant;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs at deadlines. Jobs run on the driver's task and must be short: send a message, wake a task.
///
/// The resolution is the runtime's, rounded up to the tick driver's tick where one is configured.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

struct Shared {
    runtime: Arc<dyn Runtime>,
    tick: Duration,
    queue: Lock<Queue>,
}

#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64)>>,
    jobs: HashMap<u64, Job>,
    next: u64,
    driver: Option<Waker>,
    /// The deadline the driver sleeps for.
    armed: Option<Instant>,
    closed: bool,
}

/// A scheduled job. Dropping the handle does not cancel it.
#[derive(Clone)]
pub struct Cancel {
    shared: Arc<Shared>,
    id: u64,
}

impl Cancel {
    /// Forgets the job if it has not run yet; returns whether it had not.
    pub fn cancel(&self) -> bool {
        let job = {
            let mut queue = self.shared.queue.lock();
            let job = queue.jobs.remove(&self.id);
            // Cancelled deadlines stay in the heap until they outnumber the living ones.
            if queue.heap.len() > 64 && queue.heap.len() > 2 * queue.jobs.len() {
                let Queue { heap, jobs, .. } = &mut *queue;
                heap.retain(|Reverse((_, id))| jobs.contains_key(id));
            }
            job
        };
        job.is_some()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cancel({})", self.id)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({} jobs)", self.0.queue.lock().jobs.len())
    }
}

impl Scheduler {
    /// A scheduler on `runtime` whose deadlines are rounded up to whole multiples of `tick` (zero: not
    /// rounded), and the task that drives it.
    pub(crate) fn new(runtime: Arc<dyn Runtime>, tick: Duration) -> (Self, SchedulerTask) {
        let shared = Arc::new(Shared { runtime, tick, queue: Lock::default() });
        (Self(shared.clone()), SchedulerTask { shared, sleep: None })
    }

    /// The runtime's time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.runtime.now()
    }

    /// Runs `job` once, at `at` or as soon after it as the runtime wakes. After shutdown jobs are discarded.
    pub fn schedule_at(&self, at: Instant, job: impl FnOnce() + Send + 'static) -> Cancel {
        let at = self.round(at);
        let job: Job = Box::new(job);
        let (id, waker, refused) = {
            let mut queue = self.0.queue.lock();
            let id = queue.next;
            queue.next += 1;
            if queue.closed {
                (id, None, Some(job))
            } else {
                queue.heap.push(Reverse((at, id)));
                queue.jobs.insert(id, job);
                let sooner = queue.armed.is_none_or(|armed| at < armed);
                (id, if sooner { queue.driver.take() } else { None }, None)
            }
        };
        drop(refused);
        if let Some(waker) = waker {
            waker.wake();
        }
        Cancel { shared: self.0.clone(), id }
    }

    /// Runs `job` once, `after` from now.
    pub fn schedule_once(&self, after: Duration, job: impl FnOnce() + Send + 'static) -> Cancel {
        self.schedule_at(self.now() + after, job)
    }

    /// Jobs that have not run yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.queue.lock().jobs.len()
    }

    /// Discards all jobs and ends the driver's task.
    pub(crate) fn close(&self) {
        let (jobs, waker) = {
            let mut queue = self.0.queue.lock();
            queue.closed = true;
            queue.heap.clear();
            (core::mem::take(&mut queue.jobs), queue.driver.take())
        };
        drop(jobs);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn round(&self, at: Instant) -> Instant {
        let tick = u64::try_from(self.0.tick.as_nanos()).unwrap_or(u64::MAX);
        if tick <= 1 { at } else { Instant::from_nanos(at.as_nanos().div_ceil(tick).saturating_mul(tick)) }
    }
}

/// The task that drives a [`Scheduler`].
pub(crate) struct SchedulerTask {
    shared: Arc<Shared>,
    sleep: Option<(Instant, BoxFuture)>,
}

impl Future for SchedulerTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let now = this.shared.runtime.now();
            let mut due = Vec::new();
            let next = {
                let mut guard = this.shared.queue.lock();
                let queue = &mut *guard;
                if queue.closed {
                    return Poll::Ready(());
                }
                while let Some(Reverse((at, id))) = queue.heap.peek().copied() {
                    match queue.jobs.get(&id) {
                        None => {}
                        Some(_) if at <= now => due.extend(queue.jobs.remove(&id)),
                        Some(_) => break,
                    }
                    queue.heap.pop();
                }
                let next = queue.heap.peek().map(|Reverse((at, _))| *at);
                queue.armed = next;
                queue.driver = Some(cx.waker().clone());
                next
            };
            if !due.is_empty() {
                for job in due {
                    // One that panics must not take the timers of the whole system with it.
                    contained(job);
                }
                continue;
            }
            let Some(next) = next else {
                this.sleep = None;
                return Poll::Pending;
            };
            if this.sleep.as_ref().is_none_or(|(at, _)| *at != next) {
                this.sleep = Some((next, this.shared.runtime.sleep_until(next)));
            }
            match this.sleep.as_mut().map(|(_, sleep)| sleep.as_mut().poll(cx)) {
                Some(Poll::Pending) | None => return Poll::Pending,
                Some(Poll::Ready(())) => this.sleep = None,
            }
        }
    }
}
