//! The runtime core of nexus: typed actors, their mailboxes, supervision and death watch.
//!
//! `no_std` with `alloc`; the feature `std` (on by default) brings the tokio runtime. This crate knows no
//! network: all it has of one is the [`remote::Route`] trait, which the remote crate implements.
//!
//! The message type is the protocol of an actor, and [`ActorRef`] is how others reach it:
//!
//! ```
//! use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply, Signal};
//!
//! enum Counter {
//!     Add(i64),
//!     Get(Reply<i64>),
//!     Join(ActorRef<Counter>),
//! }
//!
//! #[derive(Default)]
//! struct Tally {
//!     n: i64,
//! }
//!
//! impl Actor for Tally {
//!     type Msg = Counter;
//!
//!     async fn receive(&mut self, msg: Counter, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
//!         match msg {
//!             Counter::Add(by) => self.n += by,
//!             Counter::Get(reply) => reply.send(self.n),
//!             Counter::Join(peer) => {
//!                 cx.watch(&peer);
//!                 peer.tell(Counter::Add(self.n));
//!             }
//!         }
//!         Ok(())
//!     }
//!
//!     async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
//!         if let Signal::Terminated { .. } = signal {
//!             cx.stop();
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let system = ActorSystem::builder("shop").build()?;
//! let counter = system.spawn("counter", Props::from_fn(Tally::default))?;
//! let other = system.spawn("other", Props::from_fn(Tally::default))?;
//! counter.tell(Counter::Add(1));
//! assert_eq!(counter.ask(Counter::Get).await?, 1);
//!
//! counter.tell(Counter::Join(other.clone()));
//! assert_eq!(counter.ask(Counter::Get).await?, 1); // it has handled `Join` by now
//! assert_eq!(other.ask(Counter::Get).await?, 1);
//! system.shutdown().await?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! An [`Actor`] that fails is restarted, stopped or given up as the [`SupervisorStrategy`] of its parent says; a
//! [`Router`] or a [`WorkerPool`] puts many behind one reference; a [`runtime::PumpRuntime`] runs all of it on
//! virtual time.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_alloc, clippy::std_instead_of_core)]

extern crate alloc;

#[doc(hidden)]
pub mod __private;
pub mod actor;
pub mod actor_ref;
pub mod address;
pub mod ask;
pub mod builder;
pub mod context;
pub mod coordinated_shutdown;
pub mod correlation_id;
pub mod dead_letter;
pub mod event_stream;
pub mod extension;
pub mod guardian;
pub mod headers;
pub mod lock;
pub mod mailbox;
mod nest;
pub mod path;
pub mod pid;
pub mod process_registry;
pub mod props;
pub mod reason;
pub mod remote;
pub mod remote_authority;
pub mod ring_queue;
pub mod router;
pub mod runtime;
pub mod scheduler;
mod serde_ref;
pub mod serialization;
pub mod signal;
pub mod supervision;
pub mod system;
pub mod tick_driver;
pub mod time;
mod turn;
pub mod worker_pool;

pub use actor::{Actor, ActorError};
pub use actor_ref::{ActorRef, AnyRef, TellError};
pub use ask::{Ask, Reply, WireValue};
pub use builder::{ActorSystemBuilder, BuildError};
pub use context::{Behavior, Context, StashFull, TimerKey};
pub use correlation_id::CorrelationId;
pub use headers::Headers;
pub use mailbox::{MailboxConfig, Overflow};
pub use nest::SpawnError;
pub use props::Props;
pub use reason::{AskError, DeadLetterReason, Refusal};
pub use router::Router;
pub use runtime::Runtime;
pub use signal::{Signal, TerminationReason};
pub use supervision::{Backoff, Directive, Failure, Scope, SupervisorStrategy};
pub use system::{ActorSystem, ActorSystemConfig, ResolveError, ShutdownError};
#[cfg(feature = "std")]
pub use tick_driver::StdTickDriverConfig;
pub use tick_driver::TickDriverConfig;
pub use time::Instant;
pub use worker_pool::{Pool, WorkerPool};
