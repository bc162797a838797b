//! Dialling, the handshake in both directions, and what becomes of attempts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt::Write;

use nexus_actor_core::Instant;
use nexus_actor_core::path::ActorUid;

use super::Association;
use super::event::{AssociationEvent, CloseReason, ConnectionId, DialError, LostCause};
use super::inbound::Attachment;
use super::leave::Closing;
use super::link::{Answered, Link, Phase, Resumption};
use super::session::{Down, Terms};
use super::state::{AssociationState, GateCause, SuspendCause};
use super::timer::Timer;
use crate::wire::{
    Ack, AssociationHandshake, Preamble, QuarantineReason, Refuse, RefuseReason, RemoteNodeId, Request,
    SessionLimits, VERSIONS,
};

/// What the transport proved of a peer that dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerProof {
    /// Nothing: the peer says who it is. A claim of a known peer's address by a new incarnation is checked by
    /// dialling that address.
    Claimed,
    /// Its certificate names the address it claims.
    Proven,
}

/// A new incarnation, or a peer that lost its session, says it lives at this address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) uid: ActorUid,
    /// Our own dial to the address failed since, so its answer cannot be had.
    pub(super) dial_failed: bool,
}

/// The refusal of `request` by the node `local`.
///
/// For refusals that a node decides before it knows the association: version, block list, uid collision, limits.
/// Write it behind the preamble, then close.
#[must_use]
pub fn refusal(local: &RemoteNodeId, request: Option<&Request>, reason: RefuseReason) -> Refuse {
    let named = reason == RefuseReason::WrongAddress;
    Refuse {
        reason,
        echo: request.map_or(0, |r| r.handshake.nonce()),
        asked_for: request.filter(|_| named).map(|r| r.to.clone()),
        known_by: named.then(|| local.address().clone()),
        uid: local.uid(),
        versions: VERSIONS,
    }
}

/// What is done with a peer's request.
enum Verdict {
    Refuse(RefuseReason),
    Close(CloseReason),
    /// Close it and ask at the address itself.
    Verify,
    Answer {
        session: u64,
        resumption: Resumption,
    },
}

impl Association {
    // Dialling

    /// Whether something is wanted that needs a connection.
    pub(super) fn wants_connection(&self) -> bool {
        if self.suspended || self.closed || self.closing.is_some() {
            return false;
        }
        if matches!(self.state, AssociationState::Quarantined { .. }) {
            return self.may_probe() && (!self.lane.is_empty() || !self.watches.is_empty());
        }
        self.wish
            || !self.lane.is_empty()
            || !self.system.is_empty()
            || !self.watches.is_empty()
            || !self.peer_watches.is_empty()
            || self.peer_watches.has_notices()
            || self.asks.len() > 0
    }

    pub(super) fn connect_if_needed(&mut self, now: Instant) {
        if self.wants_connection() {
            self.ensure_connection(now);
        }
    }

    /// Starts an attempt unless one is under way or would be of no use.
    pub(super) fn ensure_connection(&mut self, now: Instant) {
        if self.live.is_some() || self.suspended || self.closed || self.closing.is_some() {
            return;
        }
        match self.state {
            AssociationState::Unassociated | AssociationState::Suspended { .. } => {
                self.backoff.reset();
                if self.session.is_none() {
                    self.timers.start(Timer::NeverReached, now + self.config.never_reached_timeout());
                }
                self.start_dial(now);
            }
            AssociationState::Quarantined { .. } => {
                if self.may_probe() && self.timers.get(Timer::Dial).is_none() {
                    self.start_dial(now);
                }
            }
            // An attempt is under way or has its time.
            AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Gated { .. } => {}
        }
    }

    fn has_attempt(&self) -> bool {
        self.links.iter().any(|l| l.is_attempt() || matches!(l.phase, Phase::Answered(_)))
    }

    pub(super) fn start_dial(&mut self, now: Instant) {
        self.timers.stop(Timer::Dial);
        if self.has_attempt() {
            return;
        }
        if self.links.len() >= self.config.connections_max() {
            self.timers.set(Timer::Dial, now + self.config.handshake_retry());
            return;
        }
        self.connection_next += 1;
        let id = ConnectionId::dialled(self.connection_next);
        self.links.push(Link::new(id, Phase::Dialling));
        self.dial_wanted = Some(id);
        match self.state {
            AssociationState::Unassociated
            | AssociationState::Associating { .. }
            | AssociationState::Suspended { .. }
            | AssociationState::Gated { .. } => {
                self.enter(now, AssociationState::Associating { attempt: self.backoff.attempt() });
            }
            // A claim is checked, or a next incarnation looked for, without giving up what holds.
            AssociationState::Connected { .. } | AssociationState::Quarantined { .. } => {}
        }
        self.wake_driver();
    }

    /// Whether [`poll_dial`](Self::poll_dial) would name a connection: a node may let it wait for its turn.
    #[inline]
    #[must_use]
    pub const fn wants_dial(&self) -> bool {
        self.dial_wanted.is_some()
    }

    /// The connection to dial now; answer with [`handle_dialled`](Self::handle_dialled). The connect timeout runs
    /// from here, so a node may let dials queue.
    pub fn poll_dial(&mut self, now: Instant) -> Option<ConnectionId> {
        let id = self.dial_wanted.take()?;
        self.timers.set(Timer::DialDeadline, now + self.config.connect_timeout());
        Some(id)
    }

    /// The dial of `conn` came to an end.
    pub fn handle_dialled(&mut self, now: Instant, conn: ConnectionId, result: Result<(), DialError>) {
        let Some(index) = self.link_index(conn) else { return };
        if !matches!(self.links[index].phase, Phase::Dialling) {
            return;
        }
        self.timers.stop(Timer::DialDeadline);
        match result {
            Ok(()) => {
                let Some(request) = self.request() else {
                    self.links[index].close(CloseReason::Aborted);
                    return self.attempt_failed(now, GateCause::Handshake, false);
                };
                let link = &mut self.links[index];
                link.announced = request.receive_next;
                Preamble::OURS.encode(&mut link.out);
                request.encode(&mut link.out);
                link.phase = Phase::Requested(Box::new(request));
                self.arm_handshake(now);
            }
            Err(error) => {
                self.links.remove(index);
                self.attempt_failed(now, GateCause::Dial(error), error == DialError::Refused);
            }
        }
        self.wake_driver();
    }

    fn arm_handshake(&mut self, now: Instant) {
        self.timers.set(Timer::HandshakeRetry, now + self.config.handshake_retry());
        self.timers.set(Timer::HandshakeDeadline, now + self.config.handshake_timeout());
    }

    fn handshake(&mut self) -> Option<AssociationHandshake> {
        AssociationHandshake::new(
            self.peer.scheme.clone(),
            self.local.clone(),
            self.config.capabilities(),
            self.rng.u64(1..),
            self.correlation,
        )
        .ok()
    }

    fn limits(&self) -> SessionLimits {
        SessionLimits {
            frame_max: self.config.frame_max(),
            message_max: self.config.frame_max(),
            window_bytes: self.config.window_bytes(),
        }
    }

    fn request(&mut self) -> Option<Request> {
        let handshake = self.handshake()?;
        let (session, peer_uid, receive_next, system_next) = match (&self.session, self.unconfirmed) {
            (Some(s), _) => (s.id, s.remote.uid(), s.receive_next, s.system_next),
            // Its opener may have got the answer and wait for us as little as we for it.
            (None, Some((uid, session))) => (session, uid, 0, 0),
            (None, None) => (0, ActorUid::ANY, 0, 0),
        };
        Some(Request {
            handshake,
            to: self.peer_node.clone(),
            session,
            peer_uid,
            receive_next,
            system_next,
            limits: self.limits(),
        })
    }

    // Accepting

    /// A connection of the peer has sent its whole request. The node has checked that the request names this
    /// association's peer; everything else is checked here.
    pub fn handle_accepted(&mut self, now: Instant, conn: ConnectionId, request: Request, proof: PeerProof) {
        if self.link_index(conn).is_some() {
            return;
        }
        self.links.push(Link::new(conn, Phase::Closed));
        self.consider(now, conn, request, proof);
        self.wake_driver();
    }

    fn consider(&mut self, now: Instant, conn: ConnectionId, request: Request, proof: PeerProof) {
        let uid = request.handshake.node().uid();
        match self.judge(now, &request, proof) {
            Verdict::Refuse(reason) => {
                let refuse = refusal(&self.local, Some(&request), reason);
                if let Some(link) = self.link(conn) {
                    Preamble::OURS.encode(&mut link.out);
                    refuse.encode(&mut link.out);
                    link.close(CloseReason::Refused(reason));
                }
                self.report_refusal(now, uid, reason);
            }
            Verdict::Close(reason) => {
                if let Some(link) = self.link(conn) {
                    link.close(reason);
                }
            }
            Verdict::Verify => {
                if let Some(link) = self.link(conn) {
                    link.close(CloseReason::Unproven);
                }
                self.claim = Some(Claim { uid, dial_failed: false });
                // A claimant that just started listens by now: no reason to wait for the backoff.
                self.start_dial(now);
            }
            Verdict::Answer { session, resumption } => {
                let requested = self.links.iter().any(|l| matches!(l.phase, Phase::Requested(_)));
                if requested && self.local.uid() > uid {
                    for link in &mut self.links {
                        if matches!(link.phase, Phase::Parked(..)) {
                            link.close(CloseReason::Superseded);
                        }
                    }
                    if let Some(link) = self.link(conn) {
                        link.phase = Phase::Parked(Box::new(request), proof);
                    }
                    return;
                }
                self.drop_attempts(CloseReason::Superseded);
                self.answer(now, conn, request, session, resumption);
            }
        }
    }

    fn judge(&self, now: Instant, request: &Request, proof: PeerProof) -> Verdict {
        let node = request.handshake.node();
        let uid = node.uid();
        let named = (request.session, request.peer_uid);
        if self.closed || self.closing.is_some() {
            return Verdict::Refuse(RefuseReason::Left);
        }
        if request.to != *self.local.address() {
            return Verdict::Refuse(RefuseReason::WrongAddress);
        }
        if uid == self.local.uid() {
            return Verdict::Refuse(RefuseReason::UidCollision);
        }
        if *node.address() != self.peer_node {
            return Verdict::Refuse(RefuseReason::ProtocolFault);
        }
        if self.is_blocked() {
            return Verdict::Refuse(RefuseReason::Blocked);
        }
        if self.book.get(uid, now).is_some() {
            return Verdict::Refuse(RefuseReason::Quarantined);
        }
        if self.suspended && self.live.is_none() && self.session.is_none() {
            return Verdict::Refuse(RefuseReason::Other);
        }
        if self.links.len() > self.config.connections_max() {
            return Verdict::Refuse(RefuseReason::Limit);
        }
        let fresh = Verdict::Answer { session: 0, resumption: Resumption::None };
        let unconfirmed = self.unconfirmed == Some((uid, request.session)) && request.session != 0;
        match &self.session {
            Some(session) if session.remote.uid() == uid => {
                if named == (session.id, self.local.uid()) {
                    let (receive, system) = (request.receive_next, request.system_next);
                    return if self.lane.can_resume(receive) && self.system.can_resume(system) {
                        Verdict::Answer { session: session.id, resumption: Resumption::Running }
                    } else {
                        // Made before acknowledgements that have arrived since: the peer tries again.
                        Verdict::Close(CloseReason::Superseded)
                    };
                }
                if unconfirmed {
                    return Verdict::Answer { session: request.session, resumption: Resumption::Unconfirmed };
                }
                // It has lost or ended the session, or this is the late half of a simultaneous dial.
                if self.live.is_some() && proof == PeerProof::Claimed { Verdict::Verify } else { fresh }
            }
            Some(_) => {
                let unreachable = self.claim.is_some_and(|c| c.uid == uid && c.dial_failed);
                if proof == PeerProof::Proven || (self.live.is_none() && unreachable) {
                    fresh
                } else {
                    Verdict::Verify
                }
            }
            None if unconfirmed => {
                Verdict::Answer { session: request.session, resumption: Resumption::Unconfirmed }
            }
            None => fresh,
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        conn: ConnectionId,
        request: Request,
        session: u64,
        resumption: Resumption,
    ) {
        let Some(handshake) = self.handshake() else { return };
        let uid = request.handshake.node().uid();
        let session = if resumption == Resumption::None { self.rng.u64(1..) } else { session };
        let (receive_next, system_next) = match (&self.session, resumption) {
            (Some(s), Resumption::Running) => (s.receive_next, s.system_next),
            _ => (0, 0),
        };
        if resumption == Resumption::None {
            self.unconfirmed = Some((uid, session));
        }
        let limits = request.limits;
        let ack = Ack {
            handshake,
            to: request.handshake.node().address().clone(),
            session,
            peer_uid: uid,
            receive_next,
            system_next,
            limits: self.limits(),
            echo: request.handshake.nonce(),
            resumed: resumption != Resumption::None,
        };
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        if let Some(link) = self.link(conn) {
            Preamble::OURS.encode(&mut link.out);
            link.out.extend_from_slice(&bytes);
            link.announced = receive_next;
            link.phase = Phase::Answered(Box::new(Answered { request, session, resumption, bytes, limits }));
        }
        self.timers.stop(Timer::Dial);
        self.arm_handshake(now);
        match self.state {
            AssociationState::Unassociated | AssociationState::Gated { .. } => {
                self.enter(now, AssociationState::Associating { attempt: self.backoff.attempt() });
            }
            AssociationState::Suspended { .. } if !self.suspended => {
                self.enter(now, AssociationState::Associating { attempt: self.backoff.attempt() });
            }
            AssociationState::Suspended { .. }
            | AssociationState::Associating { .. }
            | AssociationState::Connected { .. }
            | AssociationState::Quarantined { .. } => {}
        }
    }

    fn report_refusal(&mut self, now: Instant, uid: ActorUid, reason: RefuseReason) {
        if let Some(held_back) = self.refusals.pass(now, reason) {
            self.events.push_back(AssociationEvent::RefusedPeer { reason, uid, held_back });
        }
    }

    // Outcomes

    /// The peer answered our request.
    pub(super) fn on_ack(&mut self, now: Instant, conn: ConnectionId, ack: Ack) {
        let Some(link) = self.link(conn) else { return };
        let (nonce, announced) = match &link.phase {
            Phase::Requested(request) => (request.handshake.nonce(), link.announced),
            Phase::Live => {
                // The answer to a repeated request: the peer still waits for the confirmation.
                if self.session.as_ref().is_some_and(|s| s.id == ack.session) {
                    self.acknowledge_now = true;
                }
                return;
            }
            Phase::Dialling | Phase::Parked(..) | Phase::Answered(_) | Phase::Closed => return,
        };
        let node = ack.handshake.node().clone();
        if ack.echo != nonce || ack.peer_uid != self.local.uid() || ack.to != *self.local.address() {
            self.statistics.frames_ignored += 1;
            return;
        }
        if *node.address() != self.peer_node {
            self.close_link(conn, CloseReason::Refused(RefuseReason::WrongAddress));
            return self.attempt_failed(now, GateCause::Refused(RefuseReason::WrongAddress), false);
        }
        if node.uid() == self.local.uid() {
            self.close_link(conn, CloseReason::Refused(RefuseReason::UidCollision));
            self.attempt_failed(now, GateCause::Refused(RefuseReason::UidCollision), false);
            return;
        }
        if self.book.get(node.uid(), now).is_some() {
            self.close_link(conn, CloseReason::Quarantined);
            return self.found_quarantined(now);
        }
        let resumption = if !ack.resumed {
            Resumption::None
        } else if self.session.as_ref().is_some_and(|s| s.id == ack.session && s.remote.uid() == node.uid()) {
            Resumption::Running
        } else if self.unconfirmed == Some((node.uid(), ack.session)) {
            Resumption::Unconfirmed
        } else {
            self.close_link(conn, CloseReason::ProtocolFault);
            return self.attempt_failed(now, GateCause::Handshake, false);
        };
        if resumption == Resumption::Running {
            if self.live.is_some() {
                // The claim was false: the peer we know still lives there.
                self.claim = None;
                self.close_link(conn, CloseReason::Superseded);
                self.stop_attempts();
                return;
            }
            if !self.lane.can_resume(ack.receive_next) || !self.system.can_resume(ack.system_next) {
                self.close_link(conn, CloseReason::ProtocolFault);
                return self.attempt_failed(now, GateCause::Handshake, false);
            }
        }
        let terms = Terms {
            remote: node,
            session: ack.session,
            resumption,
            receive_next: ack.receive_next,
            system_next: ack.system_next,
            limits: ack.limits,
            capabilities: self.config.capabilities().common(ack.handshake.capabilities()),
            announced: if resumption == Resumption::Running { announced } else { 0 },
        };
        self.adopt(now, conn, terms);
    }

    /// The opener confirmed our answer with its first acknowledgement.
    pub(super) fn on_confirmed(&mut self, now: Instant, conn: ConnectionId, session: u64) {
        let Some(link) = self.link(conn) else { return };
        let Phase::Answered(answered) = &link.phase else { return };
        if answered.session != session {
            self.statistics.frames_ignored += 1;
            return;
        }
        let request = &answered.request;
        let terms = Terms {
            remote: request.handshake.node().clone(),
            session,
            resumption: answered.resumption,
            receive_next: request.receive_next,
            system_next: request.system_next,
            limits: answered.limits,
            capabilities: request.handshake.capabilities(),
            announced: link.announced,
        };
        let terms = Terms { capabilities: self.config.capabilities().common(terms.capabilities), ..terms };
        if self.book.get(terms.remote.uid(), now).is_some() {
            self.close_link(conn, CloseReason::Quarantined);
            return;
        }
        let running = terms.resumption == Resumption::Running;
        let still = self.session.as_ref().is_some_and(|s| s.id == session)
            && self.lane.can_resume(terms.receive_next)
            && self.system.can_resume(terms.system_next);
        if running && !still {
            self.close_link(conn, CloseReason::Superseded);
            return self.attempt_failed(now, GateCause::Handshake, false);
        }
        self.adopt(now, conn, terms);
    }

    /// The peer repeated its request: our answer was lost.
    pub(super) fn on_repeated_request(&mut self, conn: ConnectionId, request: &Request) {
        let Some(link) = self.link(conn) else { return };
        if let Phase::Answered(answered) = &link.phase
            && answered.request.handshake.nonce() == request.handshake.nonce()
        {
            let bytes = answered.bytes.clone();
            link.out.extend_from_slice(&bytes);
            self.wake_driver();
        } else {
            self.statistics.frames_ignored += 1;
        }
    }

    /// The peer refused our request.
    pub(super) fn on_refuse(&mut self, now: Instant, conn: ConnectionId, refuse: Refuse) {
        let Some(link) = self.link(conn) else { return };
        let Phase::Requested(request) = &link.phase else { return };
        if refuse.echo != 0 && refuse.echo != request.handshake.nonce() {
            self.statistics.frames_ignored += 1;
            return;
        }
        let reason = refuse.reason;
        self.close_link(conn, CloseReason::Refused(reason));
        let Refuse { asked_for, known_by, versions, uid, .. } = refuse;
        let lasting = match reason {
            RefuseReason::WrongAddress => Some(QuarantineReason::WrongAddress),
            RefuseReason::Version => Some(QuarantineReason::Version),
            RefuseReason::UidCollision => Some(QuarantineReason::UidCollision),
            RefuseReason::ProtocolFault => Some(QuarantineReason::ProtocolFault),
            // Refused for now: it is tried again.
            _ => None,
        };
        if reason == RefuseReason::Quarantined {
            if self.session.as_ref().is_none_or(|s| uid.is_any() || s.remote.uid() == uid) {
                self.ended_by_peer(now, QuarantineReason::ByPeer);
            }
        } else if !matches!(self.state, AssociationState::Gated { cause: GateCause::Refused(r), .. } if r == reason)
            && self.refused_reason != Some(reason)
        {
            self.refused_reason = Some(reason);
            let known_by = known_by.clone();
            let event = AssociationEvent::RefusedByPeer { reason, asked_for, known_by, versions };
            self.events.push_back(event);
        }
        match lasting {
            Some(reason) if self.live.is_none() => {
                let mut facts = alloc::format!("the peer refused the handshake: {reason}");
                let more = match (reason, known_by) {
                    (QuarantineReason::Version, _) => {
                        write!(facts, "; it speaks {versions}, this node {VERSIONS}")
                    }
                    (QuarantineReason::WrongAddress, Some(known_by)) => {
                        write!(facts, "; asked for {}, it is known as {known_by}", self.peer_node)
                    }
                    _ => Ok(()),
                };
                // Text always takes more.
                debug_assert!(more.is_ok());
                self.quarantine_for(now, reason, facts);
            }
            _ => self.attempt_failed(now, GateCause::Refused(reason), false),
        }
    }

    /// Our dial found the incarnation that is quarantined: nobody else lives there.
    fn found_quarantined(&mut self, now: Instant) {
        if matches!(self.state, AssociationState::Quarantined { .. }) {
            self.stop_attempts();
            self.lose_queue(now, nexus_actor_core::DeadLetterReason::Quarantined);
        } else {
            self.attempt_failed(now, GateCause::Refused(RefuseReason::Quarantined), false);
        }
    }

    pub(super) fn attempt_failed(&mut self, now: Instant, cause: GateCause, refused: bool) {
        self.statistics.attempts_failed += 1;
        if let Some(down) = &mut self.down {
            if refused {
                down.refused = true;
            } else {
                // A process that is being killed may accept one more dial: that says nothing about later ones.
                *down = Down { since: now, refused: false };
                if self.timers.get(Timer::RefusedVerdict).is_some()
                    && let Some(verdict) = self.config.refused_verdict()
                {
                    self.timers.set(Timer::RefusedVerdict, now + verdict);
                }
            }
        }
        if let Some(claim) = &mut self.claim {
            claim.dial_failed = true;
        }
        if !self.has_attempt() {
            for timer in [Timer::DialDeadline, Timer::HandshakeRetry, Timer::HandshakeDeadline] {
                self.timers.stop(timer);
            }
        }
        if self.live.is_some() {
            // A claim could not be checked while its address is alive: it does not count.
            self.claim = None;
            return;
        }
        if self.has_attempt() {
            return;
        }
        let parked = self.links.iter_mut().find_map(|link| {
            if !matches!(link.phase, Phase::Parked(..)) {
                return None;
            }
            match core::mem::replace(&mut link.phase, Phase::Closed) {
                Phase::Parked(request, proof) => Some((link.id, request, proof)),
                _ => None,
            }
        });
        if let Some((conn, request, proof)) = parked {
            return self.consider(now, conn, *request, proof);
        }
        self.retry(now, cause, refused);
    }

    pub(super) fn retry(&mut self, now: Instant, cause: GateCause, refused: bool) {
        let attempt = self.backoff.attempt();
        let quarantined = matches!(self.state, AssociationState::Quarantined { .. });
        if !self.wants_connection() {
            self.wish = false;
            self.timers.stop(Timer::NeverReached);
            self.events.push_back(AssociationEvent::AttemptFailed { attempt, cause, retry_at: None });
            if self.closing.is_some() {
                return self.finish_leave(now, false);
            }
            if !quarantined && !self.suspended {
                self.rest(now, LostCause::Broken);
            }
            return;
        }
        if let Some(max) = self.config.reconnect_attempts_max()
            && attempt >= max
            && !quarantined
        {
            return self.give_up(now, cause);
        }
        let wait = self.backoff.failed(now, refused, &self.config, &mut self.rng);
        let until = now + wait;
        self.timers.set(Timer::Dial, until);
        let retry_at = Some(until);
        self.events.push_back(AssociationEvent::AttemptFailed { attempt, cause, retry_at });
        if !quarantined {
            self.enter(now, AssociationState::Gated { until, cause });
        }
        self.judge_refused(now);
    }

    /// Nothing is under way and nothing needs to be.
    pub(super) fn rest(&mut self, now: Instant, cause: LostCause) {
        self.wish = false;
        self.timers.stop(Timer::Dial);
        if self.session.is_some() {
            self.enter(now, AssociationState::Suspended { cause: SuspendCause::Lost(cause) });
        } else {
            self.enter(now, AssociationState::Unassociated);
        }
    }

    // Links

    pub(super) fn link_index(&self, conn: ConnectionId) -> Option<usize> {
        self.links.iter().position(|l| l.id == conn)
    }

    pub(super) fn link(&mut self, conn: ConnectionId) -> Option<&mut Link> {
        self.links.iter_mut().find(|l| l.id == conn)
    }

    pub(super) fn close_link(&mut self, conn: ConnectionId, reason: CloseReason) {
        if let Some(link) = self.link(conn) {
            link.close(reason);
        }
        self.wake_driver();
    }

    /// Closes every connection in handshake.
    pub(super) fn drop_attempts(&mut self, reason: CloseReason) {
        self.dial_wanted = None;
        for link in &mut self.links {
            match link.phase {
                Phase::Dialling | Phase::Requested(_) | Phase::Parked(..) | Phase::Answered(_) => {
                    link.close(reason);
                }
                Phase::Live | Phase::Closed => {}
            }
        }
    }

    pub(super) fn stop_attempts(&mut self) {
        for timer in [
            Timer::Dial,
            Timer::DialDeadline,
            Timer::HandshakeRetry,
            Timer::HandshakeDeadline,
            Timer::NeverReached,
        ] {
            self.timers.stop(timer);
        }
    }

    /// A connection to close, once everything meant for it has been taken by `poll_transmit`.
    ///
    /// Its end need not be reported.
    pub fn poll_close(&mut self) -> Option<(ConnectionId, CloseReason)> {
        let index = self.links.iter().position(|l| l.closing.is_some() && l.out.is_empty())?;
        let link = self.links.remove(index);
        link.closing.map(|reason| (link.id, reason))
    }

    /// Whether `conn` is to be closed, though there may be last words for it that nobody has taken yet.
    #[must_use]
    pub fn is_closing(&self, conn: ConnectionId) -> bool {
        self.links.iter().find(|l| l.id == conn).is_none_or(|l| l.closing.is_some())
    }

    /// What the receiving side goes on with on `conn`; `None` unless `conn` serves the association.
    ///
    /// Ask after each control frame of a connection that has not been attached yet, and hand it to
    /// [`Inbound::attach`](super::Inbound::attach) before the next frame is looked at.
    #[must_use]
    pub fn attachment(&self, conn: ConnectionId) -> Option<Attachment> {
        let session = self.session.as_ref().filter(|_| self.live == Some(conn))?;
        let link = self.links.iter().find(|l| l.id == conn)?;
        Some(Attachment {
            connection: conn,
            epoch: self.statistics.connections,
            session: session.id,
            start: link.announced,
        })
    }

    /// A connection has ended by itself.
    pub fn handle_connection_lost(&mut self, now: Instant, conn: ConnectionId, cause: LostCause) {
        let Some(index) = self.link_index(conn) else { return };
        let link = self.links.remove(index);
        if self.dial_wanted == Some(conn) {
            self.dial_wanted = None;
        }
        match link.phase {
            Phase::Live => self.on_live_lost(now, cause),
            Phase::Dialling | Phase::Requested(_) | Phase::Answered(_) => {
                self.attempt_failed(now, GateCause::Handshake, false);
            }
            Phase::Parked(..) | Phase::Closed => {}
        }
        self.wake_driver();
    }

    // Timers

    pub(super) fn on_dial_deadline(&mut self, now: Instant) {
        let Some(link) = self.links.iter_mut().find(|l| matches!(l.phase, Phase::Dialling)) else { return };
        link.close(CloseReason::TimedOut);
        self.dial_wanted = None;
        self.attempt_failed(now, GateCause::Dial(DialError::TimedOut), false);
    }

    pub(super) fn on_handshake_retry(&mut self, now: Instant) {
        let mut again = false;
        for link in &mut self.links {
            match &link.phase {
                Phase::Requested(request) => {
                    request.encode(&mut link.out);
                    again = true;
                }
                Phase::Answered(answered) => {
                    link.out.extend_from_slice(&answered.bytes);
                    again = true;
                }
                Phase::Dialling | Phase::Parked(..) | Phase::Live | Phase::Closed => {}
            }
        }
        if again {
            self.timers.set(Timer::HandshakeRetry, now + self.config.handshake_retry());
            self.wake_driver();
        }
    }

    pub(super) fn on_handshake_deadline(&mut self, now: Instant) {
        let mut failed = false;
        for link in &mut self.links {
            if matches!(link.phase, Phase::Requested(_) | Phase::Answered(_)) {
                link.out.clear();
                link.close(CloseReason::TimedOut);
                failed = true;
            }
        }
        if failed {
            self.attempt_failed(now, GateCause::Handshake, false);
        }
    }

    pub(super) fn on_dial_timer(&mut self, now: Instant) {
        if self.live.is_none() && !self.suspended && !self.closed && self.closing != Some(Closing::Left) {
            if self.wants_connection() {
                self.start_dial(now);
            } else if !matches!(self.state, AssociationState::Quarantined { .. }) && !self.has_attempt() {
                self.rest(now, LostCause::Broken);
            }
        }
    }
}
