//! How a transport reports that writing is stalled. For those who write transports.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::Authority;

use crate::backpressure::{BackpressureHook, BackpressureSignal};

/// The hook shared by a transport and all its channels; clones are the same slot.
#[derive(Clone, Default)]
pub struct HookSlot(Arc<Lock<Option<SharedHook>>>);

type SharedHook = Arc<dyn BackpressureHook + Send + Sync>;

impl HookSlot {
    /// A slot without a hook.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `hook` the one that is called from now on, in place of the one before.
    pub fn install(&self, hook: Box<dyn BackpressureHook + Send + Sync>) {
        let before = self.0.lock().replace(Arc::from(hook));
        drop(before);
    }

    /// Calls the hook, if there is one.
    pub fn raise(&self, signal: BackpressureSignal, authority: &str) {
        let hook = self.0.lock().clone();
        if let Some(hook) = hook {
            hook.on_signal(signal, authority);
        }
    }
}

impl fmt::Debug for HookSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSlot").field("installed", &self.0.lock().is_some()).finish()
    }
}

/// Whether one channel's writes are stalled; tells the hook once per change.
///
/// Stalled is [`BackpressureSignal::Warning`]: the peer's window is full, nothing is lost by it. The end of a
/// stall is [`BackpressureSignal::Normal`], and so is the end of a stalled channel, so each warning has its end.
#[derive(Debug)]
pub struct StallReport {
    slot: HookSlot,
    /// As text, as the hook takes it: on a connection in full use it is told many times a second.
    peer: Box<str>,
    stalled: AtomicBool,
}

impl StallReport {
    /// A report for a channel to `peer`, not stalled.
    #[must_use]
    pub fn new(slot: HookSlot, peer: &Authority) -> Self {
        Self { slot, peer: peer.to_string().into(), stalled: AtomicBool::new(false) }
    }

    /// Notes how the last write went. Costs one relaxed load when nothing changed.
    #[inline]
    pub fn note(&self, stalled: bool) {
        if self.stalled.load(Ordering::Relaxed) != stalled {
            self.change(stalled);
        }
    }

    #[cold]
    fn change(&self, stalled: bool) {
        if self.stalled.swap(stalled, Ordering::AcqRel) != stalled {
            let signal = if stalled { BackpressureSignal::Warning } else { BackpressureSignal::Normal };
            self.slot.raise(signal, &self.peer);
        }
    }
}

impl Drop for StallReport {
    fn drop(&mut self) {
        self.note(false);
    }
}
