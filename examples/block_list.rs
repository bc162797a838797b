//! An operator refuses a node, sees it refused, and lets it in again, without a restart of either.
//!
//! ```text
//! cargo run -p nexus-actor --features grpc --example block_list
//! ```

use core::error::Error;

use nexus_actor::AskError;
use nexus_actor::grpc::{Config, ConfigOption, Remote};
use nexus_actor::pid::Pid;
use nexus_actor::prelude::*;
use nexus_actor::remote::EndpointTerminatedEvent;

#[derive(Message)]
#[message(protobuf)]
struct Hello(String, Reply<String>);

struct Door;

impl Actor for Door {
    type Msg = Hello;

    async fn receive(
        &mut self,
        Hello(name, reply): Hello,
        _: &mut Context<'_, Self>,
    ) -> Result<(), ActorError> {
        reply.send(format!("come in, {name}"));
        Ok(())
    }
}

async fn node(name: &str, config: Config) -> Result<(ActorSystem, Remote), Box<dyn Error>> {
    let system = ActorSystem::builder(name).build()?;
    system.register::<Hello>()?;
    let remote = Remote::start(&system, config).await?;
    Ok((system, remote))
}

async fn knock(door: &ActorRef<Hello>) -> Result<String, AskError> {
    let answer = door.ask(|reply| Hello("guest".into(), reply)).await;
    match &answer {
        Ok(text) => println!("guest: the door says {text:?}"),
        Err(error) => println!("guest: no answer: {error}"),
    }
    answer
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Some are refused from the start: by the id that a node draws at its start, or by address.
    let config =
        Config::new("127.0.0.1", 0).with([ConfigOption::with_blocked_systems(["old-node.example:8090"])]);
    let (host, gate) = node("host", config).await?;
    host.spawn("door", Props::from_fn(|| Door))?;
    let (guest, remote) = node("guest", Config::new("127.0.0.1", 0)).await?;
    let _terminated = guest.event_stream().subscribe(|event: &EndpointTerminatedEvent| {
        println!("guest: the connection has ended: {}", event.reason);
    });
    let door: ActorRef<Hello> = remote.resolve(&Pid::new(gate.address(), "door"))?;
    knock(&door).await?;

    println!("-- the host blocks the guest");
    gate.block_system(remote.address()).await;
    println!("host: blocked are {:?}", gate.list_blocked_systems().await);
    let refused = knock(&door).await;

    println!("-- and lets it in again");
    gate.unblock_system(remote.address()).await;
    println!("host: blocked are {:?}", gate.list_blocked_systems().await);
    // The guest was told that it is blocked, and does not knock in vain until its own operator has it try again.
    remote.manager().schedule_reconnect(gate.address())?;
    println!("guest: the connection is {:?}", remote.await_reconnect(gate.address()).await?);
    let welcome = knock(&door).await;

    guest.shutdown().await?;
    host.shutdown().await?;
    if refused.is_ok() {
        return Err("the blocked guest got in".into());
    }
    welcome?;
    Ok(())
}
