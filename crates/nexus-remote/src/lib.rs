//! Remoting for nexus actors: the native wire protocol, its association machine and its transports.
//!
//! `no_std` with `alloc`; the feature `std` (on by default) brings TCP over tokio.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backpressure;
pub mod transport;
