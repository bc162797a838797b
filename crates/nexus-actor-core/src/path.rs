//! Where actors live: authorities, paths and uids.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use serde::{Deserialize, Serialize};

/// A number drawn at random: of one incarnation of a node, or of one actor in it.
///
/// Zero means "whichever": a reference resolved by name has uid zero and equals only its like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ActorUid(u64);

impl ActorUid {
    /// No particular incarnation.
    pub const ANY: Self = Self(0);

    /// The uid with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether this names no particular incarnation.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for ActorUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for ActorUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The part before `://`: which protocol and transport reach an address.
///
/// The scheme is not part of a reference's identity; it only says how to get there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ActorPathScheme {
    /// `fraktor`: an actor of this process, no transport.
    Fraktor,
    /// `fraktor.tcp`: the native protocol over TCP.
    FraktorTcp,
    /// `fraktor.tls`: the native protocol over TLS.
    FraktorTls,
    /// `fraktor.loopback`: the native protocol inside one process.
    FraktorLoopback,
    /// Any other, for transports that an application brings.
    Other(Arc<str>),
}

impl ActorPathScheme {
    /// The text before `://`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Fraktor => "fraktor",
            Self::FraktorTcp => "fraktor.tcp",
            Self::FraktorTls => "fraktor.tls",
            Self::FraktorLoopback => "fraktor.loopback",
            Self::Other(name) => name,
        }
    }

    /// The scheme with this text.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "fraktor" => Self::Fraktor,
            "fraktor.tcp" => Self::FraktorTcp,
            "fraktor.tls" => Self::FraktorTls,
            "fraktor.loopback" => Self::FraktorLoopback,
            other => Self::Other(Arc::from(other)),
        }
    }
}

impl fmt::Display for ActorPathScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `host:port` in its one canonical form, the key under which a node is reached.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Arc<str>,
    port: u16,
}

impl Authority {
    /// The authority of `host` and `port`, canonical.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: Arc::from(host), port }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's full address: how, which system, where.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// How to get there.
    pub scheme: ActorPathScheme,
    /// The name of the actor system.
    pub system: Arc<str>,
    /// Where it is reached; `None` inside a process without remoting.
    pub authority: Option<Authority>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.system)?;
        if let Some(authority) = &self.authority {
            write!(f, "@{authority}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The whole name of an actor: address, path below the root, and uid.
///
/// Prints as `fraktor.tcp://system@host:port/user/name#uid`; the uid is left out when it is
/// [`ActorUid::ANY`]. Two paths are equal when authority, path and uid are.
#[derive(Clone)]
pub struct ActorPath {
    address: Address,
    elements: Arc<str>,
    uid: ActorUid,
}

impl ActorPath {
    /// The path `elements` (`/user/a/b`) at `address`.
    #[must_use]
    pub fn new(address: Address, elements: impl Into<Arc<str>>, uid: ActorUid) -> Self {
        Self { address, elements: elements.into(), uid }
    }

    /// The node.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// The path below the root, beginning with `/`.
    #[must_use]
    pub fn elements(&self) -> &str {
        &self.elements
    }

    /// The incarnation, or [`ActorUid::ANY`].
    #[must_use]
    pub const fn uid(&self) -> ActorUid {
        self.uid
    }

    /// The same path with another uid.
    #[must_use]
    pub fn with_uid(mut self, uid: ActorUid) -> Self {
        self.uid = uid;
        self
    }
}

impl PartialEq for ActorPath {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.address.authority == other.address.authority
            && self.address.system == other.address.system
            && self.elements == other.elements
    }
}

impl Eq for ActorPath {}

impl core::hash::Hash for ActorPath {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.uid.hash(state);
        self.address.authority.hash(state);
        self.elements.hash(state);
    }
}

impl fmt::Display for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.elements)?;
        if !self.uid.is_any() {
            write!(f, "#{}", self.uid)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ActorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a path, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Byte offset of the fault in the text.
    pub position: usize,
    /// What was expected there.
    pub expected: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.position, self.expected)
    }
}

impl core::error::Error for PathError {}

impl core::str::FromStr for ActorPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let fault = |position, expected: &str| PathError { position, expected: expected.to_string() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| fault(0, "a scheme and `://`"))?;
        let at = text.len() - rest.len();
        let slash = rest.find('/').ok_or_else(|| fault(text.len(), "a path beginning with `/`"))?;
        let (node, path) = rest.split_at(slash);
        let (system, authority) = match node.split_once('@') {
            None => (node, None),
            Some((system, authority)) => {
                let (host, port) = authority.rsplit_once(':').ok_or_else(|| fault(at, "host:port"))?;
                let port = port.parse().map_err(|_| fault(at, "a port"))?;
                (system, Some(Authority::new(host.trim_start_matches('[').trim_end_matches(']'), port)))
            }
        };
        let (elements, uid) = match path.split_once('#') {
            None => (path, ActorUid::ANY),
            Some((p, uid)) => (p, ActorUid::new(uid.parse().map_err(|_| fault(at + slash, "a uid"))?)),
        };
        let address = Address { scheme: ActorPathScheme::from_name(scheme), system: Arc::from(system), authority };
        Ok(Self::new(address, elements, uid))
    }
}
