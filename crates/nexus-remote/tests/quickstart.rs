//! The quick start, end to end: two systems built with the literal names, over TCP.

use std::time::Duration;

use nexus_actor_core::extension::ExtensionsConfig;
use nexus_actor_core::guardian::Guardian;
use nexus_actor_core::path::ActorPathParts;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{
    Actor, ActorError, ActorRef, ActorSystem, ActorSystemBuilder, AskError, Context, Props, Reply,
    StdTickDriverConfig,
};
use nexus_remote::backpressure::BackpressureSignal;
use nexus_remote::{
    RemoteActorRefProvider, RemotingControl, RemotingError, RemotingExtension, RemotingExtensionConfig,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Ping {
    Serve(u32, ActorRef<Ping>),
    Return(u32),
    Heard(Reply<u32>),
}

impl Message for Ping {
    const MANIFEST: &'static str = "quickstart.ping@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

/// Answers pings; plays on until the ball has crossed a hundred times.
#[derive(Default)]
struct Player {
    pongs: u32,
    waiting: Option<Reply<u32>>,
}

impl Actor for Player {
    type Msg = Ping;
    async fn receive(&mut self, message: Ping, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Ping::Serve(n, from) => {
                from.tell(Ping::Return(n));
                if n < 100 {
                    from.tell(Ping::Serve(n + 1, cx.me()));
                }
            }
            Ping::Return(_) => self.pongs += 1,
            Ping::Heard(reply) => self.waiting = Some(reply),
        }
        if self.pongs == 50
            && let Some(reply) = self.waiting.take()
        {
            reply.send(self.pongs);
        }
        Ok(())
    }
}

fn bootstrap_remoting() -> Result<ActorSystem, RemotingError> {
    let remoting = RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(0)
        .with_auto_start(false)
        .with_backpressure_listener(|_signal: BackpressureSignal, _authority: &str| {});
    let extensions = ExtensionsConfig::default().with_extension_config(remoting);
    let system = ActorSystemBuilder::new(Props::from(|_| Ok(Guardian)))
        .with_tick_driver(StdTickDriverConfig::tokio_quickstart())
        .with_actor_ref_provider(RemoteActorRefProvider::std())
        .with_extensions_config(extensions)
        .build()?;
    system.extension::<RemotingExtension>()?.handle().start()?;
    Ok(system)
}

/// Covers: TST-61, EX-06, EX-07, API-55, API-56, API-57, API-58, RT-39, RT-34, RT-35, RT-38
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ping_pong_between_two_systems() {
    let (a, b) = (bootstrap_remoting().expect("a starts"), bootstrap_remoting().expect("b starts"));
    for system in [&a, &b] {
        system.register::<Ping>().expect("registers");
    }
    let left = a.spawn("player", Props::from_fn(Player::default)).expect("spawns");
    let right = b.spawn("player", Props::from_fn(Player::default)).expect("spawns");
    let far: ActorRef<Ping> = a.resolve(&format!("{}/user/player", b.address())).expect("resolves");
    far.tell(Ping::Serve(1, left.clone()));
    let limit = Duration::from_secs(30);
    assert_eq!(left.ask(Ping::Heard).timeout(limit).await, Ok(50));
    assert_eq!(right.ask(Ping::Heard).timeout(limit).await, Ok(50));
    a.shutdown().await.expect("a ends");
    b.shutdown().await.expect("b ends");
}

/// Covers: TST-61, RT-42, HS-49, HS-50, API-42, API-45
#[tokio::test]
async fn start_and_shutdown_in_sequence() {
    let system = ActorSystem::builder("s")
        .with_extension(RemotingExtensionConfig::default().with_canonical_port(0).with_auto_start(false))
        .with_actor_ref_provider(RemoteActorRefProvider::std())
        .build()
        .expect("builds");
    let handle = system.extension::<RemotingExtension>().expect("is there").handle();
    assert_eq!(handle.address(), None, "nothing listens before the start");
    let parts = ActorPathParts::from_authority("127.0.0.1:1").expect("an authority");
    assert!(matches!(handle.associate(&parts), Err(RemotingError::NotStarted)));
    handle.start().expect("starts");
    handle.start().expect("starting again changes nothing");
    let authority = handle.address().and_then(|address| address.authority).expect("listens");
    assert_ne!(authority.port(), 0, "the real port is announced");
    handle.shutdown_and_wait().await;
    handle.shutdown().expect("again changes nothing");
    assert!(matches!(handle.start(), Err(RemotingError::Shutdown)), "a shutdown is final");
    assert_eq!(handle.tasks(), 0);
    // The port is free at once.
    drop(std::net::TcpListener::bind(("127.0.0.1", authority.port())).expect("binds"));
    system.shutdown().await.expect("ends");
}

/// Without the provider a path of another node is an error that says what to write; with it the node is asked.
///
/// Covers: TST-61, RT-42
#[tokio::test]
async fn the_provider_is_what_resolves_other_nodes() {
    let local = ActorSystem::builder("local").build().expect("builds");
    let refused = local.resolve::<Ping>("fraktor.tcp://b@127.0.0.1:1/user/x").expect_err("no remoting");
    assert!(matches!(refused, ResolveError::NoRemoting { .. }), "{refused}");
    assert!(refused.to_string().contains("RemoteActorRefProvider::std()"), "{refused}");
    let (a, b) = (bootstrap_remoting().expect("starts"), bootstrap_remoting().expect("starts"));
    let nobody = a.lookup::<Ping>(&format!("{}/user/nobody", b.address())).await;
    assert_eq!(nobody.expect_err("nobody lives there"), AskError::NoSuchActor);
    for system in [local, a, b] {
        system.shutdown().await.expect("ends");
    }
}
