//! Death watch on this wire: who here watches whom at a peer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::ActorPath;
use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::{AnyRef, TerminationReason};

use crate::wire::proto::actor::TerminatedReason;

/// Who here watches whom at one peer. The peer is told once for each actor, however many watch it, and what it says of an
/// actor that nobody watches is not believed.
///
/// What it is to be told stands in these books until the connection has room for it, so it takes no place in a queue: there
/// is nothing to refuse, and of a watch that began and ended meanwhile the peer hears how it stands.
pub struct EndpointWatcher {
    books: Lock<Books>,
    /// Actors there that may be watched (limit L18).
    max: usize,
}

#[derive(Default)]
struct Books {
    watched: HashMap<Arc<str>, Watched>,
    /// Those of which the peer is to be told, in the order of their turns.
    to_tell: BTreeMap<u64, Arc<str>>,
    turns: u64,
    /// Actors that somebody watches.
    live: usize,
    /// Of the connection, which takes what is to be told.
    teller: Option<Waker>,
}

struct Watched {
    path: ActorPath,
    /// With the number of connections that had been lost when they began. Nobody, when the peer is to hear that nobody is left.
    watchers: Vec<(AnyRef, u64)>,
    /// When the peer is to be told of it.
    turn: Option<u64>,
    /// When the peer may have heard of a watch: so many connections had been lost.
    told: Option<u64>,
    /// The question whether it lives that was asked with it.
    touch: Option<ReplyKey>,
}

/// What the peer is to be told of the actor with that id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToTell {
    /// It is watched.
    Watch(Arc<str>),
    /// It is not any more.
    Unwatch(Arc<str>),
}

impl Books {
    /// Gives the entry of `id` a turn, and returns who is to be woken.
    fn give_turn(&mut self, id: &Arc<str>) -> Option<Waker> {
        let entry = self.watched.get_mut(id)?;
        if entry.turn.is_none() {
            entry.turn = Some(self.turns);
            self.to_tell.insert(self.turns, id.clone());
            self.turns += 1;
        }
        self.teller.take()
    }

    fn remove(&mut self, id: &str) -> Option<Watched> {
        let entry = self.watched.remove(id)?;
        if let Some(turn) = entry.turn {
            self.to_tell.remove(&turn);
        }
        self.live -= usize::from(!entry.watchers.is_empty());
        Some(entry)
    }
}

impl EndpointWatcher {
    pub(crate) fn new(max: usize) -> Self {
        Self { books: Lock::default(), max }
    }

    /// Notes that `watcher` watches `path`, known to the peer as `id`; true when it is the first, of whom the peer is to be
    /// told. One actor too many is not watched, and its watcher told so.
    pub(crate) fn watch(&self, id: &Arc<str>, path: &ActorPath, watcher: AnyRef, era: u64) -> bool {
        let mut books = self.books.lock();
        let is_first = match books.watched.get_mut(id) {
            Some(entry) if !entry.watchers.is_empty() => {
                if !entry.watchers.iter().any(|(other, _)| *other == watcher) {
                    entry.watchers.push((watcher, era));
                }
                return false;
            }
            is_left => is_left.is_none(),
        };
        // As many again may wait for the peer to hear that they are over.
        if books.live >= self.max || (is_first && books.watched.len() >= self.max.saturating_mul(2)) {
            drop(books);
            watcher.notify_terminated(path, TerminationReason::Limit);
            return false;
        }
        let entry = books.watched.entry(id.clone()).or_insert_with(|| Watched {
            path: path.clone(),
            watchers: Vec::new(),
            turn: None,
            told: None,
            touch: None,
        });
        entry.watchers.push((watcher, era));
        books.live += 1;
        let teller = books.give_turn(id);
        drop(books);
        teller.into_iter().for_each(Waker::wake);
        true
    }

    /// Notes that it does not any more.
    pub(crate) fn unwatch(&self, id: &Arc<str>, watcher: &AnyRef) {
        let mut books = self.books.lock();
        let Some(entry) = books.watched.get_mut(id) else { return };
        let Some(at) = entry.watchers.iter().position(|(other, _)| other == watcher) else { return };
        entry.watchers.swap_remove(at);
        if !entry.watchers.is_empty() {
            return;
        }
        let is_known = entry.told.is_some();
        books.live -= 1;
        let teller = if is_known {
            books.give_turn(id)
        } else {
            books.remove(id);
            None
        };
        drop(books);
        teller.into_iter().for_each(Waker::wake);
    }

    /// Takes up to `max` of what the peer is to be told, if by then `may_take` says that the connection serves, which is the one
    /// after so many losses: what it has taken when it is lost, the next one is told again. With nothing left, what is to be
    /// told next wakes.
    pub(crate) fn take(
        &self,
        cx: &Context<'_>,
        max: usize,
        era: u64,
        may_take: impl FnOnce() -> bool,
        into: &mut Vec<ToTell>,
    ) {
        let mut books = self.books.lock();
        if !may_take() {
            return;
        }
        while into.len() < max
            && let Some((_, id)) = books.to_tell.pop_first()
        {
            let Some(entry) = books.watched.get_mut(&id) else { continue };
            entry.turn = None;
            if entry.watchers.is_empty() {
                books.watched.remove(&id);
                into.push(ToTell::Unwatch(id));
            } else {
                entry.told = Some(era);
                into.push(ToTell::Watch(id));
            }
        }
        if books.to_tell.is_empty() && !books.teller.as_ref().is_some_and(|now| now.will_wake(cx.waker())) {
            books.teller = Some(cx.waker().clone());
        }
    }

    /// Notes the question whether `id` lives, and returns the one before.
    pub(crate) fn swap_touch(&self, id: &str, touch: Option<ReplyKey>) -> Option<ReplyKey> {
        core::mem::replace(&mut self.books.lock().watched.get_mut(id)?.touch, touch)
    }

    /// There is a new connection, or something may have been lost by the other way: the peer is to be told of everybody.
    pub(crate) fn tell_again(&self) {
        let mut books = self.books.lock();
        if books.to_tell.len() == books.watched.len() {
            return;
        }
        let ids: Vec<_> = books.watched.keys().cloned().collect();
        let mut teller = None;
        for id in &ids {
            teller = books.give_turn(id).or(teller);
        }
        drop(books);
        teller.into_iter().for_each(Waker::wake);
    }

    /// Tells those who watch `id` that it has terminated; false when nobody does.
    pub(crate) fn terminated(&self, id: &str, reason: &TerminationReason) -> bool {
        let Some(entry) = self.books.lock().remove(id) else { return false };
        let is_watched = !entry.watchers.is_empty();
        entry.tell(reason);
        is_watched
    }

    /// Tells those who began to watch before so many connections were lost: the process that they watched is gone, and what
    /// it had heard with it. Of those who began since the next one is to hear, if it has not.
    pub(crate) fn process_gone(&self, era: u64) {
        let (mut gone, mut untold) = (Vec::new(), Vec::new());
        let mut teller = None;
        {
            let mut books = self.books.lock();
            let Books { watched, to_tell, live, .. } = &mut *books;
            *live = 0;
            watched.retain(|id, entry| {
                let (old, new) = entry.watchers.drain(..).partition(|(_, since)| *since < era);
                entry.watchers = new;
                gone.push((entry.path.clone(), old));
                entry.told = entry.told.filter(|told| *told >= era);
                let is_watched = !entry.watchers.is_empty();
                *live += usize::from(is_watched);
                if entry.told.is_some() {
                    if !is_watched && entry.turn.is_none() {
                        // The next one heard of a watch that is none any more.
                        untold.push(id.clone());
                    }
                    return true;
                }
                if is_watched {
                    untold.push(id.clone());
                } else if let Some(turn) = entry.turn {
                    to_tell.remove(&turn);
                }
                is_watched
            });
            for id in &untold {
                teller = books.give_turn(id).or(teller);
            }
        }
        teller.into_iter().for_each(Waker::wake);
        for (path, watchers) in gone {
            tell(&path, watchers, &TerminationReason::Unreachable);
        }
    }

    /// Whether the peer is to be told something.
    pub(crate) fn has_to_tell(&self) -> bool {
        !self.books.lock().to_tell.is_empty()
    }

    /// Whether nobody is watched, and the peer knows.
    pub(crate) fn is_done(&self) -> bool {
        self.books.lock().watched.is_empty()
    }

    /// How many actors are watched there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.books.lock().live
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for EndpointWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EndpointWatcher({} watched)", self.len())
    }
}

impl Watched {
    fn tell(self, reason: &TerminationReason) {
        tell(&self.path, self.watchers, reason);
    }
}

fn tell(path: &ActorPath, watchers: Vec<(AnyRef, u64)>, reason: &TerminationReason) {
    for (watcher, _) in watchers {
        watcher.notify_terminated(path, reason.clone());
    }
}

/// Why an actor elsewhere has terminated, in this system's words.
pub(crate) fn reason_of(why: i32) -> TerminationReason {
    match TerminatedReason::try_from(why) {
        Ok(TerminatedReason::AddressTerminated) => TerminationReason::Unreachable,
        Ok(TerminatedReason::NotFound) => TerminationReason::NeverExisted,
        Ok(TerminatedReason::Stopped) | Err(_) => TerminationReason::Stopped,
    }
}

#[cfg(test)]
mod tests;
