//! How often a message to another node allocates. A process of its own, for the counter counts everything.

use core::time::Duration;
use std::alloc::System;

use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, Props, Reply};
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::{RemotingExtensionConfig, WithRemoting};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Serialize, Deserialize)]
enum Traffic {
    Hit([u8; 16]),
    Count(Reply<u64>),
}

impl Message for Traffic {
    const MANIFEST: &'static str = "allocations.traffic@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

#[derive(Default)]
struct Counter(u64);

impl Actor for Counter {
    type Msg = Traffic;
    async fn receive(&mut self, traffic: Traffic, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match traffic {
            Traffic::Hit(payload) => self.0 += u64::from(payload[0]),
            Traffic::Count(reply) => reply.send(self.0),
        }
        Ok(())
    }
}

fn node(name: &str, pump: &PumpRuntime, network: &LoopbackNetwork) -> ActorSystem {
    let config = RemotingExtensionConfig::default()
        .with_canonical_port(0)
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(network));
    let system =
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().expect("builds");
    system.register::<Traffic>().expect("registers");
    system
}

/// Both ends together, the flight recorder on. One test: two at once would count each other's.
///
/// Covers: S140
#[test]
fn a_tell_to_another_node_allocates_nothing_per_message() {
    const COUNT: u64 = 20_000;
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let (a, b) = (node("a", &pump, &network), node("b", &pump, &network));
    b.spawn("counter", Props::from_fn(Counter::default)).expect("spawns");
    let far: ActorRef<Traffic> = a.resolve(&format!("{}/user/counter", b.address())).expect("resolves");
    let burst = |expected: u64| {
        for _ in 0..COUNT {
            far.tell(Traffic::Hit([1; 16]));
        }
        let counted = pump.block_on(Duration::from_secs(5), far.ask(Traffic::Count));
        assert_eq!(counted, Some(Ok(expected)));
    };
    burst(COUNT);
    burst(2 * COUNT);
    let region = Region::new(GLOBAL);
    burst(3 * COUNT);
    let counted = region.change();
    let allocations = counted.allocations + counted.reallocations;
    println!("{allocations} allocations");
    assert!(allocations <= COUNT as usize / 50, "{allocations} allocations for {COUNT} messages");
}
