extern crate nexus_actor_core as nexus_actor;

use nexus_actor::Reply;
use nexus_actor_macros::Message;

struct Order {
    item: String,
}

#[derive(Message)]
#[message(protobuf)]
enum Shop {
    Buy(Order),
    Find(String, Reply<Order>),
}

fn main() {}
