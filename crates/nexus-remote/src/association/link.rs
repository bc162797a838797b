//! The connections of one association, each in its phase of the handshake.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::event::{CloseReason, ConnectionId};
use super::handshake::PeerProof;
use crate::wire::{Request, SessionLimits};

/// What we answered to a request, until its opener confirms.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) request: Request,
    pub(super) session: u64,
    pub(super) resumption: Resumption,
    /// The answer, to be sent again.
    pub(super) bytes: Vec<u8>,
    pub(super) limits: SessionLimits,
}

/// What an agreed connection goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumption {
    /// A session that runs here.
    Running,
    /// A session that was answered and never confirmed: both lanes are at 0.
    Unconfirmed,
    /// A new session.
    None,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// We dial; the transport has not answered.
    Dialling,
    /// Our request is out.
    Requested(Box<Request>),
    /// The peer's request waits until our own attempt has come to an end.
    Parked(Box<Request>, PeerProof),
    /// The peer's request is answered.
    Answered(Box<Answered>),
    /// It serves the association.
    Live,
    /// Nothing is taken from it any more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) phase: Phase,
    /// Handshake bytes and last words, before anything else.
    pub(super) out: Vec<u8>,
    pub(super) closing: Option<CloseReason>,
    /// The number of the ordinary frame that we said we expect first on it.
    pub(super) announced: u64,
}

impl Link {
    pub(super) const fn new(id: ConnectionId, phase: Phase) -> Self {
        Self { id, phase, out: Vec::new(), closing: None, announced: 0 }
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(reason);
        }
        self.phase = Phase::Closed;
    }

    pub(super) const fn is_attempt(&self) -> bool {
        matches!(self.phase, Phase::Dialling | Phase::Requested(_))
    }
}
