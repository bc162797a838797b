//! The lines of this crate's log, at the points that operations ask for: a connection made, lost, tried again, given up.
//! Dead letters are written by the core. The crate's documentation lists them all: keep it true.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is written"))]

use crate::endpoint_state::{DisconnectCause, TerminatedReason};

/// How often one line about one peer is written (limit L27); the next one says how many were held back.
#[cfg(feature = "tracing")]
const EVERY: core::time::Duration = core::time::Duration::from_millis(100);
/// Lines and peers that are told apart; those beyond are held back together.
#[cfg(feature = "tracing")]
const KINDS_MAX: usize = 1_024;

/// Whether a line about `peer` is written now: then how many like it were not.
#[cfg(feature = "tracing")]
fn pass(peer: &str, text: &'static str) -> Option<u64> {
    use std::sync::LazyLock;
    use std::time::Instant as Clock;

    use nexus_actor_core::Instant;
    use nexus_actor_core::lock::Lock;
    use nexus_remote::throttle::Throttle;

    type Lines = (Clock, Lock<Throttle<(String, &'static str)>>);
    static LINES: LazyLock<Lines> =
        LazyLock::new(|| (Clock::now(), Lock::new(Throttle::new(EVERY, KINDS_MAX))));
    let (began, lines) = &*LINES;
    let now = Instant::ZERO + began.elapsed();
    lines.lock().pass(now, (peer.to_owned(), text))
}

macro_rules! line {
    ($level:ident, $peer:expr, $text:literal $(, $($field:tt)*)?) => {
        #[cfg(feature = "tracing")]
        if let Some(held_back) = pass($peer, $text) {
            tracing::$level!(target: "nexus_remote_grpc::endpoint", held_back $(, $($field)*)?, $text);
        }
    };
}

pub(crate) fn connected(address: &str, system_id: &str) {
    line!(info, address, "connected", address, system_id);
}

pub(crate) fn disconnected(address: &str, cause: &DisconnectCause) {
    line!(info, address, "disconnected", address, %cause);
}

pub(crate) fn reconnecting(address: &str, attempt: u32) {
    line!(info, address, "reconnecting", address, attempt);
}

pub(crate) fn connect_failed(address: &str, why: &str) {
    line!(debug, address, "attempt failed", address, why);
}

pub(crate) fn terminated(address: &str, reason: &TerminatedReason) {
    line!(warn, address, "terminated", address, %reason);
}

pub(crate) fn throttled(address: &str, level: &str, messages: usize, bytes: usize) {
    line!(warn, address, "backpressure", address, level, messages, bytes);
}

pub(crate) fn refused(address: &str, system_id: &str, why: &str) {
    line!(warn, address, "call refused", ?address, ?system_id, why);
}

pub(crate) fn unexpected(address: &str, what: &str) {
    line!(debug, address, "unexpected message", address, what);
}

pub(crate) fn accept_failed(error: &std::io::Error) {
    line!(warn, "", "accept failed", %error);
}

pub(crate) fn listener_failed(address: &str, error: &str) {
    line!(error, address, "the listener failed", address, error);
}

pub(crate) fn start_warning(warning: &str) {
    line!(warn, warning, "start", warning);
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use portable_atomic::{AtomicU64, Ordering};
    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;

    /// Counts events, and what they say was held back.
    #[derive(Clone, Default)]
    struct Counts(Arc<AtomicU64>, Arc<AtomicU64>);

    struct HeldBack(u64);

    impl Visit for HeldBack {
        fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
        fn record_u64(&mut self, field: &Field, value: u64) {
            if field.name() == "held_back" {
                self.0 += value;
            }
        }
    }

    impl tracing::Subscriber for Counts {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut held_back = HeldBack(0);
            event.record(&mut held_back);
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.fetch_add(held_back.0, Ordering::Relaxed);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    /// Covers: S144
    #[test]
    fn a_storm_of_one_line_is_a_few_with_counts() {
        let counts = Counts::default();
        let mut said = 0;
        tracing::subscriber::with_default(counts.clone(), || {
            let began = Instant::now();
            while began.elapsed() < 2 * EVERY + EVERY / 2 {
                refused("storm:1", "one", "blocked");
                said += 1;
            }
        });
        let (written, held_back) = (counts.0.load(Ordering::Relaxed), counts.1.load(Ordering::Relaxed));
        assert!((2..=4).contains(&written), "{written} lines of {said}");
        assert!(held_back > 0 && held_back + written <= said, "{held_back} held back of {said}");
        // Another peer, and another reason, are no part of the storm.
        tracing::subscriber::with_default(counts.clone(), || {
            refused("storm:2", "one", "blocked");
            unexpected("storm:1", "x");
        });
        assert_eq!(counts.0.load(Ordering::Relaxed), written + 2);
    }
}
