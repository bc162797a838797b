//! Remoting whole, over the loopback transport: one thread, virtual time, no socket. `.ci/run test` runs it by name.

use std::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::extension::ExtensionsConfig;
use nexus_actor_core::guardian::Guardian;
use nexus_actor_core::path::Authority;
use nexus_actor_core::remote_authority::{AuthorityEvent, AuthorityState};
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, ActorSystemBuilder, AnyRef, Context, Props, Reply, Signal,
    TerminationReason, TickDriverConfig,
};
use nexus_remote::event::RemotingLifecycleEvent;
use nexus_remote::transport::{LoopbackNetwork, TransportFactory};
use nexus_remote::wire::QuarantineReason;
use nexus_remote::{RemoteActorRefProvider, RemotingControl, RemotingExtension, RemotingExtensionConfig};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

#[derive(Serialize, Deserialize)]
enum Say {
    Word(u32),
    Words(Reply<Vec<u32>>),
    /// Stops.
    Enough,
}

impl Message for Say {
    const MANIFEST: &'static str = "loopback.say@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

#[derive(Default)]
struct Ear(Vec<u32>);

impl Actor for Ear {
    type Msg = Say;
    async fn receive(&mut self, say: Say, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match say {
            Say::Word(word) => self.0.push(word),
            Say::Words(reply) => reply.send(self.0.clone()),
            Say::Enough => cx.stop(),
        }
        Ok(())
    }
}

type Told = Arc<Mutex<Vec<TerminationReason>>>;

/// Watches another actor and notes its end.
struct Widow {
    of: AnyRef,
    told: Told,
}

impl Actor for Widow {
    type Msg = ();
    async fn receive(&mut self, (): (), _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
    async fn signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match signal {
            Signal::Started => cx.watch_any(&self.of),
            Signal::Terminated { reason, .. } => self.told.lock().expect("no panic").push(reason),
            _ => {}
        }
        Ok(())
    }
}

/// Built from the parts with their literal names; not started.
fn node(name: &str, pump: &PumpRuntime, network: &LoopbackNetwork) -> ActorSystem {
    let remoting = RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(0)
        .with_auto_start(false)
        .with_transport_scheme("fraktor.loopback://")
        .with_transport_factory(TransportFactory::new().with_loopback(network));
    let system = ActorSystemBuilder::new(Props::from(|_| Ok(Guardian)))
        .with_name(name)
        .with_tick_driver(TickDriverConfig::new(Arc::new(pump.clone())))
        .with_actor_ref_provider(RemoteActorRefProvider::std())
        .with_extensions_config(ExtensionsConfig::default().with_extension_config(remoting))
        .build()
        .expect("builds");
    system.register::<Say>().expect("registers");
    system
}

const LIMIT: Duration = Duration::from_secs(60);

/// The extension started, an association made, what waited for it flushed in order, an actor watched, a quarantine
/// and its recovery, and an end in order.
///
/// Covers: TST-64, TST-63, RT-17, RT-30, RT-31, API-41, API-43, API-44, OBS-07
#[test]
fn two_nodes_from_the_start_to_the_end() {
    let (pump, network) = (PumpRuntime::new(), LoopbackNetwork::new());
    let (a, b) = (node("a", &pump, &network), node("b", &pump, &network));
    let control = |system: &ActorSystem| system.extension::<RemotingExtension>().expect("is there").handle();
    let turns: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let states: Arc<Mutex<Vec<AuthorityEvent>>> = Arc::default();
    let lost: Arc<Mutex<Vec<String>>> = Arc::default();
    let (to, also, too) = (turns.clone(), states.clone(), lost.clone());
    let events = a.event_stream();
    events.subscribe(move |e: &RemotingLifecycleEvent| to.lock().expect("no panic").push(e.name())).forever();
    events.subscribe(move |e: &AuthorityEvent| also.lock().expect("no panic").push(e.clone())).forever();
    events
        .subscribe(move |letter: &DeadLetterEvent| too.lock().expect("no panic").push(letter.to_string()))
        .forever();

    control(&a).start().expect("a starts");
    control(&b).start().expect("b starts");
    let at_b: Authority = b.address().authority.expect("it listens");
    assert_eq!(a.remote_authorities().state(&at_b), AuthorityState::Unresolved);
    let ear = b.spawn("ear", Props::from_fn(Ear::default)).expect("spawns");

    // Nothing has run yet: the words wait for the association, and go before what comes after it.
    let far: ActorRef<Say> = a.resolve(&format!("{}/user/ear", b.address())).expect("resolves");
    control(&a).associate(&b.address().to_string().parse().expect("an address")).expect("is another node");
    for word in 0..100 {
        far.tell(Say::Word(word));
    }
    assert_eq!(control(&a).connections_snapshot()[0].deferred_count, 100);
    let words = pump.block_on(LIMIT, far.ask(Say::Words)).expect("in time").expect("answered");
    assert_eq!(words, (0..100).collect::<Vec<_>>(), "flushed, in order");
    assert!(matches!(a.remote_authorities().state(&at_b), AuthorityState::Connected { .. }));
    assert_eq!(*turns.lock().expect("no panic"), ["listen_started", "association_attempt", "connected"]);

    // Watched from the other node, and told once.
    let told = Told::default();
    let (of, out) = (far.to_any(), told.clone());
    a.spawn("widow", Props::from_fn(move || Widow { of: of.clone(), told: out.clone() })).expect("spawns");
    pump.run_until_idle();
    far.tell(Say::Enough);
    pump.run_until_idle();
    assert!(ear.is_terminated());
    assert_eq!(*told.lock().expect("no panic"), [TerminationReason::Stopped]);

    // Refused and taken back, once the last message has been acknowledged.
    pump.advance(Duration::from_secs(1));
    control(&a).quarantine(&at_b.to_string(), QuarantineReason::ByOperator);
    pump.run_until_idle();
    assert!(matches!(a.remote_authorities().state(&at_b), AuthorityState::Quarantine { deadline: None }));
    control(&a).recover(&at_b.to_string()).expect("is known");
    b.spawn("ear", Props::from_fn(Ear::default)).expect("the name is free");
    far.tell(Say::Word(7));
    let words = pump.block_on(LIMIT, far.ask(Say::Words)).expect("in time").expect("answered");
    assert_eq!(words, [7]);
    let seen: Vec<_> = states.lock().expect("no panic").iter().map(|event| event.to).collect();
    assert!(
        matches!(
            seen[..],
            [
                AuthorityState::Connected { .. },
                AuthorityState::Quarantine { .. },
                AuthorityState::Unresolved,
                AuthorityState::Connected { .. }
            ]
        ),
        "{seen:?}"
    );

    for system in [&a, &b] {
        let system = system.clone();
        pump.block_on(LIMIT, async move { system.shutdown().await }).expect("in time").expect("ends");
    }
    assert_eq!(control_tasks(&a) + control_tasks(&b), 0);
    assert_eq!(
        *turns.lock().expect("no panic"),
        [
            "listen_started",
            "association_attempt",
            "connected",
            "disconnected",
            "quarantined",
            "quarantine_lifted",
            "association_attempt",
            "connected",
            "disconnected",
            "shutdown"
        ]
    );
    assert_eq!(*lost.lock().expect("no panic"), [""; 0], "nothing was lost on the way");
}

/// After the end there is no extension to ask: what is left shows as associations of nobody.
fn control_tasks(system: &ActorSystem) -> usize {
    system.extension::<RemotingExtension>().map_or(0, |remoting| remoting.handle().tasks())
}
