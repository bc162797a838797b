//! How many dials this node has under way, and whose turn it is (limit L25).
//!
//! A peer that calls says where it is dialled, and without a certificate it may say anything: so many addresses that never answer
//! would take all descriptors of this process. Those that peers brought up share half of the places, and those of one host a
//! quarter, so that neither keeps out whom an actor here reaches for. Others wait, and what is to be sent waits with them; while they
//! do, a dial that a peer brought up has two seconds to be answered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nexus_actor_core::lock::Lock;
use portable_atomic::{AtomicBool, Ordering, fence};
use tokio::sync::{Notify, oneshot};

/// How long a dial that a peer brought up keeps a place that others wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hands out the places, to those first that are wanted here, then by turns to the hosts of peers.
pub(crate) struct Dials {
    state: Lock<State>,
    max: usize,
    /// Somebody waits, perhaps.
    has_waiting: AtomicBool,
    /// One more waits.
    more: Notify,
}

#[derive(Default)]
struct State {
    under_way: usize,
    /// Of them, those that peers brought up, by the host of the peer.
    of_peers: usize,
    by_host: HashMap<IpAddr, usize>,
    /// Oldest first.
    waiting: Vec<Waiting>,
}

struct Waiting {
    address: Arc<str>,
    host: Option<IpAddr>,
    granted: oneshot::Sender<Place>,
}

/// A place for one dial, given back when dropped. Not to be dropped under a lock.
pub(crate) struct Place {
    dials: Arc<Dials>,
    host: Option<IpAddr>,
}

impl Place {
    /// Ready when it has been kept long enough, if a peer brought it up and others wait for it.
    pub(crate) async fn is_overdue(&self) {
        let Some(host) = self.host else { return std::future::pending().await };
        tokio::time::sleep(PATIENCE).await;
        loop {
            let more = self.dials.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if self.dials.state.lock().is_wanted(host, self.dials.max) {
                return;
            }
            more.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.dials.change(|state| state.leave(self.host));
    }
}

impl State {
    fn has_room(&self, host: Option<IpAddr>, max: usize) -> bool {
        self.under_way < max
            && host.is_none_or(|host| {
                self.of_peers < (max / 2).max(1)
                    && self.by_host.get(&host).copied().unwrap_or_default() < (max / 4).max(1)
            })
    }

    fn enter(&mut self, host: Option<IpAddr>) {
        self.under_way += 1;
        if let Some(host) = host {
            self.of_peers += 1;
            *self.by_host.entry(host).or_default() += 1;
        }
    }

    fn leave(&mut self, host: Option<IpAddr>) {
        self.under_way -= 1;
        let Some(host) = host else { return };
        self.of_peers -= 1;
        if let Some(count) = self.by_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.by_host.remove(&host);
            }
        }
    }

    /// Whether another would have the place of a dial that counts for `host`.
    fn is_wanted(&mut self, host: IpAddr, max: usize) -> bool {
        self.leave(Some(host));
        let is_wanted = self.waiting.iter().any(|waiting| self.has_room(waiting.host, max));
        self.enter(Some(host));
        is_wanted
    }

    /// Forgets who has given up.
    fn forget_gone(&mut self) {
        self.waiting.retain(|waiting| !waiting.granted.is_closed());
    }

    /// The next that may have a place, which it has from here on: who is wanted here, else the host with the fewest under way,
    /// or few hosts with many addresses would keep out all others. Of equals the oldest.
    fn next(&mut self, max: usize) -> Option<Waiting> {
        let under_way = |host| 1 + self.by_host.get(&host).copied().unwrap_or_default();
        let may_go = self.waiting.iter().enumerate().filter(|(_, waiting)| self.has_room(waiting.host, max));
        let (at, _) = may_go.min_by_key(|(_, waiting)| waiting.host.map_or(0, under_way))?;
        let next = self.waiting.remove(at);
        self.enter(next.host);
        Some(next)
    }
}

impl Dials {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Lock::default(),
            max,
            has_waiting: AtomicBool::new(false),
            more: Notify::new(),
        })
    }

    /// Waits for a place for a dial to `address`; `brought_up_by` says on which host the peer is that brought it up, none where
    /// somebody here wants it. It is asked under the lock: who comes to want it afterwards finds it among those that wait.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place, or the wait for it.
    pub(crate) async fn place(
        self: &Arc<Self>,
        address: &Arc<str>,
        brought_up_by: impl FnOnce() -> Option<IpAddr>,
    ) -> Option<Place> {
        let granted = {
            let mut state = self.state.lock();
            // Before the question: either it sees who wants it by now, or that one sees that somebody waits.
            self.has_waiting.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let host = brought_up_by();
            if state.has_room(host, self.max) {
                state.enter(host);
                self.has_waiting.store(!state.waiting.is_empty(), Ordering::SeqCst);
                return Some(Place { dials: self.clone(), host });
            }
            state.forget_gone();
            let (sender, granted) = oneshot::channel();
            state.waiting.push(Waiting { address: address.clone(), host, granted: sender });
            granted
        };
        self.more.notify_waiters();
        // Who waits is kept until it is granted.
        granted.await.ok()
    }

    /// Somebody here has come to want `address`: it does not wait among those that a peer brought up any more. What says so to
    /// who asks is set before.
    pub(crate) fn reached_for(self: &Arc<Self>, address: &Arc<str>) {
        fence(Ordering::SeqCst);
        if !self.has_waiting.load(Ordering::SeqCst) {
            return;
        }
        self.change(|state| {
            for waiting in &mut state.waiting {
                if *waiting.address == **address {
                    waiting.host = None;
                }
            }
        });
    }

    /// Changes the state and gives away what is free then, under one lock: nobody who comes passes those that wait.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut granted = Vec::new();
        {
            let mut state = self.state.lock();
            change(&mut state);
            state.forget_gone();
            while let Some(next) = state.next(self.max) {
                granted.push(next);
            }
            self.has_waiting.store(!state.waiting.is_empty(), Ordering::SeqCst);
        }
        for Waiting { host, granted, .. } in granted {
            // Whoever gave up in this moment gives it back.
            drop(granted.send(Place { dials: self.clone(), host }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::Ipv4Addr;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn host(number: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(192, 0, 2, number).into())
    }

    fn poll<F: Future<Output = Option<Place>>>(wait: Pin<&mut F>) -> Option<Place> {
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place.expect("the dials live")),
            Poll::Pending => None,
        }
    }

    /// Covers: L25
    #[test]
    fn places_are_shared_and_come_back() {
        let dials = Dials::new(16);
        let at: Arc<str> = Arc::from("a:1");
        let place = |host| {
            let mut wait = Box::pin(dials.place(&at, move || host));
            let now = poll(wait.as_mut());
            (wait, now)
        };
        // Four of one host, eight of all that peers brought up, sixteen with those of here.
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        for number in 0..18 {
            match place(host(number / 6)) {
                (_, Some(place)) => taken.push(place),
                (wait, None) => waiting.push(wait),
            }
        }
        assert_eq!((taken.len(), waiting.len()), (8, 10));
        let mut here: Vec<_> = (0..8).filter_map(|_| place(None).1).collect();
        assert_eq!(here.len(), 8);
        let (mut late, none) = place(None);
        assert!(none.is_none(), "one more than may be");
        // A place that comes back is of who is wanted here, then of the host that has none, and of whoever asked first there.
        drop(taken.remove(0));
        assert!(poll(waiting[4].as_mut()).is_none() && poll(late.as_mut()).is_some());
        let first = poll(waiting[4].as_mut());
        assert!(first.is_some() && poll(waiting[0].as_mut()).is_none());
        drop(here.pop());
        assert!(poll(waiting[5].as_mut()).is_none(), "those of peers have no more");
        drop(first);
        // Given back at once, it goes on to the next.
        assert!(poll(waiting[5].as_mut()).is_some());
        assert!(poll(waiting[6].as_mut()).is_some());
        // Whoever gives up is passed over, and nothing is lost.
        drop((waiting, late, taken, here));
        let all: Vec<_> = (0..16).filter_map(|_| place(None).1).collect();
        assert_eq!(all.len(), 16);
        drop(all);
        assert_eq!(dials.state.lock().under_way, 0);
        assert!(dials.state.lock().by_host.is_empty());
    }

    /// Whom an actor here comes to reach for does not wait behind what peers brought up.
    #[test]
    fn who_is_reached_for_waits_for_nobody_elses_dials() {
        let dials = Dials::new(16);
        let (busy, wanted): (Arc<str>, Arc<str>) = (Arc::from("a:1"), Arc::from("b:1"));
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut wait = pin!(dials.place(&busy, || host(1)));
            held.extend(poll(wait.as_mut()));
        }
        assert_eq!(held.len(), 4);
        let mut wait = pin!(dials.place(&wanted, || host(1)));
        assert!(poll(wait.as_mut()).is_none());
        dials.reached_for(&busy);
        assert!(poll(wait.as_mut()).is_none());
        dials.reached_for(&wanted);
        assert!(poll(wait.as_mut()).is_some());
    }

    /// A dial that a peer brought up and that is not answered makes room, if somebody waits whom that helps.
    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_for_a_while_when_others_wait() {
        let dials = Dials::new(16);
        let at: Arc<str> = Arc::from("a:1");
        let mut held = Vec::new();
        for number in [1, 1, 1, 1, 2] {
            held.extend(dials.place(&at, || host(number)).await);
        }
        let began = tokio::time::Instant::now();
        let first = held.remove(0);
        assert!(tokio::time::timeout(10 * PATIENCE, first.is_overdue()).await.is_err(), "nobody waits");
        let mut wait = pin!(dials.place(&at, || host(1)));
        assert!(poll(wait.as_mut()).is_none());
        first.is_overdue().await;
        assert_eq!(began.elapsed(), 11 * PATIENCE);
        let other = held.pop().expect("of another host");
        assert!(tokio::time::timeout(10 * PATIENCE, other.is_overdue()).await.is_err(), "it helps nobody");
        drop(first);
        assert!(poll(wait.as_mut()).is_some());
    }

    /// Few hosts with many addresses that do not answer do not keep out another one, however long they have waited.
    #[test]
    fn the_host_with_the_fewest_has_the_next_place() {
        let dials = Dials::new(16);
        let at: Arc<str> = Arc::from("a:1");
        let (mut held, mut waiting) = (Vec::new(), Vec::new());
        for number in 0..40 {
            let mut wait = Box::pin(dials.place(&at, move || host(number % 2)));
            match poll(wait.as_mut()) {
                Some(place) => held.push(place),
                None => waiting.push(wait),
            }
        }
        assert_eq!(held.len(), 8);
        let mut honest = pin!(dials.place(&at, || host(9)));
        assert!(poll(honest.as_mut()).is_none());
        drop(held.pop());
        assert!(poll(honest.as_mut()).is_some(), "before the many that asked earlier");
        // Given back, it goes to the oldest of the host that has fewer than the other.
        assert!(poll(waiting[1].as_mut()).is_some() && poll(waiting[0].as_mut()).is_none());
    }

    /// Who comes to be wanted here while it is asked for whom it is dialled does not miss that.
    #[test]
    fn who_is_wanted_as_it_comes_to_wait_is_seen() {
        let dials = Dials::new(4);
        let (busy, wanted): (Arc<str>, Arc<str>) = (Arc::from("a:1"), Arc::from("b:1"));
        let held = poll(pin!(dials.place(&busy, || host(1)))).expect("room");
        let asked = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let (dials, asked_there) = (&dials, &asked);
            let wanted_there = wanted.clone();
            let reached = scope.spawn(move || {
                asked_there.wait();
                dials.reached_for(&wanted_there);
            });
            let mut wait = pin!(dials.place(&wanted, || {
                asked.wait();
                host(1)
            }));
            let place = poll(wait.as_mut());
            reached.join().expect("it ends");
            assert!(place.is_some() || poll(wait.as_mut()).is_some());
        });
        drop(held);
    }

    /// Who gave up does not stay until a place is given back.
    #[test]
    fn who_gave_up_is_forgotten_when_one_comes() {
        let dials = Dials::new(1);
        let at: Arc<str> = Arc::from("a:1");
        let held = poll(pin!(dials.place(&at, || None))).expect("room");
        for _ in 0..100 {
            let mut wait = Box::pin(dials.place(&at, || None));
            assert!(poll(wait.as_mut()).is_none());
        }
        assert_eq!(dials.state.lock().waiting.len(), 1);
        drop(held);
        assert_eq!(dials.state.lock().under_way, 0);
    }
}
