//! Which types may come over a wire, under which names.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId, type_name};
use core::fmt;
use core::ops::Bound;

use hashbrown::HashMap;

use super::inlet::{self, Inlet};
use super::protobuf::{self, ProtobufForm, TypeName};
use super::{DecodeError, Decoder, EncodeError, Encoder, Message, SerializerId};
use crate::actor_ref::AnyRef;
use crate::address::{number, printable};
use crate::lock::Lock;
use crate::remote::Route;

/// Most bytes of a manifest (limit L11).
pub const MANIFEST_BYTES_MAX: usize = 256;

/// A message as bytes, with all that a reader needs to know.
#[derive(Clone, PartialEq, Eq)]
pub struct SerializedMessage {
    /// The type's name on the wire.
    pub manifest: Cow<'static, str>,
    /// What wrote the bytes.
    pub serializer_id: SerializerId,
    /// The payload.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SerializedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the payload: it may hold what no log should.
        let Self { manifest, serializer_id, bytes } = self;
        write!(f, "SerializedMessage({}, {serializer_id:?}, {} bytes)", printable(manifest), bytes.len())
    }
}

/// A message of a type that only its manifest tells; it is downcast to that type.
pub type AnyMessage = Box<dyn Any + Send>;

/// Opens the way into a recipient's mailbox, if it takes that type.
type OpenInlet = fn(&AnyRef, &Arc<dyn Route>) -> Option<Box<dyn Inlet>>;

/// One registered type.
#[derive(Clone, Copy)]
pub struct Registration {
    /// Its name on the wire.
    pub manifest: &'static str,
    /// Its name in Rust.
    pub type_name: &'static str,
    /// Its identity in this process.
    pub type_id: TypeId,
    /// What writes its payloads.
    pub serializer: SerializerId,
    /// What it is on a protobuf wire, if it has a form there.
    forms: Option<&'static [ProtobufForm]>,
    decode: fn(&[u8]) -> Result<AnyMessage, DecodeError>,
    inlet: OpenInlet,
}

impl Registration {
    fn of<M: Message>() -> Self {
        Self {
            manifest: M::MANIFEST,
            type_name: type_name::<M>(),
            type_id: TypeId::of::<M>(),
            serializer: M::SERIALIZER,
            forms: M::PROTOBUF.map(|codec| codec.forms),
            decode: |bytes| decode_whole::<M>(bytes).map(|message| Box::new(message) as _),
            inlet: |recipient, peer| inlet::of::<M>(recipient, peer, None),
        }
    }

    /// Reads a payload of this type.
    ///
    /// # Errors
    /// When the bytes are not exactly one such value.
    pub fn decode(&self, bytes: &[u8]) -> Result<AnyMessage, DecodeError> {
        (self.decode)(bytes)
    }

    /// The names of the protobuf types that its variants are on a protobuf wire; a name may come twice. None when it
    /// does not cross one.
    pub fn type_names(&self) -> impl Iterator<Item = TypeName> + use<> {
        self.forms.unwrap_or_default().iter().map(ProtobufForm::type_name)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({:?})", self.manifest, self.type_name, self.serializer)?;
        match self.forms {
            Some(forms) => write!(f, " {forms:?}"),
            None => Ok(()),
        }
    }
}

#[inline(always)]
pub(super) fn decode_whole<M: Message>(bytes: &[u8]) -> Result<M, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let message = M::decode(&mut decoder)?;
    decoder.finish()?;
    Ok(message)
}

/// Why a type or serializer was not registered. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationError {
    /// The same type was registered before.
    SameType {
        /// The type.
        type_name: &'static str,
        /// Its manifest.
        manifest: &'static str,
    },
    /// Another type has that manifest, version included.
    SameManifest {
        /// The manifest.
        manifest: &'static str,
        /// The type that has it.
        registered: &'static str,
        /// The type that was to get it.
        refused: &'static str,
    },
    /// The manifest is not one.
    InvalidManifest {
        /// The type.
        type_name: &'static str,
        /// Its manifest.
        manifest: &'static str,
        /// What is wrong with it.
        rule: &'static str,
    },
    /// The form of the type on a protobuf wire breaks a rule.
    InvalidProtobuf {
        /// The type.
        type_name: &'static str,
        /// What is wrong with it, and how to mend it.
        rule: String,
    },
    /// The type names a serializer that is neither built in nor registered.
    UnknownSerializer {
        /// The type.
        type_name: &'static str,
        /// The serializer.
        id: SerializerId,
    },
    /// Another serializer has that id.
    SameSerializer {
        /// The id.
        id: SerializerId,
        /// The serializer that has it.
        registered: &'static str,
        /// The serializer that was to get it.
        refused: &'static str,
    },
    /// Ids below [`SerializerId::FIRST_USER`] are not for applications.
    ReservedSerializer {
        /// The id.
        id: SerializerId,
        /// The serializer that was to get it.
        refused: &'static str,
    },
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameType { type_name, manifest } => {
                write!(f, "{type_name} is registered already, under the manifest `{manifest}`")
            }
            Self::SameManifest { manifest, registered, refused } => write!(
                f,
                "the manifest `{manifest}` of {refused} belongs to {registered}; give one of them another name or \
                 version"
            ),
            Self::InvalidManifest { type_name, manifest, rule } => {
                write!(f, "the manifest `{}` of {type_name} is not valid: {rule}", printable(manifest))
            }
            Self::InvalidProtobuf { type_name, rule } => {
                write!(f, "the form of {type_name} on the protobuf wire is not valid: {rule}")
            }
            Self::UnknownSerializer { type_name, id } => write!(
                f,
                "{type_name} uses serializer {}, which is not registered; call `register_serializer` for it before",
                id.0
            ),
            Self::SameSerializer { id, registered, refused } => {
                write!(f, "serializer id {} of {refused} belongs to {registered}; choose another", id.0)
            }
            Self::ReservedSerializer { id, refused } => write!(
                f,
                "serializer id {} of {refused} is reserved; an application's ids begin at {}",
                id.0,
                SerializerId::FIRST_USER.0
            ),
        }
    }
}

impl core::error::Error for RegistrationError {}

/// Splits `shop.counter@2` into name and version; a manifest without `@` has none, as protobuf names have not.
///
/// # Errors
/// With the rule that is broken: printable ASCII without blanks, at most [`MANIFEST_BYTES_MAX`] bytes, a name that
/// is not empty, and a version that is a decimal number without a zero in front.
pub fn split_manifest(manifest: &str) -> Result<(&str, Option<u32>), &'static str> {
    if manifest.len() > MANIFEST_BYTES_MAX {
        return Err("it is longer than 256 bytes");
    }
    if !manifest.bytes().all(|c| c.is_ascii_graphic()) {
        return Err("it has a character that is not printable ASCII or is a blank");
    }
    let (name, version) = match manifest.rsplit_once('@') {
        None => (manifest, None),
        Some((name, version)) => {
            let version = number(version, "").map_err(|_| "what follows `@` is not a version number")?;
            (name, Some(version))
        }
    };
    if name.is_empty() { Err("it has no name") } else { Ok((name, version)) }
}

/// Turns a payload of an older type into an `M`.
type Upgrade<M> = inlet::Convert<M>;

#[derive(Default)]
struct Table {
    by_manifest: BTreeMap<&'static str, Registration>,
    by_type: HashMap<TypeId, &'static str>,
    /// `Upgrade<M>` by the id of `M` and the older manifest.
    upgrades: HashMap<(TypeId, &'static str), Box<dyn Any + Send + Sync>>,
    /// How a reader gets from the older manifest into the mailbox of the newer type.
    upgrade_inlets: HashMap<&'static str, Vec<OpenUpgrade>>,
    serializers: BTreeMap<SerializerId, &'static str>,
}

type OpenUpgrade = Arc<dyn Fn(&AnyRef, &Arc<dyn Route>) -> Option<Box<dyn Inlet>> + Send + Sync>;

/// The types that may come over a wire, by manifest. One per system.
///
/// A payload names its type by its manifest and nothing else, and only what is registered is ever built: there is
/// no way for a peer to name code to run. Several versions of one name stand side by side, each a type of its own
/// (`shop.counter@1`, `shop.counter@2`); [`upgrade`](Self::upgrade) lets a recipient of the newer take the older.
///
/// Registering the same type twice, or two types under one manifest, is refused: it is a mistake each time, and
/// the second one would be read as the first.
#[derive(Default)]
pub struct SerializationRegistry(Lock<Table>);

impl SerializationRegistry {
    /// A registry without types.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `M` under [`Message::MANIFEST`].
    ///
    /// # Errors
    /// When the type or the manifest is registered already, the manifest or the form on a protobuf wire is not valid,
    /// or the serializer is not known. Nothing changed.
    pub fn register<M: Message>(&self) -> Result<(), RegistrationError> {
        let new = Registration::of::<M>();
        let Registration { manifest, type_name, type_id, serializer, .. } = new;
        if let Err(rule) = split_manifest(manifest) {
            return Err(RegistrationError::InvalidManifest { type_name, manifest, rule });
        }
        if let Err(rule) = protobuf::check(new.forms.unwrap_or_default()) {
            return Err(RegistrationError::InvalidProtobuf { type_name, rule });
        }
        let mut table = self.0.lock();
        if table.by_type.contains_key(&type_id) {
            return Err(RegistrationError::SameType { type_name, manifest });
        }
        if let Some(other) = table.by_manifest.get(manifest) {
            let registered = other.type_name;
            return Err(RegistrationError::SameManifest { manifest, registered, refused: type_name });
        }
        if builtin_serializer(serializer).is_none() && !table.serializers.contains_key(&serializer) {
            return Err(RegistrationError::UnknownSerializer { type_name, id: serializer });
        }
        table.by_manifest.insert(manifest, new);
        table.by_type.insert(type_id, manifest);
        Ok(())
    }

    /// Takes `id` for the serializer `name`, for types whose [`Message::SERIALIZER`] it is.
    ///
    /// The id is all that travels, so two serializers under one would read each other's payloads.
    ///
    /// # Errors
    /// When the id is taken, by whatever name, or is below [`SerializerId::FIRST_USER`].
    pub fn register_serializer(&self, id: SerializerId, name: &'static str) -> Result<(), RegistrationError> {
        if id < SerializerId::FIRST_USER {
            return Err(RegistrationError::ReservedSerializer { id, refused: name });
        }
        let mut table = self.0.lock();
        if let Some(registered) = table.serializers.get(&id).copied() {
            return Err(RegistrationError::SameSerializer { id, registered, refused: name });
        }
        table.serializers.insert(id, name);
        Ok(())
    }

    /// Lets a recipient of `New` take payloads of `Old`, turned by `convert`. Registers `Old` if it is not yet.
    ///
    /// # Errors
    /// As for [`register`](Self::register) of `Old`; when `Old` is `New`; and [`RegistrationError::SameManifest`]
    /// when there is such an upgrade already.
    pub fn upgrade<Old: Message, New: Message>(
        &self,
        convert: impl Fn(Old) -> New + Send + Sync + 'static,
    ) -> Result<(), RegistrationError> {
        let (old, new) = (TypeId::of::<Old>(), TypeId::of::<New>());
        if old == new {
            let (type_name, manifest) = (type_name::<Old>(), Old::MANIFEST);
            return Err(RegistrationError::SameType { type_name, manifest });
        }
        let is_registered = self.0.lock().by_type.contains_key(&old);
        if !is_registered {
            self.register::<Old>()?;
        }
        let upgrade: Upgrade<New> = Arc::new(move |bytes| decode_whole::<Old>(bytes).map(&convert));
        let key = (new, Old::MANIFEST);
        let mut table = self.0.lock();
        if table.upgrades.contains_key(&key) {
            drop(table);
            return Err(RegistrationError::SameManifest {
                manifest: Old::MANIFEST,
                registered: type_name::<Old>(),
                refused: type_name::<Old>(),
            });
        }
        table.upgrades.insert(key, Box::new(upgrade.clone()));
        let open: OpenUpgrade =
            Arc::new(move |recipient, peer| inlet::of::<New>(recipient, peer, Some(upgrade.clone())));
        table.upgrade_inlets.entry(Old::MANIFEST).or_default().push(open);
        Ok(())
    }

    /// The type registered under `manifest`.
    ///
    /// # Errors
    /// [`DecodeError::UnknownManifest`], whose text names the missing call. `manifest` may come from a peer.
    pub fn lookup(&self, manifest: &str) -> Result<Registration, DecodeError> {
        let table = self.0.lock();
        if let Some(found) = table.by_manifest.get(manifest) {
            return Ok(*found);
        }
        let others = versions(&table, manifest);
        drop(table);
        Err(unknown(manifest, &others))
    }

    /// The way for messages under `manifest` into the mailbox of `recipient`, where a reader keeps it.
    ///
    /// # Errors
    /// [`DecodeError::UnknownManifest`] when no such type is registered, [`DecodeError::Failed`] when the recipient
    /// takes another type and there is no upgrade to it. `manifest` may come from a peer.
    pub fn inlet(
        &self,
        manifest: &str,
        recipient: &AnyRef,
        peer: &Arc<dyn Route>,
    ) -> Result<Box<dyn Inlet>, DecodeError> {
        let registration = self.lookup(manifest)?;
        if let Some(inlet) = (registration.inlet)(recipient, peer) {
            return Ok(inlet);
        }
        let upgrades = self.0.lock().upgrade_inlets.get(manifest).cloned().unwrap_or_default();
        upgrades.iter().find_map(|open| open(recipient, peer)).ok_or_else(|| {
            DecodeError::Failed(format!(
                "{} takes messages of type {}, not {} ({manifest})",
                recipient.path(),
                recipient.message_type(),
                registration.type_name,
            ))
        })
    }

    /// The way for messages of a protobuf wire into the mailbox of `recipient`: the type it takes decides, for such a
    /// wire names no type of ours.
    ///
    /// # Errors
    /// When that type is not registered, or has no form on a protobuf wire; the text says what to write.
    pub fn protobuf_inlet(
        &self,
        recipient: &AnyRef,
        peer: &Arc<dyn Route>,
    ) -> Result<Box<dyn Inlet>, DecodeError> {
        let found = {
            let table = self.0.lock();
            let manifest = table.by_type.get(&recipient.message_type_id());
            manifest.and_then(|manifest| table.by_manifest.get(manifest)).copied()
        };
        let name = recipient.message_type();
        let Some(registration) = found else {
            return Err(DecodeError::UnknownManifest(format!(
                "{} takes messages of type {name}, which is not registered; call `system.register::<{name}>()`",
                recipient.path(),
            )));
        };
        if registration.forms.is_none() {
            return Err(without_protobuf(name));
        }
        (registration.inlet)(recipient, peer)
            .ok_or_else(|| DecodeError::Failed(format!("{} takes no messages of {name}", recipient.path())))
    }

    /// Whether `M` is registered.
    #[must_use]
    pub fn contains<M: Message>(&self) -> bool {
        self.0.lock().by_type.contains_key(&TypeId::of::<M>())
    }

    /// The manifests of every registered version of `name`, which is a manifest's part before the `@`; the
    /// lowest version first.
    #[must_use]
    pub fn versions(&self, name: &str) -> Vec<&'static str> {
        versions(&self.0.lock(), name)
    }

    /// Every registered type, in the order of manifests.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.0.lock().by_manifest.values().copied().collect()
    }

    /// The name of a serializer, if there is one with that id.
    #[must_use]
    pub fn serializer_name(&self, id: SerializerId) -> Option<&'static str> {
        builtin_serializer(id).or_else(|| self.0.lock().serializers.get(&id).copied())
    }

    /// Writes `message`, at most `limit` bytes of payload. A `Reply` inside it needs the scope of an envelope
    /// ([`super::scope::encode`]).
    ///
    /// # Errors
    /// When `M` is not registered, or its [`Message::encode`] fails.
    pub fn serialize<M: Message>(&self, message: &M, limit: usize) -> Result<SerializedMessage, EncodeError> {
        if !self.contains::<M>() {
            let name = type_name::<M>();
            return Err(EncodeError::Failed(format!(
                "{name} is not registered; call `system.register::<{name}>()` before it is sent"
            )));
        }
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes, limit))?;
        Ok(SerializedMessage { manifest: Cow::Borrowed(M::MANIFEST), serializer_id: M::SERIALIZER, bytes })
    }

    /// Reads a payload for a recipient of `M`: one of `M` itself, or of a type with an
    /// [`upgrade`](Self::upgrade) to it. References inside it need the scope of their system
    /// ([`super::scope::DecodeScope`]).
    ///
    /// `M` itself is read whether or not it is registered: that it has a recipient here shows that it is known.
    ///
    /// # Errors
    /// [`DecodeError::UnknownManifest`] when the manifest is of no such type, [`DecodeError::Failed`] when
    /// another serializer wrote it, else those of [`Message::decode`]. What is left behind the value is an error.
    pub fn deserialize<M: Message>(
        &self,
        manifest: &str,
        serializer: SerializerId,
        bytes: &[u8],
    ) -> Result<M, DecodeError> {
        if manifest == M::MANIFEST {
            same_serializer(manifest, M::SERIALIZER, serializer)?;
            return decode_whole::<M>(bytes);
        }
        let found = self.lookup(manifest)?;
        let upgrade = {
            let table = self.0.lock();
            let upgrade = table.upgrades.get(&(TypeId::of::<M>(), found.manifest));
            upgrade.and_then(|upgrade| upgrade.downcast_ref::<Upgrade<M>>()).cloned()
        };
        match upgrade {
            Some(upgrade) => {
                same_serializer(manifest, found.serializer, serializer)?;
                upgrade(bytes)
            }
            None => Err(DecodeError::UnknownManifest(format!(
                "`{manifest}` is {}, and the recipient takes {} (`{}`)",
                found.type_name,
                type_name::<M>(),
                M::MANIFEST
            ))),
        }
    }

    /// Reads a payload by its manifest alone.
    ///
    /// # Errors
    /// As for [`deserialize`](Self::deserialize).
    pub fn deserialize_any(&self, message: &SerializedMessage) -> Result<AnyMessage, DecodeError> {
        let found = self.lookup(&message.manifest)?;
        same_serializer(found.manifest, found.serializer, message.serializer_id)?;
        found.decode(&message.bytes)
    }
}

impl fmt::Debug for SerializationRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.registrations()).finish()
    }
}

const fn builtin_serializer(id: SerializerId) -> Option<&'static str> {
    match id {
        SerializerId::PROTOBUF => Some("protobuf"),
        SerializerId::JSON => Some("json"),
        SerializerId::POSTCARD => Some("postcard"),
        _ => None,
    }
}

fn same_serializer(manifest: &str, expected: SerializerId, found: SerializerId) -> Result<(), DecodeError> {
    if expected == found {
        return Ok(());
    }
    Err(DecodeError::Failed(format!(
        "`{manifest}` is read by serializer {}, the payload was written by serializer {}",
        expected.0, found.0
    )))
}

#[cold]
pub(super) fn no_protobuf<M>() -> DecodeError {
    without_protobuf(type_name::<M>())
}

fn without_protobuf(type_name: &str) -> DecodeError {
    DecodeError::Failed(format!(
        "{type_name} has no form on the protobuf wire: write `#[message(protobuf)]` above it, or set \
         `Message::PROTOBUF`"
    ))
}

/// The registered manifests that differ from `manifest` at most in the version.
fn versions(table: &Table, manifest: &str) -> Vec<&'static str> {
    let name = split_manifest(manifest).map_or(manifest, |(name, _)| name);
    let mut found: Vec<_> = table
        .by_manifest
        .range::<str, _>((Bound::Included(name), Bound::Unbounded))
        .map(|(manifest, _)| *manifest)
        .take_while(|manifest| manifest.starts_with(name))
        .filter_map(|manifest| {
            let (other, version) = split_manifest(manifest).ok()?;
            (other == name).then_some((version, manifest))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, manifest)| manifest).collect()
}

fn unknown(manifest: &str, versions: &[&'static str]) -> DecodeError {
    let mut text = String::from("no type is registered under `") + &printable(manifest) + "`";
    if !versions.is_empty() {
        text += &format!(" (registered versions: {})", versions.join(", "));
    }
    text += "; call `system.register::<T>()` with the type of that manifest";
    DecodeError::UnknownManifest(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    /// Declares a message type that holds one number and is its own serializer.
    macro_rules! message {
        ($name:ident, $manifest:expr $(, $serializer:expr)?) => {
            #[derive(Debug, PartialEq)]
            struct $name(u32);
            impl Message for $name {
                const MANIFEST: &'static str = $manifest;
                $(const SERIALIZER: SerializerId = $serializer;)?
                fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
                    encoder.postcard(&self.0)
                }
                fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                    decoder.postcard().map(Self)
                }
            }
        };
    }

    message!(Counter1, "shop.counter@1");
    message!(Counter2, "shop.counter@2");
    message!(Counter10, "shop.counter@10");
    message!(OtherCounter, "shop.counter@1");
    message!(Counters, "shop.counters@1");
    message!(Flat, "shop.flat@1", SerializerId(16));
    message!(Reserved, "shop.reserved@1", SerializerId(3));

    const LIMIT: usize = 1024;

    fn text<T>(result: Result<T, impl fmt::Display>) -> String {
        result.err().map_or_else(|| "accepted".to_string(), |error| error.to_string())
    }

    /// Covers: S138
    #[test]
    fn a_type_twice_or_two_types_of_one_name_are_refused() {
        let registry = SerializationRegistry::new();
        registry.register::<Counter1>().unwrap();
        let twice = text(registry.register::<Counter1>());
        assert!(twice.contains("Counter1") && twice.contains("shop.counter@1"), "{twice}");
        let clash = text(registry.register::<OtherCounter>());
        assert!(clash.contains("::Counter1") && clash.contains("::OtherCounter"), "{clash}");
        assert_eq!(registry.lookup("shop.counter@1").unwrap().type_id, TypeId::of::<Counter1>());
        assert!(!registry.contains::<OtherCounter>());
        assert_eq!(registry.registrations().len(), 1);
    }

    #[test]
    fn versions_of_one_name_stand_side_by_side() {
        let registry = SerializationRegistry::new();
        registry.register::<Counter10>().unwrap();
        registry.register::<Counter2>().unwrap();
        registry.register::<Counter1>().unwrap();
        registry.register::<Counters>().unwrap();
        assert_eq!(
            registry.versions("shop.counter"),
            ["shop.counter@1", "shop.counter@2", "shop.counter@10"]
        );
        for (manifest, type_id) in
            [("shop.counter@1", TypeId::of::<Counter1>()), ("shop.counter@2", TypeId::of::<Counter2>())]
        {
            assert_eq!(registry.lookup(manifest).unwrap().type_id, type_id);
        }
    }

    #[test]
    fn an_unknown_manifest_names_the_missing_call() {
        let registry = SerializationRegistry::new();
        registry.register::<Counter1>().unwrap();
        registry.register::<Counter2>().unwrap();
        for (manifest, parts) in [
            (
                "shop.counter@3",
                &["`shop.counter@3`", "shop.counter@1, shop.counter@2", "system.register::<T>()"][..],
            ),
            ("shop.count", &["`shop.count`", "system.register::<T>()"]),
            ("", &["``", "system.register::<T>()"]),
            ("a\nb@1", &["`a\\nb@1`"]),
        ] {
            let error = text(registry.lookup(manifest));
            for part in parts {
                assert!(error.contains(part), "{manifest}: {error}");
            }
        }
        assert!(text(registry.lookup(&"x".repeat(100_000))).len() < 400, "a peer's text is cut");
    }

    #[test]
    fn manifests_are_checked_below_at_and_above_their_bounds() {
        let (long, longer) = ("m".repeat(256), "m".repeat(257));
        for (manifest, expected) in [
            ("shop.counter@1", Some(("shop.counter", Some(1)))),
            ("remote.ActorPidRequest", Some(("remote.ActorPidRequest", None))),
            ("a@b@3", Some(("a@b", Some(3)))),
            ("a@0", Some(("a", Some(0)))),
            ("a@4294967295", Some(("a", Some(u32::MAX)))),
            ("a@4294967296", None),
            ("a@01", None),
            ("a@", None),
            ("a@x", None),
            ("@1", None),
            ("", None),
            ("a b@1", None),
            ("\u{e4}@1", None),
            (&long, Some((long.as_str(), None))),
            (&longer, None),
        ] {
            assert_eq!(split_manifest(manifest).ok(), expected, "{manifest}");
        }
    }

    #[test]
    fn serializer_ids_are_taken_once_and_from_16_on() {
        let registry = SerializationRegistry::new();
        let missing = text(registry.register::<Flat>());
        assert!(missing.contains("Flat") && missing.contains("register_serializer"), "{missing}");
        assert!(text(registry.register::<Reserved>()).contains("serializer 3"));
        for (id, accepted) in [(0, false), (2, false), (15, false), (16, true), (17, true), (u16::MAX, true)]
        {
            assert_eq!(registry.register_serializer(SerializerId(id), "flat").is_ok(), accepted, "{id}");
        }
        let clash = text(registry.register_serializer(SerializerId(16), "capn"));
        assert!(clash.contains("flat") && clash.contains("capn") && clash.contains("16"), "{clash}");
        registry.register::<Flat>().unwrap();
        assert_eq!(registry.serializer_name(SerializerId(16)), Some("flat"));
        assert_eq!(registry.serializer_name(SerializerId::POSTCARD), Some("postcard"));
        assert_eq!(registry.serializer_name(SerializerId(3)), None);
    }

    /// Covers: RT-44
    #[test]
    fn a_message_comes_back_from_its_bytes() {
        let registry = SerializationRegistry::new();
        let unregistered = text(registry.serialize(&Counter1(7), LIMIT));
        assert!(unregistered.contains("Counter1>()"), "{unregistered}");
        registry.register::<Counter1>().unwrap();
        let message = registry.serialize(&Counter1(300), LIMIT).unwrap();
        assert_eq!((&*message.manifest, message.serializer_id), ("shop.counter@1", SerializerId::POSTCARD));
        let read =
            |bytes: &[u8]| registry.deserialize::<Counter1>(&message.manifest, message.serializer_id, bytes);
        assert_eq!(read(&message.bytes), Ok(Counter1(300)));
        assert_eq!(read(&message.bytes[..1]), Err(DecodeError::Truncated));
        assert_eq!(read(&[1, 2, 3]), Err(DecodeError::TrailingBytes { count: 2 }));
        let any = registry.deserialize_any(&message).unwrap();
        assert_eq!(any.downcast_ref(), Some(&Counter1(300)));
        assert_eq!(registry.serialize(&Counter1(300), 1), Err(EncodeError::TooLarge { limit: 1 }));
        assert_eq!(format!("{message:?}"), "SerializedMessage(shop.counter@1, SerializerId(2), 2 bytes)");
    }

    #[test]
    fn a_payload_is_read_only_as_what_it_is() {
        let registry = SerializationRegistry::new();
        registry.register::<Counter1>().unwrap();
        registry.register::<Counter2>().unwrap();
        for (name, manifest, serializer, part) in [
            ("another type", "shop.counter@2", SerializerId::POSTCARD, "Counter2, and the recipient takes"),
            ("unknown type", "shop.cart@1", SerializerId::POSTCARD, "system.register::<T>()"),
            ("another serializer", "shop.counter@1", SerializerId::JSON, "written by serializer 1"),
        ] {
            let error = text(registry.deserialize::<Counter1>(manifest, serializer, &[1]));
            assert!(error.contains(part), "{name}: {error}");
        }
        let foreign = SerializedMessage {
            manifest: "shop.counter@1".into(),
            serializer_id: SerializerId::JSON,
            bytes: [1].to_vec(),
        };
        assert!(text(registry.deserialize_any(&foreign)).contains("written by serializer 1"));
    }

    #[test]
    fn a_recipient_of_the_newer_version_takes_the_older_by_an_upgrade() {
        let registry = SerializationRegistry::new();
        registry.register::<Counter2>().unwrap();
        registry.upgrade(|old: Counter1| Counter2(old.0 + 1000)).unwrap();
        let read = |manifest, bytes: &[u8]| {
            registry.deserialize::<Counter2>(manifest, SerializerId::POSTCARD, bytes)
        };
        assert_eq!(read("shop.counter@1", &[7]), Ok(Counter2(1007)));
        assert_eq!(read("shop.counter@2", &[7]), Ok(Counter2(7)));
        assert_eq!(read("shop.counter@1", &[7, 7]), Err(DecodeError::TrailingBytes { count: 1 }));
        assert!(registry.contains::<Counter1>());
        assert!(registry.upgrade(|old: Counter1| Counter2(old.0)).is_err(), "the same upgrade twice");
        assert!(registry.upgrade(|same: Counter2| same).is_err(), "from a type to itself");
        assert!(registry.upgrade(|other: OtherCounter| Counter2(other.0)).is_err(), "two types of one name");
    }
}
