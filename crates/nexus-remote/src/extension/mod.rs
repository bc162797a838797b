//! Remoting as an extension of an actor system.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;

use nexus_actor_core::extension::{Extension, ExtensionId};
use nexus_actor_core::system::ActorSystem;

pub mod config;
pub mod control;

pub use config::{BindAddress, RemotingExtensionConfig};
pub use control::{RemotingControl, RemotingControlHandle};

use crate::association::Admission;
use crate::endpoint::Node;
use crate::error::RemotingError;

/// Remoting of one actor system. Installed by its configuration:
/// `ExtensionsConfig::default().with_extension_config(RemotingExtensionConfig::default())`.
pub struct RemotingExtension {
    handle: RemotingControlHandle,
}

impl RemotingExtension {
    /// Makes the extension, and starts it when the configuration says so (the default).
    ///
    /// # Errors
    /// When the configuration breaks rules, there is no transport for its scheme, or, with `auto_start`, the
    /// address cannot be bound. Nothing is left running.
    pub fn new(system: &ActorSystem, config: &RemotingExtensionConfig) -> Result<Self, RemotingError> {
        config.validate()?;
        let association_config = config.association_config()?;
        let transport = config.transport_factory().create(config.transport_scheme().as_str())?;
        let admission = Admission::new(config.admission_config());
        let node = Arc::new(Node::new(system, config.clone(), association_config, admission, seed(system)));
        node.set_transport(transport);
        let handle = RemotingControlHandle::new(node);
        if config.auto_start() {
            handle.start()?;
        }
        Ok(Self { handle })
    }

    /// Makes the extension for a system under construction: [`new`](Self::new) under the name of the class
    /// diagram.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn install(system: &ActorSystem, config: &RemotingExtensionConfig) -> Result<Self, RemotingError> {
        Self::new(system, config)
    }

    /// The operations.
    #[must_use]
    pub fn handle(&self) -> RemotingControlHandle {
        self.handle.clone()
    }
}

/// 64 bits nobody can guess: the node's uid and the secrets of its asks come from here.
#[cfg(feature = "std")]
fn seed(system: &ActorSystem) -> u64 {
    if let Some(seed) = system.config().seed {
        return seed;
    }
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => system.random_u64(),
    }
}

#[cfg(not(feature = "std"))]
fn seed(system: &ActorSystem) -> u64 {
    system.config().seed.unwrap_or_else(|| system.random_u64())
}

impl ExtensionId for RemotingExtensionConfig {
    type Ext = RemotingExtension;

    fn create(
        &self,
        system: &ActorSystem,
    ) -> Result<RemotingExtension, Box<dyn core::error::Error + Send + Sync>> {
        RemotingExtension::new(system, self).map_err(|error| Box::new(error) as _)
    }
}

impl Extension for RemotingExtension {
    fn shutdown(self: Arc<Self>, _system: &ActorSystem) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let handle = self.handle.clone();
        Box::pin(async move { handle.shutdown_and_wait().await })
    }
}

impl fmt::Debug for RemotingExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.handle, f)
    }
}
