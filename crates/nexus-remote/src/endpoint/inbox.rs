//! What associations have to tell their node, until it is worked off.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use nexus_actor_core::lock::Lock;

use super::node::Node;
use super::peer::Peer;
use crate::association::AssociationEvent;

/// One thing that an association told and that is not worked off. An association hands out so many of them and no
/// more before some are dropped; the rest waits in it, and what makes more of it is not read. So a peer causes no more
/// to wait here than that, whatever it sends.
pub(crate) struct Posted(Arc<Peer>);

impl Posted {
    pub(super) fn new(peer: Arc<Peer>) -> Self {
        peer.backlog.posted();
        Self(peer)
    }

    pub(super) const fn peer(&self) -> &Arc<Peer> {
        &self.0
    }

    /// For what is passed on and worked off elsewhere.
    pub(super) fn again(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if self.0.backlog.worked_off() {
            // There is room for more of what it has to tell.
            self.0.apply(|_, _| ());
        }
    }
}

type Event = (Posted, AssociationEvent);

/// The queue of all associations, in order for each. One at a time works it off.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Lock<State>,
    /// Those who wait until nothing is being worked off.
    waiting: Lock<Vec<Waker>>,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Somebody has been told and has not begun.
    told: bool,
    /// Somebody is at work.
    taken: bool,
}

impl Inbox {
    /// Keeps what an association has to tell. Called under that association's lock, so that the order of one is the
    /// order of the calls.
    pub(super) fn post(&self, posted: Posted, event: AssociationEvent) {
        self.state.lock().events.push_back((posted, event));
    }

    /// Whether somebody is to be told that there is something. Once, until that one has begun.
    pub(super) fn tell(&self) -> bool {
        let mut state = self.state.lock();
        let news = !state.events.is_empty() && !state.taken;
        news && !core::mem::replace(&mut state.told, true)
    }

    /// Whoever was told is gone.
    pub(super) fn untold(&self) {
        self.state.lock().told = false;
    }

    /// The next `max` things to work off; none while another has some.
    pub(super) fn take(node: &Arc<Node>, max: usize) -> Option<Batch> {
        let mut state = node.inbox.state.lock();
        state.told = false;
        if state.taken || state.events.is_empty() {
            return None;
        }
        state.taken = true;
        let rest = if state.events.len() > max { state.events.split_off(max) } else { VecDeque::new() };
        let events = core::mem::replace(&mut state.events, rest);
        drop(state);
        Some(Batch { node: node.clone(), events })
    }

    /// Whether nothing waits and nobody is at work.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state.lock();
        !state.taken && state.events.is_empty()
    }

    /// Waits until nobody is at work.
    pub(super) async fn at_rest(&self) {
        poll_fn(|cx| {
            {
                let mut waiting = self.waiting.lock();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
            }
            if self.state.lock().taken { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

/// Things to work off. What is left when this is dropped, as by a panic, is put back, and somebody is told of it.
pub(super) struct Batch {
    node: Arc<Node>,
    events: VecDeque<Event>,
}

impl Iterator for Batch {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let inbox = &self.node.inbox;
        {
            let mut state = inbox.state.lock();
            state.taken = false;
            self.events.append(&mut state.events);
            core::mem::swap(&mut state.events, &mut self.events);
        }
        let waiting = core::mem::take(&mut *inbox.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
        self.node.notify();
    }
}

#[cfg(test)]
impl Inbox {
    /// How many things wait of all associations.
    pub(super) fn len(&self) -> usize {
        self.state.lock().events.len()
    }
}
