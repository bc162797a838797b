//! What one association has counted.

use super::Association;
use super::lane::Freed;

/// Counts of one association since it was made. Messages are envelopes, replies and lookups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssociationStatistics {
    /// Messages accepted for sending.
    pub sent: u64,
    /// Of them, those the peer has acknowledged.
    pub acknowledged: u64,
    /// Of them, those recorded as lost.
    pub lost: u64,
    /// Of them, those waiting or unacknowledged: always `sent - acknowledged - lost`.
    pub in_flight: u64,
    /// Sends that were refused to their callers. A sender that waits for room may try, and be refused, more than once.
    pub refused: u64,
    /// Bytes waiting and unacknowledged.
    pub in_flight_bytes: u64,
    /// Asks that wait for an answer.
    pub asks: u64,
    /// Answers that came too late, twice, or with a wrong key.
    pub answers_ignored: u64,
    /// System messages unacknowledged or queued.
    pub system_messages: u64,
    /// Actors watched at the peer.
    pub watching: u64,
    /// Actors the peer watches here.
    pub watched: u64,
    /// Recipients with a number.
    pub recipients: u64,
    /// Connections made over all time.
    pub connections: u64,
    /// Attempts that failed over all time.
    pub attempts_failed: u64,
    /// Control frames of the peer that said nothing useful: late, repeated or of another session.
    pub frames_ignored: u64,
}

impl Association {
    /// The counts.
    #[must_use]
    pub fn statistics(&mut self) -> AssociationStatistics {
        let freed = {
            let before = (self.lane.messages(), self.lane.bytes());
            self.lane.count();
            Freed { messages: before.0 - self.lane.messages(), bytes: before.1 - self.lane.bytes() }
        };
        self.statistics.acknowledged += freed.messages as u64;
        AssociationStatistics {
            in_flight: self.lane.messages() as u64,
            in_flight_bytes: self.lane.bytes() as u64,
            asks: self.asks.len() as u64,
            system_messages: self.system.len() as u64,
            watching: self.watches.len() as u64,
            watched: self.peer_watches.len() as u64,
            recipients: self.tables.len() as u64,
            ..self.statistics
        }
    }
}
