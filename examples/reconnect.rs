//! A node over the protoactor wire whose peer goes away under its hands: what waits is delivered when the peer is back.
//!
//! ```text
//! cargo run -p nexus-actor --features grpc --example reconnect
//! ```

use core::error::Error;
use core::time::Duration;

use nexus_actor::grpc::endpoint_state::{ConnectionState, ReconnectPolicy};
use nexus_actor::grpc::{Config, ConfigOption, Remote};
use nexus_actor::pid::Pid;
use nexus_actor::prelude::*;
use nexus_actor::remote::association::Patience;
use nexus_actor::remote::{EndpointConnectedEvent, EndpointReconnectEvent, EndpointTerminatedEvent};
use tokio::sync::mpsc;

#[derive(Message)]
#[message(protobuf)]
enum Clerk {
    /// Takes a note.
    Note(String),
    /// How many notes were taken.
    Count(Reply<u32>),
}

#[derive(Default)]
struct Desk {
    notes: u32,
}

impl Actor for Desk {
    type Msg = Clerk;

    async fn receive(&mut self, message: Clerk, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Clerk::Note(text) => {
                self.notes += 1;
                println!("server: note {text:?}");
            }
            Clerk::Count(reply) => reply.send(self.notes),
        }
        Ok(())
    }
}

/// A node with a desk; port 0 is any free one.
async fn server(port: u16) -> Result<(ActorSystem, Remote), Box<dyn Error>> {
    let system = ActorSystem::builder("server").build()?;
    system.register::<Clerk>()?;
    system.spawn("desk", Props::from_fn(Desk::default))?;
    let remote = Remote::start(&system, Config::new("127.0.0.1", port)).await?;
    Ok((system, remote))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = ActorSystem::builder("client").build()?;
    client.register::<Clerk>()?;

    // What happens to connections is published on the event stream.
    let (attempts, mut attempted) = mpsc::unbounded_channel();
    let events = client.event_stream();
    let _connected = events.subscribe(|event: &EndpointConnectedEvent| {
        println!("client: connected to {}", event.address);
    });
    let _terminated = events.subscribe(|event: &EndpointTerminatedEvent| {
        println!("client: the connection to {} has ended: {}", event.address, event.reason);
    });
    let _reconnect = events.subscribe(move |event: &EndpointReconnectEvent| {
        println!("client: attempt {} to reach {}", event.attempt, event.address);
        // Nobody listens any more when the example is over.
        let _ = attempts.send(event.attempt);
    });

    // At most 50 attempts, 50 ms apart at first and never more than 200 ms. protoactor-go's: `ReconnectPolicy::fixed(5, 2 s)`.
    let policy = ReconnectPolicy::exponential(50, Duration::from_millis(50), Duration::from_millis(200));
    let options = [
        ConfigOption::with_endpoint_reconnect_policy(policy),
        // Also when a connection breaks in use: else what waits then is a dead letter at once, as in protoactor-go.
        ConfigOption::with_queue_patience(Patience::Keep),
    ];
    let remote = Remote::start(&client, Config::new("127.0.0.1", 0).with(options)).await?;

    let (system, node) = server(0).await?;
    let address = node.address().to_owned();
    let port = node.bound_address().ok_or("the server listens")?.port();
    let desk: ActorRef<Clerk> = remote.resolve(&Pid::new(address.as_str(), "desk"))?;
    desk.tell(Clerk::Note("all is well".into()));
    println!("client: {} note(s) at the desk", desk.ask(Clerk::Count).await?);

    println!("-- the server goes away");
    system.shutdown().await?;
    desk.tell(Clerk::Note("written while it was away".into()));
    while attempted.recv().await.ok_or("the event stream has ended")? < 3 {}
    println!("client: {} is {:?}", address, remote.manager().connection_state(&address));

    println!("-- and comes back on the same port");
    let (system, _node) = server(port).await?;
    let state = remote.await_reconnect(&address).await?;
    let notes = desk.ask(Clerk::Count).await?;
    let statistics = remote.get_endpoint_statistics(&address).ok_or("there is an endpoint")?;
    println!("client: {state:?}, {notes} note(s) at the desk");
    println!("client: {} sent, {} lost", statistics.sent, statistics.dead_letters);

    client.shutdown().await?;
    system.shutdown().await?;
    if state != ConnectionState::Connected || notes != 1 || statistics.dead_letters != 0 {
        return Err("the note that waited was not delivered".into());
    }
    Ok(())
}
