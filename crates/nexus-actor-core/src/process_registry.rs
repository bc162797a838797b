//! The living actors of a system.

use alloc::vec::Vec;

use crate::actor_ref::AnyRef;
use crate::path::ActorUid;
use crate::system::ActorSystem;

/// Lists and finds the actors of one system. It keeps no table of its own: it walks the tree.
#[derive(Clone, Debug)]
pub struct ProcessRegistry {
    system: ActorSystem,
}

impl ProcessRegistry {
    pub(crate) const fn new(system: ActorSystem) -> Self {
        Self { system }
    }

    /// All living actors, each parent before its children. Costs time and memory in proportion to their number.
    #[must_use]
    pub fn list(&self) -> Vec<AnyRef> {
        let mut all = self.system.roots();
        let mut at = 0;
        while at < all.len() {
            if let Some(nest) = all[at].nest() {
                all.extend(nest.all());
            }
            at += 1;
        }
        all
    }

    /// The living actor at a path below the root, for instance `/user/counter`.
    #[must_use]
    pub fn get(&self, elements: &str) -> Option<AnyRef> {
        self.system.find(elements)
    }

    /// The living actor at a path, if it is that incarnation.
    #[must_use]
    pub fn get_incarnation(&self, elements: &str, uid: ActorUid) -> Option<AnyRef> {
        self.system.find_incarnation(elements, uid)
    }

    /// How many actors live, the guardians included.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut count = 0;
        let mut rest = self.system.roots();
        while let Some(actor) = rest.pop() {
            count += 1;
            if let Some(nest) = actor.nest() {
                rest.extend(nest.all());
            }
        }
        count
    }
}
