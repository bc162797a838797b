//! Siblings: what the children of one actor share.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::task::{Context, Poll, Waker};

use hashbrown::{Equivalent, HashMap};

use crate::actor_ref::AnyRef;
use crate::lock::Lock;
use crate::mailbox::SystemMsg;
use crate::path::ActorUid;
use crate::reason::Refusal;
use crate::runtime::contained;
use crate::supervision::{RestartWindow, SupervisorStrategy};
use crate::system::ActorSystem;

/// Shared by siblings and their parent. A child needs only this pointer to know its system, its parent, its
/// path and its supervision.
pub(crate) struct Nest {
    pub(crate) system: ActorSystem,
    /// `None` for the three guardians.
    pub(crate) parent: Option<AnyRef>,
    /// The parent's path below the root, without a trailing slash; empty for the guardians.
    pub(crate) path: Arc<str>,
    pub(crate) strategy: Arc<SupervisorStrategy>,
    children: Lock<Children>,
}

#[derive(Default)]
struct Children {
    by_uid: HashMap<u64, AnyRef>,
    by_name: HashMap<NameKey, u64>,
    /// The parent is stopping: nobody is born any more.
    closed: bool,
    /// Restarts that the strategy counts for the group.
    window: RestartWindow,
    /// Nearly always nobody waits, so it is one word.
    waiting: Option<Box<Waiting>>,
}

/// Who waits for children to be gone.
#[derive(Default)]
struct Waiting {
    next: u64,
    /// By the child's uid. A place is told by its number: one task may wait twice with one waker.
    by_uid: HashMap<u64, Vec<(u64, Waker)>>,
}

impl Children {
    /// Takes out who waits for a child.
    fn take_waiting(&mut self, uid: ActorUid) -> Vec<(u64, Waker)> {
        let Some(waiting) = &mut self.waiting else { return Vec::new() };
        let wakers = waiting.by_uid.remove(&uid.get());
        if waiting.by_uid.is_empty() {
            self.waiting = None;
        }
        wakers.unwrap_or_default()
    }
}

/// A thin shared name: one word in the cell, and none for an anonymous actor.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct NameKey(pub(crate) Arc<Box<str>>);

impl Equivalent<NameKey> for str {
    fn equivalent(&self, key: &NameKey) -> bool {
        **key.0 == *self
    }
}

impl fmt::Debug for Nest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nest").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Nest {
    pub(crate) fn new(
        system: ActorSystem,
        parent: Option<AnyRef>,
        path: Arc<str>,
        strategy: Arc<SupervisorStrategy>,
    ) -> Self {
        Self { system, parent, path, strategy, children: Lock::default() }
    }

    /// Enters a child under its name, if that is free and the parent is not stopping.
    pub(crate) fn enter(
        &self,
        name: Option<&NameKey>,
        uid: ActorUid,
        child: AnyRef,
    ) -> Result<(), EnterError> {
        let mut children = self.children.lock();
        if children.closed {
            return Err(EnterError::Closed);
        }
        if let Some(name) = name {
            let str: &str = &name.0;
            if children.by_name.contains_key(str) {
                return Err(EnterError::Taken);
            }
            children.by_name.insert(name.clone(), uid.get());
        }
        children.by_uid.insert(uid.get(), child);
        Ok(())
    }

    /// Removes a child that has terminated; true when the parent waits for the last one and this was it.
    pub(crate) fn leave(&self, name: Option<&NameKey>, uid: ActorUid) -> bool {
        let (child, last, waiting) = {
            let mut children = self.children.lock();
            let child = children.by_uid.remove(&uid.get());
            if let Some(name) = name {
                let str: &str = &name.0;
                if children.by_name.get(str) == Some(&uid.get()) {
                    children.by_name.remove(str);
                }
            }
            // A burst of children leaves its table behind otherwise.
            if children.by_uid.is_empty() && children.by_uid.capacity() > 1024 {
                children.by_uid = HashMap::new();
                children.by_name = HashMap::new();
            }
            let last = children.closed && children.by_uid.is_empty();
            (child, last, children.take_waiting(uid))
        };
        drop(child);
        for (_, waker) in waiting {
            contained(|| waker.wake());
        }
        last
    }

    /// Ready when the child has left. Until then `place` is where `cx` is woken from; it stays the caller's to
    /// [give back](Self::forget_left).
    pub(crate) fn poll_left(&self, uid: ActorUid, place: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut children = self.children.lock();
        if !children.by_uid.contains_key(&uid.get()) {
            // Taken out by `leave`, with all others of this child.
            *place = None;
            return Poll::Ready(());
        }
        let waiting = children.waiting.get_or_insert_default();
        let place = *place.get_or_insert_with(|| {
            waiting.next += 1;
            waiting.next
        });
        let wakers = waiting.by_uid.entry(uid.get()).or_default();
        let old = match wakers.iter_mut().find(|(other, _)| *other == place) {
            Some((_, registered)) => core::mem::replace(registered, waker),
            None => {
                wakers.push((place, waker));
                return Poll::Pending;
            }
        };
        drop(children);
        drop(old);
        Poll::Pending
    }

    /// Takes back what [`poll_left`](Self::poll_left) registered.
    pub(crate) fn forget_left(&self, uid: ActorUid, place: u64) {
        let forgotten = {
            let mut children = self.children.lock();
            let Some(waiting) = &mut children.waiting else { return };
            let Some(wakers) = waiting.by_uid.get_mut(&uid.get()) else { return };
            let at = wakers.iter().position(|(other, _)| *other == place);
            let forgotten = at.map(|at| wakers.swap_remove(at));
            if wakers.is_empty() {
                children.take_waiting(uid);
            }
            forgotten
        };
        drop(forgotten);
    }

    /// Refuses births from now on (until [`reopen`](Self::reopen)) and stops all children, the youngest first.
    /// True when there is none left to wait for.
    pub(crate) fn stop_all(&self) -> bool {
        let mut all = {
            let mut children = self.children.lock();
            children.closed = true;
            children.by_uid.iter().map(|(uid, child)| (*uid, child.clone())).collect::<Vec<_>>()
        };
        all.sort_unstable_by_key(|(uid, _)| core::cmp::Reverse(*uid));
        for (_, child) in &all {
            child.system(SystemMsg::Stop);
        }
        all.is_empty()
    }

    /// The parent has been restarted and may have children again.
    pub(crate) fn reopen(&self) {
        self.children.lock().closed = false;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.children.lock().by_uid.is_empty()
    }

    /// All children, the eldest first.
    pub(crate) fn all(&self) -> Vec<AnyRef> {
        let mut all: Vec<_> =
            self.children.lock().by_uid.iter().map(|(uid, child)| (*uid, child.clone())).collect();
        all.sort_unstable_by_key(|(uid, _)| *uid);
        all.into_iter().map(|(_, child)| child).collect()
    }

    /// The child of that name; an anonymous child's name is `$` and its uid.
    pub(crate) fn find(&self, name: &str) -> Option<AnyRef> {
        let children = self.children.lock();
        let uid = match children.by_name.get(name) {
            Some(uid) => *uid,
            None => name.strip_prefix('$')?.parse().ok()?,
        };
        let child = children.by_uid.get(&uid)?;
        (child.name_is(name)).then(|| child.clone())
    }

    /// Whether the strategy's budget allows one more restart of this group now.
    pub(crate) fn allow_restart(&self, now: crate::time::Instant) -> Option<u32> {
        self.children.lock().window.allow(&self.strategy, now)
    }
}

/// Why a child could not be entered.
pub(crate) enum EnterError {
    Closed,
    Taken,
}

/// Why an actor could not be spawned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnError {
    /// A living sibling has that name.
    NameTaken {
        /// The full path.
        path: String,
    },
    /// The name breaks a rule; the text says which.
    InvalidName {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        rule: String,
    },
    /// The parent is stopping or has stopped.
    ParentStopped,
    /// The system is shutting down.
    Shutdown,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { path } => write!(f, "the name {path} is taken"),
            Self::InvalidName { name, rule } => write!(f, "{name:?} is not a name for an actor: {rule}"),
            Self::ParentStopped => f.write_str("the parent has stopped"),
            Self::Shutdown => f.write_str("the system is shutting down"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl From<SpawnError> for Refusal {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::Shutdown => Self::Shutdown,
            SpawnError::ParentStopped => Self::Stopped,
            SpawnError::NameTaken { .. } | SpawnError::InvalidName { .. } => Self::Limit("actor name"),
        }
    }
}
