//! What peers begin: connections and calls, who they are, what they may, and how much of it is taken.

pub(crate) mod address_claim;
pub(crate) mod call;
pub(crate) mod diagnostics;
pub(crate) mod intake;
pub(crate) mod listener;
pub(crate) mod peer_identity;
pub(crate) mod peer_watcher;
pub(crate) mod service;
pub(crate) mod unfinished;
