//! Equal workers behind one reference.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::task::{Context as TaskContext, Poll, Waker};
use core::time::Duration;

use portable_atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::actor::{Actor, ActorError};
use crate::actor_ref::{ActorRef, AnyRef, Deliver, Refused};
use crate::context::{Context, StashFull};
use crate::headers::Headers;
use crate::mailbox::{MailboxConfig, Overflow};
use crate::nest::SpawnError;
use crate::props::Props;
use crate::reason::Refusal;
use crate::router::{Routees, any_refusal, is_gone, poll_any_room};
use crate::signal::Signal;
use crate::supervision::{Backoff, SupervisorStrategy};
use crate::system::ActorSystem;
use crate::time::Instant;

/// Deaths within this time make the next replacement wait.
const MEMORY: Duration = Duration::from_secs(60);
const REPLACEMENT: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(10), jitter: 0.0 };

type Make<B> = Arc<dyn Fn() -> Props<B> + Send + Sync>;

/// The recipe for a pool of equal workers: so many, made by this function.
///
/// ```
/// # use nexus_actor_core::*;
/// # struct Press;
/// # impl Actor for Press {
/// #     type Msg = Reply<&'static str>;
/// #     async fn receive(&mut self, job: Self::Msg, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
/// #         job.send("pressed");
/// #         Ok(())
/// #     }
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let system = ActorSystem::builder("shop").build().unwrap();
/// let pool = WorkerPool::new(4, || Props::from_fn(|| Press)).spawn(&system, "pool").unwrap();
/// assert_eq!(pool.actor_ref().ask(|reply| reply).await, Ok("pressed"));
/// # });
/// ```
#[must_use]
pub struct WorkerPool<B: Actor> {
    size: usize,
    make: Make<B>,
    supervision: SupervisorStrategy,
}

impl<B: Actor> WorkerPool<B> {
    /// A pool of `size` workers, each from the props that `make` returns.
    ///
    /// A worker without a mailbox of its own gets one that hands over a message at a time, so that what waits
    /// behind a slow message is seen and new work goes elsewhere.
    pub fn new(size: usize, make: impl Fn() -> Props<B> + Send + Sync + 'static) -> Self {
        Self { size, make: Arc::new(make), supervision: SupervisorStrategy::default() }
    }

    /// How the workers are supervised; restart with a back-off unless given. A worker that is stopped for good
    /// is replaced by a new one in any case.
    pub fn with_supervision(mut self, strategy: SupervisorStrategy) -> Self {
        self.supervision = strategy;
        self
    }

    /// Starts the pool at `/user/name`; its workers are its children.
    ///
    /// # Errors
    /// When the name is taken or breaks a rule, or the system is shutting down.
    pub fn spawn(self, system: &ActorSystem, name: &str) -> Result<Pool<B::Msg>, SpawnError> {
        let (props, crew) = self.props();
        Ok(Pool::new(system.spawn(name, props)?, crew))
    }

    /// Starts the pool as a child of the actor of `cx`.
    ///
    /// # Errors
    /// When the name is taken or breaks a rule, or that actor is stopping.
    pub fn spawn_child<A: Actor>(
        self,
        cx: &mut Context<'_, A>,
        name: &str,
    ) -> Result<Pool<B::Msg>, SpawnError> {
        let (props, crew) = self.props();
        Ok(Pool::new(cx.spawn(name, props)?, crew))
    }

    fn props(self) -> (Props<Foreman<B>>, Arc<Crew<B::Msg>>) {
        let Self { size, make, supervision } = self;
        let crew = Arc::new(Crew {
            workers: Routees::new([], false),
            next: AtomicUsize::new(0),
            size: AtomicUsize::new(size),
            closed: AtomicBool::new(false),
        });
        let shared = crew.clone();
        let props = Props::from_fn(move || Foreman {
            make: make.clone(),
            crew: shared.clone(),
            deaths: VecDeque::new(),
        });
        (props.with_supervision(supervision), crew)
    }
}

impl<B: Actor> fmt::Debug for WorkerPool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("size", &self.size).finish_non_exhaustive()
    }
}

/// A running pool. A handle: clones mean the same pool, and dropping it stops nothing.
pub struct Pool<M> {
    me: ActorRef<M>,
    foreman: ActorRef<Order<M>>,
    crew: Arc<Crew<M>>,
}

impl<M: Send + 'static> Pool<M> {
    fn new(foreman: ActorRef<Order<M>>, crew: Arc<Crew<M>>) -> Self {
        let desk = Desk { crew: crew.clone(), foreman: foreman.clone() };
        let me = ActorRef::adapter(foreman.to_any(), desk);
        Self { me, foreman, crew }
    }

    /// The reference to send work to.
    ///
    /// A message goes to the worker with the least to do, on the sender's thread; the pool is no bottleneck.
    /// It is refused with that worker's reason when its mailbox is full, for the others are no emptier. While
    /// there is no worker, up to 1,000 messages wait for one. Order holds per worker, not over the pool. What
    /// waited for a worker that stops for good becomes dead letters. Watching and stopping it means the pool.
    #[must_use]
    pub fn actor_ref(&self) -> ActorRef<M> {
        self.me.clone()
    }

    /// Makes the pool have `size` workers. Those that are too many take no new work, finish what waits for
    /// them and stop.
    pub fn resize(&self, size: usize) {
        self.crew.size.store(size, Ordering::Release);
        self.foreman.tell(Order::Resize);
    }

    /// How many workers take work now.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.crew.workers.table().routees.len()
    }

    /// How many workers the pool is to have.
    #[must_use]
    pub fn size(&self) -> usize {
        self.crew.size.load(Ordering::Acquire)
    }
}

impl<M> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { me: self.me.clone(), foreman: self.foreman.clone(), crew: self.crew.clone() }
    }
}

impl<M: Send + 'static> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} of {} workers)", self.foreman, self.workers(), self.size())
    }
}

/// What the senders and the foreman share.
struct Crew<M> {
    workers: Routees<M>,
    next: AtomicUsize,
    size: AtomicUsize,
    closed: AtomicBool,
}

impl<M: Send + 'static> Crew<M> {
    fn none_left(&self) -> Refusal {
        if self.closed.load(Ordering::Acquire) { Refusal::Stopped } else { Refusal::NoSuchActor }
    }
}

impl<M: Send + 'static> Crew<M> {
    /// Gives a message to the worker with the least to do.
    fn hand(&self, mut message: M, headers: Option<&Headers>) -> Result<(), Refused<M>> {
        loop {
            let table = self.workers.table();
            let workers = &table.routees;
            // Ties go round, so that the first worker is not always the first choice.
            let start = self.next.fetch_add(1, Ordering::Relaxed) % workers.len().max(1);
            let (before, after) = workers.split_at(start);
            let mut least = None;
            for (worker, _) in after.iter().chain(before) {
                let load = worker.load();
                if load == 0 {
                    least = Some((worker, 0));
                    break;
                }
                if least.is_none_or(|(_, other)| load < other) {
                    least = Some((worker, load));
                }
            }
            let Some((worker, _)) = least else {
                return Err(Refused::here(message, self.none_left()));
            };
            match worker.offer_with(message, headers.cloned()) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error.refusal) => {
                    message = error.message;
                    self.workers.remove(worker, false);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Where senders hand in their work.
struct Desk<M> {
    crew: Arc<Crew<M>>,
    foreman: ActorRef<Order<M>>,
}

impl<M: Send + 'static> Deliver<M> for Desk<M> {
    fn deliver(&self, message: M, headers: Option<Headers>) -> Result<(), Refused<M>> {
        let refused = match self.crew.hand(message, headers.as_ref()) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if refused.refusal != Refusal::NoSuchActor {
            return Err(refused);
        }
        // Nobody works here yet, or all have died and are being replaced.
        self.foreman.try_tell(Order::Keep(refused.message, headers)).map_err(|error| match error.message {
            Order::Keep(message, _) => Refused::here(message, error.refusal),
            Order::Resize => unreachable!("made above"),
        })
    }

    fn poll_room(&self, cx: &TaskContext<'_>, message: Option<&M>) -> Poll<()> {
        poll_any_room(&self.crew.workers.table(), cx, message)
    }

    fn forget_room(&self, waker: &Waker) {
        for (worker, _) in &self.crew.workers.table().routees {
            worker.0.forget_room(waker);
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        if self.crew.closed.load(Ordering::Acquire) {
            return Some(Refusal::Stopped);
        }
        any_refusal(&self.crew.workers.table()).filter(|refusal| *refusal != Refusal::NoSuchActor)
    }
}

/// What the foreman is told.
enum Order<M> {
    /// Have as many workers as wanted now.
    Resize,
    /// Keep this until there is a worker for it.
    Keep(M, Option<Headers>),
}

/// Supervises the workers and keeps their number.
struct Foreman<B: Actor> {
    make: Make<B>,
    crew: Arc<Crew<B::Msg>>,
    /// When workers died lately; a pool whose workers keep dying replaces them ever more slowly.
    deaths: VecDeque<Instant>,
}

impl<B: Actor> Foreman<B> {
    fn hire(&mut self, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let mut props = (self.make)();
        if props.mailbox == MailboxConfig::Unbounded {
            props.mailbox = MailboxConfig::Bounded { capacity: usize::MAX, overflow: Overflow::RefuseNewest };
        }
        let worker = cx.spawn_anonymous(props)?;
        cx.watch(&worker);
        self.crew.workers.add(&worker, false);
        Ok(())
    }

    fn settle(&mut self, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        loop {
            let table = self.crew.workers.table();
            let (have, want) = (table.routees.len(), self.crew.size.load(Ordering::Acquire));
            if have < want {
                self.hire(cx)?;
            } else if have > want {
                // The youngest go first.
                let Some((worker, behind)) = table.routees.last() else { return Ok(()) };
                self.crew.workers.remove(worker, false);
                cx.unwatch_any(behind);
                worker.stop_in_order();
            } else {
                if have > 0 {
                    cx.unstash_all();
                }
                return Ok(());
            }
        }
    }

    /// Hands on a message that found no worker, or keeps it until there is one.
    fn keep(&mut self, message: B::Msg, headers: Option<Headers>, cx: &mut Context<'_, Self>) {
        let Err(Refused { message, refusal, by }) = self.crew.hand(message, headers.as_ref()) else { return };
        let mut refused = Refused { message: Order::Keep(message, headers), refusal, by };
        if refused.refusal == Refusal::NoSuchActor {
            match cx.stash(refused.message) {
                Ok(()) => return,
                Err(StashFull { message, capacity }) => {
                    refused = Refused::here(message, Refusal::MailboxFull { capacity });
                }
            }
        }
        cx.me().give_up(refused);
    }

    fn replace(&mut self, who: &AnyRef, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.crew.workers.remove_actor(who, false);
        let now = cx.now();
        while self.deaths.front().is_some_and(|at| now.saturating_duration_since(*at) > MEMORY) {
            self.deaths.pop_front();
        }
        // The first death of each worker is made up for at once.
        let size = self.crew.size.load(Ordering::Acquire).max(1);
        let rounds = u32::try_from(self.deaths.len() / size).unwrap_or(u32::MAX);
        if self.deaths.len() < 64 * size {
            self.deaths.push_back(now);
        }
        let wait = REPLACEMENT.delay(rounds, 0.5);
        if wait.is_zero() {
            return self.settle(cx);
        }
        if !cx.is_timer_active("replace") {
            cx.start_timer("replace", wait, Order::Resize);
        }
        Ok(())
    }
}

impl<B: Actor> Actor for Foreman<B> {
    type Msg = Order<B::Msg>;

    async fn receive(
        &mut self,
        message: Order<B::Msg>,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        match message {
            Order::Resize => return self.settle(cx),
            Order::Keep(message, headers) => self.keep(message, headers, cx),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Started => self.settle(cx),
            Signal::Terminated { who, .. } => self.replace(&who, cx),
            Signal::Restarting => {
                // The new instance has workers of its own; these stop with the old one.
                self.crew.workers.clear();
                Ok(())
            }
            Signal::Stopping => {
                self.crew.closed.store(true, Ordering::Release);
                self.crew.workers.clear();
                Ok(())
            }
            Signal::ChildFailed { .. } | Signal::ReceiveTimeout => Ok(()),
        }
    }
}
