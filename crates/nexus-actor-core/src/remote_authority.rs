//! What this system knows of the authorities of other nodes: connected, quarantined, or nothing.
//!
//! The associations decide; this is the record of their decisions that the rest of the system may read without
//! knowing a network. Every change is published on the event stream as an [`AuthorityEvent`].

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::event_stream::EventStream;
use crate::lock::Lock;
use crate::path::{ActorUid, Authority};
use crate::time::Instant;

/// How many authorities are remembered unless said otherwise: as many as there may be inbound associations.
pub const AUTHORITIES_MAX: usize = 10_000;

/// The state of one authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AuthorityState {
    /// Nothing is known: never connected, cleared, or forgotten for room.
    #[default]
    Unresolved,
    /// A handshake has completed.
    Connected {
        /// The node's incarnation, or [`ActorUid::ANY`] when it was not told.
        uid: ActorUid,
    },
    /// The node's incarnation is refused.
    Quarantine {
        /// When that ends by itself; `None` for not at all.
        deadline: Option<Instant>,
    },
}

/// An authority changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityEvent {
    /// Which.
    pub authority: Authority,
    /// From what.
    pub from: AuthorityState,
    /// To what.
    pub to: AuthorityState,
    /// Grows with every change of any authority. Two changes made at once by two threads may be seen in either
    /// order; these numbers tell which came last.
    pub sequence: u64,
}

#[derive(Debug)]
struct Entry {
    state: AuthorityState,
    /// The number of its last change; its place in `order`.
    sequence: u64,
}

impl Entry {
    fn rank(&self) -> (bool, u64) {
        (matches!(self.state, AuthorityState::Quarantine { .. }), self.sequence)
    }
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Authority, Entry>,
    /// Who is forgotten first: connected before quarantined, then the one that changed longest ago.
    order: BTreeMap<(bool, u64), Authority>,
    sequence: u64,
    forgotten: u64,
}

impl Table {
    fn set(&mut self, authority: &Authority, to: AuthorityState, events: &mut Vec<AuthorityEvent>) {
        let old = self.entries.get(authority);
        let from = old.map_or(AuthorityState::Unresolved, |entry| entry.state);
        if from == to {
            return;
        }
        if let Some(old) = old {
            self.order.remove(&old.rank());
        }
        self.sequence += 1;
        let sequence = self.sequence;
        events.push(AuthorityEvent { authority: authority.clone(), from, to, sequence });
        if to == AuthorityState::Unresolved {
            self.entries.remove(authority);
            return;
        }
        let entry = Entry { state: to, sequence };
        self.order.insert(entry.rank(), authority.clone());
        self.entries.insert(authority.clone(), entry);
    }
}

/// The authorities that this system has dealt with.
///
/// It remembers a bounded number ([`AUTHORITIES_MAX`] by default). One more makes it forget the connected one
/// that changed longest ago, whose association still knows better, and a quarantined one only when all others
/// are; the newest is never the one forgotten. That is published like any change, to
/// [`AuthorityState::Unresolved`], and counted.
#[derive(Debug)]
pub struct RemoteAuthorityManager {
    table: Lock<Table>,
    max: usize,
    events: EventStream,
}

/// The literal name of [`RemoteAuthorityManager`] where it was generic over a toolbox.
pub type RemoteAuthorityManagerGeneric = RemoteAuthorityManager;

impl RemoteAuthorityManager {
    /// An empty record that publishes its changes on `events`.
    #[must_use]
    pub fn new(events: EventStream) -> Self {
        Self::with_max(events, AUTHORITIES_MAX)
    }

    /// The same with room for `max` authorities, at least one.
    #[must_use]
    pub fn with_max(events: EventStream, max: usize) -> Self {
        Self { table: Lock::default(), max: max.max(1), events }
    }

    /// Notes that a handshake with `authority` has completed, ending a quarantine.
    pub fn set_connected(&self, authority: &Authority) {
        self.set(authority, AuthorityState::Connected { uid: ActorUid::ANY });
    }

    /// The same, with the incarnation that answered.
    pub fn set_connected_to(&self, authority: &Authority, uid: ActorUid) {
        self.set(authority, AuthorityState::Connected { uid });
    }

    /// Notes that the incarnation at `authority` is refused, until `deadline` if there is one.
    pub fn set_quarantine(&self, authority: &Authority, deadline: Option<Instant>) {
        self.set(authority, AuthorityState::Quarantine { deadline });
    }

    /// Forgets `authority`: it is [`AuthorityState::Unresolved`] again.
    pub fn clear(&self, authority: &Authority) {
        self.set(authority, AuthorityState::Unresolved);
    }

    /// The state of `authority` as last set. A quarantine whose deadline has passed stands until
    /// [`lift_expired`](Self::lift_expired) or the association ends it.
    #[must_use]
    pub fn state(&self, authority: &Authority) -> AuthorityState {
        self.table.lock().entries.get(authority).map_or(AuthorityState::Unresolved, |entry| entry.state)
    }

    /// Ends every quarantine whose deadline is not after `now` and returns how many.
    pub fn lift_expired(&self, now: Instant) -> usize {
        let mut events = Vec::new();
        {
            let mut table = self.table.lock();
            let mut expired: Vec<_> = table
                .order
                .range((true, 0)..)
                .filter(|(_, authority)| match table.entries.get(*authority).map(|entry| entry.state) {
                    Some(AuthorityState::Quarantine { deadline: Some(deadline) }) => deadline <= now,
                    _ => false,
                })
                .map(|(_, authority)| authority.clone())
                .collect();
            for authority in expired.drain(..) {
                table.set(&authority, AuthorityState::Unresolved, &mut events);
            }
        }
        self.publish(events)
    }

    /// Every authority that is remembered with its state, in the order of authorities.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Authority, AuthorityState)> {
        let mut all: Vec<_> = {
            let table = self.table.lock();
            table.entries.iter().map(|(authority, entry)| (authority.clone(), entry.state)).collect()
        };
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// How many authorities are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many authorities were forgotten for room.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.table.lock().forgotten
    }

    fn set(&self, authority: &Authority, to: AuthorityState) {
        let mut events = Vec::new();
        {
            let mut table = self.table.lock();
            let is_new = to != AuthorityState::Unresolved && !table.entries.contains_key(authority);
            if is_new && table.entries.len() >= self.max {
                // Room is made before the new one is there, so it cannot be the one to go.
                if let Some(first) = table.order.values().next().cloned() {
                    table.set(&first, AuthorityState::Unresolved, &mut events);
                    table.forgotten += 1;
                }
            }
            table.set(authority, to, &mut events);
        }
        self.publish(events);
    }

    /// Publishes outside the lock; subscribers may ask for states.
    fn publish(&self, events: Vec<AuthorityEvent>) -> usize {
        let count = events.len();
        for event in events {
            self.events.publish(event);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AuthorityState::{Connected, Quarantine, Unresolved};
    use alloc::sync::Arc;

    const ANY: AuthorityState = Connected { uid: ActorUid::ANY };

    fn at(port: u16) -> Authority {
        Authority::new("h", port)
    }

    fn quarantine(seconds: u64) -> AuthorityState {
        Quarantine { deadline: Some(Instant::from_millis(seconds * 1000)) }
    }

    struct Fixture {
        manager: Arc<RemoteAuthorityManager>,
        seen: Arc<Lock<Vec<AuthorityEvent>>>,
        _guard: crate::event_stream::Subscription,
    }

    fn fixture(max: usize) -> Fixture {
        let events = EventStream::new();
        let manager = Arc::new(RemoteAuthorityManager::with_max(events.clone(), max));
        let seen: Arc<Lock<Vec<AuthorityEvent>>> = Arc::default();
        let guard = {
            let (seen, manager) = (seen.clone(), Arc::downgrade(&manager));
            events.subscribe(move |event: &AuthorityEvent| {
                // Asking from inside a handler must not hang.
                if let Some(manager) = manager.upgrade() {
                    let _ = manager.state(&event.authority);
                }
                seen.lock().push(event.clone());
            })
        };
        Fixture { manager, seen, _guard: guard }
    }

    impl Fixture {
        fn changes(&self) -> Vec<(u16, AuthorityState, AuthorityState)> {
            let seen = core::mem::take(&mut *self.seen.lock());
            seen.into_iter().map(|event| (event.authority.port(), event.from, event.to)).collect()
        }
    }

    /// Covers: RT-31, RT-49, API-67
    #[test]
    fn every_change_and_nothing_else_is_published() {
        let fixture = fixture(10);
        let (manager, a) = (&fixture.manager, at(1));
        let uid = ActorUid::new(7);
        manager.clear(&a);
        manager.set_connected(&a);
        manager.set_connected(&Authority::new("H.", 1));
        manager.set_connected_to(&a, uid);
        manager.set_quarantine(&a, None);
        manager.set_quarantine(&a, Some(Instant::from_millis(5000)));
        manager.set_connected(&a);
        manager.clear(&a);
        manager.clear(&a);
        assert_eq!(
            fixture.changes(),
            [
                (1, Unresolved, ANY),
                (1, ANY, Connected { uid }),
                (1, Connected { uid }, Quarantine { deadline: None }),
                (1, Quarantine { deadline: None }, quarantine(5)),
                (1, quarantine(5), ANY),
                (1, ANY, Unresolved),
            ]
        );
        assert!(manager.is_empty() && manager.table.lock().order.is_empty());
    }

    #[test]
    fn states_are_read_back_one_by_one_and_all_in_order() {
        let fixture = fixture(10);
        let manager = &fixture.manager;
        manager.set_quarantine(&at(2), None);
        manager.set_connected(&at(1));
        for (port, expected) in [(1, ANY), (2, Quarantine { deadline: None }), (3, Unresolved)] {
            assert_eq!(manager.state(&at(port)), expected, "{port}");
        }
        assert_eq!(manager.snapshot(), [(at(1), ANY), (at(2), Quarantine { deadline: None })]);
    }

    #[test]
    fn a_quarantine_ends_at_its_deadline_when_the_clock_is_shown() {
        let fixture = fixture(10);
        let manager = &fixture.manager;
        manager.set_quarantine(&at(1), Some(Instant::from_millis(5000)));
        manager.set_quarantine(&at(2), Some(Instant::from_millis(6000)));
        manager.set_quarantine(&at(3), None);
        manager.set_connected(&at(4));
        for (millis, lifted, left) in [(4999, 0, 4), (5000, 1, 3), (5001, 0, 3), (900_000, 1, 2)] {
            assert_eq!(manager.lift_expired(Instant::from_millis(millis)), lifted, "{millis}");
            assert_eq!(manager.len(), left, "{millis}");
        }
        assert_eq!(manager.state(&at(3)), Quarantine { deadline: None });
        assert_eq!(manager.state(&at(4)), ANY);
    }

    #[test]
    fn above_the_bound_the_oldest_connected_one_is_forgotten_and_the_newest_never() {
        let fixture = fixture(3);
        let manager = &fixture.manager;
        manager.set_quarantine(&at(1), None);
        manager.set_connected(&at(2));
        manager.set_connected(&at(3));
        manager.set_connected_to(&at(2), ActorUid::new(1));
        assert_eq!((manager.len(), manager.forgotten()), (3, 0));
        fixture.changes();

        manager.set_connected(&at(4));
        assert_eq!(fixture.changes(), [(3, ANY, Unresolved), (4, Unresolved, ANY)]);
        manager.set_quarantine(&at(5), None);
        manager.set_quarantine(&at(6), None);
        let ports: Vec<_> = manager.snapshot().iter().map(|(authority, _)| authority.port()).collect();
        assert_eq!(ports, [1, 5, 6], "quarantined ones stay as long as another can go");
        manager.set_connected(&at(7));
        assert_eq!((manager.state(&at(1)), manager.state(&at(7))), (Unresolved, ANY));
        assert_eq!((manager.len(), manager.forgotten()), (3, 4));
    }
}
