//! A node of ours beside the Go nodes: the actors of the other tests, and a sink that checks the order of numbers as the
//! Go program's does.

use std::ops::Deref;

use nexus_actor_core::pid::Pid;
use nexus_actor_core::serialization::protobuf::{Named, ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, ActorRef, Context, Props, Reply};
use nexus_remote_grpc::{Config, ConfigOption};
use tokio::sync::watch;

use crate::support::{Heard, TestNode, Watch, Watcher, local, within};

/// How the Go programs call a text.
pub(crate) const STRING: &str = "google.protobuf.StringValue";
/// Messages in one burst.
pub(crate) const ORDERED: u64 = 100_000;

/// What a sink takes, ours and the Go program's.
#[derive(Debug)]
pub(crate) enum Numbers {
    Number(i64),
    /// Counted, and nothing else.
    Block(Vec<u8>),
    /// How many there were.
    Count(String, Reply<i64>),
}

impl Message for Numbers {
    const MANIFEST: &'static str = "test.numbers@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[
            ProtobufForm::tell_of::<i64>(),
            ProtobufForm::tell_of::<Vec<u8>>(),
            ProtobufForm::ask_of::<String>(),
        ],
        encode: |message, encoder| match message {
            Self::Number(number) => encoder.protobuf(number),
            Self::Block(bytes) => encoder.protobuf(bytes),
            Self::Count(text, reply) => {
                encoder.reply_protobuf(reply)?;
                encoder.protobuf(text)
            }
        },
        decode: |named: &Named<'_>| {
            if named.is::<i64>() {
                return Ok(Self::Number(named.protobuf()?));
            }
            if named.is::<Vec<u8>>() {
                return Ok(Self::Block(named.protobuf()?));
            }
            if named.is::<String>() {
                return Ok(Self::Count(named.protobuf()?, Reply::protobuf()));
            }
            Err(named.unknown::<Self>())
        },
    });

    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only on the protobuf wire"))
    }

    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only on the protobuf wire"))
    }
}

/// What a sink has seen of a sequence of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) missing: i64,
    pub(crate) reordered: u64,
}

impl Tally {
    pub(crate) const fn take(&mut self, number: i64) {
        if self.count == 0 {
            self.first = number;
        } else if number <= self.last {
            self.reordered += 1;
        } else {
            self.missing += number - self.last - 1;
        }
        self.count += 1;
        self.last = number;
    }
}

pub(crate) struct Sink(pub(crate) watch::Sender<Tally>);

impl Actor for Sink {
    type Msg = Numbers;
    async fn receive(&mut self, message: Numbers, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        match message {
            Numbers::Number(number) => self.0.send_modify(|tally| tally.take(number)),
            Numbers::Block(_) => self.0.send_modify(|tally| tally.count += 1),
            Numbers::Count(_, reply) => reply.send(self.0.borrow().count as i64),
        }
        Ok(())
    }
}

/// A node with the actors `echo`, `sink` and `watcher`.
pub(crate) struct RustNode {
    node: TestNode,
    tally: watch::Receiver<Tally>,
    /// What `watcher` was told.
    pub(crate) ends: Heard,
    watcher: ActorRef<Watch>,
}

impl Deref for RustNode {
    type Target = TestNode;
    fn deref(&self) -> &TestNode {
        &self.node
    }
}

impl RustNode {
    pub(crate) async fn start(config: Config) -> Self {
        let node = TestNode::start("rust", config).await;
        node.system.register::<Numbers>().expect("registered once");
        let sink = watch::Sender::new(Tally::default());
        let tally = sink.subscribe();
        node.system.spawn("sink", Props::from_fn(move || Sink(sink.clone()))).expect("a free name");
        let ends = Heard::default();
        let seen = ends.clone();
        let watcher =
            node.system.spawn("watcher", Props::from_fn(move || Watcher(seen.clone()))).expect("a free name");
        Self { node, tally, ends, watcher }
    }

    /// On the port of a node that has ended. A process that another test starts holds copies of this one's sockets for a
    /// moment, so the port may be taken a little longer.
    pub(crate) async fn start_again(config: Config) -> Self {
        let at = (config.get_host().to_owned(), config.get_port());
        within("the port", async {
            while std::net::TcpListener::bind((&*at.0, at.1)).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Self::start(config).await
    }

    /// On any port, with `options`.
    pub(crate) async fn with(options: impl IntoIterator<Item = ConfigOption>) -> Self {
        Self::start(local().with(options)).await
    }

    /// In the words of the Go programs.
    pub(crate) fn actor(&self, id: &str) -> String {
        format!("{}/{id}", self.remote.address())
    }

    pub(crate) fn port(&self) -> u16 {
        self.remote.bound_address().expect("it listens").port()
    }

    /// Waits until our sink has taken so many.
    pub(crate) async fn counted(&mut self, count: u64) -> Tally {
        *within("the numbers", self.tally.wait_for(|tally| tally.count >= count)).await.expect("a sink")
    }

    /// The state of our sink after it has changed again.
    pub(crate) async fn next_tally(&mut self) -> Tally {
        self.tally.changed().await.expect("a sink");
        *self.tally.borrow_and_update()
    }

    pub(crate) fn sink_at(&self, address: &str) -> ActorRef<Numbers> {
        self.remote.resolve(&Pid::new(address, "sink")).expect("a pid")
    }

    pub(crate) fn watch(&self, address: &str, id: &str) {
        self.watcher.tell(Watch::Begin(self.at(address, id)));
    }

    pub(crate) fn unwatch(&self, address: &str, id: &str) {
        self.watcher.tell(Watch::End(self.at(address, id)));
    }

    /// Waits until the watcher has been told this.
    pub(crate) async fn told(&self, what: &str) {
        self.ends.until(what, |all| all.iter().any(|one| one == what)).await;
    }

    /// An orderly end, after which nothing is left.
    pub(crate) async fn stop(self) {
        let remote = self.remote.clone();
        self.node.stop().await;
        assert_eq!((remote.tasks(), remote.pending_asks()), (0, 0), "tasks and questions after the end");
    }
}
