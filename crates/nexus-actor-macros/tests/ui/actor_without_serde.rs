extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::actor;

struct Item;

struct Basket(Vec<Item>);

#[actor(manifest = "shop.basket@1")]
impl Basket {
    #[message]
    fn put(&mut self, item: Item) {
        self.0.push(item);
    }
}

fn main() {}
