//! Who watches whom across one association, once per watched actor.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::{Instant, TerminationReason};

use super::Association;
use super::event::{AssociationEvent, TerminationNotice, WatcherId};
use super::state::AssociationState;
use super::timer::Timer;
use crate::wire::{QuarantineReason, SystemMessage, WirePath};

type Key = (WirePath, ActorUid);

#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: ActorPath,
    pub(super) watchers: BTreeSet<WatcherId>,
    /// The peer has been told, or is about to be.
    announced: bool,
    /// Its place among the changes, while what is wished is not what was announced.
    change: Option<u64>,
}

/// Why a watch was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WatchRefused {
    Limit,
    NotAPath,
}

/// What is watched at the peer. It is wanted state: what the peer must be told follows from it, and waits here
/// as long as it has to (S95).
#[derive(Debug, Default)]
pub(super) struct WatchBook {
    targets: BTreeMap<Key, Target>,
    /// Targets whose wish differs from what was announced, in the order in which that came about.
    changed: BTreeMap<u64, Key>,
    changes: u64,
}

impl WatchBook {
    pub(super) fn watch(
        &mut self,
        watcher: WatcherId,
        path: &ActorPath,
        targets_max: usize,
        watchers_max: usize,
    ) -> Result<(), WatchRefused> {
        let wire = WirePath::of(path).map_err(|_| WatchRefused::NotAPath)?;
        let key = (wire, path.uid());
        let full = self.targets.len() >= targets_max;
        match self.targets.get_mut(&key) {
            Some(target) => {
                if !target.watchers.contains(&watcher) && target.watchers.len() >= watchers_max {
                    return Err(WatchRefused::Limit);
                }
                target.watchers.insert(watcher);
            }
            None if full => return Err(WatchRefused::Limit),
            None => {
                let watchers = BTreeSet::from([watcher]);
                let target = Target { path: path.clone(), watchers, announced: false, change: None };
                self.targets.insert(key.clone(), target);
            }
        }
        self.note_change(&key);
        Ok(())
    }

    pub(super) fn unwatch(&mut self, watcher: WatcherId, path: &ActorPath) {
        let Ok(wire) = WirePath::of(path) else { return };
        let key = (wire, path.uid());
        let Some(target) = self.targets.get_mut(&key) else { return };
        if !target.watchers.remove(&watcher) || !target.watchers.is_empty() {
            return;
        }
        if target.announced {
            self.note_change(&key);
        } else {
            self.remove(&key);
        }
    }

    /// Gives a target its place among the changes, or takes it away when nothing is to be told any more: wishes that
    /// come and go while nobody can be told leave nothing behind.
    fn note_change(&mut self, key: &Key) {
        let Some(target) = self.targets.get_mut(key) else { return };
        let differs = target.announced == target.watchers.is_empty();
        match target.change {
            None if differs => {
                self.changes += 1;
                target.change = Some(self.changes);
                self.changed.insert(self.changes, key.clone());
            }
            Some(place) if !differs => {
                target.change = None;
                self.changed.remove(&place);
            }
            _ => {}
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Target> {
        let target = self.targets.remove(key)?;
        if let Some(place) = target.change {
            self.changed.remove(&place);
        }
        Some(target)
    }

    /// The next thing the peer must be told.
    pub(super) fn pull(&mut self) -> Option<SystemMessage> {
        while let Some((_, key)) = self.changed.pop_first() {
            let Some(target) = self.targets.get_mut(&key) else { continue };
            target.change = None;
            if !target.watchers.is_empty() {
                target.announced = true;
                let (path, uid) = key;
                return Some(SystemMessage::Watch { path, uid });
            }
            self.targets.remove(&key);
            let (path, uid) = key;
            return Some(SystemMessage::Unwatch { path, uid });
        }
        None
    }

    /// The peer says that a target terminated: who is to be told, if anybody still cares.
    pub(super) fn terminated(&mut self, path: &WirePath, uid: ActorUid) -> Option<Target> {
        let target = self.remove(&(path.clone(), uid))?;
        (!target.watchers.is_empty()).then_some(target)
    }

    /// The session ended: takes the targets the peer had been told of. The others are still wishes.
    pub(super) fn take_announced(&mut self) -> Vec<Target> {
        let mut taken = Vec::new();
        let targets = core::mem::take(&mut self.targets);
        for (key, target) in targets {
            if !target.announced {
                self.targets.insert(key, target);
                continue;
            }
            if let Some(place) = target.change {
                self.changed.remove(&place);
            }
            if !target.watchers.is_empty() {
                taken.push(target);
            }
        }
        taken
    }

    /// Takes every target that somebody watches.
    pub(super) fn take_all(&mut self) -> Vec<Target> {
        self.changed.clear();
        let targets = core::mem::take(&mut self.targets);
        targets.into_values().filter(|t| !t.watchers.is_empty()).collect()
    }

    /// Whether somebody watches something.
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether the peer must be told something.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }
}

/// What the peer watches here.
#[derive(Debug, Default)]
pub(super) struct PeerWatches {
    watched: BTreeSet<Key>,
    notices: VecDeque<SystemMessage>,
}

/// What a peer's watch leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PeerWatch {
    /// The node must watch the actor.
    New,
    /// It does already, or the peer is told that it cannot.
    Done,
    /// The peer watches without reading what it is told.
    Overflow,
}

impl PeerWatches {
    pub(super) fn watch(&mut self, path: &WirePath, uid: ActorUid, max: usize, after: u64) -> PeerWatch {
        let key = (path.clone(), uid);
        if self.watched.contains(&key) {
            return PeerWatch::Done;
        }
        if self.notices.len() >= max {
            return PeerWatch::Overflow;
        }
        if self.watched.len() >= max {
            let (path, uid) = key;
            let reason = TerminationReason::Limit;
            self.notices.push_back(SystemMessage::Terminated { path, uid, reason, after });
            return PeerWatch::Done;
        }
        self.watched.insert(key);
        PeerWatch::New
    }

    pub(super) fn unwatch(&mut self, path: &WirePath, uid: ActorUid) -> bool {
        self.watched.remove(&(path.clone(), uid))
    }

    /// An actor here terminated; false when the peer does not watch it.
    pub(super) fn terminated(
        &mut self,
        path: &WirePath,
        uid: ActorUid,
        reason: TerminationReason,
        after: u64,
    ) -> bool {
        let Some((path, uid)) = self.watched.take(&(path.clone(), uid)) else { return false };
        self.notices.push_back(SystemMessage::Terminated { path, uid, reason, after });
        true
    }

    pub(super) fn pull(&mut self) -> Option<SystemMessage> {
        self.notices.pop_front()
    }

    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Whether the peer watches something.
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.watched.len()
    }

    /// The session ended: takes what was watched.
    pub(super) fn take(&mut self) -> Vec<Key> {
        self.notices.clear();
        core::mem::take(&mut self.watched).into_iter().collect()
    }
}

impl Association {
    /// Watches `target` for `watcher`: exactly one [`AssociationEvent::Terminated`] names it unless it is
    /// unwatched before.
    pub fn watch(&mut self, now: Instant, watcher: WatcherId, target: &ActorPath) {
        let reason = if self.closing.is_some() || self.closed {
            TerminationReason::Shutdown
        } else if let AssociationState::Quarantined { reason, .. } = &self.state
            && (!self.may_probe() || !target.uid().is_any())
        {
            match reason {
                QuarantineReason::Unreachable => TerminationReason::Unreachable,
                _ => TerminationReason::Quarantined,
            }
        } else {
            let (targets, watchers) = (self.config.watches_max(), self.config.watchers_max());
            match self.watches.watch(watcher, target, targets, watchers) {
                Ok(()) => {
                    self.last_used = now;
                    self.ensure_connection(now);
                    if self.session.is_none() {
                        self.timers.start(Timer::FirstAnswer, now + self.config.first_answer_allowance());
                    }
                    self.update_monitor(now);
                    self.wake_driver();
                    return;
                }
                Err(WatchRefused::Limit) => TerminationReason::Limit,
                Err(WatchRefused::NotAPath) => TerminationReason::NeverExisted,
            }
        };
        self.events.push_back(AssociationEvent::Terminated(TerminationNotice {
            target: target.clone(),
            watchers: alloc::vec![watcher],
            reason,
            session: 0,
            after: 0,
        }));
    }

    /// Ends a watch. A notice already on its way as an event still names the watcher.
    pub fn unwatch(&mut self, now: Instant, watcher: WatcherId, target: &ActorPath) {
        self.watches.unwatch(watcher, target);
        self.last_used = now;
        self.update_monitor(now);
        self.wake_driver();
    }

    /// An actor here terminated, named as the peer watched it. Nothing happens unless the peer still watches it.
    ///
    /// Its last messages must have been sent before: the notice does not overtake them.
    pub fn local_terminated(
        &mut self,
        now: Instant,
        path: &WirePath,
        uid: ActorUid,
        reason: TerminationReason,
    ) {
        if self.peer_watches.terminated(path, uid, reason, self.lane.next()) {
            self.last_used = now;
            self.ensure_connection(now);
            self.wake_driver();
        }
    }

    pub(super) fn tell_watchers(
        &mut self,
        targets: impl IntoIterator<Item = Target>,
        reason: &TerminationReason,
        session: u64,
    ) {
        for target in targets {
            self.events.push_back(AssociationEvent::Terminated(TerminationNotice {
                target: target.path,
                watchers: target.watchers.into_iter().collect(),
                reason: reason.clone(),
                session,
                // The session is over: nothing can still arrive that it should wait for.
                after: 0,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn path(name: &str, uid: u64) -> ActorPath {
        alloc::format!("fraktor.tcp://b@h:1{name}").parse::<ActorPath>().unwrap().with_uid(ActorUid::new(uid))
    }

    fn kinds(book: &mut WatchBook) -> Vec<char> {
        core::iter::from_fn(|| book.pull())
            .map(|m| if matches!(m, SystemMessage::Watch { .. }) { 'W' } else { 'U' })
            .collect()
    }

    /// Covers: S62
    #[test]
    fn the_wire_carries_one_watch_for_many_watchers() {
        let mut book = WatchBook::default();
        let target = path("/user/a", 3);
        for w in 0..100 {
            assert_eq!(book.watch(WatcherId(w), &target, 10, 1_000), Ok(()));
        }
        assert_eq!(kinds(&mut book), ['W']);
        let told = book.terminated(&WirePath::of(&target).unwrap(), target.uid()).unwrap();
        assert_eq!(told.watchers.len(), 100);
        assert!(book.is_empty());
    }

    #[test]
    fn wishes_that_cancel_out_are_never_told() {
        let mut book = WatchBook::default();
        let target = path("/user/a", 3);
        let w = WatcherId(1);
        for (name, script, expected) in [
            ("watch and unwatch", "wu", ""),
            ("watch", "w", "W"),
            ("unwatch and watch again", "uw", ""),
            ("unwatch", "u", "U"),
            ("watch twice, unwatch", "wwu", ""),
            ("unwatch unknown", "u", ""),
        ] {
            for c in script.chars() {
                if c == 'w' {
                    assert_eq!(book.watch(w, &target, 10, 10), Ok(()));
                } else {
                    book.unwatch(w, &target);
                }
            }
            assert_eq!(kinds(&mut book).into_iter().collect::<String>(), expected, "{name}");
        }
        assert!(book.is_empty());
    }

    /// An actor that watches anew at every restart, through a long break.
    #[test]
    fn wishes_that_come_and_go_untold_leave_nothing_behind() {
        let mut book = WatchBook::default();
        let (told, w) = (path("/user/told", 3), WatcherId(1));
        assert_eq!(book.watch(w, &told, 10, 10), Ok(()));
        assert_eq!(kinds(&mut book), ['W']);
        for n in 1..1_000 {
            for target in [&told, &path("/user/same", 3), &path("/user/other", n)] {
                assert_eq!(book.watch(w, target, 10, 10), Ok(()));
                book.unwatch(w, target);
            }
            assert_eq!(book.changed.len(), 1, "that nobody watches the first any more");
        }
        assert_eq!(book.watch(w, &told, 10, 10), Ok(()));
        assert!(!book.has_changes());
        book.unwatch(w, &told);
        assert_eq!(book.watch(w, &path("/user/same", 3), 10, 10), Ok(()));
        assert!(book.take_announced().is_empty());
        assert_eq!(book.changed.len(), 1, "what was announced ended with its session");
        assert_eq!(kinds(&mut book), ['W']);
    }

    /// L18: below, at and above both limits.
    #[test]
    fn watches_are_bounded_in_both_directions() {
        let mut book = WatchBook::default();
        for n in 0..3 {
            assert_eq!(book.watch(WatcherId(0), &path("/user/a", n + 1), 3, 2), Ok(()), "{n}");
        }
        assert_eq!(book.watch(WatcherId(0), &path("/user/a", 9), 3, 2), Err(WatchRefused::Limit));
        assert_eq!(book.watch(WatcherId(1), &path("/user/a", 1), 3, 2), Ok(()));
        assert_eq!(book.watch(WatcherId(2), &path("/user/a", 1), 3, 2), Err(WatchRefused::Limit));
        assert_eq!(book.watch(WatcherId(1), &path("/user/a", 1), 3, 2), Ok(()), "again is not one more");

        let mut peer = PeerWatches::default();
        let p = WirePath::new("/user/x").unwrap();
        for n in 1..=2 {
            assert_eq!(peer.watch(&p, ActorUid::new(n), 2, 0), PeerWatch::New);
        }
        assert_eq!(peer.watch(&p, ActorUid::new(1), 2, 0), PeerWatch::Done);
        assert!(!peer.has_notices());
        assert_eq!(peer.watch(&p, ActorUid::new(3), 2, 0), PeerWatch::Done);
        assert!(matches!(
            peer.pull(),
            Some(SystemMessage::Terminated { reason: TerminationReason::Limit, .. })
        ));
        for n in 3..5 {
            assert_eq!(peer.watch(&p, ActorUid::new(n), 2, 0), PeerWatch::Done);
        }
        assert_eq!(peer.watch(&p, ActorUid::new(5), 2, 0), PeerWatch::Overflow);
    }
}
