//! Death watch across nodes: who here watches whom elsewhere, and whom here others watch.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPath, ActorUid};
use nexus_actor_core::{Actor, ActorError, AnyRef, Context, Signal, TerminationReason};

use super::inbox::Posted;
use super::node::Node;
use super::peer::Peer;
use crate::association::{TerminationNotice, WatcherId};
use crate::wire::WirePath;

/// Commands that the daemon works off before others get their turn.
const BATCH: usize = 1_000;
/// How often a command is begun that makes the daemon fail.
const ATTEMPTS: u32 = 2;

/// What the daemon is told.
pub(crate) enum WatchCommand {
    /// An actor here watches one at a peer.
    Watch { peer: Arc<Peer>, target: ActorPath, watcher: AnyRef },
    /// It does not any more.
    Unwatch { peer: Arc<Peer>, target: ActorPath, watcher: AnyRef },
    /// A watched actor at a peer has terminated.
    Notify { peer: Arc<Peer>, notice: TerminationNotice },
    /// A peer watches an actor here.
    PeerWatches { by: Posted, path: WirePath, uid: ActorUid },
    /// It does not watch these any more.
    PeerUnwatches { by: Posted, targets: Vec<(WirePath, ActorUid)> },
    /// An actor here that peers watch has terminated.
    Terminated { who: AnyRef, reason: TerminationReason },
}

/// What the daemon is to do and what it knows. It belongs to the node: a daemon that fails and is made anew goes on
/// where the one before was, also with the command that was interrupted.
#[derive(Default)]
pub(crate) struct Watching {
    orders: Lock<Orders>,
    /// Taken out while a command is carried out.
    books: Lock<Books>,
}

/// Watches and unwatches of this node's actors pass through one queue, so that they keep their order with the notices
/// that come back.
#[derive(Default)]
struct Orders {
    commands: VecDeque<WatchCommand>,
    /// What a daemon was at when it failed, and how often one has begun it.
    interrupted: Option<(WatchCommand, u32)>,
    /// The daemon has been told and has not found the queue empty since.
    told: bool,
    /// There will be no daemon any more.
    closed: bool,
}

#[derive(Default)]
struct Books {
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

impl Watching {
    /// Keeps a command; whether the daemon is to be told.
    pub(crate) fn push(&self, command: WatchCommand) -> bool {
        let late = {
            let mut orders = self.orders.lock();
            if !orders.closed {
                orders.commands.push_back(command);
                return !core::mem::replace(&mut orders.told, true);
            }
            command
        };
        late.answer(&TerminationReason::Shutdown);
        false
    }

    /// Answers who still waits: there will be no daemon any more.
    pub(crate) fn close(&self) {
        let (commands, interrupted) = {
            let mut orders = self.orders.lock();
            orders.closed = true;
            (core::mem::take(&mut orders.commands), orders.interrupted.take())
        };
        for command in interrupted.map(|(command, _)| command).into_iter().chain(commands) {
            command.answer(&TerminationReason::Shutdown);
        }
        let books = core::mem::take(&mut *self.books.lock());
        drop(books);
    }

    fn next(&self) -> Option<WatchCommand> {
        let mut orders = self.orders.lock();
        let next = orders.commands.pop_front();
        orders.told = next.is_some();
        next
    }
}

#[cfg(test)]
impl Watching {
    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.orders.lock().commands.len()
    }
}

impl WatchCommand {
    /// Tells who watches that nothing will come of it.
    fn answer(self, reason: &TerminationReason) {
        match self {
            Self::Watch { target, watcher, .. } => watcher.notify_terminated(&target, reason.clone()),
            Self::Unwatch { .. }
            | Self::Notify { .. }
            | Self::PeerWatches { .. }
            | Self::PeerUnwatches { .. }
            | Self::Terminated { .. } => {}
        }
    }
}

/// A command while it is carried out, and the books. Unless it comes to its end it is kept for the next daemon.
struct Task<'a> {
    watching: &'a Watching,
    books: Books,
    command: Option<(WatchCommand, u32)>,
}

impl<'a> Task<'a> {
    fn new(watching: &'a Watching) -> Self {
        let books = core::mem::take(&mut *watching.books.lock());
        Self { watching, books, command: None }
    }

    /// Carries `command` out, which was begun `before` so many times.
    fn run(&mut self, command: WatchCommand, before: u32, cx: &mut Context<'_, RemoteWatcherDaemon>) {
        let (command, _) = self.command.insert((command, before + 1));
        self.books.carry_out(command, cx);
        self.command = None;
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        let before = core::mem::replace(&mut *self.watching.books.lock(), core::mem::take(&mut self.books));
        if let Some(command) = self.command.take() {
            self.watching.orders.lock().interrupted = Some(command);
        }
        drop(before);
    }
}

impl Books {
    /// Carries `command` out, which may have been begun before: each step finds what an earlier one has done.
    fn carry_out(&mut self, command: &mut WatchCommand, cx: &mut Context<'_, RemoteWatcherDaemon>) {
        match command {
            WatchCommand::Watch { peer, target, watcher } => self.watch(peer, target, watcher),
            WatchCommand::Unwatch { peer, target, watcher } => self.unwatch(peer, target, watcher),
            WatchCommand::Notify { peer, notice } => self.notify(peer, notice),
            WatchCommand::PeerWatches { by, path, uid } => self.peer_watches(by.peer(), path, *uid, cx),
            WatchCommand::PeerUnwatches { by, targets } => {
                while let Some((path, uid)) = targets.pop() {
                    self.peer_unwatches(by.peer(), &path, uid, cx);
                }
            }
            WatchCommand::Terminated { who, reason } => self.terminated(who, reason),
        }
    }

    /// What was begun too often is not tried again: whoever waits for it is told.
    fn give_up(&mut self, command: WatchCommand) {
        if let WatchCommand::Watch { peer, target, watcher } = &command {
            self.release((peer.number(), WatcherId(watcher.uid().get())), target);
        }
        command.answer(&TerminationReason::Unreachable);
    }

    fn watch(&mut self, peer: &Arc<Peer>, target: &ActorPath, watcher: &AnyRef) {
        let id = WatcherId(watcher.uid().get());
        let entry = self
            .watchers
            .entry((peer.number(), id))
            .or_insert_with(|| Watcher { actor: watcher.clone(), targets: HashSet::new() });
        entry.targets.insert(target.clone());
        peer.apply(|association, now| association.watch(now, id, target));
    }

    fn unwatch(&mut self, peer: &Arc<Peer>, target: &ActorPath, watcher: &AnyRef) {
        let id = WatcherId(watcher.uid().get());
        self.release((peer.number(), id), target);
        peer.apply(|association, now| association.unwatch(now, id, target));
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

    fn peer_watches(
        &mut self,
        peer: &Arc<Peer>,
        path: &WirePath,
        uid: ActorUid,
        cx: &mut Context<'_, RemoteWatcherDaemon>,
    ) {
        let found = path.as_str().starts_with("/user/").then(|| cx.system().find(path.as_str())).flatten();
        let found = found.filter(|found| uid.is_any() || found.uid() == uid);
        let Some(found) = found else {
            let reason =
                if uid.is_any() { TerminationReason::NeverExisted } else { TerminationReason::Stopped };
            peer.apply(|association, now| association.local_terminated(now, path, uid, reason));
            return;
        };
        if let Some(before) = self.names.insert((peer.number(), path.clone(), uid), found.clone())
            && before != found
        {
            // The name has a new owner; the news of the old one's end is under way and is of no use to this watch.
            self.forget(&before, peer, path, uid);
        }
        let by = self.watched.entry(found.clone()).or_default();
        if !by.iter().any(|(p, at, of)| Arc::ptr_eq(p, peer) && at == path && *of == uid) {
            by.push((peer.clone(), path.clone(), uid));
        }
        cx.watch_any(&found);
    }

    fn peer_unwatches(
        &mut self,
        peer: &Arc<Peer>,
        path: &WirePath,
        uid: ActorUid,
        cx: &mut Context<'_, RemoteWatcherDaemon>,
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

    fn terminated(&mut self, who: &AnyRef, reason: &TerminationReason) {
        while let Some((peer, path, uid)) = self.watched.get_mut(who).and_then(Vec::pop) {
            let reason = reason.clone();
            self.names.remove(&(peer.number(), path.clone(), uid));
            peer.apply(|association, now| association.local_terminated(now, &path, uid, reason));
        }
        self.watched.remove(who);
    }
}

/// The daemon at `/system/remote_watcher_daemon`.
///
/// On behalf of peers it watches actors here as any actor would. What it knows outlives it: one that fails is
/// replaced, and no watch is forgotten.
pub struct RemoteWatcherDaemon {
    node: Arc<Node>,
}

impl RemoteWatcherDaemon {
    pub(crate) const fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Goes on where another daemon failed.
    fn take_over(&self, cx: &mut Context<'_, Self>) {
        let watching = &self.node.watching;
        let interrupted = watching.orders.lock().interrupted.take();
        let mut task = Task::new(watching);
        match interrupted {
            None => {}
            Some((command, times)) if times < ATTEMPTS => task.run(command, times, cx),
            Some((command, _)) => task.books.give_up(command),
        }
        let watched: Vec<_> = task.books.watched.keys().cloned().collect();
        for actor in watched {
            cx.watch_any(&actor);
        }
    }

    fn work(&self, cx: &mut Context<'_, Self>) {
        let watching = &self.node.watching;
        let mut task = Task::new(watching);
        for _ in 0..BATCH {
            let Some(command) = watching.next() else { return };
            task.run(command, 0, cx);
        }
        drop(task);
        cx.me().tell(RemoteWatcherMessage(()));
    }
}

/// Says to the daemon that there is something to do; only remoting makes one.
#[derive(Debug)]
pub struct RemoteWatcherMessage(pub(crate) ());

impl core::fmt::Debug for RemoteWatcherDaemon {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let books = self.node.watching.books.lock();
        f.debug_struct("RemoteWatcherDaemon")
            .field("watchers", &books.watchers.len())
            .field("watched", &books.watched.len())
            .finish_non_exhaustive()
    }
}

impl Actor for RemoteWatcherDaemon {
    type Msg = RemoteWatcherMessage;

    async fn receive(
        &mut self,
        _: RemoteWatcherMessage,
        cx: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        self.work(cx);
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Started => {
                self.take_over(cx);
                cx.me().tell(RemoteWatcherMessage(()));
            }
            Signal::Terminated { who, reason } => {
                self.node.tell_watcher(WatchCommand::Terminated { who, reason });
            }
            // For good: who is replaced for having failed too often has a successor.
            Signal::Stopping if self.node.is_closing() => self.node.watching.close(),
            _ => {}
        }
        Ok(())
    }
}
