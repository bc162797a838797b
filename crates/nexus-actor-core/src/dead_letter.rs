//! Messages that will never be delivered: counted by reason, and published for whoever wants to know.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use portable_atomic::{AtomicU64, Ordering};

use crate::correlation_id::CorrelationId;
use crate::event_stream::EventStream;
use crate::headers::Headers;
use crate::path::{ActorPath, Address};
use crate::pid::Pid;
use crate::reason::DeadLetterReason;

/// What is kept of a message that was lost. The message itself is of a type that cannot be copied in general, and
/// its sender has had it back where that was possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// The Rust type, or the manifest where only bytes were left of the message; empty where not even that is known.
    pub type_name: Cow<'static, str>,
    /// Size in bytes: of the payload where the message had been encoded, else of the value itself without what
    /// it points to.
    pub size: usize,
}

impl MessageInfo {
    /// A message of type `M` that never was encoded.
    #[must_use]
    pub fn of<M>() -> Self {
        Self { type_name: Cow::Borrowed(core::any::type_name::<M>()), size: size_of::<M>() }
    }

    /// A message of which there were `size` bytes of payload under `manifest`.
    #[must_use]
    pub fn encoded(manifest: impl Into<Cow<'static, str>>, size: usize) -> Self {
        Self { type_name: manifest.into(), size }
    }
}

impl fmt::Display for MessageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.type_name.is_empty() {
            return write!(f, "a message ({} bytes)", self.size);
        }
        write!(f, "{} ({} bytes)", crate::address::printable(&self.type_name), self.size)
    }
}

/// What is known of a dead letter besides recipient, message and sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterContext {
    /// Why it was not delivered.
    pub reason: DeadLetterReason,
    /// The recipient with all parts of its name.
    pub recipient: Option<ActorPath>,
    /// The node that it came from or was to go to, if it crossed or was to cross a wire.
    pub peer: Option<Address>,
    /// The id under which both nodes' recordings know it, or [`CorrelationId::NIL`].
    pub correlation_id: CorrelationId,
    /// The headers that travelled with it.
    pub headers: Headers,
    /// The cause in words, where the reason alone does not say it.
    pub detail: Option<Arc<str>>,
}

/// A message that will never be delivered, on its way to the [`DeadLetters`] of its system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a dead letter that is not recorded is a message lost without a trace"]
pub struct DeadLetter {
    pid: Option<Pid>,
    message: MessageInfo,
    sender: Option<Pid>,
    context: DeadLetterContext,
}

impl DeadLetter {
    /// The letter that a message of type `M` to `recipient` became for `reason`.
    pub fn new<M>(recipient: ActorPath, reason: DeadLetterReason) -> Self {
        let mut letter = Self::of(MessageInfo::of::<M>(), reason);
        letter.context.recipient = Some(recipient);
        letter
    }

    /// The letter that `message` became for `reason`; its recipient is not known yet.
    pub fn of(message: MessageInfo, reason: DeadLetterReason) -> Self {
        let context = DeadLetterContext {
            reason,
            recipient: None,
            peer: None,
            correlation_id: CorrelationId::NIL,
            headers: Headers::new(),
            detail: None,
        };
        Self { pid: None, message, sender: None, context }
    }

    /// The same letter with its recipient.
    pub fn with_recipient(mut self, recipient: ActorPath) -> Self {
        self.context.recipient = Some(recipient);
        self
    }

    /// The same letter with its recipient as a pid, where the path is not known or the pid is to be shown as it
    /// came from the wire.
    pub fn with_pid(mut self, pid: Pid) -> Self {
        self.pid = Some(pid);
        self
    }

    /// The same letter with its sender.
    pub fn with_sender(mut self, sender: Pid) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The same letter with the node at the other end of its wire.
    pub fn with_peer(mut self, peer: Address) -> Self {
        self.context.peer = Some(peer);
        self
    }

    /// The same letter with its correlation id.
    pub fn with_correlation_id(mut self, id: CorrelationId) -> Self {
        self.context.correlation_id = id;
        self
    }

    /// The same letter with its headers.
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.context.headers = headers;
        self
    }

    /// The same letter with its cause in words.
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.context.detail = Some(detail.into());
        self
    }

    /// Why it was not delivered.
    #[must_use]
    pub const fn reason(&self) -> DeadLetterReason {
        self.context.reason
    }
}

impl From<DeadLetter> for DeadLetterEvent {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { pid, message, sender, context } = letter;
        let pid = pid.or_else(|| context.recipient.as_ref().map(Pid::from_path));
        Self { pid, message, sender, context: Arc::new(context) }
    }
}

/// A message that will never be delivered. Published on the [`EventStream`], once for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterEvent {
    /// Whom it was for, if that was known.
    pub pid: Option<Pid>,
    /// The message.
    pub message: MessageInfo,
    /// Who sent it, if it said so.
    pub sender: Option<Pid>,
    context: Arc<DeadLetterContext>,
}

impl DeadLetterEvent {
    /// Why it was not delivered.
    #[must_use]
    pub fn reason(&self) -> DeadLetterReason {
        self.context.reason
    }

    /// Reason, correlation id, headers and the rest.
    ///
    /// # Source
    /// The lineage of `pid`, `message` and `sender` agreed on these three alone; what goes beyond stands beside
    /// them, here.
    #[must_use]
    pub fn context(&self) -> &DeadLetterContext {
        &self.context
    }

    /// What the sender is to be told, if there is a sender and a recipient to name.
    #[must_use]
    pub fn response(&self) -> Option<(Pid, DeadLetterResponse)> {
        Some((self.sender.clone()?, DeadLetterResponse { target: self.pid.clone()? }))
    }
}

impl fmt::Display for DeadLetterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context = self.context();
        write!(f, "dead letter: {} for ", self.message)?;
        match (&context.recipient, &self.pid) {
            (Some(path), _) => write!(f, "{path}")?,
            (None, Some(pid)) => f.write_str(&crate::address::printable(&pid.to_string()))?,
            (None, None) => f.write_str("nobody known")?,
        }
        write!(f, ": {}", context.reason)?;
        if let Some(detail) = &context.detail {
            write!(f, ": {}", crate::address::printable(detail))?;
        }
        if context.correlation_id != CorrelationId::NIL {
            write!(f, " [{}]", context.correlation_id)?;
        }
        Ok(())
    }
}

/// Told to the sender of a dead letter that named itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterResponse {
    /// Whom the message was for.
    pub target: Pid,
}

const REASONS: usize = DeadLetterReason::ALL.len();

const _: () = {
    let mut index = 0;
    while index < REASONS {
        assert!(DeadLetterReason::ALL[index] as usize == index, "a reason's place in ALL is its number");
        index += 1;
    }
};

#[derive(Default)]
struct Shared {
    counts: [AtomicU64; REASONS],
    unpublished: AtomicU64,
    events: EventStream,
}

/// The dead-letter office of one system. A handle: clones are the same office.
///
/// Every dead letter is counted; the event is made only when somebody is subscribed to [`DeadLetterEvent`]. A
/// letter that a handler of [`DeadLetterEvent`] causes is counted and not published
/// ([`DeadLetters::unpublished`]), or a subscriber that has stopped would make dead letters for ever.
///
/// With the feature `tracing` some letters are written as warnings too, with the count of their reason, which
/// tells how many were held back: of each reason the 1st, 2nd, 4th, 8th and so on, and from the 65,536th on one
/// in so many. A storm of losses is a few lines, and the first loss is always one.
#[derive(Clone, Default)]
pub struct DeadLetters(Arc<Shared>);

impl DeadLetters {
    /// An office that publishes on `events`.
    #[must_use]
    pub fn new(events: EventStream) -> Self {
        Self(Arc::new(Shared { events, ..Shared::default() }))
    }

    /// Counts `letter`, and publishes its [`DeadLetterEvent`] if somebody is subscribed.
    ///
    /// Subscribers run before this returns: it must not be called under a lock.
    pub fn record(&self, letter: DeadLetter) {
        let reason = letter.reason();
        self.record_with(reason, || letter);
    }

    /// Counts a letter of `reason`; `letter` makes it only when somebody is subscribed.
    ///
    /// For paths that lose many at once. The letter must be of that reason. Not to be called under a lock.
    pub fn record_with(&self, reason: DeadLetterReason, letter: impl FnOnce() -> DeadLetter) {
        let Some(count) = self.counted(reason) else { return };
        let event = || {
            let letter = letter();
            debug_assert_eq!(letter.reason(), reason);
            DeadLetterEvent::from(letter)
        };
        if log::is_due(count) {
            let event = event();
            log::write(&event, count);
            self.0.events.publish(event);
        } else {
            self.0.events.publish_with(event);
        }
    }

    /// How many letters died for `reason` since the system started.
    #[must_use]
    pub fn count(&self, reason: DeadLetterReason) -> u64 {
        self.0.counts.get(reason as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many letters died since the system started.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }

    /// The count of every reason, zeros included.
    pub fn counts(&self) -> impl Iterator<Item = (DeadLetterReason, u64)> + '_ {
        DeadLetterReason::ALL.into_iter().map(|reason| (reason, self.count(reason)))
    }

    /// How many letters were counted and not published, because a handler of dead letters caused them.
    #[must_use]
    pub fn unpublished(&self) -> u64 {
        self.0.unpublished.load(Ordering::Relaxed)
    }

    /// Counts a letter; gives the count of its reason if it is to be published.
    fn counted(&self, reason: DeadLetterReason) -> Option<u64> {
        let count =
            self.0.counts.get(reason as usize).map_or(0, |count| count.fetch_add(1, Ordering::Relaxed) + 1);
        // A subscriber that stopped or is full turns the event into the next dead letter, without end.
        let nested = self.0.events.is_delivering::<DeadLetterEvent>();
        if nested {
            self.0.unpublished.fetch_add(1, Ordering::Relaxed);
        }
        (!nested).then_some(count)
    }
}

#[cfg(feature = "tracing")]
mod log {
    use super::DeadLetterEvent;

    /// From this count on one letter in so many is written.
    const STEADY: u64 = 65_536;

    /// Whether the letter that is the `count`th of its reason is written, and somebody reads it.
    #[inline]
    pub(super) fn is_due(count: u64) -> bool {
        (count.is_power_of_two() || count.is_multiple_of(STEADY)) && tracing::enabled!(tracing::Level::WARN)
    }

    #[cold]
    pub(super) fn write(event: &DeadLetterEvent, count: u64) {
        let context = event.context();
        tracing::warn!(
            reason = context.reason.as_str(),
            count,
            correlation_id = %context.correlation_id,
            "{event}"
        );
    }
}

#[cfg(not(feature = "tracing"))]
mod log {
    use super::DeadLetterEvent;

    pub(super) const fn is_due(_count: u64) -> bool {
        false
    }

    pub(super) const fn write(_event: &DeadLetterEvent, _count: u64) {}
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.counts().filter(|(_, count)| *count > 0).map(|(r, n)| (String::from(r.as_str()), n)),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Lock;
    use alloc::vec::Vec;

    fn path(text: &str) -> ActorPath {
        text.parse().unwrap()
    }

    /// Covers: RT-47
    #[test]
    fn each_reason_is_counted_by_itself() {
        let letters = DeadLetters::default();
        let nobody = path("fraktor://s/user/nobody");
        for (index, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                letters.clone().record(DeadLetter::new::<u64>(nobody.clone(), reason));
            }
        }
        for (index, (reason, count)) in letters.counts().enumerate() {
            assert_eq!((reason, count), (DeadLetterReason::ALL[index], index as u64 + 1));
            assert_eq!(letters.count(reason), count);
        }
        assert_eq!(letters.total(), (1..=16).sum::<u64>());
    }

    /// Covers: RT-06, DL-02
    #[test]
    fn an_event_is_made_only_for_a_subscriber() {
        let events = EventStream::new();
        let letters = DeadLetters::new(events.clone());
        letters.record_with(DeadLetterReason::Decode, || unreachable!());
        let seen: Arc<Lock<Vec<DeadLetterEvent>>> = Arc::default();
        let guard = {
            let seen = seen.clone();
            events.subscribe(move |event: &DeadLetterEvent| seen.lock().push(event.clone()))
        };
        letters.record(DeadLetter::new::<u64>(path("fraktor://s/user/a#7"), DeadLetterReason::Stopped));
        letters.record_with(DeadLetterReason::Denied, || {
            DeadLetter::of(MessageInfo::encoded("m@1", 3), DeadLetterReason::Denied)
        });
        drop(guard);
        letters.record_with(DeadLetterReason::Decode, || unreachable!());

        let seen = core::mem::take(&mut *seen.lock());
        let told: Vec<_> = seen
            .iter()
            .map(|e| (e.pid.as_ref().map(ToString::to_string), e.message.to_string(), e.reason()))
            .collect();
        assert_eq!(
            told,
            [
                (Some("nonhost/a#7".into()), "u64 (8 bytes)".into(), DeadLetterReason::Stopped),
                (None, "m@1 (3 bytes)".into(), DeadLetterReason::Denied),
            ]
        );
        assert_eq!(letters.total(), 4, "counted with and without a subscriber");
    }

    /// Covers: DL-05
    #[test]
    fn the_context_keeps_what_the_three_fields_do_not_say() {
        let (id, headers) = (CorrelationId::new(1, 2), Headers::new().with("tenant", "x"));
        let event = DeadLetterEvent::from(
            DeadLetter::of(MessageInfo::encoded("shop.counter@1", 17), DeadLetterReason::Decode)
                .with_recipient(path("fraktor.tcp://s@h:1/user/a"))
                .with_sender(Pid::new("k:2", "b"))
                .with_peer("fraktor.tcp://t@k:2".parse().unwrap())
                .with_correlation_id(id)
                .with_headers(headers.clone())
                .with_detail("line\nbreak"),
        );
        let context = event.context();
        assert_eq!((context.reason, context.correlation_id), (DeadLetterReason::Decode, id));
        assert_eq!(
            (&context.headers, context.peer.as_ref().map(ToString::to_string)),
            (&headers, Some("fraktor.tcp://t@k:2".into()))
        );
        assert_eq!(context.recipient, Some(path("fraktor.tcp://s@h:1/user/a")));
        assert_eq!(
            (event.pid.clone(), event.sender.clone()),
            (Some(Pid::new("h:1", "a")), Some(Pid::new("k:2", "b")))
        );
        assert_eq!(
            event.to_string(),
            "dead letter: shop.counter@1 (17 bytes) for fraktor.tcp://s@h:1/user/a: decode: line\\nbreak \
             [000000000000000100000002]"
        );
    }

    #[test]
    fn a_response_goes_to_a_sender_that_named_itself() {
        let bare = DeadLetter::of(MessageInfo::of::<()>(), DeadLetterReason::QueueFull);
        let (to, from) = (Pid::new("h:1", "a"), Pid::new("k:2", "b"));
        for (name, letter, expected) in [
            ("neither", bare.clone(), None),
            ("no sender", bare.clone().with_pid(to.clone()), None),
            ("no recipient", bare.clone().with_sender(from.clone()), None),
            (
                "both",
                bare.with_pid(to.clone()).with_sender(from.clone()),
                Some((from, DeadLetterResponse { target: to })),
            ),
        ] {
            assert_eq!(DeadLetterEvent::from(letter).response(), expected, "{name}");
        }
    }

    #[test]
    fn a_message_without_a_name_is_called_a_message() {
        let nameless = DeadLetter::of(MessageInfo::encoded("", 51), DeadLetterReason::Decode);
        let text = DeadLetterEvent::from(nameless).to_string();
        assert!(text.starts_with("dead letter: a message (51 bytes) for nobody known: "), "{text}");
    }

    #[test]
    fn a_dead_letter_about_a_dead_letter_is_only_counted() {
        let events = EventStream::new();
        let letters = DeadLetters::new(events.clone());
        let seen = Arc::new(AtomicU64::new(0));
        let _guard = {
            let (seen, letters) = (seen.clone(), letters.clone());
            events.subscribe(move |_: &DeadLetterEvent| {
                seen.fetch_add(1, Ordering::Relaxed);
                // What a tell to a subscriber that has stopped does.
                letters
                    .record(DeadLetter::new::<u8>(path("fraktor://s/user/log"), DeadLetterReason::Stopped));
                letters.record_with(DeadLetterReason::Stopped, || unreachable!());
            })
        };
        for round in 1..=2 {
            letters.record(DeadLetter::new::<u8>(path("fraktor://s/user/a"), DeadLetterReason::Decode));
            let counts = (seen.load(Ordering::Relaxed), letters.unpublished(), letters.total());
            assert_eq!(counts, (round, 2 * round, 3 * round));
        }
    }
}
