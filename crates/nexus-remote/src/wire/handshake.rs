//! Who the two nodes are and what they agree on: request, acknowledgement, refusal.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::{ActorPathScheme, ActorUid, Address, Authority, validate_system_name};

use super::error::{WireError, WireRule};
use super::header::{FrameHeader, FrameKind, VersionRange, put_frame, put_text8};
use super::reader::Reader;
use super::reason::RefuseReason;
use super::{check, limit};

/// A node as it is named: without scheme and without incarnation.
///
/// System name and host have at most 255 bytes together; the host may be empty, for a node that nobody can dial.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NodeAddress {
    system: Arc<str>,
    host: Arc<str>,
    port: Option<u16>,
}

impl NodeAddress {
    /// The node `system@host:port`.
    ///
    /// # Errors
    /// When the system name or the host is not one by the core's rules, a text holds a control character, both together are over the limit, or
    /// the port is zero.
    pub fn new(
        system: impl Into<Arc<str>>,
        host: impl Into<Arc<str>>,
        port: Option<u16>,
    ) -> Result<Self, WireError> {
        let (system, host) = (system.into(), host.into());
        check::name("node.system", &system, limit::NODE)?;
        check::text_of("node.host", &host, limit::NODE)?;
        // The one canonical form of a host: nodes are told apart by these texts.
        let host = if host.is_empty() { host } else { canonical_host(&host)? };
        let length = system.len() + host.len();
        if length > limit::NODE {
            return Err(WireError::new("node.host", WireRule::TooLong { length, limit: limit::NODE }));
        }
        if port == Some(0) {
            return Err(WireError::new("node.port", WireRule::Zero));
        }
        if validate_system_name(&system).is_err() {
            return Err(WireError::new("node.system", WireRule::NotAName));
        }
        Ok(Self { system, host, port })
    }

    /// The node at `address`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(address: &Address) -> Result<Self, WireError> {
        match &address.authority {
            Some(authority) => Self::new(address.system.clone(), authority.host(), Some(authority.port())),
            None => Self::new(address.system.clone(), "", None),
        }
    }

    /// The name of its actor system.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port; `None` when it does not listen.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Its address under `scheme`. A node without a port has no authority.
    #[must_use]
    pub fn to_address(&self, scheme: ActorPathScheme) -> Address {
        let authority = self.port.map(|port| Authority::new(&self.host, port));
        Address { scheme, system: self.system.clone(), authority }
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_text8(out, &self.system);
        put_text8(out, &self.host);
        out.extend_from_slice(&self.port.unwrap_or(0).to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let system = reader.text8("node.system", limit::NODE)?;
        let host = reader.text8("node.host", limit::NODE)?;
        let port = reader.u16("node.port")?;
        Self::new(system, host, (port != 0).then_some(port))
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{}@{open}{}{close}", self.system, self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn canonical_host(host: &str) -> Result<Arc<str>, WireError> {
    match Authority::try_new(host, 1) {
        Ok(authority) => Ok(Arc::from(authority.host())),
        Err(_) => Err(WireError::new("node.host", WireRule::NotAName)),
    }
}

/// One incarnation of a node: its name and the uid it drew when it started.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RemoteNodeId {
    address: NodeAddress,
    uid: ActorUid,
}

impl RemoteNodeId {
    /// The incarnation `uid` of `system@host:port`.
    ///
    /// # Errors
    /// As [`NodeAddress::new`]; and when the uid is zero, which names no incarnation.
    pub fn new(
        system: impl Into<Arc<str>>,
        host: impl Into<Arc<str>>,
        port: Option<u16>,
        uid: ActorUid,
    ) -> Result<Self, WireError> {
        Self::at(NodeAddress::new(system, host, port)?, uid)
    }

    /// The incarnation `uid` of the node at `address`.
    ///
    /// # Errors
    /// When the uid is zero.
    pub fn at(address: NodeAddress, uid: ActorUid) -> Result<Self, WireError> {
        if uid.is_any() {
            return Err(WireError::new("node.uid", WireRule::Zero));
        }
        Ok(Self { address, uid })
    }

    /// The node without its incarnation.
    #[must_use]
    pub const fn address(&self) -> &NodeAddress {
        &self.address
    }

    /// The name of its actor system.
    #[must_use]
    pub fn system(&self) -> &str {
        self.address.system()
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.address.host()
    }

    /// Its port; `None` when it does not listen.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.address.port()
    }

    /// Its incarnation, never [`ActorUid::ANY`].
    #[must_use]
    pub const fn uid(&self) -> ActorUid {
        self.uid
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.address.put(out);
        out.extend_from_slice(&self.uid.get().to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let address = NodeAddress::read(reader)?;
        Self::at(address, ActorUid::new(reader.u64("node.uid")?))
    }
}

impl fmt::Display for RemoteNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.address, self.uid)
    }
}

impl fmt::Debug for RemoteNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node can do beyond version 1. Bits that the reader does not know are kept and mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CapabilityFlags(u64);

impl CapabilityFlags {
    /// Nothing beyond version 1.
    pub const NONE: Self = Self(0);
    /// Large messages travel in fragments on a lane of their own (frame kinds from `0x30`).
    pub const LARGE_LANE: Self = Self(1);

    /// The flags with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What both sides offer: the only ones that may be used.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How a node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssociationHandshake {
    protocol: ActorPathScheme,
    node: RemoteNodeId,
    capabilities: CapabilityFlags,
    nonce: u64,
    correlation_seed: CorrelationId,
}

impl AssociationHandshake {
    /// An introduction of `node`, reached by `protocol`.
    ///
    /// `nonce` is fresh for each attempt: an answer names it, so that a late one is known. `correlation_seed`
    /// starts the ids of the envelopes that this side sends.
    ///
    /// # Errors
    /// When the scheme is empty, longer than 64 bytes or holds a control character.
    pub fn new(
        protocol: ActorPathScheme,
        node: RemoteNodeId,
        capabilities: CapabilityFlags,
        nonce: u64,
        correlation_seed: CorrelationId,
    ) -> Result<Self, WireError> {
        check::name("handshake.protocol", protocol.as_str(), limit::SCHEME)?;
        // One scheme has one value, so that what is read equals what was written.
        let protocol = ActorPathScheme::from_name(protocol.as_str());
        Ok(Self { protocol, node, capabilities, nonce, correlation_seed })
    }

    /// The scheme of the connection.
    #[must_use]
    pub const fn protocol(&self) -> &ActorPathScheme {
        &self.protocol
    }

    /// Who introduces itself.
    #[must_use]
    pub const fn node(&self) -> &RemoteNodeId {
        &self.node
    }

    /// What it offers.
    #[must_use]
    pub const fn capabilities(&self) -> CapabilityFlags {
        self.capabilities
    }

    /// Names this attempt.
    #[must_use]
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Where its correlation ids start.
    #[must_use]
    pub const fn correlation_seed(&self) -> CorrelationId {
        self.correlation_seed
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_text8(out, self.protocol.as_str());
        self.node.put(out);
        out.extend_from_slice(&self.capabilities.0.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&self.correlation_seed.hi.to_le_bytes());
        out.extend_from_slice(&self.correlation_seed.lo.to_le_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let protocol = reader.text8("handshake.protocol", limit::SCHEME)?;
        let node = RemoteNodeId::read(reader)?;
        let capabilities = CapabilityFlags(reader.u64("handshake.capabilities")?);
        let nonce = reader.u64("handshake.nonce")?;
        let seed = CorrelationId::new(
            reader.u64("handshake.correlation_seed")?,
            reader.u32("handshake.correlation_seed")?,
        );
        Self::new(ActorPathScheme::from_name(protocol), node, capabilities, nonce, seed)
    }
}

/// What a node takes from its peer within a session. The peer keeps to it; the smaller of two limits holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionLimits {
    /// The largest `len` of a frame.
    pub frame_max: u32,
    /// The largest message in bytes, over all its fragments.
    pub message_max: u32,
    /// Bytes that may be unacknowledged.
    pub window_bytes: u32,
}

impl SessionLimits {
    fn put(self, out: &mut Vec<u8>) {
        for limit in [self.frame_max, self.message_max, self.window_bytes] {
            out.extend_from_slice(&limit.to_le_bytes());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            frame_max: reader.u32("limits.frame_max")?,
            message_max: reader.u32("limits.message_max")?,
            window_bytes: reader.u32("limits.window_bytes")?,
        })
    }
}

/// The opener's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who opens.
    pub handshake: AssociationHandshake,
    /// The node that was dialled, as the opener names it.
    pub to: NodeAddress,
    /// The session the opener would resume; 0 when it knows none.
    pub session: u64,
    /// The incarnation of the acceptor that the opener remembers, or [`ActorUid::ANY`].
    pub peer_uid: ActorUid,
    /// The number of the ordinary frame that the opener expects next in that session.
    pub receive_next: u64,
    /// The number of the system message that the opener expects next in that session.
    pub system_next: u64,
    /// What the opener takes.
    pub limits: SessionLimits,
}

/// The acceptor's answer: the handshake is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who accepts.
    pub handshake: AssociationHandshake,
    /// The opener, as it introduced itself.
    pub to: NodeAddress,
    /// The session that now runs: the one asked for if resumed, else a new one drawn by the acceptor. Never 0.
    pub session: u64,
    /// The opener's incarnation that the acceptor answers.
    pub peer_uid: ActorUid,
    /// The number of the ordinary frame that the acceptor expects next.
    pub receive_next: u64,
    /// The number of the system message that the acceptor expects next.
    pub system_next: u64,
    /// What the acceptor takes.
    pub limits: SessionLimits,
    /// The nonce of the request that this answers.
    pub echo: u64,
    /// Whether the session asked for goes on; else both lanes start at number 0.
    pub resumed: bool,
}

struct Terms<'a> {
    handshake: &'a AssociationHandshake,
    to: &'a NodeAddress,
    numbers: [u64; 4],
    limits: SessionLimits,
}

impl Terms<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        self.handshake.put(out);
        self.to.put(out);
        for number in self.numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.limits.put(out);
    }
}

impl Request {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let terms = Terms {
            handshake: &self.handshake,
            to: &self.to,
            numbers: [self.session, self.peer_uid.get(), self.receive_next, self.system_next],
            limits: self.limits,
        };
        put_frame(out, FrameHeader::of(FrameKind::Request), |out| terms.put(out));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            handshake: AssociationHandshake::read(reader)?,
            to: NodeAddress::read(reader)?,
            session: reader.u64("request.session")?,
            peer_uid: ActorUid::new(reader.u64("request.peer_uid")?),
            receive_next: reader.u64("request.receive_next")?,
            system_next: reader.u64("request.system_next")?,
            limits: SessionLimits::read(reader)?,
        })
    }

    pub(crate) fn decode_body(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let request = Self::read(&mut reader)?;
        reader.finish("request")?;
        Ok(request)
    }
}

impl Ack {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let terms = Terms {
            handshake: &self.handshake,
            to: &self.to,
            numbers: [self.session, self.peer_uid.get(), self.receive_next, self.system_next],
            limits: self.limits,
        };
        put_frame(out, FrameHeader::of(FrameKind::Ack), |out| {
            terms.put(out);
            out.extend_from_slice(&self.echo.to_le_bytes());
            out.push(u8::from(self.resumed));
        });
    }

    pub(crate) fn decode_body(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let Request { handshake, to, session, peer_uid, receive_next, system_next, limits } =
            Request::read(&mut reader)?;
        if session == 0 {
            return Err(WireError::new("ack.session", WireRule::Zero));
        }
        let echo = reader.u64("ack.echo")?;
        let resumed = match reader.u8("ack.resumed")? {
            0 => false,
            1 => true,
            other => {
                return Err(WireError::new("ack.resumed", WireRule::Unknown { value: u32::from(other) }));
            }
        };
        reader.finish("ack")?;
        Ok(Self { handshake, to, session, peer_uid, receive_next, system_next, limits, echo, resumed })
    }
}

/// The acceptor's answer when there will be no session. Its layout is the same in every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// Why.
    pub reason: RefuseReason,
    /// The nonce of the request that this answers; 0 when none could be read.
    pub echo: u64,
    /// The node the request asked for, when it could be read.
    pub asked_for: Option<NodeAddress>,
    /// The node the refusing side is known as, unless it keeps that to itself.
    pub known_by: Option<NodeAddress>,
    /// Its incarnation, or [`ActorUid::ANY`] when it keeps that to itself.
    pub uid: ActorUid,
    /// The versions it speaks.
    pub versions: VersionRange,
}

impl Refuse {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_frame(out, FrameHeader::of(FrameKind::Refuse), |out| {
            out.push(self.reason.code());
            out.extend_from_slice(&self.echo.to_le_bytes());
            for node in [&self.asked_for, &self.known_by] {
                out.push(u8::from(node.is_some()));
                if let Some(node) = node {
                    node.put(out);
                }
            }
            out.extend_from_slice(&self.uid.get().to_le_bytes());
            out.extend_from_slice(&self.versions.min.to_le_bytes());
            out.extend_from_slice(&self.versions.max.to_le_bytes());
        });
    }

    pub(crate) fn decode_body(body: &[u8]) -> Result<Self, WireError> {
        fn node(field: &'static str, reader: &mut Reader<'_>) -> Result<Option<NodeAddress>, WireError> {
            match reader.u8(field)? {
                0 => Ok(None),
                1 => NodeAddress::read(reader).map(Some),
                other => Err(WireError::new(field, WireRule::Unknown { value: u32::from(other) })),
            }
        }
        let mut reader = Reader::new(body);
        let refuse = Self {
            // A later version may have more reasons; the refusal stands all the same.
            reason: RefuseReason::from_code(reader.u8("refuse.reason")?).unwrap_or(RefuseReason::Other),
            echo: reader.u64("refuse.echo")?,
            asked_for: node("refuse.asked_for", &mut reader)?,
            known_by: node("refuse.known_by", &mut reader)?,
            uid: ActorUid::new(reader.u64("refuse.uid")?),
            versions: VersionRange {
                min: reader.u16("refuse.versions")?,
                max: reader.u16("refuse.versions")?,
            },
        };
        reader.finish("refuse")?;
        refuse.versions.check("refuse.versions")?;
        Ok(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// A name's limit counts system and host together (L11).
    #[test]
    fn a_node_is_checked_below_at_and_above_its_limit() {
        let a = |n: usize| "a".repeat(n);
        for (name, system, host, port, expected) in [
            ("below", a(127), a(127), Some(1), None),
            ("at", a(128), a(127), Some(1), None),
            ("above", a(128), a(128), Some(1), Some(WireRule::TooLong { length: 256, limit: 255 })),
            ("no system", a(0), a(1), Some(1), Some(WireRule::Empty)),
            ("no host", a(1), a(0), None, None),
            ("system with a mark", "a@b".to_string(), a(1), None, Some(WireRule::NotAName)),
            ("host with a slash", a(1), "h/x".to_string(), None, Some(WireRule::NotAName)),
            ("port zero", a(1), a(1), Some(0), Some(WireRule::Zero)),
            ("line break", "a\nb".to_string(), a(1), None, Some(WireRule::ControlCharacter)),
        ] {
            let made = NodeAddress::new(system, host, port);
            assert_eq!(made.err().map(|e| e.rule), expected, "{name}");
        }
    }
}
