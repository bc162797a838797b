//! What the benches share: each workload as a function from a number of operations to the time they took, and beside
//! it the floor, the best plain program for the same work.

#![allow(dead_code, reason = "each bench uses a part")]

pub(crate) mod floor;
pub(crate) mod local;
pub(crate) mod memory;
pub(crate) mod remote;
pub(crate) mod transport;
pub(crate) mod wire;

use std::sync::OnceLock;

use nexus_actor::ActorSystem;
use tokio::runtime::Runtime;

/// Threads of every runtime here, ours and floors alike.
pub(crate) const WORKERS: usize = 2;

/// A sender lets others run after so many messages, as an actor does after a slice.
pub(crate) const SLICE: u64 = 256;

/// The runtime of this process.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .expect("the operating system gives threads")
    })
}

/// Runs `work` on a worker thread and waits for it from outside.
pub(crate) fn on_worker<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    runtime().block_on(async { tokio::spawn(work).await.expect("no workload panics") })
}

/// The system of this process without remoting.
pub(crate) fn system() -> &'static ActorSystem {
    static SYSTEM: OnceLock<ActorSystem> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let _inside = runtime().enter();
        ActorSystem::builder("bench").build().expect("a system")
    })
}
