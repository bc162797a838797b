//! The actor system (placeholder until the runtime lands in this branch).

/// A handle on one actor system.
#[derive(Clone, Debug)]
pub struct ActorSystem(());
