//! Resident memory of idle actors, each number of them in a process of its own.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::process::Command;

use nexus_actor::prelude::*;

/// The role of the process that counts.
pub(crate) const ROLE: &str = "--idle-actors";

static STARTED: AtomicU64 = AtomicU64::new(0);

/// 64 bytes of its own.
struct Idle {
    state: [u64; 8],
}

impl Actor for Idle {
    type Msg = super::local::Load;

    async fn receive(&mut self, _: Self::Msg, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.state[0] += 1;
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if matches!(signal, Signal::Started) {
            STARTED.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// Resident bytes of this process, where `/proc` says so.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    // In pages, of 4 KiB on every machine that this is compared on.
    statm.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4096)
}

/// Prints the resident bytes of `n` idle actors and the references to them, and those of the whole process.
pub(crate) fn run(n: u64) {
    let system = super::system();
    let mut refs = Vec::with_capacity(n as usize);
    let Some(before) = resident() else { return };
    super::runtime().block_on(async {
        for i in 0..n {
            refs.push(system.spawn_anonymous(Props::from_fn(|| Idle { state: [1; 8] })).expect("spawns"));
            if i % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while STARTED.load(Ordering::Acquire) < n {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The last turns end after their signal.
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    let after = resident().unwrap_or(before);
    println!("{} {after}", after.saturating_sub(before));
}

/// Resident bytes of `n` idle actors, and of the process that had them.
pub(crate) fn measure(n: u64) -> Option<(u64, u64)> {
    let this = std::env::current_exe().ok()?;
    let output = Command::new(this).arg(ROLE).arg(n.to_string()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (actors, all) = text.trim().split_once(' ')?;
    Some((actors.parse().ok()?, all.parse().ok()?))
}
