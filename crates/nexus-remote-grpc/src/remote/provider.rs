//! Finds the way to addresses of the scheme `protoactor`.

use std::sync::{Arc, Weak};

use nexus_actor_core::path::{ActorPathScheme, Address};
use nexus_actor_core::remote::{ActorRefProvider, Route};
use nexus_actor_core::{ActorSystem, Refusal};

use crate::node::Node;

pub(crate) struct Provider {
    node: Weak<Node>,
    address: Address,
}

impl Provider {
    pub(crate) fn of(node: &Arc<Node>) -> Arc<dyn ActorRefProvider> {
        Arc::new(Self { node: Arc::downgrade(node), address: node.path_address() })
    }
}

impl ActorRefProvider for Provider {
    fn canonical_address(&self) -> Option<Address> {
        Some(self.address.clone())
    }

    fn serves(&self, scheme: &ActorPathScheme) -> bool {
        *scheme == ActorPathScheme::Protoactor
    }

    fn route(&self, _: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        let node = self.node.upgrade().ok_or(Refusal::Shutdown)?;
        let authority = address.authority.as_ref().ok_or(Refusal::NoSuchActor)?;
        Ok(node.endpoint(&authority.to_string())?)
    }
}
