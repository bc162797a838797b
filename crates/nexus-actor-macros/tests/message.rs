//! What `#[derive(Message)]` writes, used as an application uses it.

// Generated code looks for `::nexus_actor` unless told otherwise.
extern crate nexus_actor_core as nexus_actor;

use nexus_actor::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor::{ActorRef, Reply};
use nexus_actor_macros::Message;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "test.plain@1")]
struct Plain {
    name: String,
    amounts: Vec<i64>,
}

#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "test.choice@12")]
enum Choice {
    Unit,
    Tuple(u8, u16),
    Named {
        text: String,
    },
    #[serde(skip)]
    Local(core::num::NonZeroU8),
}

#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "test.unit@1", crate = ::nexus_actor_core)]
struct Unit;

#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "test.pair@1")]
struct Pair<A, B = u8, const N: usize = 2>
where
    A: Clone,
{
    a: A,
    b: [B; 1],
}

/// Bounds that the user corrected: the parameter itself need not be serializable.
#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "test.marked@1")]
#[serde(bound = "")]
struct Marked<T> {
    number: u32,
    mark: core::marker::PhantomData<T>,
}

/// A generic protocol with an answer and a reference to its own kind.
#[derive(Message, Serialize, Deserialize)]
#[message(manifest = "test.store@1")]
#[serde(bound = "T: nexus_actor::WireValue")]
enum Store<T> {
    Put(T),
    Get(Reply<T>),
    Join(ActorRef<Self>),
}

#[derive(Debug, PartialEq)]
struct NotSerializable;

fn bytes<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    message.encode(&mut Encoder::new(&mut out, 1024))?;
    Ok(out)
}

#[track_caller]
fn check<M: Message + PartialEq + core::fmt::Debug>(manifest: &str, message: M) {
    assert_eq!(M::MANIFEST, manifest);
    let mut written = bytes(&message).expect("it can be written");
    assert_eq!(M::decode(&mut Decoder::new(&written)), Ok(message));
    written.push(0);
    assert_eq!(M::decode(&mut Decoder::new(&written)), Err(DecodeError::TrailingBytes { count: 1 }));
}

#[test]
fn what_is_written_is_read_back_and_nothing_more() {
    check("test.plain@1", Plain { name: "n".into(), amounts: vec![1, -1] });
    check("test.choice@12", Choice::Unit);
    check("test.choice@12", Choice::Tuple(1, 2));
    check("test.choice@12", Choice::Named { text: String::new() });
    check("test.unit@1", Unit);
    check("test.pair@1", Pair::<String> { a: "a".into(), b: [7] });
    check("test.marked@1", Marked::<NotSerializable> { number: 7, mark: core::marker::PhantomData });
}

#[test]
fn a_variant_for_this_process_refuses_to_be_written() {
    let refused = bytes(&Choice::Local(core::num::NonZeroU8::MIN));
    assert!(matches!(refused, Err(EncodeError::Failed(_))), "{refused:?}");
}

#[test]
fn a_generic_protocol_may_hold_replies_and_references() {
    fn needs<M: Message>(message: &M) -> Result<Vec<u8>, EncodeError> {
        bytes(message)
    }
    assert_eq!(needs(&Store::Put(7_u8)), Ok(vec![0, 7]));
    let _: fn(Reply<String>) -> Store<String> = Store::Get;
    let _: fn(ActorRef<Store<String>>) -> Store<String> = Store::Join;
}

#[test]
fn a_message_that_ends_early_is_refused() {
    let written = bytes(&Plain { name: "name".into(), amounts: vec![1] }).unwrap();
    for end in 0..written.len() {
        assert_eq!(Plain::decode(&mut Decoder::new(&written[..end])), Err(DecodeError::Truncated), "{end}");
    }
}

/// The reason for the rule that skipped variants stand last: if serde ever numbers them alike, drop the rule.
#[test]
fn serde_numbers_variants_after_a_skipped_one_differently() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Skewed {
        First,
        #[serde(skip)]
        #[allow(dead_code)]
        Skipped,
        Last,
    }
    let mut out = Vec::new();
    Encoder::new(&mut out, 16).postcard(&Skewed::Last).unwrap();
    assert_ne!(Decoder::new(&out).postcard(), Ok(Skewed::Last));
}
