//! The lines of this crate's log, at the points that operations ask for: a connection made, lost, tried again, given up.
//! Dead letters are written by the core. The crate's documentation lists them all: keep it true.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables, reason = "nothing is written"))]

use crate::endpoint_state::{DisconnectCause, TerminatedReason};

macro_rules! line {
    ($level:ident, $($arg:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!(target: "nexus_remote_grpc::endpoint", $($arg)*);
    };
}

pub(crate) fn connected(address: &str, system_id: &str) {
    line!(info, address, system_id, "connected");
}

pub(crate) fn disconnected(address: &str, cause: &DisconnectCause) {
    line!(info, address, %cause, "disconnected");
}

pub(crate) fn reconnecting(address: &str, attempt: u32) {
    line!(info, address, attempt, "reconnecting");
}

pub(crate) fn connect_failed(address: &str, why: &str) {
    line!(debug, address, why, "attempt failed");
}

pub(crate) fn terminated(address: &str, reason: &TerminatedReason) {
    line!(warn, address, %reason, "terminated");
}

pub(crate) fn throttled(address: &str, level: &str, messages: usize, bytes: usize) {
    line!(warn, address, level, messages, bytes, "backpressure");
}

pub(crate) fn refused(address: &str, system_id: &str, why: &str) {
    line!(warn, address, system_id, why, "call refused");
}

pub(crate) fn unexpected(address: &str, what: &str) {
    line!(debug, address, what, "unexpected message");
}

pub(crate) fn accept_failed(error: &std::io::Error) {
    line!(warn, %error, "accept failed");
}

pub(crate) fn listener_failed(address: &str, error: &str) {
    line!(error, address, error, "the listener failed");
}

pub(crate) fn start_warning(warning: &str) {
    line!(warn, warning, "start");
}
