//! Two nodes on virtual time, and on the second an actor that listens.

use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, Context, Props};
use nexus_remote::RemotingExtensionConfig;
use nexus_testkit::{SimNode, Simulation};

pub(crate) struct Word(pub(crate) u32);

impl Message for Word {
    const MANIFEST: &'static str = "ear.word@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(&self.0)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard().map(Self)
    }
}

struct Ear;

impl Actor for Ear {
    type Msg = Word;
    async fn receive(&mut self, word: Word, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        assert!(word.0 < 1_000_000);
        Ok(())
    }
}

/// The first node with settings that `adjust` has changed, and the second with the `ear`.
pub(crate) fn pair(
    seed: u64,
    adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
) -> (Simulation, SimNode, SimNode) {
    let sim = Simulation::new(seed);
    let (a, b) = (sim.node_with("a", adjust), sim.node("b"));
    for node in [&a, &b] {
        node.system().register::<Word>().unwrap();
    }
    b.system().spawn("ear", Props::from_fn(|| Ear)).unwrap();
    (sim, a, b)
}
