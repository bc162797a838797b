//! A runtime whose tasks can be frozen or ended all at once, as a process can.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::runtime::{BoxFuture, PumpRuntime, Runtime};
use nexus_actor_core::time::Instant;

/// The tasks of one node on a shared [`PumpRuntime`].
///
/// [`kill`](Self::kill) drops them wherever they wait: sockets close without a goodbye, as after `kill -9`.
/// [`freeze`](Self::freeze) stops them with their sockets open, as `SIGSTOP` does.
#[derive(Clone)]
pub struct MortalRuntime {
    pump: PumpRuntime,
    life: Arc<Lock<Life>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Runs,
    Frozen,
    Dead,
}

struct Life {
    fate: Fate,
    next: u64,
    wakers: BTreeMap<u64, Option<Waker>>,
}

impl MortalRuntime {
    /// A runtime on `pump` whose tasks run.
    #[must_use]
    pub fn new(pump: &PumpRuntime) -> Self {
        let life = Life { fate: Fate::Runs, next: 0, wakers: BTreeMap::new() };
        Self { pump: pump.clone(), life: Arc::new(Lock::new(life)) }
    }

    /// Ends every task when the pump runs next, and lets no new one begin.
    pub fn kill(&self) {
        self.set(Fate::Dead);
    }

    /// Stops every task where it is, until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.set(Fate::Frozen);
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.set(Fate::Runs);
    }

    /// How many tasks there are.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.life.lock().wakers.len()
    }

    fn set(&self, fate: Fate) {
        let wakers: Vec<Waker> = {
            let mut life = self.life.lock();
            if life.fate == Fate::Dead {
                return;
            }
            life.fate = fate;
            life.wakers.values_mut().filter_map(Option::take).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Runtime for MortalRuntime {
    fn spawn(&self, future: BoxFuture) {
        let id = {
            let mut life = self.life.lock();
            if life.fate == Fate::Dead {
                None
            } else {
                life.next += 1;
                let id = life.next;
                life.wakers.insert(id, None);
                Some(id)
            }
        };
        if let Some(id) = id {
            self.pump.spawn(Box::pin(Mortal { future: Some(future), id, life: self.life.clone() }));
        }
    }

    fn now(&self) -> Instant {
        self.pump.now()
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture {
        self.pump.sleep_until(at)
    }
}

impl fmt::Debug for MortalRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MortalRuntime").field("fate", &self.life.lock().fate).finish_non_exhaustive()
    }
}

struct Mortal {
    future: Option<BoxFuture>,
    id: u64,
    life: Arc<Lock<Life>>,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ours = cx.waker().clone();
        let (fate, old) = {
            let mut life = self.life.lock();
            let fate = life.fate;
            let old = life.wakers.get_mut(&self.id).map(|waker| waker.replace(ours));
            (fate, old)
        };
        drop(old);
        match fate {
            Fate::Frozen => Poll::Pending,
            Fate::Dead => {
                self.future = None;
                Poll::Ready(())
            }
            Fate::Runs => match &mut self.future {
                Some(future) => future.as_mut().poll(cx),
                None => Poll::Ready(()),
            },
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let old = self.life.lock().wakers.remove(&self.id);
        drop(old);
    }
}
