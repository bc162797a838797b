//! References to actors whose messages are not known.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::{Any, TypeId};
use core::fmt;
use core::hash::{Hash, Hasher};

use super::stopped::Stopped;
use super::{ActorRef, Body, Cell};
use crate::mailbox::{Entry, Notice, SystemMsg, Who};
use crate::nest::Nest;
use crate::path::{ActorPath, ActorUid};
use crate::signal::{Signal, TerminationReason};
use crate::supervision::SupervisorStrategy;
use crate::system::ActorSystem;

/// A reference whose message type is erased: enough to watch, stop, compare and print.
#[derive(Clone)]
pub struct AnyRef(pub(crate) Arc<dyn AnyCell>);

/// What can be done with an actor without knowing its messages.
pub(crate) trait AnyCell: Send + Sync + 'static {
    fn identity(&self) -> u64;
    fn uid(&self) -> ActorUid;
    fn full_path(&self) -> ActorPath;
    fn name_is(&self, name: &str) -> bool;
    fn system_message(&self, message: SystemMsg) -> Result<(), SystemMsg>;
    fn terminated_notice(&self, who: Who, reason: TerminationReason);
    fn signal(&self, signal: Signal);
    fn nest(&self) -> Option<Arc<Nest>>;
    fn siblings(&self) -> Option<Arc<Nest>>;
    fn insert_nest(&self, nest: Nest) -> Option<Arc<Nest>>;
    fn current(&self) -> Option<AnyRef>;
    fn is_local(&self) -> bool;
    fn is_terminated(&self) -> bool;
    fn owner(&self) -> Option<&ActorSystem>;
    fn target(&self) -> Option<&AnyRef>;
    fn mailbox_len(&self) -> usize;
    fn message_type(&self) -> &'static str;
    fn message_type_id(&self) -> TypeId;
    fn stop_in_order(&self);
    fn call_in_order(&self, call: Box<dyn FnOnce() + Send>) -> bool;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

pub(super) fn same(a: &dyn AnyCell, b: &dyn AnyCell) -> bool {
    if a.identity() != b.identity() || a.uid() != b.uid() || a.is_local() != b.is_local() {
        return false;
    }
    match (a.owner(), b.owner()) {
        // Uids are unique within one system, so two living local cells differ by them alone.
        (Some(x), Some(y)) if a.is_local() && !a.uid().is_any() => x.is_same(y),
        _ => a.full_path() == b.full_path(),
    }
}

impl<M: Send + 'static> AnyCell for Cell<M> {
    fn identity(&self) -> u64 {
        match &self.body {
            Body::Local(local) => local.mailbox.uid().get(),
            Body::Remote(remote) => identity_of(&remote.path),
            Body::Named(named) => identity_of(&named.path),
            Body::Adapter(adapter) => adapter.id,
        }
    }

    fn uid(&self) -> ActorUid {
        match &self.body {
            Body::Local(local) => local.mailbox.uid(),
            Body::Remote(remote) => remote.path.uid(),
            Body::Named(named) => named.path.uid(),
            Body::Adapter(adapter) => ActorUid::new(adapter.id),
        }
    }

    fn full_path(&self) -> ActorPath {
        self.path()
    }

    fn name_is(&self, name: &str) -> bool {
        match &self.body {
            Body::Local(local) => match &local.name {
                Some(own) => &**own.0 == name,
                None => name.strip_prefix('$').is_some_and(|n| n.parse() == Ok(local.mailbox.uid().get())),
            },
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => false,
        }
    }

    fn system_message(&self, message: SystemMsg) -> Result<(), SystemMsg> {
        match &self.body {
            Body::Local(local) => local.mailbox.push_system(message),
            Body::Remote(remote) => {
                match message {
                    SystemMsg::Stop => remote.route.stop(&remote.path),
                    SystemMsg::Watch(watcher) => remote.route.watch(&remote.path, watcher),
                    SystemMsg::Unwatch(watcher) => remote.route.unwatch(&remote.path, &watcher),
                    // Between a parent and its children, which are always of one node.
                    SystemMsg::ChildGone | SystemMsg::Escalated { .. } | SystemMsg::Restart { .. } => {}
                }
                Ok(())
            }
            Body::Named(named) => match named.current() {
                Some(now) => now.0.system_message(message),
                None => Err(message),
            },
            Body::Adapter(adapter) => adapter.target.0.system_message(message),
        }
    }

    fn terminated_notice(&self, who: Who, reason: TerminationReason) {
        if let Body::Local(local) = &self.body {
            let _ = local.mailbox.push_notice(Notice::Terminated { who, reason });
        }
    }

    fn signal(&self, signal: Signal) {
        if let Body::Local(local) = &self.body {
            let _ = local.mailbox.push_notice(Notice::Signal(signal));
        }
    }

    fn nest(&self) -> Option<Arc<Nest>> {
        match &self.body {
            Body::Local(local) => local.mailbox.nest(),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => None,
        }
    }

    fn siblings(&self) -> Option<Arc<Nest>> {
        match &self.body {
            Body::Local(local) => Some(local.nest.clone()),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => None,
        }
    }

    fn insert_nest(&self, nest: Nest) -> Option<Arc<Nest>> {
        match &self.body {
            Body::Local(local) => local.mailbox.nest_or_insert(Arc::new(nest)),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => None,
        }
    }

    fn current(&self) -> Option<AnyRef> {
        match &self.body {
            Body::Named(named) => named.current(),
            Body::Local(_) | Body::Remote(_) | Body::Adapter(_) => None,
        }
    }

    fn is_local(&self) -> bool {
        match &self.body {
            Body::Local(_) | Body::Named(_) => true,
            Body::Remote(_) => false,
            Body::Adapter(adapter) => adapter.target.is_local(),
        }
    }

    fn is_terminated(&self) -> bool {
        self.terminated()
    }

    fn owner(&self) -> Option<&ActorSystem> {
        self.any_system()
    }

    fn target(&self) -> Option<&AnyRef> {
        match &self.body {
            Body::Adapter(adapter) => Some(&adapter.target),
            Body::Local(_) | Body::Remote(_) | Body::Named(_) => None,
        }
    }

    fn mailbox_len(&self) -> usize {
        match &self.body {
            Body::Local(local) => local.mailbox.len(),
            Body::Remote(_) | Body::Named(_) | Body::Adapter(_) => 0,
        }
    }

    fn message_type(&self) -> &'static str {
        core::any::type_name::<M>()
    }

    fn message_type_id(&self) -> TypeId {
        TypeId::of::<M>()
    }

    fn stop_in_order(&self) {
        match &self.body {
            Body::Local(local) => {
                let _ = local.mailbox.push_notice(Notice::Stop);
            }
            Body::Remote(remote) => remote.route.stop_in_order(&remote.path),
            Body::Named(named) => {
                if let Some(now) = named.current() {
                    now.stop_in_order();
                }
            }
            Body::Adapter(adapter) => adapter.target.stop_in_order(),
        }
    }

    fn call_in_order(&self, call: Box<dyn FnOnce() + Send>) -> bool {
        match &self.body {
            // Nothing is displaced for it.
            Body::Local(local) => local.mailbox.push(Entry::Notice(Box::new(Notice::Call(call)))).is_ok(),
            Body::Remote(_) => false,
            Body::Named(named) => named.current().is_some_and(|now| now.call_in_order(call)),
            Body::Adapter(adapter) => adapter.target.call_in_order(call),
        }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// What local and remote references to one actor hash alike by: the uid, or the path where there is none.
pub(crate) fn identity_of(path: &ActorPath) -> u64 {
    if !path.uid().is_any() {
        return path.uid().get();
    }
    // FNV-1a: short paths, no dependency, the same everywhere.
    path.elements().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl AnyRef {
    /// The actor's path.
    #[must_use]
    pub fn path(&self) -> ActorPath {
        self.0.full_path()
    }

    /// The actor's uid; [`ActorUid::ANY`] for a reference resolved by name.
    #[must_use]
    pub fn uid(&self) -> ActorUid {
        self.0.uid()
    }

    /// Asks the actor to stop, as [`ActorRef::stop`]; an actor on another node refuses.
    pub fn stop(&self) {
        let _ = self.0.system_message(SystemMsg::Stop);
    }

    /// Waits until the actor has stopped and its name is free, as [`ActorRef::stopped`].
    pub fn stopped(&self) -> Stopped {
        Stopped::new(&self.behind())
    }

    /// Asks the actor to stop once it has handled what was sent to it before this. What is sent afterwards becomes dead
    /// letters. An actor that stays suspended in a handler, or waits to be restarted, stops when it gets there.
    ///
    /// Of an actor on another node the route decides: protoactor has a message for it, the native wire takes it as
    /// [`stop`](Self::stop).
    pub fn stop_in_order(&self) {
        self.0.stop_in_order();
    }

    /// Runs `call` on the actor's turn once all that was sent to it before has been handled, and says whether it was
    /// taken on: not by an actor that has stopped, is of another node, or has a bounded mailbox that is full, whatever
    /// that does with messages.
    ///
    /// It takes a message's place in the mailbox and is dropped unrun where a message would become a dead letter: with the
    /// actor's end, or as the oldest in a full mailbox that gives up its oldest. It must not block; its panic is not the
    /// actor's.
    pub fn call_in_order(&self, call: Box<dyn FnOnce() + Send>) -> bool {
        self.0.call_in_order(call)
    }

    /// Whether the actor lives in this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.is_local()
    }

    /// Whether a local actor has terminated; `false` for others.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }

    /// Messages that wait in a local actor's mailbox; zero for others.
    #[must_use]
    pub fn mailbox_len(&self) -> usize {
        self.0.mailbox_len()
    }

    /// The name of the type of message the actor takes, as the compiler prints it.
    #[must_use]
    pub fn message_type(&self) -> &'static str {
        self.0.message_type()
    }

    /// The identity in this process of the type of message the actor takes.
    #[must_use]
    pub fn message_type_id(&self) -> TypeId {
        self.0.message_type_id()
    }

    /// The reference with its message type, if that is `M`.
    #[must_use]
    pub fn downcast<M: Send + 'static>(&self) -> Option<ActorRef<M>> {
        self.0.clone().into_any().downcast::<Cell<M>>().ok().map(ActorRef)
    }

    /// Tells a watcher that an actor elsewhere has terminated. For implementations of [`Route`](crate::remote::Route).
    pub fn notify_terminated(&self, path: &ActorPath, reason: TerminationReason) {
        self.0.terminated_notice(Who::Path(path.clone()), reason);
    }

    pub(crate) fn system(&self, message: SystemMsg) {
        let _ = self.0.system_message(message);
    }

    pub(crate) fn any_system(&self) -> Option<&ActorSystem> {
        self.0.owner()
    }

    pub(crate) fn name_is(&self, name: &str) -> bool {
        self.0.name_is(name)
    }

    pub(crate) fn nest(&self) -> Option<Arc<Nest>> {
        self.0.nest()
    }

    /// The place for this actor's children, made at the first call. `None` when it has terminated.
    pub(crate) fn ensure_nest(&self, strategy: Option<Arc<SupervisorStrategy>>) -> Option<Arc<Nest>> {
        if let Some(nest) = self.nest() {
            return Some(nest);
        }
        let system = self.any_system()?.clone();
        let strategy = strategy.unwrap_or_else(|| system.default_strategy().clone());
        let path = Arc::from(self.path().elements());
        self.0.insert_nest(Nest::new(system, Some(self.clone()), path, strategy))
    }

    /// Watches this actor for `watcher`; a terminated one answers at once.
    pub(crate) fn watch_for(&self, watcher: &AnyRef) {
        if self.0.system_message(SystemMsg::Watch(watcher.clone())).is_err() {
            let reason = if self.uid().is_any() {
                TerminationReason::NeverExisted
            } else {
                TerminationReason::Stopped
            };
            watcher.0.terminated_notice(Who::Ref(self.clone()), reason);
        }
    }

    /// The actor an adapter stands for, whoever lives at a name now, or the actor itself.
    pub(crate) fn behind(&self) -> Self {
        match self.0.target() {
            Some(target) => target.behind(),
            None => self.0.current().unwrap_or_else(|| self.clone()),
        }
    }
}

impl PartialEq for AnyRef {
    fn eq(&self, other: &Self) -> bool {
        same(&*self.0, &*other.0)
    }
}

impl Eq for AnyRef {}

impl Hash for AnyRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
    }
}

impl fmt::Debug for AnyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path())
    }
}

impl fmt::Display for AnyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path())
    }
}
