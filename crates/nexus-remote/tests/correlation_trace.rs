//! One id leads from the sender's record of a message to the receiver's, and to the event it caused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, CorrelationId, Props, Reply};
use nexus_remote::correlation_trace::HopKind;
use nexus_remote::event::RemotingBackpressureEvent;
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::{RemotingExtension, RemotingExtensionConfig, WithRemoting};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Say {
    Word(u32),
    Count(Reply<u32>),
}

impl Message for Say {
    const MANIFEST: &'static str = "trace.say@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

#[derive(Default)]
struct Ear(u32);

impl Actor for Ear {
    type Msg = Say;
    async fn receive(&mut self, message: Say, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Say::Word(_) => self.0 += 1,
            Say::Count(reply) => reply.send(self.0),
        }
        Ok(())
    }
}

fn node(name: &str, pump: &PumpRuntime, network: &LoopbackNetwork) -> ActorSystem {
    let config = RemotingExtensionConfig::default()
        .with_canonical_port(0)
        .with_queue_messages_max(10)
        .with_transport_scheme("fraktor.loopback")
        .with_transport_factory(TransportFactory::new().with_loopback(network));
    let system =
        ActorSystem::builder(name).with_runtime(pump.clone()).with_remoting(config).build().expect("builds");
    system.register::<Say>().expect("registers");
    system
}

fn hops(system: &ActorSystem, hop: HopKind) -> Vec<CorrelationId> {
    let remoting = system.extension::<RemotingExtension>().expect("has remoting");
    let snapshot = remoting.handle().flight_recorder().snapshot();
    snapshot.traces().filter(|trace| trace.hop == hop).map(|trace| trace.correlation_id).collect()
}

/// Covers: TST-62, OBS-03, OBS-04, OBS-14, S139, EV-28, TR-12
#[test]
fn the_same_id_at_both_ends_and_in_the_event() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let (a, b) = (node("a", &pump, &network), node("b", &pump, &network));
    b.spawn("ear", Props::from_fn(Ear::default)).expect("spawns");
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let subscription = a.event_stream().subscribe(move |event: &RemotingBackpressureEvent| {
        seen.lock().expect("no panic").push((event.signal, event.correlation_id));
    });
    let far: ActorRef<Say> = a.resolve(&format!("{}/user/ear", b.address())).expect("resolves");
    // Nothing runs meanwhile, so they wait: six of ten places are the mark.
    for n in 0..6 {
        far.tell(Say::Word(n));
    }
    assert_eq!(pump.block_on(Duration::from_secs(5), far.ask(Say::Count)), Some(Ok(6)));
    drop(subscription);
    let (sent, received) = (hops(&a, HopKind::Send), hops(&b, HopKind::Receive));
    assert_eq!(sent.len(), 7, "six words and a question");
    assert_eq!(sent, received, "the ids and their order are the same at both ends");
    let events = events.lock().expect("no panic");
    let (_, marked) = events.first().expect("the mark was crossed");
    assert!(sent.contains(marked) && received.contains(marked), "{marked} is one of the messages");
}
