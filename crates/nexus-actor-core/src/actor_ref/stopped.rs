//! Waiting for an actor to be gone.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{ActorRef, AnyRef};
use crate::actor::{Actor, ActorError};
use crate::ask::{Ask, Reply};
use crate::context;
use crate::lock::Lock;
use crate::nest::Nest;
use crate::path::ActorUid;
use crate::props::Props;
use crate::signal::Signal;

/// The future of [`ActorRef::stopped`].
#[must_use = "it waits only where it is awaited"]
pub struct Stopped(Wait);

enum Wait {
    /// For an actor of this process to leave its siblings. A watch will not do: one that begins while the actor ends is
    /// answered at once.
    Here {
        siblings: Arc<Nest>,
        uid: ActorUid,
        place: Option<u64>,
    },
    /// For what is heard of another node.
    Elsewhere {
        heard: Ask<()>,
        ear: ActorRef<()>,
    },
    Over,
}

impl Stopped {
    /// For an actor that is no adapter and no name behind which somebody lives.
    pub(super) fn new(who: &AnyRef) -> Self {
        if let Some(siblings) = who.0.siblings() {
            return Self(Wait::Here { siblings, uid: who.uid(), place: None });
        }
        if who.is_local() {
            return Self(Wait::Over);
        }
        let Some(system) = who.any_system() else { return Self(Wait::Over) };
        // Not `watched_by` the system: there is no deadline.
        let (heard, reply) = Ask::new();
        let (who, reply) = (who.clone(), Lock::new(Some(reply)));
        let ear = system
            .spawn_temporary(Props::from_fn(move || Ear { who: who.clone(), reply: reply.lock().take() }));
        Self(ear.map_or(Wait::Over, |ear| Wait::Elsewhere { heard, ear }))
    }
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gone = match &mut self.0 {
            Wait::Here { siblings, uid, place } => siblings.poll_left(*uid, place, cx),
            // Also when its ear goes without a word, with the system.
            Wait::Elsewhere { heard, .. } => Pin::new(heard).poll(cx).map(drop),
            Wait::Over => Poll::Ready(()),
        };
        if gone.is_ready() {
            self.0 = Wait::Over;
        }
        gone
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        match self {
            Self::Here { siblings, uid, place: Some(place) } => siblings.forget_left(*uid, *place),
            Self::Elsewhere { ear, .. } => ear.stop(),
            Self::Here { place: None, .. } | Self::Over => {}
        }
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopped")
    }
}

/// Hears of the end of an actor of another node.
struct Ear {
    who: AnyRef,
    reply: Option<Reply<()>>,
}

impl Actor for Ear {
    type Msg = ();

    async fn receive(&mut self, (): (), _: &mut context::Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }

    async fn signal(
        &mut self,
        signal: Signal,
        cx: &mut context::Context<'_, Self>,
    ) -> Result<(), ActorError> {
        match signal {
            Signal::Started => cx.watch_any(&self.who),
            Signal::Terminated { .. } => {
                if let Some(reply) = self.reply.take() {
                    reply.send(());
                }
                cx.stop();
            }
            Signal::Restarting | Signal::Stopping | Signal::ChildFailed { .. } | Signal::ReceiveTimeout => {}
        }
        Ok(())
    }
}
