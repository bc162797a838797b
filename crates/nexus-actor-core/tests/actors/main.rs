//! The runtime as an application sees it, on virtual time unless threads are what a test is about.

#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    reason = "a test has an operating system, and ends where it is surprised"
)]

mod kit;

mod asks;
mod delivery;
mod failures;
mod given_up;
mod houses;
mod in_order;
mod life;
mod many;
mod names;
mod peers;
mod pools;
mod refs;
mod stopped;
mod supervision;
mod threads;
mod timers;
mod watching;
#[cfg(feature = "json")]
mod wires;
