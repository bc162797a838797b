//! The signal by which a transport says that it is stalled.

/// How far a peer's way out is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BackpressureSignal {
    /// Sending goes on.
    Normal,
    /// The way out is filling.
    Warning,
    /// The way out is nearly full.
    Critical,
}

/// Receives a transport's backpressure.
pub trait BackpressureHook {
    /// The way to `authority` (`host:port`) reached `signal`. Called once per change, never under a lock.
    fn on_signal(&self, signal: BackpressureSignal, authority: &str);
}
