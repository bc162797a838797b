//! Why a message did not arrive: one fixed list, the same in results, events, metrics and logs.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// Why an accepted message will never be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// Nobody lives at that path, or not that incarnation.
    NoSuchActor,
    /// The recipient had stopped.
    Stopped,
    /// The queue toward the peer was full.
    QueueFull,
    /// The recipient's mailbox was full.
    MailboxFull,
    /// The message is larger than the limit.
    TooLarge,
    /// The message could not be encoded.
    Encode,
    /// The message could not be decoded at the receiver.
    Decode,
    /// The peer could not be reached.
    Unreachable,
    /// Handed to a connection whose peer died before it acknowledged.
    Unconfirmed,
    /// The peer's incarnation is quarantined.
    Quarantined,
    /// The peer is on the block list.
    Blocked,
    /// The peer lacks the permission.
    Denied,
    /// The association is suspended.
    Suspended,
    /// A limit on something else than a queue was reached.
    Limit,
    /// The node is shutting down.
    Shutdown,
    /// A wire without acknowledgements broke; nobody can tell.
    Unknown,
}

impl DeadLetterReason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::NoSuchActor,
        Self::Stopped,
        Self::QueueFull,
        Self::MailboxFull,
        Self::TooLarge,
        Self::Encode,
        Self::Decode,
        Self::Unreachable,
        Self::Unconfirmed,
        Self::Quarantined,
        Self::Blocked,
        Self::Denied,
        Self::Suspended,
        Self::Limit,
        Self::Shutdown,
        Self::Unknown,
    ];

    /// The words used in events, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSuchActor => "no such actor",
            Self::Stopped => "stopped",
            Self::QueueFull => "queue full",
            Self::MailboxFull => "mailbox full",
            Self::TooLarge => "too large",
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::Unreachable => "unreachable",
            Self::Unconfirmed => "unconfirmed",
            Self::Quarantined => "quarantined",
            Self::Blocked => "blocked",
            Self::Denied => "denied",
            Self::Suspended => "suspended",
            Self::Limit => "limit",
            Self::Shutdown => "shutdown",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a message was not accepted. Whatever refused it is unchanged, and the caller still has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The recipient has stopped.
    Stopped,
    /// Nobody lives at that path, or not that incarnation.
    NoSuchActor,
    /// The recipient's mailbox holds its capacity, in messages.
    MailboxFull {
        /// The mailbox's capacity.
        capacity: usize,
    },
    /// The lane toward the peer is full.
    QueueFull {
        /// Messages waiting and unacknowledged.
        messages: usize,
        /// Bytes waiting and unacknowledged.
        bytes: usize,
    },
    /// The encoded message is too large for the wire.
    TooLarge {
        /// Its size in bytes, or at least that much.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The message could not be encoded; the text says which part and why.
    Encode(String),
    /// The peer cannot be reached and the configured patience is used up.
    Unreachable,
    /// The peer's incarnation is quarantined.
    Quarantined,
    /// The peer is on the block list.
    Blocked,
    /// The peer lacks the permission.
    Denied,
    /// The association was suspended by hand.
    Suspended,
    /// A bound on something else than a queue was reached; the text names it.
    Limit(&'static str),
    /// No way leads to that address from here, whoever lives there; the text says why.
    NoRoute(&'static str),
    /// The node is shutting down.
    Shutdown,
}

impl Refusal {
    /// The reason under which the message is recorded if the caller gives it up.
    #[must_use]
    pub const fn reason(&self) -> DeadLetterReason {
        match self {
            Self::Stopped => DeadLetterReason::Stopped,
            Self::NoSuchActor => DeadLetterReason::NoSuchActor,
            Self::MailboxFull { .. } => DeadLetterReason::MailboxFull,
            Self::QueueFull { .. } => DeadLetterReason::QueueFull,
            Self::TooLarge { .. } => DeadLetterReason::TooLarge,
            Self::Encode(_) => DeadLetterReason::Encode,
            Self::Unreachable => DeadLetterReason::Unreachable,
            Self::Quarantined => DeadLetterReason::Quarantined,
            Self::Blocked => DeadLetterReason::Blocked,
            Self::Denied => DeadLetterReason::Denied,
            Self::Suspended => DeadLetterReason::Suspended,
            Self::Limit(_) => DeadLetterReason::Limit,
            Self::NoRoute(_) => DeadLetterReason::Unreachable,
            Self::Shutdown => DeadLetterReason::Shutdown,
        }
    }

    /// Whether waiting for room can help.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::MailboxFull { .. } | Self::QueueFull { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MailboxFull { capacity } => write!(f, "mailbox full: it holds its {capacity} messages"),
            Self::QueueFull { messages, bytes } => {
                write!(f, "queue full: {messages} messages and {bytes} bytes wait for the peer")
            }
            Self::TooLarge { size, limit } => {
                write!(f, "too large: {size} bytes encoded, the limit is {limit}")
            }
            Self::Encode(why) => write!(f, "encode: {why}"),
            Self::Limit(which) => write!(f, "limit: {which}"),
            Self::NoRoute(why) => write!(f, "no way to that node: {why}"),
            other => f.write_str(other.reason().as_str()),
        }
    }
}

impl core::error::Error for Refusal {}

/// Why an ask got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskError {
    /// No answer came within the deadline, from an actor here or from a peer that is connected.
    Timeout {
        /// The deadline that passed.
        after: Duration,
    },
    /// The mailbox, the lane or the table of pending asks was full.
    Full,
    /// The recipient had stopped, or stopped with the question in its mailbox.
    Stopped,
    /// Nobody lives at that path, or not that incarnation.
    NoSuchActor,
    /// The recipient dropped its `Reply` without sending.
    NoReply,
    /// The peer could not be reached, its incarnation ended before it answered, or there was no connection to it when the
    /// deadline passed. On the gRPC wire also: the connection that took the question was lost, and the peer had not said that
    /// the question arrived; it may have.
    Unreachable,
    /// The peer's incarnation is quarantined.
    Quarantined,
    /// The peer is on the block list.
    Blocked,
    /// Question or answer could not be decoded; the text names the cause.
    Decode(String),
    /// The question could not be encoded; the text names the cause.
    Encode(String),
    /// The question is larger than the wire carries.
    TooLarge {
        /// Its size in bytes, or at least that much.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer lacks the permission, or ours refused.
    Denied,
    /// The association was suspended by hand.
    Suspended,
    /// This node or the peer is shutting down.
    Shutdown,
}

impl From<Refusal> for AskError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stopped => Self::Stopped,
            Refusal::NoSuchActor => Self::NoSuchActor,
            Refusal::MailboxFull { .. } | Refusal::QueueFull { .. } | Refusal::Limit(_) => Self::Full,
            Refusal::TooLarge { size, limit } => Self::TooLarge { size, limit },
            Refusal::Encode(why) => Self::Encode(why),
            Refusal::Unreachable | Refusal::NoRoute(_) => Self::Unreachable,
            Refusal::Quarantined => Self::Quarantined,
            Refusal::Blocked => Self::Blocked,
            Refusal::Denied => Self::Denied,
            Refusal::Suspended => Self::Suspended,
            Refusal::Shutdown => Self::Shutdown,
        }
    }
}

impl AskError {
    /// What an asker learns when its question became a dead letter for `reason`.
    #[must_use]
    pub fn from_reason(reason: DeadLetterReason) -> Self {
        match reason {
            DeadLetterReason::NoSuchActor => Self::NoSuchActor,
            DeadLetterReason::Stopped => Self::Stopped,
            DeadLetterReason::QueueFull | DeadLetterReason::MailboxFull | DeadLetterReason::Limit => {
                Self::Full
            }
            DeadLetterReason::TooLarge => Self::TooLarge { size: 0, limit: 0 },
            DeadLetterReason::Encode => Self::Encode(String::new()),
            DeadLetterReason::Decode => Self::Decode(String::new()),
            DeadLetterReason::Unreachable | DeadLetterReason::Unconfirmed | DeadLetterReason::Unknown => {
                Self::Unreachable
            }
            DeadLetterReason::Quarantined => Self::Quarantined,
            DeadLetterReason::Blocked => Self::Blocked,
            DeadLetterReason::Denied => Self::Denied,
            DeadLetterReason::Suspended => Self::Suspended,
            DeadLetterReason::Shutdown => Self::Shutdown,
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { after } => write!(f, "no answer within {after:?}"),
            Self::Full => f.write_str("full: no room for the question"),
            Self::Stopped => f.write_str("the actor has stopped"),
            Self::NoSuchActor => f.write_str("no such actor"),
            Self::NoReply => f.write_str("the actor dropped the reply without sending one"),
            Self::Unreachable => f.write_str("the peer is unreachable"),
            Self::Quarantined => f.write_str("the peer is quarantined"),
            Self::Blocked => f.write_str("the peer is blocked"),
            Self::Decode(why) => write!(f, "decode: {why}"),
            Self::Encode(why) => write!(f, "encode: {why}"),
            Self::TooLarge { size, limit } => {
                write!(f, "too large: {size} bytes encoded, the limit is {limit}")
            }
            Self::Denied => f.write_str("denied"),
            Self::Suspended => f.write_str("the association is suspended"),
            Self::Shutdown => f.write_str("the node is shutting down"),
        }
    }
}

impl core::error::Error for AskError {}
