//! Where nodes live: schemes, authorities, and how their texts are read.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;

/// Most bytes of a system name and a host together (limit L11).
pub const SYSTEM_AND_HOST_BYTES_MAX: usize = 255;

/// Most bytes of a scheme.
pub const SCHEME_BYTES_MAX: usize = 64;

/// Why a text is not a path, an authority or a name, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Byte offset of the fault in the text; its length when something is missing at the end.
    pub position: usize,
    /// What was expected there.
    pub expected: String,
}

impl PathError {
    pub(crate) fn new(position: usize, expected: impl Into<String>) -> Self {
        Self { position, expected: expected.into() }
    }

    /// The same fault in a text that contains the read one from byte `offset` on.
    pub(crate) fn shifted(mut self, offset: usize) -> Self {
        self.position += offset;
        self
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.position, self.expected)
    }
}

impl core::error::Error for PathError {}

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
    /// `protoactor`: gRPC, as protoactor-go speaks it. An address of this scheme has no system name, for that wire
    /// knows none: `protoactor://host:port/user/name`.
    Protoactor,
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
            Self::Protoactor => "protoactor",
            Self::Other(name) => name,
        }
    }

    /// The scheme with this text, taken as it is. [`FromStr`] checks the text and lowers its case.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "fraktor" => Self::Fraktor,
            "fraktor.tcp" => Self::FraktorTcp,
            "fraktor.tls" => Self::FraktorTls,
            "fraktor.loopback" => Self::FraktorLoopback,
            "protoactor" => Self::Protoactor,
            other => Self::Other(Arc::from(other)),
        }
    }

    /// Whether addresses of this scheme name an actor system: all but those of [`Self::Protoactor`].
    #[must_use]
    pub const fn names_system(&self) -> bool {
        !matches!(self, Self::Protoactor)
    }
}

impl FromStr for ActorPathScheme {
    type Err = PathError;

    /// Reads a scheme: a letter, then letters, digits, `+`, `-` and `.`, at most [`SCHEME_BYTES_MAX`] bytes.
    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > SCHEME_BYTES_MAX {
            return Err(PathError::new(
                SCHEME_BYTES_MAX,
                format!("a scheme of at most {SCHEME_BYTES_MAX} bytes"),
            ));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(PathError::new(0, "a scheme beginning with a letter"));
        }
        if let Some(at) = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))) {
            return Err(PathError::new(at, "a letter, a digit, `+`, `-` or `.` in the scheme"));
        }
        Ok(Self::from_name(&text.to_ascii_lowercase()))
    }
}

impl fmt::Display for ActorPathScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `host:port` in its one canonical form, the key under which a node is reached.
///
/// Canonical means: names in lower case and without the dot at their end; IPv6 in the shortest form of RFC
/// 5952, kept without brackets and printed with them; IPv6 that maps an IPv4 address as that IPv4 address. So
/// equal addresses compare equal however they were written. No name is ever resolved here: `localhost` and
/// `127.0.0.1` are two authorities.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Arc<str>,
    port: u16,
}

impl Authority {
    /// The authority of `host` and `port`, canonical.
    ///
    /// The host is not checked: one that is neither a name nor an address is kept as it is, in lower case, and
    /// its text does not parse. Use [`try_new`](Self::try_new) for text from outside.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: Arc::from(canonical_host(host)), port }
    }

    /// The authority of `host` and `port`, canonical, if `host` is a name or an IP address.
    ///
    /// # Errors
    /// With the position in `host` of what is wrong.
    pub fn try_new(host: &str, port: u16) -> Result<Self, PathError> {
        check_host(host)?;
        Ok(Self::new(host, port))
    }

    /// The host, without brackets.
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

/// Removes the brackets of an IPv6 host, if there are both.
fn unbracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// An IPv6 address and its zone; the zone begins with `%` or is empty.
fn ipv6(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (address, zone) = host.split_at(host.find('%').unwrap_or(host.len()));
    Some((address.parse().ok()?, zone))
}

fn canonical_host(host: &str) -> String {
    let host = unbracketed(host).unwrap_or(host);
    if let Some((address, zone)) = ipv6(host) {
        return match address.to_ipv4_mapped() {
            Some(v4) if zone.is_empty() => v4.to_string(),
            // A zone names a network interface, and those tell upper from lower case.
            _ => format!("{address}{zone}"),
        };
    }
    let mut name = host.to_ascii_lowercase();
    while name.ends_with('.') {
        name.pop();
    }
    name
}

fn check_host(host: &str) -> Result<(), PathError> {
    let (inner, offset) = match unbracketed(host) {
        Some(inner) => (inner, 1),
        None => (host, 0),
    };
    if offset == 1 || host.contains(':') {
        let Some((_, zone)) = ipv6(inner) else {
            return Err(PathError::new(offset, "an IPv6 address"));
        };
        let zone_at = offset + inner.len() - zone.len();
        return match zone.strip_prefix('%') {
            None => Ok(()),
            Some("") => Err(PathError::new(zone_at + 1, "the name of an interface")),
            Some(name) => {
                match name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
                    None => Ok(()),
                    Some(at) => Err(PathError::new(zone_at + 1 + at, "a letter, a digit, `-`, `_` or `.`")),
                }
            }
        };
    }
    if host.len() > SYSTEM_AND_HOST_BYTES_MAX {
        let expected = format!("a host of at most {SYSTEM_AND_HOST_BYTES_MAX} bytes");
        return Err(PathError::new(SYSTEM_AND_HOST_BYTES_MAX, expected));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut label = 0;
    for (at, c) in name.char_indices() {
        match c {
            '.' if label == 0 => return Err(PathError::new(at, "a host name without empty labels")),
            '.' => label = 0,
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') => label += 1,
            _ => return Err(PathError::new(at, "a letter, a digit, `-`, `_` or `.` in the host")),
        }
    }
    if label == 0 { Err(PathError::new(name.len(), "a host")) } else { Ok(()) }
}

/// A decimal number in its one spelling: digits only, no sign, no zero in front.
pub(crate) fn number<T: FromStr>(text: &str, expected: &str) -> Result<T, PathError> {
    if let Some(at) = text.find(|c: char| !c.is_ascii_digit()) {
        return Err(PathError::new(at, expected));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(PathError::new(0, format!("{expected} without a zero in front")));
    }
    text.parse().map_err(|_| PathError::new(0, expected))
}

impl FromStr for Authority {
    type Err = PathError;

    /// Reads `host:port`; an IPv6 host stands in brackets.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let colon = text.rfind(':').ok_or_else(|| PathError::new(text.len(), "`:` and a port"))?;
        let (host, port) = (&text[..colon], &text[colon + 1..]);
        if host.contains(':') && !host.starts_with('[') {
            return Err(PathError::new(0, "brackets around an IPv6 address"));
        }
        check_host(host)?;
        let port = number(port, "a port from 0 to 65535").map_err(|error| error.shifted(colon + 1))?;
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
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
    /// The name of the actor system; empty in an address of the scheme `protoactor`.
    pub system: Arc<str>,
    /// Where it is reached; `None` inside a process without remoting.
    pub authority: Option<Authority>,
}

impl Address {
    /// The address of a system of this process that other nodes cannot reach.
    #[must_use]
    pub fn local(system: &str) -> Self {
        Self { scheme: ActorPathScheme::Fraktor, system: Arc::from(system), authority: None }
    }
}

/// Checks the name of an actor system: a letter or digit, then letters, digits, `-`, `_` and `.`, all ASCII.
///
/// # Errors
/// With the position in `name` of what is wrong.
pub fn validate_system_name(name: &str) -> Result<(), PathError> {
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(PathError::new(0, "a system name beginning with a letter or a digit"));
    }
    if let Some(at) = name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(PathError::new(at, "a letter, a digit, `-`, `_` or `.` in the system name"));
    }
    if name.len() > SYSTEM_AND_HOST_BYTES_MAX {
        let expected = format!("a system name of at most {SYSTEM_AND_HOST_BYTES_MAX} bytes");
        return Err(PathError::new(SYSTEM_AND_HOST_BYTES_MAX, expected));
    }
    Ok(())
}

/// Reads what stands between the scheme and the path: `system` or `system@host:port`; for a scheme without system
/// names `host:port`, or nothing, which is this process.
pub(crate) fn parse_node(
    scheme: &ActorPathScheme,
    text: &str,
) -> Result<(Arc<str>, Option<Authority>), PathError> {
    if !scheme.names_system() {
        if let Some(at) = text.find('@') {
            let expected = format!("`host:port`, for addresses of `{scheme}` name no system");
            return Err(PathError::new(at, expected));
        }
        let authority = if text.is_empty() { None } else { Some(text.parse()?) };
        return Ok((Arc::from(""), authority));
    }
    let Some((system, authority)) = text.split_once('@') else {
        if text.parse::<Authority>().is_ok() {
            return Err(PathError::new(0, "the name of a system and `@` before `host:port`"));
        }
        validate_system_name(text)?;
        return Ok((Arc::from(text), None));
    };
    validate_system_name(system)?;
    let offset = system.len() + 1;
    let authority: Authority = authority.parse().map_err(|error: PathError| error.shifted(offset))?;
    if system.len() + authority.host().len() > SYSTEM_AND_HOST_BYTES_MAX {
        let expected = format!("system name and host of at most {SYSTEM_AND_HOST_BYTES_MAX} bytes together");
        return Err(PathError::new(offset, expected));
    }
    Ok((Arc::from(system), Some(authority)))
}

/// Splits `scheme://rest`; the second part of the result is the offset of the rest.
pub(crate) fn parse_scheme(text: &str) -> Result<(ActorPathScheme, usize), PathError> {
    let Some(end) = text.find("://") else {
        let scheme_end = text
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(text.len());
        return Err(PathError::new(scheme_end, "`://` after the scheme"));
    };
    Ok((text[..end].parse()?, end + "://".len()))
}

impl FromStr for Address {
    type Err = PathError;

    /// Reads `scheme://system` or `scheme://system@host:port`, or `protoactor://host:port`.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let (scheme, at) = parse_scheme(text)?;
        let (system, authority) = parse_node(&scheme, &text[at..]).map_err(|error| error.shifted(at))?;
        Ok(Self { scheme, system, authority })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.authority, self.scheme.names_system()) {
            (None, true) => write!(f, "{}://{}", self.scheme, self.system),
            (Some(authority), true) => write!(f, "{}://{}@{authority}", self.scheme, self.system),
            (None, false) => write!(f, "{}://", self.scheme),
            (Some(authority), false) => write!(f, "{}://{authority}", self.scheme),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shortens text from a peer for an error and makes it harmless to print: at most 256 bytes, escaped.
pub(crate) fn printable(text: &str) -> String {
    const BYTES_MAX: usize = 256;
    let mut out = String::new();
    for c in text.chars() {
        let before = out.len();
        out.extend(c.escape_debug());
        if out.len() > BYTES_MAX {
            out.truncate(before);
            return out + "..";
        }
    }
    if out == text { text.to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Covers: S118
    #[test]
    fn every_spelling_of_an_address_is_one_authority() {
        for (name, spellings, canonical) in [
            ("case", &["Node-1.Example.COM:80", "node-1.example.com:80"][..], "node-1.example.com:80"),
            ("trailing dot", &["node.example.:80", "NODE.example:80"], "node.example:80"),
            ("ipv4", &["10.0.0.1:80", "[::ffff:10.0.0.1]:80", "[::FFFF:a00:1]:80"], "10.0.0.1:80"),
            (
                "ipv6",
                &["[2001:DB8::1]:80", "[2001:db8:0:0:0:0:0:1]:80", "[2001:0db8::0001]:80"],
                "[2001:db8::1]:80",
            ),
            ("loopback", &["[::1]:80", "[0:0:0:0:0:0:0:1]:80"], "[::1]:80"),
            ("zone", &["[FE80::1%eth0]:80", "[fe80:0::1%eth0]:80"], "[fe80::1%eth0]:80"),
        ] {
            for spelling in spellings {
                let parsed: Authority =
                    spelling.parse().unwrap_or_else(|e| panic!("{name}: {spelling}: {e}"));
                assert_eq!(parsed.to_string(), canonical, "{name}");
                assert_eq!(parsed, canonical.parse().unwrap(), "{name}");
                let (host, _) = spelling.rsplit_once(':').unwrap();
                assert_eq!(Authority::new(host, 80), parsed, "{name}: built from parts");
            }
        }
        assert_eq!(Authority::new("::1", 1), Authority::new("[::1]", 1), "brackets are not part of a host");
        assert_ne!(Authority::new("fe80::1%a", 1), Authority::new("fe80::1%A", 1), "interfaces have a case");
        assert_ne!(Authority::new("localhost", 1), Authority::new("127.0.0.1", 1), "names are not resolved");
    }

    /// Covers: S120
    #[test]
    fn a_malformed_authority_is_refused_at_the_fault() {
        for (text, position) in [
            ("", 0),
            ("host", 4),
            (":80", 0),
            (".:80", 0),
            ("a..b:80", 2),
            ("ho st:80", 2),
            ("hö:80", 1),
            ("host:", 5),
            ("host:+1", 5),
            ("host:8a", 6),
            ("host:080", 5),
            ("host:65536", 5),
            ("::1:80", 0),
            ("[::1:80", 0),
            ("[::g]:80", 1),
            ("[host]:80", 1),
            ("[]:80", 1),
            ("[fe80::1%]:80", 9),
            ("[fe80::1%a/b]:80", 10),
            ("a/b:80", 1),
            ("a@b:80", 1),
        ] {
            let error = text.parse::<Authority>().expect_err(text);
            // A number that is empty or too large is wrong as a whole, from its first digit.
            assert_eq!(error.position, position, "{text}: {error}");
        }
        assert_eq!("h:0".parse::<Authority>().unwrap().port(), 0);
        assert_eq!("h:65535".parse::<Authority>().unwrap().port(), 65535);
    }

    /// Covers: S120
    #[test]
    fn addresses_are_read_and_refused_at_the_fault() {
        for text in [
            "fraktor://a",
            "fraktor.tcp://a-b_c.d@h:1",
            "x+y.z-1://9@[::1]:1",
            "protoactor://h:1",
            "protoactor://[::1]:1",
            "protoactor://",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for (text, position) in [
            ("", 0),
            ("fraktor", 7),
            ("fraktor:/a", 7),
            ("1x://a", 0),
            ("a_b://a", 1),
            ("fraktor://", 10),
            ("fraktor://-a", 10),
            ("fraktor://a b", 11),
            ("fraktor://a@", 12),
            ("fraktor://@h:1", 10),
            ("fraktor://a@b@h:1", 13),
            ("protoactor://a@h:1", 14),
            ("protoactor://h", 14),
        ] {
            assert_eq!(text.parse::<Address>().expect_err(text).position, position, "{text}");
        }
        let error =
            "fraktor.tcp://10.0.0.2:25520".parse::<Address>().expect_err("names no system").to_string();
        assert!(error.contains("name of a system"), "{error}");
        assert_eq!("FRAKTOR.tcp://a@h:1".parse::<Address>().unwrap().scheme, ActorPathScheme::FraktorTcp);
    }

    #[test]
    fn system_and_host_share_255_bytes() {
        for (name, system, host, fits) in [
            ("below", 100, 154, true),
            ("at", 100, 155, true),
            ("above", 100, 156, false),
            ("system alone", 256, 1, false),
        ] {
            let text = format!("fraktor.tcp://{}@{}:1", "s".repeat(system), "h".repeat(host));
            assert_eq!(text.parse::<Address>().is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn text_of_a_peer_is_escaped_and_cut() {
        for (given, expected) in [("shop@1", "shop@1"), ("a\nb\u{1b}[2J", "a\\nb\\u{1b}[2J")] {
            assert_eq!(printable(given), expected);
        }
        assert_eq!(printable(&"x".repeat(256)).len(), 256);
        assert_eq!(printable(&"x".repeat(257)), "x".repeat(256) + "..");
    }

    proptest! {
        /// Covers: S120
        #[test]
        fn any_text_is_read_or_refused_inside_the_text(text in ".*") {
            if let Err(error) = text.parse::<Authority>() {
                prop_assert!(error.position <= text.len());
            }
            if let Err(error) = text.parse::<Address>() {
                prop_assert!(error.position <= text.len());
            }
        }

        /// Covers: S118
        #[test]
        fn the_canonical_form_is_a_fixed_point(text in "(\\[[0-9a-fA-F:.%]{0,20}\\]|[A-Za-z0-9.-]{0,12}):[0-9]{1,5}") {
            if let Ok(authority) = text.parse::<Authority>() {
                let again: Authority = authority.to_string().parse().unwrap();
                prop_assert_eq!(&again, &authority);
                prop_assert_eq!(again.to_string(), authority.to_string());
            }
        }
    }
}
