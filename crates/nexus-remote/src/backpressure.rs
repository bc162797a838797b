//! How full the way to a peer is, and who is told.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicU64, Ordering};

use crate::config_error::{ConfigError, Violations};

/// How far a peer's way out is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BackpressureSignal {
    /// Sending goes on.
    Normal,
    /// The way out is filling.
    Warning,
    /// The way out is nearly full.
    Critical,
}

impl BackpressureSignal {
    /// Every signal, in rising order.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Warning, Self::Critical];

    /// The word used in events, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for BackpressureSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Receives a transport's backpressure.
pub trait BackpressureHook {
    /// The way to `authority` (`host:port`) reached `signal`. Called once per change, never under a lock.
    fn on_signal(&self, signal: BackpressureSignal, authority: &str);
}

impl<F: Fn(BackpressureSignal, &str)> BackpressureHook for F {
    fn on_signal(&self, signal: BackpressureSignal, authority: &str) {
        self(signal, authority);
    }
}

/// An application's ear for backpressure. Any `Fn(BackpressureSignal, &str) + Send + Sync` is one.
pub trait RemotingBackpressureListener: Send + Sync {
    /// The way to `authority` (`host:port`) reached `signal`.
    ///
    /// Called once per change and never under a lock, on whichever thread noticed: it must not block.
    fn on_signal(&self, signal: BackpressureSignal, authority: &str);
}

impl<F: Fn(BackpressureSignal, &str) + Send + Sync> RemotingBackpressureListener for F {
    fn on_signal(&self, signal: BackpressureSignal, authority: &str) {
        self(signal, authority);
    }
}

/// A listener's number, unique in its registry and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u64);

impl ListenerId {
    /// The number, counting from 1.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

type Listener = Arc<dyn RemotingBackpressureListener>;
/// Copied on change, so that telling takes the lock only to clone one `Arc`.
type Listeners = Arc<Vec<(ListenerId, Listener)>>;

/// The listeners of one node; clones are the same registry.
#[derive(Clone, Default)]
pub struct BackpressureListeners(Arc<Registry>);

#[derive(Default)]
struct Registry {
    listeners: Lock<Listeners>,
    last_id: AtomicU64,
}

/// Who was told of a signal, in the order of registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notified {
    /// Those that returned.
    pub told: Vec<ListenerId>,
    /// Those that panicked; the others were told nevertheless. Without `std` a panic is not caught.
    pub panicked: Vec<ListenerId>,
}

impl BackpressureListeners {
    /// A registry without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has `listener` told of every signal from now on, until the guard is dropped.
    pub fn register(&self, listener: Listener) -> ListenerGuard {
        let id = ListenerId(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let before = {
            let mut listeners = self.0.listeners.lock();
            let mut next = Vec::with_capacity(listeners.len() + 1);
            next.extend(listeners.iter().cloned());
            next.push((id, listener));
            core::mem::replace(&mut *listeners, Arc::new(next))
        };
        drop(before);
        ListenerGuard { registry: Arc::downgrade(&self.0), id }
    }

    /// Tells every listener, in the order of registration.
    ///
    /// A listener that is unregistered by another thread at this moment may still be told.
    pub fn notify(&self, signal: BackpressureSignal, authority: &str) -> Notified {
        let listeners = Arc::clone(&self.0.listeners.lock());
        let mut notified = Notified::default();
        for (id, listener) in listeners.iter() {
            if tell(&**listener, signal, authority) {
                notified.told.push(*id);
            } else {
                notified.panicked.push(*id);
            }
        }
        notified
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.listeners.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(feature = "std")]
fn tell(listener: &dyn RemotingBackpressureListener, signal: BackpressureSignal, authority: &str) -> bool {
    // The state behind the listener is the application's; we keep nothing that a panic could leave half done.
    let call = core::panic::AssertUnwindSafe(|| listener.on_signal(signal, authority));
    std::panic::catch_unwind(call).is_ok()
}

#[cfg(not(feature = "std"))]
fn tell(listener: &dyn RemotingBackpressureListener, signal: BackpressureSignal, authority: &str) -> bool {
    listener.on_signal(signal, authority);
    true
}

impl fmt::Debug for BackpressureListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureListeners").field("len", &self.len()).finish()
    }
}

/// Keeps a listener registered; dropping it unregisters the listener and releases it.
#[must_use = "dropping the guard unregisters the listener at once"]
pub struct ListenerGuard {
    registry: Weak<Registry>,
    id: ListenerId,
}

impl ListenerGuard {
    /// The listener's number, as events name it.
    #[must_use]
    pub const fn id(&self) -> ListenerId {
        self.id
    }

    /// Leaves the listener registered for as long as the registry lives.
    pub fn detach(mut self) {
        self.registry = Weak::new();
    }
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        let Some(registry) = self.registry.upgrade() else { return };
        // The old list is dropped after the lock: with it may go the listener, which is the application's code.
        let before = {
            let mut listeners = registry.listeners.lock();
            let next = listeners.iter().filter(|(id, _)| *id != self.id).cloned().collect();
            core::mem::replace(&mut *listeners, Arc::new(next))
        };
        drop(before);
    }
}

impl fmt::Debug for ListenerGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerGuard").field("id", &self.id).finish()
    }
}

/// From which fill ratio a queue is called filling and nearly full.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BackpressureMarks {
    /// Warning at this ratio and above; 0.6 by default.
    pub warning: f64,
    /// Critical above this ratio; 0.85 by default.
    pub critical: f64,
}

impl Default for BackpressureMarks {
    fn default() -> Self {
        Self { warning: 0.6, critical: 0.85 }
    }
}

impl BackpressureMarks {
    /// A signal falls only when the ratio is below this part of the mark that raised it: a queue that hovers at
    /// its mark would else raise an event per message.
    const RELEASE: f64 = 0.9;

    /// The marks `warning` and `critical`.
    #[must_use]
    pub const fn new(warning: f64, critical: f64) -> Self {
        Self { warning, critical }
    }

    /// Checks both marks and their order.
    ///
    /// # Errors
    /// [`ConfigError`] listing every offending mark.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut found = Violations::new();
        let rule = "must be above 0 and at most 1";
        let valid = |mark: f64| mark > 0.0 && mark <= 1.0;
        found.require(valid(self.warning), "backpressure_warning_threshold", &self.warning, rule);
        found.require(valid(self.critical), "backpressure_critical_threshold", &self.critical, rule);
        if valid(self.warning) && valid(self.critical) {
            found.require(
                self.warning < self.critical,
                "backpressure_warning_threshold",
                &self.warning,
                alloc::format!("must be below backpressure_critical_threshold ({:?})", self.critical),
            );
        }
        found.into_result()
    }

    /// The signal at a fill `ratio` of 0 to 1.
    #[must_use]
    pub fn signal(&self, ratio: f64) -> BackpressureSignal {
        if ratio > self.critical {
            BackpressureSignal::Critical
        } else if ratio >= self.warning {
            BackpressureSignal::Warning
        } else {
            BackpressureSignal::Normal
        }
    }
}

/// The signal of one queue, reported once per crossing of a mark.
#[derive(Clone, Debug)]
pub struct BackpressureLevel {
    marks: BackpressureMarks,
    signal: BackpressureSignal,
}

impl BackpressureLevel {
    /// An empty queue's.
    #[must_use]
    pub const fn new(marks: BackpressureMarks) -> Self {
        Self { marks, signal: BackpressureSignal::Normal }
    }

    /// The signal last reported.
    #[must_use]
    pub const fn signal(&self) -> BackpressureSignal {
        self.signal
    }

    /// Notes a fill ratio, that of the fuller of the queue's bounds; gives the signal if it changed.
    pub fn update(&mut self, ratio: f64) -> Option<BackpressureSignal> {
        let rising = self.marks.signal(ratio);
        let next = if rising >= self.signal {
            rising
        } else {
            // Not below the release point of the present mark: the ratio a release further up decides.
            self.marks.signal(ratio / BackpressureMarks::RELEASE).min(self.signal)
        };
        (next != self.signal).then(|| {
            self.signal = next;
            next
        })
    }
}

/// How full a queue is by the fuller of its two bounds, 0 to 1 and above.
#[must_use]
pub fn fill_ratio(messages: usize, messages_max: usize, bytes: usize, bytes_max: usize) -> f64 {
    let part = |n: usize, max: usize| n as f64 / max.max(1) as f64;
    part(messages, messages_max).max(part(bytes, bytes_max))
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    type Heard = Arc<Lock<Vec<(BackpressureSignal, String)>>>;

    fn ear() -> (Heard, Listener) {
        let heard = Heard::default();
        let into = Arc::clone(&heard);
        (heard, Arc::new(move |s: BackpressureSignal, a: &str| into.lock().push((s, a.to_string()))))
    }

    /// Covers: BP-44, BP-45, BP-50
    #[test]
    fn a_listener_hears_until_its_guard_is_dropped() {
        let registry = BackpressureListeners::new();
        let (first, listener) = ear();
        let released = Arc::downgrade(&listener);
        let guard = registry.register(listener);
        let (second, listener) = ear();
        let kept = registry.register(listener);
        let kept_id = kept.id();
        assert!(guard.id() < kept_id);
        kept.detach();

        let notified = registry.notify(BackpressureSignal::Warning, "a:1");
        assert_eq!(notified.told, [guard.id(), kept_id]);
        drop(guard);
        assert!(released.upgrade().is_none(), "released with the guard");
        assert_eq!(registry.notify(BackpressureSignal::Critical, "a:1").told, [kept_id]);
        assert_eq!(*first.lock(), [(BackpressureSignal::Warning, "a:1".to_string())]);
        assert_eq!(second.lock().len(), 2);
        assert_eq!(alloc::format!("{:?}", BackpressureSignal::Critical), "Critical");
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_guard_may_outlive_the_registry_and_a_listener_may_register_or_leave() {
        let registry = BackpressureListeners::new();
        let (_, listener) = ear();
        let guard = registry.register(listener);
        let slot: Arc<Lock<Option<ListenerGuard>>> = Arc::default();
        let (inner, inner_registry) = (Arc::clone(&slot), registry.clone());
        let busy = registry.register(Arc::new(move |_: BackpressureSignal, _: &str| {
            // From inside the call: neither waits for the other.
            let mine = inner.lock().take();
            drop(mine);
            let (_, listener) = ear();
            let new = inner_registry.register(listener);
            inner.lock().replace(new);
        }));
        registry.notify(BackpressureSignal::Warning, "a:1");
        registry.notify(BackpressureSignal::Normal, "a:1");
        assert_eq!(registry.len(), 3);
        drop(busy);
        drop(registry);
        drop(guard);
    }

    #[cfg(feature = "std")]
    #[test]
    fn one_listeners_panic_costs_the_others_nothing() {
        let registry = BackpressureListeners::new();
        let bad = registry.register(Arc::new(|_: BackpressureSignal, _: &str| panic!("listener")));
        let (heard, listener) = ear();
        let good = registry.register(listener);
        let notified = registry.notify(BackpressureSignal::Warning, "a:1");
        assert_eq!((notified.panicked, notified.told), (alloc::vec![bad.id()], alloc::vec![good.id()]));
        assert_eq!(heard.lock().len(), 1);
    }

    #[test]
    fn marks_are_where_they_are_set() {
        use BackpressureSignal::{Critical, Normal, Warning};
        let marks = BackpressureMarks::default();
        for (ratio, expected) in [
            (0.0, Normal),
            (0.599_999, Normal),
            (0.6, Warning),
            (0.85, Warning),
            (0.850_001, Critical),
            (1.0, Critical),
            (1.5, Critical),
        ] {
            assert_eq!(marks.signal(ratio), expected, "{ratio}");
        }
        assert_eq!(fill_ratio(1, 10, 9, 10), 0.9);
        assert_eq!(fill_ratio(9, 10, 1, 10), 0.9);
        for (name, marks, violations) in [
            ("default", marks, 0),
            ("equal", BackpressureMarks::new(0.5, 0.5), 1),
            ("swapped", BackpressureMarks::new(0.9, 0.5), 1),
            ("zero", BackpressureMarks::new(0.0, 0.5), 1),
            ("one", BackpressureMarks::new(0.5, 1.0), 0),
            ("both out", BackpressureMarks::new(-1.0, 1.1), 2),
            ("nan", BackpressureMarks::new(f64::NAN, 0.5), 1),
        ] {
            let found = marks.validate().map_or_else(|e| e.violations.len(), |()| 0);
            assert_eq!(found, violations, "{name}");
        }
    }

    #[test]
    fn a_queue_hovering_at_its_mark_is_reported_once() {
        use BackpressureSignal::{Critical, Normal, Warning};
        let mut level = BackpressureLevel::new(BackpressureMarks::default());
        let mut seen = Vec::new();
        for ratio in [0.1, 0.59, 0.6, 0.59, 0.6, 0.58, 0.61, 0.86, 0.84, 0.86, 0.7, 0.56, 0.5, 0.95, 0.0] {
            seen.extend(level.update(ratio));
        }
        assert_eq!(seen, [Warning, Critical, Warning, Normal, Critical, Normal]);
        assert_eq!(level.signal(), Normal);
    }
}
