//! The actors of a node, and the messages they take.

use core::time::Duration;
use std::collections::VecDeque;

use nexus_actor::AnyRef;
use nexus_actor::path::ActorPath;
use nexus_actor::prelude::*;
use nexus_actor::serialization::{DecodeError, Decoder, EncodeError, Encoder};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::payload::Payload;
use crate::target::Wire;

/// Registers every message type and starts `/user/echo`, `/user/sink` and `/user/counter`.
pub(crate) fn start(system: &ActorSystem) -> anyhow::Result<()> {
    register(system)?;
    system.spawn("echo", Props::from_fn(|| Echoer))?;
    system.spawn("sink", Props::from_fn(Drain::default))?;
    system.spawn("counter", Props::from_fn(Tally::default))?;
    Ok(())
}

/// Registers every message type.
pub(crate) fn register(system: &ActorSystem) -> anyhow::Result<()> {
    system.register::<Echo>()?;
    system.register::<Sink>()?;
    system.register::<Received>()?;
    system.register::<Counter>()?;
    Ok(())
}

/// To `/user/echo`: what is sent comes back.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "nexus.cli.echo@2", protobuf, json)]
pub(crate) enum Echo {
    /// On the native wire.
    #[message(native)]
    Bytes(Payload, Reply<Payload>),
    /// On the protoactor wire: `google.protobuf.StringValue`.
    #[serde(skip)]
    Text(String, Reply<String>),
}

/// What is sent to an [`Echo`] and comes back.
#[derive(Clone)]
pub(crate) enum Ball {
    Bytes(Payload),
    Text(String),
}

impl Ball {
    /// `len` bytes of which no two neighbours are equal.
    pub(crate) fn pattern(wire: Wire, len: usize) -> Self {
        match wire {
            Wire::Native => Self::Bytes(Payload::pattern(len)),
            Wire::Protoactor => Self::Text(('a'..='z').cycle().take(len).collect()),
        }
    }

    /// Throws it at `echo`; whether the same comes back.
    pub(crate) fn round_trip(
        &self,
        echo: &ActorRef<Echo>,
        timeout: Duration,
    ) -> impl Future<Output = Result<bool, AskError>> + Send + use<> {
        let (ball, echo) = (self.clone(), echo.clone());
        async move {
            match ball {
                Self::Bytes(bytes) => {
                    let question = echo.ask(|reply| Echo::Bytes(bytes.clone(), reply));
                    Ok(question.timeout(timeout).await? == bytes)
                }
                Self::Text(text) => {
                    let question = echo.ask(|reply| Echo::Text(text.clone(), reply));
                    Ok(question.timeout(timeout).await? == text)
                }
            }
        }
    }
}

/// The kind `echo`, and `/user/echo`.
pub(crate) struct Echoer;

impl Actor for Echoer {
    type Msg = Echo;
    async fn receive(&mut self, msg: Echo, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Echo::Bytes(payload, reply) => reply.send(payload),
            Echo::Text(text, reply) => reply.send(text),
        }
        Ok(())
    }
}

/// To `/user/sink`: counts what arrives, for each run apart.
#[derive(Debug)]
pub(crate) enum Sink {
    /// One message of a run.
    Put { run: u64, payload: Payload },
    /// How many of that run have arrived.
    Count { run: u64, reply: Reply<Received> },
    /// The same, told to an actor: it keeps its place behind the messages before it even when the lane is full.
    Report { run: u64, mark: u64, to: ActorRef<Received> },
}

/// What one incarnation of a sink has received of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message, Serialize, Deserialize)]
#[message(manifest = "nexus.cli.received@1")]
pub(crate) struct Received {
    /// The incarnation: a restarted sink counts from zero.
    pub(crate) sink: u64,
    pub(crate) run: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// What the report was asked with.
    pub(crate) mark: u64,
}

const PUT: u8 = 0;
const COUNT: u8 = 1;
const REPORT: u8 = 2;

/// By hand, since this is what throughput is measured with: a tag, the run as 8 bytes, the payload to the end.
impl Message for Sink {
    const MANIFEST: &'static str = "nexus.cli.sink@1";

    #[inline]
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        let head = |tag: u8, run: u64| {
            let mut head = [tag; 9];
            head[1..].copy_from_slice(&run.to_le_bytes());
            head
        };
        match self {
            Self::Put { run, payload } => {
                encoder.put(&head(PUT, *run))?;
                encoder.put(payload.as_bytes())
            }
            Self::Count { run, reply } => {
                encoder.put(&head(COUNT, *run))?;
                encoder.postcard(reply)
            }
            Self::Report { run, mark, to } => {
                encoder.put(&head(REPORT, *run))?;
                encoder.postcard(&(mark, to))
            }
        }
    }

    #[inline]
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let head = decoder.take(9)?;
        let mut run = [0; 8];
        run.copy_from_slice(&head[1..]);
        let run = u64::from_le_bytes(run);
        match head[0] {
            PUT => {
                let rest = decoder.remaining();
                Ok(Self::Put { run, payload: Payload::from(decoder.take(rest.len())?) })
            }
            COUNT => Ok(Self::Count { run, reply: decoder.postcard()? }),
            REPORT => {
                let (mark, to) = decoder.postcard()?;
                Ok(Self::Report { run, mark, to })
            }
            other => Err(DecodeError::failed(format_args!("{other} is no kind of {}", Self::MANIFEST))),
        }
    }
}

/// So many runs are remembered; the one longest silent is forgotten first.
const RUNS_MAX: usize = 64;

struct Drain {
    sink: u64,
    /// The run heard last is the first.
    runs: VecDeque<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    id: u64,
    messages: u64,
    bytes: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { sink: fastrand::u64(1..), runs: VecDeque::new() }
    }
}

impl Drain {
    #[inline]
    fn put(&mut self, id: u64, bytes: usize) {
        if self.runs.front().is_none_or(|run| run.id != id) {
            self.bring_forward(id);
        }
        if let Some(run) = self.runs.front_mut() {
            run.messages += 1;
            run.bytes += bytes as u64;
        }
    }

    fn bring_forward(&mut self, id: u64) {
        let known = self.runs.iter().position(|run| run.id == id).and_then(|at| self.runs.remove(at));
        self.runs.push_front(known.unwrap_or(Run { id, messages: 0, bytes: 0 }));
        self.runs.truncate(RUNS_MAX);
    }

    fn received(&self, id: u64, mark: u64) -> Received {
        let known = self.runs.iter().find(|run| run.id == id);
        let Run { messages, bytes, .. } = known.copied().unwrap_or(Run { id, messages: 0, bytes: 0 });
        Received { sink: self.sink, run: id, messages, bytes, mark }
    }
}

impl Actor for Drain {
    type Msg = Sink;
    async fn receive(&mut self, msg: Sink, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            Sink::Put { run, payload } => self.put(run, payload.as_bytes().len()),
            Sink::Count { run, reply } => reply.send(self.received(run, 0)),
            Sink::Report { run, mark, to } => to.tell(self.received(run, mark)),
        }
        Ok(())
    }
}

/// To `/user/counter`.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "nexus.cli.counter@1")]
pub(crate) enum Counter {
    /// Adds to the sum.
    Add(i64),
    /// The sum so far.
    Get(Reply<i64>),
    /// Tells the other counter to add this one's sum.
    Join(ActorRef<Counter>),
    /// Tells the other counter to add this much, asks it for its sum, and answers with that.
    Consult(ActorRef<Counter>, i64, Reply<i64>),
}

#[derive(Default)]
struct Tally {
    sum: i64,
}

impl Actor for Tally {
    type Msg = Counter;
    async fn receive(&mut self, msg: Counter, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match msg {
            // What a peer sends must not be able to overflow it.
            Counter::Add(by) => self.sum = self.sum.saturating_add(by),
            Counter::Get(reply) => reply.send(self.sum),
            Counter::Join(other) => other.tell(Counter::Add(self.sum)),
            Counter::Consult(other, by, reply) => {
                other.tell(Counter::Add(by));
                let question = other.ask(Counter::Get);
                // Beside this actor, so that a question to itself or round a circle is answered too. If it
                // fails, the dropped reply tells the asker.
                tokio::spawn(async move {
                    if let Ok(sum) = question.await {
                        reply.send(sum);
                    }
                });
            }
        }
        Ok(())
    }
}

/// Tells a channel when what it watches has ended.
pub(crate) struct Watcher {
    ended: mpsc::UnboundedSender<(ActorPath, TerminationReason)>,
}

/// To a [`Watcher`]: whom to watch.
pub(crate) struct Watch(pub(crate) AnyRef);

impl Watcher {
    pub(crate) fn props(ended: mpsc::UnboundedSender<(ActorPath, TerminationReason)>) -> Props<Self> {
        Props::from_fn(move || Self { ended: ended.clone() })
    }
}

impl Actor for Watcher {
    type Msg = Watch;
    async fn receive(&mut self, msg: Watch, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        cx.watch_any(&msg.0);
        Ok(())
    }

    async fn signal(&mut self, signal: Signal, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Signal::Terminated { who, reason } = signal {
            // The demonstration may have ended before.
            let _ = self.ended.send((who.path(), reason));
        }
        Ok(())
    }
}

/// Hands the reports of sinks to a channel.
pub(crate) struct Reports {
    to: mpsc::UnboundedSender<Received>,
}

impl Reports {
    pub(crate) fn props(to: mpsc::UnboundedSender<Received>) -> Props<Self> {
        Props::from_fn(move || Self { to: to.clone() })
    }
}

impl Actor for Reports {
    type Msg = Received;
    async fn receive(&mut self, msg: Received, _cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        let _ = self.to.send(msg);
        Ok(())
    }
}

const _: () = assert!(size_of::<Sink>() <= 40, "a message waits in mailboxes by the hundred thousand");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_keeps_runs_apart_and_remembers_so_many() {
        let mut drain = Drain::default();
        for id in 0..RUNS_MAX as u64 + 1 {
            drain.put(id, 3);
            drain.put(0, 1);
        }
        assert_eq!(drain.runs.len(), RUNS_MAX);
        // The run that goes on is never the one forgotten.
        assert_eq!(drain.received(0, 7).messages, RUNS_MAX as u64 + 2);
        assert_eq!(drain.received(0, 7).mark, 7);
        assert_eq!(drain.received(1, 0).messages, 0);
        assert_eq!(
            drain.received(2, 0),
            Received { sink: drain.sink, run: 2, messages: 1, bytes: 3, mark: 0 }
        );
    }

    #[test]
    fn a_put_is_its_payload_and_nine_bytes() {
        for len in [0, 16, 22, 23, 4_000] {
            let (mut bytes, payload) = (Vec::new(), Payload::pattern(len));
            Sink::Put { run: u64::MAX, payload: payload.clone() }
                .encode(&mut Encoder::new(&mut bytes, 1 << 20))
                .unwrap();
            assert_eq!(bytes.len(), len + 9);
            let Ok(Sink::Put { run, payload: back }) = Sink::decode(&mut Decoder::new(&bytes)) else {
                panic!("another kind came back");
            };
            assert_eq!((run, back), (u64::MAX, payload));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[][..], &[0; 8], &[3; 9], &[COUNT; 9], &[REPORT, 0, 0, 0, 0, 0, 0, 0, 0, 255]] {
            assert!(Sink::decode(&mut Decoder::new(bytes)).is_err(), "{bytes:?}");
        }
    }
}
