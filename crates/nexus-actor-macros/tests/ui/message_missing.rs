extern crate nexus_actor_core as nexus_actor;

use nexus_actor::{ActorRef, ActorSystem};

struct Local(u8);

fn far(system: &ActorSystem) -> ActorRef<Local> {
    system.resolve("fraktor.tcp://a@127.0.0.1:25520/user/b").unwrap()
}

fn main() {}
