//! From batches to mailboxes: everything that peers send passes here, by whichever call.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{ReplyKey, ReplyTo, Route};
use nexus_actor_core::serialization::protobuf::Named;
use nexus_actor_core::serialization::scope::{self, DecodeScope};
use nexus_actor_core::serialization::{Aftermath, Inlet, SerializerId};
use nexus_actor_core::{AnyRef, AskError, DeadLetterReason, Instant};
use prost::Message as _;

use crate::endpoint::Endpoint;
use crate::endpoint::pid_entry::PidEntry;
use crate::endpoint::sender_route::SenderRoute;
use crate::endpoint_watcher::reason_of;
use crate::inbound::peer_watcher::PeerWatch;
use crate::kinds::{ACTIVATOR, ActivatorMessage, OwnerRequest, SpawnRequest, Spawned};
use crate::log;
use crate::node::{Node, route_of};
use crate::pending_asks::{self, FUTURE};
use crate::status::ResponseStatusCode;
use crate::wire::batch::{Batch, Envelope, EnvelopeFault};
use crate::wire::proto::actor;
use crate::wire::proto::remote::{ActorPidRequest, ActorPidResponse};

/// Actors that a call remembers; one more makes it forget all, and look them up again.
const KNOWN_MAX: usize = 16_384;

/// What a payload is for the runtimes; all but `User` they take themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Watch,
    Unwatch,
    Terminated,
    Stop,
    PoisonPill,
    Touch,
    /// It is delivered like a user message, and never answered: that would not end.
    Response,
    Spawn,
}

impl Kind {
    fn of(type_name: &str) -> Self {
        match type_name {
            "actor.Watch" => Self::Watch,
            "actor.Unwatch" => Self::Unwatch,
            "actor.Terminated" => Self::Terminated,
            "actor.Stop" => Self::Stop,
            "actor.PoisonPill" => Self::PoisonPill,
            "actor.Touch" => Self::Touch,
            "actor.Touched" | "actor.DeadLetterResponse" => Self::Response,
            "remote.ActorPidRequest" => Self::Spawn,
            _ => Self::User,
        }
    }

    /// Whether it is taken while the node is suspended: who watches whom, and who lives, would else be wrong for good.
    const fn is_of_books(self) -> bool {
        matches!(self, Self::Watch | Self::Unwatch | Self::Terminated | Self::Touch)
    }
}

/// Whom a target of the batch at hand means.
#[derive(Clone, Copy)]
enum Slot {
    NotAsked,
    /// An actor, by its place among those known.
    Actor(usize),
    Asker(ReplyKey),
    Activator,
    Nobody,
}

struct Known {
    actor: AnyRef,
    inlet: Option<Box<dyn Inlet>>,
    dirty: bool,
    /// Messages and their bytes that were put into its mailbox and are not counted yet.
    uncounted: (usize, usize),
}

/// Delivers what one peer sends down one call.
pub(crate) struct Inbound {
    node: Arc<Node>,
    endpoint: Arc<Endpoint>,
    route: Arc<dyn Route>,
    /// The peer has shown a certificate.
    is_authenticated: bool,
    /// It comes down a call that this node opened.
    is_dialled: bool,
    /// Its number, which goes with the watches that come by it.
    call: u64,
    may_spawn: bool,
    by_id: HashMap<Box<str>, usize>,
    known: Vec<Known>,
    dirty: Vec<usize>,
    after: Aftermath,
    /// The tables of the batch at hand.
    slots: Vec<Slot>,
    kinds: Vec<Kind>,
    senders: Vec<Option<Arc<PidEntry>>>,
    taken: u64,
    /// What is not counted yet, over all actors.
    uncounted: (usize, usize),
    /// Messages of the runtimes in the batch at hand.
    system: u32,
    /// User messages are refused: more wait in mailboxes than may.
    overfull: bool,
    /// When the next batch may be read, where that is not now.
    pause_until: Option<Instant>,
}

impl Drop for Inbound {
    /// What the peer has waiting here outlives its call.
    fn drop(&mut self) {
        self.count_all();
        if self.is_dialled {
            self.endpoint.intake.forget(self.call);
        }
    }
}

impl Inbound {
    pub(crate) fn new(node: &Arc<Node>, endpoint: &Arc<Endpoint>, is_authenticated: bool) -> Self {
        Self {
            node: node.clone(),
            endpoint: endpoint.clone(),
            route: route_of(endpoint),
            is_authenticated,
            is_dialled: false,
            call: node.next_call(),
            may_spawn: node.config.may_spawn(endpoint.address()),
            by_id: HashMap::new(),
            known: Vec::new(),
            dirty: Vec::new(),
            after: Aftermath::new(),
            slots: Vec::new(),
            kinds: Vec::new(),
            senders: Vec::new(),
            taken: 0,
            uncounted: (0, 0),
            system: 0,
            overfull: false,
            pause_until: None,
        }
    }

    /// For a call that this node opened.
    pub(crate) const fn dialled(mut self) -> Self {
        self.is_dialled = true;
        self
    }

    /// The number of the call, by which its driver waits for room as long as this is there.
    pub(crate) const fn call(&self) -> u64 {
        self.call
    }

    /// When the next batch may be read, where that is not now; once.
    pub(crate) const fn take_pause(&mut self) -> Option<Instant> {
        self.pause_until.take()
    }

    /// Messages taken so far, whatever became of them.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Delivers a batch: what is wrong with one message costs that message.
    pub(crate) fn batch(&mut self, batch: &Batch) {
        if let Some(form) = batch.form() {
            self.endpoint.note_form(form, self.is_authenticated || self.is_dialled);
        }
        self.prepare(batch);
        let system = self.node.system.clone();
        self.system = 0;
        self.overfull = self.endpoint.intake.is_overfull();
        let count = batch.len() as u64;
        // Before anybody can have an answer that is not counted.
        self.endpoint.statistics().add_received(count);
        {
            let _scope = DecodeScope::enter(&system, Some(self.route.clone()));
            let suspended = self.node.is_suspended();
            for item in batch.envelopes() {
                match item {
                    Ok(envelope) if suspended => self.suspended(&envelope),
                    Ok(envelope) => self.envelope(&envelope),
                    Err(fault) => self.faulty(batch, &fault),
                }
            }
            self.flush();
        }
        self.after.run();
        self.taken += count;
        if self.system > 0 {
            self.pause_until = self.endpoint.intake.took_system(self.system, system.now());
        }
        let (messages, bytes) = self.uncounted;
        if self.endpoint.intake.is_much(messages, bytes) {
            self.count_all();
        }
        if self.known.len() > KNOWN_MAX {
            self.forget_known();
        }
    }

    /// Empty tables for `batch`.
    fn prepare(&mut self, batch: &Batch) {
        self.slots.clear();
        self.slots.resize(batch.target_count(), Slot::NotAsked);
        self.senders.clear();
        self.senders.resize(batch.sender_count(), None);
        self.kinds.clear();
        self.kinds
            .extend((0..batch.type_name_count()).map(|at| batch.type_name(at).map_or(Kind::User, Kind::of)));
    }

    /// Records a batch that came by a way that none goes. Nothing of it is taken, and who asks by it is told.
    pub(crate) fn astray(&mut self, batch: &Batch, way: &str) {
        self.prepare(batch);
        self.endpoint.statistics().add_received(batch.len() as u64);
        for item in batch.envelopes() {
            match item {
                Ok(envelope) => {
                    // What the runtimes say is no question: to one of theirs, that nobody lives there is an answer.
                    let kind = if self.kind(&envelope) == Kind::User { Kind::User } else { Kind::Response };
                    self.refuse(&envelope, kind, DeadLetterReason::Denied, way);
                }
                Err(fault) => self.faulty(batch, &fault),
            }
        }
    }

    fn count_all(&mut self) {
        for at in 0..self.known.len() {
            self.count(at);
        }
        self.uncounted = (0, 0);
    }

    /// Forgets whom it knows. What they were sent waits all the same, so it is counted first.
    fn forget_known(&mut self) {
        self.count_all();
        self.known.clear();
        self.by_id.clear();
    }

    /// Gives back what a burst took; for a call that has gone quiet.
    pub(crate) fn release(&mut self) {
        self.after.release();
        for inlet in self.known.iter_mut().filter_map(|known| known.inlet.as_mut()) {
            if inlet.is_large() {
                inlet.shrink();
            }
        }
        if self.known.iter().any(|known| known.actor.is_terminated()) {
            // Places are numbers, so all go. Who lives is found again.
            self.forget_known();
        }
    }

    fn flush(&mut self) {
        for at in std::mem::take(&mut self.dirty) {
            self.flush_one(at);
        }
    }

    fn flush_one(&mut self, at: usize) {
        let Some(known) = self.known.get_mut(at) else { return };
        known.dirty = false;
        if let Some(inlet) = &mut known.inlet {
            inlet.flush(&mut self.after);
        }
        let (messages, bytes) = known.uncounted;
        if self.endpoint.intake.is_chunk(messages, bytes) {
            self.count(at);
        }
    }

    /// Notes that something of the peer is in the mailbox of an actor, to be counted when there is some of it.
    fn put(&mut self, at: usize, bytes: usize) {
        let of_actor = &mut self.known[at].uncounted;
        *of_actor = (of_actor.0 + 1, of_actor.1 + bytes);
        self.uncounted = (self.uncounted.0 + 1, self.uncounted.1 + bytes);
    }

    /// Counts what one actor was sent, until it has worked it off.
    fn count(&mut self, at: usize) {
        let (messages, bytes) = std::mem::take(&mut self.known[at].uncounted);
        if messages > 0 {
            self.uncounted.0 = self.uncounted.0.saturating_sub(messages);
            self.uncounted.1 = self.uncounted.1.saturating_sub(bytes);
            let waiting = self.endpoint.intake.put(messages, bytes);
            // Dropped unrun where the messages went to no mailbox either. One that is bounded, and full, needs no other bound.
            self.known[at].actor.call_in_order(Box::new(move || drop(waiting)));
        }
    }

    fn slot(&mut self, envelope: &Envelope<'_>) -> Slot {
        let at = envelope.target_index;
        if let Some(Slot::NotAsked) = self.slots.get(at) {
            self.slots[at] = self.look_up(envelope.target.id);
        }
        match self.slots.get(at) {
            Some(slot) => *slot,
            None => Slot::Nobody,
        }
    }

    fn look_up(&mut self, id: &str) -> Slot {
        if id.starts_with(FUTURE)
            && let Some(key) = pending_asks::key_of(id)
        {
            return Slot::Asker(key);
        }
        if id == ACTIVATOR {
            return Slot::Activator;
        }
        if let Some(at) = self.by_id.get(id).copied() {
            if !self.known[at].actor.is_terminated() {
                return Slot::Actor(at);
            }
            // The name may have a new owner. What was decoded for the old one is flushed to it all the same.
            self.by_id.remove(id);
        }
        let Some(actor) = self.node.find(id) else { return Slot::Nobody };
        self.known.push(Known { actor, inlet: None, dirty: false, uncounted: (0, 0) });
        let at = self.known.len() - 1;
        self.by_id.insert(Box::from(id), at);
        Slot::Actor(at)
    }

    fn kind(&self, envelope: &Envelope<'_>) -> Kind {
        if envelope.serializer == 0 {
            self.kinds.get(envelope.type_index).copied().unwrap_or(Kind::User)
        } else {
            // Not even a system message is one when it is written otherwise.
            Kind::User
        }
    }

    fn envelope(&mut self, envelope: &Envelope<'_>) {
        let kind = self.kind(envelope);
        let slot = self.slot(envelope);
        if !matches!(kind, Kind::User | Kind::Response) {
            self.system += 1;
        }
        match kind {
            Kind::User | Kind::Response => self.user(envelope, slot, kind),
            Kind::Touch => self.touch(envelope, slot),
            Kind::Watch => self.watch(envelope, slot),
            Kind::Unwatch => self.unwatch(envelope),
            Kind::Terminated => self.terminated(envelope),
            Kind::Stop | Kind::PoisonPill => self.lifecycle(envelope, slot, kind),
            Kind::Spawn => self.spawn(envelope, slot),
        }
    }

    fn user(&mut self, envelope: &Envelope<'_>, slot: Slot, kind: Kind) {
        let Ok(serializer) = u16::try_from(envelope.serializer) else {
            let detail = format!("serializer {}", envelope.serializer);
            return self.refuse(envelope, kind, DeadLetterReason::Decode, &detail);
        };
        let named = Named {
            type_name: envelope.type_name,
            serializer: SerializerId(serializer),
            payload: envelope.payload,
            has_sender: envelope.sender.is_some(),
        };
        match slot {
            Slot::Actor(_) if self.overfull => {
                let detail = "too much of this peer waits in mailboxes";
                self.refuse(envelope, kind, DeadLetterReason::MailboxFull, detail);
            }
            Slot::Actor(at) => self.deliver(at, &named, envelope, kind),
            Slot::Asker(key) => self.answer(key, &named, envelope),
            Slot::Activator | Slot::Nobody | Slot::NotAsked => {
                self.refuse(envelope, kind, DeadLetterReason::NoSuchActor, envelope.type_name);
            }
        }
    }

    fn deliver(&mut self, at: usize, named: &Named<'_>, envelope: &Envelope<'_>, kind: Kind) {
        if self.known[at].inlet.is_none() {
            match self.node.system.serialization().protobuf_inlet(&self.known[at].actor, &self.route) {
                Ok(inlet) => self.known[at].inlet = Some(inlet),
                Err(error) => {
                    return self.refuse(envelope, kind, DeadLetterReason::Decode, &error.to_string());
                }
            }
        }
        if named.has_sender && kind == Kind::User {
            let to = self.reply_to(envelope);
            scope::set_reply_to(to);
        }
        let headers = envelope.header.map(|header| header.to_headers());
        let known = &mut self.known[at];
        let Some(inlet) = &mut known.inlet else { return };
        let decoded = inlet.decode_named(named, headers);
        if named.has_sender {
            // Whoever asks an actor that does not answer waits in vain, as on any node of this lineage.
            drop(scope::take_reply_to());
        }
        match decoded {
            Ok(()) => {
                if !known.dirty {
                    known.dirty = true;
                    self.dirty.push(at);
                }
                self.put(at, size_of(envelope));
            }
            Err(_) if kind == Kind::Response => {}
            // The inlet has told the asker.
            Err(error) => self.lost(envelope, DeadLetterReason::Decode, &error.to_string()),
        }
    }

    fn answer(&mut self, key: ReplyKey, named: &Named<'_>, envelope: &Envelope<'_>) {
        let Some(ask) = self.node.asks.take(key) else {
            return self.lost(
                envelope,
                DeadLetterReason::NoSuchActor,
                "nobody waits for this answer any more",
            );
        };
        if named.type_name == "actor.DeadLetterResponse" {
            return ask.fail(AskError::NoSuchActor);
        }
        if let Err(error) = ask.complete_named(named) {
            self.lost(envelope, DeadLetterReason::Decode, &error.to_string());
        }
    }

    fn touch(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        let Some(asker) = self.asker(envelope) else { return };
        let who = actor::Pid {
            address: self.node.address.to_string(),
            id: envelope.target.id.to_owned(),
            request_id: 0,
        };
        let mut answer = Touched { asker, who: Some(who), actor: None };
        match slot {
            Slot::Activator => answer.lives(),
            // It may live, so nothing is said.
            Slot::Actor(_) if self.overfull => {
                answer.withdraw();
                let detail = "too much of this peer waits in mailboxes";
                self.lost(envelope, DeadLetterReason::MailboxFull, detail);
            }
            Slot::Actor(at) => {
                self.flush_one(at);
                let actor = self.known[at].actor.clone();
                answer.actor = Some(actor.clone());
                if actor.call_in_order(Box::new(move || answer.lives())) {
                    self.put(at, envelope.target.id.len() + size_of(envelope));
                }
            }
            // Dropped, it says so.
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => drop(answer),
        }
    }

    fn watch(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        let Ok(actor::Watch { watcher: Some(watcher) }) = actor::Watch::decode(envelope.payload) else {
            return self.lost(envelope, DeadLetterReason::Decode, "a watch without a watcher");
        };
        if !self.is_within(&watcher) {
            return self.lost(envelope, DeadLetterReason::Limit, "the watcher's pid is too long");
        }
        let Some(watcher) = self.own_pid(watcher) else {
            return self.lost(envelope, DeadLetterReason::Denied, "the watcher is of another node");
        };
        let id: Arc<str> = Arc::from(envelope.target.id);
        match slot {
            Slot::Actor(at) => {
                self.flush_one(at);
                let actor = self.known[at].actor.clone();
                let endpoint = self.endpoint.clone();
                if self.node.watcher_is_full() {
                    return endpoint.send_terminated(&watcher, &id, actor::TerminatedReason::NotFound);
                }
                self.node.tell_watcher(PeerWatch::Watch { actor, id, watcher, endpoint, call: self.call });
            }
            // It lives as long as this node.
            Slot::Activator => {}
            // Its end, if it had one just now, is for the daemon to tell: this peer may have watched it by an earlier call.
            Slot::Nobody if !self.node.watcher_is_full() => {
                let endpoint = self.endpoint.clone();
                self.node.tell_watcher(PeerWatch::Missing { id, watcher, endpoint, call: self.call });
            }
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => {
                self.endpoint.send_terminated(&watcher, &id, actor::TerminatedReason::NotFound);
            }
        }
    }

    fn unwatch(&mut self, envelope: &Envelope<'_>) {
        let Ok(actor::Unwatch { watcher: Some(watcher) }) = actor::Unwatch::decode(envelope.payload) else {
            return self.lost(envelope, DeadLetterReason::Decode, "an unwatch without a watcher");
        };
        if !self.is_within(&watcher) {
            return self.lost(envelope, DeadLetterReason::Limit, "the watcher's pid is too long");
        }
        if let Some(watcher) = self.own_pid(watcher) {
            self.node.tell_watcher(PeerWatch::Unwatch {
                id: Arc::from(envelope.target.id),
                watcher,
                address: self.endpoint.address().clone(),
            });
        }
    }

    fn terminated(&mut self, envelope: &Envelope<'_>) {
        let Ok(actor::Terminated { who: Some(who), why }) = actor::Terminated::decode(envelope.payload)
        else {
            return self.lost(envelope, DeadLetterReason::Decode, "a termination of nobody");
        };
        let Some(who) = self.own_pid(who) else {
            return self.lost(envelope, DeadLetterReason::Denied, "the terminated actor is of another node");
        };
        // One that nobody watches, or not any more, crossed the unwatch or was never asked for.
        self.flush();
        self.endpoint.watcher().terminated(&who.id, &reason_of(why));
    }

    fn lifecycle(&mut self, envelope: &Envelope<'_>, slot: Slot, kind: Kind) {
        let at = match slot {
            Slot::Actor(at) => at,
            Slot::Activator => return self.lost(envelope, DeadLetterReason::Denied, envelope.type_name),
            Slot::Asker(_) | Slot::Nobody | Slot::NotAsked => {
                return self.refuse(
                    envelope,
                    Kind::Response,
                    DeadLetterReason::NoSuchActor,
                    envelope.type_name,
                );
            }
        };
        self.flush_one(at);
        let actor = self.known[at].actor.clone();
        let carry_out = move |actor: &AnyRef| {
            if kind == Kind::Stop { actor.stop() } else { actor.stop_in_order() }
        };
        if self.node.config.get_peer_lifecycle() {
            // A pill waits as what was sent before it does.
            self.put(at, 0);
            return carry_out(&actor);
        }
        let denied = self.letter(
            envelope,
            DeadLetterReason::Denied,
            "the peer may not stop actors here; `Config::protoactor_parity()` would let it",
        );
        let activator = self.node.activator.get().filter(|_| self.is_authenticated);
        let Some(activator) = activator else {
            return self.node.system.dead_letters().record(denied);
        };
        if activator.mailbox_len() >= self.node.config.get_endpoint_manager_queue_size() {
            let detail = "too many commands of peers wait";
            return self.lost(envelope, DeadLetterReason::MailboxFull, detail);
        }
        // Of what it spawned itself a peer that has shown who it is may dispose.
        let node = self.node.clone();
        let stopped = actor.clone();
        activator.tell(ActivatorMessage::Owner(OwnerRequest {
            actor,
            peer: self.endpoint.address().clone(),
            owned: Box::new(move |owned| {
                if owned {
                    return carry_out(&stopped);
                }
                node.system.dead_letters().record(denied);
            }),
        }));
    }

    fn spawn(&mut self, envelope: &Envelope<'_>, slot: Slot) {
        if !matches!(slot, Slot::Activator) {
            return self.user(envelope, slot, Kind::User);
        }
        let Ok(ActorPidRequest { name, kind }) = ActorPidRequest::decode(envelope.payload) else {
            return self.refuse(
                envelope,
                Kind::User,
                DeadLetterReason::Decode,
                "a spawn request that cannot be read",
            );
        };
        let Some(activator) = self.node.activator.get().cloned() else { return };
        let is_short = name.len() <= self.node.limits.id_bytes && kind.len() <= self.node.limits.name_bytes;
        if !is_short {
            self.lost(envelope, DeadLetterReason::Limit, "the name or the kind to spawn is too long");
        } else if !self.may_spawn {
            self.lost(
                envelope,
                DeadLetterReason::Denied,
                "the peer may spawn nothing here: `with_spawn_denied`",
            );
        }
        let asker = self.asker(envelope);
        let node = self.node.clone();
        let answer = move |Spawned { status, actor }: Spawned| {
            let Some(asker) = asker else { return };
            let pid = actor.map(|actor| {
                let Pid { address, id, .. } = node.pid_of(&actor);
                actor::Pid { address: address.to_string(), id: id.to_string(), request_id: 0 }
            });
            asker.tell(&ActorPidResponse { pid, status_code: status.code() });
        };
        if !is_short || !self.may_spawn {
            return answer(Spawned { status: ResponseStatusCode::Error, actor: None });
        }
        if activator.mailbox_len() >= self.node.config.get_endpoint_manager_queue_size() {
            return answer(Spawned { status: ResponseStatusCode::Unavailable, actor: None });
        }
        let peer = self.endpoint.address().clone();
        activator.tell(ActivatorMessage::Spawn(SpawnRequest { kind, name, peer, answer: Box::new(answer) }));
    }

    /// Whether a pid that stands in a payload is no longer than those that stand beside it (limit L11): a watch is kept.
    fn is_within(&self, pid: &actor::Pid) -> bool {
        pid.id.len() <= self.node.limits.id_bytes && pid.address.len() <= self.node.limits.address_bytes
    }

    /// A pid that the peer named, if it is one of its own: a peer speaks for itself only (threat T21).
    fn own_pid(&self, pid: actor::Pid) -> Option<Arc<PidEntry>> {
        if pid.address.is_empty() {
            return Some(Arc::new(PidEntry::new(self.endpoint.spelling(), pid.id)));
        }
        // As it is spelled: so the peer knows its own again.
        self.endpoint.is_at(&pid.address).then(|| Arc::new(PidEntry::new(pid.address, pid.id)))
    }

    /// Who sent the message, with its address filled in where it left it out, and its request id.
    fn sender(&mut self, envelope: &Envelope<'_>) -> Option<(Arc<PidEntry>, u32)> {
        let (at, sender) = (envelope.sender_index?, envelope.sender?);
        let entry = self.senders.get_mut(at)?.get_or_insert_with(|| {
            let own = self.endpoint.spelling();
            let is_own = sender.address.is_empty() || *sender.address == *own;
            let address = if is_own { own } else { Arc::from(sender.address) };
            Arc::new(PidEntry::new(address, sender.id))
        });
        Some((entry.clone(), envelope.sender_request_id))
    }

    /// The way back to who sent the message. That to a third node is looked for when there is an answer: a peer may name any
    /// number of them.
    fn asker(&mut self, envelope: &Envelope<'_>) -> Option<SenderRoute> {
        let (pid, request_id) = self.sender(envelope)?;
        let answer_refused = AtomicBool::new(false);
        Some(SenderRoute { endpoint: self.endpoint.clone(), pid, request_id, answer_refused })
    }

    fn reply_to(&mut self, envelope: &Envelope<'_>) -> Option<ReplyTo> {
        Some(self.asker(envelope)?.into_reply_to())
    }

    fn suspended(&mut self, envelope: &Envelope<'_>) {
        let kind = self.kind(envelope);
        // What the runtime there says to one who asks, about a watch perhaps, is not said again.
        let is_answer = kind == Kind::Response && matches!(self.slot(envelope), Slot::Asker(_));
        if kind.is_of_books() || is_answer {
            return self.envelope(envelope);
        }
        self.refuse(envelope, kind, DeadLetterReason::Suspended, "this node is suspended");
    }

    fn faulty(&mut self, batch: &Batch, fault: &EnvelopeFault) {
        log::unexpected(&self.endpoint.source(), self.endpoint.address(), "a faulty envelope");
        let name = fault.type_index.and_then(|at| batch.type_name(at)).unwrap_or("unknown").to_owned();
        let letter = DeadLetter::of(MessageInfo::encoded(name, 0), DeadLetterReason::Decode)
            .with_peer(self.endpoint.path_address().clone())
            .with_detail(fault.to_string());
        let letter = match fault.target_index.and_then(|at| batch.target(at)) {
            Some(target) => letter.with_pid(Pid::new(self.node.address.clone(), target.id)),
            None => letter,
        };
        self.node.system.dead_letters().record(letter);
    }

    /// Records a message that is not delivered and tells its sender, if it is one that may be told.
    fn refuse(&mut self, envelope: &Envelope<'_>, kind: Kind, reason: DeadLetterReason, detail: &str) {
        self.lost(envelope, reason, detail);
        if kind == Kind::Response {
            return;
        }
        if let Some(asker) = self.asker(envelope) {
            let target = actor::Pid {
                address: self.node.address.to_string(),
                id: envelope.target.id.to_owned(),
                request_id: 0,
            };
            asker.tell(&actor::DeadLetterResponse { target: Some(target) });
        }
    }

    /// Counts for the process only: the peer's own count is of what goes to it.
    fn lost(&mut self, envelope: &Envelope<'_>, reason: DeadLetterReason, detail: &str) {
        let letter = self.letter(envelope, reason, detail);
        self.node.system.dead_letters().record(letter);
    }

    fn letter(&self, envelope: &Envelope<'_>, reason: DeadLetterReason, detail: &str) -> DeadLetter {
        let info = MessageInfo::encoded(envelope.type_name.to_owned(), envelope.payload.len());
        let letter = DeadLetter::of(info, reason)
            .with_pid(Pid::new(self.node.address.clone(), envelope.target.id))
            .with_peer(self.endpoint.path_address().clone())
            .with_detail(detail);
        let letter = match envelope.header {
            Some(header) => letter.with_headers(header.to_headers()),
            None => letter,
        };
        match envelope.sender {
            Some(sender) if sender.address.is_empty() => {
                letter.with_sender(Pid::new(self.endpoint.address().clone(), sender.id))
            }
            Some(sender) => letter.with_sender(Pid::new(sender.address, sender.id)),
            None => letter,
        }
    }
}

/// Bytes of what waits with a message: its headers and the way back to whoever sent it may be more than its payload.
fn size_of(envelope: &Envelope<'_>) -> usize {
    let header = envelope.header.map_or(0, |header| header.size());
    let sender = envelope.sender.map_or(0, |sender| sender.address.len() + sender.id.len());
    envelope.payload.len() + header + sender
}

/// The answer to a touch: that the actor lives, or, when it is dropped instead because there is none or it has ended, that it
/// does not.
struct Touched {
    asker: SenderRoute,
    who: Option<actor::Pid>,
    actor: Option<AnyRef>,
}

impl Touched {
    /// Says nothing.
    fn withdraw(mut self) {
        self.who = None;
    }

    fn lives(mut self) {
        let who = self.who.take();
        self.asker.tell(&actor::Touched { who });
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        let Some(who) = self.who.take() else { return };
        if self.actor.as_ref().is_some_and(|actor| !actor.is_terminated()) {
            // Its mailbox was full, or it was given up there for a newer message.
            self.asker.tell(&actor::Touched { who: Some(who) });
        } else {
            self.asker.tell(&actor::DeadLetterResponse { target: Some(who) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{self, Waker};

    use nexus_actor_core::path::ActorPathScheme;
    use nexus_actor_core::pid::Pid;
    use prost::Message as _;

    use super::Inbound;
    use crate::config::Limits;
    use crate::endpoint::Endpoint;
    use crate::endpoint::pid_entry::PidEntry;
    use crate::endpoint::signs_of_life::WatchTouch;
    use crate::endpoint_writer_mailbox::{OutboundBatch, RemoteSystem, TerminatedWhy};
    use crate::inbound::peer_watcher::PeerWatch;
    use crate::remote::tests::support::{Echo, system};
    use crate::wire::batch::{Batch, BatchLimits, Incoming, decode};
    use crate::wire::proto::actor;
    use crate::wire::proto::remote::remote_message::MessageType;
    use crate::wire::proto::remote::{MessageBatch, MessageEnvelope, MessageHeader, RemoteMessage};
    use crate::{Config, ConfigOption, Remote, pending_asks};
    use nexus_actor_core::{Actor, ActorError, ActorSystem, Context, DeadLetterReason, MailboxConfig, Props};

    /// Takes what it is sent.
    struct Idle;

    impl Actor for Idle {
        type Msg = u8;
        async fn receive(&mut self, _: u8, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }

    /// So many messages of one type without payload from the peer's actor `asker` for the actor `id`.
    fn batch(type_name: &str, id: &str, count: usize) -> Batch {
        let pid = |id: &str| actor::Pid { id: id.into(), ..actor::Pid::default() };
        let batch = MessageBatch {
            type_names: vec![type_name.into()],
            targets: vec![pid(id)],
            senders: vec![pid("asker")],
            envelopes: vec![MessageEnvelope { sender: 1, ..MessageEnvelope::default() }; count],
        };
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
        match decode(message.encode_to_vec().into(), &BatchLimits::default()) {
            Ok(Incoming::Batch(batch)) => batch,
            other => panic!("no batch: {other:?}"),
        }
    }

    /// The types of the user messages that wait for the peer; they wait no more.
    fn said(endpoint: &Endpoint) -> Vec<String> {
        let mut batch = OutboundBatch::new();
        endpoint.mailbox.poll_user_mailbox(10, &mut batch);
        std::iter::from_fn(|| batch.pop_user()).map(|deliver| deliver.type_name.to_string()).collect()
    }

    /// A touch finds no room in the mailbox, or is given up there for a message: the actor lives all the same.
    #[tokio::test]
    async fn an_actor_whose_mailbox_is_full_lives() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let mut inbound = Inbound::new(node, &endpoint, false);
        let one = MailboxConfig::bounded(1);
        let spawn = |name, mailbox| {
            system.spawn(name, Props::from_fn(|| Idle).with_mailbox(mailbox)).expect("a free name")
        };
        // The runtime has one thread, so no actor takes anything before this awaits.
        for (name, mailbox) in [("refuses", one), ("drops", one.drop_oldest())] {
            let full = spawn(name, mailbox);
            full.tell(1);
            inbound.batch(&batch("actor.Touch", name, 1));
            assert_eq!(said(&endpoint), ["actor.Touched"], "{name}");
            assert_eq!(full.mailbox_len(), 1, "{name}");
        }
        let overtaken = spawn("overtaken", one.drop_oldest());
        inbound.batch(&batch("actor.Touch", "overtaken", 1));
        assert!(said(&endpoint).is_empty(), "it is asked in its turn");
        overtaken.tell(1);
        assert_eq!(said(&endpoint), ["actor.Touched"]);
        let stopped = spawn("stopped", one);
        inbound.batch(&batch("actor.Touch", "stopped", 1));
        stopped.stop();
        stopped.stopped().await;
        assert_eq!(said(&endpoint), ["actor.DeadLetterResponse"]);
        assert_eq!(system.dead_letters().count(DeadLetterReason::MailboxFull), 0);
        remote.shutdown(false).await;
    }

    /// What peers ask the activator waits within its bound, whoever asks and whatever it is.
    #[tokio::test]
    async fn stops_of_a_peer_wait_within_the_bound_of_commands() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let config = Config::new("127.0.0.1", 0).with([
            ConfigOption::with_endpoint_manager_batch_size(1),
            ConfigOption::with_endpoint_manager_queue_size(2),
        ]);
        let remote = Remote::start(&system, config).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let mut inbound = Inbound::new(node, &endpoint, true);
        let idle = system.spawn("idle", Props::from_fn(|| Idle)).expect("a free name");
        inbound.batch(&batch("actor.Stop", "idle", 5));
        assert_eq!(node.activator.get().expect("started").mailbox_len(), 2);
        assert_eq!(system.dead_letters().count(DeadLetterReason::MailboxFull), 3);
        assert!(!idle.is_terminated());
        remote.shutdown(false).await;
    }

    /// A call that this node opened, and that waits for room, leaves nothing that would wake its driver.
    #[tokio::test]
    async fn a_dialled_call_that_ends_leaves_no_waker() {
        struct Quiet;
        impl task::Wake for Quiet {
            fn wake(self: Arc<Self>) {}
        }
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start_client(&system, Config::default()).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let crowd = endpoint.intake.put(node.config.get_limits().mailbox_messages, 0);
        let quiet = Arc::new(Quiet);
        let waker = Waker::from(quiet.clone());
        let inbound = Inbound::new(node, &endpoint, false).dialled();
        for _ in 0..2 {
            let cx = task::Context::from_waker(&waker);
            assert!(endpoint.intake.poll_room_of(inbound.call(), &cx).is_pending());
        }
        drop((inbound, waker));
        assert_eq!(Arc::strong_count(&quiet), 1);
        drop(crowd);
        remote.shutdown(false).await;
    }

    /// One state, whichever handle is asked, and what arrives meanwhile is refused as it says.
    ///
    /// Covers: TST-26, SUS-01, API-17
    #[tokio::test]
    async fn get_suspend_reflects_shared_state() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let other = remote.clone();
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let mut inbound = Inbound::new(node, &endpoint, false);
        let batch = MessageBatch {
            type_names: vec!["google.protobuf.StringValue".into()],
            targets: vec![actor::Pid {
                address: remote.address().into(),
                id: "nobody".into(),
                request_id: 0,
            }],
            senders: Vec::new(),
            envelopes: vec![MessageEnvelope::default()],
        };
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
        let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
        else {
            panic!("a batch")
        };
        let lost = |reason| system.dead_letters().count(reason);
        for (turn, suspended) in [(0, false), (1, true), (2, false)] {
            if suspended {
                other.suspend();
            } else {
                other.resume();
            }
            assert_eq!((remote.get_suspend(), node.is_suspended()), (suspended, suspended), "turn {turn}");
            let before = lost(DeadLetterReason::Suspended);
            inbound.batch(&batch);
            assert_eq!(lost(DeadLetterReason::Suspended) - before, u64::from(suspended), "turn {turn}");
        }
        assert_eq!(lost(DeadLetterReason::NoSuchActor), 2);
        remote.shutdown(false).await;
    }

    struct EchoTaker;

    impl Actor for EchoTaker {
        type Msg = Echo;
        async fn receive(&mut self, _: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
            Ok(())
        }
    }

    /// What waits in a mailbox is more than payloads: a peer that sends hardly any of these with large headers, or from senders
    /// with long names, is not read for that either.
    ///
    /// Covers: L30
    #[tokio::test]
    async fn headers_and_senders_of_what_waits_are_counted() {
        let mut limits = Limits::new();
        limits.mailbox_bytes = 64 * 1024;
        let config = Config::new("127.0.0.1", 0).with([ConfigOption::with_limits(limits)]);
        for (header, sender, is_much) in [(0, 0, false), (500, 0, true), (0, 500, true)] {
            let system = system("node");
            let remote = Remote::start(&system, config.clone()).await.expect("a node");
            system.spawn("idle", Props::from_fn(|| EchoTaker)).expect("a free name");
            let node = remote.node_for_tests();
            let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
            let mut inbound = Inbound::new(node, &endpoint, false);
            let pid = |id: String| actor::Pid { address: String::new(), id, request_id: 0 };
            let header_data = [("name".to_owned(), "v".repeat(header))].into();
            let envelope = MessageEnvelope {
                sender: i32::from(sender > 0),
                message_header: (header > 0).then_some(MessageHeader { header_data }),
                ..MessageEnvelope::default()
            };
            let batch = MessageBatch {
                type_names: vec!["google.protobuf.StringValue".into()],
                targets: vec![pid("idle".into())],
                senders: vec![pid("s".repeat(sender))],
                envelopes: vec![envelope; 200],
            };
            let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
            let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
            else {
                panic!("a batch")
            };
            // It does not run before this waits.
            inbound.batch(&batch);
            let cx = task::Context::from_waker(Waker::noop());
            assert_eq!(endpoint.intake.poll_room_of(0, &cx).is_pending(), is_much, "{header} {sender}");
            remote.shutdown(false).await;
        }
    }

    /// A peer that watches again, by a new call, an actor that has just ended hears of that end, and not that there never was
    /// such an actor.
    #[tokio::test]
    async fn who_ended_just_now_is_not_said_never_to_have_been() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let one_by_one = ConfigOption::with_endpoint_manager_batch_size(1);
        let config = Config::new("127.0.0.1", 0).with([one_by_one]);
        let remote = Remote::start(&system, config).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let actor = system.spawn("watched", Props::from_fn(|| Idle)).expect("a free name").to_any();
        let pid =
            |address: &str, id: &str| actor::Pid { address: address.into(), id: id.into(), request_id: 0 };
        // Each by a call of its own.
        let watch = |id: &str| {
            let watch = actor::Watch { watcher: Some(pid("", "watcher")) };
            let batch = MessageBatch {
                type_names: vec!["actor.Watch".into()],
                targets: vec![pid(remote.address(), id)],
                senders: Vec::new(),
                envelopes: vec![MessageEnvelope {
                    message_data: watch.encode_to_vec(),
                    ..MessageEnvelope::default()
                }],
            };
            let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
            let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
            else {
                panic!("a batch")
            };
            Inbound::new(node, &endpoint, false).batch(&batch);
        };
        watch("watched");
        while remote.peer_watches() == 0 {
            tokio::task::yield_now().await;
        }
        // The daemon has much else to do before it hears of the end.
        for number in 0..1_000 {
            let id = Arc::from(number.to_string());
            let watcher = Arc::new(PidEntry::new("127.0.0.1:1", "watcher"));
            node.tell_watcher(PeerWatch::Unwatch { id, watcher, address: endpoint.address().clone() });
        }
        actor.stop();
        actor.stopped().await;
        watch("watched");
        watch("nobody");
        assert_eq!(remote.peer_watches(), 1, "the daemon has not heard of the end");
        let mut told = Vec::new();
        while told.len() < 3 {
            for message in endpoint.mailbox.drain_system() {
                let RemoteSystem::Terminated { who, why, .. } = message else { panic!("{message:?}") };
                told.push((who.id.to_string(), why));
            }
            tokio::task::yield_now().await;
        }
        // What comes second about an actor is about one that the peer does not watch any more.
        let why = |id: &str| told.iter().find(|(who, _)| who == id).map(|(_, why)| *why);
        assert_eq!(why("watched"), Some(TerminatedWhy::Stopped), "{told:?}");
        assert_eq!(why("nobody"), Some(TerminatedWhy::NotFound), "{told:?}");
        remote.shutdown(false).await;
    }

    /// That a watched actor never existed is said once, perhaps while this node is suspended: its watcher would wait for
    /// good. A response to anybody else is recorded, and as ever not answered.
    #[tokio::test]
    async fn a_suspended_node_hears_who_lives_and_answers_no_response() {
        let system = ActorSystem::builder("node").build().expect("a system");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let node = remote.node_for_tests();
        let endpoint = node.endpoint("127.0.0.1:1").expect("an address");
        let mut inbound = Inbound::new(node, &endpoint, false);
        remote.suspend();
        let id: Arc<str> = Arc::from("missing");
        let there = Pid::new(endpoint.address().clone(), id.clone());
        let path = there.to_path(ActorPathScheme::Protoactor, "").expect("a path");
        let watcher = node.activator.get().expect("started").to_any();
        assert!(endpoint.watcher().watch(&id, &path, watcher, endpoint.era()));
        let touch = Arc::new(WatchTouch { endpoint: endpoint.clone(), id });
        let key = node.asks.insert_touch(touch, endpoint.address(), endpoint.era()).expect("room");
        let pid =
            |address: &str, id: &str| actor::Pid { address: address.into(), id: id.into(), request_id: 0 };
        let envelope = |target| MessageEnvelope { target, sender: 1, ..MessageEnvelope::default() };
        let batch = MessageBatch {
            type_names: vec!["actor.DeadLetterResponse".into()],
            targets: vec![
                pid(remote.address(), &pending_asks::id_of(key)),
                pid(remote.address(), "somebody"),
            ],
            senders: vec![pid(endpoint.address(), "sender")],
            envelopes: vec![envelope(0), envelope(1)],
        };
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(batch)) };
        let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default())
        else {
            panic!("a batch")
        };
        inbound.batch(&batch);
        assert!(endpoint.watcher().is_empty(), "the watcher knows");
        assert_eq!(remote.pending_asks(), 0);
        assert_eq!(system.dead_letters().count(DeadLetterReason::Suspended), 1);
        assert!(endpoint.mailbox.is_empty(), "an answer to a response waits");
        remote.shutdown(false).await;
    }
}
