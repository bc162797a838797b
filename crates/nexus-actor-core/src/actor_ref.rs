//! References (placeholder until the runtime lands in this branch).

/// A reference whose message type is erased.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnyRef(());
