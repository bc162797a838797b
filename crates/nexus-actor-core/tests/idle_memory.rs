//! What an idle actor costs. A process of its own, for the operating system counts whole processes.

#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nexus_actor_core::*;

/// 64 bytes of its own and a pointer.
struct Idle {
    state: [u64; 8],
    started: Arc<AtomicUsize>,
}

impl Actor for Idle {
    type Msg = u64;

    async fn receive(&mut self, message: u64, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.state[0] += message;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if matches!(signal, Signal::Started) {
            self.started.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has the line");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// Spawns actors until there are `count` and all of them are idle.
async fn fill(system: &ActorSystem, refs: &mut Vec<ActorRef<u64>>, count: usize) {
    let started = Arc::new(AtomicUsize::new(0));
    let first = refs.len();
    for n in first..count {
        let started = started.clone();
        let make = Props::from_fn(move || Idle { state: [1; 8], started: started.clone() });
        refs.push(system.spawn_anonymous(make).expect("spawns"));
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // On one thread: who is counted has ended its turn when this looks again.
    while started.load(Ordering::Relaxed) < count - first {
        tokio::task::yield_now().await;
    }
}

/// Each at most 600 bytes, and the process with a million of them at most 0.7 GiB; the same in debug and release.
#[test]
fn a_million_idle_actors_fit() {
    const EACH_MAX: usize = 600;
    const PROCESS_MAX: usize = 7 * (1 << 30) / 10;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let system = ActorSystem::builder("idle").build().expect("builds");
        let mut refs = Vec::with_capacity(1_000_000);
        let before = resident();
        fill(&system, &mut refs, 100_000).await;
        let each = (resident() - before) / refs.len();
        println!("{each} bytes each");
        assert!(each <= EACH_MAX, "{each} bytes each");
        fill(&system, &mut refs, 1_000_000).await;
        let process = resident();
        println!("{process} bytes");
        assert!(process <= PROCESS_MAX, "{process} bytes with a million actors");
    });
}
