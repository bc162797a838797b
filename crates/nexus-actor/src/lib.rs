//! nexus
