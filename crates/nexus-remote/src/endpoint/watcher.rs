//! Death watch across nodes: who here watches whom elsewhere, and whom here others watch.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};
use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::{Actor, ActorError, AnyRef, Context, Signal, TerminationReason};

use super::peer::Peer;
use crate::association::{TerminationNotice, WatcherId};
use crate::wire::WirePath;

/// The daemon at `/system/remote_watcher_daemon`.
///
/// Watches and unwatches of this node's actors pass through its mailbox, so that they keep their order with the
/// notices that come back; on behalf of peers it watches actors here as any actor would.
pub struct RemoteWatcherDaemon {
    /// Watchers here, by peer and by the number the association knows them under.
    watchers: HashMap<(u16, WatcherId), Watcher>,
    /// Actors here, and which peers watch them under which name.
    watched: HashMap<AnyRef, Vec<(Arc<Peer>, WirePath, ActorUid)>>,
    /// The actors here by the name under which a peer watches them: a peer may end many watches at once.
    names: HashMap<(u16, WirePath, ActorUid), AnyRef>,
}

struct Watcher {
    actor: AnyRef,
    /// The actors of that peer it watches. A notice that crossed its unwatch names one that is not among them.
    targets: HashSet<ActorPath>,
}

/// What the daemon is told.
pub(crate) enum WatchCommand {
    /// An actor here watches one at a peer.
    Watch { peer: Arc<Peer>, target: ActorPath, watcher: AnyRef },
    /// It does not any more.
    Unwatch { peer: Arc<Peer>, target: ActorPath, watcher: AnyRef },
    /// A watched actor at a peer has terminated.
    Notify { peer: Arc<Peer>, notice: TerminationNotice },
    /// A peer watches an actor here.
    PeerWatches { peer: Arc<Peer>, path: WirePath, uid: ActorUid },
    /// It does not any more.
    PeerUnwatches { peer: Arc<Peer>, path: WirePath, uid: ActorUid },
}

impl RemoteWatcherDaemon {
    pub(crate) fn new() -> Self {
        Self { watchers: HashMap::new(), watched: HashMap::new(), names: HashMap::new() }
    }

    fn watch(&mut self, peer: &Arc<Peer>, target: &ActorPath, watcher: AnyRef) {
        let id = WatcherId(watcher.uid().get());
        let entry = self
            .watchers
            .entry((peer.number(), id))
            .or_insert_with(|| Watcher { actor: watcher, targets: HashSet::new() });
        entry.targets.insert(target.clone());
        peer.apply(|association, now| association.watch(now, id, target));
    }

    fn unwatch(&mut self, peer: &Arc<Peer>, target: &ActorPath, watcher: &AnyRef) {
        let id = WatcherId(watcher.uid().get());
        peer.apply(|association, now| association.unwatch(now, id, target));
        self.release((peer.number(), id), target);
    }

    /// Who watched `target`, and does not any more.
    fn release(&mut self, key: (u16, WatcherId), target: &ActorPath) -> Option<AnyRef> {
        let watcher = self.watchers.get_mut(&key)?;
        if !watcher.targets.remove(target) {
            return None;
        }
        let actor = watcher.actor.clone();
        if watcher.targets.is_empty() {
            self.watchers.remove(&key);
        }
        Some(actor)
    }

    fn notify(&mut self, peer: &Arc<Peer>, notice: &TerminationNotice) {
        for id in &notice.watchers {
            if let Some(watcher) = self.release((peer.number(), *id), &notice.target) {
                watcher.notify_terminated(&notice.target, notice.reason.clone());
            }
        }
    }

    fn peer_watches(&mut self, peer: Arc<Peer>, path: WirePath, uid: ActorUid, cx: &mut Context<'_, Self>) {
        let found = path.as_str().starts_with("/user/").then(|| cx.system().find(path.as_str())).flatten();
        let found = found.filter(|found| uid.is_any() || found.uid() == uid);
        let Some(found) = found else {
            let reason =
                if uid.is_any() { TerminationReason::NeverExisted } else { TerminationReason::Stopped };
            peer.apply(|association, now| association.local_terminated(now, &path, uid, reason));
            return;
        };
        if let Some(before) = self.names.insert((peer.number(), path.clone(), uid), found.clone())
            && before != found
        {
            // The name has a new owner; the news of the old one's end is under way and is of no use to this watch.
            self.forget(&before, &peer, &path, uid);
        }
        let by = self.watched.entry(found.clone()).or_default();
        if !by.iter().any(|(p, at, of)| Arc::ptr_eq(p, &peer) && *at == path && *of == uid) {
            by.push((peer, path, uid));
        }
        cx.watch_any(&found);
    }

    fn peer_unwatches(
        &mut self,
        peer: &Arc<Peer>,
        path: &WirePath,
        uid: ActorUid,
        cx: &mut Context<'_, Self>,
    ) {
        let Some(actor) = self.names.remove(&(peer.number(), path.clone(), uid)) else { return };
        if self.forget(&actor, peer, path, uid) {
            cx.unwatch_any(&actor);
        }
    }

    /// Strikes a peer from those who watch `actor`; true when it was the last.
    fn forget(&mut self, actor: &AnyRef, peer: &Arc<Peer>, path: &WirePath, uid: ActorUid) -> bool {
        let Some(by) = self.watched.get_mut(actor) else { return false };
        by.retain(|(p, at, of)| !(Arc::ptr_eq(p, peer) && at == path && *of == uid));
        if by.is_empty() {
            self.watched.remove(actor);
            return true;
        }
        false
    }
}

/// A message to the daemon; only remoting makes one.
pub struct RemoteWatcherMessage(pub(crate) WatchCommand);

impl From<WatchCommand> for RemoteWatcherMessage {
    fn from(command: WatchCommand) -> Self {
        Self(command)
    }
}

impl core::fmt::Debug for RemoteWatcherDaemon {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RemoteWatcherDaemon")
            .field("watchers", &self.watchers.len())
            .field("watched", &self.watched.len())
            .finish_non_exhaustive()
    }
}

impl Actor for RemoteWatcherDaemon {
    type Msg = RemoteWatcherMessage;

    async fn receive(
        &mut self,
        RemoteWatcherMessage(command): RemoteWatcherMessage,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        match command {
            WatchCommand::Watch { peer, target, watcher } => self.watch(&peer, &target, watcher),
            WatchCommand::Unwatch { peer, target, watcher } => self.unwatch(&peer, &target, &watcher),
            WatchCommand::Notify { peer, notice } => self.notify(&peer, &notice),
            WatchCommand::PeerWatches { peer, path, uid } => self.peer_watches(peer, path, uid, cx),
            WatchCommand::PeerUnwatches { peer, path, uid } => self.peer_unwatches(&peer, &path, uid, cx),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal {
            for (peer, path, uid) in self.watched.remove(&who).unwrap_or_default() {
                self.names.remove(&(peer.number(), path.clone(), uid));
                let reason = reason.clone();
                peer.apply(|association, now| association.local_terminated(now, &path, uid, reason));
            }
        }
        Ok(())
    }
}
