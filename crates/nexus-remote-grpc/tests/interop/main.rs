//! Live protoactor-go nodes of both wire generations, on loopback.
//!
//! Where there is no Go, each test passes after one line on stderr that begins with `skipped:`.
//! With `NEXUS_INTEROP=required` in the environment it fails instead.

mod go_node;
mod go_to_go;
mod go_to_rust;
mod restarts;
mod rust_node;
mod rust_to_go;
#[path = "../support/mod.rs"]
mod support;
