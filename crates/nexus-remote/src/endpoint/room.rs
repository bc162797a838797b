//! Senders that wait for room in a lane.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::task::Waker;

use hashbrown::HashMap;
use nexus_actor_core::runtime::contained;

/// Whom a waker wakes: two with the same are alike to [`Waker::will_wake`].
type Sleeper = (usize, usize);

fn sleeper(waker: &Waker) -> Sleeper {
    (waker.data().addr(), core::ptr::from_ref(waker.vtable()).addr())
}

/// The wakers of those who wait, each once, in the order in which they came. Many may wait: none is looked for among
/// the others.
#[derive(Default)]
pub(super) struct Room {
    waiting: BTreeMap<u64, Waker>,
    places: HashMap<Sleeper, u64>,
    came: u64,
}

impl Room {
    /// Keeps `waker`, if it does not wait already.
    pub(super) fn enter(&mut self, waker: &Waker) {
        self.places.entry(sleeper(waker)).or_insert_with(|| {
            self.came += 1;
            self.waiting.insert(self.came, waker.clone());
            self.came
        });
    }

    /// Takes `waker` out; none if it did not wait.
    pub(super) fn leave(&mut self, waker: &Waker) -> Option<Waker> {
        let place = self.places.remove(&sleeper(waker))?;
        self.waiting.remove(&place)
    }

    /// Everybody, the first first.
    pub(super) fn take(&mut self) -> Self {
        core::mem::take(self)
    }

    /// Not under a lock.
    pub(super) fn wake(self) {
        wake_all(self.waiting.into_values().collect());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// Wakes each, whatever comes of waking another: who waits may run on an executor of the application's making.
pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        contained(|| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use nexus_actor_core::lock::Lock;

    /// Notes its number when it is woken, and panics if that is 0.
    struct Sender(usize, Arc<Lock<Vec<usize>>>);

    impl Wake for Sender {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
            assert!(self.0 > 0, "on purpose");
        }
    }

    #[test]
    fn everybody_is_woken_once_in_the_order_of_coming() {
        let woken = Arc::<Lock<Vec<usize>>>::default();
        let wakers: Vec<_> = (0..5).map(|n| Waker::from(Arc::new(Sender(n, woken.clone())))).collect();
        let mut room = Room::default();
        for n in [3, 0, 4, 3, 1, 0] {
            room.enter(&wakers[n].clone());
        }
        assert_eq!(room.len(), 4);
        assert!(room.leave(&wakers[4]).is_some());
        assert!(room.leave(&wakers[4]).is_none() && room.leave(&wakers[2]).is_none());
        room.take().wake();
        assert_eq!(*woken.lock(), [3, 0, 1]);
        assert_eq!(room.len(), 0);
        assert!(room.leave(&wakers[3]).is_none());
    }
}
