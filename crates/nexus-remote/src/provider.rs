//! Resolves the paths of other nodes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use nexus_actor_core::builder::{ActorRefProviderFactory, ActorSystemBuilder};
use nexus_actor_core::path::{ActorPathParts, Address};
use nexus_actor_core::remote::{ActorRefProvider, Route};
use nexus_actor_core::serialization::Message;
use nexus_actor_core::system::{ActorSystem, ResolveError};
use nexus_actor_core::{Actor, ActorRef, Refusal};

use crate::extension::{RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig};

/// A reference to an actor of another node: the same type as one to an actor here.
pub type RemoteActorRef<M> = ActorRef<M>;

/// Bridges path resolution and remoting: a remote authority starts an association.
pub struct RemoteActorRefProvider {
    remoting: RemotingControlHandle,
}

impl RemoteActorRefProvider {
    /// The factory that a builder takes: it finds the remoting extension of the system under construction.
    #[must_use]
    pub const fn std() -> RemoteActorRefProviderFactory {
        RemoteActorRefProviderFactory
    }

    /// A provider for `system` over its remoting.
    #[must_use]
    pub fn new(_system: &ActorSystem, remoting: RemotingControlHandle) -> Self {
        Self { remoting }
    }

    /// Resolves a path, of this node or another: of another the association is begun at once.
    ///
    /// # Errors
    /// As [`ActorSystem::resolve`].
    pub fn resolve_actor_ref<M: Message>(
        &self,
        system: &ActorSystem,
        path: &str,
    ) -> Result<RemoteActorRef<M>, ResolveError> {
        let resolved = system.resolve::<M>(path)?;
        if !resolved.is_local() {
            let parts = ActorPathParts::from(resolved.path().address());
            // Already on its way, or refused: what is sent says so.
            let _ = self.remoting.associate(&parts);
        }
        Ok(resolved)
    }
}

impl ActorRefProvider for RemoteActorRefProvider {
    fn canonical_address(&self) -> Option<Address> {
        self.remoting.address()
    }

    fn route(&self, _system: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        self.remoting.node.route_to(address).map(|peer| peer as _)
    }
}

impl fmt::Debug for RemoteActorRefProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteActorRefProvider").field("remoting", &self.remoting).finish()
    }
}

/// Makes the [`RemoteActorRefProvider`] of a system under construction.
#[derive(Clone, Copy, Debug)]
pub struct RemoteActorRefProviderFactory;

impl ActorRefProviderFactory for RemoteActorRefProviderFactory {
    fn create(
        self,
        system: &ActorSystem,
    ) -> Result<Arc<dyn ActorRefProvider>, Box<dyn core::error::Error + Send + Sync>> {
        let remoting = system.extension::<RemotingExtension>()?.handle();
        Ok(Arc::new(RemoteActorRefProvider::new(system, remoting)))
    }
}

/// Adds remoting to a system under construction in one call.
pub trait WithRemoting: Sized {
    /// The extension and the provider of references that goes with it.
    #[must_use]
    fn with_remoting(self, config: RemotingExtensionConfig) -> Self;
}

impl<A: Actor> WithRemoting for ActorSystemBuilder<A> {
    fn with_remoting(self, config: RemotingExtensionConfig) -> Self {
        self.with_extension(config).with_actor_ref_provider(RemoteActorRefProvider::std())
    }
}
