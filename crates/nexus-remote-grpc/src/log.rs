//! The lines of this crate's log, at the points that operations ask for: a connection made, lost, tried again, given up.
//! Dead letters are written by the core. The crate's documentation lists them all: keep it true.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is written"))]

use std::net::IpAddr;
use std::sync::Arc;

#[cfg(feature = "tracing")]
use nexus_actor_core::{Instant, lock::Lock};
#[cfg(feature = "tracing")]
use nexus_remote::throttle::Throttle;

use crate::endpoint::Endpoint;
use crate::endpoint_state::{DisconnectCause, TerminatedReason};
use crate::inbound::listener::host_of;

/// How often one line about one peer is written (limit L27); the next one says how many were held back.
#[cfg(feature = "tracing")]
const EVERY: core::time::Duration = core::time::Duration::from_millis(100);
/// Lines and sources that are told apart; those beyond are held back together.
#[cfg(feature = "tracing")]
const KINDS_MAX: usize = 1_024;
/// Characters of a text of a peer that are written.
#[cfg(feature = "tracing")]
const SHOWN_MAX: usize = 256;

/// Whom a line counts for. A stranger may call itself anything, so the host that it calls from counts and no more lines are
/// had by more names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The host that a call came from, or that named the address.
    Host(IpAddr),
    /// An address that is reached for here.
    Address(Arc<str>),
    /// This node itself.
    Here,
}

impl Source {
    pub(crate) fn host(ip: IpAddr) -> Self {
        Self::Host(host_of(ip))
    }
}

/// When each line was last written. What strangers cause has a table of its own: filled by them, it holds back nothing of what
/// is done here.
#[cfg(feature = "tracing")]
struct Lines {
    strangers: Throttle<(IpAddr, &'static str)>,
    own: Throttle<(Option<Arc<str>>, &'static str)>,
}

#[cfg(feature = "tracing")]
impl Lines {
    const fn new() -> Self {
        Self { strangers: Throttle::new(EVERY, KINDS_MAX), own: Throttle::new(EVERY, KINDS_MAX) }
    }

    /// Whether a line is written now: then how many like it were not.
    fn pass(&mut self, now: Instant, source: &Source, text: &'static str) -> Option<u64> {
        match source {
            Source::Host(ip) => self.strangers.pass(now, (*ip, text)),
            Source::Address(address) => self.own.pass(now, (Some(address.clone()), text)),
            Source::Here => self.own.pass(now, (None, text)),
        }
    }
}

#[cfg(feature = "tracing")]
fn pass(source: &Source, text: &'static str) -> Option<u64> {
    use std::sync::LazyLock;
    use std::time::Instant as Clock;

    static LINES: LazyLock<(Clock, Lock<Lines>)> = LazyLock::new(|| (Clock::now(), Lock::new(Lines::new())));
    let (began, lines) = &*LINES;
    let now = Instant::ZERO + began.elapsed();
    lines.lock().pass(now, source, text)
}

/// The beginning of what a peer says.
#[cfg(feature = "tracing")]
fn shown(text: &str) -> &str {
    text.char_indices().nth(SHOWN_MAX).map_or(text, |(end, _)| &text[..end])
}

macro_rules! line {
    ($level:ident, $source:expr, $text:literal $(, $($field:tt)*)?) => {
        #[cfg(feature = "tracing")]
        if tracing::enabled!(target: "nexus_remote_grpc::endpoint", tracing::Level::$level)
            && let Some(held_back) = pass($source, $text)
        {
            tracing::event!(
                target: "nexus_remote_grpc::endpoint", tracing::Level::$level, held_back $(, $($field)*)?, $text
            );
        }
    };
}

pub(crate) fn connected(endpoint: &Endpoint, system_id: &str) {
    line!(
        INFO,
        &endpoint.source(),
        "connected",
        address = &**endpoint.address(),
        system_id = shown(system_id)
    );
}

pub(crate) fn disconnected(endpoint: &Endpoint, cause: &DisconnectCause) {
    line!(INFO, &endpoint.source(), "disconnected", address = &**endpoint.address(), %cause);
}

pub(crate) fn reconnecting(endpoint: &Endpoint, attempt: u32) {
    line!(INFO, &endpoint.source(), "reconnecting", address = &**endpoint.address(), attempt);
}

pub(crate) fn connect_failed(endpoint: &Endpoint, why: &str) {
    line!(DEBUG, &endpoint.source(), "attempt failed", address = &**endpoint.address(), why);
}

pub(crate) fn terminated(endpoint: &Endpoint, reason: &TerminatedReason) {
    line!(WARN, &endpoint.source(), "terminated", address = &**endpoint.address(), %reason);
}

pub(crate) fn throttled(endpoint: &Endpoint, level: &str, messages: usize, bytes: usize) {
    line!(WARN, &endpoint.source(), "backpressure", address = &**endpoint.address(), level, messages, bytes);
}

pub(crate) fn refused(source: &Source, address: &str, system_id: &str, why: &str) {
    line!(WARN, source, "call refused", address = ?shown(address), system_id = ?shown(system_id), why);
}

pub(crate) fn unexpected(source: &Source, address: &str, what: &str) {
    line!(DEBUG, source, "unexpected message", address, what);
}

pub(crate) fn accept_failed(error: &std::io::Error) {
    line!(WARN, &Source::Here, "accept failed", %error);
}

pub(crate) fn listener_failed(address: &str, error: &str) {
    line!(ERROR, &Source::Here, "the listener failed", address, error);
}

pub(crate) fn start_warning(warning: &str) {
    // Each has its own text, and they are few.
    line!(WARN, &Source::Address(Arc::from(warning)), "start", warning);
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::net::Ipv4Addr;

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

    /// A host that calls no other test.
    fn host(number: u8) -> Source {
        Source::host(Ipv4Addr::new(192, 0, 2, number).into())
    }

    /// Nothing is looked up, kept or put into words for a line that nobody reads.
    #[test]
    fn what_is_not_read_is_not_counted() {
        struct Deaf;
        impl tracing::Subscriber for Deaf {
            fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
                false
            }
            fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
                span::Id::from_u64(1)
            }
            fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
            fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
            fn event(&self, _: &tracing::Event<'_>) {}
            fn enter(&self, _: &span::Id) {}
            fn exit(&self, _: &span::Id) {}
        }
        tracing::subscriber::with_default(Deaf, || refused(&host(3), "deaf:1", "one", "blocked"));
        let counts = Counts::default();
        tracing::subscriber::with_default(counts.clone(), || refused(&host(3), "deaf:1", "one", "blocked"));
        assert_eq!(counts.0.load(Ordering::Relaxed), 1, "the first that is read is written at once");
    }

    /// However many hosts call, and whatever addresses one of them has, the lines and what is kept of them are bounded, and
    /// those of what is done here are among them.
    ///
    /// Covers: L27
    #[test]
    fn hosts_without_number_hold_back_nothing_of_here() {
        let mut lines = Lines::new();
        let now = Instant::from_millis(1);
        let hosts = (0..100_000_u32).map(|number| Source::host(Ipv4Addr::from_bits(number).into()));
        let written = hosts.filter(|host| lines.pass(now, host, "call refused").is_some()).count();
        assert_eq!(written, KINDS_MAX + 1, "the rest is one kind more");
        let here = Source::Address(Arc::from("127.0.0.1:1"));
        assert_eq!(lines.pass(now, &here, "connected"), Some(0));
        assert_eq!(lines.pass(now, &here, "connected"), None);
        assert_eq!(lines.pass(now, &Source::Here, "accept failed"), Some(0));

        let mut lines = Lines::new();
        let network = 0x2001_0db8_u128 << 96;
        let of_one = (0..1_000_u128).map(|number| Source::host(IpAddr::V6((network | number).into())));
        let written = of_one.filter(|host| lines.pass(now, host, "call refused").is_some()).count();
        assert_eq!(written, 1, "a host of IPv6 has a whole network");
        let other = Source::host(IpAddr::V6((network | 1 << 64).into()));
        assert_eq!(lines.pass(now, &other, "call refused"), Some(0));
    }

    /// A name may be as long as a message.
    #[test]
    fn the_beginning_of_a_name_is_shown() {
        assert_eq!(shown("short"), "short");
        let (at, above) = ("ü".repeat(SHOWN_MAX), "ü".repeat(SHOWN_MAX + 1));
        assert_eq!((shown(&at), shown(&above)), (&*at, &*at));
    }

    /// Covers: S144
    #[test]
    fn a_storm_of_one_line_is_a_few_with_counts() {
        let counts = Counts::default();
        let (written, held_back) = (|| counts.0.load(Ordering::Relaxed), || counts.1.load(Ordering::Relaxed));
        let (mut said, began) = (0, std::time::Instant::now());
        tracing::subscriber::with_default(counts.clone(), || {
            while written() < 4 {
                // Whatever it calls itself.
                refused(&host(1), &format!("storm:{said}"), &said.to_string(), "blocked");
                said += 1;
                assert!(began.elapsed() < 300 * EVERY, "{} lines of {said}", written());
            }
        });
        // Between each and the next.
        assert!(began.elapsed() >= 3 * EVERY, "{:?}", began.elapsed());
        assert_eq!(held_back() + 4, said);
        // Another peer, and another reason, are no part of the storm.
        tracing::subscriber::with_default(counts.clone(), || {
            refused(&host(2), "storm:1", "one", "blocked");
            unexpected(&host(1), "storm:1", "x");
        });
        assert_eq!(written(), 4 + 2);
    }
}
