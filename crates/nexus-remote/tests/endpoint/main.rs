//! Whole nodes: on virtual time over the loopback, and the main things again over TCP.

#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test has an operating system, and ends where it is surprised"
)]

/// Whether simulations run over sockets.
const OVER_TCP: bool = false;

mod kit;
mod puppet;

mod backpressure;
mod block_list;
mod configuration;
mod control;
mod endpoint_events;
mod events;
mod faults;
mod frames;
mod hostile;
mod lifecycle;
mod limits;
mod lone_asks;
mod loopback;
mod messages;
mod observation;
mod pressure;
mod quarantine;
mod roles;
mod shutdown;
mod tcp;
mod watching;
