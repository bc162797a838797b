//! Resolves the paths of other nodes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use nexus_actor_core::builder::{ActorRefProviderFactory, ActorSystemBuilder};
use nexus_actor_core::path::{ActorPathParts, Address, Authority};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{ActorRefProvider, Route};
use nexus_actor_core::remote_authority::AuthorityState;
use nexus_actor_core::serialization::{Message, scope};
use nexus_actor_core::system::{ActorSystem, ResolveError, WeakSystem};
use nexus_actor_core::{Actor, ActorRef, Refusal};

use crate::endpoint::Origin;
use crate::extension::{RemotingControl, RemotingControlHandle, RemotingExtension, RemotingExtensionConfig};

/// A reference to an actor of another node: the same type as one to an actor here.
pub type RemoteActorRef<M> = ActorRef<M>;

/// Bridges path resolution and remoting, for paths of this node and of others alike.
///
/// The system asks it for routes, which connect when something is sent; what is resolved through the provider
/// itself connects at once.
pub struct RemoteActorRefProvider {
    system: WeakSystem,
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
    pub fn new(system: &ActorSystem, remoting: RemotingControlHandle) -> Self {
        Self { system: system.downgrade(), remoting }
    }

    fn system(&self) -> Result<ActorSystem, ResolveError> {
        self.system.upgrade().ok_or(ResolveError::Refused(Refusal::Shutdown))
    }

    /// The operations on this node's remoting.
    #[must_use]
    pub const fn remoting(&self) -> &RemotingControlHandle {
        &self.remoting
    }

    /// Resolves a path, of this node or another: of another the association is begun at once.
    ///
    /// # Errors
    /// As [`ActorSystem::resolve`].
    pub fn resolve_actor_ref<M: Message>(&self, path: &str) -> Result<RemoteActorRef<M>, ResolveError> {
        let resolved = self.system()?.resolve::<M>(path)?;
        let address = resolved.path().address().clone();
        if address.authority.is_some() && address.authority != self.own_authority() {
            // Already on its way, or refused: what is sent says so.
            let _ = self.remoting.associate(&ActorPathParts::from(&address));
        }
        Ok(resolved)
    }

    /// The pid of the actor at a path, of this node or another, as other nodes know it.
    ///
    /// # Errors
    /// As [`ActorSystem::resolve`]. Nothing is connected for it.
    pub fn pid(&self, path: &str) -> Result<Pid, ResolveError> {
        self.system()?.parse_path(path).map(|path| Pid::from_path(&path))
    }

    /// What the system knows of the node at `authority`.
    ///
    /// # Errors
    /// When the system is gone.
    pub fn authority_state(&self, authority: &Authority) -> Result<AuthorityState, ResolveError> {
        Ok(self.system()?.remote_authorities().state(authority))
    }

    fn own_authority(&self) -> Option<Authority> {
        self.remoting.address()?.authority
    }
}

impl ActorRefProvider for RemoteActorRefProvider {
    fn canonical_address(&self) -> Option<Address> {
        self.remoting.address()
    }

    fn route(&self, _system: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        if scope::route().is_some() {
            // Inside a message of a peer, which may name any number of nodes.
            return self.remoting.node.named_route(address);
        }
        self.remoting.node.route_to(address, Origin::Here).map(|peer| peer as _)
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
