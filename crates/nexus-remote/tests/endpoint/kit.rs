//! What the tests of this folder share: a protocol, and actors that speak it.

use std::collections::BTreeMap;
use std::time::Duration;

use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, ActorSystem, Context, DeadLetterReason, Props, Reply};
use nexus_testkit::{SimNode, Simulation, TestProbe};
use serde::{Deserialize, Serialize};

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn s(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The protocol of the tests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Talk {
    /// A number.
    Say(u64),
    /// Bytes.
    Blob(#[serde(with = "in_one")] Vec<u8>),
    /// Answered with the number.
    Echo(u64, Reply<u64>),
    /// Answered with the number by the actor named.
    Pass(ActorRef<Talk>, u64, Reply<u64>),
    /// Says the number to the actor named.
    Use(ActorRef<Talk>, u64),
    /// Kept without an answer.
    Keep(Reply<u64>),
    /// The first question kept is answered with the number.
    Answer(u64),
    /// Says 0 to n-1 to the actor named, and stops.
    CountAndStop(ActorRef<Talk>, u64),
    /// Stops.
    Stop,
    /// Fails.
    Fail,
    /// Cannot be encoded.
    Unspeakable(Unspeakable),
}

/// Bytes in one go: byte by byte they are most of the time of a test with many.
mod in_one {
    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

#[derive(Debug)]
pub(crate) struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("unspeakable"))
    }
}

impl<'de> Deserialize<'de> for Unspeakable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("unspeakable"))
    }
}

impl Message for Talk {
    const MANIFEST: &'static str = "test.talk@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

/// Does what it is told.
#[derive(Default)]
pub(crate) struct Parrot {
    kept: Vec<Reply<u64>>,
}

impl Actor for Parrot {
    type Msg = Talk;
    async fn receive(&mut self, talk: Talk, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match talk {
            Talk::Echo(n, reply) => reply.send(n),
            Talk::Pass(to, n, reply) => to.tell(Talk::Echo(n, reply)),
            Talk::Use(who, n) => who.tell(Talk::Say(n)),
            Talk::Keep(reply) => self.kept.push(reply),
            Talk::Answer(n) => {
                if !self.kept.is_empty() {
                    self.kept.remove(0).send(n);
                }
            }
            Talk::CountAndStop(to, n) => {
                for i in 0..n {
                    to.tell(Talk::Say(i));
                }
                cx.stop();
            }
            Talk::Stop => cx.stop(),
            Talk::Fail => return Err("told to fail".into()),
            Talk::Say(_) | Talk::Blob(_) | Talk::Unspeakable(_) => {}
        }
        Ok(())
    }
}

pub(crate) fn parrot(system: &ActorSystem, name: &str) -> ActorRef<Talk> {
    system.spawn(name, Props::from_fn(Parrot::default)).unwrap()
}

pub(crate) fn probe(system: &ActorSystem, name: &str) -> TestProbe<Talk> {
    TestProbe::spawn(system, name).unwrap()
}

/// The numbers said to a probe since the last look.
#[track_caller]
pub(crate) fn numbers(probe: &TestProbe<Talk>) -> Vec<u64> {
    probe
        .take_messages()
        .into_iter()
        .map(|talk| match talk {
            Talk::Say(n) => n,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A simulation over what this binary is for: see `OVER_TCP` in its `main.rs`.
pub(crate) fn simulation(seed: u64) -> Simulation {
    if crate::OVER_TCP { Simulation::over_tcp(seed) } else { Simulation::new(seed) }
}

/// The scheme of a simulation's nodes.
pub(crate) const fn own_scheme() -> &'static str {
    if crate::OVER_TCP { "fraktor.tcp" } else { "fraktor.loopback" }
}

/// A scheme that they do not speak.
pub(crate) const fn other_scheme() -> &'static str {
    if crate::OVER_TCP { "fraktor.loopback" } else { "fraktor.tcp" }
}

/// A simulation with the nodes `names`, which know the protocol.
pub(crate) fn nodes<const N: usize>(seed: u64, names: [&str; N]) -> (Simulation, [SimNode; N]) {
    let sim = simulation(seed);
    let nodes = names.map(|name| know(sim.node(name)));
    (sim, nodes)
}

/// The node, after it has learned the protocol.
pub(crate) fn know(node: SimNode) -> SimNode {
    node.system().register::<Talk>().unwrap();
    node
}

/// A reference on `from` to the actor at `path` of `to`.
pub(crate) fn far(from: &SimNode, to: &SimNode, path: &str) -> ActorRef<Talk> {
    from.system().resolve(&to.url(path)).unwrap()
}

/// Dead letters of a node by reason.
pub(crate) fn lost(node: &SimNode) -> BTreeMap<DeadLetterReason, usize> {
    let mut counts = BTreeMap::new();
    for letter in node.letters() {
        *counts.entry(letter.reason()).or_default() += 1;
    }
    counts
}

/// Sent, acknowledged and lost of the association of `from` with `to`, which must add up.
#[track_caller]
pub(crate) fn accounts(from: &SimNode, to: &SimNode) -> (u64, u64, u64) {
    let statistics = from.remoting().statistics(&to.authority().to_string()).unwrap();
    assert_eq!(
        statistics.sent,
        statistics.acknowledged + statistics.lost + statistics.in_flight,
        "{statistics:?}"
    );
    (statistics.sent, statistics.acknowledged, statistics.lost)
}
