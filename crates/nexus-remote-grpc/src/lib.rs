//! Remoting over gRPC, on the wire of protoactor-go: a node of this crate takes a place among Go nodes of both wire
//! generations, and talks to others of its kind with what Go lacks: clients that only dial out, acknowledged counts, JSON
//! and protobuf side by side. Applications find it as the module `grpc` of `nexus-actor`.
//!
//! [`Remote`] is a node: it listens, dials, spawns and is spawned on. [`Config`] and [`ConfigOption`] are its settings,
//! [`EndpointManager`] is what operators and tests do with its endpoints. Actors are ordinary actors: what they send and
//! receive here is every message type with a protobuf form ([`Message::PROTOBUF`]), and references are the usual
//! [`ActorRef`]s.
//!
//! It knows nothing of cluster membership, and of the native wire only the events, figures and backpressure marks that both
//! share. Delivery is at most once, and in order for each pair of actors as long as one connection lasts; the wire has no
//! acknowledgements, so what a broken stream had taken is counted as unknown and not sent again.
//!
//! ```
//! use nexus_actor_core::pid::Pid;
//! use nexus_actor_core::serialization::protobuf::{ProtobufCodec, ProtobufForm};
//! use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
//! use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply};
//! use nexus_remote_grpc::{Config, Remote};
//!
//! struct Hello(String, Reply<String>);
//!
//! // `#[derive(Message)]` with `#[message(protobuf)]`, of `nexus-actor`, writes this.
//! impl Message for Hello {
//!     const MANIFEST: &'static str = "protobuf:hello";
//!     const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
//!         forms: &[ProtobufForm::ask_of::<String>()], // google.protobuf.StringValue with a sender
//!         encode: |Hello(name, reply), encoder| {
//!             encoder.reply_protobuf(reply)?;
//!             encoder.protobuf(name)
//!         },
//!         decode: |named| Ok(Hello(named.protobuf()?, Reply::protobuf())),
//!     });
//! #   fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
//! #       Err(EncodeError::failed("not on the native wire"))
//! #   }
//! #   fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
//! #       Err(DecodeError::failed("not on the native wire"))
//! #   }
//!     // `encode` and `decode` for the native wire are left out here.
//! }
//!
//! struct Greeter;
//!
//! impl Actor for Greeter {
//!     type Msg = Hello;
//!     async fn receive(&mut self, Hello(name, reply): Hello, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
//!         reply.send(format!("hello {name}"));
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (a, b) = (ActorSystem::builder("a").build()?, ActorSystem::builder("b").build()?);
//! b.register::<Hello>()?; // what b takes from a network
//! let here = Remote::start(&a, Config::new("127.0.0.1", 0)).await?;
//! let there = Remote::start(&b, Config::new("127.0.0.1", 0)).await?;
//!
//! b.spawn("greeter", Props::from_fn(|| Greeter))?;
//! let far: ActorRef<Hello> = here.resolve(&Pid::new(there.address(), "greeter"))?;
//! assert_eq!(far.ask(|reply| Hello("world".into(), reply)).await?, "hello world");
//!
//! there.register("greeter", Props::from_fn(|| Greeter)); // a kind that peers may spawn
//! let pid = here.spawn_remote(there.address(), "greeter").await?;
//! let spawned: ActorRef<Hello> = here.resolve(&pid)?;
//! assert_eq!(spawned.ask(|reply| Hello("you".into(), reply)).await?, "hello you");
//! # a.shutdown().await?;
//! # b.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Logs
//!
//! With the feature `tracing` (on by default) these events are written to [`tracing`](https://docs.rs/tracing), all with the
//! target `nexus_remote_grpc::endpoint`. The first three are observation points of the documents this crate follows; the
//! fourth, a dead letter, is written by the core: target `nexus_actor_core::dead_letter`, at a bounded rate.
//!
//! Each message is written once in 100 ms for one source, and says in `held_back` how many like it were not. The source of what
//! a call causes is the host that it comes from, of IPv6 its /64, whatever the peer calls itself; that of what is reached for
//! here is the address. Sources beyond 1,024 share one.
//!
//! | message | level | fields | when |
//! | --- | --- | --- | --- |
//! | `connected` | info | `address`, `system_id` | a connection that this node dialled, or a client, serves |
//! | `disconnected` | info | `address`, `cause` | a connection that this node had dialled is over |
//! | `reconnecting` | info | `address`, `attempt` | an attempt begins, other than the first of a row that a message began |
//! | `terminated` | warn | `address`, `reason` | the endpoint was given up, left, blocked or shut down |
//! | `backpressure` | warn | `address`, `level`, `messages`, `bytes` | the queue toward the address reached another level |
//! | `call refused` | warn | `address`, `system_id`, `why` | a peer that dialled is blocked, its certificate is of another host, or another that lives has its address or id |
//! | `attempt failed` | debug | `address`, `why` | a dial, call or handshake did not succeed |
//! | `unexpected message` | debug | `address`, `what` | a message or envelope that cannot be read, or that nobody sends this way |
//! | `accept failed` | warn | `error` | the operating system gave no connection; it is asked again after 100 ms |
//! | `the listener failed` | error | `address`, `error` | it could not be bound or served: it is bound again, with growing waits |
//! | `start` | warn | `warning` | what an operator should know at every start: plain text beyond this host, peers that may stop actors |
//!
//! [`Message::PROTOBUF`]: nexus_actor_core::serialization::Message::PROTOBUF
//! [`ActorRef`]: nexus_actor_core::ActorRef

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as nexus_remote_grpc;

pub mod block_list;
pub mod client_connection;
pub mod config;
pub mod config_option;
pub mod endpoint;
pub mod endpoint_manager;
mod endpoint_reader;
pub mod endpoint_state;
mod endpoint_supervisor;
pub mod endpoint_watcher;
mod endpoint_writer;
pub mod endpoint_writer_mailbox;
mod inbound;
mod kinds;
mod log;
mod mutual_tls;
mod node;
mod pending_asks;
pub mod remote;
pub mod status;
pub mod wire;

pub use client_connection::{ClientConnection, ClientResponseSender};
pub use config::Config;
pub use config_option::ConfigOption;
pub use endpoint::Endpoint;
pub use endpoint_manager::EndpointManager;
pub use kinds::ACTIVATOR;
pub use mutual_tls::MutualTls;
pub use remote::{Remote, RemoteError};
pub use status::{ResponseStatusCode, SpawnRemoteError};
/// The gRPC library, whose types stand in TLS settings and options.
pub use tonic;
