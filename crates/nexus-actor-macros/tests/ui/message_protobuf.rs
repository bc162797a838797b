extern crate nexus_actor_core as nexus_actor;

use nexus_actor::{ActorRef, Reply};
use nexus_actor_macros::Message;

#[derive(Message)]
#[message(protobuf)]
enum Unit {
    Add(i64),
    Reset,
}

#[derive(Message)]
#[message(protobuf)]
enum Named {
    Add { by: i64 },
}

#[derive(Message)]
#[message(protobuf)]
enum Fields {
    Add(i64, i64),
    None(),
    Late(Reply<i64>, i64),
}

#[derive(Message)]
#[message(protobuf)]
enum Twice {
    Add(i64),
    Subtract(i64),
    Get(Reply<i64>),
    Size((), Reply<u64>),
}

#[derive(Message)]
#[message(protobuf)]
enum Nothing {
    #[message(native)]
    Join(ActorRef<Nothing>),
}

#[derive(Message)]
#[message(json)]
enum Json {
    Add(i64),
}

#[derive(Message)]
#[message(protobuf)]
enum Unknown {
    #[message(local)]
    Add(i64),
}

#[derive(Message, serde::Serialize, serde::Deserialize)]
#[message(manifest = "shop.marked@1")]
enum Marked {
    #[message(native)]
    Add(i64),
}

#[derive(Message)]
#[message(protobuf)]
struct Unmarked;

fn main() {}
