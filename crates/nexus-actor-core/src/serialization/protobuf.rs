//! Messages by the names of their protobuf types, as they travel on the protoactor wire.
//!
//! That wire names each payload by the full name of a protobuf message, `google.protobuf.StringValue`, and names the
//! asker as the envelope's sender. A message type of ours is one enum for all that an actor takes, so each variant is
//! one protobuf message, and a [`Reply`](crate::Reply) inside it is the sender. [`ProtobufCodec`] says how; it is
//! written by `#[message(protobuf)]` and found as [`Message::PROTOBUF`](super::Message::PROTOBUF).
//!
//! The types here need no protobuf library. The feature `protobuf` brings `prost` and what reads and writes its
//! messages; `json` reads those that a peer wrote as JSON.

use alloc::format;
use alloc::string::String;
use core::fmt;

use super::{DecodeError, EncodeError, Encoder, SerializerId};

/// The full name of a protobuf message, in two parts so that it is known at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeName {
    /// The package, `google.protobuf`; may be empty.
    pub package: &'static str,
    /// The name in it, `StringValue`.
    pub name: &'static str,
}

impl TypeName {
    /// The name of the message type `T`.
    ///
    /// Of a message that is declared inside another one this is not the full name: such a type is refused where a
    /// [`ProtobufForm`] of it is checked.
    #[cfg(feature = "protobuf")]
    #[must_use]
    pub const fn of<T: prost::Name>() -> Self {
        Self { package: T::PACKAGE, name: T::NAME }
    }

    /// Whether `full_name` is this name, without a dot in front.
    #[inline]
    #[must_use]
    pub fn matches(&self, full_name: &str) -> bool {
        if self.package.is_empty() {
            return full_name == self.name;
        }
        let rest = full_name.strip_prefix(self.package).and_then(|rest| rest.strip_prefix('.'));
        rest == Some(self.name)
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.package.is_empty() {
            f.write_str(self.name)
        } else {
            write!(f, "{}.{}", self.package, self.name)
        }
    }
}

/// A payload from a protobuf wire, before anything of it is read.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    /// What the peer says it is. Not checked: it may be any text.
    pub type_name: &'a str,
    /// What wrote it: [`SerializerId::PROTOBUF`] or [`SerializerId::JSON`].
    pub serializer: SerializerId,
    /// The bytes.
    pub payload: &'a [u8],
    /// Whether the envelope names a sender, who waits for an answer.
    pub has_sender: bool,
}

impl Named<'_> {
    /// The error for a payload of a type that `M` has no variant for. The name is a peer's and is cut.
    #[must_use]
    pub fn unknown<M>(&self) -> DecodeError {
        let sender = if self.has_sender { "with" } else { "without" };
        DecodeError::UnknownManifest(format!(
            "{} has no variant that is `{}` {sender} a sender",
            core::any::type_name::<M>(),
            crate::address::printable(self.type_name),
        ))
    }
}

#[cfg(feature = "protobuf")]
impl Named<'_> {
    /// Whether this says that it is a `T`.
    #[inline]
    #[must_use]
    pub fn is<T: ProtobufValue>(&self) -> bool {
        TypeName::of::<T>().matches(self.type_name)
    }

    /// Reads a `T` in the protobuf format.
    ///
    /// Messages may be nested 100 deep (limit L13). Fields that `T` does not know are skipped, as protobuf wants it.
    ///
    /// # Errors
    /// When the name is another one, another serializer wrote the payload, or it is no such message.
    pub fn protobuf<T: ProtobufValue>(&self) -> Result<T, DecodeError> {
        self.expect::<T>(SerializerId::PROTOBUF)?;
        T::decode(self.payload)
            .map_err(|error| DecodeError::Failed(format!("{}: {error}", TypeName::of::<T>())))
    }

    /// Reads a `T` in the JSON format, by the `Deserialize` of `T`.
    ///
    /// Values may be nested 128 deep (limit L13). Rust's own types that stand for well-known ones are read as the JSON
    /// mapping of protobuf has them: 64-bit numbers also as text, `()` as `{}`.
    ///
    /// # Errors
    /// As [`protobuf`](Self::protobuf).
    #[cfg(feature = "json")]
    pub fn json<T: ProtobufValue + serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.expect::<T>(SerializerId::JSON)?;
        super::json::read(self.payload)
            .map_err(|error| DecodeError::Failed(format!("{}: {error}", TypeName::of::<T>())))
    }

    /// Reads a `T` in whichever of the two formats it was written.
    ///
    /// # Errors
    /// As [`protobuf`](Self::protobuf).
    #[cfg(feature = "json")]
    pub fn protobuf_or_json<T: ProtobufValue + serde::de::DeserializeOwned>(&self) -> Result<T, DecodeError> {
        if self.serializer == SerializerId::JSON { self.json() } else { self.protobuf() }
    }

    fn expect<T: prost::Name>(&self, serializer: SerializerId) -> Result<(), DecodeError> {
        let name = TypeName::of::<T>();
        if !name.matches(self.type_name) {
            return Err(DecodeError::UnknownManifest(format!(
                "`{}` came where `{name}` is expected",
                crate::address::printable(self.type_name)
            )));
        }
        if self.serializer == serializer {
            return Ok(());
        }
        let hint = if self.serializer == SerializerId::JSON {
            "; with `json` beside `protobuf` in `#[message(..)]` that format is read as well"
        } else {
            ""
        };
        Err(DecodeError::Failed(format!(
            "`{name}` is read by serializer {}, the payload was written by serializer {}{hint}",
            serializer.0, self.serializer.0
        )))
    }
}

impl fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the payload: it may hold what no log should.
        let Self { type_name, serializer, payload, has_sender } = self;
        write!(
            f,
            "Named({}, {serializer:?}, {} bytes{})",
            crate::address::printable(type_name),
            payload.len(),
            if *has_sender { ", with a sender" } else { "" }
        )
    }
}

/// A protobuf message type that can be in a message of an actor, or an answer. An alias for its bounds; implemented for
/// every such type.
///
/// Types that `prost` generates with `enable_type_names` are. So are Rust's own where protobuf has a wrapper: `String`,
/// `bool`, `i32`, `i64`, `u32`, `u64`, `f32`, `f64`, `Vec<u8>`, and `()` for `google.protobuf.Empty`.
#[cfg(feature = "protobuf")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no protobuf message with a name",
    label = "not a payload or an answer of the protobuf wire",
    note = "use a type that `prost` generates with `enable_type_names`, or one that has a wrapper in protobuf (`String`, \
            `bool`, `i32`, `i64`, `u32`, `u64`, `f32`, `f64`, `Vec<u8>`, `()`), or mark the variant \
            `#[message(native)]`"
)]
pub trait ProtobufValue: prost::Message + prost::Name + Default + Send + 'static {}
#[cfg(feature = "protobuf")]
#[diagnostic::do_not_recommend]
impl<T: prost::Message + prost::Name + Default + Send + 'static> ProtobufValue for T {}

/// One variant of a message as it is on a protobuf wire.
#[derive(Clone, Copy)]
pub struct ProtobufForm {
    type_name: TypeName,
    asks: bool,
    full_name: Option<fn() -> String>,
}

impl ProtobufForm {
    /// A message without a `Reply`, whose payload is of this type.
    #[must_use]
    pub const fn tell(type_name: TypeName) -> Self {
        Self { type_name, asks: false, full_name: None }
    }

    /// A message with a `Reply`, whose payload is of this type.
    #[must_use]
    pub const fn ask(type_name: TypeName) -> Self {
        Self { type_name, asks: true, full_name: None }
    }

    /// [`tell`](Self::tell) with the name of `T`, which is checked against what `T` says it is called.
    #[cfg(feature = "protobuf")]
    #[must_use]
    pub const fn tell_of<T: ProtobufValue>() -> Self {
        Self { type_name: TypeName::of::<T>(), asks: false, full_name: Some(T::full_name) }
    }

    /// [`ask`](Self::ask) with the name of `T`, which is checked against what `T` says it is called.
    #[cfg(feature = "protobuf")]
    #[must_use]
    pub const fn ask_of<T: ProtobufValue>() -> Self {
        Self { type_name: TypeName::of::<T>(), asks: true, full_name: Some(T::full_name) }
    }

    /// The name of the payload's type.
    #[must_use]
    pub const fn type_name(&self) -> TypeName {
        self.type_name
    }

    /// Whether it holds a `Reply`.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.asks
    }
}

impl fmt::Debug for ProtobufForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.type_name, if self.asks { " with a reply" } else { "" })
    }
}

/// How messages of type `M` travel on a protobuf wire.
///
/// One payload type may stand for two variants, one with a `Reply` and one without: a payload with a sender is the first
/// of them, one without is the second. Where only one of the two is there, it takes both: an asker whose variant has no
/// `Reply` gets no answer, and a `Reply` that nobody asked for answers nobody.
pub struct ProtobufCodec<M> {
    /// The variants that cross this wire.
    pub forms: &'static [ProtobufForm],
    /// Writes the payload, notes its type (`Encoder::protobuf` does) and lifts a `Reply` into the envelope
    /// (`Encoder::reply_protobuf`).
    pub encode: fn(&M, &mut Encoder<'_>) -> Result<(), EncodeError>,
    /// Reads a payload.
    pub decode: fn(&Named<'_>) -> Result<M, DecodeError>,
}

impl<M> ProtobufCodec<M> {
    /// The names of all payload types, in the order of the variants; a name may come twice.
    pub fn type_names(&self) -> impl Iterator<Item = TypeName> + use<M> {
        self.forms.iter().map(ProtobufForm::type_name)
    }

    /// Checks what cannot be seen at compile time: that no two variants would be read for the same payload, and that
    /// each type has the name it is sent under.
    ///
    /// # Errors
    /// With the rule that is broken, and how to mend it.
    pub fn check(&self) -> Result<(), String> {
        check(self.forms)
    }
}

pub(super) fn check(forms: &[ProtobufForm]) -> Result<(), String> {
    for (at, form) in forms.iter().enumerate() {
        let ProtobufForm { type_name, asks, full_name } = *form;
        if forms[..at].iter().any(|other| other.type_name == type_name && other.asks == asks) {
            return Err(format!(
                "two variants are `{type_name}` {} a `Reply`, so a payload does not tell which it is; give one of \
                 them another type, or mark it `#[message(native)]`",
                if asks { "with" } else { "without" }
            ));
        }
        if let Some(full_name) = full_name.map(|full_name| full_name())
            && !type_name.matches(&full_name)
        {
            return Err(format!(
                "`{full_name}` is declared inside another message, and its name is not known at compile time; declare \
                 it at the top of its file"
            ));
        }
    }
    Ok(())
}

impl<M> Clone for ProtobufCodec<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for ProtobufCodec<M> {}

impl<M> fmt::Debug for ProtobufCodec<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.forms).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_name_matches_its_full_name_and_nothing_else() {
        for (package, name, full) in [
            ("google.protobuf", "StringValue", "google.protobuf.StringValue"),
            ("remote", "ActorPidRequest", "remote.ActorPidRequest"),
            ("", "Bare", "Bare"),
        ] {
            let type_name = TypeName { package, name };
            assert_eq!(type_name.to_string(), full);
            assert!(type_name.matches(full));
            for other in ["", ".", name, package, &full[1..], &full[..full.len() - 1]] {
                assert_eq!(type_name.matches(other), other == full, "{other}");
            }
            for (before, after) in [(".", ""), ("", "."), ("/", ""), ("", "x"), (" ", "")] {
                let other = format!("{before}{full}{after}");
                assert!(!type_name.matches(&other), "{other}");
            }
        }
        let type_name = TypeName { package: "a.b", name: "C" };
        for other in ["a.bC", "a.bxC", "a.b..C", "a.C", "A.b.C"] {
            assert!(!type_name.matches(other), "{other}");
        }
    }

    #[test]
    fn one_payload_type_is_at_most_two_variants() {
        let (one, other) = (TypeName { package: "a", name: "B" }, TypeName { package: "a", name: "C" });
        for (name, forms, part) in [
            ("none", &[][..], ""),
            ("two", &[ProtobufForm::tell(one), ProtobufForm::tell(other)], ""),
            ("one of each", &[ProtobufForm::ask(one), ProtobufForm::tell(one)], ""),
            ("two tells", &[ProtobufForm::tell(one), ProtobufForm::tell(one)], "`a.B` without a `Reply`"),
            (
                "two asks",
                &[ProtobufForm::ask(one), ProtobufForm::tell(one), ProtobufForm::ask(one)],
                "`a.B` with a `Reply`",
            ),
        ] {
            let found = check(forms);
            match part {
                "" => assert_eq!(found, Ok(()), "{name}"),
                part => assert!(found.as_ref().is_err_and(|rule| rule.contains(part)), "{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_text_of_a_peer_is_cut_and_its_payload_is_not_shown() {
        let name = "x\n".repeat(1000);
        let serializer = SerializerId::PROTOBUF;
        let named = Named { type_name: &name, serializer, payload: b"secret", has_sender: true };
        let (shown, error) = (format!("{named:?}"), named.unknown::<u8>().to_string());
        assert!(shown.len() < 400 && error.len() < 400, "{shown} {error}");
        assert!(!shown.contains("secret") && shown.contains("6 bytes, with a sender"), "{shown}");
        assert!(!error.contains('\n') && error.contains("u8 has no variant"), "{error}");
    }
}
