extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::Message;
use serde::{Deserialize, Serialize};

use nexus_actor::serialization::Message as Sent;

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.put@1")]
struct Put<T>(T);

struct NotSerializable;

fn register<M: Sent>() {}

fn main() {
    register::<Put<u8>>();
    register::<Put<NotSerializable>>();
}
