//! Actors that talk across nodes exactly as they talk inside one.
//!
//! An actor is state that is changed by one message at a time. Its message type *is* its protocol: a plain enum,
//! dispatched statically. One typed reference, [`ActorRef<M>`](ActorRef), means an actor here or on another
//! node, with the same calls, and can itself be put inside a message.
//!
//! ```
//! use nexus_actor::prelude::*;
//! use serde::{Deserialize, Serialize};
//! # use core::time::Duration;
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[message(manifest = "shop.counter@1")]            // only for messages that may cross a wire
//! enum Counter { Add(i64), Get(Reply<i64>), Join(ActorRef<Counter>) }
//!
//! #[derive(Default)]
//! struct Tally { n: i64 }
//!
//! impl Actor for Tally {
//!     type Msg = Counter;
//!     async fn receive(&mut self, msg: Counter, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
//!         match msg {
//!             Counter::Add(by) => self.n += by,
//!             Counter::Get(reply) => reply.send(self.n),
//!             Counter::Join(peer) => { cx.watch(&peer); peer.tell(Counter::Add(self.n)); }
//!         }
//!         Ok(())
//!     }
//!     // async fn signal(&mut self, signal: Signal, cx) : Started, Stopping, Terminated{who, reason}, ChildFailed ..
//! }
//!
//! # use nexus_actor::remote::RemotingExtensionConfig;
//! # use nexus_actor::remote::transport::{LoopbackNetwork, LoopbackTransport, TransportFactory};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn core::error::Error>> {
//! # // Two nodes under the addresses below, on a network inside this process.
//! # let network = LoopbackNetwork::new();
//! # let node = |host: &str| {
//! #     let network = network.clone();
//! #     let transports = TransportFactory::new()
//! #         .with_transport("fraktor.tcp", move || Ok(std::sync::Arc::new(LoopbackTransport::new(&network))));
//! #     let remoting = RemotingExtensionConfig::default()
//! #         .with_transport_factory(transports)
//! #         .with_canonical_host(host)
//! #         .with_insecure_plaintext(true);
//! #     ActorSystem::builder("shop").with_remoting(remoting).build()
//! # };
//! # let system = node("10.0.0.1")?;
//! # let second = node("10.0.0.2")?;
//! # second.register::<Counter>()?;
//! # second.spawn("counter", Props::from_fn(|| Tally { n: 40 }))?;
//! let counter = system.spawn("counter", Props::from_fn(Tally::default))?;      // ActorRef<Counter>
//! counter.tell(Counter::Add(1));
//! let n = counter.ask(Counter::Get).await?;                                     // Reply<i64> made by ask
//! let far: ActorRef<Counter> = system.resolve("fraktor.tcp://shop@10.0.0.2:25520/user/counter")?;
//! let m = far.ask(Counter::Get).timeout(Duration::from_secs(5)).await?;         // same call, other node
//! # assert_eq!((n, m), (1, 40));
//! # counter.tell(Counter::Join(far.clone()));
//! # assert_eq!(counter.ask(Counter::Get).await?, 1); // by now it has told `far`
//! # assert_eq!(far.ask(Counter::Get).await?, 41);
//! # system.shutdown().await?;
//! # second.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The methods of an actor can be its messages; [`#[actor]`](macro@actor) writes the enum and the typed calls:
//!
//! ```
//! use nexus_actor::prelude::*;
//!
//! #[derive(Default)]
//! struct Tally { n: i64 }
//!
//! #[actor(manifest = "shop.tally@1")]
//! impl Tally {
//!     /// Adds to the sum.
//!     #[message]
//!     fn add(&mut self, by: i64) { self.n += by; }
//!
//!     /// The sum so far.
//!     #[message]
//!     fn get(&mut self) -> i64 { self.n }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn core::error::Error>> {
//! # let system = ActorSystem::builder("shop").build()?;
//! let tally = system.spawn("tally", Props::from_fn(Tally::default))?;
//! tally.add(2).await?;                                // waits for room
//! tally.tell_add(3);                                  // never waits
//! assert_eq!(tally.get().await?, 5);
//! # system.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What can be relied on
//!
//! - A message is delivered at most once, in order for each pair of sender and recipient, here and across nodes.
//! - What is not delivered is a dead letter with a reason: [`dead_letter`].
//! - A `tell` does not wait; [`try_tell`](ActorRef::try_tell) hands a refused message back;
//!   [`send`](ActorRef::send) waits for room; an [`ask`](ActorRef::ask) has a deadline and its error names the cause.
//! - A failure or panic in a handler concerns that actor only: [`supervision`].
//! - Nothing is global: any number of systems live in one process.
//!
//! # Features
//!
//! | feature | default | brings |
//! | --- | --- | --- |
//! | `std` | yes | the tokio runtime and, with `remote`, TCP; without it the crate is `no_std` with `alloc` |
//! | `macros` | yes | [`#[derive(Message)]`](macro@Message), [`#[actor]`](macro@actor) |
//! | `remote` | yes | [`remote`]: talking to other nodes |
//! | `protobuf` | no | `#[message(protobuf)]`: messages of `prost` inside messages of actors, for the protoactor wire |
//! | `json` | no | `#[message(protobuf, json)]`: those are also read where a peer wrote them as JSON |
//! | `grpc` | no | [`grpc`]: the protoactor wire, for protoactor-go nodes and nexus nodes; with `std`, `remote` and `json` |
//! | `metrics` | no | `remote::metrics`: figures for Prometheus over HTTP; with `std` and `remote` |
//! | `tracing` | yes | dead letters and, with `remote`, what happens to associations and messages as events of `tracing` |
//!
//! The features are additive: no combination takes anything away.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[doc(hidden)]
pub use nexus_actor_core::__private;

pub use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, ActorSystemBuilder, ActorSystemConfig, AnyRef, Ask, AskError,
    Backoff, Behavior, BuildError, Context, CorrelationId, DeadLetterReason, Directive, Failure, Headers,
    Instant, MailboxConfig, Overflow, Pool, Props, Refusal, Reply, ResolveError, Router, Runtime, Scope,
    ShutdownError, Signal, SpawnError, StashFull, SupervisorStrategy, TellError, TerminationReason,
    TickDriverConfig, TimerKey, WireValue, WorkerPool,
};

#[cfg(feature = "std")]
pub use nexus_actor_core::StdTickDriverConfig;

pub use nexus_actor_core::actor_ref::{Sending, Stopped};
pub use nexus_actor_core::serialization::Message;
#[cfg(feature = "protobuf")]
#[cfg_attr(docsrs, doc(cfg(feature = "protobuf")))]
pub use nexus_actor_core::serialization::ProtobufValue;

#[cfg(feature = "macros")]
pub use nexus_actor_macros::{Message, actor};

#[doc(inline)]
pub use nexus_actor_core::{
    actor_ref, ask, builder, context, coordinated_shutdown, dead_letter, event_stream, extension, headers,
    mailbox, path, pid, process_registry, props, reason, remote_authority, router, runtime, scheduler,
    serialization, signal, supervision, system, tick_driver, time, worker_pool,
};

/// What a network implements to carry references: routes to other nodes, and the provider that finds them.
///
/// `nexus_actor::remote` is the implementation that comes with nexus. Applications need this module only
/// to bring another one.
pub mod provider {
    pub use nexus_actor_core::builder::ActorRefProviderFactory;
    pub use nexus_actor_core::remote::{
        ActorRefProvider, Encode, Fate, PendingReply, RemoteTermination, ReplyKey, ReplyTo, Route, Wire,
    };
}

/// Talking to other nodes: the extension and its configuration, transports, events, metrics.
#[cfg(feature = "remote")]
#[cfg_attr(docsrs, doc(cfg(feature = "remote")))]
pub mod remote {
    #[doc(inline)]
    pub use nexus_remote::*;
}

/// The protoactor wire, over gRPC: a node that protoactor-go nodes take for one of theirs.
///
/// ```
/// use nexus_actor::grpc::{Config, Remote};
/// use nexus_actor::pid::Pid;
/// use nexus_actor::prelude::*;
///
/// #[derive(Message)]
/// #[message(protobuf)] // each variant is a protobuf message, with a sender where there is a `Reply`
/// enum Greet {
///     Hello(String, Reply<String>),
/// }
///
/// struct Greeter;
///
/// impl Actor for Greeter {
///     type Msg = Greet;
///     async fn receive(&mut self, Greet::Hello(name, reply): Greet, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
///         reply.send(format!("hello {name}"));
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn core::error::Error>> {
/// let (a, b) = (ActorSystem::builder("a").build()?, ActorSystem::builder("b").build()?);
/// a.register::<Greet>()?;
/// b.register::<Greet>()?;
/// let here = Remote::start(&a, Config::new("127.0.0.1", 0)).await?;
/// let there = Remote::start(&b, Config::new("127.0.0.1", 0)).await?;
///
/// b.spawn("greeter", Props::from_fn(|| Greeter))?;
/// let far: ActorRef<Greet> = here.resolve(&Pid::new(there.address(), "greeter"))?;
/// assert_eq!(far.ask(|reply| Greet::Hello("world".into(), reply)).await?, "hello world");
///
/// there.register("greeter", Props::from_fn(|| Greeter)); // a kind that peers may spawn
/// let pid = here.spawn_remote(there.address(), "greeter").await?;
/// let spawned: ActorRef<Greet> = here.resolve(&pid)?;
/// assert_eq!(spawned.ask(|reply| Greet::Hello("you".into(), reply)).await?, "hello you");
/// # a.shutdown().await?;
/// # b.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub mod grpc {
    #[doc(inline)]
    pub use nexus_remote_grpc::*;
}

/// What most files that have to do with actors use.
///
/// ```
/// use nexus_actor::prelude::*;
/// ```
pub mod prelude {
    #[doc(no_inline)]
    pub use crate::{
        Actor, ActorError, ActorRef, ActorSystem, AnyRef, AskError, Context, MailboxConfig, Message, Props,
        Reply, Signal, SupervisorStrategy, TerminationReason,
    };

    #[cfg(feature = "macros")]
    #[doc(no_inline)]
    pub use crate::actor;

    #[cfg(feature = "remote")]
    #[doc(no_inline)]
    pub use crate::remote::WithRemoting;
}

// The guides and the README compile and run as tests.
#[cfg(all(doctest, feature = "std", feature = "macros", feature = "remote"))]
mod guides {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/guides/getting-started.md")]
    struct GettingStarted;

    #[doc = include_str!("../../../docs/guides/remoting-quickstart.md")]
    struct RemotingQuickstart;

    #[doc = include_str!("../../../docs/ja/remoting-quickstart.md")]
    struct RemotingQuickstartJa;

    #[cfg(feature = "metrics")]
    #[doc = include_str!("../../../docs/guides/metrics.md")]
    struct Metrics;
}

// The same for the protoactor wire.
#[cfg(all(doctest, feature = "macros", feature = "grpc"))]
mod grpc_guides {
    #[doc = include_str!("../../../docs/guides/reconnect.md")]
    struct Reconnect;

    #[doc = include_str!("../../../docs/guides/backpressure.md")]
    struct Backpressure;

    #[doc = include_str!("../../../docs/guides/grpc-tls.md")]
    struct GrpcTls;

    #[doc = include_str!("../../../docs/guides/from-protoactor-go.md")]
    struct FromProtoactorGo;

    #[doc = include_str!("../../../docs/guides/operations.md")]
    struct Operations;

    #[doc = include_str!("../../../docs/ja/operations.md")]
    struct OperationsJa;
}
