extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::actor;

struct Quiet;

#[actor]
impl Quiet {
    fn add(&mut self, _by: i64) {}
}

struct Store<T>(T);

#[actor]
impl<T> Store<T> {
    #[message]
    fn put(&mut self, value: T) {
        self.0 = value;
    }
}

struct Wrong;

#[actor(manifest = "shop.wrong", msg = Talk)]
impl Wrong {
    #[message]
    fn add(&mut self, _by: i64) {}
}

#[actor]
struct Misplaced;

fn main() {}
