//! What came of a remote spawn, as it travels.

use std::fmt;

use nexus_actor_core::AskError;
use nexus_actor_core::pid::Pid;

/// The answer of an activator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResponseStatusCode {
    /// Spawned.
    Ok,
    /// The node cannot spawn it now.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// An actor of that name lives there already; its pid comes with the answer.
    ProcessNameAlreadyExist,
    /// The kind is not known there, or it could not be made.
    Error,
    /// Nobody took the request.
    DeadLetter,
    /// A number that this list does not have.
    Other(i32),
}

impl ResponseStatusCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
            Self::Unavailable => 1,
            Self::Timeout => 2,
            Self::ProcessNameAlreadyExist => 3,
            Self::Error => 4,
            Self::DeadLetter => 5,
            Self::Other(code) => code,
        }
    }

    /// What `code` means.
    #[must_use]
    pub const fn from_code(code: i32) -> Self {
        match code {
            0 => Self::Ok,
            1 => Self::Unavailable,
            2 => Self::Timeout,
            3 => Self::ProcessNameAlreadyExist,
            4 => Self::Error,
            5 => Self::DeadLetter,
            other => Self::Other(other),
        }
    }

    /// The words used in errors and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::ProcessNameAlreadyExist => "process name already exists",
            Self::Error => "error",
            Self::DeadLetter => "dead letter",
            Self::Other(_) => "unknown status",
        }
    }
}

impl fmt::Display for ResponseStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(code) => write!(f, "status {code}"),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Why a remote spawn gave no new actor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpawnRemoteError {
    /// The node answered with something else than [`ResponseStatusCode::Ok`].
    Status {
        /// Its answer.
        status: ResponseStatusCode,
        /// The actor that has the name, where that is why.
        pid: Option<Pid>,
    },
    /// The kind is not among those configured for that address, and one unknown kind makes a Go node stop every actor
    /// ever spawned there: it was not asked.
    KindNotKnown {
        /// The kind.
        kind: String,
        /// The node.
        address: String,
    },
    /// The address is not `host:port`, or the name or kind breaks a rule.
    Invalid {
        /// What was given.
        value: String,
        /// The rule.
        rule: String,
    },
    /// The node gave no answer.
    Ask(AskError),
}

impl SpawnRemoteError {
    /// The status that says the same, as an activator would answer it.
    #[must_use]
    pub const fn status(&self) -> ResponseStatusCode {
        match self {
            Self::Status { status, .. } => *status,
            Self::KindNotKnown { .. } | Self::Invalid { .. } => ResponseStatusCode::Error,
            Self::Ask(AskError::Timeout { .. }) => ResponseStatusCode::Timeout,
            Self::Ask(AskError::NoSuchActor | AskError::Stopped) => ResponseStatusCode::DeadLetter,
            Self::Ask(_) => ResponseStatusCode::Unavailable,
        }
    }
}

impl fmt::Display for SpawnRemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, pid: Some(pid) } => write!(f, "{status}: {pid}"),
            Self::Status { status, pid: None } => write!(f, "{status}"),
            Self::KindNotKnown { kind, address } => write!(
                f,
                "the kind {kind:?} is not among those known for {address}; say so with \
                 `ConfigOption::with_known_kinds`, or the node there might stop every actor it has spawned"
            ),
            Self::Invalid { value, rule } => write!(f, "{value:?}: {rule}"),
            Self::Ask(error) => write!(f, "no answer: {error}"),
        }
    }
}

impl std::error::Error for SpawnRemoteError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_inverse() {
        for code in -1..9 {
            assert_eq!(ResponseStatusCode::from_code(code).code(), code);
        }
    }
}
