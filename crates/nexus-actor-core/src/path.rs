//! Where actors live: authorities, paths and uids.
//!
//! # Names
//! A path is made of elements, each after a `/`. An element is one or more of the ASCII letters and digits and
//! ``- _ . * $ + : @ & = , ! ~ ' ; ( )``, or of `%` and two upper-case hex digits for one byte of UTF-8 of any
//! other character. Every name has exactly one spelling, so paths compare as bytes: a character that may stand
//! for itself is not escaped, and `/` cannot be escaped at all. The names `.` and `..` are spelled `%2E` and
//! `%2E%2E` (no path is relative), and `%-` stands for the empty name, which only an actor of another product can
//! have. [`encode_name`] and [`decode_name`] go between a name and its spelling.
//!
//! Names beginning with `$` are the system's: [`validate_name`], which an application's names must pass, refuses
//! them, and [`ActorPath`] carries them.
//!
//! # Limits
//! Text is refused above [`PATH_BYTES_MAX`] bytes or [`PATH_ELEMENTS_MAX`] elements of path, and above
//! [`SYSTEM_AND_HOST_BYTES_MAX`] bytes of system name and host together (limit L11).

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

pub use crate::address::{
    ActorPathScheme, Address, Authority, PathError, SCHEME_BYTES_MAX, SYSTEM_AND_HOST_BYTES_MAX,
    validate_system_name,
};
use crate::address::{number, parse_node, parse_scheme};

/// Most bytes of a path below the root, without address and uid (limit L11).
pub const PATH_BYTES_MAX: usize = 512;

/// Most elements of a path (limit L11).
pub const PATH_ELEMENTS_MAX: usize = 32;

/// How the empty name is spelled.
const EMPTY_NAME: &str = "%-";

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

impl FromStr for ActorUid {
    type Err = PathError;

    /// Reads the decimal digits of a 64-bit number, without a zero in front.
    fn from_str(text: &str) -> Result<Self, PathError> {
        number(text, "the digits of a 64-bit uid").map(Self)
    }
}

/// Whether `c` stands for itself in an element.
const fn is_plain(c: u8) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            b'-' | b'_'
                | b'.'
                | b'*'
                | b'$'
                | b'+'
                | b':'
                | b'@'
                | b'&'
                | b'='
                | b','
                | b'!'
                | b'~'
                | b'\''
                | b';'
                | b'('
                | b')'
        )
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Checks one element of a path in its spelling; those of the system pass as well. The rules are this module's.
///
/// # Errors
/// With the position in `element` of what is wrong.
pub fn validate_element(element: &str) -> Result<(), PathError> {
    if element.is_empty() {
        return Err(PathError::new(0, "a name"));
    }
    if matches!(element, "." | "..") {
        return Err(PathError::new(0, "a name other than `.` and `..`, for no path is relative"));
    }
    if element.len() >= PATH_BYTES_MAX {
        return Err(PathError::new(
            PATH_BYTES_MAX - 1,
            format!("a name of less than {PATH_BYTES_MAX} bytes"),
        ));
    }
    if matches!(element, EMPTY_NAME | "%2E" | "%2E%2E") {
        return Ok(());
    }
    let bytes = element.as_bytes();
    let mut at = 0;
    while let Some(&c) = bytes.get(at) {
        if is_plain(c) {
            at += 1;
            continue;
        }
        if c != b'%' {
            return Err(PathError::new(
                at,
                "a letter, a digit or one of -_.*$+:@&=,!~';() or `%` and two hex digits",
            ));
        }
        // A run of escapes is one piece of UTF-8.
        let start = at;
        let mut run = Vec::new();
        while bytes.get(at) == Some(&b'%') {
            let (Some(high), Some(low)) =
                (bytes.get(at + 1).copied().and_then(hex), bytes.get(at + 2).copied().and_then(hex))
            else {
                return Err(PathError::new(at, "`%` and two upper-case hex digits"));
            };
            let byte = high << 4 | low;
            if is_plain(byte) {
                return Err(PathError::new(at, "a character that may stand for itself, not escaped"));
            }
            if byte == b'/' {
                return Err(PathError::new(at, "a name without `/`, escaped or not"));
            }
            run.push(byte);
            at += 3;
        }
        if let Err(error) = core::str::from_utf8(&run) {
            return Err(PathError::new(start + 3 * error.valid_up_to(), "escapes that are UTF-8"));
        }
    }
    Ok(())
}

/// Checks a name that an application gives to an actor: an element that does not begin with `$`.
///
/// # Errors
/// With the position in `name` of what is wrong.
pub fn validate_name(name: &str) -> Result<(), PathError> {
    if name.starts_with('$') {
        return Err(PathError::new(0, "a name not beginning with `$`, for those are the system's"));
    }
    if name == EMPTY_NAME {
        return Err(PathError::new(0, "a name"));
    }
    validate_element(name)
}

/// The spelling of `name` as an element, escaping what may not stand for itself.
///
/// A `/` is escaped like any other character, and an element with an escaped `/` is refused where paths are read:
/// a name never contains one.
#[must_use]
pub fn encode_name(name: &str) -> Cow<'_, str> {
    match name {
        "" => return Cow::Borrowed(EMPTY_NAME),
        "." => return Cow::Borrowed("%2E"),
        ".." => return Cow::Borrowed("%2E%2E"),
        _ => {}
    }
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    Cow::Owned(out)
}

/// The name that `element` spells. An element that is not spelled by the rules is its own name.
#[must_use]
pub fn decode_name(element: &str) -> Cow<'_, str> {
    if element == EMPTY_NAME {
        return Cow::Borrowed("");
    }
    if !element.contains('%') || validate_element(element).is_err() {
        return Cow::Borrowed(element);
    }
    let mut out = Vec::with_capacity(element.len());
    let mut bytes = element.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex).unwrap_or_default();
                let low = bytes.next().and_then(hex).unwrap_or_default();
                out.push(high << 4 | low);
            }
            plain => out.push(plain),
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(element), Cow::Owned)
}

/// Checks a path below the root: `/`, or elements each after a `/`.
///
/// # Errors
/// With the position in `elements` of what is wrong.
pub fn validate_elements(elements: &str) -> Result<(), PathError> {
    let Some(inner) = elements.strip_prefix('/') else {
        return Err(PathError::new(0, "a path beginning with `/`"));
    };
    if inner.is_empty() {
        return Ok(());
    }
    if elements.len() > PATH_BYTES_MAX {
        return Err(PathError::new(PATH_BYTES_MAX, format!("a path of at most {PATH_BYTES_MAX} bytes")));
    }
    let mut at = 1;
    for (count, element) in inner.split('/').enumerate() {
        if count == PATH_ELEMENTS_MAX {
            return Err(PathError::new(at, format!("a path of at most {PATH_ELEMENTS_MAX} elements")));
        }
        validate_element(element).map_err(|error| error.shifted(at))?;
        at += element.len() + 1;
    }
    Ok(())
}

/// Reads `/elements` or `/elements#uid`.
fn parse_elements(text: &str) -> Result<(&str, ActorUid), PathError> {
    let (elements, uid) = match text.split_once('#') {
        None => (text, ActorUid::ANY),
        Some((elements, uid)) => {
            (elements, uid.parse().map_err(|error: PathError| error.shifted(elements.len() + 1))?)
        }
    };
    validate_elements(elements)?;
    Ok((elements, uid))
}

/// The whole name of an actor: address, path below the root, and uid.
///
/// Prints as `fraktor.tcp://system@host:port/user/name#uid`; the uid is left out when it is
/// [`ActorUid::ANY`]. Two paths are equal when system, authority, path and uid are; the scheme only says how to
/// get there. Text that parses prints and parses back to an equal path.
#[derive(Clone)]
pub struct ActorPath {
    address: Address,
    elements: Arc<str>,
    uid: ActorUid,
}

impl ActorPath {
    /// The path `elements` (`/user/a/b`) at `address`, which must follow the rules of this module: nothing is
    /// checked here. Use [`checked`](Self::checked) or [`FromStr`] for text from outside.
    #[must_use]
    pub fn new(address: Address, elements: impl Into<Arc<str>>, uid: ActorUid) -> Self {
        Self { address, elements: elements.into(), uid }
    }

    /// The path `elements` (`/user/a/b`) at `address`.
    ///
    /// # Errors
    /// With the position in `elements` of what breaks the rules or limits of this module.
    pub fn checked(
        address: Address,
        elements: impl Into<Arc<str>>,
        uid: ActorUid,
    ) -> Result<Self, PathError> {
        let elements = elements.into();
        validate_elements(&elements)?;
        Ok(Self { address, elements, uid })
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

    /// The elements one by one, from the root down; none for the root itself.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.elements.split('/').filter(|element| !element.is_empty())
    }

    /// The last element; empty for the root itself.
    #[must_use]
    pub fn name(&self) -> &str {
        self.elements.rsplit('/').next().unwrap_or_default()
    }

    /// The path one element up, of whichever incarnation lives there; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.name().is_empty() {
            return None;
        }
        let (above, _) = self.elements.rsplit_once('/')?;
        Some(Self::new(self.address.clone(), if above.is_empty() { "/" } else { above }, ActorUid::ANY))
    }

    /// The path one element down.
    ///
    /// # Errors
    /// When `element` breaks the rules or the result the limits of this module; the position is one in `element`
    /// or, for a path grown too long, in the path.
    pub fn child(&self, element: &str, uid: ActorUid) -> Result<Self, PathError> {
        validate_element(element)?;
        let above = self.elements.trim_end_matches('/');
        Self::checked(self.address.clone(), format!("{above}/{element}"), uid)
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

impl FromStr for ActorPath {
    type Err = PathError;

    /// Reads `scheme://system[@host:port]/elements[#uid]` or `protoactor://[host:port]/elements[#uid]`.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let (scheme, node_at) = parse_scheme(text)?;
        let path_at = text[node_at..]
            .find('/')
            .map(|at| node_at + at)
            .ok_or_else(|| PathError::new(text.len(), "a path beginning with `/`"))?;
        let (system, authority) =
            parse_node(&scheme, &text[node_at..path_at]).map_err(|error| error.shifted(node_at))?;
        let (elements, uid) = parse_elements(&text[path_at..]).map_err(|error| error.shifted(path_at))?;
        Ok(Self::new(Address { scheme, system, authority }, elements, uid))
    }
}

/// A path in parts, of which some may be missing: what names a node to associate with, or an actor there.
///
/// Read from `host:port`, `scheme://system@host:port` or a whole path. A bare authority is of the scheme
/// `fraktor.tcp` and leaves the system's name open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorPathParts {
    scheme: ActorPathScheme,
    system: Option<Arc<str>>,
    authority: Option<Authority>,
    elements: Arc<str>,
    uid: ActorUid,
}

impl ActorPathParts {
    /// The parts of `host:port`.
    ///
    /// # Errors
    /// With the position in `authority` of what is wrong.
    pub fn from_authority(authority: &str) -> Result<Self, PathError> {
        Ok(Self::from(authority.parse::<Authority>()?))
    }

    /// These parts with another scheme.
    #[must_use]
    pub fn with_scheme(mut self, scheme: ActorPathScheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// These parts with the name of the actor system.
    #[must_use]
    pub fn with_system(mut self, system: impl Into<Arc<str>>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// How to get there.
    #[must_use]
    pub const fn scheme(&self) -> &ActorPathScheme {
        &self.scheme
    }

    /// The name of the actor system, if given.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Where the node is reached, if given.
    #[must_use]
    pub const fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The path below the root; `/` when only a node was given.
    #[must_use]
    pub fn elements(&self) -> &str {
        &self.elements
    }

    /// The incarnation, or [`ActorUid::ANY`].
    #[must_use]
    pub const fn uid(&self) -> ActorUid {
        self.uid
    }

    /// The node's address; `default_system` is its system's name when these parts leave it open and the scheme
    /// has such names.
    #[must_use]
    pub fn address(&self, default_system: &str) -> Address {
        let system = match &self.system {
            _ if !self.scheme.names_system() => Arc::from(""),
            Some(system) => system.clone(),
            None => Arc::from(default_system),
        };
        Address { scheme: self.scheme.clone(), system, authority: self.authority.clone() }
    }

    /// The actor's path; `default_system` is its system's name when these parts leave it open.
    #[must_use]
    pub fn path(&self, default_system: &str) -> ActorPath {
        ActorPath::new(self.address(default_system), self.elements.clone(), self.uid)
    }
}

impl From<Authority> for ActorPathParts {
    fn from(authority: Authority) -> Self {
        Self {
            scheme: ActorPathScheme::FraktorTcp,
            system: None,
            authority: Some(authority),
            elements: Arc::from("/"),
            uid: ActorUid::ANY,
        }
    }
}

impl From<&Address> for ActorPathParts {
    fn from(address: &Address) -> Self {
        Self {
            scheme: address.scheme.clone(),
            system: address.scheme.names_system().then(|| address.system.clone()),
            authority: address.authority.clone(),
            elements: Arc::from("/"),
            uid: ActorUid::ANY,
        }
    }
}

impl From<&ActorPath> for ActorPathParts {
    fn from(path: &ActorPath) -> Self {
        Self { elements: path.elements.clone(), uid: path.uid, ..Self::from(path.address()) }
    }
}

impl FromStr for ActorPathParts {
    type Err = PathError;

    /// Reads `host:port`, `scheme://system[@host:port]` or `scheme://system[@host:port]/elements[#uid]`; of the
    /// scheme `protoactor` without a system's name.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let Some(scheme_end) = text.find("://") else { return Self::from_authority(text) };
        if text[scheme_end + "://".len()..].contains('/') {
            text.parse::<ActorPath>().map(|path| Self::from(&path))
        } else {
            text.parse::<Address>().map(|address| Self::from(&address))
        }
    }
}

impl fmt::Display for ActorPathParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.system, &self.authority) {
            _ if !self.scheme.names_system() => fmt::Display::fmt(&self.address(""), f)?,
            (None, None) => write!(f, "{}://", self.scheme)?,
            (None, Some(authority)) => fmt::Display::fmt(authority, f)?,
            (Some(system), None) => write!(f, "{}://{system}", self.scheme)?,
            (Some(system), Some(authority)) => write!(f, "{}://{system}@{authority}", self.scheme)?,
        }
        if &*self.elements != "/" || !self.uid.is_any() {
            f.write_str(&self.elements)?;
        }
        if !self.uid.is_any() {
            write!(f, "#{}", self.uid)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use core::hash::BuildHasher;
    use proptest::prelude::*;

    fn parse(text: &str) -> ActorPath {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Covers: S120
    #[test]
    fn a_path_prints_and_parses_back() {
        for text in [
            "fraktor://shop/",
            "fraktor://shop/user",
            "fraktor.tcp://shop@10.0.0.2:25520/user/counter",
            "fraktor.tcp://shop@[2001:db8::1]:25520/user/a/b#18446744073709551615",
            "fraktor.loopback://s@h:0/user/$a/-_.*$+:@&=,!~';()#1",
            "mine+x://s@h:1/temp/%E6%97%A5%20%25#7",
            "fraktor.tls://s@h:1/user/%2E%2E/%-/%2E/...",
            "protoactor://10.0.0.2:8090/user/echo",
            "protoactor://[::1]:8090/user/future$1#7",
            "protoactor:///user/echo",
            "protoactor:///",
        ] {
            let path = parse(text);
            assert_eq!(path.to_string(), text);
            assert_eq!(path, parse(&path.to_string()));
        }
    }

    /// Covers: S120
    #[test]
    fn a_malformed_path_is_refused_at_the_fault() {
        let long = format!("fraktor://s/{}", "x".repeat(512));
        let deep = format!("fraktor://s{}", "/x".repeat(33));
        for (text, position) in [
            ("", 0),
            ("nonsense", 8),
            ("://s/user", 0),
            ("fraktor://s", 11),
            ("fraktor:///user", 10),
            ("fraktor://s@/user", 12),
            ("fraktor://s@h/user", 13),
            ("fraktor://s@h:x/user", 14),
            ("fraktor://s@h:1", 15),
            ("fraktor://s@h:1//user", 16),
            ("fraktor://s@h:1/user/", 21),
            ("fraktor://s@h:1/user/./a", 21),
            ("fraktor://s@h:1/user/../a", 21),
            ("fraktor://s@h:1/user/a b", 22),
            ("fraktor://s@h:1/user/ä", 21),
            ("fraktor://s@h:1/user/a?b", 22),
            ("fraktor://s@h:1/user/a%2", 22),
            ("fraktor://s@h:1/user/a%2f", 22),
            ("fraktor://s@h:1/user/a%zz", 22),
            ("fraktor://s@h:1/user/a%2F", 22),
            ("fraktor://s@h:1/user/a%41", 22),
            ("fraktor://s@h:1/user/a%2E", 22),
            ("fraktor://s@h:1/user/a%C3", 22),
            ("fraktor://s@h:1/user/%20%C3x", 24),
            ("fraktor://s@h:1/user/a%-", 22),
            ("fraktor://s@h:1/user/a#", 23),
            ("fraktor://s@h:1/user/a#x", 23),
            ("fraktor://s@h:1/user/a#1x", 24),
            ("fraktor://s@h:1/user/a#-1", 23),
            ("protoactor://s@h:1/user/a", 14),
            ("protoactor://s/user/a", 14),
            ("protoactor://h:1", 16),
            ("protoactor://h:x/user/a", 15),
            ("fraktor://s@h:1/user/a#01", 23),
            ("fraktor://s@h:1/user/a#1#2", 24),
            ("fraktor://s@h:1/user/a#18446744073709551616", 23),
            (&long, 11 + 512),
            (&deep, 11 + 65),
        ] {
            let error = text.parse::<ActorPath>().expect_err(text);
            assert_eq!(error.position, position, "{text}: {error}");
        }
    }

    /// Covers: S118
    #[test]
    fn equal_addresses_make_equal_paths_whatever_the_scheme() {
        let hasher = hashbrown::DefaultHashBuilder::default();
        for (a, b, equal) in [
            ("fraktor.tcp://s@HOST.:1/user/a#1", "fraktor.tls://s@host:1/user/a#1", true),
            ("fraktor.tcp://s@[::ffff:1.2.3.4]:1/user/a", "fraktor.tcp://s@1.2.3.4:1/user/a", true),
            ("fraktor.tcp://s@h:1/user/a#1", "fraktor.tcp://s@h:1/user/a", false),
            ("fraktor.tcp://s@h:1/user/a", "fraktor.tcp://s@h:1/user/A", false),
            ("fraktor.tcp://s@h:1/user/a", "fraktor.tcp://t@h:1/user/a", false),
            ("fraktor.tcp://s@h:1/user/a", "fraktor.tcp://s@h:2/user/a", false),
        ] {
            let (a, b) = (parse(a), parse(b));
            assert_eq!(a == b, equal, "{a} {b}");
            if equal {
                assert_eq!(hasher.hash_one(&a), hasher.hash_one(&b), "{a} {b}");
            }
        }
    }

    #[test]
    fn an_application_may_not_take_the_systems_names() {
        for (name, allowed) in [
            ("counter", true),
            ("a$b", true),
            ("%20", true),
            ("...", true),
            ("$a", false),
            ("$", false),
            ("", false),
            ("%-", false),
            (".", false),
            ("a/b", false),
            ("a#1", false),
            ("a b", false),
        ] {
            assert_eq!(validate_name(name).is_ok(), allowed, "{name}");
        }
    }

    #[test]
    fn path_limits_hold_below_at_and_above() {
        let address = Address::local("s");
        for (name, elements, fits) in [
            ("511 bytes", format!("/{}", "x".repeat(510)), true),
            ("512 bytes", format!("/{}", "x".repeat(511)), true),
            ("513 bytes", format!("/{}", "x".repeat(512)), false),
            ("513 bytes in two", format!("/{}/{}", "x".repeat(255), "x".repeat(256)), false),
            ("31 elements", "/x".repeat(31), true),
            ("32 elements", "/x".repeat(32), true),
            ("33 elements", "/x".repeat(33), false),
        ] {
            assert_eq!(ActorPath::checked(address.clone(), elements, ActorUid::ANY).is_ok(), fits, "{name}");
        }
        let full = ActorPath::new(address, "/x".repeat(32), ActorUid::ANY);
        assert!(full.child("y", ActorUid::ANY).is_err());
    }

    #[test]
    fn parents_and_children_are_one_element_apart() {
        let root = parse("fraktor://s/");
        let user = root.child("user", ActorUid::new(1)).unwrap();
        let leaf = user.child("a", ActorUid::new(2)).unwrap();
        assert_eq!(leaf.to_string(), "fraktor://s/user/a#2");
        assert_eq!(leaf.name(), "a");
        assert_eq!(leaf.segments().collect::<Vec<_>>(), ["user", "a"]);
        assert_eq!(leaf.parent(), Some(user.clone().with_uid(ActorUid::ANY)));
        assert_eq!(user.parent(), Some(root.clone()));
        assert_eq!((root.parent(), root.name(), root.segments().count()), (None, "", 0));
    }

    /// Covers: RT-43
    #[test]
    fn parts_are_read_from_an_authority_an_address_and_a_path() {
        for (text, system, authority, elements, printed) in [
            ("Host:1", None, Some("host:1"), "/", "host:1"),
            ("[::1]:1", None, Some("[::1]:1"), "/", "[::1]:1"),
            ("fraktor.tls://s@h:1", Some("s"), Some("h:1"), "/", "fraktor.tls://s@h:1"),
            ("fraktor://s", Some("s"), None, "/", "fraktor://s"),
            (
                "fraktor.tcp://s@h:1/user/a#3",
                Some("s"),
                Some("h:1"),
                "/user/a",
                "fraktor.tcp://s@h:1/user/a#3",
            ),
            ("protoactor://h:1", None, Some("h:1"), "/", "protoactor://h:1"),
            ("protoactor://H:1/user/a", None, Some("h:1"), "/user/a", "protoactor://h:1/user/a"),
        ] {
            let parts: ActorPathParts = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parts.system(), system, "{text}");
            assert_eq!(parts.authority().map(ToString::to_string).as_deref(), authority, "{text}");
            assert_eq!(parts.elements(), elements, "{text}");
            assert_eq!(parts.to_string(), printed);
        }
        let parts = ActorPathParts::from_authority("h:1").unwrap();
        assert_eq!(parts.address("mine").to_string(), "fraktor.tcp://mine@h:1");
        assert_eq!(parts.with_system("x").path("mine").to_string(), "fraktor.tcp://x@h:1/");
        assert!(ActorPathParts::from_authority("fraktor.tcp://s@h:1").is_err());
        let nameless =
            ActorPathParts::from_authority("h:1").unwrap().with_scheme(ActorPathScheme::Protoactor);
        assert_eq!(nameless.address("mine").to_string(), "protoactor://h:1");
        assert_eq!(&*nameless.with_system("x").address("mine").system, "", "no such address names a system");
    }

    prop_compose! {
        fn any_path()(
            scheme in prop_oneof!["[a-z][a-z0-9+.-]{0,8}", Just("protoactor".to_string())],
            system in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}",
            node in prop::option::of(("[a-z0-9]{1,8}(\\.[a-z0-9-]{1,8}){0,2}", any::<u16>())),
            names in prop::collection::vec("[^/]{0,10}", 0..8),
            uid in any::<u64>(),
        ) -> ActorPath {
            let authority = node.map(|(host, port)| Authority::new(&host, port));
            let scheme = ActorPathScheme::from_name(&scheme);
            let system = if scheme.names_system() { Arc::from(system) } else { Arc::from("") };
            let address = Address { scheme, system, authority };
            let mut elements = String::new();
            for name in &names {
                elements.push('/');
                elements.push_str(&encode_name(name));
            }
            if elements.is_empty() {
                elements.push('/');
            }
            ActorPath::new(address, elements, ActorUid::new(uid))
        }
    }

    proptest! {
        /// Covers: S120
        #[test]
        fn any_text_is_read_or_refused_inside_it(text in ".*") {
            if let Err(error) = text.parse::<ActorPath>() {
                prop_assert!(error.position <= text.len());
            }
            if let Err(error) = text.parse::<ActorPathParts>() {
                prop_assert!(error.position <= text.len());
            }
        }

        /// Covers: S120
        #[test]
        fn text_near_a_path_is_read_or_refused_inside_it(
            text in "(fraktor|x)?(://|:)?[a@:\\[\\]%é]{0,6}(:[0-9]{0,6})?(/[a%2F$. é]{0,5}){0,4}(#[0-9x]{0,4})?",
        ) {
            match text.parse::<ActorPath>() {
                Err(error) => prop_assert!(error.position <= text.len()),
                Ok(path) => prop_assert_eq!(path.to_string().parse::<ActorPath>().unwrap(), path),
            }
        }

        /// Covers: S120
        #[test]
        fn a_generated_path_comes_back_equal(path in any_path()) {
            let again: ActorPath = path.to_string().parse().unwrap();
            prop_assert_eq!(&again, &path);
            prop_assert_eq!(again.address(), path.address());
            prop_assert_eq!(again.to_string(), path.to_string());
        }

        #[test]
        fn a_name_has_one_spelling(name in "[^/]{0,40}") {
            let element = encode_name(&name).into_owned();
            prop_assert!(validate_element(&element).is_ok(), "{}", element);
            prop_assert_eq!(decode_name(&element), name);
        }

        #[test]
        fn a_valid_element_is_the_spelling_of_its_name(element in "[a$.%0-9A-F-]{0,8}") {
            if validate_element(&element).is_ok() {
                let name = decode_name(&element);
                prop_assert_eq!(&*encode_name(&name), &*element);
            }
        }
    }
}
