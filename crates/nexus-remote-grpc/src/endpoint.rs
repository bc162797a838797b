//! One address at run time: its state, its queue, and who of the node reaches it.

pub(crate) mod backpressure_events;
pub mod pid_entry;
mod route;
pub(crate) mod sender_route;
mod sending;
pub(crate) mod signs_of_life;

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPath, ActorPathScheme, Address};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::{Instant, Refusal};
use nexus_remote::{EndpointStatistics, EndpointStatisticsSnapshot};
use portable_atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

use crate::client_connection::ClientCalls;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint_state::{ConnectionState, DisconnectCause, EndpointAction, EndpointState};
use crate::endpoint_watcher::EndpointWatcher;
use crate::endpoint_writer;
use crate::endpoint_writer_mailbox::{EndpointWriterMailbox, Mark};
use crate::inbound::intake::Intake;
use crate::log::Source;
use crate::node::{self, Node};
use crate::wire::batch::WireForm;

/// Recipients of one peer that may have a number.
const RECIPIENTS_MAX: usize = 1 << 20;

/// How the other side is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointKind {
    /// By a call that this node opens to its address.
    Dialled,
    /// By the call that it opened: it does not listen.
    Client,
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

/// The id of the actor at `path` on this wire.
pub(crate) fn id_of(path: &ActorPath) -> Arc<str> {
    Pid::from_path(path).id
}
