extern crate nexus_actor_core as nexus_actor;

use nexus_actor_macros::actor;

struct Tally;

#[actor]
impl Tally {
    #[message]
    fn by_value(self) {}

    #[message]
    fn without_self(_by: i64) {}

    #[message]
    fn pattern(&mut self, (_a, _b): (u8, u8)) {}

    #[message]
    fn borrows(&mut self, _text: &str) {}

    #[message]
    fn lends(&self) -> Option<&u8> {
        None
    }

    #[message]
    fn generic<T>(&mut self, _value: T) {}

    #[message]
    fn opaque(&mut self, _value: impl Copy) {}

    #[message]
    fn answered(&mut self, reply: u8) -> u8 {
        reply
    }

    #[message]
    fn add_one(&mut self) {}

    #[message]
    fn add__one(&mut self) {}

    #[message]
    fn stop(&mut self) {}

    #[message]
    fn tell_add_one(&mut self) {}

    #[signal]
    fn on_signal(&mut self) {}
}

fn main() {}
