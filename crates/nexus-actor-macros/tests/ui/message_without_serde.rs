extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::Message;
use serde::Serialize;

#[derive(Message)]
#[message(manifest = "shop.neither@1")]
struct Neither(u8);

#[derive(Message, Serialize)]
#[message(manifest = "shop.only_written@1")]
struct OnlyWritten(u8);

fn main() {}
