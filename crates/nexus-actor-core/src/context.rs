//! What an actor can do while it handles a message.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::time::Duration;

use hashbrown::{HashMap, HashSet};

use crate::actor::{Actor, ActorError};
use crate::actor_ref::{ActorRef, AnyRef, Body, Local};
use crate::headers::Headers;
use crate::mailbox::{Notice, SystemMsg};
use crate::nest::SpawnError;
use crate::path::{ActorPath, Address};
use crate::props::{Props, Rare};
use crate::remote::Route;
use crate::scheduler::Cancel;
use crate::supervision::RestartWindow;
use crate::system::ActorSystem;
use crate::time::Instant;

/// How many messages an actor may stash unless its props say otherwise.
const STASH_CAPACITY: usize = 1_000;

/// The actor's own side of the runtime, handed to its handlers.
pub struct Context<'a, A: Actor> {
    pub(crate) me: &'a ActorRef<A::Msg>,
    pub(crate) state: &'a mut State<A>,
}

/// What belongs to one actor and outlives its instance. Kept to two words: every idle actor pays for it.
pub(crate) struct State<A: Actor> {
    pub(crate) cold: Option<Box<Cold<A>>>,
    /// A stop was asked for; nothing more is handled.
    pub(crate) stopping: bool,
    pub(crate) phase: Phase,
}

/// Where the actor stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No instance yet.
    New,
    /// Handling messages.
    Running,
    /// Between a failure and the restart that a back-off delays.
    BackingOff,
}

/// What most actors never need.
pub(crate) struct Cold<A: Actor> {
    pub(crate) rare: Rare,
    pub(crate) watchers: Vec<AnyRef>,
    pub(crate) watching: HashSet<AnyRef>,
    timers: HashMap<TimerKey, Timer<A::Msg>>,
    timer_slots: HashMap<u64, TimerKey>,
    next_generation: u64,
    receive_timeout: Option<ReceiveTimeout>,
    stash: VecDeque<A::Msg>,
    pub(crate) unstashed: VecDeque<A::Msg>,
    behaviors: Vec<Option<Box<dyn Behavior<A>>>>,
    pub(crate) headers: Option<Headers>,
    run: Option<(Arc<dyn Route>, u32)>,
    /// The message at hand is not the next of the run: it comes from the stash.
    beside_run: bool,
    pub(crate) window: RestartWindow,
    pub(crate) restart_generation: u64,
    /// The error for which the actor is being given up.
    pub(crate) failed: Option<String>,
}

struct Timer<M> {
    slot: u64,
    generation: u64,
    cancel: Cancel,
    make: TimerMessage<M>,
}

enum TimerMessage<M> {
    Once(M),
    Periodic { period: Duration, next: Instant, make: Box<dyn FnMut() -> M + Send> },
}

struct ReceiveTimeout {
    after: Duration,
    last: Instant,
    generation: u64,
    cancel: Cancel,
}

/// Names a timer of one actor. Starting a timer under a name that runs already replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimerKey {
    /// A fixed name.
    Name(&'static str),
    /// A number, for timers that come in many.
    Number(u64),
}

impl From<&'static str> for TimerKey {
    fn from(name: &'static str) -> Self {
        Self::Name(name)
    }
}

impl From<u64> for TimerKey {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// A way of handling messages that an actor can change to and back from.
///
/// Static dispatch is the rule here; this is the one place that boxes a future per message, and only while a
/// behavior is in force.
pub trait Behavior<A: Actor>: Send + 'static {
    /// Handles one message instead of [`Actor::receive`].
    fn receive<'a>(
        &'a mut self,
        actor: &'a mut A,
        message: A::Msg,
        cx: &'a mut Context<'_, A>,
    ) -> Pin<Box<dyn Future<Output = Result<(), ActorError>> + Send + 'a>>;
}

/// The stash already holds its capacity; the message comes back.
pub struct StashFull<M> {
    /// The message.
    pub message: M,
    /// The capacity, in messages.
    pub capacity: usize,
}

impl<M> fmt::Debug for StashFull<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StashFull {{ capacity: {} }}", self.capacity)
    }
}

impl<M> fmt::Display for StashFull<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stash holds its {} messages", self.capacity)
    }
}

impl<M> core::error::Error for StashFull<M> {}

impl<A: Actor> State<A> {
    pub(crate) fn new(rare: Option<Box<Rare>>) -> Self {
        let mut state = Self { cold: None, stopping: false, phase: Phase::New };
        if let Some(rare) = rare {
            state.cold().rare = *rare;
        }
        state
    }

    /// How long a stop waits for a suspended handler, if the props say so.
    pub(crate) fn stop_after(&self) -> Option<Duration> {
        self.cold.as_ref().and_then(|cold| cold.rare.stop_deadline)
    }

    pub(crate) fn has_unstashed(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.unstashed.is_empty())
    }

    pub(crate) fn cold(&mut self) -> &mut Cold<A> {
        self.cold.get_or_insert_with(|| {
            Box::new(Cold {
                rare: Rare::default(),
                watchers: Vec::new(),
                watching: HashSet::new(),
                timers: HashMap::new(),
                timer_slots: HashMap::new(),
                next_generation: 0,
                receive_timeout: None,
                stash: VecDeque::new(),
                unstashed: VecDeque::new(),
                behaviors: Vec::new(),
                headers: None,
                run: None,
                beside_run: false,
                window: RestartWindow::default(),
                restart_generation: 0,
                failed: None,
            })
        })
    }
}

impl<A: Actor> Cold<A> {
    /// The next `count` messages come from `peer`.
    pub(crate) fn begin_run(&mut self, peer: Arc<dyn Route>, count: u32) {
        self.run = Some((peer, count));
    }

    /// Called when nothing is left to do: an actor at rest keeps no association alive.
    pub(crate) fn rest(&mut self) {
        self.run = None;
    }

    /// Called before each message.
    pub(crate) fn before_message(&mut self, now: impl FnOnce() -> Instant) {
        self.beside_run = false;
        match &mut self.run {
            Some((_, 0)) => self.run = None,
            Some((_, left)) => *left -= 1,
            None => {}
        }
        self.before_any(now);
    }

    /// Called before a message from the stash, of which neither headers nor peer are kept.
    pub(crate) fn before_unstashed(&mut self, now: impl FnOnce() -> Instant) {
        self.beside_run = true;
        self.before_any(now);
    }

    fn before_any(&mut self, now: impl FnOnce() -> Instant) {
        self.headers = None;
        if let Some(timeout) = &mut self.receive_timeout {
            timeout.last = now();
        }
    }

    /// The message whose timer this is, if the timer still runs.
    pub(crate) fn timer_fired(
        &mut self,
        me: &ActorRef<A::Msg>,
        system: &ActorSystem,
        slot: u64,
        generation: u64,
    ) -> Option<A::Msg> {
        let key = self.timer_slots.get(&slot)?.clone();
        let timer = self.timers.get_mut(&key)?;
        if timer.generation != generation {
            return None;
        }
        if let TimerMessage::Periodic { period, next, make } = &mut timer.make {
            let message = make();
            // Missed periods are not made up for, and the rhythm does not drift.
            let now = system.now();
            *next += *period;
            if *next < now {
                *next = now + *period;
            }
            timer.cancel = schedule_timer(me, system, *next, slot, generation);
            return Some(message);
        }
        self.timer_slots.remove(&slot);
        match self.timers.remove(&key)?.make {
            TimerMessage::Once(message) => Some(message),
            TimerMessage::Periodic { .. } => None,
        }
    }

    /// Whether the actor has really been quiet for its receive timeout; looks again later if not.
    pub(crate) fn receive_timeout_fired(
        &mut self,
        me: &ActorRef<A::Msg>,
        system: &ActorSystem,
        generation: u64,
    ) -> bool {
        let Some(timeout) = &mut self.receive_timeout else { return false };
        if timeout.generation != generation {
            return false;
        }
        let due = timeout.last + timeout.after;
        let now = system.now();
        let quiet = now >= due;
        if quiet {
            timeout.last = now;
        }
        let at = timeout.last + timeout.after;
        timeout.cancel = schedule_notice(me, system, at, Notice::ReceiveTimeout { generation });
        quiet
    }

    fn cancel_receive_timeout(&mut self) {
        if let Some(timeout) = self.receive_timeout.take() {
            timeout.cancel.cancel();
        }
    }

    /// Forgets what belonged to the instance that is being replaced or dropped. Stashed messages come back to
    /// the front of the mailbox.
    pub(crate) fn end_instance(&mut self) {
        self.timer_slots.clear();
        self.cancel_receive_timeout();
        self.headers = None;
        self.unstashed.extend(self.stash.drain(..));
        for timer in self.timers.values() {
            timer.cancel.cancel();
        }
        // Last, for their drops are user code and may panic.
        let behaviors = core::mem::take(&mut self.behaviors);
        drop((core::mem::take(&mut self.timers), behaviors));
    }

    pub(crate) fn take_behavior(&mut self) -> Option<(usize, Box<dyn Behavior<A>>)> {
        let depth = self.behaviors.len();
        let top = self.behaviors.last_mut()?.take()?;
        Some((depth, top))
    }

    /// Puts a behavior back after its message, unless it has been changed away from.
    pub(crate) fn restore_behavior(&mut self, depth: usize, behavior: Box<dyn Behavior<A>>) {
        if let Some(place @ None) = self.behaviors.get_mut(depth - 1) {
            *place = Some(behavior);
        }
    }

    pub(crate) fn has_behavior(&self) -> bool {
        !self.behaviors.is_empty()
    }

    pub(crate) fn take_stash(&mut self) -> VecDeque<A::Msg> {
        let mut all = core::mem::take(&mut self.unstashed);
        all.extend(self.stash.drain(..));
        all
    }
}

fn schedule_timer<M: Send + 'static>(
    me: &ActorRef<M>,
    system: &ActorSystem,
    at: Instant,
    slot: u64,
    generation: u64,
) -> Cancel {
    schedule_notice(me, system, at, Notice::Timer { slot, generation })
}

fn schedule_notice<M: Send + 'static>(
    me: &ActorRef<M>,
    system: &ActorSystem,
    at: Instant,
    notice: Notice<M>,
) -> Cancel {
    // Weak: a timer far away must not keep a stopped actor's memory.
    let me = Arc::downgrade(&me.0);
    system.scheduler().schedule_at(at, move || {
        if let Some(cell) = me.upgrade()
            && let Body::Local(local) = &cell.body
        {
            let _ = local.mailbox.push_notice(notice);
        }
    })
}

impl<A: Actor> Context<'_, A> {
    fn local(&self) -> &Local<A::Msg> {
        match &self.me.0.body {
            Body::Local(local) => local,
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => {
                unreachable!("an actor's own cell is a local one")
            }
        }
    }

    /// A reference to this actor.
    #[must_use]
    pub fn me(&self) -> ActorRef<A::Msg> {
        self.me.clone()
    }

    /// The system this actor lives in.
    #[must_use]
    pub fn system(&self) -> &ActorSystem {
        &self.local().nest.system
    }

    /// This actor's path.
    #[must_use]
    pub fn path(&self) -> ActorPath {
        self.me.path()
    }

    /// Now, on the runtime's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.system().now()
    }

    /// The parent; `None` for a guardian.
    #[must_use]
    pub fn parent(&self) -> Option<AnyRef> {
        self.local().nest.parent.clone()
    }

    /// All living children, the eldest first.
    #[must_use]
    pub fn children(&self) -> Vec<AnyRef> {
        self.local().mailbox.nest().map_or_else(Vec::new, |nest| nest.all())
    }

    /// The living child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<AnyRef> {
        self.local().mailbox.nest()?.find(name)
    }

    /// Starts a child. It is supervised by this actor and stops with it.
    ///
    /// # Errors
    /// When the name is taken or breaks a rule, or this actor is stopping.
    pub fn spawn<B: Actor>(&mut self, name: &str, props: Props<B>) -> Result<ActorRef<B::Msg>, SpawnError> {
        self.spawn_child(Some(name), props)
    }

    /// Starts a child without a name; its path ends in `$` and its uid.
    ///
    /// # Errors
    /// When this actor is stopping.
    pub fn spawn_anonymous<B: Actor>(&mut self, props: Props<B>) -> Result<ActorRef<B::Msg>, SpawnError> {
        self.spawn_child(None, props)
    }

    fn spawn_child<B: Actor>(
        &mut self,
        name: Option<&str>,
        props: Props<B>,
    ) -> Result<ActorRef<B::Msg>, SpawnError> {
        if self.state.stopping {
            return Err(SpawnError::ParentStopped);
        }
        let system = self.system().clone();
        let nest = system.nest_of(self.me).ok_or(SpawnError::ParentStopped)?;
        system.spawn_in(nest, name, props)
    }

    /// Watches an actor: when it terminates, or if it has, one [`Signal::Terminated`](crate::Signal) follows
    /// its last messages. Watching twice is watching once; watching oneself is nothing.
    pub fn watch<M: Send + 'static>(&mut self, who: &ActorRef<M>) {
        self.watch_any(&who.to_any());
    }

    /// [`watch`](Self::watch) for an erased reference.
    pub fn watch_any(&mut self, who: &AnyRef) {
        let who = who.behind();
        let me = self.me.to_any();
        if who != me && self.state.cold().watching.insert(who.clone()) {
            who.watch_for(&me);
        }
    }

    /// Ends a watch. A notice already on its way does not arrive.
    pub fn unwatch<M: Send + 'static>(&mut self, who: &ActorRef<M>) {
        self.unwatch_any(&who.to_any());
    }

    /// [`unwatch`](Self::unwatch) for an erased reference.
    pub fn unwatch_any(&mut self, who: &AnyRef) {
        let who = who.behind();
        if let Some(cold) = &mut self.state.cold
            && cold.watching.remove(&who)
        {
            who.system(SystemMsg::Unwatch(self.me.to_any()));
        }
    }

    /// Stops this actor once the current message has been handled. What waits becomes dead letters.
    pub fn stop(&mut self) {
        self.state.stopping = true;
    }

    /// Sends `message` to this actor once, `after` from now.
    pub fn start_timer(&mut self, key: impl Into<TimerKey>, after: Duration, message: A::Msg) {
        let at = self.now() + after;
        self.arm_timer(key.into(), at, TimerMessage::Once(message));
    }

    /// Sends a message to this actor every `period`, first `period` from now. Periods missed while the actor
    /// was busy are not made up for. A zero period means one tick of the clock.
    pub fn start_periodic_timer(
        &mut self,
        key: impl Into<TimerKey>,
        period: Duration,
        make: impl FnMut() -> A::Msg + Send + 'static,
    ) {
        let period = period.max(Duration::from_nanos(1));
        let next = self.now() + period;
        self.arm_timer(key.into(), next, TimerMessage::Periodic { period, next, make: Box::new(make) });
    }

    fn arm_timer(&mut self, key: TimerKey, at: Instant, make: TimerMessage<A::Msg>) {
        self.cancel_timer_key(&key);
        let system = self.system().clone();
        let me = self.me.clone();
        let cold = self.state.cold();
        cold.next_generation += 1;
        let generation = cold.next_generation;
        let cancel = schedule_timer(&me, &system, at, generation, generation);
        cold.timer_slots.insert(generation, key.clone());
        cold.timers.insert(key, Timer { slot: generation, generation, cancel, make });
    }

    /// Cancels a timer. Its message does not arrive any more, even if the deadline has passed.
    pub fn cancel_timer(&mut self, key: impl Into<TimerKey>) -> bool {
        self.cancel_timer_key(&key.into())
    }

    fn cancel_timer_key(&mut self, key: &TimerKey) -> bool {
        let Some(cold) = &mut self.state.cold else { return false };
        let Some(timer) = cold.timers.remove(key) else { return false };
        cold.timer_slots.remove(&timer.slot);
        timer.cancel.cancel();
        true
    }

    /// Whether a timer of that name runs.
    #[must_use]
    pub fn is_timer_active(&self, key: impl Into<TimerKey>) -> bool {
        self.state.cold.as_ref().is_some_and(|cold| cold.timers.contains_key(&key.into()))
    }

    /// Raises [`Signal::ReceiveTimeout`](crate::Signal) whenever no message came for `after`. Signals and
    /// notices do not count as messages; timers do.
    pub fn set_receive_timeout(&mut self, after: Duration) {
        let system = self.system().clone();
        let me = self.me.clone();
        let last = system.now();
        let cold = self.state.cold();
        cold.next_generation += 1;
        let generation = cold.next_generation;
        // Set anew for every message, the old deadlines would pile up.
        cold.cancel_receive_timeout();
        let cancel = schedule_notice(&me, &system, last + after, Notice::ReceiveTimeout { generation });
        cold.receive_timeout = Some(ReceiveTimeout { after, last, generation, cancel });
    }

    /// Ends the receive timeout.
    pub fn cancel_receive_timeout(&mut self) {
        if let Some(cold) = &mut self.state.cold {
            cold.cancel_receive_timeout();
        }
    }

    /// Puts a message aside until [`unstash_all`](Self::unstash_all).
    ///
    /// # Errors
    /// When the stash holds its capacity; the message comes back.
    pub fn stash(&mut self, message: A::Msg) -> Result<(), StashFull<A::Msg>> {
        let cold = self.state.cold();
        let capacity = cold.rare.stash_capacity.unwrap_or(STASH_CAPACITY);
        if cold.stash.len() >= capacity {
            return Err(StashFull { message, capacity });
        }
        cold.stash.push_back(message);
        Ok(())
    }

    /// Handles all stashed messages next, in the order they were stashed and before what waits.
    pub fn unstash_all(&mut self) {
        if let Some(cold) = &mut self.state.cold {
            let mut stash = core::mem::take(&mut cold.stash);
            stash.append(&mut cold.unstashed);
            cold.unstashed = stash;
        }
    }

    /// How many messages are stashed.
    #[must_use]
    pub fn stash_len(&self) -> usize {
        self.state.cold.as_ref().map_or(0, |cold| cold.stash.len())
    }

    /// Handles messages by `behavior` from the next one on, until [`unbecome`](Self::unbecome), another
    /// change, or a restart.
    pub fn become_with(&mut self, behavior: impl Behavior<A>) {
        self.state.cold().behaviors.push(Some(Box::new(behavior)));
    }

    /// Goes back to the behavior before the current one; with none left, to [`Actor::receive`].
    pub fn unbecome(&mut self) {
        if let Some(cold) = &mut self.state.cold {
            cold.behaviors.pop();
        }
    }

    /// Runs `future` beside the actor and sends it what `into_message` makes of the result.
    ///
    /// The actor goes on meanwhile. When it has stopped by then, the message is a dead letter.
    pub fn pipe_to_self<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
        into_message: impl FnOnce(T) -> A::Msg + Send + 'static,
    ) {
        let me = self.me.clone();
        self.system().spawn_task(async move {
            let result = future.await;
            me.tell(into_message(result));
        });
    }

    /// Runs `work` on a thread for blocking work and sends this actor what `into_message` makes of the result.
    #[cfg(feature = "std")]
    pub fn pipe_blocking_to_self<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        into_message: impl FnOnce(T) -> A::Msg + Send + 'static,
    ) {
        let me = self.me.clone();
        let run = move || me.tell(into_message(work()));
        match self.system().runtime().tokio() {
            Some(handle) => drop(handle.spawn_blocking(run)),
            None => drop(std::thread::spawn(run)),
        }
    }

    /// The metadata of the message being handled. A stashed message has lost its own.
    #[must_use]
    pub fn headers(&self) -> Option<&Headers> {
        self.state.cold.as_ref()?.headers.as_ref()
    }

    /// The node the message being handled came from; `None` when it was sent in this process, and for a
    /// message from the stash.
    #[must_use]
    pub fn peer(&self) -> Option<&Address> {
        let cold = self.state.cold.as_ref().filter(|cold| !cold.beside_run)?;
        cold.run.as_ref().map(|(peer, _)| peer.address())
    }
}

impl<A: Actor> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.me)
    }
}

/// What a panic said.
#[cfg(feature = "std")]
pub(crate) fn panic_text(payload: &(dyn core::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&'static str>()
        .map(|text| String::from(*text))
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("a value that is not text"))
}
