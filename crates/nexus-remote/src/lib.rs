//! nexus

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config_error;
pub mod failure_detector;
pub mod wire;
