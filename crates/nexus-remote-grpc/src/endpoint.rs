//! One address at run time: its state, its queue, and the route that actors send by.

pub(crate) mod backpressure_events;
pub mod pid_entry;
pub(crate) mod sender_route;
pub(crate) mod signs_of_life;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPath, ActorPathScheme, Address};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{Encode, Fate, PendingReply, ReplyKey, Route, Wire};
use nexus_actor_core::ring_queue::QueueError;
use nexus_actor_core::serialization::protobuf::{ProtobufValue, TypeName};
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{EncodeError, Encoder, SerializerId};
use nexus_actor_core::{
    ActorSystem, AnyRef, AskError, CorrelationId, DeadLetterReason, Headers, Instant, Refusal,
    TerminationReason,
};
use nexus_remote::{EndpointStatistics, EndpointStatisticsSnapshot};
use portable_atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

use crate::client_connection::ClientCalls;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::signs_of_life::{Found, SignOfLife, WatchTouch};
use crate::endpoint_state::{ConnectionState, DisconnectCause, EndpointAction, EndpointState};
use crate::endpoint_watcher::{EndpointWatcher, ToTell};
use crate::endpoint_writer;
use crate::endpoint_writer::outbound::OutboundControl;
use crate::endpoint_writer_mailbox::{
    Displaced, EndpointWriterMailbox, Mark, OutboundBatch, RefusedDeliver, RemoteDeliver, RemoteSystem,
    TerminatedWhy,
};
use crate::inbound::intake::Intake;
use crate::kinds::ACTIVATOR;
use crate::log::Source;
use crate::node::{self, Node};
use crate::pending_asks;
use crate::wire::batch::WireForm;
use crate::wire::proto::actor;

const POISON_PILL: TypeName = TypeName { package: "actor", name: "PoisonPill" };
/// Recipients of one peer that may have a number.
const RECIPIENTS_MAX: usize = 1 << 20;
/// A buffer for encoding larger than this is not kept by its thread.
const SCRATCH_KEPT: usize = 64 * 1024;

/// How the other side is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointKind {
    /// By a call that this node opens to its address.
    Dialled,
    /// By the call that it opened: it does not listen.
    Client,
}

/// What a message is for its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Message,
    /// The peer, or an actor there, has asked.
    Answer,
}

/// Who says how the address of a peer is spelled. Of two the later one is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spelled {
    /// Nobody: it is canonical.
    Nobody,
    /// Who reaches for it here.
    Dialled,
    /// Who called in its name.
    Called,
    /// The same with a certificate of that address.
    Proven,
}

/// Everything this node has to do with one address. Made at the first use, kept while somebody has a reference to an actor
/// there or the connection serves, and begun afresh by the next message after it ended.
pub struct Endpoint {
    me: Weak<Self>,
    node: Arc<Node>,
    kind: EndpointKind,
    address: Arc<str>,
    /// As it stands in what is written for the peer, and who says so.
    spelling: Lock<(Spelled, Arc<str>)>,
    path_address: Address,
    machine: Lock<Machine>,
    pub(crate) mailbox: EndpointWriterMailbox,
    statistics: Arc<EndpointStatistics>,
    /// What of it stands among the figures of those that have ended: it was forgotten, and may have come back.
    moved: Lock<EndpointStatisticsSnapshot>,
    recipients: Lock<Recipients>,
    pub(crate) watcher: EndpointWatcher,
    pub(crate) intake: Arc<Intake>,
    /// A task drives the state.
    pub(crate) driven: AtomicBool,
    pub(crate) wake: Notify,
    /// As the state says: nothing goes out from the moment it is suspended.
    suspended: AtomicBool,
    /// A message has waited since the state was last told.
    wanted: AtomicBool,
    /// Connections lost since it was made, and ends of a row of attempts without one.
    losses: AtomicU64,
    /// The connection that there was is lost, though the driver may not have ended it yet.
    is_lost: AtomicBool,
    /// Changes with every change of the state, for those who wait for one.
    pub(crate) changed: Notify,
    /// The peer is a node of ours.
    pub(crate) is_nexus: AtomicBool,
    forms: Lock<Forms>,
    /// For who waits to know the form.
    pub(crate) form_learned: Notify,
    /// Calls that the peer has open to us.
    pub(crate) inbound: AtomicU64,
    /// It has opened one before.
    has_called: AtomicBool,
    /// When it last shook hands by a call of its own and did not refuse this node: calls with lower numbers are older; 0 if never.
    welcomed: AtomicU64,
    /// The question whether the peer is there that was asked last.
    probe: Lock<Option<ReplyKey>>,
    /// The peer counts among those that have a call open here. Held by a call that comes to stay, and by one that leaves.
    has_calls: Lock<bool>,
    /// Claims of its address or id under way.
    pub(crate) questions: AtomicUsize,
    /// Endpoints that exist only because this peer named them.
    named: Arc<AtomicUsize>,
    /// It exists only because a peer named it.
    named_by: Lock<Option<NamedByPeer>>,
    /// For whom its lines in the log count: who caused it to be made.
    source: OnceLock<Source>,
    /// Somebody here has wanted it since it was made.
    is_claimed_here: AtomicBool,
    /// Of a client: the calls that it opened.
    pub(crate) client_calls: ClientCalls,
}

/// The state, and for each action that waits what it is about.
struct Machine {
    state: EndpointState,
    about: VecDeque<About>,
}

/// What an action of the state is about, as things stood when the state changed. The driver acts later, and what has come
/// meanwhile is none of it: by then another connection may serve, and be what it came for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// Of the mailbox: what waited then.
    pub(crate) mark: Mark,
    /// Who asked or watches before so many losses and ends.
    pub(crate) era: u64,
    /// Of the peer: what it said by calls below that number.
    pub(crate) before: u64,
}

impl About {
    /// Whatever comes: nothing begins after it.
    const ALL: Self = Self { mark: Mark::END, era: u64::MAX, before: u64::MAX };
}

/// The form of the wire that the peer writes.
#[derive(Default)]
struct Forms {
    /// As it showed by a call of ours, or under a certificate of its address.
    proven: Option<WireForm>,
    /// As somebody wrote last who called in its name.
    heard: Option<WireForm>,
    /// Both were written in its name: it has changed, or somebody else called.
    is_disputed: bool,
}

/// One of the endpoints that exist only because a peer named them: counted until it is dropped.
pub(crate) struct NamedByPeer(Arc<AtomicUsize>);

impl Drop for NamedByPeer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[derive(Default)]
struct Recipients {
    slots: Vec<Option<Arc<PidEntry>>>,
    free: Vec<u32>,
}

impl Endpoint {
    pub(crate) fn new(node: &Arc<Node>, address: &Arc<str>, kind: EndpointKind) -> Arc<Self> {
        let statistics = node.statistics_of(address);
        let path_address = Address {
            scheme: ActorPathScheme::Protoactor,
            system: Arc::from(""),
            authority: address.parse().ok(),
        };
        let settings = node.config.endpoint_state_config();
        let state = EndpointState::new(settings, statistics.clone(), node.random());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            node: node.clone(),
            kind,
            address: address.clone(),
            spelling: Lock::new((Spelled::Nobody, address.clone())),
            path_address,
            machine: Lock::new(Machine {
                state: match kind {
                    EndpointKind::Dialled => state,
                    EndpointKind::Client => state.never_dialled(),
                },
                about: VecDeque::new(),
            }),
            mailbox: EndpointWriterMailbox::new(node.config.mailbox_bounds(), statistics.clone())
                .with_budget(node.queue_budget.clone()),
            statistics,
            moved: Lock::default(),
            recipients: Lock::default(),
            watcher: EndpointWatcher::new(node.config.get_limits().watches),
            intake: Arc::new(Intake::new(node.config.get_limits(), me.clone())),
            driven: AtomicBool::new(false),
            wake: Notify::new(),
            suspended: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
            changed: Notify::new(),
            is_nexus: AtomicBool::new(false),
            forms: Lock::default(),
            form_learned: Notify::new(),
            inbound: AtomicU64::new(0),
            has_called: AtomicBool::new(false),
            welcomed: AtomicU64::new(0),
            probe: Lock::default(),
            has_calls: Lock::default(),
            questions: AtomicUsize::new(0),
            named: Arc::default(),
            named_by: Lock::default(),
            source: OnceLock::new(),
            is_claimed_here: AtomicBool::new(false),
            client_calls: ClientCalls::default(),
        })
    }

    /// `host:port`, or the name under which a client that only dialled out is reached.
    #[must_use]
    pub const fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The address as the peer spells it, where that is known: a Go node compares text, and passes on without end what
    /// names it otherwise.
    pub(crate) fn spelling(&self) -> Arc<str> {
        self.spelling.lock().1.clone()
    }

    /// Notes how the peer's address is spelled, if `who` says so is to be believed.
    pub(crate) fn spell(&self, address: &str, who: Spelled) {
        let address: Arc<str> = {
            let mut spelling = self.spelling.lock();
            let (by, now) = &*spelling;
            let is_believed = match who {
                Spelled::Nobody => false,
                Spelled::Dialled => *by == Spelled::Nobody && *address != *self.address,
                // While it has another call open, another one by the same word is not it.
                _ => who > *by || (who == *by && self.inbound.load(Ordering::Acquire) <= 1),
            };
            if !is_believed {
                return;
            }
            let is_same = *address == **now;
            let address = if is_same { now.clone() } else { Arc::from(address) };
            *spelling = (who, address.clone());
            if is_same {
                return;
            }
            address
        };
        // Whoever takes a number from here on reads the new one.
        for recipient in self.recipients.lock().slots.iter_mut().flatten() {
            *recipient = Arc::new(PidEntry::new(address.clone(), recipient.id.clone()));
        }
    }

    /// Whether `address` is this one, however it is spelled.
    pub(crate) fn is_at(&self, address: &str) -> bool {
        *address == *self.address
            || *address == *self.spelling.lock().1
            || self.path_address.authority.as_ref().is_some_and(|own| node::spells(address, own))
    }

    /// Notes the form that the peer writes. If that is proven, whoever waits to know it goes on.
    pub(crate) fn note_form(&self, form: WireForm, is_proven: bool) {
        let mut forms = self.forms.lock();
        if !is_proven {
            let before = forms.heard.replace(form);
            forms.is_disputed |= before.is_some_and(|before| before != form);
        } else if forms.proven.replace(form) != Some(form) {
            drop(forms);
            self.form_learned.notify_waiters();
        }
    }

    /// The form that the peer writes, as it has proved itself.
    pub(crate) fn proven_form(&self) -> Option<WireForm> {
        self.forms.lock().proven
    }

    /// The form that was last written in its name, and whether nobody wrote another one.
    pub(crate) fn heard_form(&self) -> Option<(WireForm, bool)> {
        let forms = self.forms.lock();
        Some((forms.heard?, !forms.is_disputed))
    }

    pub(crate) fn forget_form(&self) {
        *self.forms.lock() = Forms::default();
    }

    /// The endpoint by which an actor at `address` is reached that the peer named: this one, or a third node's. What came as
    /// from here goes back the way it came. Whoever has the address of a question may keep it for longer than this endpoint is
    /// kept: the one that took its place is the one with the connection.
    pub(crate) fn way_to(self: &Arc<Self>, address: &str) -> Result<Arc<Self>, Refusal> {
        if self.is_at(address) || self.node.is_own(address) {
            return self.node.in_place_of(self);
        }
        self.node.endpoint_named(address, self)
    }

    /// Counts one more endpoint that exists only because this peer named it, if there are fewer than `max`.
    pub(crate) fn name_another(&self, max: usize) -> Option<NamedByPeer> {
        let one_more = |count| (count < max).then_some(count + 1);
        self.named.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(NamedByPeer(self.named.clone()))
    }

    /// Notes who caused it to be made; who did so first counts.
    pub(crate) fn set_source(&self, source: Source) {
        let _ = self.source.set(source);
    }

    /// For whom its lines in the log count.
    pub(crate) fn source(&self) -> Source {
        self.source.get().cloned().unwrap_or_else(|| Source::Address(self.address.clone()))
    }

    pub(crate) fn set_named(&self, by: Option<NamedByPeer>) {
        *self.named_by.lock() = by;
    }

    /// Somebody else has a use for it than the peer that named it.
    pub(crate) fn claim(&self) {
        self.source.get_or_init(|| Source::Address(self.address.clone()));
        drop(self.named_by.lock().take());
    }

    /// The host of the peer that brought it up, unless somebody here reaches for it.
    pub(crate) fn brought_up_by(&self) -> Option<IpAddr> {
        match self.source() {
            Source::Host(host) if !self.is_reached_for() => Some(host),
            Source::Host(_) | Source::Address(_) | Source::Here => None,
        }
    }

    /// Somebody here wants it: from now on it does not wait among those that peers brought up.
    pub(crate) fn claim_here(&self) {
        if !self.is_claimed_here.swap(true, Ordering::AcqRel) {
            self.reached_for();
        }
    }

    /// A dial to it that waits among those that peers brought up does so no more.
    fn reached_for(&self) {
        if matches!(self.source.get(), None | Some(Source::Host(_))) {
            self.node.dials.reached_for(&self.address);
        }
    }

    /// Whether somebody here has wanted it, has a reference to an actor there, or watches one.
    fn is_reached_for(&self) -> bool {
        if self.is_claimed_here.load(Ordering::Acquire) {
            return true;
        }
        let recipients = self.recipients.lock();
        recipients.slots.len() > recipients.free.len() || !self.watcher.is_done()
    }

    /// Whether no more answers may wait for it: it exists because a peer named it, it is not connected, and as many wait as
    /// may of system messages. A whole queue for each such node would be far more than one peer may fill.
    pub(crate) fn is_for_few(&self) -> bool {
        if self.named_by.lock().is_none() || self.read(EndpointState::is_linked) {
            return false;
        }
        let (limits, queue) = (self.node.config.get_limits(), self.mailbox.state());
        queue.len >= limits.system_messages || queue.bytes >= limits.system_bytes
    }

    /// A call that is counted here has found its place: from the first one on the peer is one that has calls.
    pub(crate) fn stay_call(&self) {
        if !std::mem::replace(&mut *self.has_calls.lock(), true) {
            self.node.inbound_peers.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The peer has opened a call. By this one arrives what it answers; what it said by an earlier one may have been lost.
    pub(crate) fn call_begun(&self) {
        if self.read(EndpointState::is_waiting) {
            self.apply(EndpointState::handle_called);
        }
        if self.has_called.swap(true, Ordering::AcqRel) {
            self.tell_watches_again();
        }
    }

    /// The peer shakes hands by a call of its own and does not refuse this node. To be said before it is looked whether the
    /// endpoint is blocked: a refusal that comes at the same time is seen there, or sees this.
    pub(crate) fn welcome(&self) {
        self.welcomed.fetch_max(self.node.calls_begun(), Ordering::AcqRel);
    }

    /// The peer refused this node, by the call of that number. Where it has shaken hands by a call of its own since, the refusal
    /// is older than that and only came late: the peer is asked again at once. By a call that began later it is believed.
    pub(crate) fn refused(&self, state: &mut EndpointState, now: Instant, by: u64) {
        if by >= self.welcomed.load(Ordering::Acquire) {
            return state.handle_disconnected(now, DisconnectCause::Blocked);
        }
        let why = "it refused this node, and has called it since";
        state.handle_disconnected(now, DisconnectCause::Stream(Arc::from(why)));
        state.handle_called(now);
    }

    /// A call of the peer ended or another one began: a termination that it told may have been lost with the call, and
    /// nobody says it again. The peer is told again of everybody who is watched, and answers for those who are gone.
    pub(crate) fn tell_watches_again(&self) {
        // Of an end that is not carried out yet the books still have those who are about to be told of it.
        if !self.watcher.is_done() && !self.read(EndpointState::is_at_rest) {
            self.watcher.tell_again();
            self.want_if_waiting();
        }
    }

    /// One call of the peer less. Of the last one, the number below which are all that it had: a call that comes now has a
    /// higher one, for it is counted before it is numbered. Of a peer of which no call has found its place here there is none.
    pub(crate) fn leave_call(&self) -> Option<u64> {
        // One at a time: of two, the later number goes with the last count.
        let mut has_calls = self.has_calls.lock();
        let before = self.node.calls_begun();
        let is_last = self.inbound.fetch_sub(1, Ordering::AcqRel) == 1;
        if !is_last || !std::mem::replace(&mut *has_calls, false) {
            return None;
        }
        self.node.inbound_peers.fetch_sub(1, Ordering::AcqRel);
        Some(before)
    }

    /// The actor there that has this id.
    pub(crate) fn pid_at(&self, id: Arc<str>) -> Arc<PidEntry> {
        Arc::new(PidEntry::new(self.spelling(), id))
    }

    /// How it stands.
    #[must_use]
    pub fn connection_state(&self) -> ConnectionState {
        self.read(EndpointState::connection_state)
    }

    /// Its figures.
    #[must_use]
    pub const fn statistics(&self) -> &Arc<EndpointStatistics> {
        &self.statistics
    }

    /// Who here watches whom there.
    #[must_use]
    pub const fn watcher(&self) -> &EndpointWatcher {
        &self.watcher
    }

    pub(crate) const fn kind(&self) -> EndpointKind {
        self.kind
    }

    pub(crate) const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(crate) const fn path_address(&self) -> &Address {
        &self.path_address
    }

    pub(crate) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// How many connections have been lost, or given up before there was one: who asks or watches now means the process behind
    /// the next one. It changes under the lock of the state.
    pub(crate) fn era(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    pub(crate) fn count_loss(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
    }

    /// The next thing that the state wants done.
    pub(crate) fn take_action(&self) -> Option<(EndpointAction, About)> {
        let Machine { state, about } = &mut *self.machine.lock();
        state.poll_action().zip(about.pop_front())
    }

    /// Looks at the state without changing it.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&EndpointState) -> R) -> R {
        f(&self.machine.lock().state)
    }

    /// Changes the state, then has what comes of it done: the mailbox opens or closes, the driver wakes or begins.
    pub(crate) fn apply<R>(&self, f: impl FnOnce(&mut EndpointState, Instant) -> R) -> R {
        let now = self.node.system.now();
        let (result, wakes) = {
            let Machine { state, about } = &mut *self.machine.lock();
            let (was_linked, ends) = (state.is_linked(), state.ends());
            let result = f(state, now);
            let is_linked = state.is_linked();
            if was_linked && !is_linked {
                // Nothing is taken for it from here on: what comes is for the next one.
                self.is_lost.store(true, Ordering::Release);
            }
            if (was_linked && !is_linked) || state.ends() != ends {
                // Who asks or watches from here on means whoever comes next.
                self.count_loss();
            }
            if is_linked {
                self.is_lost.store(false, Ordering::Release);
            }
            if self.kind == EndpointKind::Client {
                self.client_calls.follow(state, self.era());
            }
            self.suspended.store(state.is_suspended(), Ordering::Release);
            if state.is_at_rest() {
                // Nobody is on the way: the next message is to be told of. Before the mark, or one behind it might not be.
                self.wanted.store(false, Ordering::Release);
            }
            // Under the lock, or a later state's answer might be overwritten by an earlier one's.
            let refusal = state.refusal();
            let is_closed = matches!(refusal, Some(Refusal::Shutdown));
            let (wakes, mark) = self.mailbox.set_refusal_and_mark(refusal);
            let now = About { mark, era: self.era(), before: self.node.calls_begun() };
            about.resize(state.actions(), if is_closed { About::ALL } else { now });
            (result, wakes)
        };
        drop(wakes);
        self.drive();
        result
    }

    /// Whether something waits that a connection takes, or may take yet.
    pub(crate) fn has_to_flush(&self) -> bool {
        !self.mailbox.is_empty()
            && matches!(self.connection_state(), ConnectionState::Connected | ConnectionState::Reconnecting)
    }

    /// Waits until that is not so. One task waits: the end of the node.
    pub(crate) async fn flushed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.has_to_flush() {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = poll_fn(|cx| self.mailbox.poll_empty(cx)) => {}
            }
        }
    }

    /// Sees to it that somebody takes the actions of the state.
    pub(crate) fn drive(&self) {
        self.changed.notify_waiters();
        if !self.driven.swap(true, Ordering::AcqRel)
            && let Some(me) = self.arc()
        {
            // An answer may be for a peer that was forgotten since it asked.
            let stray = self.node.keep_driven(&me);
            self.node.spawn(async move {
                endpoint_writer::run(me).await;
                drop(stray);
            });
        }
        self.wake.notify_one();
    }

    /// The driver has nothing to do: it ends, unless something came in between. True when it may.
    pub(crate) fn rest(&self) -> bool {
        let is_needed = |state: &EndpointState| {
            state.has_action()
                || state.poll_timeout().is_some()
                || state.connection_state() != ConnectionState::Closed
        };
        if self.read(is_needed) {
            return false;
        }
        self.driven.store(false, Ordering::Release);
        // Who changed the state before the store saw a driver.
        !self.read(is_needed) || self.driven.swap(true, Ordering::AcqRel)
    }

    /// A message waits: the state hears of it once.
    #[inline]
    fn want(&self) {
        // Read first: senders that all write would take the line from each other.
        if !self.wanted.load(Ordering::Acquire) && !self.wanted.swap(true, Ordering::AcqRel) {
            self.apply(EndpointState::ensure_connected);
        }
    }

    /// After an end: what was queued meanwhile begins anew.
    pub(crate) fn want_if_waiting(&self) {
        if !self.mailbox.is_empty() || self.watcher.has_to_tell() {
            self.want();
        }
    }

    /// Its figures can be asked for, until it ends. Not those of one that has another in its place.
    pub(crate) fn show_statistics(&self) {
        if !self.node.has_another(self) {
            self.node.statistics.entry(self.address.to_string()).or_insert_with(|| self.statistics.clone());
        }
    }

    /// They cannot be asked for any more; those that another endpoint shows by its address can.
    pub(crate) fn hide_statistics(&self) {
        let is_own = |_: &String, shown: &Arc<EndpointStatistics>| Arc::ptr_eq(shown, &self.statistics);
        drop(self.node.statistics.remove_if(&*self.address, is_own));
    }

    /// What it has counted and does not stand among the figures of those that have ended.
    pub(crate) fn unmoved_figures(&self) -> EndpointStatisticsSnapshot {
        let moved = self.moved.lock();
        self.statistics.snapshot().since(&moved)
    }

    /// The same, which stands there from now on.
    pub(crate) fn move_figures(&self) -> EndpointStatisticsSnapshot {
        let mut moved = self.moved.lock();
        let now = self.statistics.snapshot();
        now.since(&std::mem::replace(&mut moved, now))
    }

    /// Something came from the peer.
    pub(crate) fn heard(&self) {
        let now = self.node.system.now();
        self.machine.lock().state.handle_received(now);
    }

    /// As [`try_deliver`](Self::try_deliver), for a message that is offered once: one that is refused is counted.
    pub(crate) fn deliver(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.try_deliver(target, target_request_id, headers, encode)
            .inspect_err(|_| self.given_up(Fate::Unsent))
    }

    /// Queues one message. `encode` runs at most once, on this thread, without a lock.
    pub(crate) fn try_deliver(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.queue(Purpose::Message, target, target_request_id, headers, encode)
    }

    /// The same for an answer to who has asked. While its own connection stands it is there and waits, so the answer does as
    /// well, until the connection to it is made again or its address is given up.
    pub(crate) fn try_answer(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        self.queue(Purpose::Answer, target, target_request_id, None, encode)
    }

    fn queue(
        &self,
        purpose: Purpose,
        target: Arc<PidEntry>,
        target_request_id: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<(), Refusal> {
        if let Some(headers) = headers {
            self.node.check_headers(headers)?;
        }
        with_scratch(|scratch| {
            let limit = self.node.payload_max();
            let mut encoder = Encoder::new(scratch, limit);
            let (encoded, lifted) = scope::encode(|| encode(&mut encoder))?;
            let named = encoder.type_name();
            match encoded {
                Ok(()) => {}
                Err(EncodeError::TooLarge { limit }) => {
                    return Err(Refusal::TooLarge { size: limit.saturating_add(1), limit });
                }
                Err(EncodeError::Failed(why)) => {
                    self.encode_failed(&target, &why);
                    return Err(Refusal::Encode(why));
                }
                Err(error) => return Err(Refusal::Encode(error.to_string())),
            }
            let Some(type_name) = named else {
                return Err(Refusal::Encode(String::from("the message has no protobuf type")));
            };
            self.node.check_type(&self.address, type_name)?;
            let mut deliver = RemoteDeliver::new(target, type_name);
            deliver.target_request_id = target_request_id;
            deliver.header =
                headers.filter(|headers| !headers.is_empty()).map(|headers| Box::new(headers.clone()));
            let mut passed_on = None;
            let asked = match lifted {
                None => None,
                Some(LiftedReply::Pending(reply)) => {
                    let key = self
                        .node
                        .asks
                        .insert(reply.clone(), &self.address, self.era())
                        .ok_or(Refusal::Limit("asks pending on this node"))?;
                    deliver.sender =
                        Some(Arc::new(PidEntry::new(self.node.address.clone(), pending_asks::id_of(key))));
                    if let Some(me) = self.arc() {
                        reply.pending_at(Some((me, key)));
                    }
                    Some((reply, key))
                }
                Some(LiftedReply::Foreign(foreign)) => {
                    let pid = foreign.to.route.sender_pid().ok_or_else(|| {
                        Refusal::Encode(String::from(
                            "whoever waits for this reply has no address on this wire",
                        ))
                    })?;
                    deliver.sender = Some(Arc::new(PidEntry::from(&pid)));
                    deliver.sender_request_id = pid.request_id;
                    passed_on = Some(foreign);
                    None
                }
            };
            let offered = self.offer(purpose, deliver, scratch);
            if let Some(foreign) = passed_on
                && offered.is_ok()
            {
                foreign.passed_on();
            }
            if offered.is_err()
                && let Some((reply, key)) = asked
            {
                self.node.asks.take(key);
                reply.pending_at(None);
            }
            offered
        })
    }

    /// The same for an answer of the runtimes themselves, which goes among the user messages.
    pub(crate) fn answer_proto<T: ProtobufValue>(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        message: &T,
    ) -> Result<(), Refusal> {
        self.try_answer(target, target_request_id, &mut |encoder| encoder.protobuf(message))
            .inspect_err(|_| self.given_up(Fate::Unsent))
    }

    /// Queues a message of the runtimes themselves that goes among the user messages.
    pub(crate) fn deliver_proto<T: ProtobufValue>(
        &self,
        target: Arc<PidEntry>,
        target_request_id: u32,
        message: &T,
    ) -> Result<(), Refusal> {
        self.deliver(target, target_request_id, None, &mut |encoder| encoder.protobuf(message))
    }

    fn offer(&self, purpose: Purpose, deliver: RemoteDeliver, payload: &[u8]) -> Result<(), Refusal> {
        if self.kind == EndpointKind::Client
            && self.read(EndpointState::connection_state) == ConnectionState::Closed
        {
            return Err(Refusal::Unreachable);
        }
        let offered = match purpose {
            Purpose::Answer if self.inbound.load(Ordering::Acquire) > 0 => {
                self.mailbox.offer_answer(deliver, payload)
            }
            Purpose::Answer | Purpose::Message => self.mailbox.offer(deliver, payload),
        };
        match offered {
            Ok(displaced) => {
                self.dead_displaced(displaced);
                self.want();
                Ok(())
            }
            Err(QueueError::OfferError(RefusedDeliver { refusal, .. })) => Err(refusal),
            Err(_) => Err(Refusal::Shutdown),
        }
    }

    /// Whether the peer's own connection stands while the one to it is made again: who has asked by that one waits for its
    /// answer, until the row is over.
    pub(crate) fn are_answers_awaited(&self) -> bool {
        self.kind == EndpointKind::Dialled
            && self.inbound.load(Ordering::Acquire) > 0
            && !self.read(EndpointState::is_at_rest)
    }

    /// Puts an answer that a broken connection left back into the queue.
    pub(crate) fn keep_answer(&self, deliver: RemoteDeliver, payload: &[u8]) {
        let displaced = match self.mailbox.offer_answer(deliver, payload) {
            Ok(displaced) => displaced,
            Err(error) => {
                let RefusedDeliver { deliver, refusal } = error.into_inner();
                return self.dead(&deliver, payload.len(), refusal.reason(), "the connection is lost");
            }
        };
        self.dead_displaced(displaced);
    }

    fn dead_displaced(&self, displaced: Displaced) {
        for (deliver, payload) in displaced {
            let detail = "a newer message took its place";
            self.dead(&deliver, payload.len(), DeadLetterReason::QueueFull, detail);
        }
    }

    /// Queues what the runtimes say to each other. Refused only when very much of it waits already.
    pub(crate) fn offer_system(&self, message: RemoteSystem) {
        if self.read(EndpointState::is_blocked) {
            return self.dead_system(&message, DeadLetterReason::Blocked);
        }
        if self.kind == EndpointKind::Client
            && self.read(EndpointState::connection_state) == ConnectionState::Closed
        {
            return self.dead_system(&message, DeadLetterReason::Unreachable);
        }
        match self.mailbox.offer_system(message) {
            Ok(()) => self.want(),
            Err(error) => self.dead_system(&error.into_inner(), DeadLetterReason::QueueFull),
        }
    }

    /// Tells a watcher at the peer that an actor here, which it called `id`, has terminated.
    pub(crate) fn send_terminated(
        &self,
        watcher: &Arc<PidEntry>,
        id: &Arc<str>,
        why: actor::TerminatedReason,
    ) {
        let why = match why {
            actor::TerminatedReason::Stopped => TerminatedWhy::Stopped,
            actor::TerminatedReason::AddressTerminated => TerminatedWhy::AddressTerminated,
            actor::TerminatedReason::NotFound => TerminatedWhy::NotFound,
        };
        let who = Arc::new(PidEntry::new(self.node.address.clone(), id.clone()));
        let notice = RemoteSystem::Terminated { watcher: watcher.clone(), who, why };
        // The watch may be older than the endpoint that is there now.
        match self.arc().map(|me| self.node.in_place_of(&me)) {
            Some(Ok(way)) => way.offer_system(notice),
            _ => self.dead_system(&notice, DeadLetterReason::Shutdown),
        }
    }

    /// Asks the peer whether `id` lives; `answer` is told.
    pub(crate) fn touch(&self, id: &Arc<str>, answer: Arc<dyn PendingReply>) {
        if let Some(touch) = self.new_touch(id, answer) {
            self.offer_system(touch);
        }
    }

    /// Takes back what the runtimes have to say to the peer, which a connection had in hand when it broke: the next one says
    /// it, ahead of what is younger. Returns what nobody will say: the peer is given up, or is a client, which asks anew
    /// itself.
    pub(crate) fn take_back(&self, messages: Vec<RemoteSystem>) -> Vec<RemoteSystem> {
        if self.kind == EndpointKind::Client {
            return messages;
        }
        // Under the lock of the state: what ends the row from here on finds them in the mailbox.
        self.read(|state| if state.is_at_rest() { messages } else { self.mailbox.put_back(messages) })
    }

    /// The question whether `id` lives, of which `answer` is told; `None` when there is no room for one more.
    fn new_touch(&self, id: &Arc<str>, answer: Arc<dyn PendingReply>) -> Option<RemoteSystem> {
        let Some(key) = self.node.asks.insert_touch(answer.clone(), &self.address, self.era()) else {
            answer.fail(AskError::Full);
            return None;
        };
        if let Some(me) = self.arc() {
            // Whoever waits no longer frees its place.
            answer.pending_at(Some((me, key)));
        }
        Some(self.touch_of(id.clone(), key))
    }

    fn touch_of(&self, id: Arc<str>, key: ReplyKey) -> RemoteSystem {
        let sender = Arc::new(PidEntry::new(self.node.address.clone(), pending_asks::id_of(key)));
        RemoteSystem::Touch { target: self.pid_at(id), sender }
    }

    /// Asks the peer whether it is there. The answer to an earlier question of that kind is not waited for any more: that it
    /// came is seen by its coming.
    pub(crate) fn probe(&self) {
        let Some(me) = self.arc() else { return };
        let answer = Arc::new(SignOfLife(move || me.heard()));
        let key = {
            let mut probe = self.probe.lock();
            *probe = self.node.asks.insert_probe(answer, &self.address, self.era(), *probe);
            *probe
        };
        if let Some(key) = key {
            self.offer_system(self.touch_of(Arc::from(ACTIVATOR), key));
        }
    }

    /// Whether the call that sends by `control` is the one that takes what waits. Asked under the lock of what it takes from:
    /// what is queued after the node was suspended, say, is not taken by who looked before.
    pub(crate) fn is_served_by(&self, control: &Arc<OutboundControl>) -> bool {
        !control.is_closed()
            && !self.is_suspended()
            && match self.kind {
                EndpointKind::Dialled => !self.is_lost.load(Ordering::Acquire),
                EndpointKind::Client => self.client_calls.is_served_by(control),
            }
    }

    /// Puts what the peer is to be told of watches into `batch`, about `max` messages of it, and returns how many; nothing
    /// when `control` is of a call that serves no more.
    pub(crate) fn take_watches(
        &self,
        cx: &Context<'_>,
        max: usize,
        control: &Arc<OutboundControl>,
        batch: &mut OutboundBatch,
    ) -> usize {
        // A node of one generation does not answer the watch of an actor that is not there; a touch it answers.
        let touches = if self.is_nexus.load(Ordering::Acquire) { None } else { self.arc() };
        let max = if touches.is_some() { max / 2 } else { max };
        let mut told = Vec::new();
        let may_take = || self.is_served_by(control);
        // Read first: if by then the call serves, it is no older than that.
        self.watcher.take(cx, max.max(1), self.era(), may_take, &mut told);
        let before = batch.len();
        for told in told {
            let watcher = self.node.watcher_pid.clone();
            match told {
                ToTell::Unwatch(id) => {
                    batch.push_system(RemoteSystem::Unwatch { target: self.pid_at(id), watcher });
                }
                ToTell::Watch(id) => {
                    batch.push_system(RemoteSystem::Watch { target: self.pid_at(id.clone()), watcher });
                    if let Some(me) = &touches {
                        // However often it is told, one question of each waits.
                        let before = self.watcher.swap_touch(&id, None);
                        drop(before.and_then(|before| self.node.asks.take(before)));
                        let answer = Arc::new(WatchTouch { endpoint: me.clone(), id: id.clone() });
                        if let Some(key) = self.node.asks.insert_touch(answer, &self.address, self.era()) {
                            self.watcher.swap_touch(&id, Some(key));
                            batch.push_system(self.touch_of(id, key));
                        }
                    }
                }
            }
        }
        batch.len() - before
    }

    /// Whether who is watched there will not be heard of.
    fn cannot_watch(&self) -> bool {
        self.node.is_closing()
            || self.read(|state| {
                let is_gone =
                    self.kind == EndpointKind::Client && state.connection_state() == ConnectionState::Closed;
                state.is_blocked() || is_gone
            })
    }

    /// The question of this node that `deliver` is, if it is one.
    pub(crate) fn question_of(&self, deliver: &RemoteDeliver) -> Option<ReplyKey> {
        let sender = deliver.sender.as_ref()?;
        self.own_key(&sender.address, &sender.id)
    }

    /// The key of the asker of this node whose id at `address` that is.
    fn own_key(&self, address: &str, id: &str) -> Option<ReplyKey> {
        pending_asks::key_of(id).filter(|_| *address == *self.node.address)
    }

    /// Records a message toward the peer that will not arrive, and tells whoever waits for its answer.
    pub(crate) fn dead(&self, deliver: &RemoteDeliver, size: usize, reason: DeadLetterReason, detail: &str) {
        self.statistics.increment_dead_letter();
        if let Some(sender) = &deliver.sender {
            self.fail_asker(&sender.address, &sender.id, reason);
        }
        self.node.system.dead_letters().record_with(reason, || {
            let info = MessageInfo::encoded(deliver.type_name.to_string(), size);
            let letter = DeadLetter::of(info, reason)
                .with_pid(Pid::new(deliver.target.address.clone(), deliver.target.id.clone()))
                .with_peer(self.path_address.clone())
                .with_correlation_id(deliver.correlation_id)
                .with_detail(detail);
            let letter = match &deliver.header {
                Some(headers) => letter.with_headers((**headers).clone()),
                None => letter,
            };
            match &deliver.sender {
                Some(sender) => letter.with_sender(Pid::new(sender.address.clone(), sender.id.clone())),
                None => letter,
            }
        });
    }

    /// Tells whoever sent a message as `id` at `address` that it will not arrive, if that is somebody here who asked.
    pub(crate) fn fail_asker(&self, address: &str, id: &str, reason: DeadLetterReason) {
        if let Some(ask) = self.own_key(address, id).and_then(|key| self.node.asks.take(key)) {
            ask.fail(AskError::from_reason(reason));
        }
    }

    /// Records what the runtimes had to say and the peer will not hear. A watch is answered as a termination instead.
    pub(crate) fn dead_system(&self, message: &RemoteSystem, reason: DeadLetterReason) {
        match message {
            RemoteSystem::Watch { target, .. } => {
                self.watcher.terminated(&target.id, &TerminationReason::Unreachable);
            }
            RemoteSystem::Touch { sender, .. } => self.fail_asker(&sender.address, &sender.id, reason),
            RemoteSystem::Terminated { watcher, .. } if reason == DeadLetterReason::QueueFull => {
                // Its node lives, and waits for it.
                self.record_system("actor.Terminated", watcher, reason);
            }
            // Nobody waits for it: a watch that is over, or a watcher whose node is gone.
            RemoteSystem::Unwatch { .. } | RemoteSystem::Terminated { .. } => {}
            RemoteSystem::Stop { target } => self.record_system("actor.Stop", target, reason),
        }
    }

    fn record_system(&self, type_name: &'static str, target: &PidEntry, reason: DeadLetterReason) {
        self.statistics.increment_dead_letter();
        self.node.system.dead_letters().record(
            DeadLetter::of(MessageInfo::encoded(type_name, 0), reason)
                .with_pid(Pid::new(target.address.clone(), target.id.clone()))
                .with_peer(self.path_address.clone()),
        );
    }

    fn encode_failed(&self, target: &PidEntry, why: &str) {
        self.node.system.event_stream().publish_with(|| {
            EventStreamEvent::Serialization(SerializationFailure {
                direction: SerializationDirection::Encode,
                serializer: SerializerId::PROTOBUF,
                correlation_id: CorrelationId::NIL,
                recipient: Pid::new(target.address.clone(), target.id.clone())
                    .to_path(ActorPathScheme::Protoactor, "")
                    .ok(),
                manifest: Cow::Borrowed(""),
                error: Arc::from(why),
            })
        });
    }

    fn number_of(&self, recipient: Arc<PidEntry>) -> Result<u32, Refusal> {
        let mut recipients = self.recipients.lock();
        if let Some(number) = recipients.free.pop() {
            recipients.slots[number as usize] = Some(recipient);
            return Ok(number);
        }
        if recipients.slots.len() >= RECIPIENTS_MAX {
            return Err(Refusal::Limit("recipients at this peer"));
        }
        recipients.slots.push(Some(recipient));
        Ok((recipients.slots.len() - 1) as u32)
    }

    /// Whether nobody has a use for it: no reference, no watch, no connection either way, and nothing
    /// of the peer that still waits in mailboxes.
    pub(crate) fn is_idle(&self) -> bool {
        let recipients = self.recipients.lock();
        recipients.slots.len() == recipients.free.len()
            && self.watcher.is_done()
            && self.inbound.load(Ordering::Acquire) == 0
            && self.intake.is_empty()
            && !self.driven.load(Ordering::Acquire)
            && self.mailbox.is_empty()
    }
}

impl Drop for Endpoint {
    /// What it has counted since it was forgotten. Nobody drops the last reference with the lock of the figures that have
    /// ended, or one of the table.
    fn drop(&mut self) {
        self.node.move_figures(self);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("kind", &self.kind)
            .field("state", &self.connection_state())
            .finish_non_exhaustive()
    }
}

/// Lends this thread's buffer, empty.
fn with_scratch<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Taken out while it is lent: `f` runs user code.
    let mut buffer = SCRATCH.try_with(RefCell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= SCRATCH_KEPT {
        let _ = SCRATCH.try_with(|scratch| *scratch.borrow_mut() = buffer);
    }
    result
}

/// The id of the actor at `path` on this wire.
pub(crate) fn id_of(path: &ActorPath) -> Arc<str> {
    Pid::from_path(path).id
}

impl Route for Endpoint {
    fn address(&self) -> &Address {
        &self.path_address
    }

    fn wire(&self) -> Wire {
        Wire::Protobuf
    }

    fn system(&self) -> Option<ActorSystem> {
        Some(self.node.system.clone())
    }

    fn intern(&self, path: &ActorPath, _: SerializerId, _: &'static str) -> Result<u32, Refusal> {
        if self.read(EndpointState::is_blocked) {
            return Err(Refusal::Blocked);
        }
        let id = id_of(path);
        self.node.check_target(&id)?;
        // It may have been forgotten since it was looked up.
        self.node.keep(self);
        let number = self.number_of(self.pid_at(id))?;
        // Not for good: of a peer that was named it is no more than the reference to who has sent something.
        self.reached_for();
        Ok(number)
    }

    fn release(&self, recipient: u32) {
        let is_last = {
            let mut recipients = self.recipients.lock();
            let Some(slot) = recipients.slots.get_mut(recipient as usize) else { return };
            if slot.take().is_none() {
                return;
            }
            recipients.free.push(recipient);
            recipients.free.len() == recipients.slots.len()
        };
        if is_last {
            self.node.forget_if_idle(self);
        }
    }

    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        let target = {
            let recipients = self.recipients.lock();
            let Some(Some(recipient)) = recipients.slots.get(recipient as usize) else {
                return Err(Refusal::NoSuchActor);
            };
            recipient.clone()
        };
        self.try_deliver(target, 0, headers, encode)
    }

    fn given_up(&self, fate: Fate) {
        self.statistics.add_send_failures(1);
        if fate == Fate::DeadLetter {
            self.statistics.increment_dead_letter();
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.poll_room(cx)
    }

    fn poll_pace(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.poll_pace(cx)
    }

    fn forget_room(&self, waker: &Waker) {
        self.mailbox.forget_room(waker);
    }

    fn reply(&self, _: ReplyKey, _: CorrelationId, _: Encode<'_>) -> Result<(), Refusal> {
        // Whoever asks on this wire has a pid, and so a route of its own.
        Err(Refusal::NoSuchActor)
    }

    fn reply_failed(&self, _: ReplyKey, _: CorrelationId, _: AskError) {}

    fn absence(&self) -> Option<AskError> {
        match self.connection_state() {
            ConnectionState::Connected => None,
            ConnectionState::Suspended => Some(AskError::Suspended),
            ConnectionState::Reconnecting | ConnectionState::Closed => Some(AskError::Unreachable),
        }
    }

    fn forget(&self, key: ReplyKey) {
        self.node.asks.take(key);
    }

    fn watch(&self, target: &ActorPath, watcher: AnyRef) {
        let id = id_of(target);
        if self.cannot_watch() {
            return watcher.notify_terminated(target, TerminationReason::Unreachable);
        }
        if self.watcher.watch(&id, target, watcher, self.era()) {
            self.claim_here();
            self.want();
            // What ends the endpoint from here on finds the watch in the books; what did so before may have missed it.
            if self.cannot_watch() {
                self.watcher.terminated(&id, &TerminationReason::Unreachable);
            }
        }
    }

    fn unwatch(&self, target: &ActorPath, watcher: &AnyRef) {
        self.watcher.unwatch(&id_of(target), watcher);
    }

    fn stop(&self, target: &ActorPath) {
        self.claim_here();
        self.offer_system(RemoteSystem::Stop { target: self.pid_at(id_of(target)) });
    }

    fn stop_in_order(&self, target: &ActorPath) {
        let target = self.pid_at(id_of(target));
        if let Err(refusal) = self.deliver_proto(target.clone(), 0, &actor::PoisonPill {}) {
            let deliver = RemoteDeliver::new(target, POISON_PILL);
            self.dead(&deliver, 0, refusal.reason(), &refusal.to_string());
        }
    }

    fn lookup(&self, path: &ActorPath, _: &'static str, found: Arc<dyn PendingReply>) {
        self.claim_here();
        self.touch(&id_of(path), Arc::new(Found(found)));
    }
}
