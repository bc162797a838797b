//! The part that would be the same on any machine: two nodes, the loopback transport between them, one pump that
//! runs both, and a conversation.

use alloc::boxed::Box;
use alloc::format;
use core::time::Duration;

use nexus_actor::BuildError;
use nexus_actor::prelude::*;
use nexus_actor::remote::transport::{LoopbackNetwork, LoopbackTransport, TransportFactory};
use nexus_actor::remote::{RemotingExtensionConfig, WithRemoting};
use nexus_actor::runtime::PumpRuntime;
use serde::{Deserialize, Serialize};

/// How often the ball goes back and forth.
const ROUNDS: u64 = 10_000;

/// Asks to hear a number again.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "bare-metal.echo@1")]
struct Echo {
    number: u64,
    reply: Reply<u64>,
}

/// Answers, and counts how often.
#[derive(Default)]
struct Wall {
    answered: u64,
}

impl Actor for Wall {
    type Msg = Echo;

    async fn receive(&mut self, echo: Echo, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.answered += 1;
        if echo.number != self.answered {
            return Err("a message was lost, doubled or overtaken".into());
        }
        echo.reply.send(echo.number);
        Ok(())
    }
}

/// Asks the wall for every number up to a last one, each once the one before has come back.
struct Player {
    wall: ActorRef<Echo>,
}

/// Plays up to a number and says how many came back.
struct Play {
    rounds: u64,
    reply: Reply<u64>,
}

impl Actor for Player {
    type Msg = Play;

    async fn receive(&mut self, play: Play, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let mut back = 0;
        for number in 1..=play.rounds {
            let same = self.wall.ask(|reply| Echo { number, reply }).await?;
            back += u64::from(same == number);
        }
        play.reply.send(back);
        Ok(())
    }
}

/// A node of that name on `network`, listening.
fn node(
    name: &str,
    seed: u64,
    pump: &PumpRuntime,
    network: &LoopbackNetwork,
) -> Result<ActorSystem, BuildError> {
    let remoting = RemotingExtensionConfig::default()
        .with_transport_factory(TransportFactory::new().with_loopback(network))
        .with_transport_scheme(LoopbackTransport::SCHEME)
        .with_canonical_host(name)
        .with_flight_recorder_size(64);
    // No operating system gives entropy here: a board would seed from its noise source.
    ActorSystem::builder(name).with_runtime(pump.clone()).with_seed(seed).with_remoting(remoting).build()
}

/// Plays the rounds. `Ok` only if every one of them came back.
pub fn run() -> Result<u64, Box<dyn core::error::Error + Send + Sync>> {
    let pump = PumpRuntime::new();
    let network = LoopbackNetwork::new();
    let south = node("south", 2, &pump, &network)?;
    let north = node("north", 1, &pump, &network)?;

    south.register::<Echo>()?;
    south.spawn("wall", Props::from_fn(Wall::default))?;

    let wall: ActorRef<Echo> = north.resolve(&format!("{}/user/wall", south.address()))?;
    if wall.is_local() {
        return Err("the wall should be on the other node".into());
    }
    let player = north.spawn("player", Props::from_fn(move || Player { wall: wall.clone() }))?;

    let question = player.ask(|reply| Play { rounds: ROUNDS, reply }).timeout(Duration::from_secs(60));
    let back = pump.block_on(Duration::from_secs(61), question).ok_or("nothing moves any more")??;
    if back != ROUNDS {
        return Err("not everything came back".into());
    }

    for system in [north, south] {
        let ending = async move { system.shutdown().await };
        pump.block_on(Duration::from_secs(30), ending).ok_or("the shutdown hangs")??;
    }
    Ok(back)
}
