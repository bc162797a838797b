//! Why a session was refused or ended: one fixed list, the same in events, metrics, logs and on the wire.

use core::fmt;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident, $count:literal { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every reason, in the order of its code.
            pub const ALL: [Self; $count] = [$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The reason with this number; `None` when this version has none.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The words used in events, metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons! {
    /// Why a session ended, and the incarnation at its other end is not spoken to any more.
    QuarantineReason, 13 {
        /// Silent for the detector's full time, or its process is gone.
        Unreachable = 1, "unreachable";
        /// A system message waited longer than the give-up time.
        SystemMessageUndelivered = 2, "system message undelivered";
        /// More system messages waited than the buffer holds.
        SystemBufferFull = 3, "system buffer full";
        /// It sent what the protocol does not allow.
        ProtocolFault = 4, "protocol fault";
        /// It announced a frame over the limit.
        FrameTooLong = 5, "frame too long";
        /// The address asked for is not the node's own.
        WrongAddress = 6, "wrong address";
        /// No version of the protocol in common.
        Version = 7, "version";
        /// Its uid is in use by another address.
        UidCollision = 8, "uid collision";
        /// It is on the block list.
        Blocked = 9, "blocked";
        /// A limit on connections, associations or watches was reached.
        Limit = 10, "limit";
        /// It left in order.
        Left = 11, "left";
        /// The operator of this node asked for it.
        ByOperator = 12, "by operator";
        /// The other side ended the session for a reason of its own.
        ByPeer = 13, "by peer";
    }
}

reasons! {
    /// Why a handshake was answered with a refusal.
    RefuseReason, 10 {
        /// No version in common; the refusal carries the range of the refusing node.
        Version = 1, "version";
        /// The address asked for is not the node's own; the refusal carries both.
        WrongAddress = 2, "wrong address";
        /// The uid is in use by another address.
        UidCollision = 3, "uid collision";
        /// The opener is on the block list.
        Blocked = 4, "blocked";
        /// A limit on connections or associations was reached.
        Limit = 5, "limit";
        /// This incarnation of the opener is quarantined.
        Quarantined = 6, "quarantined";
        /// The node is shutting down.
        Left = 7, "left";
        /// The request breaks the protocol.
        ProtocolFault = 8, "protocol fault";
        /// Both sides dialled at once and the other connection stays.
        Crossed = 9, "crossed";
        /// A reason that this version does not know.
        Other = 255, "other";
    }
}
