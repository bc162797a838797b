//! How to make an actor, and with what mailbox and supervision.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::actor::{Actor, ActorError};
use crate::context::Context;
use crate::mailbox::MailboxConfig;
use crate::supervision::SupervisorStrategy;

pub(crate) type Factory<A> =
    Box<dyn for<'a, 'b> Fn(&'a mut Context<'b, A>) -> Result<A, ActorError> + Send + Sync>;

/// A recipe for an actor. The factory runs at the start and again at every restart.
#[must_use]
pub struct Props<A: Actor> {
    pub(crate) factory: Factory<A>,
    pub(crate) mailbox: MailboxConfig,
    pub(crate) rare: Option<Box<Rare>>,
}

/// What few actors configure.
#[derive(Clone, Default)]
pub(crate) struct Rare {
    pub(crate) supervision: Option<Arc<SupervisorStrategy>>,
    pub(crate) stash_capacity: Option<usize>,
    pub(crate) stop_deadline: Option<Duration>,
}

impl<A: Actor> Props<A> {
    /// Actors made by `make`, for instance `Props::from_fn(Tally::default)`.
    pub fn from_fn(make: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self::from(move |_: &mut Context<'_, A>| Ok(make()))
    }

    /// Actors made by `make`, which sees the context and may fail. A failing factory is a failure of the
    /// actor: its supervisor's strategy decides about another try.
    #[allow(clippy::should_implement_trait)]
    pub fn from(
        make: impl for<'a, 'b> Fn(&'a mut Context<'b, A>) -> Result<A, ActorError> + Send + Sync + 'static,
    ) -> Self {
        Self { factory: Box::new(make), mailbox: MailboxConfig::Unbounded, rare: None }
    }

    /// The mailbox; unbounded unless given.
    pub fn with_mailbox(mut self, mailbox: MailboxConfig) -> Self {
        self.mailbox = mailbox;
        self
    }

    /// How this actor's children are supervised; the system's default unless given.
    pub fn with_supervision(mut self, strategy: SupervisorStrategy) -> Self {
        self.rare().supervision = Some(Arc::new(strategy));
        self
    }

    /// How many messages this actor may stash; 1,000 unless given.
    pub fn with_stash_capacity(mut self, capacity: usize) -> Self {
        self.rare().stash_capacity = Some(capacity);
        self
    }

    /// How long a stop waits for a suspended handler before it drops the handler's future; the system's
    /// default unless given.
    pub fn with_stop_deadline(mut self, deadline: Duration) -> Self {
        self.rare().stop_deadline = Some(deadline);
        self
    }

    /// The same recipe for any number of actors.
    pub fn shared(self) -> SharedProps<A> {
        SharedProps(Arc::new(self))
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// A recipe that can be handed out again and again; see [`Props::shared`].
#[must_use]
pub struct SharedProps<A: Actor>(Arc<Props<A>>);

impl<A: Actor> SharedProps<A> {
    /// The recipe, for one more actor.
    pub fn props(&self) -> Props<A> {
        let shared = self.0.clone();
        Props {
            factory: Box::new(move |cx| (shared.factory)(cx)),
            mailbox: self.0.mailbox,
            rare: self.0.rare.clone(),
        }
    }
}

impl<A: Actor> Clone for SharedProps<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for SharedProps<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<A: Actor> fmt::Debug for Props<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Props").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}
