//! Connections that have not associated yet: deadlines, bytes and counts (limits L1 to L5).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use nexus_actor_core::Instant;

/// The node's number of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionNumber(pub u64);

/// Limits of connections that have not associated yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionConfig {
    /// Time until the first byte (L1); 3 s by default.
    pub first_byte: Duration,
    /// Time until the handshake is complete, TLS included (L1); 10 s by default.
    pub whole: Duration,
    /// Bytes of the handshake in one direction (L2); 4 KiB by default.
    pub bytes_max: usize,
    /// Connections not yet associated, in all (L3); 128 by default.
    pub pending_max: usize,
    /// Of them, from one source address (L3); 16 by default.
    pub pending_per_source_max: usize,
    /// New connections a second from one source that came to nothing (L4); 64 by default.
    pub failures_per_second: u32,
    /// How many of those may come at once (L4); 256 by default.
    pub failures_burst: u32,
    /// Memory held for one such connection (L5); 64 KiB by default.
    pub memory_max: usize,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(3),
            whole: Duration::from_secs(10),
            bytes_max: 4 * 1024,
            pending_max: 128,
            pending_per_source_max: 16,
            failures_per_second: 64,
            failures_burst: 256,
            memory_max: 64 * 1024,
        }
    }
}

#[derive(Debug)]
struct Pending {
    source: Option<IpAddr>,
    accepted: Instant,
    first_byte: bool,
    hello: bool,
    bytes: usize,
}

#[derive(Debug)]
struct Failures {
    /// Tokens left, in thousandths.
    tokens: u64,
    at: Instant,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It may stay.
    Yes,
    /// It may stay, and this other one must be closed for it: the one longest without a complete hello.
    InPlaceOf(ConnectionNumber),
    /// It must be closed: its source has made too many connections that came to nothing.
    No,
}

/// Why a connection in handshake must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdmissionFault {
    /// It sent more than a handshake has (L2).
    TooManyBytes,
    /// It would need more memory than it may have (L5).
    TooMuchMemory,
}

/// Keeps the books of accepted connections until they associate. Sans-IO; connections of associated peers are not
/// in it and are never touched.
#[derive(Debug)]
pub struct Admission {
    config: AdmissionConfig,
    pending: BTreeMap<ConnectionNumber, Pending>,
    failures: BTreeMap<IpAddr, Failures>,
}

impl Admission {
    /// Nobody waits.
    #[must_use]
    pub const fn new(config: AdmissionConfig) -> Self {
        Self { config, pending: BTreeMap::new(), failures: BTreeMap::new() }
    }

    /// A connection was accepted. `source` is `None` where there is no address, as in one process.
    pub fn accept(&mut self, now: Instant, number: ConnectionNumber, source: Option<IpAddr>) -> Admitted {
        if let Some(source) = source
            && !self.may_fail(now, source)
        {
            return Admitted::No;
        }
        let of_source = self.pending.values().filter(|p| source.is_some() && p.source == source).count();
        let evicted = if of_source >= self.config.pending_per_source_max {
            self.longest_waiting(|p| p.source == source)
        } else if self.pending.len() >= self.config.pending_max {
            self.longest_waiting(|_| true)
        } else {
            None
        };
        if let Some(evicted) = evicted {
            self.closed(now, evicted);
        }
        let pending = Pending { source, accepted: now, first_byte: false, hello: false, bytes: 0 };
        self.pending.insert(number, pending);
        evicted.map_or(Admitted::Yes, Admitted::InPlaceOf)
    }

    /// The connection longest without a complete hello; one with a hello goes only if all have theirs.
    fn longest_waiting(&self, of: impl Fn(&Pending) -> bool) -> Option<ConnectionNumber> {
        let candidates = self.pending.iter().filter(|(_, p)| of(p));
        candidates.min_by_key(|(number, p)| (p.hello, p.accepted, **number)).map(|(number, _)| *number)
    }

    fn may_fail(&mut self, now: Instant, source: IpAddr) -> bool {
        let full = u64::from(self.config.failures_burst) * 1_000;
        let Some(failures) = self.failures.get_mut(&source) else { return true };
        let earned = (now - failures.at).as_millis() * u128::from(self.config.failures_per_second);
        failures.tokens = failures.tokens.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)).min(full);
        failures.at = now;
        if failures.tokens >= full {
            self.failures.remove(&source);
            return true;
        }
        failures.tokens >= 1_000
    }

    /// `count` bytes of the handshake arrived; `buffered` is what is held for the connection now.
    ///
    /// # Errors
    /// The connection must be closed.
    pub fn handle_bytes(
        &mut self,
        number: ConnectionNumber,
        count: usize,
        buffered: usize,
    ) -> Result<(), AdmissionFault> {
        let Some(pending) = self.pending.get_mut(&number) else { return Ok(()) };
        pending.first_byte |= count > 0;
        pending.bytes = pending.bytes.saturating_add(count);
        if pending.bytes > self.config.bytes_max {
            Err(AdmissionFault::TooManyBytes)
        } else if buffered > self.config.memory_max {
            Err(AdmissionFault::TooMuchMemory)
        } else {
            Ok(())
        }
    }

    /// The whole hello of a connection has arrived; it is evicted last from now on.
    pub fn hello(&mut self, number: ConnectionNumber) {
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.first_byte = true;
            pending.hello = true;
        }
    }

    /// A connection serves an association now.
    pub fn associated(&mut self, number: ConnectionNumber) {
        self.pending.remove(&number);
    }

    /// A connection ended without having associated.
    pub fn closed(&mut self, now: Instant, number: ConnectionNumber) {
        let Some(pending) = self.pending.remove(&number) else { return };
        let Some(source) = pending.source else { return };
        let full = u64::from(self.config.failures_burst) * 1_000;
        // Sources that have earned all their tokens back are forgotten, so a scan leaves nothing behind.
        let rate = u128::from(self.config.failures_per_second);
        self.failures.retain(|_, f| u128::from(full - f.tokens.min(full)) > (now - f.at).as_millis() * rate);
        let failures = self.failures.entry(source).or_insert(Failures { tokens: full, at: now });
        failures.tokens = failures.tokens.saturating_sub(1_000);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pending.values().map(|p| self.deadline(p)).min()
    }

    /// Deadlines are counted from the accept: progress does not move them.
    fn deadline(&self, pending: &Pending) -> Instant {
        let allowed = if pending.first_byte {
            self.config.whole
        } else {
            self.config.first_byte.min(self.config.whole)
        };
        pending.accepted + allowed
    }

    /// The connections whose time is over; close them. They are out of the books already.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<ConnectionNumber> {
        let over: Vec<_> =
            self.pending.iter().filter(|(_, p)| self.deadline(p) <= now).map(|(number, _)| *number).collect();
        for number in &over {
            self.closed(now, *number);
        }
        over
    }

    /// How many connections have not associated yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn source(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, n]))
    }

    const N: fn(u64) -> ConnectionNumber = ConnectionNumber;

    /// L1: both deadlines are absolute.
    ///
    /// Covers: S21
    #[test]
    fn progress_moves_no_deadline() {
        let mut a = Admission::new(AdmissionConfig::default());
        a.accept(ms(0), N(1), source(1));
        a.accept(ms(0), N(2), source(2));
        a.accept(ms(0), N(3), source(3));
        a.handle_bytes(N(2), 1, 1).unwrap();
        a.hello(N(3));
        assert_eq!(a.poll_timeout(), Some(ms(3_000)));
        assert_eq!(a.handle_timeout(ms(2_999)), []);
        assert_eq!(a.handle_timeout(ms(3_000)), [N(1)]);
        for t in 3..10 {
            assert_eq!(a.handle_timeout(ms(t * 1_000)), []);
            a.handle_bytes(N(2), 1, 1).unwrap();
        }
        a.associated(N(3));
        assert_eq!(a.handle_timeout(ms(9_999)), []);
        assert_eq!(a.handle_timeout(ms(10_000)), [N(2)]);
        assert!(a.is_empty());
        assert_eq!(a.poll_timeout(), None);
    }

    /// L2, L5: below, at and above.
    #[test]
    fn bytes_and_memory_are_bounded() {
        for (count, buffered, expected) in [
            (4_095, 0, Ok(())),
            (4_096, 65_536, Ok(())),
            (4_097, 0, Err(AdmissionFault::TooManyBytes)),
            (1, 65_537, Err(AdmissionFault::TooMuchMemory)),
        ] {
            let mut a = Admission::new(AdmissionConfig::default());
            a.accept(ms(0), N(1), None);
            assert_eq!(a.handle_bytes(N(1), count, buffered), expected, "{count} {buffered}");
        }
    }

    /// L3: below, at and above, per source and in all; a complete hello goes last.
    ///
    /// Covers: S21
    #[test]
    fn the_one_longest_without_a_hello_makes_room() {
        let mut a = Admission::new(AdmissionConfig::default());
        for n in 0..16 {
            assert_eq!(a.accept(ms(n), N(n), source(1)), Admitted::Yes, "{n}");
        }
        a.hello(N(0));
        assert_eq!(a.accept(ms(16), N(16), source(1)), Admitted::InPlaceOf(N(1)));
        assert_eq!(a.accept(ms(17), N(17), source(2)), Admitted::Yes);
        for n in 18..129 {
            assert_eq!(a.accept(ms(n), N(n), None), Admitted::Yes, "{n}");
        }
        assert_eq!(a.len(), 128);
        assert_eq!(a.accept(ms(200), N(200), source(3)), Admitted::InPlaceOf(N(2)));
        assert_eq!(a.len(), 128);
    }

    /// L4: below, at and above, and the tokens come back.
    #[test]
    fn a_source_whose_connections_come_to_nothing_is_slowed_down() {
        let mut a = Admission::new(AdmissionConfig::default());
        for n in 0..256 {
            assert_eq!(a.accept(ms(0), N(n), source(1)), Admitted::Yes, "{n}");
            a.closed(ms(0), N(n));
        }
        assert_eq!(a.accept(ms(0), N(300), source(1)), Admitted::No);
        assert_eq!(a.accept(ms(0), N(301), source(2)), Admitted::Yes, "others are not touched");
        a.associated(N(301));
        let mut admitted = 0;
        for n in 0..1_000 {
            if a.accept(ms(1_000), N(1_000 + n), source(1)) != Admitted::No {
                admitted += 1;
                a.closed(ms(1_000), N(1_000 + n));
            }
        }
        assert_eq!(admitted, 64);
        a.accept(ms(100_000), N(9_999), source(9));
        a.closed(ms(100_000), N(9_999));
        assert_eq!(a.failures.len(), 1, "a source is forgotten when its tokens are back");
    }
}
