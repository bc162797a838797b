//! Whom an operator refuses, or allows.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{Address, Authority};

use crate::extension::RemotingExtensionConfig;

/// The systems that are refused, by name or by `host:port`, and those that alone are not. Changes at run time.
#[derive(Debug)]
pub(crate) struct BlockList(Lock<Lists>);

#[derive(Debug)]
struct Lists {
    blocked: BTreeSet<String>,
    /// `None` allows all.
    allowed: Option<BTreeSet<String>>,
}

impl BlockList {
    pub(crate) fn new(config: &RemotingExtensionConfig) -> Self {
        Self(Lock::new(Lists {
            blocked: config.blocked_systems().iter().map(|system| spelled(system)).collect(),
            allowed: config.allowed_systems().map(|systems| systems.iter().map(|s| spelled(s)).collect()),
        }))
    }

    /// Whether the node at `address` is refused. The block list is stronger than the allow list.
    pub(crate) fn refuses(&self, address: &Address) -> bool {
        let authority = address.authority.as_ref().map(ToString::to_string);
        let is_in = |list: &BTreeSet<String>| {
            list.contains(&*address.system)
                || authority.as_ref().is_some_and(|authority| list.contains(authority))
        };
        let lists = self.0.lock();
        is_in(&lists.blocked) || lists.allowed.as_ref().is_some_and(|allowed| !is_in(allowed))
    }

    /// True when it was not in the list.
    pub(crate) fn block(&self, system: &str) -> bool {
        let system = spelled(system);
        self.0.lock().blocked.insert(system)
    }

    /// True when it was in the list.
    pub(crate) fn unblock(&self, system: &str) -> bool {
        let system = spelled(system);
        self.0.lock().blocked.remove(&system)
    }

    pub(crate) fn blocked(&self) -> Vec<String> {
        self.0.lock().blocked.iter().cloned().collect()
    }

    pub(crate) fn allow_only(&self, systems: Option<Vec<String>>) {
        let systems = systems.map(|systems| systems.iter().map(|s| spelled(s)).collect());
        self.0.lock().allowed = systems;
    }

    pub(crate) fn allowed(&self) -> Option<Vec<String>> {
        self.0.lock().allowed.as_ref().map(|allowed| allowed.iter().cloned().collect())
    }
}

/// An authority in the spelling under which all equal ones are the same text; a name as it is.
fn spelled(system: &str) -> String {
    system.parse::<Authority>().map_or_else(|_| system.to_string(), |authority| authority.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(blocked: &[&str], allowed: Option<&[&str]>) -> BlockList {
        let config = RemotingExtensionConfig::default().with_blocked_systems(blocked.iter().copied());
        BlockList::new(&match allowed {
            Some(allowed) => config.with_allowed_systems(allowed.iter().copied()),
            None => config,
        })
    }

    #[test]
    fn names_and_authorities_are_refused_and_allowed() {
        for (blocked, allowed, refused) in [
            (&[][..], None, false),
            (&["shop"][..], None, true),
            (&["h:1"][..], None, true),
            (&["H:1"][..], None, true),
            (&["h:2", "sho", "h"][..], None, false),
            (&[][..], Some(&[][..]), true),
            (&[][..], Some(&["till"][..]), true),
            (&[][..], Some(&["shop"][..]), false),
            (&[][..], Some(&["H:1"][..]), false),
            (&["h:1"][..], Some(&["shop"][..]), true),
        ] {
            let list = list(blocked, allowed);
            let address = "fraktor.tcp://shop@h:1".parse().unwrap();
            assert_eq!(list.refuses(&address), refused, "{blocked:?} {allowed:?}");
        }
    }

    #[test]
    fn changes_say_whether_they_changed_anything() {
        let list = list(&["b", "a"], None);
        assert_eq!((list.block("c"), list.block("c"), list.block("H:1")), (true, false, true));
        assert_eq!(list.blocked(), ["a", "b", "c", "h:1"]);
        assert_eq!((list.unblock("h:1"), list.unblock("h:1")), (true, false));
        list.allow_only(Some(alloc::vec!["x".to_string()]));
        assert_eq!(list.allowed(), Some(alloc::vec!["x".to_string()]));
        list.allow_only(None);
        assert_eq!((list.allowed(), list.blocked().len()), (None, 3));
    }
}
