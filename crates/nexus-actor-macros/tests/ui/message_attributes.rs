extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::Message;
use serde::{Deserialize, Serialize};

#[derive(Message, Serialize, Deserialize)]
struct NoManifest(u8);

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop counter@1")]
struct Space(u8);

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.counter")]
struct NoVersion(u8);

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.counter@1", serializer = "json")]
struct UnknownKey(u8);

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.counter@1")]
struct Borrows<'a>(&'a str);

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.counter@1")]
enum SkippedFirst {
    #[serde(skip)]
    Local(u8),
    Remote(u8),
}

#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "shop.counter@1")]
struct LeftOut {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

fn main() {}
