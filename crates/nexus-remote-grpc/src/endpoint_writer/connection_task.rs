//! One task for all that belongs to one connection.
//!
//! Left to itself, the client of HTTP/2 runs the connection and the messages of each call as tasks of their own: a message goes
//! through the scheduler twice before it reaches the socket, and the second time it often wakes another thread. Here both
//! are polled by one task, messages first, so that what a call has to send is written in the same turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use hyper::rt::Executor;
use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicBool, AtomicU8, Ordering};

type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Times that the parts are polled again, because they woke each other, before other tasks get their turn.
const TURN: usize = 16;

/// Nothing to do since the parts were polled last.
const IDLE: u8 = 0;
/// The parts are polled now.
const POLLED: u8 = 1;
/// Something happened: the parts are to be polled, or polled again.
const WOKEN: u8 = 2;

#[derive(Default)]
struct Shared {
    stage: AtomicU8,
    /// Of the task that polls the parts.
    task: Lock<Option<Waker>>,
    begun: Lock<Vec<Part>>,
    /// Nobody is left who could begin another part.
    closed: AtomicBool,
}

impl Shared {
    fn woken(&self) {
        // While the parts are polled, the task looks again before it rests.
        if self.stage.swap(WOKEN, Ordering::AcqRel) == IDLE {
            let task = self.task.lock().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.woken();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.woken();
    }
}

/// Begins parts of the connection. The task ends when the last clone is gone and all parts have ended.
#[derive(Clone)]
pub(crate) struct ConnectionExecutor(Arc<Handle>);

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.woken();
    }
}

impl Executor<Part> for ConnectionExecutor {
    fn execute(&self, part: Part) {
        self.0.0.begun.lock().push(part);
        self.0.0.woken();
    }
}

/// See the [module documentation](self).
pub(crate) struct ConnectionTask {
    shared: Arc<Shared>,
    waker: Waker,
    /// Oldest first: the connection before the calls that it carries.
    parts: Vec<Part>,
}

impl ConnectionTask {
    /// A task without parts, and what begins them.
    pub(crate) fn new() -> (ConnectionExecutor, Self) {
        let shared = Arc::new(Shared::default());
        let executor = ConnectionExecutor(Arc::new(Handle(shared.clone())));
        let waker = Waker::from(shared.clone());
        (executor, Self { shared, waker, parts: Vec::new() })
    }

    /// Polls every part once, newest first. True when all have ended and none can begin.
    fn poll_parts(&mut self) -> bool {
        // Read first: a part begun before it was closed is then seen.
        let closed = self.shared.closed.load(Ordering::Acquire);
        self.parts.append(&mut self.shared.begun.lock());
        let mut cx = Context::from_waker(&self.waker);
        for at in (0..self.parts.len()).rev() {
            if self.parts[at].as_mut().poll(&mut cx).is_ready() {
                // The order of the others matters.
                drop(self.parts.remove(at));
            }
        }
        closed && self.parts.is_empty() && self.shared.begun.lock().is_empty()
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        {
            let mut task = this.shared.task.lock();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        for _ in 0..TURN {
            // Read as well as written: a wake-up that this overwrites is one whose cause the parts must see.
            this.shared.stage.swap(POLLED, Ordering::AcqRel);
            if this.poll_parts() {
                return Poll::Ready(());
            }
            let idle =
                this.shared.stage.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// A queue of one reader, for parts that wake each other.
    #[derive(Default)]
    struct Queue(Lock<(u32, Option<Waker>)>);

    impl Queue {
        fn put(&self) {
            let waker = {
                let mut queue = self.0.lock();
                queue.0 += 1;
                queue.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }

        fn poll_take(&self, cx: &mut Context<'_>) -> Poll<()> {
            let mut queue = self.0.lock();
            if queue.0 > 0 {
                queue.0 -= 1;
                return Poll::Ready(());
            }
            queue.1 = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    fn poll(task: &mut ConnectionTask) -> Poll<()> {
        Pin::new(task).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_a_newer_part_gives_is_taken_in_the_same_turn() {
        let (executor, mut task) = ConnectionTask::new();
        let (outer, inner, done) =
            (Arc::new(Queue::default()), Arc::new(Queue::default()), Arc::new(Queue::default()));
        let (from, to) = (inner.clone(), done.clone());
        executor.execute(Box::pin(async move {
            loop {
                poll_fn(|cx| from.poll_take(cx)).await;
                to.put();
            }
        }));
        let (from, to) = (outer.clone(), inner);
        executor.execute(Box::pin(async move {
            loop {
                poll_fn(|cx| from.poll_take(cx)).await;
                to.put();
            }
        }));
        assert!(poll(&mut task).is_pending());
        for _ in 0..3 {
            outer.put();
            assert!(poll(&mut task).is_pending());
        }
        assert_eq!(done.0.lock().0, 3);
    }

    #[test]
    fn parts_that_wake_each_other_without_end_let_others_run() {
        let (executor, mut task) = ConnectionTask::new();
        let polls = Arc::new(AtomicU8::new(0));
        let count = polls.clone();
        executor.execute(Box::pin(poll_fn(move |cx| {
            count.fetch_add(1, Ordering::AcqRel);
            cx.waker().wake_by_ref();
            Poll::Pending
        })));
        assert!(poll(&mut task).is_pending());
        assert_eq!(usize::from(polls.load(Ordering::Acquire)), TURN);
    }

    #[test]
    fn it_ends_when_nothing_is_left_and_nobody_can_begin_more() {
        let (executor, mut task) = ConnectionTask::new();
        let again = executor.clone();
        // A part that holds the executor, and begins the last one.
        executor.execute(Box::pin(async move { again.execute(Box::pin(async {})) }));
        assert!(poll(&mut task).is_pending());
        drop(executor);
        assert!(poll(&mut task).is_ready());
    }

    #[tokio::test]
    async fn a_wake_from_elsewhere_is_not_lost() {
        let (executor, task) = ConnectionTask::new();
        let (sender, mut numbers) = tokio::sync::mpsc::channel(1);
        let (tell, told) = tokio::sync::oneshot::channel();
        executor.execute(Box::pin(async move {
            let mut sum = 0_u32;
            while let Some(number) = numbers.recv().await {
                sum += number;
            }
            let _ = tell.send(sum);
        }));
        let task = tokio::spawn(task);
        for number in 1..=1_000 {
            sender.send(number).await.expect("it is read");
        }
        drop((sender, executor));
        assert_eq!(told.await, Ok(500_500));
        task.await.expect("it ends");
    }
}
