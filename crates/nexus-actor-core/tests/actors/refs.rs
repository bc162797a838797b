//! References: equality, names against incarnations, adapters, and references inside messages.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

use crate::kit::*;
use nexus_actor_core::serialization::scope::DecodeScope;
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::*;

/// A message that may cross a wire.
#[derive(Serialize, Deserialize)]
pub(crate) enum Wire {
    Number(u64),
    Join(ActorRef<Wire>),
    Get(Reply<u64>),
}

impl Message for Wire {
    const MANIFEST: &'static str = "lab.wire@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

struct Sum(u64);

impl Actor for Sum {
    type Msg = Wire;
    async fn receive(&mut self, message: Wire, _: &mut Context<'_, Self>) -> Done {
        match message {
            Wire::Number(n) => self.0 += n,
            Wire::Join(other) => other.tell(Wire::Number(self.0)),
            Wire::Get(reply) => reply.send(self.0),
        }
        Ok(())
    }
}

fn sum(house: &House, name: &str) -> ActorRef<Wire> {
    house.spawn(name, Props::from_fn(|| Sum(0)))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[test]
#[allow(clippy::mutable_key_type, reason = "its hash is of the path and uid, which never change")]
fn references_are_equal_when_path_and_uid_are() {
    let house = house();
    let (a, b) = (sum(&house, "a"), sum(&house, "b"));
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_eq!(hash(&a), hash(&a.clone()));
    assert_eq!(hash(&a), hash(&a.to_any()));
    assert_eq!(a.to_any().downcast::<Wire>(), Some(a.clone()));
    assert_eq!(a.to_any().downcast::<Do>(), None);
    let by_path: ActorRef<Wire> = house.system.resolve(&a.path().to_string()).unwrap();
    assert_eq!(a, by_path, "a path with a uid names the same incarnation");
    let by_name: ActorRef<Wire> = house.system.resolve("/user/a").unwrap();
    let same_name: ActorRef<Wire> = house.system.resolve("fraktor://lab/user/a").unwrap();
    assert_ne!(a, by_name, "a name is no incarnation");
    assert_eq!(by_name, same_name);
    assert_eq!(hash(&by_name), hash(&same_name));
    assert!(by_name.to_any().uid().is_any());
    let all: HashSet<_> = [a.clone(), b, by_name, same_name, by_path].into_iter().collect();
    assert_eq!(all.len(), 3);
}

#[test]
fn a_reference_prints_as_its_path() {
    let house = house();
    let a = sum(&house, "a");
    let text = format!("{a:?}");
    assert_eq!(text, format!("{a}"));
    assert_eq!(text, format!("fraktor://lab/user/a#{}", a.to_any().uid()));
    assert_eq!(text.parse::<path::ActorPath>().unwrap(), a.path());
}

#[test]
fn a_name_reaches_the_successor_and_an_incarnation_never_does() {
    let house = house();
    let old = sum(&house, "a");
    let path = old.path().to_string();
    let by_name: ActorRef<Wire> = house.system.resolve("/user/a").unwrap();
    by_name.tell(Wire::Number(1));
    assert_eq!(house.wait(old.ask(Wire::Get)), Ok(1));
    old.stop();
    house.idle();
    assert_eq!(house.wait(by_name.ask(Wire::Get)), Err(AskError::NoSuchActor));
    assert!(by_name.is_terminated());
    let new = sum(&house, "a");
    by_name.tell(Wire::Number(10));
    let late: ActorRef<Wire> = house.system.resolve(&path).unwrap();
    for (name, dead) in [("held", &old), ("resolved after its end", &late)] {
        assert!(dead.try_tell(Wire::Number(100)).is_err(), "{name}");
        assert!(dead.is_terminated(), "{name}");
        dead.stop();
        assert!(house.wait(dead.ask(Wire::Get)).is_err(), "{name}");
    }
    assert_eq!(old, late);
    house.idle();
    assert_eq!(house.wait(new.ask(Wire::Get)), Ok(10), "the successor got what was sent to the name only");
    // Watched, a dead incarnation is dead, whoever has its name now.
    let w = house.lab("w");
    let watched = late.clone();
    house.check(
        &w,
        run(move |_, cx| {
            cx.watch(&watched);
            Ok(())
        }),
        &["w: a stopped"],
    );
}

#[test]
fn a_name_with_the_wrong_type_delivers_nothing() {
    let house = house();
    house.lab("a");
    let wrong: ActorRef<Wire> = house.system.resolve("/user/a").unwrap();
    assert_eq!(wrong.try_tell(Wire::Number(1)).unwrap_err().refusal, Refusal::NoSuchActor);
}

#[test]
fn lookup_gives_the_incarnation_or_says_that_there_is_none() {
    let house = house();
    let a = sum(&house, "a");
    let system = house.system.clone();
    let found = house.wait(async move { system.lookup::<Wire>("/user/a").await });
    assert_eq!(found, Ok(a));
    for path in ["/user/b", "/user/a/b"] {
        let system = house.system.clone();
        let found = house.wait(async move { system.lookup::<Wire>(path).await });
        assert_eq!(found, Err(AskError::NoSuchActor), "{path}");
    }
    let system = house.system.clone();
    let found = house.wait(async move { system.lookup::<Wire>("no path").await });
    assert!(matches!(found, Err(AskError::Decode(_))));
    assert!(matches!(
        house.system.resolve::<Wire>("fraktor.tcp://other@h:1/user/a"),
        Err(ResolveError::NoRemoting { .. })
    ));
}

#[test]
fn an_adapter_converts_watches_stops_and_equals_only_itself() {
    let house = house();
    let a = sum(&house, "a");
    let adapted: ActorRef<(u64, u64)> = a.adapt(|(x, y)| Wire::Number(x * y));
    adapted.tell((6, 7));
    assert_eq!(house.wait(a.ask(Wire::Get)), Ok(42));
    assert_eq!(adapted, adapted.clone());
    assert_ne!(adapted.to_any(), a.to_any());
    assert_eq!(adapted.path(), a.path());
    assert!(adapted.is_local() && !adapted.is_terminated());
    adapted.stop();
    house.idle();
    assert!(a.is_terminated() && adapted.is_terminated());
    assert_eq!(adapted.try_tell((1, 2)).unwrap_err().message, (1, 2));
}

#[test]
fn a_reference_in_a_message_is_its_path_and_needs_a_scope_to_come_back() {
    let house = house();
    let a = sum(&house, "a");
    let text = serde_json::to_string(&Wire::Join(a.clone())).unwrap();
    assert_eq!(text, format!("{{\"Join\":\"{a}\"}}"));
    assert!(serde_json::from_str::<Wire>(&text).is_err(), "outside of a scope");
    {
        let _scope = DecodeScope::enter(&house.system, None);
        match serde_json::from_str::<Wire>(&text) {
            Ok(Wire::Join(back)) => assert_eq!(back, a),
            _ => panic!("a reference comes back"),
        }
        assert!(serde_json::from_str::<Wire>("{\"Join\":\"nonsense\"}").is_err());
        let _inner = DecodeScope::enter(&crate::kit::house().system, None);
    }
    assert!(serde_json::from_str::<Wire>(&text).is_err(), "the scope has ended");
    let adapted: ActorRef<Wire> = a.adapt(|message: Wire| message);
    assert!(serde_json::to_string(&adapted).is_err(), "a function cannot cross a wire");
}

#[test]
fn a_reply_in_a_message_travels_in_an_envelope_only() {
    let house = house();
    let a = house.lab("a");
    let ask = a.ask(|reply: Reply<u64>| {
        let message = Wire::Get(reply);
        assert!(serde_json::to_string(&message).is_err(), "there is no envelope here");
        let Wire::Get(reply) = message else { unreachable!() };
        Do::Count(reply)
    });
    assert_eq!(house.wait(ask), Ok(1), "the reply is as it was");
    let _scope = DecodeScope::enter(&house.system, None);
    assert!(serde_json::from_str::<Wire>("{\"Get\":null}").is_err(), "the envelope names nobody");
}

#[test]
fn a_reference_is_one_word() {
    assert_eq!(size_of::<ActorRef<Wire>>(), size_of::<usize>());
    assert_eq!(size_of::<Option<ActorRef<Wire>>>(), size_of::<usize>());
}
