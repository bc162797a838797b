//! What tests of nexus actors need and production does not.
//!
//! [`TestProbe`] is an actor that remembers what it saw; [`Simulation`] runs whole nodes in one thread on virtual time, over
//! the loopback or over real sockets, where a node can be killed or frozen at any moment.
//!
//! [`HostileRounds`] feeds a decoder bytes that are random or damaged.
//!
//! [`FaultLink`] puts a bad network between nodes, on any transport, without waiting for anything:
//!
//! ```
//! use std::sync::Arc;
//! use nexus_remote::transport::{LoopbackNetwork, LoopbackTransport};
//! use nexus_testkit::{Cut, Direction, FaultLink};
//!
//! let network = LoopbackNetwork::new();
//! let link = FaultLink::new(Arc::new(LoopbackTransport::new(&network)));
//! let control = link.control();
//! // Hand `link` to a node as its transport; then, while it runs:
//! control.stall(Direction::Inbound);      // a half-open link: it sends, and hears nothing
//! control.pass(Direction::Inbound);
//! control.cut(Cut::Reset);                // every connection breaks now
//! assert_eq!(control.counts().cut, 0);    // there was none
//! ```

#![forbid(unsafe_code)]

extern crate alloc;

mod disturbance;
mod fault_link;
mod hostile;
mod medium;
mod mortal;
mod probe;
mod simulation;

pub use disturbance::Disturbance;
pub use fault_link::{Cut, DialFate, Direction, FaultControl, FaultCounts, FaultLink};
pub use hostile::{HostileRounds, damage, fill};
pub use mortal::MortalRuntime;
pub use probe::{ProbeEvent, ProbeTimeout, TestProbe};
pub use simulation::{Decoy, SimNode, Simulation, Stranger};
