//! What `#[message(protobuf)]` writes, used as an application uses it.

// Generated code looks for `::nexus_actor` unless told otherwise.
extern crate nexus_actor_core as nexus_actor;

use nexus_actor::serialization::{
    DecodeError, Decoder, EncodeError, Encoder, Message, Named, ProtobufCodec, SerializationRegistry,
    SerializerId, TypeName, scope,
};
use nexus_actor::{ActorRef, Reply};
use nexus_actor_macros::Message;
use serde::{Deserialize, Serialize};

/// As `prost` generates it.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
struct Order {
    #[prost(string, tag = "1")]
    item: String,
    #[prost(uint32, tag = "2")]
    count: u32,
}

impl prost::Name for Order {
    const NAME: &'static str = "Order";
    const PACKAGE: &'static str = "shop.v1";
}

#[derive(Debug, Message)]
#[message(protobuf)]
enum Shop {
    Buy(Order),
    Try(Order, Reply<bool>),
    Note(String),
    Get(Reply<i64>),
    Reset(()),
    Find(i64, Reply<Order>),
    #[message(native)]
    Join {
        peer: ActorRef<Shop>,
    },
    #[message(native)]
    Close,
}

#[derive(Debug, PartialEq, Message, Serialize, Deserialize)]
#[message(manifest = "shop.both@1", protobuf, json)]
enum Both {
    Buy(Order),
    Count(u64),
    Done(()),
    #[message(native)]
    Later(u8),
    /// For the protobuf wire alone.
    #[serde(skip)]
    Raw(Vec<u8>),
}

#[derive(Debug, PartialEq, Message)]
#[message(protobuf)]
struct Line(String);

#[derive(Debug, Message)]
#[message(protobuf, crate = ::nexus_actor_core)]
struct Question(String, Reply<String>);

#[derive(Debug, PartialEq, Message)]
#[message(protobuf)]
enum Store<T: core::fmt::Debug> {
    Put(T),
    #[message(native)]
    Held(Option<T>),
}

fn codec<M: Message>() -> ProtobufCodec<M> {
    M::PROTOBUF.expect("it has a form on the protobuf wire")
}

/// The payload and its type's name.
fn write<M: Message>(message: &M) -> Result<(String, Vec<u8>), EncodeError> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, 1024);
    let (written, _lifted) =
        scope::encode(|| (codec::<M>().encode)(message, &mut encoder)).expect("not nested");
    written?;
    let name = encoder.type_name().expect("the type is noted");
    Ok((name.to_string(), out))
}

fn named<'a>(type_name: &'a str, payload: &'a [u8], has_sender: bool) -> Named<'a> {
    Named { type_name, serializer: SerializerId::PROTOBUF, payload, has_sender }
}

fn read<M: Message>(type_name: &str, payload: &[u8], has_sender: bool) -> Result<M, DecodeError> {
    (codec::<M>().decode)(&named(type_name, payload, has_sender))
}

#[track_caller]
fn check<M: Message + PartialEq + core::fmt::Debug>(type_name: &str, message: M) {
    let (name, payload) = write(&message).expect("it can be written");
    assert_eq!(name, type_name);
    assert_eq!(read(type_name, &payload, false), Ok(message));
}

fn order() -> Order {
    Order { item: "tea".into(), count: 3 }
}

/// Each variant is one protobuf message, under that message's full name.
#[test]
fn what_is_written_is_read_back_under_the_name_of_its_payload() {
    check("shop.v1.Order", Both::Buy(order()));
    check("google.protobuf.UInt64Value", Both::Count(u64::MAX));
    check("google.protobuf.Empty", Both::Done(()));
    check("google.protobuf.BytesValue", Both::Raw(vec![1, 2]));
    check("google.protobuf.StringValue", Line("tea".into()));
    check("google.protobuf.BoolValue", Store::Put(true));
    let names: Vec<String> = codec::<Shop>().type_names().map(|name| name.to_string()).collect();
    let wrapper = |name: &str| format!("google.protobuf.{name}");
    let expected = [
        "shop.v1.Order".to_string(),
        "shop.v1.Order".to_string(),
        wrapper("StringValue"),
        wrapper("Empty"),
        wrapper("Empty"),
        wrapper("Int64Value"),
    ];
    assert_eq!(names, expected);
    assert_eq!(codec::<Shop>().check(), Ok(()));
}

/// The same payload is the variant with a `Reply` when it has a sender, and the other one when it has none.
#[test]
fn a_sender_tells_two_variants_of_one_type_apart() {
    let (name, payload) = write(&Shop::Buy(order())).expect("it can be written");
    assert_eq!(name, "shop.v1.Order");
    for (has_sender, expected) in [(false, "Buy"), (true, "Try")] {
        let message = read::<Shop>(&name, &payload, has_sender).expect("it is one");
        assert!(format!("{message:?}").starts_with(expected), "{message:?}");
    }
    let empty = "google.protobuf.Empty";
    assert!(matches!(read::<Shop>(empty, &[], false), Ok(Shop::Reset(()))));
    assert!(matches!(read::<Shop>(empty, &[], true), Ok(Shop::Get(_))));
}

/// Where there is only one of the two it takes both: a question that is not answered, and an answer to nobody.
#[test]
fn one_variant_takes_payloads_with_and_without_sender() {
    let (_, note) = write(&Shop::Note("tea".into())).expect("it can be written");
    for has_sender in [false, true] {
        let name = "google.protobuf.StringValue";
        assert!(matches!(read::<Shop>(name, &note, has_sender), Ok(Shop::Note(text)) if text == "tea"));
    }
    let (name, find) = write(&Line("tea".into())).expect("it can be written");
    let Question(text, reply) = read(&name, &find, false).expect("it is one");
    assert_eq!((text.as_str(), reply.is_over()), ("tea", true), "nobody waits for the answer");
    reply.send("nothing hears this".into());
    let find = read::<Shop>("google.protobuf.Int64Value", &[], false);
    assert!(matches!(find, Ok(Shop::Find(0, _))), "{find:?}");
}

#[test]
fn what_has_no_variant_is_refused_by_name() {
    for (name, has_sender, expected) in [
        ("shop.v1.Refund", false, "Shop has no variant that is `shop.v1.Refund` without a sender"),
        ("Order", true, "`Order` with a sender"),
        ("shop.v1.Orde", false, "`shop.v1.Orde`"),
        ("shop.v1.OrderX", false, "`shop.v1.OrderX`"),
        (".shop.v1.Order", false, "`.shop.v1.Order`"),
        ("shop.v1xOrder", false, "`shop.v1xOrder`"),
        ("google.protobuf.Value\n", false, "Value\\n`"),
        ("", false, "``"),
    ] {
        let error = read::<Shop>(name, &[], has_sender).expect_err(name);
        assert!(matches!(error, DecodeError::UnknownManifest(_)), "{name}: {error:?}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    let broken = read::<Shop>("shop.v1.Order", &[0x0a, 0xff], false).expect_err("it ends early");
    assert!(broken.to_string().starts_with("shop.v1.Order: "), "{broken}");
    let other = Named { serializer: SerializerId(2), ..named("shop.v1.Order", &[], false) };
    let error = (codec::<Shop>().decode)(&other).expect_err("another serializer");
    assert!(error.to_string().contains("written by serializer 2"), "{error}");
}

#[test]
fn a_variant_that_is_marked_native_stays_off_the_protobuf_wire() {
    for (message, variant) in [(write(&Shop::Close), "`Close`"), (write(&Both::Later(1)), "`Later`")] {
        let error = message.expect_err(variant).to_string();
        assert!(error.contains(variant) && error.contains("#[message(native)]"), "{error}");
    }
    // No shape of the protobuf wire is asked of such a variant.
    let _: fn(ActorRef<Shop>) -> bool =
        |peer| matches!(Shop::Join { peer }, Shop::Join { peer } if peer.is_local());
    let error = write(&Store::<bool>::Held(None)).expect_err("marked").to_string();
    assert!(error.contains("Store<bool>"), "{error}");
}

/// With a manifest the type crosses both wires, and what is only for one is refused on the other.
#[test]
fn a_manifest_beside_it_makes_a_message_of_both_wires() {
    assert_eq!((Both::MANIFEST, Both::SERIALIZER), ("shop.both@1", SerializerId::POSTCARD));
    let mut out = Vec::new();
    Both::Later(7).encode(&mut Encoder::new(&mut out, 16)).expect("it crosses the native wire");
    assert_eq!(Both::decode(&mut Decoder::new(&out)), Ok(Both::Later(7)));
    let raw = Both::Raw(vec![1]).encode(&mut Encoder::new(&mut Vec::new(), 16));
    assert!(matches!(raw, Err(EncodeError::Failed(_))), "{raw:?}");
}

#[test]
fn without_a_manifest_it_is_for_the_protobuf_wire_alone() {
    assert_eq!((Line::MANIFEST, Line::SERIALIZER), ("protobuf:protobuf::Line", SerializerId::PROTOBUF));
    let registry = SerializationRegistry::new();
    registry.register::<Line>().expect("it can be registered");
    registry.register::<Shop>().expect("beside others");
    let refused = Line("tea".into()).encode(&mut Encoder::new(&mut Vec::new(), 16)).expect_err("natively");
    assert!(refused.to_string().contains("#[message(manifest = \"name@1\", protobuf)]"), "{refused}");
    assert!(Line::decode(&mut Decoder::new(&[])).is_err());
}

/// Covers: S138
#[test]
fn two_variants_that_would_be_read_for_one_payload_are_refused_when_registered() {
    type Text = String;
    #[derive(Message)]
    #[message(protobuf)]
    enum Twice {
        One(String),
        Two(Text),
    }
    let refused = SerializationRegistry::new().register::<Twice>().expect_err("one type twice").to_string();
    for part in ["Twice", "two variants are `google.protobuf.StringValue` without a `Reply`", "native"] {
        assert!(refused.contains(part), "{refused}");
    }
    let (_one, _two) = (Twice::One(String::new()), Twice::Two(String::new()));
}

/// The name of a message that is declared inside another is not its package and its own name.
#[test]
fn a_nested_protobuf_message_is_refused_when_registered() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Item {}
    impl prost::Name for Item {
        const NAME: &'static str = "Item";
        const PACKAGE: &'static str = "shop.v1";
        fn full_name() -> String {
            "shop.v1.Order.Item".into()
        }
    }
    #[derive(Message)]
    #[message(protobuf)]
    struct Nested(Item);
    let refused = SerializationRegistry::new().register::<Nested>().expect_err("nested").to_string();
    assert!(refused.contains("`shop.v1.Order.Item` is declared inside another message"), "{refused}");
    let _ = Nested(Item {});
}

#[test]
fn json_is_read_where_it_is_asked_for_and_never_written() {
    let json = |type_name: &str, text: &str| {
        let named = Named { serializer: SerializerId::JSON, ..named(type_name, text.as_bytes(), false) };
        (codec::<Both>().decode)(&named)
    };
    assert_eq!(json("shop.v1.Order", r#"{"item":"tea","count":3}"#), Ok(Both::Buy(order())));
    for number in ["18446744073709551615", "\"18446744073709551615\""] {
        assert_eq!(json("google.protobuf.UInt64Value", number), Ok(Both::Count(u64::MAX)));
    }
    assert_eq!(json("google.protobuf.Empty", "{}"), Ok(Both::Done(())));
    for (type_name, text) in [
        ("shop.v1.Order", ""),
        ("shop.v1.Order", "{}"),
        ("shop.v1.Order", r#"{"item":"tea","count":3} x"#),
        ("google.protobuf.UInt64Value", "\"-1\""),
        ("google.protobuf.UInt64Value", "1.5"),
        ("google.protobuf.Empty", "[1]"),
    ] {
        let error = json(type_name, text).expect_err(text);
        assert!(error.to_string().starts_with(type_name), "{error}");
    }
    let refused = Named { serializer: SerializerId::JSON, ..named("shop.v1.Order", b"{}", false) };
    let refused = (codec::<Shop>().decode)(&refused).expect_err("it is not asked for").to_string();
    assert!(refused.contains("`json` beside `protobuf`"), "{refused}");
}

/// Limit L13: a payload that is nested deeper is refused, and nothing recurses further.
#[test]
fn nesting_is_bounded_in_both_formats() {
    /// A message of any depth.
    #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
    struct Tree {
        #[prost(message, optional, boxed, tag = "1")]
        inner: Option<Box<Tree>>,
    }
    impl prost::Name for Tree {
        const NAME: &'static str = "Tree";
        const PACKAGE: &'static str = "shop.v1";
    }
    #[derive(Debug, Message)]
    #[message(protobuf, json)]
    struct Deep(Tree);
    /// From the inside out, without recursion: what a peer may send.
    fn binary(depth: usize) -> Vec<u8> {
        let mut reversed = Vec::new();
        for _ in 0..depth {
            let (mut length, mut varint) = (reversed.len(), Vec::new());
            while length > 0x7f {
                varint.push(length as u8 | 0x80);
                length >>= 7;
            }
            varint.push(length as u8);
            reversed.extend(varint.iter().rev());
            reversed.push(0x0a);
        }
        reversed.reverse();
        reversed
    }
    fn text(depth: usize) -> Vec<u8> {
        format!("{}null{}", "{\"inner\":".repeat(depth), "}".repeat(depth)).into_bytes()
    }
    for (serializer, depth, fits) in [
        (SerializerId::PROTOBUF, 100, true),
        (SerializerId::PROTOBUF, 101, false),
        (SerializerId::PROTOBUF, 1_000_000, false),
        (SerializerId::JSON, 127, true),
        (SerializerId::JSON, 128, false),
        (SerializerId::JSON, 1_000_000, false),
    ] {
        let payload = if serializer == SerializerId::JSON { text(depth) } else { binary(depth) };
        let named = Named { type_name: "shop.v1.Tree", serializer, payload: &payload, has_sender: false };
        assert_eq!((codec::<Deep>().decode)(&named).is_ok(), fits, "{serializer:?} {depth}");
    }
}

#[test]
fn the_limit_holds_for_protobuf_payloads() {
    let (mut out, text) = (vec![9; 3], "x".repeat(10));
    assert_eq!(Encoder::new(&mut out, 11).protobuf(&text), Err(EncodeError::TooLarge { limit: 11 }));
    assert_eq!(out, [9; 3], "nothing was written");
    let mut encoder = Encoder::new(&mut out, 12);
    assert_eq!(encoder.type_name(), None);
    encoder.protobuf(&text).expect("it fits");
    assert_eq!(encoder.type_name(), Some(TypeName::of::<String>()));
    assert_eq!(encoder.protobuf(&true), Err(EncodeError::TooLarge { limit: 12 }), "there is no room left");
}
