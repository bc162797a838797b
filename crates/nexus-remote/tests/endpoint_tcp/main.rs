//! The scenarios of `endpoint`, the same bodies, over real sockets on virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test has an operating system, and ends where it is surprised"
)]

/// Whether simulations run over sockets.
const OVER_TCP: bool = true;

#[path = "../endpoint/kit.rs"]
mod kit;
#[path = "../endpoint/puppet.rs"]
mod puppet;

#[path = "../endpoint/backpressure.rs"]
mod backpressure;
#[path = "../endpoint/block_list.rs"]
mod block_list;
#[path = "../endpoint/configuration.rs"]
mod configuration;
#[path = "../endpoint/endpoint_events.rs"]
mod endpoint_events;
#[path = "../endpoint/events.rs"]
mod events;
#[path = "../endpoint/faults.rs"]
mod faults;
#[path = "../endpoint/frames.rs"]
mod frames;
#[path = "../endpoint/hostile.rs"]
mod hostile;
#[path = "../endpoint/lifecycle.rs"]
mod lifecycle;
#[path = "../endpoint/lone_asks.rs"]
mod lone_asks;
#[path = "../endpoint/messages.rs"]
mod messages;
#[path = "../endpoint/observation.rs"]
mod observation;
#[path = "../endpoint/pressure.rs"]
mod pressure;
#[path = "../endpoint/quarantine.rs"]
mod quarantine;
#[path = "../endpoint/shutdown.rs"]
mod shutdown;
#[path = "../endpoint/watching.rs"]
mod watching;
