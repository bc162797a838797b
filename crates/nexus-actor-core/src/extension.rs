//! temp
use crate::{runtime::BoxFuture, system::ActorSystem};
use alloc::{string::String, vec::Vec};
/// temp
#[derive(Default)]
pub struct Extensions;
impl Extensions {
    pub(crate) fn shutdown_all(&self, _s: &ActorSystem) -> Vec<(String, BoxFuture)> {
        Vec::new()
    }
}

/// temp
#[derive(Default)]
pub struct ExtensionsConfig;
/// temp
pub trait ExtensionConfig: Send + 'static {}
impl ExtensionsConfig {
    /// temp
    pub fn with_extension_config(self, _c: impl ExtensionConfig) -> Self {
        self
    }
    pub(crate) fn install(self, _s: &ActorSystem) -> Result<(), Box<dyn core::error::Error + Send + Sync>> {
        Ok(())
    }
}
