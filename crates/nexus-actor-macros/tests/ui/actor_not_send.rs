extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::actor;

struct Cellar;

#[actor]
impl Cellar {
    #[message]
    fn put(&mut self, _bottle: std::rc::Rc<u8>) {}
}

fn main() {}
