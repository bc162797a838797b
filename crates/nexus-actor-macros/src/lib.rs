//! The macros of nexus.
//!
//! `#[derive(Message)]` gives a type its name on the wire; `#[actor]` makes methods of an actor's state its
//! messages. Nothing here is needed: whatever a macro writes can be written by hand, and its documentation
//! shows the code.

#![forbid(unsafe_code)]

mod actor;
mod faults;
mod manifest;
mod message;
mod options;
mod protobuf;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `Message` for a type that may cross a wire, by way of serde.
///
/// ```
/// # extern crate nexus_actor_core as nexus_actor;
/// # use nexus_actor_macros::Message;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[message(manifest = "shop.counter@1")]
/// enum Counter {
///     Add(i64),
///     Reset,
/// }
/// # fn main() {}
/// ```
///
/// writes
///
/// ```
/// # use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum Counter { Add(i64), Reset }
/// impl Message for Counter {
///     const MANIFEST: &'static str = "shop.counter@1";
///
///     fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
///         encoder.postcard(self)
///     }
///
///     fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
///         let message = decoder.postcard()?;
///         decoder.finish()?;
///         Ok(message)
///     }
/// }
/// ```
///
/// # Keys of `#[message(..)]`
///
/// - `manifest = "name@version"`, required unless there is `protobuf`: the type's name on the wire. At most 256 bytes of
///   printable ASCII without spaces; the version is a decimal number. Two types of one name are refused when registered.
/// - `protobuf`: the type crosses the protobuf wire, see below. Needs the feature `protobuf`.
/// - `json`, beside `protobuf`: payloads that a peer of that wire wrote as JSON are read as well, by the `Deserialize` of
///   the payload's type. Written is protobuf always. Needs the feature `json`.
/// - `crate = path`: where `nexus_actor` (or `nexus_actor_core`) is, if not at `::nexus_actor`.
///
/// # On the protobuf wire
///
/// The protoactor wire names each payload by its protobuf type and the asker by the envelope's sender, so each variant
/// is one protobuf message:
///
/// | variant | is |
/// | --- | --- |
/// | `V(P)` | the message `P` |
/// | `V(P, Reply<T>)` | the message `P` with a sender, who gets the message `T` |
/// | `V(Reply<T>)` | `google.protobuf.Empty` with a sender, who gets the message `T` |
/// | `#[message(native)] ..` | nothing: the variant does not cross this wire, and to send it there is refused |
///
/// `P` and `T` are [`ProtobufValue`]s: what `prost` generates with `enable_type_names`, and Rust's own types where
/// protobuf has a wrapper, such as `String` and `i64`. A struct is `S(P)`, or one of the other two shapes.
///
/// ```
/// # extern crate nexus_actor_core as nexus_actor;
/// # use nexus_actor_macros::Message;
/// use nexus_actor::{ActorRef, Reply};
///
/// #[derive(Message)]
/// #[message(protobuf)]
/// enum Counter {
///     Add(i64),
///     Note(String),
///     Get(Reply<i64>),
///     Find(String, Reply<i64>),
///     #[message(native)]
///     Join { peer: ActorRef<Counter> },
/// }
/// # fn main() {}
/// ```
///
/// One type may be two variants, one with a `Reply` and one without: a payload with a sender is the first. Where only one
/// of the two is there it takes both. What else would be read for the same payload is refused, here or when the type is
/// registered.
///
/// With a manifest beside `protobuf` the type crosses both wires. Without one it needs nothing of serde, and a native node
/// refuses it: `MANIFEST` is then `protobuf:` and the type's path in Rust, under which it is registered and which is on no
/// wire. A variant for the protobuf wire alone is `#[serde(skip)]`.
///
/// [`ProtobufValue`]: https://docs.rs/nexus-actor/latest/nexus_actor/trait.ProtobufValue.html
///
/// # What may be inside
///
/// Whatever serde can write and read back, `Reply` (one per message: it travels in the envelope) and
/// `ActorRef`. A variant for use inside the process only is `#[serde(skip)]` and stands after the others: sending
/// one over a wire is refused with the message handed back. The number of a variant is its name on the wire:
/// append new ones, and give the manifest a new version when you reorder or change them. Attributes of serde
/// that need field names (`untagged`, `tag`, `flatten`, `skip_serializing_if`) are refused, since the
/// format, postcard, writes none.
///
/// # Generic messages
///
/// `struct Put<T> { .. }` is a message where it can be serialized and deserialized. All its instances share one
/// manifest, so a node registers one of them. With a `Reply<T>` or an `ActorRef<Self>` inside, serde's derived
/// bounds are too weak (the one who asks reads what the other wrote): add `#[serde(bound = "T: WireValue")]`.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes methods the messages of an actor: writes the message enum, `impl Actor`, and typed methods on the
/// reference.
///
/// ```
/// # extern crate nexus_actor_core as nexus_actor;
/// # use nexus_actor_macros::actor;
/// use nexus_actor::{ActorError, Context, Signal};
///
/// #[derive(Default)]
/// struct Tally {
///     n: i64,
/// }
///
/// #[actor(manifest = "shop.counter@1")]
/// impl Tally {
///     /// Adds to the sum.
///     #[message]
///     fn add(&mut self, by: i64) {
///         self.n += by;
///     }
///
///     /// The sum so far.
///     #[message]
///     async fn get(&mut self, cx: &mut Context<'_, Self>) -> i64 {
///         self.n
///     }
///
///     #[message]
///     async fn save(&mut self) -> Result<(), ActorError> {
///         Err("the disk is full".into()) // a failure of the actor: its supervisor decides
///     }
///
///     #[signal]
///     async fn on_signal(&mut self, signal: Signal) {}
/// }
///
/// # async fn f(counter: nexus_actor::ActorRef<TallyMsg>) -> Result<(), Box<dyn std::error::Error>> {
/// counter.add(1).await?; // waits for room
/// counter.tell_add(1); // never waits
/// let n: i64 = counter.get().await?;
/// # Ok(()) }
/// # fn main() {}
/// ```
///
/// # Which methods
///
/// The methods of the reference are those of a trait, `TallyRef`, which must be in scope where they are called.
///
/// | `#[message]` on | is | on the reference |
/// | --- | --- | --- |
/// | `fn add(&mut self, by: i64)` | tell | `add(by) -> Sending`, `tell_add(by)` |
/// | `.. -> Result<(), ActorError>` | tell; an error is a failure of the actor | the same |
/// | `.. -> T` | ask | `get() -> Ask<T>` |
/// | `.. -> Result<T, ActorError>` | ask; on an error the asker gets `NoReply` | `get() -> Ask<T>` |
/// | `fn later(&mut self, reply: Reply<T>)` | ask, answered whenever, by whomever has the reply | `later() -> Ask<T>` |
///
/// `fn` or `async fn`, with `&mut self` (a `&self` held over an `.await` needs the state to be `Sync`). An
/// argument of the type `&mut Context<'_, Self>` is the context; every other one is a field of the message
/// and owns its data. An answer of another `Result` is an answer like any other. `#[signal]` marks the method for
/// signals. Functions without a mark stay what they are, and marked ones can still be called, for instance in a
/// test.
///
/// # Keys
///
/// Of `#[actor(..)]`:
/// - `manifest = "name@version"`: the messages may cross a wire under this name, see [`macro@Message`]. Without
///   it they need only be `Send` and stay in the process.
/// - `message = Name`, `handle = Name`: other names than `TallyMsg` and `TallyRef`.
/// - `vis = pub(crate)`: the visibility of both, otherwise `pub`.
/// - `derive(Debug)`: more derives for the enum.
/// - `crate = path`: where `nexus_actor` (or `nexus_actor_core`) is, if not at `::nexus_actor`.
///
/// Of `#[message(..)]`:
/// - `name = Variant`: another variant than the method's name in camel case.
/// - `ask`: a method that returns nothing is an ask for `()`, so that the sender learns when it was done.
/// - `local`: this message stays in the process though the others may cross a wire.
///
/// The order of the methods is the order of the variants, which numbers them on the wire: append new ones, and
/// give the manifest a new version when you reorder or change them.
///
/// # The code
///
/// The block above stays as it is and is followed by
///
/// ```
/// # extern crate nexus_actor_core as nexus_actor;
/// # use nexus_actor_macros::Message;
/// # use nexus_actor::actor_ref::Sending;
/// # use nexus_actor::{Actor, ActorError, ActorRef, Ask, Context, Reply, Signal};
/// # use serde::{Deserialize, Serialize};
/// # struct Tally { n: i64 }
/// # impl Tally {
/// #     fn add(&mut self, by: i64) { self.n += by; }
/// #     async fn get(&mut self, cx: &mut Context<'_, Self>) -> i64 { self.n }
/// #     async fn save(&mut self) -> Result<(), ActorError> { Ok(()) }
/// #     async fn on_signal(&mut self, signal: Signal) {}
/// # }
/// #[derive(Message, Serialize, Deserialize)] // only with a manifest
/// #[message(manifest = "shop.counter@1")]
/// pub enum TallyMsg {
///     Add { by: i64 },
///     Get { reply: Reply<i64> },
///     Save,
/// }
///
/// impl Actor for Tally {
///     type Msg = TallyMsg;
///
///     async fn receive(&mut self, message: TallyMsg, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
///         match message {
///             TallyMsg::Add { by } => {
///                 Self::add(self, by);
///                 Ok(())
///             }
///             TallyMsg::Get { reply } => {
///                 reply.send(Self::get(self, cx).await);
///                 Ok(())
///             }
///             TallyMsg::Save => Self::save(self).await,
///         }
///     }
///
///     async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
///         Self::on_signal(self, signal).await;
///         Ok(())
///     }
/// }
///
/// pub trait TallyRef {
///     fn add(&self, by: i64) -> Sending<'_, TallyMsg>;
///     fn tell_add(&self, by: i64);
///     fn get(&self) -> Ask<i64>;
///     fn save(&self) -> Sending<'_, TallyMsg>;
///     fn tell_save(&self);
/// }
///
/// impl TallyRef for ActorRef<TallyMsg> {
///     fn add(&self, by: i64) -> Sending<'_, TallyMsg> {
///         self.send(TallyMsg::Add { by })
///     }
///     fn tell_add(&self, by: i64) {
///         self.tell(TallyMsg::Add { by })
///     }
///     fn get(&self) -> Ask<i64> {
///         self.ask(move |reply| TallyMsg::Get { reply })
///     }
///     fn save(&self) -> Sending<'_, TallyMsg> {
///         self.send(TallyMsg::Save)
///     }
///     fn tell_save(&self) {
///         self.tell(TallyMsg::Save)
///     }
/// }
/// # fn main() {}
/// ```
///
/// A generic actor is written by hand, after this pattern.
#[proc_macro_attribute]
pub fn actor(arguments: TokenStream, block: TokenStream) -> TokenStream {
    actor::expand(arguments.into(), block.into()).into()
}
