//! How an actor runs: an idle task that holds a core and no future, and a turn that borrows the core.
//!
//! The turn is boxed while it runs and dropped when the actor goes idle, so an idle actor costs its core and
//! its cell only. A turn that carried many messages stays boxed for its next wake-up.
//!
//! The futures here are functions that return a block, not `async fn`s, which have room for their arguments twice: a
//! turn is allocated and filled at every wake-up.
#![expect(clippy::manual_async_fn, reason = "see above")]

mod guard;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;

use hashbrown::Equivalent;

use self::guard::{Guard, catch};
use crate::actor::{Actor, ActorError};
use crate::actor_ref::{ActorRef, AnyRef, Body, Local, identity_of};
use crate::context::{Context, Phase, State};
use crate::mailbox::{Entry, Mailbox, Notice, SystemMsg, SystemQueue, Taken, Who};
use crate::nest::Nest;
use crate::path::ActorPath;
use crate::props::Factory;
use crate::reason::DeadLetterReason;
use crate::scheduler::Cancel;
use crate::signal::{Signal, TerminationReason};
use crate::supervision::{Directive, Failure, Scope};
use crate::system::{ActorFailed, ActorSystem};
use crate::time::Instant;

/// Messages after which a turn looks at its system queue and lets others run.
const SLICE: u32 = 256;
/// A wake-up that carried this many messages keeps its turn boxed.
const HOT: u32 = 32;
/// For how long such a turn waits for the next burst before it gives back its buffers and its box.
const REST_AFTER: Duration = Duration::from_secs(1);

/// All of an actor that lives while it is idle.
pub(crate) struct Core<A: Actor> {
    actor: Option<A>,
    factory: Factory<A>,
    me: ActorRef<A::Msg>,
    state: State<A>,
}

impl<A: Actor> Core<A> {
    pub(crate) fn new(me: ActorRef<A::Msg>, factory: Factory<A>, state: State<A>) -> Self {
        Self { actor: None, factory, me, state }
    }
}

/// An actor's task. `make` names the type of the turn's future, which has no other name.
pub(crate) struct Turns<A: Actor, F, T> {
    run: Run<A, F>,
    make: T,
}

enum Run<A: Actor, F> {
    Idle(Core<A>),
    Busy(Pin<Box<F>>),
    Over,
}

// Nothing in it is pinned in place: the turn is behind a box.
impl<A: Actor, F, T> Unpin for Turns<A, F, T> {}

impl<A, F, T> Turns<A, F, T>
where
    A: Actor,
    F: Future<Output = (Core<A>, Verdict)>,
    T: Fn(Core<A>) -> F,
{
    pub(crate) fn new(core: Core<A>, make: T) -> Self {
        Self { run: Run::Idle(core), make }
    }
}

impl<A, F, T> Future for Turns<A, F, T>
where
    A: Actor,
    F: Future<Output = (Core<A>, Verdict)>,
    T: Fn(Core<A>) -> F,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut busy = match core::mem::replace(&mut this.run, Run::Over) {
            Run::Idle(core) => Box::pin((this.make)(core)),
            Run::Busy(busy) => busy,
            Run::Over => return Poll::Ready(()),
        };
        match busy.as_mut().poll(cx) {
            Poll::Pending => {
                this.run = Run::Busy(busy);
                Poll::Pending
            }
            Poll::Ready((core, Verdict::Idle)) => {
                // The mailbox registered our waker when it was found empty.
                this.run = Run::Idle(core);
                Poll::Pending
            }
            Poll::Ready((core, Verdict::Over)) => {
                drop(busy);
                drop(core);
                Poll::Ready(())
            }
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Idle,
    Over,
}

/// How working on a batch ended.
enum Ended {
    /// The batch is empty.
    Drained,
    /// The slice is used up.
    Slice,
    /// The actor asked to stop, or a stop reached a suspended handler and its deadline passed.
    Stop,
    Failed(Failure),
}

/// The life of an actor between two rests.
pub(crate) fn turn<A: Actor>(mut core: Core<A>) -> impl Future<Output = (Core<A>, Verdict)> {
    async move {
        let mut batch = VecDeque::new();
        let mut system = SystemQueue::default();
        // A message that came alone, without a buffer.
        let mut one = None;
        let mut handled = 0;
        // Over all batches of the turn: an actor whose next messages are always there already, its own perhaps, must
        // not keep others from running.
        let mut left = SLICE;
        let mut resting: Option<Box<(Instant, Cancel)>> = None;
        let mut next = Next::Continue;
        if core.state.phase == Phase::New {
            core.state.phase = Phase::Running;
            if let Err(failure) = start(&mut core, &mut system).await {
                next = Box::pin(fail(&mut core, failure, &mut system)).await;
            }
        }
        let verdict = loop {
            if next == Next::Terminate {
                break Verdict::Over;
            }
            let backing_off = core.state.phase == Phase::BackingOff;
            let lone = !core.state.has_unstashed();
            let taken = poll_fn(|cx| {
                let mailbox = &local(&core.me).mailbox;
                if backing_off {
                    // Messages wait in the mailbox until there is an instance to handle them.
                    mailbox.poll_system(cx, &mut system);
                    if system.is_empty() { Poll::Pending } else { Poll::Ready(Taken::Work) }
                } else {
                    Poll::Ready(mailbox.poll_take(cx, &mut batch, &mut system, handled < HOT, lone))
                }
            })
            .await;
            match taken {
                Taken::One(entry) => one = Some(entry),
                Taken::Idle if !core.state.has_unstashed() => {
                    if handled < HOT {
                        break Verdict::Idle;
                    }
                    handled = 0;
                    // It stays ready for the next burst for a while, and gives everything back if there is none.
                    wake_to_rest(&core.me, &mut resting).await;
                    suspend_once().await;
                    left = SLICE;
                    continue;
                }
                Taken::Idle | Taken::Work => {}
            }
            while next == Next::Continue
                && let Some(message) = system.pop_front()
            {
                next = match control(&mut core, message) {
                    Ok(next) => next,
                    Err(rare) => Box::pin(control_rare(&mut core, rare, &mut system)).await,
                };
            }
            if next == Next::Continue && core.state.phase == Phase::Running {
                if left == 0 {
                    yield_now().await;
                    left = SLICE;
                }
                let before = left;
                let alone = one.is_some();
                let ended = {
                    let Core { actor, me, state, .. } = &mut core;
                    match actor {
                        None => Ended::Drained,
                        Some(actor) => {
                            let stop_after = state.stop_after();
                            let me: &ActorRef<A::Msg> = me;
                            let work = pin!(Some(work(actor, me, state, &mut one, &mut batch, &mut left)));
                            Guard::new(work, me, stop_after, false, &mut system).await
                        }
                    }
                };
                handled += before - left;
                match ended {
                    Ended::Drained if alone && !core.state.stopping && !core.state.has_unstashed() => {
                        if local(&core.me).mailbox.rest() {
                            break Verdict::Idle;
                        }
                    }
                    Ended::Drained | Ended::Slice => {}
                    Ended::Stop => next = Next::Terminate,
                    // Boxed like everything rare: the turn's future is allocated at every wake-up, and it must
                    // stay well below the size from which allocators take their slow path.
                    Ended::Failed(failure) => next = Box::pin(fail(&mut core, failure, &mut system)).await,
                }
            }
            if core.state.stopping {
                next = Next::Terminate;
            }
        };
        if let Some(resting) = resting {
            resting.1.cancel();
        }
        if verdict == Verdict::Idle {
            if let Some(cold) = &mut core.state.cold {
                cold.rest();
            }
            // Nearly always without a buffer, which then need not be looked through for something to drop.
            if batch.capacity() == 0 {
                core::mem::forget(batch);
            }
            return (core, verdict);
        }
        if let Some(one) = one {
            batch.push_front(one);
        }
        core.state.stopping = true;
        if let Some(nest) = local(&core.me).mailbox.nest() {
            // A stop that comes again changes nothing.
            let _ = Box::pin(stop_children(&core.me, &nest, &mut system)).await;
        }
        let _ = signal(&mut core, Life::Stopping, &mut system).await;
        end(&mut core, batch, system);
        (core, Verdict::Over)
    }
}

/// What follows after a system message or a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    Terminate,
}

fn local<M>(me: &ActorRef<M>) -> &Local<M> {
    match &me.0.body {
        Body::Local(local) => local,
        Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => {
            unreachable!("an actor's own cell is a local one")
        }
    }
}

fn system_of<M>(me: &ActorRef<M>) -> &ActorSystem {
    &local(me).nest.system
}

/// Hands the batch to the actor, message by message.
fn work<A: Actor>(
    actor: &mut A,
    me: &ActorRef<A::Msg>,
    state: &mut State<A>,
    one: &mut Option<Entry<A::Msg>>,
    batch: &mut VecDeque<Entry<A::Msg>>,
    left: &mut u32,
) -> impl Future<Output = Ended> {
    async move {
        loop {
            if state.stopping {
                return Ended::Stop;
            }
            if *left == 0 {
                return Ended::Slice;
            }
            let mut prepared = false;
            if let Some(cold) = &mut state.cold
                && one.is_none()
                && let Some(message) = cold.unstashed.pop_front()
            {
                cold.before_unstashed(|| system_of(me).now());
                *one = Some(Entry::User(message));
                prepared = true;
            }
            let notice = match one {
                Some(Entry::User(_)) => None,
                Some(Entry::Notice(_)) => one.take(),
                None if matches!(batch.front(), Some(Entry::User(_))) => None,
                None => match batch.pop_front() {
                    None => return Ended::Drained,
                    notice => notice,
                },
            };
            if let Some(Entry::Notice(notice)) = notice {
                match noticed(me, state, *notice) {
                    Some(Todo::Message(message)) => {
                        *one = Some(Entry::User(message));
                        prepared = true;
                    }
                    Some(Todo::Signal(signal)) => {
                        *left -= 1;
                        if let Err(error) = actor.signal(signal, &mut Context { me, state }).await {
                            return Ended::Failed(Failure::Error(error));
                        }
                        continue;
                    }
                    None => {
                        *left -= 1;
                        continue;
                    }
                }
            }
            // The one way to the handler: what a message is moved through on it is copied, once for each message.
            let message = match one.take() {
                Some(Entry::User(message)) => message,
                Some(Entry::Notice(_)) | None => {
                    let Some(Entry::User(message)) = batch.pop_front() else { continue };
                    message
                }
            };
            *left -= 1;
            let mut behaves = false;
            if let Some(cold) = &mut state.cold {
                if !prepared {
                    cold.before_message(|| system_of(me).now());
                }
                behaves = cold.has_behavior();
            }
            let result = if behaves {
                behave(actor, me, state, message).await
            } else {
                actor.receive(message, &mut Context { me, state }).await
            };
            if let Err(error) = result {
                return Ended::Failed(Failure::Error(error));
            }
        }
    }
}

enum Todo<M> {
    Message(M),
    Signal(Signal),
}

/// Turns what is not a plain message into what the actor sees of it, if anything.
fn noticed<A: Actor>(
    me: &ActorRef<A::Msg>,
    state: &mut State<A>,
    notice: Notice<A::Msg>,
) -> Option<Todo<A::Msg>> {
    match notice {
        Notice::Headed { message, headers, peer } => {
            let cold = state.cold();
            if let Some(peer) = peer {
                cold.begin_run(peer, 1);
            }
            cold.before_message(|| system_of(me).now());
            cold.headers = (!headers.is_empty()).then_some(headers);
            Some(Todo::Message(message))
        }
        Notice::Run { peer, count } => {
            state.cold().begin_run(peer, count);
            None
        }
        Notice::Terminated { who, reason } => {
            let watching = &mut state.cold.as_mut()?.watching;
            // Gone from the set means unwatched meanwhile, or already told.
            let who = match who {
                Who::Ref(who) => watching.take(&who),
                Who::Path(path) => watching.take(&ByPath(&path)),
            }?;
            Some(Todo::Signal(Signal::Terminated { who, reason }))
        }
        Notice::Signal(signal) => Some(Todo::Signal(signal)),
        Notice::Stop => {
            state.stopping = true;
            None
        }
        Notice::Call(call) => {
            // It is none of the actor's code, so its panic is no failure of the actor.
            let _ = catch(call);
            None
        }
        Notice::Timer { slot, generation } => {
            let cold = state.cold.as_mut()?;
            let message = cold.timer_fired(me, system_of(me), slot, generation)?;
            cold.before_message(|| system_of(me).now());
            Some(Todo::Message(message))
        }
        Notice::ReceiveTimeout { generation } => state
            .cold
            .as_mut()?
            .receive_timeout_fired(me, system_of(me), generation)
            .then_some(Todo::Signal(Signal::ReceiveTimeout)),
    }
}

/// Finds a watched actor by the path a wire names.
struct ByPath<'a>(&'a ActorPath);

impl core::hash::Hash for ByPath<'_> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        identity_of(self.0).hash(state);
    }
}

impl Equivalent<AnyRef> for ByPath<'_> {
    fn equivalent(&self, key: &AnyRef) -> bool {
        key.path() == *self.0
    }
}

async fn behave<A: Actor>(
    actor: &mut A,
    me: &ActorRef<A::Msg>,
    state: &mut State<A>,
    message: A::Msg,
) -> Result<(), ActorError> {
    let Some((depth, mut behavior)) = state.cold.as_mut().and_then(|cold| cold.take_behavior()) else {
        return actor.receive(message, &mut Context { me, state }).await;
    };
    let result = behavior.receive(actor, message, &mut Context { me, state }).await;
    if let Some(cold) = &mut state.cold {
        cold.restore_behavior(depth, behavior);
    }
    result
}

/// Makes an instance and tells it that it has started.
fn start<A: Actor>(
    core: &mut Core<A>,
    system: &mut SystemQueue,
) -> impl Future<Output = Result<(), Failure>> {
    async move {
        let made = {
            let Core { factory, me, state, .. } = &mut *core;
            catch(|| factory(&mut Context { me, state }))
        };
        match made {
            Ok(Ok(actor)) => core.actor = Some(actor),
            Ok(Err(error)) => return Err(Failure::Error(error)),
            Err(text) => return Err(Failure::Panic(text)),
        }
        signal(core, Life::Started, system).await
    }
}

/// The signals about an instance's own life.
#[derive(Clone, Copy)]
enum Life {
    Started,
    Restarting,
    Stopping,
}

/// Hands one signal to the instance, if there is one.
fn signal<A: Actor>(
    core: &mut Core<A>,
    life: Life,
    system: &mut SystemQueue,
) -> impl Future<Output = Result<(), Failure>> {
    async move {
        let Core { actor: Some(actor), me, state, .. } = core else { return Ok(()) };
        let me: &ActorRef<A::Msg> = me;
        let stop_after = state.stop_after();
        let stopping = matches!(life, Life::Stopping);
        let one = pin!(Some(async {
            let signal = match life {
                Life::Started => Signal::Started,
                Life::Restarting => Signal::Restarting,
                Life::Stopping => Signal::Stopping,
            };
            match actor.signal(signal, &mut Context { me, state }).await {
                Ok(()) => Ended::Drained,
                Err(error) => Ended::Failed(Failure::Error(error)),
            }
        }));
        match Guard::new(one, me, stop_after, stopping, system).await {
            Ended::Failed(failure) => Err(failure),
            Ended::Drained | Ended::Slice | Ended::Stop => Ok(()),
        }
    }
}

/// Applies a system message; those that take time come back.
fn control<A: Actor>(core: &mut Core<A>, message: SystemMsg) -> Result<Next, SystemMsg> {
    match message {
        SystemMsg::Stop => return Ok(Next::Terminate),
        SystemMsg::Watch(watcher) => {
            let watchers = &mut core.state.cold().watchers;
            if !watchers.contains(&watcher) {
                watchers.push(watcher);
            }
        }
        SystemMsg::Unwatch(watcher) => {
            if let Some(cold) = &mut core.state.cold {
                cold.watchers.retain(|other| *other != watcher);
            }
        }
        // Only of interest while waiting for the children.
        SystemMsg::ChildGone => {}
        rare @ (SystemMsg::Escalated { .. } | SystemMsg::Restart { .. }) => return Err(rare),
    }
    Ok(Next::Continue)
}

async fn control_rare<A: Actor>(core: &mut Core<A>, message: SystemMsg, system: &mut SystemQueue) -> Next {
    let failure = match message {
        SystemMsg::Escalated { child, error } => Failure::Escalated(format!("{child}: {error}")),
        // A sibling's failure concerns this actor too.
        SystemMsg::Restart { generation: None } => match restart(core, Duration::ZERO, system).await {
            Ok(next) => return next,
            Err(failure) => failure,
        },
        // A back-off has passed, if it still is the latest.
        SystemMsg::Restart { generation: Some(generation) } => {
            let current = core.state.cold.as_ref().map_or(0, |cold| cold.restart_generation);
            if core.state.phase != Phase::BackingOff || generation != current {
                return Next::Continue;
            }
            core.state.phase = Phase::Running;
            match start(core, system).await {
                Ok(()) => return Next::Continue,
                Err(failure) => failure,
            }
        }
        SystemMsg::Stop | SystemMsg::Watch(_) | SystemMsg::Unwatch(_) | SystemMsg::ChildGone => {
            return control(core, message).unwrap_or(Next::Continue);
        }
    };
    fail(core, failure, system).await
}

/// Applies the supervisor's strategy to a failure of this actor, and to that of each attempt to replace it.
async fn fail<A: Actor>(core: &mut Core<A>, failure: Failure, system: &mut SystemQueue) -> Next {
    let mut failure = failure;
    loop {
        // A stop that has come meanwhile decides as well.
        let mailbox: &Mailbox<A::Msg> = &local(&core.me).mailbox;
        poll_fn(|cx| {
            mailbox.poll_system(cx, system);
            Poll::Ready(())
        })
        .await;
        let delay = match decide(core, failure, system) {
            Ok(delay) => delay,
            Err(next) => return next,
        };
        match restart(core, delay, system).await {
            Ok(next) => return next,
            Err(again) => failure = again,
        }
        // A factory may go on failing: others get their turn.
        yield_now().await;
    }
}

fn stop_waits(system: &SystemQueue) -> bool {
    system.has_stop()
}

/// What the supervisor's strategy says of a failure, told to all whom it concerns: the wait before a restart, or
/// what follows instead of one.
fn decide<A: Actor>(core: &mut Core<A>, failure: Failure, system: &SystemQueue) -> Result<Duration, Next> {
    let nest = local(&core.me).nest.clone();
    let owner = nest.system.clone();
    let me = core.me.to_any();
    let strategy = nest.strategy.clone();
    // The decider, the error's text and its drop are user code; who cannot decide gives the actor up.
    let (mut directive, error) = catch(move || {
        let decided = (strategy.decide(&failure), failure.to_string());
        drop(failure);
        decided
    })
    .unwrap_or_else(|text| (Directive::Stop, format!("panic in the decision about a failure: {text}")));
    let strategy = &nest.strategy;
    if directive == Directive::Resume && core.actor.is_none() {
        // Nothing to resume: the factory failed.
        directive = Directive::Restart;
    }
    if matches!(directive, Directive::Resume | Directive::Restart)
        && (core.state.stopping || stop_waits(system))
    {
        // It was about to stop anyway; no new instance is made for that.
        directive = Directive::Stop;
    }
    let mut delay = Duration::ZERO;
    if directive == Directive::Restart {
        let now = owner.now();
        let allowed = match strategy.scope() {
            Scope::OneForOne => core.state.cold().window.allow(strategy, now),
            Scope::AllForOne | Scope::RestForOne => nest.allow_restart(now),
        };
        match allowed {
            Some(earlier) => delay = strategy.delay(earlier, owner.random()),
            None => directive = strategy.exhausted(),
        }
    }
    owner.event_stream().publish(ActorFailed { path: me.path(), error: error.clone(), directive });
    if let Some(parent) = &nest.parent {
        parent.0.signal(Signal::ChildFailed { child: me.clone(), error: error.clone() });
    }
    if directive != Directive::Resume {
        concern_siblings(&nest, &me, strategy.scope(), directive);
    }
    match directive {
        Directive::Resume => Err(Next::Continue),
        Directive::Restart => Ok(delay),
        Directive::Stop => {
            core.state.cold().failed = Some(error);
            Err(Next::Terminate)
        }
        Directive::Escalate => {
            if let Some(parent) = &nest.parent {
                parent.system(SystemMsg::Escalated { child: me, error: error.clone() });
            }
            core.state.cold().failed = Some(error);
            Err(Next::Terminate)
        }
    }
}

fn concern_siblings(nest: &Nest, me: &AnyRef, scope: Scope, directive: Directive) {
    if scope == Scope::OneForOne {
        return;
    }
    for sibling in nest.all() {
        if sibling == *me || (scope == Scope::RestForOne && sibling.uid() < me.uid()) {
            continue;
        }
        sibling.system(match directive {
            Directive::Restart => SystemMsg::Restart { generation: None },
            Directive::Resume | Directive::Stop | Directive::Escalate => SystemMsg::Stop,
        });
    }
}

/// Replaces the instance, at once or after a back-off.
async fn restart<A: Actor>(
    core: &mut Core<A>,
    delay: Duration,
    system: &mut SystemQueue,
) -> Result<Next, Failure> {
    // The old instance may clean up; its failure to do so changes nothing any more.
    let _ = signal(core, Life::Restarting, system).await;
    let nest = local(&core.me).mailbox.nest();
    if let Some(nest) = &nest
        && stop_children(&core.me, nest, system).await == Next::Terminate
    {
        return Ok(Next::Terminate);
    }
    drop_instance(core);
    if let Some(nest) = nest {
        nest.reopen();
    }
    let owner = system_of(&core.me).clone();
    let cold = core.state.cold();
    // Behaviors and the messages of timers are dropped here.
    let _ = catch(|| cold.end_instance());
    cold.restart_generation += 1;
    let generation = cold.restart_generation;
    if delay.is_zero() {
        core.state.phase = Phase::Running;
        return start(core, system).await.map(|()| Next::Continue);
    }
    core.state.phase = Phase::BackingOff;
    let me = core.me.to_any();
    owner
        .scheduler()
        .schedule_once(delay, move || me.system(SystemMsg::Restart { generation: Some(generation) }));
    Ok(Next::Continue)
}

/// Stops all children and waits for the last one. What else arrives meanwhile is kept in `system`.
async fn stop_children<M>(me: &ActorRef<M>, nest: &Nest, system: &mut SystemQueue) -> Next {
    if !nest.stop_all() {
        let mailbox = &local(me).mailbox;
        poll_fn(|cx| {
            mailbox.poll_system(cx, system);
            if nest.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    system.retain(|message| !matches!(message, SystemMsg::ChildGone));
    if stop_waits(system) { Next::Terminate } else { Next::Continue }
}

fn drop_instance<A: Actor>(core: &mut Core<A>) {
    let actor = core.actor.take();
    // An actor's `Drop` is user code like any other.
    let _ = catch(move || drop(actor));
}

/// The end, once the children are gone: the instance, then whoever waits to hear of it.
fn end<A: Actor>(core: &mut Core<A>, mut batch: VecDeque<Entry<A::Msg>>, system: SystemQueue) {
    // The stopping handler may have spawned nothing: births are refused while stopping.
    drop_instance(core);

    let Core { me, state, .. } = core;
    let here = local(me);
    let (mut waiting, late) = here.mailbox.close();
    let mut watchers = Vec::new();
    let mut failed = None;
    if let Some(cold) = &mut state.cold {
        let _ = catch(|| cold.end_instance());
        failed = cold.failed.take();
        batch.extend(waiting);
        waiting = cold.take_stash().into_iter().map(Entry::User).collect();
        waiting.append(&mut batch);
        watchers = core::mem::take(&mut cold.watchers);
        for watched in cold.watching.drain() {
            watched.system(SystemMsg::Unwatch(me.to_any()));
        }
    }
    // Nearly always both are empty, and an empty queue takes time to drop as well.
    if batch.capacity() == 0 {
        core::mem::forget(batch);
    } else {
        lose(me, batch);
    }
    lose(me, waiting);
    if !system.is_empty() || !late.is_empty() {
        for message in system.chain(late) {
            match message {
                SystemMsg::Watch(watcher) if !watchers.contains(&watcher) => watchers.push(watcher),
                SystemMsg::Unwatch(watcher) => watchers.retain(|other| *other != watcher),
                SystemMsg::Watch(_)
                | SystemMsg::Stop
                | SystemMsg::ChildGone
                | SystemMsg::Escalated { .. }
                | SystemMsg::Restart { .. } => {}
            }
        }
    }
    // The name is free before anybody hears that it is.
    let nest = &here.nest;
    let uid = here.mailbox.uid();
    let last = nest.leave(here.name.as_ref(), uid);
    if !watchers.is_empty() {
        let reason = failed.map_or(TerminationReason::Stopped, TerminationReason::Failed);
        for watcher in watchers {
            watcher.0.terminated_notice(Who::Ref(me.to_any()), reason.clone());
        }
    }
    match &nest.parent {
        Some(parent) if last => parent.system(SystemMsg::ChildGone),
        Some(_) => {}
        None => nest.system.clone().guardian_terminated(&me.to_any()),
    }
}

/// Records what a stopped actor still held.
fn lose<M: Send + 'static>(me: &ActorRef<M>, entries: VecDeque<Entry<M>>) {
    for entry in entries {
        // A message's drop is user code, and so is an event's subscriber.
        let lost = catch(|| me.0.lost(entry, DeadLetterReason::Stopped));
        drop(lost);
    }
}

/// Lets every other ready task run once.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(move |cx| {
        if core::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Wakes the actor in a while, once: what a burst left behind must not stay until a message comes that may never
/// come.
async fn wake_to_rest<M: Send + 'static>(me: &ActorRef<M>, resting: &mut Option<Box<(Instant, Cancel)>>) {
    poll_fn(|cx| {
        let system = system_of(me);
        let now = system.now();
        if resting.as_ref().is_none_or(|resting| resting.0 <= now) {
            let (at, waker) = (now + REST_AFTER, cx.waker().clone());
            let cancel = system.scheduler().schedule_at(at, move || waker.wake());
            *resting = Some(Box::new((at, cancel)));
        }
        Poll::Ready(())
    })
    .await;
}

/// Suspends until the next wake-up; the mailbox holds the waker already.
async fn suspend_once() {
    let mut suspended = false;
    poll_fn(move |_| if core::mem::replace(&mut suspended, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor_ref::Cell;

    struct Empty;

    impl Actor for Empty {
        type Msg = u64;
        async fn receive(&mut self, _: u64, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }

    fn size_of_turn<F>(_: impl FnOnce(Core<Empty>) -> F) -> usize {
        size_of::<F>()
    }

    /// The promises about idle memory: a million actors must fit. The cell with its two counters stays within an
    /// allocator's 128-byte class, and what the idle task keeps beside it is small.
    #[test]
    fn an_idle_actor_is_small() {
        let counters = 2 * size_of::<usize>();
        for (name, size) in [
            ("u64", size_of::<Cell<u64>>()),
            ("unit", size_of::<Cell<()>>()),
            ("large", size_of::<Cell<[u64; 64]>>()),
        ] {
            assert!(size + counters <= 120, "{name}: a cell of {size} bytes and {counters} of counters");
        }
        let core = size_of::<Core<Empty>>();
        assert!(core <= 64, "the core of an empty actor has {core} bytes");
        let state = size_of::<State<Empty>>();
        assert!(state <= 2 * size_of::<usize>(), "the state has {state} bytes");
        let turn = size_of_turn(turn::<Empty>);
        assert!(turn <= 560, "a turn has {turn} bytes, filled at every wake-up");
    }
}
