//! What happens between the roles, caused where no test from outside can stop them.

use alloc::sync::Arc;
use core::time::Duration;

use nexus_actor_core::runtime::{PumpRuntime, Runtime};
use nexus_actor_core::system::ActorSystem;

use super::node::Node;
use super::registry::Origin;
use crate::transport::{LoopbackNetwork, TransportFactory};
use crate::{RemotingExtension, RemotingExtensionConfig, WithRemoting};

const HOUR: Duration = Duration::from_secs(3_600);

/// Systems on one pump and one network.
struct House {
    pump: PumpRuntime,
    network: LoopbackNetwork,
}

impl House {
    fn new() -> Self {
        Self { pump: PumpRuntime::new(), network: LoopbackNetwork::new() }
    }

    fn node(&self, name: &str) -> (ActorSystem, Arc<Node>) {
        let config = RemotingExtensionConfig::default()
            .with_canonical_host("127.0.0.1")
            .with_canonical_port(0)
            .with_transport_scheme("fraktor.loopback")
            .with_transport_factory(TransportFactory::new().with_loopback(&self.network));
        let system = ActorSystem::builder(name).with_runtime(self.pump.clone()).with_remoting(config);
        let system = system.build().unwrap();
        let node = system.extension::<RemotingExtension>().unwrap().handle().node;
        self.pump.run_until_idle();
        (system, node)
    }
}

/// An association says that it is unused; before the manager hears it, somebody begins to use it. It stays, as one
/// beside which there would soon be another.
#[test]
fn an_attempt_just_begun_keeps_its_association() {
    for begun in [false, true] {
        let house = House::new();
        let ((_a, a), (b, _b)) = (house.node("a"), house.node("b"));
        let peer = a.peer(&b.address(), Origin::Here).unwrap();
        // The clock moves, and nobody has run yet.
        let late = house.pump.now() + 2 * HOUR;
        house.pump.set_time(late);
        peer.apply(|association, now| association.handle_timeout(now));
        if begun {
            peer.apply(|association, now| association.associate(now));
        }
        drop(peer);
        house.pump.run_until_idle();
        assert_eq!(a.registry.len(), usize::from(begun));
        assert_eq!(a.tasks(), 1 + usize::from(begun), "the listener, and what serves the association");
    }
}

/// Whoever asks for an association while it is being forgotten, from another thread, gets one that is registered.
#[test]
fn what_is_looked_up_is_never_forgotten_under_its_holder() {
    let house = House::new();
    let ((_a, a), (b, _b)) = (house.node("a"), house.node("b"));
    let address = b.address();
    std::thread::scope(|scope| {
        let forgetter = scope.spawn(|| {
            for _ in 0..20_000 {
                for peer in a.registry.all() {
                    let _gone = a.forget(&peer, |_, _| true);
                }
            }
        });
        let mut made = 0;
        while !forgetter.is_finished() {
            let peer = a.peer(&address, Origin::Peer).unwrap();
            // As long as it is held, it is the one that everybody gets.
            let again = a.peer(&address, Origin::Peer).unwrap();
            assert!(Arc::ptr_eq(&peer, &again));
            made += 1;
        }
        assert!(made > 0);
    });
}
