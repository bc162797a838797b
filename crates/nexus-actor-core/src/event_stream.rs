//! Typed publish and subscribe inside one system.
//!
//! A subscription is to one type of event, and any type can be one. Handlers run on the publisher's thread, one
//! after the other in the order of subscription, before [`EventStream::publish`] returns; so they must be short,
//! and an actor that wants events subscribes with a closure that tells.
//!
//! What a handler can rely on:
//! - every event published while it was subscribed, exactly once;
//! - events of one publisher in the order in which they were published. A publish from inside a handler is
//!   therefore put off until the event at hand has reached all its subscribers;
//! - no lock is held while it runs: it may publish, subscribe and unsubscribe.
//!
//! Without `std` there is no thread to tell one publisher from another, so a stream on which an event is being
//! delivered puts off every other publish until then, whoever makes it; the publisher that is at work delivers it.
//!
//! With `std`, a handler that panics stops no other: the panic is caught, counted
//! ([`EventStream::handler_panics`]) and ends there.

use alloc::borrow::Cow;
use alloc::boxed::Box;
#[cfg(not(feature = "std"))]
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::{Any, TypeId};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::HashMap;
use portable_atomic::AtomicU64;

use crate::actor_ref::ActorRef;
use crate::correlation_id::CorrelationId;
use crate::lock::Lock;
use crate::path::{ActorPath, Authority};
use crate::serialization::SerializerId;

/// One subscriber to events of type `E`.
struct Subscriber<E> {
    id: u64,
    active: AtomicBool,
    handler: Box<dyn Fn(&E) + Send + Sync>,
}

/// Everyone who subscribed to `E`, oldest first. Copied when it changes while an event is being delivered.
type Subscribers<E> = Arc<Vec<Arc<Subscriber<E>>>>;

type Erased = Box<dyn Any + Send + Sync>;

/// A delivery put off until the one at hand is over.
type Delivery = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    /// `Subscribers<E>` by the id of `E`; no empty ones.
    by_type: Lock<HashMap<TypeId, Erased>>,
    /// How many subscriptions there are, of all types.
    subscriptions: AtomicUsize,
    next_id: AtomicU64,
    handler_panics: AtomicU64,
    #[cfg(not(feature = "std"))]
    put_off: Lock<Option<VecDeque<Delivery>>>,
    #[cfg(not(feature = "std"))]
    delivering: Lock<Option<TypeId>>,
}

/// Publishes events of any type to those who subscribed to that type. A handle: clones are the same stream.
///
/// Publishing to nobody costs one atomic read; to nobody of that type, one short lock.
#[derive(Clone, Default)]
pub struct EventStream(Arc<Shared>);

impl EventStream {
    /// A stream without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `event` to all who are subscribed to its type now.
    ///
    /// They have it when this returns, unless the call comes from inside a handler: then they get it after the
    /// event at hand.
    pub fn publish<E: Send + Sync + 'static>(&self, event: E) {
        self.publish_with(move || event);
    }

    /// Gives the event that `make` returns to all who are subscribed to its type now; `make` does not run when
    /// there is nobody.
    pub fn publish_with<E: Send + Sync + 'static>(&self, make: impl FnOnce() -> E) {
        let Some(subscribers) = self.subscribers::<E>() else { return };
        let event = make();
        let shared = self.0.clone();
        self.in_order(move || {
            shared.set_delivering(Some(TypeId::of::<E>()));
            for subscriber in subscribers.iter() {
                // Unsubscribed since: by a handler before this one, or on another thread.
                if subscriber.active.load(Ordering::Acquire) {
                    shared.call(&*subscriber.handler, &event);
                }
            }
            shared.set_delivering(None);
        });
    }

    /// Calls `handler` with every event of type `E` until the returned guard is dropped.
    ///
    /// An event that is being delivered at the time of this call is not seen.
    pub fn subscribe<E: Send + Sync + 'static>(
        &self,
        handler: impl Fn(&E) + Send + Sync + 'static,
    ) -> Subscription {
        let handler = Box::new(handler);
        let mut by_type = self.0.by_type.lock();
        // Drawn under the lock, so that ids grow along each list.
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let slot = by_type.entry(TypeId::of::<E>()).or_insert_with(|| Box::new(Subscribers::<E>::default()));
        if let Some(subscribers) = slot.downcast_mut::<Subscribers<E>>() {
            Arc::make_mut(subscribers).push(Arc::new(Subscriber {
                id,
                active: AtomicBool::new(true),
                handler,
            }));
        }
        // Counted before the lock opens: who sees the subscription may not see a count without it.
        self.0.subscriptions.fetch_add(1, Ordering::Release);
        drop(by_type);
        Subscription { shared: Arc::downgrade(&self.0), id, remove: remove::<E> }
    }

    /// Tells `who` every event of type `E` until the returned guard is dropped.
    pub fn subscribe_ref<E: Clone + Send + Sync + 'static>(&self, who: ActorRef<E>) -> Subscription {
        self.subscribe(move |event: &E| who.tell(event.clone()))
    }

    /// Whether this is called from inside a handler of an `E`; without `std`, whether such a handler is running.
    pub(crate) fn is_delivering<E: 'static>(&self) -> bool {
        self.0.delivering() == Some(TypeId::of::<E>())
    }

    /// Whether anybody is subscribed to `E`.
    #[must_use]
    pub fn has_subscribers<E: Send + Sync + 'static>(&self) -> bool {
        self.subscribers::<E>().is_some()
    }

    /// How many subscriptions there are, to events of all types.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.0.subscriptions.load(Ordering::Acquire)
    }

    /// How many times a handler has panicked. Always 0 without `std`, where a panic ends the program.
    #[must_use]
    pub fn handler_panics(&self) -> u64 {
        self.0.handler_panics.load(Ordering::Relaxed)
    }

    fn subscribers<E: Send + Sync + 'static>(&self) -> Option<Subscribers<E>> {
        if self.0.subscriptions.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.0.by_type.lock().get(&TypeId::of::<E>())?.downcast_ref::<Subscribers<E>>().cloned()
    }

    /// Runs `deliver` now, or behind the delivery under way on this thread.
    #[cfg(feature = "std")]
    fn in_order(&self, deliver: impl FnOnce() + Send + 'static) {
        per_thread::run(deliver);
    }

    /// Runs `deliver` now, or leaves it to whoever is delivering on this stream.
    #[cfg(not(feature = "std"))]
    fn in_order(&self, deliver: impl FnOnce() + Send + 'static) {
        let mut put_off = self.0.put_off.lock();
        if let Some(queue) = put_off.as_mut() {
            queue.push_back(Box::new(deliver));
            return;
        }
        *put_off = Some(VecDeque::new());
        drop(put_off);
        deliver();
        loop {
            let mut put_off = self.0.put_off.lock();
            let Some(next) = put_off.as_mut().and_then(VecDeque::pop_front) else {
                *put_off = None;
                return;
            };
            drop(put_off);
            next();
        }
    }
}

impl Shared {
    #[cfg(feature = "std")]
    fn set_delivering(&self, to: Option<TypeId>) {
        per_thread::set_delivering(to);
    }

    #[cfg(not(feature = "std"))]
    fn set_delivering(&self, to: Option<TypeId>) {
        *self.delivering.lock() = to;
    }

    #[cfg(feature = "std")]
    fn delivering(&self) -> Option<TypeId> {
        per_thread::delivering()
    }

    #[cfg(not(feature = "std"))]
    fn delivering(&self) -> Option<TypeId> {
        *self.delivering.lock()
    }

    #[cfg(feature = "std")]
    fn call<E>(&self, handler: &(dyn Fn(&E) + Send + Sync), event: &E) {
        // Sound to go on after: the handler's own state is all that it can have left half done.
        let call = core::panic::AssertUnwindSafe(|| handler(event));
        if std::panic::catch_unwind(call).is_err() {
            self.handler_panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(not(feature = "std"))]
    fn call<E>(&self, handler: &(dyn Fn(&E) + Send + Sync), event: &E) {
        handler(event);
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("subscriptions", &self.subscriptions()).finish_non_exhaustive()
    }
}

/// The deliveries of one thread, in order.
#[cfg(feature = "std")]
mod per_thread {
    use alloc::boxed::Box;
    use alloc::collections::VecDeque;
    use core::any::TypeId;
    use core::cell::{Cell, RefCell};

    use super::Delivery;

    std::thread_local! {
        /// `Some` while a delivery is under way on this thread: what is to follow it.
        static PUT_OFF: RefCell<Option<VecDeque<Delivery>>> = const { RefCell::new(None) };
        /// The type of the event that is being delivered.
        static DELIVERING: Cell<Option<TypeId>> = const { Cell::new(None) };
    }

    pub(super) fn set_delivering(to: Option<TypeId>) {
        DELIVERING.set(to);
    }

    pub(super) fn delivering() -> Option<TypeId> {
        DELIVERING.get()
    }

    /// Ends the delivery, also when a delivered event panics as it is dropped.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            let left = PUT_OFF.try_with(|put_off| put_off.borrow_mut().take());
            // Dropped outside the borrow: events may do anything as they go.
            drop(left);
            set_delivering(None);
        }
    }

    pub(super) fn run(deliver: impl FnOnce() + Send + 'static) {
        let mut deliver = Some(deliver);
        let entered = PUT_OFF.try_with(|put_off| {
            let mut put_off = put_off.borrow_mut();
            match put_off.as_mut() {
                Some(queue) => queue.extend(deliver.take().map(|deliver| Box::new(deliver) as Delivery)),
                None => *put_off = Some(VecDeque::new()),
            }
        });
        let Some(deliver) = deliver else { return };
        // A thread that is ending has no such place any more: it delivers at once.
        let end = entered.is_ok().then_some(End);
        deliver();
        while end.is_some() {
            let next = PUT_OFF.with(|put_off| put_off.borrow_mut().as_mut().and_then(VecDeque::pop_front));
            let Some(next) = next else { break };
            next();
        }
    }
}

/// Takes subscriber `id` out and returns what must be dropped when no lock is held: the handler may own anything.
fn remove<E: Send + Sync + 'static>(shared: &Shared, id: u64) -> Option<Erased> {
    let mut by_type = shared.by_type.lock();
    let subscribers = by_type.get_mut(&TypeId::of::<E>())?.downcast_mut::<Subscribers<E>>()?;
    let at = subscribers.binary_search_by_key(&id, |subscriber| subscriber.id).ok()?;
    let gone = Arc::make_mut(subscribers).remove(at);
    gone.active.store(false, Ordering::Release);
    let empty = if subscribers.is_empty() { by_type.remove(&TypeId::of::<E>()) } else { None };
    shared.subscriptions.fetch_sub(1, Ordering::Release);
    Some(Box::new((gone, empty)))
}

/// Ends a subscription when dropped.
///
/// On the thread that drops it no call of the handler begins afterwards; one that is running on another thread
/// runs to its end.
#[must_use = "the subscription ends when this is dropped; `forever` keeps it"]
pub struct Subscription {
    shared: Weak<Shared>,
    id: u64,
    remove: fn(&Shared, u64) -> Option<Erased>,
}

impl Subscription {
    /// Keeps the subscription for as long as the stream lives.
    pub fn forever(mut self) {
        self.shared = Weak::new();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            drop((self.remove)(&shared, self.id));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What happens beside messages, in one type, for those who want a single feed: logs, dashboards, monitors.
///
/// Whoever publishes one of these publishes its own typed event as well (`RemotingLifecycleEvent`,
/// `RemotingBackpressureEvent`, `RemotingMetric`, all in the remote crate); subscribe to that one to act on an
/// event, and to this to show it. The core knows no network, so the remoting variants carry a [`RemotingRecord`]:
/// the event in words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum EventStreamEvent {
    /// An association or a listener changed its state (`RemotingLifecycleEvent`).
    RemotingLifecycle(RemotingRecord),
    /// A queue toward a peer crossed a mark (`RemotingBackpressureEvent`).
    RemotingBackpressure(RemotingRecord),
    /// Figures of an association (`RemotingMetric`).
    RemotingMetric(RemotingRecord),
    /// A figure crossed an operator's threshold (`ThresholdCrossed`).
    RemotingThreshold(RemotingRecord),
    /// A message could not be written or read. The dead letter is an event of its own.
    Serialization(SerializationFailure),
}

/// An event of remoting, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotingRecord {
    /// The event's name, as its JSON has it: `"connected"`, `"gated"`, `"backpressure"`.
    pub name: &'static str,
    /// The peer, or this node for what concerns no peer.
    pub authority: Option<Authority>,
    /// The id of the message or handshake that led to this, or [`CorrelationId::NIL`].
    pub correlation_id: CorrelationId,
    /// The whole event as one JSON object.
    pub json: Arc<str>,
}

/// Which of the two ways failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SerializationDirection {
    /// A message could not be written.
    Encode,
    /// A payload could not be read.
    Decode,
}

/// A message that could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerializationFailure {
    /// Which way it went.
    pub direction: SerializationDirection,
    /// The manifest, as registered here or as the peer claims it.
    pub manifest: Cow<'static, str>,
    /// The serializer.
    pub serializer: SerializerId,
    /// The actor that was to get the message, if it is known.
    pub recipient: Option<ActorPath>,
    /// The message's id, or [`CorrelationId::NIL`].
    pub correlation_id: CorrelationId,
    /// The error's text.
    pub error: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    type Log = Arc<Lock<Vec<String>>>;

    fn log() -> Log {
        Arc::default()
    }

    fn seen(log: &Log) -> Vec<String> {
        core::mem::take(&mut *log.lock())
    }

    /// A handler that notes what it gets as `name:event`.
    fn note<E: fmt::Debug>(log: &Log, name: &'static str) -> impl Fn(&E) + Send + Sync + use<E> {
        let log = log.clone();
        move |event: &E| log.lock().push(alloc::format!("{name}:{event:?}"))
    }

    #[test]
    fn each_subscriber_gets_each_event_of_its_type_once_and_in_order() {
        let (stream, log) = (EventStream::new(), log());
        let _a = stream.subscribe::<u32>(note(&log, "a"));
        let _b = stream.clone().subscribe::<u32>(note(&log, "b"));
        let _c = stream.subscribe::<&'static str>(note(&log, "c"));
        stream.publish(1_u32);
        stream.publish("x");
        stream.publish(2_u32);
        stream.publish(3_u64);
        assert_eq!(seen(&log), ["a:1", "b:1", "c:\"x\"", "a:2", "b:2"]);
    }

    #[test]
    fn an_event_is_not_made_when_nobody_listens_to_its_type() {
        let stream = EventStream::new();
        stream.publish_with(|| -> u32 { unreachable!("nobody listens at all") });
        let other = stream.subscribe(|_: &u64| {});
        stream.publish_with(|| -> u32 { unreachable!("nobody listens to this type") });
        assert!(stream.has_subscribers::<u64>() && !stream.has_subscribers::<u32>());
        drop(other);
        assert!(!stream.has_subscribers::<u64>());
        assert_eq!(stream.subscriptions(), 0);
        assert!(stream.0.by_type.lock().is_empty(), "a type without subscribers leaves nothing behind");
    }

    #[test]
    fn a_dropped_guard_ends_the_subscription_and_forever_keeps_it() {
        let (stream, log) = (EventStream::new(), log());
        let a = stream.subscribe::<u32>(note(&log, "a"));
        stream.subscribe::<u32>(note(&log, "b")).forever();
        stream.publish(1_u32);
        drop(a);
        stream.publish(2_u32);
        assert_eq!(seen(&log), ["a:1", "b:1", "b:2"]);
        assert_eq!(stream.subscriptions(), 1);

        let orphan = stream.subscribe(|_: &u32| {});
        drop(stream);
        drop(orphan);
    }

    #[test]
    fn a_publish_from_a_handler_follows_the_event_at_hand() {
        let (stream, log) = (EventStream::new(), log());
        let echo = {
            let (stream, log) = (stream.clone(), log.clone());
            move |event: &u32| {
                log.lock().push(alloc::format!("a:{event}"));
                if *event < 30 {
                    stream.publish(event * 10);
                    stream.publish(event * 10 + 1);
                    stream.publish("of another type");
                }
            }
        };
        let _a = stream.subscribe(echo);
        let _b = stream.subscribe::<u32>(note(&log, "b"));
        let _c = stream.subscribe::<&'static str>(note(&log, "c"));
        stream.publish(3_u32);
        assert_eq!(seen(&log), ["a:3", "b:3", "a:30", "b:30", "a:31", "b:31", "c:\"of another type\""]);
    }

    #[test]
    fn a_handler_may_subscribe_and_unsubscribe() {
        let (stream, log) = (EventStream::new(), log());
        let guards = Arc::new(Lock::new(Vec::new()));
        let first = {
            let (stream, log, guards) = (stream.clone(), log.clone(), guards.clone());
            stream.clone().subscribe(move |event: &u32| {
                log.lock().push(alloc::format!("first:{event}"));
                let old = core::mem::take(&mut *guards.lock());
                drop(old);
                let new = stream.subscribe::<u32>(note(&log, "late"));
                guards.lock().push(new);
            })
        };
        guards.lock().push(stream.subscribe::<u32>(note(&log, "early")));
        stream.publish(1_u32);
        assert_eq!(seen(&log), ["first:1"], "unsubscribed before its turn; subscribed after the event");
        stream.publish(2_u32);
        assert_eq!(seen(&log), ["first:2"], "the one of before is gone, the new one is late again");
        drop(first);
        stream.publish(3_u32);
        assert_eq!(seen(&log), ["late:3"]);
    }

    #[test]
    fn a_handler_may_end_its_own_subscription() {
        let (stream, log) = (EventStream::new(), log());
        let own: Arc<Lock<Option<Subscription>>> = Arc::default();
        let guard = {
            let (own, log) = (own.clone(), log.clone());
            stream.subscribe(move |event: &u32| {
                log.lock().push(event.to_string());
                let guard = own.lock().take();
                drop(guard);
            })
        };
        *own.lock() = Some(guard);
        stream.publish(1_u32);
        stream.publish(2_u32);
        assert_eq!((seen(&log).as_slice(), stream.subscriptions()), (&["1".to_string()][..], 0));
    }

    #[test]
    fn what_a_handler_owns_is_dropped_outside_the_lock() {
        struct PublishOnDrop(EventStream);
        impl Drop for PublishOnDrop {
            fn drop(&mut self) {
                self.0.publish("gone");
                self.0.subscribe(|_: &u8| {}).forever();
            }
        }
        let (stream, log) = (EventStream::new(), log());
        let _a = stream.subscribe::<&'static str>(note(&log, "a"));
        let owned = PublishOnDrop(stream.clone());
        drop(stream.subscribe(move |_: &u32| {
            let _owned = &owned;
        }));
        assert_eq!(seen(&log), ["a:\"gone\""]);
    }

    #[test]
    fn an_actor_gets_events_as_messages_and_stopping_it_makes_no_endless_dead_letters() {
        use crate::actor::{Actor, ActorError};
        use crate::context::Context;
        use crate::dead_letter::{DeadLetter, DeadLetterEvent, MessageInfo};
        use crate::{ActorSystem, Props, runtime::PumpRuntime};

        struct Keeper(Log);
        impl Actor for Keeper {
            type Msg = DeadLetterEvent;
            async fn receive(&mut self, msg: Self::Msg, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
                self.0.lock().push(msg.reason().to_string());
                Ok(())
            }
        }

        let (pump, log) = (PumpRuntime::new(), log());
        let system = ActorSystem::builder("s").with_runtime(pump.clone()).build().unwrap();
        let keeper = {
            let log = log.clone();
            system.spawn("keeper", Props::from_fn(move || Keeper(log.clone()))).unwrap()
        };
        let other = {
            let log = log.clone();
            system.spawn("other", Props::from_fn(move || Keeper(log.clone()))).unwrap()
        };
        let letter = DeadLetter::of(MessageInfo::of::<u8>(), crate::DeadLetterReason::Decode);
        let _guard = system.event_stream().subscribe_ref(keeper.clone());
        system.dead_letters().record(letter.clone());
        pump.run_until_idle();
        assert_eq!(seen(&log), ["decode"]);

        keeper.stop();
        other.stop();
        pump.run_until_idle();
        other.tell(DeadLetterEvent::from(letter));
        assert_eq!(system.dead_letters().total(), 3, "the first, the one to `other`, and the event about it");
        assert_eq!(system.dead_letters().unpublished(), 1);
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_panicking_handler_stops_no_other() {
        let (stream, log) = (EventStream::new(), log());
        let _a = stream.subscribe(|event: &u32| assert!(*event != 1, "on purpose"));
        let _b = stream.subscribe::<u32>(note(&log, "b"));
        stream.publish(1_u32);
        stream.publish(2_u32);
        assert_eq!(seen(&log), ["b:1", "b:2"]);
        assert_eq!(stream.handler_panics(), 1);
    }

    #[cfg(feature = "std")]
    #[test]
    fn many_threads_publish_each_in_its_own_order() {
        const EACH: u32 = 2000;
        let stream = EventStream::new();
        let seen: Arc<Lock<[Vec<u32>; 4]>> = Arc::default();
        let _a = {
            let seen = seen.clone();
            stream.subscribe(move |(who, number): &(usize, u32)| seen.lock()[*who].push(*number))
        };
        std::thread::scope(|scope| {
            for who in 0..4_usize {
                let stream = &stream;
                scope.spawn(move || {
                    for number in 0..EACH {
                        stream.publish((who, number));
                        if number % 16 == 0 {
                            drop(stream.subscribe(|_: &(usize, u32)| {}));
                        }
                    }
                });
            }
        });
        for numbers in &*seen.lock() {
            let wrong = numbers.iter().copied().zip(0..).find(|(found, expected)| found != expected);
            assert_eq!((wrong, numbers.len()), (None, EACH as usize));
        }
        assert_eq!(stream.subscriptions(), 1);
    }
}
