//! Messages inside messages, a million deep: what reads them must not go down with them.

mod support;

use bytes::Bytes;
use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::serialization::protobuf::{Named, ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::{Actor, ActorError, Context, DeadLetterReason, Props};
use nexus_remote_grpc::wire::batch::{BatchLimits, Incoming, decode};
use support::raw::{RawCall, batch, note, sent, server_hello};
use support::{Heard, TestNode, local};
use tonic::Code;

const DEEP: usize = 1_000_000;

/// Groups of the field `number`, each in the one before it.
fn groups(number: u8, depth: usize) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 3; depth];
    bytes.resize(2 * depth, number << 3 | 4);
    bytes
}

/// Messages in the fields `numbers`, by turns, each in the one before it.
fn messages(numbers: &[u8], depth: usize) -> Vec<u8> {
    // From the innermost outwards, so backwards.
    let mut bytes: Vec<u8> = Vec::new();
    for level in (0..depth).rev() {
        let mut length = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut length);
        bytes.extend(length.iter().rev());
        bytes.push(numbers[level % numbers.len()] << 3 | 2);
    }
    bytes.reverse();
    bytes
}

/// A field `number` around `content`.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend(content);
    bytes
}

/// On a stack that has no room for a fraction of the levels: in a message, a batch, and each of its parts; in fields that are
/// known and that are not.
///
/// Covers: T16
#[test]
fn a_batch_is_read_on_a_small_stack() {
    let read = || {
        let limits = BatchLimits { message_bytes: 16 * 1024 * 1024, ..BatchLimits::default() };
        let decoded = |bytes: Vec<u8>| decode(Bytes::from(bytes), &limits);
        let (groups, unknown, known) =
            (groups(15, DEEP), messages(&[15], DEEP), messages(&[1, 2, 3, 4], DEEP));
        assert!(decoded(groups.clone()).is_err());
        assert!(matches!(decoded(unknown.clone()), Ok(Incoming::Empty)), "skipped by its length");
        let _ = decoded(known.clone());
        for outer in 1..=5 {
            for content in [&groups, &unknown, &known] {
                // Of the message, its member; of that, each of its fields.
                let _ = decoded(field(outer, content));
                for inner in 1..=4 {
                    let Ok(Incoming::Batch(batch)) = decoded(field(outer, &field(inner, content))) else {
                        continue;
                    };
                    assert!(batch.envelopes().all(|envelope| envelope.is_err()));
                }
            }
        }
    };
    std::thread::Builder::new()
        .stack_size(128 * 1024)
        .spawn(read)
        .expect("a thread")
        .join()
        .expect("it ends");
}

/// Lists in lists: what an actor is sent may nest by its type.
#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    inner: Vec<List>,
}

impl prost::Name for List {
    const NAME: &'static str = "List";
    const PACKAGE: &'static str = "test";
}

impl<'de> serde::Deserialize<'de> for List {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|inner| Self { inner })
    }
}

/// How deep a list was.
struct Tree(usize);

impl Message for Tree {
    const MANIFEST: &'static str = "test.tree@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[ProtobufForm::tell_of::<List>()],
        encode: |_, _| Err(EncodeError::failed("only read")),
        decode: |named: &Named<'_>| {
            let mut list = named.protobuf_or_json::<List>()?;
            let mut depth = 0;
            while let Some(inner) = list.inner.pop() {
                depth += 1;
                list = inner;
            }
            Ok(Self(depth))
        },
    });
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only on the protobuf wire"))
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only on the protobuf wire"))
    }
}

struct Gardener(Heard);

impl Actor for Gardener {
    type Msg = Tree;
    async fn receive(&mut self, tree: Tree, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        self.0.push(tree.0.to_string());
        Ok(())
    }
}

/// A node loses the message, and the call goes on; what is no message ends the call.
///
/// Covers: T16
#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_what_is_nested_without_end() {
    let a = TestNode::start("node", local()).await;
    a.system.register::<Tree>().expect("registered once");
    let seen = Heard::default();
    let told = seen.clone();
    a.system.spawn("tree", Props::from_fn(move || Gardener(told.clone()))).expect("free");
    let to = a.remote.address().to_owned();
    let hello = || server_hello("raw", "127.0.0.1:1");
    let call = RawCall::shake(&to, hello()).await;
    let lists = |depth| messages(&[1], depth);
    let json = |depth| ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes();
    let send = |id: &str, serializer, name: &str, payload| {
        let mut batch = batch(&to, id, None, &[(name, payload)]);
        batch.envelopes[0].serializer_id = serializer;
        call.send(sent(batch));
    };
    const LIST: &str = "test.List";
    // The most that may be (limit L13): a list in JSON is one level itself.
    send("tree", 0, LIST, lists(100));
    send("tree", 1, LIST, json(127));
    seen.until("two trees", |all| all == ["100", "126"]).await;

    let mut letters = a.events::<DeadLetterEvent>();
    for (id, serializer, name, payload) in [
        ("tree", 0, LIST, lists(101)),
        ("tree", 1, LIST, json(128)),
        // At up to four bytes a level, so many fit.
        ("tree", 0, LIST, lists(DEEP * 3 / 4)),
        ("tree", 1, LIST, json(DEEP)),
        ("tree", 0, LIST, groups(15, DEEP)),
        ("echo", 0, "google.protobuf.StringValue", groups(15, DEEP)),
        ("echo", 1, "google.protobuf.StringValue", json(DEEP)),
        ("echo", 0, "actor.Watch", groups(15, DEEP)),
        ("echo", 0, "actor.Watch", field(1, &groups(15, DEEP))),
        ("activator", 0, "remote.ActorPidRequest", groups(15, DEEP)),
    ] {
        send(id, serializer, name, payload);
        let letter = letters.next(name).await;
        assert_eq!((letter.reason(), letter.message.type_name.as_ref()), (DeadLetterReason::Decode, name));
    }
    // What nobody knows is skipped, however deep.
    let (_, text) = note("sound");
    let skipped = [messages(&[15], DEEP / 2), text].concat();
    call.send(sent(batch(&to, "echo", None, &[("google.protobuf.StringValue", skipped)])));
    a.heard.until("what is sound", |all| all == ["sound"]).await;

    let words = |depth| [groups(15, depth), field(1, &groups(15, depth)), field(2, &groups(15, depth))];
    // Of a stranger no more is read than 128 KiB (limit L5).
    for (deep, first) in words(DEEP).into_iter().zip(words(50_000)) {
        let mut call = RawCall::shake(&to, hello()).await;
        call.send(Bytes::from(deep));
        assert_eq!(call.end().await, Code::InvalidArgument);
        // As the first word.
        match RawCall::open(&to, Bytes::from(first)).await {
            Ok(mut call) => assert_eq!(call.end().await, Code::InvalidArgument),
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
        }
    }
    call.send(sent(batch(&to, "echo", None, &[note("after")])));
    a.heard.until("what came after", |all| all == ["sound", "after"]).await;
    drop(call);
    a.stop().await;
}
