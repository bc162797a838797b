//! Actors as the protoactor lineage names them: an address, an id, and no scheme.
//!
//! # Conversion
//! A [`Pid`] and an [`ActorPath`] name the same actor. The address is the authority, canonical; `nonhost` and the
//! empty address mean this process. The id is the path:
//!
//! | path | id |
//! |---|---|
//! | `/user/a/b` | `a/b` |
//! | `/user` | `$user` |
//! | `/system/x`, `/temp/x` | `$system/x`, `$temp/x` |
//! | `/user/$system/x` (an element that looks like one of these words) | `$user/$system/x` |
//! | `/other/x`, `/` | `$root/other/x`, `$root` |
//! | `/user/a#42` (uid) | `a#42` |
//!
//! Ids carry names as they are, paths carry them in their spelling: the id `a b` is the path `/user/a%20b`. An id
//! may be any text at all, so the words above have to be told from names that merely look like them; each of the
//! two functions is the other's inverse on all ids and on all paths with valid elements, which a test holds them
//! to. An id that no path of ours has, such as `$user/x`, becomes a path of its own, `/$user/x`.
//!
//! What a pid lacks, scheme and system name, the caller adds; what a path lacks, the request id of a protoactor
//! future, is dropped: it numbers one call and is no part of who an actor is.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use crate::path::{
    ActorPath, ActorPathScheme, ActorUid, Address, Authority, PathError, decode_name, encode_name,
};

/// The address of an actor of this process.
pub const LOCAL_ADDRESS: &str = "nonhost";

/// The literal name of [`Pid`] in the protoactor lineage.
pub type PID = Pid;

/// An actor's name in the protoactor lineage.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid {
    /// `host:port`, or [`LOCAL_ADDRESS`].
    pub address: Arc<str>,
    /// The path in the form that the module describes: `a/b` for `/user/a/b`.
    pub id: Arc<str>,
    /// The number of one call to a future; 0 for an actor.
    pub request_id: u32,
}

impl Pid {
    /// The pid of the actor `id` at `address`, whose text is kept as it is.
    #[must_use]
    pub fn new(address: impl Into<Arc<str>>, id: impl Into<Arc<str>>) -> Self {
        Self { address: address.into(), id: id.into(), request_id: 0 }
    }

    /// The same pid with the number of one call to a future.
    #[must_use]
    pub fn with_request_id(mut self, request_id: u32) -> Self {
        self.request_id = request_id;
        self
    }

    /// The pid of the actor at `path`.
    #[must_use]
    pub fn from_path(path: &ActorPath) -> Self {
        let address = match &path.address().authority {
            Some(authority) => Arc::from(authority.to_string()),
            None => Arc::from(LOCAL_ADDRESS),
        };
        Self { address, id: Arc::from(id_of(path.elements(), path.uid())), request_id: 0 }
    }

    /// The authority in the address, `None` for this process.
    ///
    /// # Errors
    /// When the address is neither `host:port` nor this process: it then names no node.
    pub fn authority(&self) -> Result<Option<Authority>, PathError> {
        match &*self.address {
            "" | LOCAL_ADDRESS => Ok(None),
            address => address.parse().map(Some),
        }
    }

    /// The path of this actor in the system `system`, reached by `scheme`. The scheme `protoactor` has no system
    /// names: `system` is not looked at then.
    ///
    /// Every id has a path. One longer than the limits of [`crate::path`] is made all the same; it fits no wire
    /// of ours and is refused there.
    ///
    /// # Errors
    /// When the address is neither `host:port` nor this process.
    pub fn to_path(
        &self,
        scheme: ActorPathScheme,
        system: impl Into<Arc<str>>,
    ) -> Result<ActorPath, PathError> {
        let system = if scheme.names_system() { system.into() } else { Arc::from("") };
        let address = Address { scheme, system, authority: self.authority()? };
        let (elements, uid) = elements_of(&self.id);
        Ok(ActorPath::new(address, elements, uid))
    }
}

impl From<&ActorPath> for Pid {
    fn from(path: &ActorPath) -> Self {
        Self::from_path(path)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.id)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        if self.request_id == 0 { Ok(()) } else { write!(f, "?{}", self.request_id) }
    }
}

/// The first segment, and the rest after its `/` if there is one.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)))
}

fn is_guardian(segment: &str) -> bool {
    matches!(segment, "user" | "system" | "temp")
}

fn is_word(segment: &str) -> bool {
    matches!(segment, "$user" | "$system" | "$temp" | "$root")
}

/// Whether `name`, read as an id, would be one that no ordinary path has: `$user` before something that needs
/// none, `$root` before a guardian, or either of these behind more `$root`. Such an id stands directly below the
/// root, with `$root` left in place, so that ids and paths stay one to one.
fn is_odd(name: &str) -> bool {
    let (mut rest, mut behind_root) = (name, false);
    loop {
        match split(rest) {
            ("$root", Some(more)) => {
                (rest, behind_root) = (more, true);
            }
            ("$user", Some(more)) => return !is_word(split(more).0),
            (first, _) => return behind_root && is_guardian(first),
        }
    }
}

/// The names of `elements` between their slashes, without the first slash.
fn names_of(elements: &str) -> Cow<'_, str> {
    let inner = elements.strip_prefix('/').unwrap_or(elements);
    if !inner.contains('%') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    for (index, element) in inner.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        out.push_str(&decode_name(element));
    }
    Cow::Owned(out)
}

/// Appends `/` and the spelling of each name.
fn push_names(out: &mut String, names: &str) {
    for name in names.split('/') {
        out.push('/');
        out.push_str(&encode_name(name));
    }
}

fn id_of(elements: &str, uid: ActorUid) -> String {
    let names = names_of(elements);
    let first_element = split(elements.strip_prefix('/').unwrap_or(elements)).0;
    let id = if elements.is_empty() || elements == "/" {
        "$root".to_string()
    } else if is_odd(&names) {
        names.into_owned()
    } else {
        // `user` has but one spelling, so the element decides as well as the name does.
        match (first_element, split(&names).1) {
            ("user", None) => "$user".to_string(),
            ("user", Some(rest)) if is_word(split(rest).0) => format!("$user/{rest}"),
            ("user", Some(rest)) => rest.to_string(),
            ("system" | "temp", _) => format!("${names}"),
            _ => format!("$root/{names}"),
        }
    };
    if !uid.is_any() {
        format!("{id}#{uid}")
    } else if ends_like_uid(&id) {
        id + "#0"
    } else {
        id
    }
}

/// Splits `#digits` from the end, if the digits are a number in its one spelling.
fn split_number(id: &str) -> Option<(&str, ActorUid)> {
    let (body, digits) = id.rsplit_once('#')?;
    Some((body, digits.parse().ok()?))
}

/// Whether an id without uid ends so that its end would be read as one; `#0` is then put behind it.
fn ends_like_uid(id: &str) -> bool {
    let mut id = id;
    loop {
        match split_number(id) {
            None => return false,
            Some((_, uid)) if !uid.is_any() => return true,
            Some((body, _)) => id = body,
        }
    }
}

fn elements_of(id: &str) -> (String, ActorUid) {
    let (body, uid) = match split_number(id) {
        Some((body, uid)) if !uid.is_any() || ends_like_uid(body) => (body, uid),
        _ => (id, ActorUid::ANY),
    };
    let mut out = String::with_capacity(body.len() + 8);
    if is_odd(body) {
        push_names(&mut out, body);
        return (out, uid);
    }
    match split(body) {
        ("$root", None) => out.push('/'),
        ("$root", Some(rest)) => push_names(&mut out, rest),
        ("$user" | "$system" | "$temp", _) => push_names(&mut out, &body[1..]),
        _ => {
            out.push_str("/user");
            push_names(&mut out, body);
        }
    }
    (out, uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::validate_elements;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn path(text: &str) -> ActorPath {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Covers: RT-02
    #[test]
    fn the_table_of_the_documentation_holds_both_ways() {
        for (elements, id) in [
            ("/user/a", "a"),
            ("/user/a/b", "a/b"),
            ("/user/a/b#42", "a/b#42"),
            ("/user", "$user"),
            ("/user#7", "$user#7"),
            ("/system", "$system"),
            ("/system/x", "$system/x"),
            ("/temp/x/y", "$temp/x/y"),
            ("/user/$1", "$1"),
            ("/user/$system/x", "$user/$system/x"),
            ("/user/$user", "$user/$user"),
            ("/", "$root"),
            ("/other/x", "$root/other/x"),
            ("/users", "$root/users"),
            ("/$user/x", "$user/x"),
            ("/$root/user", "$root/user"),
            ("/$root/$root/user/x", "$root/$root/user/x"),
            ("/$root/$user/x", "$root/$user/x"),
            ("/$system", "$root/$system"),
            ("/user/a%20b/%E6%97%A5", "a b/\u{65e5}"),
            ("/user/100%25", "100%"),
            ("/user/%252F", "%2F"),
            ("/user/%-", ""),
            ("/user/a/%-/b", "a//b"),
            ("/user/%-/%-", "/"),
            ("/user/%2E%2E/x", "../x"),
            ("/user/a%2342", "a#42#0"),
            ("/user/a%230", "a#0"),
            ("/user/a%2342%230", "a#42#0#0"),
            ("/user/a%2342#7", "a#42#7"),
            ("/user/a%23042", "a#042"),
        ] {
            let path = path(&format!("fraktor.tcp://s@h:1{elements}"));
            let pid = Pid::from_path(&path);
            assert_eq!(&*pid.id, id, "{elements}");
            assert_eq!(&*pid.address, "h:1");
            assert_eq!(pid.to_path(ActorPathScheme::FraktorTcp, "s").unwrap(), path, "{id}");
        }
    }

    #[test]
    fn addresses_are_canonical_local_or_refused() {
        for (address, expected) in [
            ("", Ok(None)),
            ("nonhost", Ok(None)),
            ("H:1", Ok(Some("h:1"))),
            ("[::FFFF:1.2.3.4]:1", Ok(Some("1.2.3.4:1"))),
            ("host", Err(4)),
            ("a b:1", Err(1)),
        ] {
            let found = Pid::new(address, "x").to_path(ActorPathScheme::FraktorTcp, "s");
            match (found, expected) {
                (Ok(path), Ok(expected)) => {
                    let authority = path.address().authority.as_ref().map(ToString::to_string);
                    assert_eq!(authority.as_deref(), expected, "{address}");
                    assert_eq!(&*Pid::from_path(&path).address, expected.unwrap_or(LOCAL_ADDRESS));
                }
                (Err(error), Err(position)) => assert_eq!(error.position, position, "{address}"),
                (found, expected) => panic!("{address}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_request_id_stays_with_the_pid() {
        let pid = Pid::new("h:1", "future").with_request_id(9);
        assert_eq!((pid.request_id, alloc::format!("{pid:?}").as_str()), (9, "h:1/future?9"));
        assert_eq!(Pid::from_path(&pid.to_path(ActorPathScheme::FraktorTcp, "s").unwrap()).request_id, 0);
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        let name = prop_oneof![
            Just("user".to_string()),
            Just("system".to_string()),
            Just("temp".to_string()),
            Just("$user".to_string()),
            Just("$system".to_string()),
            Just("$temp".to_string()),
            Just("$root".to_string()),
            Just("a".to_string()),
            "[a#0-9]{0,4}",
            "[^/]{0,6}",
        ];
        prop::collection::vec(name, 0..6)
    }

    proptest! {
        // The conversion half of S121: that both forms reach the same actor needs two nodes.
        #[test]
        fn every_path_comes_back_from_its_pid(names in names(), uid in prop_oneof![Just(0), any::<u64>()]) {
            let mut elements = String::new();
            for name in &names {
                elements.push('/');
                elements.push_str(&encode_name(name));
            }
            if names.is_empty() {
                elements.push('/');
            }
            let path = ActorPath::new(path("fraktor.tcp://s@h:1/").address().clone(), elements, ActorUid::new(uid));
            let pid = Pid::from(&path);
            prop_assert_eq!(pid.to_path(ActorPathScheme::FraktorTcp, "s").unwrap(), path, "{}", pid);
        }

        #[test]
        fn every_id_comes_back_from_its_path(names in names(), uid in "(#(0|[0-9]{1,20}))?") {
            let pid = Pid::new("h:1", names.join("/") + &uid);
            let path = pid.to_path(ActorPathScheme::FraktorTcp, "s").unwrap();
            prop_assert_eq!(&Pid::from_path(&path), &pid, "{}", path);
            if pid.id.len() < 100 {
                prop_assert!(validate_elements(path.elements()).is_ok(), "{}", path);
                // Such a wire has no system names: the whole path is in its text all the same.
                let nameless = pid.to_path(ActorPathScheme::Protoactor, "ignored").unwrap();
                prop_assert_eq!(&Pid::from_path(&nameless), &pid);
                prop_assert_eq!(nameless.to_string().parse(), Ok(nameless));
            }
        }

        #[test]
        fn any_text_is_an_id(id in ".*") {
            let pid = Pid::new("h:1", id);
            let path = pid.to_path(ActorPathScheme::FraktorTcp, "s").unwrap();
            prop_assert_eq!(Pid::from_path(&path), pid);
        }
    }
}
