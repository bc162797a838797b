//! How far a node is behind with what one association has to tell.

use portable_atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts what an association has handed out and is not worked off.
///
/// Everything here is sequentially consistent: who works off and who hands out each write one value and then read the
/// other's, and one of the two must see that there is more to hand out.
pub(super) struct Backlog {
    count: AtomicUsize,
    most: usize,
    /// The association has more to tell than it may hand out.
    more: AtomicBool,
    /// Nothing more is to be read from the peer: it makes more of it, or sends too fast.
    behind: AtomicBool,
}

impl Backlog {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            count: AtomicUsize::new(0),
            most,
            more: AtomicBool::new(false),
            behind: AtomicBool::new(false),
        }
    }

    pub(super) fn posted(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that one is worked off; whether the association is to be asked for more, once.
    pub(super) fn worked_off(&self) -> bool {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.is_low() && self.more.swap(false, Ordering::SeqCst)
    }

    /// Whether one more may be handed out.
    pub(super) fn has_room(&self) -> bool {
        self.count.load(Ordering::SeqCst) < self.most
    }

    fn is_low(&self) -> bool {
        self.count.load(Ordering::SeqCst) <= self.most / 2
    }

    /// Whether there was more to tell when last asked.
    pub(super) fn has_more(&self) -> bool {
        self.more.load(Ordering::Relaxed)
    }

    /// Notes whether there is more; true when it may be handed out after all.
    pub(super) fn note_more(&self, more: bool) -> bool {
        self.more.store(more, Ordering::SeqCst);
        more && self.is_low()
    }

    pub(super) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Notes it, and returns what held before.
    pub(super) fn note_behind(&self, behind: bool) -> bool {
        self.behind.swap(behind, Ordering::AcqRel)
    }
}
