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
    /// The Rust type, or the manifest where only bytes were left of the message.
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

/// A message that will never be delivered. Published on the [`EventStream`], once for each.
#[derive(Clone, PartialEq, Eq)]
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
    /// The dead letter of `message`, given up for `reason`.
    #[must_use]
    pub fn new(reason: DeadLetterReason, message: MessageInfo) -> Self {
        let context = DeadLetterContext {
            reason,
            recipient: None,
            peer: None,
            correlation_id: CorrelationId::NIL,
            headers: Headers::new(),
            detail: None,
        };
        Self { pid: None, message, sender: None, context: Arc::new(context) }
    }

    /// The same event with its recipient.
    #[must_use]
    pub fn with_recipient(mut self, recipient: &ActorPath) -> Self {
        self.pid = Some(Pid::from_path(recipient));
        self.context_mut().recipient = Some(recipient.clone());
        self
    }

    /// The same event with its recipient, of which only the pid is known.
    #[must_use]
    pub fn with_pid(mut self, pid: Pid) -> Self {
        self.pid = Some(pid);
        self
    }

    /// The same event with its sender.
    #[must_use]
    pub fn with_sender(mut self, sender: Pid) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The same event with the node at the other end of its wire.
    #[must_use]
    pub fn with_peer(mut self, peer: Address) -> Self {
        self.context_mut().peer = Some(peer);
        self
    }

    /// The same event with its correlation id.
    #[must_use]
    pub fn with_correlation_id(mut self, id: CorrelationId) -> Self {
        self.context_mut().correlation_id = id;
        self
    }

    /// The same event with its headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.context_mut().headers = headers;
        self
    }

    /// The same event with its cause in words.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Arc<str>>) -> Self {
        self.context_mut().detail = Some(detail.into());
        self
    }

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

    /// Only a fresh event is built on, so this never copies.
    fn context_mut(&mut self) -> &mut DeadLetterContext {
        Arc::make_mut(&mut self.context)
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

impl fmt::Debug for DeadLetterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetterEvent")
            .field("pid", &self.pid)
            .field("message", &self.message)
            .field("sender", &self.sender)
            .field("context", &self.context)
            .finish()
    }
}

/// Told to the sender of a dead letter that named itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterResponse {
    /// Whom the message was for.
    pub target: Pid,
}

/// The literal name of [`DeadLetters`] in the foundation.
pub type DeadLetter = DeadLetters;

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
    events: EventStream,
}

/// The dead-letter office of one system. A handle: clones are the same office.
///
/// Every dead letter is counted; the event is made only when somebody is subscribed to [`DeadLetterEvent`]. It
/// writes no log: whoever logs subscribes, and limits the rate.
#[derive(Clone, Default)]
pub struct DeadLetters(Arc<Shared>);

impl DeadLetters {
    /// An office that publishes on `events`.
    #[must_use]
    pub fn new(events: EventStream) -> Self {
        Self(Arc::new(Shared { counts: Default::default(), events }))
    }

    /// Records one dead letter for `recipient`. Must not be called under a lock: subscribers run.
    pub fn record(&self, reason: DeadLetterReason, recipient: &ActorPath, message: MessageInfo) {
        self.record_with(reason, |event| event.with_recipient(recipient), move || message);
    }

    /// Records one dead letter. `message` and then `fill` run only when somebody is subscribed.
    /// Must not be called under a lock.
    ///
    /// ```
    /// # use nexus_actor_core::dead_letter::{DeadLetters, MessageInfo};
    /// # use nexus_actor_core::reason::DeadLetterReason;
    /// let letters = DeadLetters::default();
    /// letters.record_with(
    ///     DeadLetterReason::Decode,
    ///     |event| event.with_detail("the payload ends early"),
    ///     || MessageInfo::encoded("shop.counter@1", 17),
    /// );
    /// assert_eq!(letters.count(DeadLetterReason::Decode), 1);
    /// ```
    pub fn record_with(
        &self,
        reason: DeadLetterReason,
        fill: impl FnOnce(DeadLetterEvent) -> DeadLetterEvent,
        message: impl FnOnce() -> MessageInfo,
    ) {
        self.add(reason, 1);
        self.0.events.publish_with(|| fill(DeadLetterEvent::new(reason, message())));
    }

    /// Counts `event` and publishes it.
    pub fn publish(&self, event: DeadLetterEvent) {
        self.add(event.reason(), 1);
        self.0.events.publish(event);
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

    fn add(&self, reason: DeadLetterReason, by: u64) {
        if let Some(count) = self.0.counts.get(reason as usize) {
            count.fetch_add(by, Ordering::Relaxed);
        }
    }
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

    #[test]
    fn each_reason_is_counted_by_itself() {
        let letters = DeadLetters::default();
        let nobody = path("fraktor://s/user/nobody");
        for (index, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                letters.clone().record(reason, &nobody, MessageInfo::of::<u64>());
            }
        }
        for (index, (reason, count)) in letters.counts().enumerate() {
            assert_eq!((reason, count), (DeadLetterReason::ALL[index], index as u64 + 1));
            assert_eq!(letters.count(reason), count);
        }
        assert_eq!(letters.total(), (1..=16).sum());
    }

    #[test]
    fn an_event_is_made_only_for_a_subscriber() {
        let events = EventStream::new();
        let letters = DeadLetters::new(events.clone());
        letters.record_with(DeadLetterReason::Decode, |_| unreachable!(), || unreachable!());
        let seen: Arc<Lock<Vec<DeadLetterEvent>>> = Arc::default();
        let guard = {
            let seen = seen.clone();
            events.subscribe(move |event: &DeadLetterEvent| seen.lock().push(event.clone()))
        };
        letters.record(DeadLetterReason::Stopped, &path("fraktor://s/user/a#7"), MessageInfo::of::<u64>());
        let mine = DeadLetterEvent::new(DeadLetterReason::Denied, MessageInfo::encoded("m@1", 3));
        letters.publish(mine.clone());
        drop(guard);
        letters.record_with(DeadLetterReason::Decode, |_| unreachable!(), || unreachable!());

        let seen = core::mem::take(&mut *seen.lock());
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].pid, Some(Pid::new("nonhost", "a#7")));
        assert_eq!((seen[0].reason(), &seen[0].sender), (DeadLetterReason::Stopped, &None));
        assert_eq!(seen[0].message, MessageInfo { type_name: "u64".into(), size: 8 });
        assert_eq!(seen[1], mine);
        assert_eq!(letters.total(), 4, "counted with and without a subscriber");
    }

    #[test]
    fn the_context_keeps_what_the_three_fields_do_not_say() {
        let (id, headers) = (CorrelationId::new(1, 2), Headers::new().with("tenant", "x"));
        let event =
            DeadLetterEvent::new(DeadLetterReason::Decode, MessageInfo::encoded("shop.counter@1", 17))
                .with_recipient(&path("fraktor.tcp://s@h:1/user/a"))
                .with_sender(Pid::new("k:2", "b"))
                .with_peer("fraktor.tcp://t@k:2".parse().unwrap())
                .with_correlation_id(id)
                .with_headers(headers.clone())
                .with_detail("line\nbreak");
        let context = event.context();
        assert_eq!(
            (context.reason, context.correlation_id, &context.headers),
            (DeadLetterReason::Decode, id, &headers)
        );
        assert_eq!(context.recipient, Some(path("fraktor.tcp://s@h:1/user/a")));
        assert_eq!(
            event.to_string(),
            "dead letter: shop.counter@1 (17 bytes) for fraktor.tcp://s@h:1/user/a: decode: line\\nbreak \
             [000000000000000100000002]"
        );
    }

    #[test]
    fn a_response_goes_to_a_sender_that_named_itself() {
        let bare = DeadLetterEvent::new(DeadLetterReason::QueueFull, MessageInfo::of::<()>());
        let (to, from) = (Pid::new("h:1", "a"), Pid::new("k:2", "b"));
        for (name, event, expected) in [
            ("neither", bare.clone(), None),
            ("no sender", bare.clone().with_pid(to.clone()), None),
            ("no recipient", bare.clone().with_sender(from.clone()), None),
            (
                "both",
                bare.with_pid(to.clone()).with_sender(from.clone()),
                Some((from, DeadLetterResponse { target: to })),
            ),
        ] {
            assert_eq!(event.response(), expected, "{name}");
        }
    }
}
