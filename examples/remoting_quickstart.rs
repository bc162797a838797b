//! One node with remoting, started by hand, that a second one plays with: the quick start of the guide as a program.
//!
//! ```text
//! cargo run -p nexus-actor --example remoting_quickstart
//! ```

use nexus_actor::extension::ExtensionsConfig;
use nexus_actor::prelude::*;
use nexus_actor::remote::{
    RemoteActorRefProvider, RemotingControl, RemotingError, RemotingExtension, RemotingExtensionConfig,
};
use nexus_actor::{ActorSystemBuilder, StdTickDriverConfig};
use serde::{Deserialize, Serialize};

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "quickstart.ping@1")]
struct Ping {
    ball: u32,
    reply: Reply<u32>,
}

struct Pong;

impl Actor for Pong {
    type Msg = Ping;

    async fn receive(&mut self, ping: Ping, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        println!("{}: ball {} from {:?}", cx.path(), ping.ball, cx.peer().map(ToString::to_string));
        ping.reply.send(ping.ball + 1);
        Ok(())
    }
}

/// The guardian of a node's actors; it has nothing to say itself.
struct UserGuardian;

impl Actor for UserGuardian {
    type Msg = ();

    async fn receive(&mut self, (): (), _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

/// A node that announces `port` (0: a free one) and listens once this returns.
fn bootstrap_remoting(name: &str, port: u16) -> Result<ActorSystem, RemotingError> {
    let user_guardian = Props::from(|_cx| Ok(UserGuardian));

    let remoting_config = RemotingExtensionConfig::default()
        .with_canonical_host("127.0.0.1")
        .with_canonical_port(port)
        .with_auto_start(false)
        .with_backpressure_listener(|signal, authority: &str| {
            eprintln!("remote backpressure: {signal} toward {authority}");
        });
    let extensions = ExtensionsConfig::default().with_extension_config(remoting_config);

    let system = ActorSystemBuilder::new(user_guardian)
        .with_name(name)
        .with_tick_driver(StdTickDriverConfig::tokio_quickstart())
        .with_actor_ref_provider(RemoteActorRefProvider::std())
        .with_extensions_config(extensions)
        .build()?;

    system.extension::<RemotingExtension>()?.handle().start()?;
    Ok(system)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn core::error::Error>> {
    let a = bootstrap_remoting("a", 0)?;
    let b = bootstrap_remoting("b", 0)?;
    println!("listening {}\nlistening {}", a.address(), b.address());

    b.register::<Ping>()?;
    b.spawn("pong", Props::from_fn(|| Pong))?;

    let remoting = a.extension::<RemotingExtension>()?.handle();
    remoting.associate(&b.address().to_string().parse()?)?;

    let pong: ActorRef<Ping> = a.resolve(&format!("{}/user/pong", b.address()))?;
    let mut ball = 0;
    for _ in 0..3 {
        ball = pong.ask(|reply| Ping { ball, reply }).await?;
    }
    println!("the ball came back as {ball}");

    a.shutdown().await?;
    b.shutdown().await?;
    Ok(())
}
