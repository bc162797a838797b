//! What a connection holds while nothing passes on it. A process of its own, for the counter counts everything.

use std::alloc::System;
use std::time::Duration;

use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, Props};
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::{RemotingExtension, RemotingExtensionConfig, WithRemoting};
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[derive(Serialize, Deserialize)]
struct Blob(Vec<u8>);

impl Message for Blob {
    const MANIFEST: &'static str = "idle.blob@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

struct Sink;

impl Actor for Sink {
    type Msg = Blob;
    async fn receive(&mut self, _: Blob, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

fn node(pump: &PumpRuntime, network: &LoopbackNetwork, name: &str) -> ActorSystem {
    let config = RemotingExtensionConfig::default()
        .with_canonical_port(0)
        .with_metrics_interval(None)
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(network));
    let system =
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().expect("builds");
    system.register::<Blob>().expect("registers");
    system.spawn("sink", Props::from_fn(|| Sink)).expect("spawns");
    system
}

/// Bytes allocated and not freed since `region` began.
fn held(region: &Region<'_, System>) -> isize {
    let change = region.change();
    isize::try_from(change.bytes_allocated).expect("fits")
        - isize::try_from(change.bytes_deallocated).expect("fits")
}

/// A burst takes large buffers at both ends of each connection. When it is over they are given back.
#[test]
fn idle_connections_hold_no_buffers() {
    const PEERS: usize = 50;
    const ENDS: isize = 2 * PEERS as isize;
    // Small pipes, which are the transport's and stay as large as they once were.
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::with_pipe_bytes_max(4 * 1024));
    let hub = node(&pump, &network, "hub");
    let peers: Vec<_> = (0..PEERS).map(|n| node(&pump, &network, &format!("p{n}"))).collect();
    let to = |from: &ActorSystem, to: &ActorSystem| -> ActorRef<Blob> {
        from.resolve(&format!("{}/user/sink", to.address())).expect("resolves")
    };
    let refs: Vec<_> = peers.iter().flat_map(|peer| [to(&hub, peer), to(peer, &hub)]).collect();
    let settle = |time: Duration| {
        pump.run_until_idle();
        pump.advance(time);
        pump.run_until_idle();
    };
    // Connected, and one small message in each direction has passed.
    refs.iter().for_each(|to| to.tell(Blob(vec![0; 10])));
    settle(Duration::from_secs(1));
    let region = Region::new(ALLOCATOR);
    for (name, size, count, large) in [
        ("small", 10, 1, false),
        ("burst", 1_000, 200, true),
        ("large", 200_000, 3, true),
        ("small", 10, 1, false),
    ] {
        for _ in 0..count {
            refs.iter().for_each(|to| to.tell(Blob(vec![0; size])));
        }
        settle(Duration::from_millis(1));
        let busy = held(&region) / ENDS;
        settle(Duration::from_secs(1));
        let quiet = held(&region) / ENDS;
        println!("{name}: {busy} bytes for an end of a connection right after, {quiet} a second later");
        assert_eq!(busy > 64 * 1024, large, "{name}: {busy}");
        assert!(quiet <= 2 * 1024, "{name}: {quiet}");
    }
    assert_eq!(hub.extension::<RemotingExtension>().expect("extension").handle().tasks(), 1 + PEERS);
}
