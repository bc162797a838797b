//! Sending: messages, answers and lookups, encoded straight into the lane.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use nexus_actor_core::path::ActorPath;
use nexus_actor_core::remote::{Encode, PendingReply, ReplyKey};
use nexus_actor_core::serialization::scope::{self, LiftedReply};
use nexus_actor_core::serialization::{EncodeError, SerializerId};
use nexus_actor_core::{AskError, CorrelationId, Headers, Instant, Refusal};

use super::event::AssociationEvent;
use super::pending::PendingAsks;
use super::state::AssociationState;
use super::tables::Assigned;
use super::{Association, Patience};
use crate::wire::{
    DefineManifest, DefineReference, EnvelopeReply, EnvelopeWriter, Lookup, QuarantineReason, ReplyFailed,
    ReplyWriter, WireError, WireRule,
};

/// One message was accepted. Small: it is handed up through every layer for every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Sent {
    /// Its id.
    pub correlation_id: CorrelationId,
    /// Bytes of its frame.
    pub size: usize,
    /// Wake the association's driver: it is idle.
    pub wake: bool,
    /// An ask travels with the message: [`Association::take_asked`] has it.
    pub asked: bool,
}

/// Bytes up to which a frame counts as small.
const LONE_MAX: usize = 512;

impl Association {
    /// Gives a recipient its number, which stays good over all sessions until it is released as often as it
    /// was interned.
    ///
    /// # Errors
    /// [`Refusal::Limit`] when too many recipients hold a number, [`Refusal::Encode`] when path or manifest break
    /// the wire's rules.
    pub fn intern(
        &mut self,
        path: &ActorPath,
        serializer: SerializerId,
        manifest: &'static str,
    ) -> Result<u32, Refusal> {
        self.tables.intern(path, serializer, manifest)
    }

    /// The recipient that holds a number: its path, and serializer and manifest of what it takes.
    #[must_use]
    pub fn recipient(&self, index: u32) -> Option<(ActorPath, SerializerId, &'static str)> {
        let found = self.tables.recipient(index)?;
        Some((found.path.clone(), found.serializer, found.manifest))
    }

    /// Gives a number back.
    pub fn release(&mut self, recipient: u32) {
        self.tables.release(recipient);
    }

    /// Sends one message. `encode` runs at most once; what it wrote is taken back when it fails or panics.
    ///
    /// At most once, in order per recipient; lost only with the peer's incarnation or session. Nothing is
    /// allocated besides what the lane needs to grow and what `encode` allocates.
    ///
    /// # Errors
    /// Nothing was queued, and the message is as it was.
    pub fn send(
        &mut self,
        now: Instant,
        recipient: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        if headers.is_none()
            && self.live.is_some()
            && self.closing.is_none()
            && !self.is_full()
            && let Some((reference, manifest)) = self.tables.known(recipient, self.lane.next())
        {
            return self.send_known(now, reference, manifest, encode);
        }
        let result = self.try_send(now, recipient, headers, encode);
        if result.is_err() {
            self.statistics.refused += 1;
        }
        result
    }

    /// The ask that travels with the message [`send`](Self::send) or [`lookup`](Self::lookup) has just accepted. Call
    /// its `pending_at` with the key outside the lock.
    pub fn take_asked(&mut self) -> Option<(Arc<dyn PendingReply>, ReplyKey)> {
        self.asked.take()
    }

    /// Bytes of the ordinary lane that the connection has not been handed.
    #[inline]
    #[must_use]
    pub const fn unsent_bytes(&self) -> usize {
        self.lane.unsent()
    }

    /// Why the peer answers nothing, while no connection serves the association or it is suspended by hand.
    #[must_use]
    pub fn absence(&self) -> Option<AskError> {
        if self.suspended {
            return Some(AskError::Suspended);
        }
        if self.live.is_some() {
            return None;
        }
        if self.closing.is_some() || self.closed {
            return Some(AskError::Shutdown);
        }
        Some(match &self.state {
            AssociationState::Quarantined { reason, .. } => match reason {
                QuarantineReason::Blocked => AskError::Blocked,
                _ if self.may_probe() => AskError::Unreachable,
                _ => AskError::Quarantined,
            },
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => AskError::Unreachable,
        })
    }

    #[cold]
    fn refused(&mut self, refusal: Refusal) -> Refusal {
        self.statistics.refused += 1;
        refusal
    }

    /// The usual message: the peer knows the recipient by its number, and there is room.
    #[inline]
    fn send_known(
        &mut self,
        now: Instant,
        reference: u32,
        manifest: u16,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        let Some(mut encoding) = scope::Encoding::begin() else { return Err(self.refused(scope::reentry())) };
        let correlation_id = self.correlation.next();
        let (era, asks, rng) = (self.era, &mut self.asks, &mut self.rng);
        // Dropped on the way, also by a panic in `encode`, the writer takes back what it wrote.
        let mut writer = EnvelopeWriter::begin_plain(
            self.lane.buffer(),
            self.frame_max,
            reference,
            manifest,
            correlation_id,
        );
        if let Err(error) = encode(&mut writer.encoder()) {
            let limit = writer.room();
            drop(writer);
            return Err(self.refused(encode_refusal(error, limit)));
        }
        let mut asked = false;
        let size = if encoding.has_lifted() {
            match finish_with_reply(writer, encoding.take_lifted(), asks, era, rng) {
                Ok((size, ask)) => {
                    asked = ask.is_some();
                    self.asked = ask;
                    size
                }
                Err(error) => {
                    drop(encoding);
                    let refusal = match error {
                        Some(error) => refusal_of(error),
                        None => self.asks_full(),
                    };
                    return Err(self.refused(refusal));
                }
            }
        } else {
            writer.finish_plain()
        };
        drop(encoding);
        self.correlation = correlation_id;
        Ok(self.committed(now, size, correlation_id, asked))
    }

    fn try_send(
        &mut self,
        now: Instant,
        recipient: u32,
        headers: Option<&Headers>,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        let for_name = || self.tables.recipient(recipient).is_some_and(|r| r.path.uid().is_any());
        self.check_open(for_name)?;
        self.make_room()?;
        let assigned = self.tables.assign(recipient, self.lane.next())?;
        self.define(&assigned)?;
        let correlation_id = self.correlation.next();
        let frame_max = self.frame_max;
        let written = {
            let (era, asks, rng) = (self.era, &mut self.asks, &mut self.rng);
            let (reference, manifest) = (assigned.reference, assigned.manifest);
            let buffer = self.lane.buffer();
            // Dropped on the way, also by a panic in `encode`, the writer takes back what it wrote.
            let mut writer =
                EnvelopeWriter::begin(buffer, frame_max, reference, manifest, correlation_id, headers)
                    .map_err(refusal_of)?;
            let limit = writer.room();
            let lifted = encode_in_scope(limit, || encode(&mut writer.encoder()))?;
            finish_with_reply(writer, lifted, asks, era, rng)
        };
        match written {
            Ok((size, ask)) => {
                self.correlation = correlation_id;
                let asked = ask.is_some();
                self.asked = ask;
                Ok(self.committed(now, size, correlation_id, asked))
            }
            Err(Some(error)) => Err(refusal_of(error)),
            Err(None) => Err(self.asks_full()),
        }
    }

    #[inline]
    fn committed(&mut self, now: Instant, size: usize, correlation_id: CorrelationId, asked: bool) -> Sent {
        self.lane.commit(size, true);
        self.statistics.sent += 1;
        self.last_used = now;
        if self.live.is_none() {
            self.ensure_connection(now);
        }
        self.note_pressure();
        let wake = core::mem::take(&mut self.driver_idle) | core::mem::take(&mut self.wake);
        Sent { correlation_id, size, wake, asked }
    }

    /// Whether a message that was just sent carries a question and nothing else is on its way: if the driver is idle,
    /// its asker had better write what [`poll_transmit`](Self::poll_transmit) gives than wake the driver. See
    /// [`handle_written`](Self::handle_written).
    ///
    /// Of many asks under way each would cost a system call of its own: only the first is lone.
    #[must_use]
    pub fn is_lone_ask(&self, sent: Sent) -> bool {
        sent.asked && self.asks.len() == 1 && self.is_alone(sent)
    }

    /// Whether an answer that was just sent is lone like [a question](Self::is_lone_ask).
    ///
    /// A question that came in company has others behind it, whose answers had better go together.
    #[must_use]
    pub const fn is_lone_answer(&self, sent: Sent) -> bool {
        self.took_one && self.is_alone(sent)
    }

    /// Whether a small frame is the only one that waits.
    const fn is_alone(&self, sent: Sent) -> bool {
        sent.wake && sent.size <= LONE_MAX && self.live.is_some() && self.lane.waiting() == 1
    }

    /// A full table may hold asks that nobody waits for; each refusal takes out those among a few, for whoever comes
    /// next: the lane is locked meanwhile, and under overload this runs for every ask.
    #[cold]
    fn asks_full(&mut self) -> Refusal {
        for ask in self.asks.take_over() {
            self.wake = true;
            // Its `fail` changes nothing any more; the event carries it out of the lock to be dropped.
            self.events.push_back(AssociationEvent::AskFailed { ask, error: AskError::Full });
        }
        Refusal::Limit("remote asks pending")
    }

    /// Answers an ask of the peer. `correlation_id` is the question's.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn reply(
        &mut self,
        now: Instant,
        to: ReplyKey,
        correlation_id: CorrelationId,
        encode: Encode<'_>,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| false)?;
        self.make_room_for_answer()?;
        let mut writer = ReplyWriter::begin(self.lane.buffer(), self.frame_max, to, correlation_id);
        let limit = writer.room();
        // A reply inside a reply is refused by its own serialization: nothing lifts it here.
        if encode_in_scope(limit, || encode(&mut writer.encoder()))?.is_some() {
            return Err(Refusal::Encode(String::from("an answer cannot carry a Reply")));
        }
        let size = writer.finish().map_err(refusal_of)?;
        Ok(self.committed(now, size, correlation_id, false))
    }

    /// Tells the peer that an ask of it will not be answered.
    ///
    /// # Errors
    /// Nothing was queued; the asker will learn by its deadline.
    pub fn reply_failed(
        &mut self,
        now: Instant,
        to: ReplyKey,
        correlation_id: CorrelationId,
        why: AskError,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| false)?;
        self.make_room_for_answer()?;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        ReplyFailed { key: to, correlation_id, error: why }.encode(buffer);
        let size = buffer.len() - start;
        Ok(self.committed(now, size, correlation_id, false))
    }

    /// Asks the peer for the incarnation that lives at `path`; `ask` is completed with its uid (8 bytes,
    /// little-endian) or fails.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn lookup(
        &mut self,
        now: Instant,
        path: &ActorPath,
        manifest: &str,
        ask: Arc<dyn PendingReply>,
    ) -> Result<Sent, Refusal> {
        self.check_open(|| true)?;
        self.make_room()?;
        let correlation_id = self.correlation.next();
        let Some(key) = self.asks.insert(ask.clone(), self.era, &mut self.rng) else {
            return Err(self.asks_full());
        };
        let lookup = match Lookup::new(key, correlation_id, manifest, path.elements()) {
            Ok(lookup) => lookup,
            Err(error) => {
                let _again = self.asks.take(key);
                return Err(refusal_of(error));
            }
        };
        self.correlation = correlation_id;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        lookup.encode(buffer);
        let size = buffer.len() - start;
        self.asked = Some((ask, key));
        Ok(self.committed(now, size, correlation_id, true))
    }

    /// The asker gave up. Drop what is returned outside the lock.
    #[must_use = "to be dropped outside the lock"]
    pub fn forget(&mut self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        self.asks.take(key)
    }

    /// Whether the state lets messages in at all.
    #[inline]
    pub(super) fn check_open(&self, for_name: impl FnOnce() -> bool) -> Result<(), Refusal> {
        if self.live.is_some() && self.closing.is_none() {
            return Ok(());
        }
        self.check_open_slow(for_name())
    }

    #[cold]
    fn check_open_slow(&self, for_name: bool) -> Result<(), Refusal> {
        if self.closing.is_some() || self.closed {
            return Err(Refusal::Shutdown);
        }
        match &self.state {
            AssociationState::Quarantined { reason, .. } => {
                if *reason == QuarantineReason::Blocked {
                    return Err(Refusal::Blocked);
                }
                // What is sent to a name may reach the peer's next incarnation.
                if self.may_probe() && for_name { Ok(()) } else { Err(Refusal::Quarantined) }
            }
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => {
                let lost = self.session.is_some() && !self.suspended;
                if lost && self.config.patience() == Patience::Drop && self.down.is_some() {
                    return Err(Refusal::Unreachable);
                }
                Ok(())
            }
        }
    }

    pub(super) fn define(&mut self, assigned: &Assigned) -> Result<(), Refusal> {
        if let Some(recipient) = &assigned.recipient {
            if assigned.define_manifest {
                self.define_manifest(assigned.manifest, recipient.serializer, recipient.manifest)?;
            }
            let path = &recipient.path;
            let frame =
                DefineReference::new(assigned.reference, path.uid(), path.elements()).map_err(refusal_of)?;
            let buffer = self.lane.buffer();
            let start = buffer.len();
            frame.encode(buffer);
            let size = buffer.len() - start;
            self.lane.commit_definition(size, assigned.reference, assigned.replaced.clone());
        } else if assigned.define_manifest
            && let Some((serializer, name)) = self.tables.manifest(assigned.manifest)
        {
            self.define_manifest(assigned.manifest, serializer, name)?;
        }
        Ok(())
    }

    fn define_manifest(&mut self, id: u16, serializer: SerializerId, name: &str) -> Result<(), Refusal> {
        let frame = DefineManifest::new(id, serializer, name).map_err(refusal_of)?;
        let buffer = self.lane.buffer();
        let start = buffer.len();
        frame.encode(buffer);
        let size = buffer.len() - start;
        self.lane.commit(size, false);
        Ok(())
    }
}

/// An ask and the key it waits under.
type Asked = Option<(Arc<dyn PendingReply>, ReplyKey)>;

/// Completes an envelope with what its payload lifted. `Err(None)` when the table of asks is full; on any error
/// the frame is taken back and the message keeps its reply.
fn finish_with_reply(
    writer: EnvelopeWriter<'_>,
    lifted: Option<LiftedReply>,
    asks: &mut PendingAsks,
    era: u64,
    rng: &mut fastrand::Rng,
) -> Result<(usize, Asked), Option<WireError>> {
    match lifted {
        None => writer.finish(None).map(|size| (size, None)).map_err(Some),
        Some(LiftedReply::Pending(pending)) => {
            let key = asks.insert(pending.clone(), era, rng).ok_or(None)?;
            match writer.finish(Some(EnvelopeReply::to_sender(key))) {
                Ok(size) => Ok((size, Some((pending, key)))),
                Err(error) => {
                    // The message keeps its reply; only the place here goes.
                    let _again = asks.take(key);
                    Err(Some(error))
                }
            }
        }
        Some(LiftedReply::Foreign(foreign)) => {
            let address = foreign.to.route.address().to_string();
            let reply = EnvelopeReply::to_foreign(foreign.to.key, &address).map_err(Some)?;
            let size = writer.finish(Some(reply)).map_err(Some)?;
            foreign.passed_on();
            Ok((size, None))
        }
    }
}

#[cold]
fn encode_refusal(error: EncodeError, limit: usize) -> Refusal {
    match error {
        EncodeError::TooLarge { .. } => Refusal::TooLarge { size: limit.saturating_add(1), limit },
        error => Refusal::Encode(error.to_string()),
    }
}

/// Runs `encode` as the encoding of one message and returns the reply it lifted.
fn encode_in_scope(
    limit: usize,
    encode: impl FnOnce() -> Result<(), EncodeError>,
) -> Result<Option<LiftedReply>, Refusal> {
    let (encoded, lifted) = scope::encode(encode)?;
    encoded.map_err(|error| encode_refusal(error, limit))?;
    Ok(lifted)
}

#[cold]
pub(super) fn refusal_of(error: WireError) -> Refusal {
    match error.rule {
        WireRule::TooLong { length, limit } => Refusal::TooLarge { size: length, limit },
        _ => Refusal::Encode(error.to_string()),
    }
}
