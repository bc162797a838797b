//! From a connection's bytes to actors' mailboxes.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use nexus_actor_core::dead_letter::{DeadLetter, MessageInfo};
use nexus_actor_core::event_stream::{EventStreamEvent, SerializationDirection, SerializationFailure};
use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::remote::{ReplyKey, ReplyTo, Route};
use nexus_actor_core::serialization::{Inlet, SerializerId, scope};
use nexus_actor_core::system::ActorSystem;
use nexus_actor_core::{AskError, CorrelationId, DeadLetterReason, Instant};

use super::home::Home;
use super::peer::{Peer, is_traced};
use super::watcher::WatchCommand;
use crate::association::{Attachment, ConnectionId, Inbound, Placed};
use crate::correlation_trace::HopKind;
use crate::wire::{
    ControlFrame, Envelope, FrameKind, FrameReader, Lane, Lookup, OrdinaryFrame, QuarantineReason, RawFrame,
};

/// What is read from one peer, over all its connections: the session's receiving side and, for each recipient,
/// the way into its mailbox.
pub(crate) struct Intake {
    pub(crate) inbound: Inbound<Cached>,
    /// Recipients with messages decoded and not handed over.
    dirty: Vec<u32>,
}

/// What was found for a recipient: looked up once, not per message.
pub(crate) struct Cached {
    /// The manifest it was opened for; another pointer means another definition.
    manifest: Arc<str>,
    inlet: Box<dyn Inlet>,
    /// Messages wait in it for the end of the batch.
    dirty: bool,
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cached({})", self.manifest)
    }
}

impl Intake {
    pub(crate) fn new(config: &crate::association::AssociationConfig) -> Self {
        Self { inbound: Inbound::new(config), dirty: Vec::new() }
    }

    /// Hands over what was decoded, one lock and one wake-up per recipient.
    fn flush(&mut self) {
        for id in core::mem::take(&mut self.dirty) {
            if let Some(entry) = self.inbound.reference_mut(id)
                && let Some(cached) = &mut entry.cached
            {
                cached.dirty = false;
                if cached.inlet.flush().refused > 0 && cached.inlet.is_over() {
                    // A name may have a new owner the next time.
                    entry.cached = None;
                }
            }
        }
    }
}

/// What ends a connection from the reading side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadFault {
    pub(crate) reason: QuarantineReason,
    pub(crate) facts: String,
}

impl ReadFault {
    fn protocol(facts: &dyn fmt::Display) -> Self {
        Self { reason: QuarantineReason::ProtocolFault, facts: facts.to_string() }
    }
}

/// The reading half of a connection that serves an association. It holds the bytes of an unfinished frame and
/// nothing else: what is expected next belongs to the association.
pub(crate) struct EndpointReader {
    pub(crate) frames: FrameReader,
    attached: bool,
    /// Bytes read since the association was last told.
    unreported: usize,
}

impl EndpointReader {
    pub(crate) const fn new(frames: FrameReader) -> Self {
        Self { frames, attached: false, unreported: 0 }
    }

    /// Works off the whole frames in the buffer.
    pub(crate) fn take_frames(
        &mut self,
        peer: &Arc<Peer>,
        conn: ConnectionId,
        now: Instant,
    ) -> Result<(), ReadFault> {
        let Some(system) = peer.node.system.upgrade() else { return Ok(()) };
        let route: Arc<dyn Route> = peer.clone();
        let _scope = scope::DecodeScope::enter(&system, Some(route.clone()));
        let mut intake = peer.intake.lock();
        let turn = Turn { peer, conn, system: &system, route: &route, now, frames: Cell::new(0) };
        let result = self.take_all(&turn, &mut intake);
        intake.flush();
        let mut released = Vec::new();
        while let Some(notice) = intake.inbound.released() {
            released.push(notice);
        }
        drop(intake);
        for notice in released {
            peer.node.tell_watcher(WatchCommand::Notify { peer: peer.clone(), notice });
        }
        result
    }

    fn take_all(&mut self, turn: &Turn<'_>, intake: &mut Intake) -> Result<(), ReadFault> {
        loop {
            let raw = match self.frames.next_frame() {
                Ok(Some(raw)) => raw,
                Ok(None) => return Ok(()),
                Err(error) => return Err(ReadFault { reason: error.reason(), facts: error.to_string() }),
            };
            if raw.header.kind.lane() == Lane::Ordinary {
                if !self.attached {
                    return Err(ReadFault::protocol(&"an ordinary frame before the handshake was complete"));
                }
                turn.frames.set(turn.frames.get() + 1);
                turn.ordinary(intake, raw)?;
                continue;
            }
            let frame = ControlFrame::decode(raw).map_err(|error| ReadFault::protocol(&error))?;
            let attached = self.attached;
            let attachment: Option<Attachment> = turn.peer.apply_at(turn.now, |association, now| {
                association.handle_control(now, turn.conn, frame);
                if attached { None } else { association.attachment(turn.conn) }
            });
            if let Some(attachment) = attachment {
                self.attached = true;
                self.frames.established(turn.peer.node.association_config.frame_max());
                intake.flush();
                let gone = intake.inbound.attach(attachment);
                drop(gone);
            }
        }
    }

    /// Attaches the connection if the machine has taken it into service meanwhile.
    pub(crate) fn attach(&mut self, peer: &Peer, conn: ConnectionId) {
        if self.attached {
            return;
        }
        if let Some(attachment) = peer.read(|association| association.attachment(conn)) {
            self.attached = true;
            self.frames.established(peer.node.association_config.frame_max());
            let gone = {
                let mut intake = peer.intake.lock();
                intake.flush();
                intake.inbound.attach(attachment)
            };
            drop(gone);
        }
    }

    pub(crate) const fn is_attached(&self) -> bool {
        self.attached
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.unreported += bytes;
    }

    /// Tells the association what was taken, so that it acknowledges: at the latest when the socket runs dry.
    pub(crate) fn report(&mut self, peer: &Peer, conn: ConnectionId, dry: bool, now: Instant) {
        if !self.attached || self.unreported == 0 {
            return;
        }
        let bytes = core::mem::take(&mut self.unreported);
        let next = peer.intake.lock().inbound.next();
        peer.apply_at(now, |association, now| association.handle_received(now, conn, next, bytes, dry));
    }
}

/// One batch of frames.
struct Turn<'a> {
    peer: &'a Arc<Peer>,
    conn: ConnectionId,
    system: &'a ActorSystem,
    route: &'a Arc<dyn Route>,
    now: Instant,
    /// Ordinary frames taken in this batch.
    frames: Cell<usize>,
}

impl Turn<'_> {
    /// The usual message: without headers or reply, to an actor that was found before in this batch. False when it
    /// is not; nothing has happened then.
    #[inline]
    fn plain(&self, intake: &mut Intake, raw: &RawFrame<'_>) -> Result<bool, ReadFault> {
        if raw.header.kind != FrameKind::Envelope || raw.header.flags != 0 || self.peer.is_suspended() {
            return Ok(false);
        }
        let Some((recipient, payload)) = raw.body.split_first_chunk::<4>() else { return Ok(false) };
        let Some((_, manifest)) = intake.inbound.manifest(raw.header.aux) else { return Ok(false) };
        let manifest = Arc::as_ptr(manifest);
        let Some(entry) = intake.inbound.reference_mut(u32::from_le_bytes(*recipient)) else {
            return Ok(false);
        };
        if !matches!(&entry.cached, Some(cached) if cached.dirty && core::ptr::addr_eq(Arc::as_ptr(&cached.manifest), manifest))
        {
            return Ok(false);
        }
        match intake.inbound.advance(self.conn) {
            Ok(Placed::Deliver { .. }) => {}
            Ok(Placed::Defined | Placed::Duplicate | Placed::Stale) => return Ok(true),
            Err(fault) => return Err(ReadFault::protocol(&fault)),
        }
        let id = raw.header.correlation_id;
        self.trace(id, raw.body.len());
        let Some(entry) = intake.inbound.reference_mut(u32::from_le_bytes(*recipient)) else {
            return Ok(true);
        };
        let Some(cached) = &mut entry.cached else { return Ok(true) };
        if let Err(error) = cached.inlet.decode(payload, None) {
            let to = self.local_path(&entry.path, entry.uid);
            let manifest = cached.manifest.clone();
            self.decode_failed(to, &manifest, raw.body.len(), id, &error.to_string());
        }
        Ok(true)
    }

    #[inline]
    fn trace(&self, id: CorrelationId, size: usize) {
        let recorder = &self.peer.node.recorder;
        if is_traced(id, self.frames.get()) && recorder.is_enabled() {
            recorder.record_hop(self.now, self.peer.recorded_as, id, HopKind::Receive, size as u64);
        }
    }

    fn ordinary(&self, intake: &mut Intake, raw: RawFrame<'_>) -> Result<(), ReadFault> {
        if self.plain(intake, &raw)? {
            return Ok(());
        }
        let (size, id) = (raw.body.len(), raw.header.correlation_id);
        let frame = match OrdinaryFrame::decode(raw) {
            Ok(frame) => frame,
            Err(error) => {
                // It keeps its number: what follows it is still in its place.
                if self.place(intake, &OrdinaryFrame::Reply(crate::wire::Reply::nothing()))? {
                    self.lost(None, DeadLetterReason::Decode, size, id, &error.to_string());
                }
                return Ok(());
            }
        };
        if matches!(frame, OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_)) {
            // What was decoded for the old meaning goes to the old meaning.
            intake.flush();
        }
        if !self.place(intake, &frame)? {
            return Ok(());
        }
        if self.peer.is_suspended() {
            self.lost(None, DeadLetterReason::Suspended, size, id, "the association is suspended by hand");
            return Ok(());
        }
        match frame {
            OrdinaryFrame::Envelope(envelope) => self.envelope(intake, &envelope, size),
            OrdinaryFrame::Reply(reply) => self.reply(reply.key, reply.payload, id),
            OrdinaryFrame::ReplyFailed(failed) => {
                if let Some(ask) = self.pending(failed.key) {
                    ask.fail(failed.error);
                }
            }
            OrdinaryFrame::Lookup(lookup) => self.lookup(&lookup),
            OrdinaryFrame::DefineReference(_) | OrdinaryFrame::DefineManifest(_) => {}
        }
        Ok(())
    }

    /// Whether the frame is to be delivered.
    fn place(&self, intake: &mut Intake, frame: &OrdinaryFrame<'_>) -> Result<bool, ReadFault> {
        match intake.inbound.place(self.conn, frame) {
            Ok(Placed::Deliver { .. }) => Ok(true),
            Ok(Placed::Defined | Placed::Duplicate | Placed::Stale) => Ok(false),
            Err(fault) => Err(ReadFault::protocol(&fault)),
        }
    }

    fn envelope(&self, intake: &mut Intake, envelope: &Envelope<'_>, size: usize) {
        let id = envelope.correlation_id;
        self.trace(id, size);
        let Some((_, manifest)) = intake.inbound.manifest(envelope.manifest) else {
            return self.undeliverable(
                envelope,
                None,
                DeadLetterReason::Decode,
                size,
                "unknown manifest number",
            );
        };
        let manifest = manifest.clone();
        let Some(entry) = intake.inbound.reference_mut(envelope.recipient) else {
            let reason = DeadLetterReason::Decode;
            return self.undeliverable(envelope, None, reason, size, "unknown recipient number");
        };
        let fresh = match &entry.cached {
            Some(cached) => {
                Arc::ptr_eq(&cached.manifest, &manifest) && (cached.dirty || !cached.inlet.is_over())
            }
            None => false,
        };
        if !fresh {
            let (path, uid) = (entry.path.clone(), entry.uid);
            if let Some(old) = &mut entry.cached {
                old.inlet.flush();
            }
            let found = match self.find(&path, uid) {
                Some(found) => found,
                None => {
                    entry.cached = None;
                    let to = self.local_path(&path, uid);
                    let reason = DeadLetterReason::NoSuchActor;
                    return self.undeliverable(envelope, Some(to), reason, size, &manifest);
                }
            };
            match self.system.serialization().inlet(&manifest, &found, self.route) {
                Ok(inlet) => entry.cached = Some(Cached { manifest: manifest.clone(), inlet, dirty: false }),
                Err(error) => {
                    let to = self.local_path(&path, uid);
                    return self.undecodable(envelope, to, &manifest, size, &error.to_string());
                }
            }
        }
        let Some(cached) = &mut entry.cached else { return };
        if let Some(reply) = &envelope.reply_to {
            match self.reply_to(reply, envelope.correlation_id) {
                Some(to) => scope::set_reply_to(Some(to)),
                None => {
                    let to = self.local_path(&entry.path, entry.uid);
                    return self.undecodable(
                        envelope,
                        to,
                        &manifest,
                        size,
                        "the reply address is no address",
                    );
                }
            }
        }
        let headers = envelope.headers.as_ref().map(|pairs| pairs.to_headers());
        let decoded = cached.inlet.decode(envelope.payload, headers);
        if envelope.reply_to.is_some() {
            scope::set_reply_to(None);
        }
        match decoded {
            Ok(()) => {
                if !core::mem::replace(&mut cached.dirty, true) {
                    intake.dirty.push(envelope.recipient);
                }
            }
            Err(error) => {
                let to = self.local_path(&entry.path, entry.uid);
                // The inlet has told the asker already.
                self.decode_failed(to, &manifest, size, id, &error.to_string());
            }
        }
    }

    /// Only `/user` can be reached by path from outside: daemons and temporary actors are nobody's business.
    fn find(&self, path: &str, uid: ActorUid) -> Option<nexus_actor_core::AnyRef> {
        path.starts_with("/user/").then(|| self.system.find_incarnation(path, uid)).flatten()
    }

    fn local_path(&self, path: &str, uid: ActorUid) -> ActorPath {
        ActorPath::new(self.system.address(), path, uid)
    }

    fn reply_to(
        &self,
        reply: &crate::wire::EnvelopeReply<'_>,
        correlation_id: CorrelationId,
    ) -> Option<ReplyTo> {
        let key = reply.key();
        let Some(address) = reply.foreign_address().ok()? else {
            return Some(ReplyTo { route: self.route.clone(), key, correlation_id });
        };
        if self.system.is_own(&address) {
            // A question of this node that came back with a message about it.
            return Some(ReplyTo {
                route: Arc::new(Home::new(self.peer.node.clone(), address)),
                key,
                correlation_id,
            });
        }
        // As a reference to there would be: not to whom an operator refuses, nor to where there is no way.
        let route = self.peer.node.route_to(&address).ok()?;
        Some(ReplyTo { route, key, correlation_id })
    }

    fn pending(&self, key: ReplyKey) -> Option<Arc<dyn nexus_actor_core::remote::PendingReply>> {
        let number = u16::try_from(key.slot >> 16).ok()?;
        let asked = if number == self.peer.number() {
            self.peer.clone()
        } else {
            // Passed on: the answer comes from another node than was asked.
            self.peer.node.registry.by_number(number)?
        };
        asked.read(|association| association.handle_reply(key))
    }

    fn reply(&self, key: ReplyKey, payload: &[u8], id: CorrelationId) {
        let Some(ask) = self.pending(key) else { return };
        if let Err(error) = ask.complete(payload) {
            self.lost(None, DeadLetterReason::Decode, payload.len(), id, &error.to_string());
        }
    }

    fn lookup(&self, lookup: &Lookup<'_>) {
        let found = self.find(lookup.path(), ActorUid::ANY);
        let answer = match &found {
            None => Err(AskError::NoSuchActor),
            Some(found) => match self.system.serialization().inlet(lookup.manifest(), found, self.route) {
                Ok(_) => Ok(found.uid()),
                Err(error) => Err(AskError::Decode(error.to_string())),
            },
        };
        match answer {
            Ok(uid) => {
                let bytes = uid.get().to_le_bytes();
                let id = lookup.correlation_id();
                if let Err(refusal) = self.route.reply(lookup.key(), id, &mut |e| e.put(&bytes)) {
                    self.route.reply_failed(lookup.key(), id, AskError::from(refusal));
                }
            }
            Err(error) => self.route.reply_failed(lookup.key(), lookup.correlation_id(), error),
        }
    }

    /// Records an envelope for which there is no actor, and tells its asker.
    fn undeliverable(
        &self,
        envelope: &Envelope<'_>,
        to: Option<ActorPath>,
        reason: DeadLetterReason,
        size: usize,
        detail: &str,
    ) {
        if let Some(reply) =
            envelope.reply_to.as_ref().and_then(|reply| self.reply_to(reply, envelope.correlation_id))
        {
            reply.route.reply_failed(reply.key, reply.correlation_id, AskError::from_reason(reason));
        }
        self.lost(to, reason, size, envelope.correlation_id, detail);
    }

    fn undecodable(&self, envelope: &Envelope<'_>, to: ActorPath, manifest: &str, size: usize, why: &str) {
        if let Some(reply) =
            envelope.reply_to.as_ref().and_then(|reply| self.reply_to(reply, envelope.correlation_id))
        {
            reply.route.reply_failed(reply.key, reply.correlation_id, AskError::Decode(why.to_string()));
        }
        self.decode_failed(to, manifest, size, envelope.correlation_id, why);
    }

    fn decode_failed(&self, to: ActorPath, manifest: &str, size: usize, id: CorrelationId, why: &str) {
        let serializer =
            self.system.serialization().lookup(manifest).map_or(SerializerId::POSTCARD, |r| r.serializer);
        self.system.event_stream().publish_with(|| {
            EventStreamEvent::Serialization(SerializationFailure {
                direction: SerializationDirection::Decode,
                manifest: String::from(manifest).into(),
                serializer,
                recipient: Some(to.clone()),
                correlation_id: id,
                error: why.into(),
            })
        });
        self.lost(Some(to), DeadLetterReason::Decode, size, id, why);
    }

    fn lost(
        &self,
        to: Option<ActorPath>,
        reason: DeadLetterReason,
        size: usize,
        id: CorrelationId,
        detail: &str,
    ) {
        self.peer.node.recorder.record(crate::flight_recorder::FlightEvent {
            time: self.now,
            association: self.peer.recorded_as,
            correlation_id: id,
            kind: crate::flight_recorder::FlightKind::Lost { reason, bytes: size as u64 },
        });
        self.system.dead_letters().record_with(reason, || {
            let letter = DeadLetter::of(MessageInfo::encoded("", size), reason)
                .with_peer(self.peer.address().clone())
                .with_correlation_id(id)
                .with_detail(detail);
            match to {
                Some(to) => letter.with_recipient(to),
                None => letter,
            }
        });
    }
}
