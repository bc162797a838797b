//! System messages: watch, unwatch, termination notice, stop.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use nexus_actor_core::TerminationReason;
use nexus_actor_core::path::{ActorPath, ActorUid};

use super::error::{WireError, WireRule};
use super::header::put_text16;
use super::reader::Reader;
use super::{check, limit};

/// The path of an actor below the root of its node: `/user/a/b`.
///
/// It names no node: a frame can only speak of the node that sends it or of the one that reads it. At most 512
/// bytes and 32 elements, each in the one spelling that [the core](nexus_actor_core::path) gives it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WirePath(Arc<str>);

impl WirePath {
    /// The path with these elements.
    ///
    /// # Errors
    /// When it is not such a path.
    pub fn new(elements: impl Into<Arc<str>>) -> Result<Self, WireError> {
        let elements = elements.into();
        check::path("path", &elements)?;
        Ok(Self(elements))
    }

    /// The path with these elements, which the caller has checked.
    pub(crate) fn checked(elements: &str) -> Self {
        debug_assert!(check::path("path", elements).is_ok());
        Self(Arc::from(elements))
    }

    /// The part of `path` below its node.
    ///
    /// # Errors
    /// When that part is over a limit.
    pub fn of(path: &ActorPath) -> Result<Self, WireError> {
        Self::new(path.elements())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its text, shared.
    #[must_use]
    pub fn into_inner(self) -> Arc<str> {
        self.0
    }
}

impl fmt::Display for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WirePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// What nodes tell each other exactly once, in order, within one session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemMessage {
    /// The sender wants to know when an actor of the reader terminates.
    Watch {
        /// The actor.
        path: WirePath,
        /// Its incarnation, or [`ActorUid::ANY`] for whoever lives there.
        uid: ActorUid,
    },
    /// The sender no longer wants to know.
    Unwatch {
        /// The actor.
        path: WirePath,
        /// Its incarnation, as in the watch.
        uid: ActorUid,
    },
    /// An actor of the sender that the reader watches has terminated.
    Terminated {
        /// The actor.
        path: WirePath,
        /// Its incarnation, as in the watch.
        uid: ActorUid,
        /// Why. The text of a failure is cut to 1,024 bytes when it is written.
        reason: TerminationReason,
        /// The number that the sender's next ordinary frame had when the actor died: the notice waits until the
        /// reader expects this number or a later one, so that it never overtakes the actor's last messages.
        after: u64,
    },
    /// The sender asks the reader to stop one of its actors.
    Stop {
        /// The actor.
        path: WirePath,
        /// Its incarnation, or [`ActorUid::ANY`] for whoever lives there.
        uid: ActorUid,
    },
}

const WATCH: u8 = 1;
const UNWATCH: u8 = 2;
const TERMINATED: u8 = 3;
const STOP: u8 = 4;
// 5 is reserved for remote creation.

impl SystemMessage {
    /// Whom it speaks of.
    #[must_use]
    pub const fn target(&self) -> (&WirePath, ActorUid) {
        match self {
            Self::Watch { path, uid }
            | Self::Unwatch { path, uid }
            | Self::Terminated { path, uid, .. }
            | Self::Stop { path, uid } => (path, *uid),
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Watch { .. } => WATCH,
            Self::Unwatch { .. } => UNWATCH,
            Self::Terminated { .. } => TERMINATED,
            Self::Stop { .. } => STOP,
        });
        let (path, uid) = self.target();
        put_text16(out, path.as_str());
        out.extend_from_slice(&uid.get().to_le_bytes());
        if let Self::Terminated { reason, after, .. } = self {
            let (code, text) = termination_code(reason);
            out.push(code);
            put_text16(out, check::cut(text, limit::TEXT));
            out.extend_from_slice(&after.to_le_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let code = reader.u8("system.type")?;
        if !(WATCH..=STOP).contains(&code) {
            return Err(WireError::new("system.type", WireRule::Unknown { value: u32::from(code) }));
        }
        let path = reader.text16("system.path", limit::PATH)?;
        check::path("system.path", path)?;
        let path = WirePath::checked(path);
        let uid = ActorUid::new(reader.u64("system.uid")?);
        Ok(match code {
            WATCH => Self::Watch { path, uid },
            UNWATCH => Self::Unwatch { path, uid },
            STOP => Self::Stop { path, uid },
            _ => {
                let code = reader.u8("system.reason")?;
                let text = reader.text16("system.text", limit::TEXT)?;
                let reason = termination_reason(code, text);
                Self::Terminated { path, uid, reason, after: reader.u64("system.after")? }
            }
        })
    }
}

fn termination_code(reason: &TerminationReason) -> (u8, &str) {
    match reason {
        TerminationReason::Stopped => (1, ""),
        TerminationReason::Failed(why) => (2, why),
        TerminationReason::NeverExisted => (3, ""),
        TerminationReason::Unreachable => (4, ""),
        TerminationReason::Quarantined => (5, ""),
        TerminationReason::Left => (6, ""),
        TerminationReason::Limit => (7, ""),
        TerminationReason::Shutdown => (8, ""),
        // The core's list is open; what it gains later is told as a failure with no words.
        _ => (2, ""),
    }
}

fn termination_reason(code: u8, text: &str) -> TerminationReason {
    match code {
        1 => TerminationReason::Stopped,
        2 => TerminationReason::Failed(text.to_string()),
        3 => TerminationReason::NeverExisted,
        4 => TerminationReason::Unreachable,
        5 => TerminationReason::Quarantined,
        6 => TerminationReason::Left,
        7 => TerminationReason::Limit,
        8 => TerminationReason::Shutdown,
        // The actor is gone all the same; a notice must not be lost for the sake of its reason.
        other => TerminationReason::Failed(format!("reason {other} of a later version: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    /// L11: below, at and above both limits of a path.
    #[test]
    fn a_path_is_checked_below_at_and_above_its_limits() {
        let elements = |n: usize| "/a".repeat(n);
        let long = |n: usize| String::from("/") + &"a".repeat(n - 1);
        for (name, text, expected) in [
            ("one element", elements(1), None),
            ("31 elements", elements(31), None),
            ("32 elements", elements(32), None),
            ("33 elements", elements(33), Some(WireRule::TooMany { count: 33, limit: 32 })),
            ("511 bytes", long(511), None),
            ("512 bytes", long(512), None),
            ("513 bytes", long(513), Some(WireRule::TooLong { length: 513, limit: 512 })),
            ("empty", String::new(), Some(WireRule::Empty)),
            ("root", "/".into(), Some(WireRule::NotAPath)),
            ("no slash", "user".into(), Some(WireRule::NotAPath)),
            ("empty element", "/user//a".into(), Some(WireRule::NotAPath)),
            ("slash at the end", "/user/".into(), Some(WireRule::NotAPath)),
            ("uid inside", "/user/a#4".into(), Some(WireRule::NotAPath)),
            ("control character", "/user/\u{7f}".into(), Some(WireRule::ControlCharacter)),
        ] {
            assert_eq!(WirePath::new(text).err().map(|e| e.rule), expected, "{name}");
        }
    }
}
