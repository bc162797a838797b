//! An actor that remembers, for a test that looks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::{Future, poll_fn};
use core::task::{Poll, Waker};
use core::time::Duration;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPath, Address};
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, AnyRef, Context, Headers, Props, Signal, SpawnError,
    TerminationReason,
};

/// What a [`TestProbe`] saw.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeEvent<M> {
    /// A message came.
    Message {
        /// The message.
        message: M,
        /// The headers it came with.
        headers: Option<Headers>,
        /// The node it came from; `None` for this one.
        peer: Option<Address>,
    },
    /// An actor it watches has terminated.
    Terminated {
        /// Which.
        who: ActorPath,
        /// Why.
        reason: TerminationReason,
    },
}

/// Nothing came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTimeout {
    /// How long it was waited, on the clock of the probe's system.
    pub after: Duration,
}

impl fmt::Display for ProbeTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the probe saw nothing for {:?}", self.after)
    }
}

impl core::error::Error for ProbeTimeout {}

/// An actor for messages of type `M` that keeps what it sees until the test asks for it.
///
/// Time is that of the probe's system: virtual on a pump, real on tokio. Waiting is for an event, never for a
/// while. A handle; clones share what was seen.
///
/// ```
/// use std::time::Duration;
/// use nexus_actor_core::{ActorSystem, runtime::PumpRuntime};
/// use nexus_testkit::TestProbe;
///
/// let pump = PumpRuntime::new();
/// let system = ActorSystem::builder("shop").with_runtime(pump.clone()).build()?;
/// let probe = TestProbe::<u64>::spawn(&system, "probe")?;
/// probe.actor().tell(7);
/// let second = Duration::from_secs(1);
/// assert_eq!(pump.block_on(second, probe.message(second)), Some(Ok(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TestProbe<M: Send + 'static> {
    actor: ActorRef<M>,
    watcher: ActorRef<Watching>,
    system: ActorSystem,
    seen: Arc<Seen<M>>,
}

impl<M: Send + 'static> Clone for TestProbe<M> {
    fn clone(&self) -> Self {
        Self {
            actor: self.actor.clone(),
            watcher: self.watcher.clone(),
            system: self.system.clone(),
            seen: self.seen.clone(),
        }
    }
}

struct Seen<M>(Lock<(VecDeque<ProbeEvent<M>>, Vec<Waker>)>);

impl<M> Seen<M> {
    fn push(&self, event: ProbeEvent<M>) {
        let wakers = {
            let mut seen = self.0.lock();
            seen.0.push_back(event);
            core::mem::take(&mut seen.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<M: Send + 'static> TestProbe<M> {
    /// A probe at `/user/name`.
    ///
    /// # Errors
    /// As [`ActorSystem::spawn`].
    pub fn spawn(system: &ActorSystem, name: &str) -> Result<Self, SpawnError> {
        Self::spawn_watching(system, name, [])
    }

    /// A probe that watches `targets` from its start, with the same mailbox that its messages come to: what it
    /// sees of messages and terminations is in the order in which an actor would see it.
    ///
    /// # Errors
    /// As [`ActorSystem::spawn`].
    pub fn spawn_watching(
        system: &ActorSystem,
        name: &str,
        targets: impl IntoIterator<Item = AnyRef>,
    ) -> Result<Self, SpawnError> {
        let seen = Arc::new(Seen(Lock::new((VecDeque::new(), Vec::new()))));
        let targets: Vec<_> = targets.into_iter().collect();
        let shared = seen.clone();
        let actor = system.spawn(
            name,
            Props::from_fn(move || Receiver { seen: shared.clone(), targets: targets.clone() }),
        )?;
        let shared = seen.clone();
        let watcher = system.spawn_anonymous(Props::from_fn(move || Watcher { seen: shared.clone() }))?;
        Ok(Self { actor, watcher, system: system.clone(), seen })
    }

    /// The reference to send to.
    #[must_use]
    pub const fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    /// Watches `who`. The notice has no order relative to the probe's messages; for that see
    /// [`spawn_watching`](Self::spawn_watching).
    pub fn watch<N: Send + 'static>(&self, who: &ActorRef<N>) {
        self.watcher.tell(Watching::Begin(who.to_any()));
    }

    /// Ends a [`watch`](Self::watch).
    pub fn unwatch<N: Send + 'static>(&self, who: &ActorRef<N>) {
        self.watcher.tell(Watching::End(who.to_any()));
    }

    /// Stops the probe and its watches; what it saw stays.
    pub fn stop(&self) {
        self.actor.stop();
        self.watcher.stop();
    }

    /// How many events wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.0.lock().0.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest event, if there is one.
    #[must_use]
    pub fn try_next(&self) -> Option<ProbeEvent<M>> {
        self.seen.0.lock().0.pop_front()
    }

    /// Takes all events.
    #[must_use]
    pub fn take(&self) -> Vec<ProbeEvent<M>> {
        core::mem::take(&mut self.seen.0.lock().0).into()
    }

    /// Takes the messages seen so far, and leaves the terminations.
    #[must_use]
    pub fn take_messages(&self) -> Vec<M> {
        let mut messages = Vec::new();
        let mut seen = self.seen.0.lock();
        for event in core::mem::take(&mut seen.0) {
            match event {
                ProbeEvent::Message { message, .. } => messages.push(message),
                other @ ProbeEvent::Terminated { .. } => seen.0.push_back(other),
            }
        }
        messages
    }

    /// Takes the terminations seen so far, and leaves the messages.
    #[must_use]
    pub fn take_terminations(&self) -> Vec<(ActorPath, TerminationReason)> {
        let mut terminations = Vec::new();
        let mut seen = self.seen.0.lock();
        for event in core::mem::take(&mut seen.0) {
            match event {
                ProbeEvent::Terminated { who, reason } => terminations.push((who, reason)),
                other @ ProbeEvent::Message { .. } => seen.0.push_back(other),
            }
        }
        terminations
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`ProbeTimeout`] when none comes within `within`.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub fn next(
        &self,
        within: Duration,
    ) -> impl Future<Output = Result<ProbeEvent<M>, ProbeTimeout>> + Send + 'static {
        self.next_of(within, |_| true)
    }

    /// Waits for the next message; terminations before it stay.
    ///
    /// # Errors
    /// [`ProbeTimeout`] when none comes within `within`.
    pub fn message(
        &self,
        within: Duration,
    ) -> impl Future<Output = Result<M, ProbeTimeout>> + Send + 'static {
        let next = self.next_of(within, |event| matches!(event, ProbeEvent::Message { .. }));
        async move {
            match next.await? {
                ProbeEvent::Message { message, .. } => Ok(message),
                ProbeEvent::Terminated { .. } => Err(ProbeTimeout { after: within }),
            }
        }
    }

    /// Waits for the next termination; messages before it stay.
    ///
    /// # Errors
    /// [`ProbeTimeout`] when none comes within `within`.
    pub fn terminated(
        &self,
        within: Duration,
    ) -> impl Future<Output = Result<(ActorPath, TerminationReason), ProbeTimeout>> + Send + 'static {
        let next = self.next_of(within, |event| matches!(event, ProbeEvent::Terminated { .. }));
        async move {
            match next.await? {
                ProbeEvent::Terminated { who, reason } => Ok((who, reason)),
                ProbeEvent::Message { .. } => Err(ProbeTimeout { after: within }),
            }
        }
    }

    fn next_of(
        &self,
        within: Duration,
        wanted: fn(&ProbeEvent<M>) -> bool,
    ) -> impl Future<Output = Result<ProbeEvent<M>, ProbeTimeout>> + Send + 'static {
        let mut sleep = self.system.runtime().sleep_until(self.system.now() + within);
        let seen = self.seen.clone();
        poll_fn(move |cx| {
            {
                let mut seen = seen.0.lock();
                if let Some(at) = seen.0.iter().position(wanted)
                    && let Some(event) = seen.0.remove(at)
                {
                    return Poll::Ready(Ok(event));
                }
                if !seen.1.iter().any(|waker| waker.will_wake(cx.waker())) {
                    seen.1.push(cx.waker().clone());
                }
            }
            sleep.as_mut().poll(cx).map(|()| Err(ProbeTimeout { after: within }))
        })
    }
}

impl<M: Send + 'static> fmt::Debug for TestProbe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestProbe").field("path", &self.actor.path()).field("waiting", &self.len()).finish()
    }
}

struct Receiver<M> {
    seen: Arc<Seen<M>>,
    targets: Vec<AnyRef>,
}

impl<M: Send + 'static> Actor for Receiver<M> {
    type Msg = M;

    async fn receive(&mut self, message: M, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let (headers, peer) = (cx.headers().cloned(), cx.peer().cloned());
        self.seen.push(ProbeEvent::Message { message, headers, peer });
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Started => {
                for target in &self.targets {
                    cx.watch_any(target);
                }
            }
            Signal::Terminated { who, reason } => {
                self.seen.push(ProbeEvent::Terminated { who: who.path(), reason });
            }
            _ => {}
        }
        Ok(())
    }
}

enum Watching {
    Begin(AnyRef),
    End(AnyRef),
}

struct Watcher<M> {
    seen: Arc<Seen<M>>,
}

impl<M: Send + 'static> Actor for Watcher<M> {
    type Msg = Watching;

    async fn receive(&mut self, message: Watching, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Watching::Begin(who) => cx.watch_any(&who),
            Watching::End(who) => cx.unwatch_any(&who),
        }
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal {
            self.seen.push(ProbeEvent::Terminated { who: who.path(), reason });
        }
        Ok(())
    }
}
