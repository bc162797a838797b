//! Keeps a storm of failures from being a storm of lines.

use core::time::Duration;

use hashbrown::HashMap;
use nexus_actor_core::Instant;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use crate::event::RemotingLifecycleEvent as Event;

/// Of one peer and reason there is one line in this time.
const PACE: Duration = Duration::from_secs(1);
/// Of all peers together there are so many in that time: who they are is their word.
const LINES_MAX: usize = 256;

/// Of whom, what, and why.
type Key = (Authority, &'static str, &'static str);

/// Holds lines back in a storm, and counts them.
#[derive(Debug, Default)]
pub(crate) struct Limit(Lock<Lines>);

#[derive(Debug, Default)]
struct Lines {
    last: HashMap<Key, Last>,
    /// Held back, and not counted with any of the above.
    others: u64,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    held_back: u64,
}

impl Limit {
    /// Whether a line about `event` may be written now, and if so how many were held back since the one before.
    pub(super) fn admit(&self, now: Instant, event: &Event) -> Option<u64> {
        let reason = match event {
            Event::Quarantined { reason, .. } | Event::QuarantinedByPeer { reason, .. } => reason.as_str(),
            Event::Refused { reason, .. } => reason.as_str(),
            _ => "",
        };
        self.admit_as(now, (event.authority().clone(), event.name(), reason))
    }

    /// The same for what is no lifecycle event.
    pub(super) fn admit_as(&self, now: Instant, key: Key) -> Option<u64> {
        let mut lines = self.0.lock();
        let Lines { last, others } = &mut *lines;
        let held_back = match last.get_mut(&key) {
            Some(line) if now - line.at < PACE => {
                line.held_back += 1;
                return None;
            }
            Some(line) => {
                line.at = now;
                core::mem::take(&mut line.held_back)
            }
            None => {
                if last.len() >= LINES_MAX {
                    last.retain(|_, line| {
                        let fresh = now - line.at < PACE;
                        *others += if fresh { 0 } else { line.held_back };
                        fresh
                    });
                }
                if last.len() >= LINES_MAX {
                    *others += 1;
                    return None;
                }
                last.insert(key, Last { at: now, held_back: 0 });
                0
            }
        };
        Some(held_back + core::mem::take(others))
    }
}
