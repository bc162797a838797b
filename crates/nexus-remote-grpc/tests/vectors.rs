//! Messages that live Go nodes of both generations sent decode to the trees written beside them, and what we write for such a
//! tree is what they wrote, byte for byte.
//!
//! Negative vectors are made of them the way they were made for the Go nodes, most of which ended their process.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use nexus_actor_core::Headers;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    Batch, BatchLimits, BatchWriter, EntryFault, Envelope, EnvelopeFault, EnvelopeFaultKind, Full, Incoming,
    MessageFault, OutgoingEnvelope, Part, TypeName, WireForm, decode,
};
use nexus_remote_grpc::wire::proto::remote::connect_request::ConnectionType;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{
    Acknowledge, ActorPidRequest, ActorPidResponse, ClientConnection, ConnectRequest, ConnectResponse,
    DisconnectRequest, Nexus, RemoteMessage, ServerConnection,
};
use nexus_remote_grpc::wire::proto::{actor, remote};
use prost::Message;

const PAGE: &str = include_str!("vectors.txt");

struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    tree: String,
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

fn vectors() -> Vec<Vector> {
    let mut lines = PAGE.lines().peekable();
    let mut vectors = Vec::new();
    while let Some(line) = lines.next() {
        if !line.starts_with('W') {
            continue;
        }
        let name = &line[..5];
        let bytes = hex(lines.next().expect("the bytes"));
        let mut tree = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("  ")) {
            writeln!(tree, "{}", &line[2..]).expect("a string");
        }
        vectors.push(Vector { name, bytes, tree });
    }
    vectors
}

fn vector(name: &str) -> Vec<u8> {
    vectors().into_iter().find(|vector| vector.name == name).expect("a vector").bytes
}

fn pid(pid: Option<&actor::Pid>) -> String {
    pid.map_or_else(|| "nobody".into(), |pid| format!("{}/{}", pid.address, pid.id))
}

/// The payload in words. Whatever is not known here is an error, so no vector passes unread.
fn payload(name: &str, bytes: &[u8]) -> String {
    fn read<M: Message + Default>(bytes: &[u8]) -> M {
        M::decode(bytes).expect("a payload of its type")
    }
    match name {
        "google.protobuf.StringValue" => format!("{:?}", read::<String>(bytes)),
        "google.protobuf.Int32Value" => read::<i32>(bytes).to_string(),
        "actor.Touch" | "actor.PoisonPill" | "actor.Stop" => {
            assert!(bytes.is_empty());
            String::new()
        }
        "actor.Touched" => format!("who {}", pid(read::<actor::Touched>(bytes).who.as_ref())),
        "actor.Watch" => format!("by {}", pid(read::<actor::Watch>(bytes).watcher.as_ref())),
        "actor.Unwatch" => format!("by {}", pid(read::<actor::Unwatch>(bytes).watcher.as_ref())),
        "actor.Terminated" => {
            let gone = read::<actor::Terminated>(bytes);
            format!("who {} why {:?}", pid(gone.who.as_ref()), gone.why())
        }
        "actor.DeadLetterResponse" => {
            format!("target {}", pid(read::<actor::DeadLetterResponse>(bytes).target.as_ref()))
        }
        "remote.ActorPidRequest" => {
            let ActorPidRequest { name, kind } = read(bytes);
            format!("name {name:?} kind {kind:?}")
        }
        "remote.ActorPidResponse" => {
            let ActorPidResponse { pid: made, status_code } = read(bytes);
            format!("pid {} status {status_code}", pid(made.as_ref()))
        }
        other => panic!("no words for {other}"),
    }
}

fn envelope(envelope: &Envelope<'_>) -> String {
    let mut line = format!("{} to ", envelope.type_name);
    if let Some(address) = envelope.target.address {
        write!(line, "{address}/").expect("a string");
    }
    line.push_str(envelope.target.id);
    if envelope.target_request_id != 0 {
        write!(line, "#{}", envelope.target_request_id).expect("a string");
    }
    if let Some(sender) = envelope.sender {
        write!(line, " from {}/{}", sender.address, sender.id).expect("a string");
    }
    if envelope.sender_request_id != 0 {
        write!(line, "#{}", envelope.sender_request_id).expect("a string");
    }
    if envelope.serializer != 0 {
        write!(line, " serializer {}", envelope.serializer).expect("a string");
    }
    if let Some(header) = envelope.header {
        for (name, value) in header.iter() {
            write!(line, " [{name}={value}]").expect("a string");
        }
    }
    let words = payload(envelope.type_name, envelope.payload);
    if !words.is_empty() {
        write!(line, ": {words}").expect("a string");
    }
    line
}

fn tree(bytes: &[u8]) -> String {
    let mut tree = String::new();
    match decode(Bytes::copy_from_slice(bytes), &BatchLimits::default()).expect("a message") {
        Incoming::Batch(batch) => {
            let form = batch.form().expect("targets to tell by");
            let (names, targets) = (batch.type_name_count(), batch.target_count());
            let (senders, len) = (batch.sender_count(), batch.len());
            writeln!(
                tree,
                "{form:?} batch: {names} type names, {targets} targets, {senders} senders, {len} envelopes"
            )
            .expect("a string");
            for found in batch.envelopes() {
                writeln!(tree, "{}", envelope(&found.expect("a sound envelope"))).expect("a string");
            }
        }
        Incoming::ConnectRequest(request) => match request.connection_type.expect("a connection") {
            ConnectionType::ServerConnection(server) => {
                assert!(server.block_list.is_empty() && server.nexus.is_none());
                writeln!(tree, "connect request of {} at {}", server.member_id, server.address)
                    .expect("a string");
            }
            ConnectionType::ClientConnection(client) => panic!("{client:?}"),
        },
        Incoming::ConnectResponse(response) => {
            writeln!(tree, "connect response of {} blocked {}", response.member_id, response.blocked)
                .expect("a string");
        }
        Incoming::Disconnect => tree.push_str("disconnect\n"),
        Incoming::Acknowledge(_) | Incoming::Empty => panic!("no vector is one"),
    }
    tree
}

/// What was decoded, pushed into a writer of ours.
fn write_again(batch: &Batch, form: WireForm) -> Vec<u8> {
    let entry = |address: &str, id: &str| Arc::new(PidEntry::new(address, id));
    let mut writer = BatchWriter::new(BatchLimits::default());
    for envelope in batch.envelopes() {
        let envelope = envelope.expect("a sound envelope");
        let name: &'static str = Box::leak(envelope.type_name.into());
        let (package, name) = name.rsplit_once('.').expect("a package");
        let target = entry(envelope.target.address.unwrap_or("127.0.0.1:27002"), envelope.target.id);
        let sender = envelope.sender.map(|sender| entry(sender.address, sender.id));
        let header = envelope.header.map(|header| header.to_headers());
        writer
            .push(&OutgoingEnvelope {
                sender: sender.as_ref(),
                serializer: envelope.serializer,
                header: header.as_ref(),
                target_request_id: envelope.target_request_id,
                sender_request_id: envelope.sender_request_id,
                ..OutgoingEnvelope::new(TypeName { package, name }, envelope.payload, &target)
            })
            .expect("room");
    }
    let (mut message, length) = (Vec::new(), writer.encoded_len(form));
    writer.finish(form, &mut message);
    assert_eq!(message.len(), length, "the length is told beforehand");
    message
}

/// Part of S150: what Go nodes send is read as what it is.
#[test]
fn every_vector_decodes_to_its_tree() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 53);
    let mut page = String::new();
    for Vector { name, bytes, tree: expected } in &vectors {
        let found = tree(bytes);
        if std::env::var_os("UPDATE_EXPECT").is_none() {
            assert_eq!(&found, expected, "{name}");
        }
        let title = PAGE.lines().find(|line| line.starts_with(name)).expect("its line");
        let bytes = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        writeln!(page, "{title}\n{bytes}").expect("a string");
        for line in found.lines() {
            writeln!(page, "  {line}").expect("a string");
        }
        page.push('\n');
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let head =
            PAGE.lines().take_while(|line| line.starts_with('#')).fold(String::new(), |h, l| h + l + "\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors.txt");
        std::fs::write(path, format!("{head}\n{}\n", page.trim_end())).expect("a file to write");
    }
}

/// Part of S150: what is sent to Go nodes is what they send to each other.
#[test]
fn what_we_write_for_a_vector_is_what_a_go_node_wrote() {
    for Vector { name, bytes, .. } in vectors() {
        let written = match decode(bytes.clone().into(), &BatchLimits::default()).expect("a message") {
            Incoming::Batch(batch) => write_again(&batch, batch.form().expect("targets")),
            Incoming::ConnectRequest(request) => message(MessageType::ConnectRequest(request)),
            Incoming::ConnectResponse(response) => message(MessageType::ConnectResponse(response)),
            Incoming::Disconnect => message(MessageType::DisconnectRequest(DisconnectRequest {})),
            Incoming::Acknowledge(_) | Incoming::Empty => panic!("no vector is one"),
        };
        assert_eq!(written, bytes, "{name}");
    }
}

fn message(message_type: MessageType) -> Vec<u8> {
    RemoteMessage { message_type: Some(message_type) }.encode_to_vec()
}

/// The schema says the same as the codec: its types read the batches of the first generation and write the same bytes.
///
/// Covers: SER-02
#[test]
fn the_types_of_the_schema_read_what_the_codec_reads() {
    for Vector { name, bytes, .. } in vectors().iter().filter(|vector| vector.name.starts_with("W1")) {
        let read = RemoteMessage::decode(bytes.as_slice()).expect("a message of the schema");
        assert_eq!(&read.encode_to_vec(), bytes, "{name}");
    }
}

fn batch(bytes: &[u8]) -> Batch {
    match decode(Bytes::copy_from_slice(bytes), &BatchLimits::default()).expect("a message") {
        Incoming::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

/// A batch of the first generation, built with the types of the schema, so that it can be as wrong as needed.
fn built(change: impl FnOnce(&mut remote::MessageBatch)) -> Batch {
    let mut batch = remote::MessageBatch {
        type_names: vec!["google.protobuf.StringValue".into()],
        targets: vec![actor::Pid { address: "127.0.0.1:29002".into(), id: "echo".into(), request_id: 0 }],
        senders: vec![actor::Pid { address: "127.0.0.1:29001".into(), id: "future$6".into(), request_id: 0 }],
        envelopes: vec![letter("first"), letter("second"), letter("third")],
    };
    change(&mut batch);
    self::batch(&message(MessageType::MessageBatch(batch)))
}

fn letter(text: &str) -> remote::MessageEnvelope {
    let mut data = Vec::new();
    text.to_owned().encode(&mut data).expect("room");
    remote::MessageEnvelope { message_data: data, ..Default::default() }
}

/// Says that the second of three envelopes is refused for `kind`, and the two others are there.
#[track_caller]
fn costs_only_itself(batch: &Batch, kind: EnvelopeFaultKind, told: &str) -> EnvelopeFault {
    let found: Vec<_> = batch.envelopes().collect();
    assert_eq!(found.len(), 3);
    for (position, text) in [(0, "first"), (2, "third")] {
        let sound = found[position].as_ref().expect("its neighbour is sound");
        assert_eq!(String::decode(sound.payload).expect("a text"), text);
    }
    let fault = found[1].expect_err("it is wrong");
    assert_eq!((fault.position, fault.kind), (1, kind));
    assert_eq!(fault.to_string(), format!("envelope 1 of the batch: {told}"));
    fault
}

/// Each of these ended the process of a Go node. Part of S154: the rest of the batch is there.
#[test]
fn an_index_outside_its_table_costs_its_envelope_only() {
    use EnvelopeFaultKind::{SenderIndex, TargetIndex, TypeIndex};
    for index in [1, 5, i32::MAX, -1, i32::MIN] {
        let fault = costs_only_itself(
            &built(|batch| batch.envelopes[1].type_id = index),
            TypeIndex { index, bound: 1 },
            &format!("type index {index}, where there are 1"),
        );
        assert_eq!((fault.type_index, fault.target_index), (None, Some(0)), "whom it was for is still known");
        let fault = costs_only_itself(
            &built(|batch| batch.envelopes[1].target = index),
            TargetIndex { index, bound: 1 },
            &format!("target index {index}, where there are 1"),
        );
        assert_eq!((fault.type_index, fault.target_index), (Some(0), None));
        // The senders count from one: this index is the one sender.
        if index != 1 {
            costs_only_itself(
                &built(|batch| batch.envelopes[1].sender = index),
                SenderIndex { index, bound: 1 },
                &format!("sender index {index}, counted from 1, where there are 1"),
            );
        }
    }
    let one = built(|batch| batch.envelopes[1].sender = 1);
    let found = one.envelopes().nth(1).expect("there").expect("sound");
    assert_eq!((found.sender_index, found.sender.expect("there").id), (Some(0), "future$6"));
}

/// Part of S154: the rest of the batch is there.
#[test]
fn a_serializer_that_cannot_be_costs_its_envelope_only() {
    for id in [-1, i32::MIN] {
        let wrong = built(|batch| batch.envelopes[1].serializer_id = id);
        costs_only_itself(&wrong, EnvelopeFaultKind::Serializer { id }, &format!("serializer {id}"));
    }
    // Whether there is a serializer 2 is not for the codec to know.
    let other = built(|batch| batch.envelopes[1].serializer_id = 2);
    assert_eq!(other.envelopes().nth(1).expect("there").expect("sound").serializer, 2);
}

/// L11: over-long names and ids.
#[test]
fn an_entry_that_is_refused_costs_the_envelopes_that_use_it() {
    use EnvelopeFaultKind::{Sender, Target, TypeName};
    let too_long = |part, size, limit| EntryFault::TooLong { part, size, limit };
    let other = |batch: &mut remote::MessageBatch, id: String, address: String| {
        batch.targets.push(actor::Pid { address, id, request_id: 0 });
        batch.envelopes[1].target = 1;
    };
    costs_only_itself(
        &built(|batch| {
            batch.type_names.push("n".repeat(257));
            batch.envelopes[1].type_id = 1;
        }),
        TypeName(too_long(Part::TypeName, 257, 256)),
        "type name of 257 bytes, where 256 are accepted",
    );
    costs_only_itself(
        &built(|batch| other(batch, "i".repeat(513), String::new())),
        Target(too_long(Part::Id, 513, 512)),
        "id of 513 bytes, where 512 are accepted",
    );
    costs_only_itself(
        &built(|batch| other(batch, "i".into(), "a".repeat(256))),
        Target(too_long(Part::Address, 256, 255)),
        "address of 256 bytes, where 255 are accepted",
    );
    costs_only_itself(
        &built(|batch| other(batch, "x/".repeat(32) + "x", String::new())),
        Target(EntryFault::TooDeep { count: 33, limit: 32 }),
        "id of 33 elements, where 32 are accepted",
    );
    costs_only_itself(
        &built(|batch| {
            batch.senders.push(actor::Pid { id: "s".repeat(513), ..Default::default() });
            batch.envelopes[1].sender = 2;
        }),
        Sender(too_long(Part::Id, 513, 512)),
        "id of 513 bytes, where 512 are accepted",
    );
    // All at their limits are sound.
    let most = built(|batch| {
        batch.type_names[0] = "n".repeat(256);
        batch.targets[0] = actor::Pid { address: "a".repeat(255), id: "i".repeat(512), request_id: 0 };
        other(batch, "x/".repeat(31) + "x", String::new());
    });
    assert!(most.envelopes().all(|envelope| envelope.is_ok()));
}

/// L12: what travels beside a message.
#[test]
fn headers_over_the_limit_cost_their_envelope_only() {
    let with = |pairs: Vec<(String, String)>| {
        built(|batch| {
            batch.envelopes[1].message_header =
                Some(remote::MessageHeader { header_data: pairs.into_iter().collect() });
        })
    };
    let many = |count: usize| (0..count).map(|number| (number.to_string(), "v".into())).collect::<Vec<_>>();
    costs_only_itself(
        &with(many(65)),
        EnvelopeFaultKind::TooManyHeaders { count: 65, limit: 64 },
        "65 headers or more, where 64 are accepted",
    );
    costs_only_itself(
        &with(vec![("k".into(), "v".repeat(8 * 1024))]),
        EnvelopeFaultKind::HeadersTooLarge { size: 8 * 1024 + 1, limit: 8 * 1024 },
        "8193 bytes of headers or more, where 8192 are accepted",
    );
    for (sound, count) in [(with(many(64)), 64), (with(vec![("k".into(), "v".repeat(8 * 1024 - 1))]), 1)] {
        let found = sound.envelopes().nth(1).expect("there").expect("sound");
        assert_eq!(found.header.expect("headers").to_headers().len(), count);
    }
}

/// L10 and L7: they cost the message, before anything of it is built.
#[test]
fn a_batch_of_too_much_is_refused_whole() {
    let read = |change: fn(&mut remote::MessageBatch, usize), count| {
        let mut batch = remote::MessageBatch::default();
        change(&mut batch, count);
        decode(message(MessageType::MessageBatch(batch)).into(), &BatchLimits::default())
    };
    type Change = fn(&mut remote::MessageBatch, usize);
    let tables: [(&str, usize, Change); 4] = [
        ("type names", 1_024, |batch, count| batch.type_names = vec![String::new(); count]),
        ("targets", 4_096, |batch, count| batch.targets = vec![actor::Pid::default(); count]),
        ("senders", 4_096, |batch, count| batch.senders = vec![actor::Pid::default(); count]),
        ("envelopes", 4_096, |batch, count| {
            batch.envelopes = vec![remote::MessageEnvelope::default(); count]
        }),
    ];
    for (what, limit, change) in tables {
        assert!(read(change, limit).is_ok(), "{what} at the limit");
        let fault = read(change, limit + 1).expect_err(what);
        assert_eq!(fault, MessageFault::TooMany { what, count: limit + 1, limit });
    }
    let limits = BatchLimits::default();
    // An empty field of the schema's future fills the message.
    let filled = |size: usize| {
        let content = size - 6;
        let mut bytes = vec![0xfa, 0x01];
        prost::encoding::encode_varint(content as u64, &mut bytes);
        bytes.resize(size, 0);
        decode(bytes.into(), &limits)
    };
    assert!(matches!(filled(4_194_304), Ok(Incoming::Empty)));
    let size = 4_194_305;
    assert_eq!(filled(size).expect_err("too large"), MessageFault::TooLarge { size, limit: 4_194_304 });
}

/// Section 1.1 of the wire: each entry of the table of targets says which form it has.
#[test]
fn both_forms_of_targets_are_read_side_by_side() {
    let with = |targets: &[&[u8]]| {
        let mut content = Vec::new();
        for target in targets {
            content.push(0x12);
            prost::encoding::encode_varint(target.len() as u64, &mut content);
            content.extend_from_slice(target);
        }
        let mut bytes = vec![0x0a];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        bytes.append(&mut content);
        batch(&bytes)
    };
    let pid = b"\x0a\x03a:1\x12\x04echo";
    /// What is tried, the entries, the form they tell, and each entry's address and id.
    type Case<'a> = (&'a str, &'a [&'a [u8]], Option<WireForm>, &'a [(Option<&'a str>, &'a str)]);
    let cases: [Case<'_>; 9] = [
        ("a PID", &[pid], Some(WireForm::W1), &[(Some("a:1"), "echo")]),
        ("a PID without address", &[b"\x12\x04echo"], Some(WireForm::W1), &[(Some(""), "echo")]),
        ("an id", &[b"echo"], Some(WireForm::W2), &[(None, "echo")]),
        ("an id of one letter", &[b"e"], Some(WireForm::W2), &[(None, "e")]),
        ("a PID that is cut short", &[b"\x0a\x03a:"], Some(WireForm::W2), &[(None, "\n\u{3}a:")]),
        ("a PID and more", &[b"\x12\x01e\x00"], Some(WireForm::W2), &[(None, "\u{12}\u{1}e\0")]),
        ("both", &[pid, b"echo"], None, &[(Some("a:1"), "echo"), (None, "echo")]),
        ("nothing", &[], None, &[]),
        ("an empty one beside an id", &[b"", b"echo"], Some(WireForm::W2), &[(None, ""), (None, "echo")]),
    ];
    for (name, given, form, expected) in cases {
        let batch = with(given);
        assert_eq!(batch.form(), form, "{name}");
        let found: Vec<_> = (0..batch.target_count())
            .map(|index| batch.target(index).map(|target| (target.address, target.id)).expect(name))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    assert!(with(&[b"\xff"]).target(0).is_none(), "no text");
}

/// Section 7.3: a peer may leave its own address out; it is filled in from the handshake by whoever reads the batch.
#[test]
fn an_empty_sender_address_stays_empty() {
    let stripped = built(|batch| {
        batch.senders[0].address.clear();
        batch.envelopes[0].sender = 1;
    });
    let found = stripped.envelopes().next().expect("there").expect("sound");
    assert_eq!(found.sender.map(|sender| (sender.address, sender.id)), Some(("", "future$6")));
}

/// A number in a table's PID counts where the envelope has none.
#[test]
fn a_request_id_is_found_in_envelope_or_table() {
    for (table, own, expected) in [(0, 0, 0), (7, 0, 7), (0, 9, 9), (7, 9, 9)] {
        let batch = built(|batch| {
            batch.senders[0].request_id = table;
            batch.targets[0].request_id = table;
            batch.envelopes[0] = remote::MessageEnvelope {
                sender: 1,
                sender_request_id: own,
                target_request_id: own,
                ..letter("x")
            };
        });
        let found = batch.envelopes().next().expect("there").expect("sound");
        assert_eq!((found.target_request_id, found.sender_request_id), (expected, expected));
    }
}

/// Members and fields that come to be after us are skipped, and what is not protobuf is refused with its place.
#[test]
fn messages_that_are_no_batch() {
    let read = |bytes: &[u8]| decode(Bytes::copy_from_slice(bytes), &BatchLimits::default());
    assert!(matches!(read(b""), Ok(Incoming::Empty)));
    assert!(matches!(read(b"\x2a\x00"), Ok(Incoming::Empty)), "an unknown member");
    assert!(matches!(read(b"\x0a\x00"), Ok(Incoming::Batch(batch)) if batch.is_empty()));
    assert!(matches!(
        read(b"\x12\x00"),
        Ok(Incoming::ConnectRequest(ConnectRequest { connection_type: None }))
    ));
    let acknowledge = message(MessageType::Acknowledge(Acknowledge { messages: 1 << 40 }));
    assert!(matches!(read(&acknowledge), Ok(Incoming::Acknowledge(count)) if count == 1 << 40));
    for (name, bytes) in [
        ("two members", &b"\x22\x00\x22\x00"[..]),
        ("a member that is a number", b"\x08\x01"),
        ("a group", b"\x2b\x2c"),
        ("the end of a group", b"\x2c"),
        ("field zero", b"\x02\x00"),
        ("a length beyond the end", b"\x0a\x05abcd"),
        ("a length of all bits", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("a number of eleven bytes", b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ("a number over 64 bits", b"\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        ("a number that does not end", b"\x28\xff"),
    ] {
        assert!(matches!(read(bytes), Err(MessageFault::Malformed { .. })), "{name}");
    }
}

/// The handshake of ours, the second generation's block list, and their limits.
#[test]
fn handshakes_are_read_within_their_limits() {
    let limits = BatchLimits::default();
    let nexus = Some(Nexus { version: 1, capabilities: 3 });
    let server = ServerConnection {
        member_id: "fjjDgVAouiJcJAyWNqGqv5".into(),
        address: "127.0.0.1:27001".into(),
        block_list: vec!["one".into(), "two".into()],
        nexus,
    };
    let requests = [
        ConnectionType::ServerConnection(server.clone()),
        ConnectionType::ClientConnection(ClientConnection { member_id: "behind-nat".into(), nexus }),
    ];
    for connection in requests {
        let request = ConnectRequest { connection_type: Some(connection) };
        let bytes = message(MessageType::ConnectRequest(request.clone()));
        let read = decode(bytes.into(), &limits).expect("a message");
        assert!(matches!(read, Incoming::ConnectRequest(read) if read == request));
    }
    let response = ConnectResponse { member_id: "x".into(), blocked: true, nexus };
    let read = decode(message(MessageType::ConnectResponse(response.clone())).into(), &limits);
    assert!(matches!(read, Ok(Incoming::ConnectResponse(read)) if read == response));

    let refused = |change: fn(&mut ServerConnection)| {
        let mut server = server.clone();
        change(&mut server);
        let connection_type = Some(ConnectionType::ServerConnection(server));
        let bytes = message(MessageType::ConnectRequest(ConnectRequest { connection_type }));
        decode(bytes.into(), &limits).expect_err("over a limit")
    };
    let fault = refused(|server| server.block_list = vec!["x".into(); 1_025]);
    assert_eq!(fault, MessageFault::TooMany { what: "blocked ids", count: 1_025, limit: 1_024 });
    assert!(matches!(
        refused(|server| server.address = "a".repeat(256)),
        MessageFault::Text { what: "address", .. }
    ));
    assert!(matches!(
        refused(|server| server.member_id = "i".repeat(513)),
        MessageFault::Text { what: "system id", .. }
    ));
    let fault = refused(|server| server.block_list = vec!["i".repeat(500); 150]);
    assert!(matches!(fault, MessageFault::TooLarge { limit: 65_536, .. }));
}

/// The writer cuts by count and by bytes, and what it writes is as long as it said: a Go node loses all that is queued over a
/// message of more than 4 MiB.
#[test]
fn a_batch_is_cut_by_count_and_by_bytes() {
    let limits = BatchLimits { envelopes: 10, message_bytes: 1_000, ..BatchLimits::default() };
    let name = TypeName { package: "google.protobuf", name: "StringValue" };
    let echo = Arc::new(PidEntry::new("127.0.0.1:29002", "echo"));
    for (bytes, expected) in [(1, 10), (100, 9), (300, 3)] {
        let payload = vec![b'x'; bytes];
        let mut writer = BatchWriter::new(limits);
        let envelope = OutgoingEnvelope::new(name, &payload, &echo);
        let full = loop {
            let before = (writer.len(), writer.encoded_len(WireForm::W1));
            if let Err(full) = writer.push(&envelope) {
                assert_eq!((writer.len(), writer.encoded_len(WireForm::W1)), before, "nothing was changed");
                break full;
            }
        };
        assert_eq!((full, writer.len()), (Full::Batch, expected));
        for form in [WireForm::W1, WireForm::W2] {
            let mut message = Vec::new();
            let mut writer = BatchWriter::new(limits);
            (0..expected).for_each(|_| writer.push(&envelope).expect("room"));
            let length = writer.encoded_len(form);
            writer.finish(form, &mut message);
            assert_eq!(message.len(), length);
            assert!(message.len() <= limits.message_bytes);
            assert_eq!(batch(&message).len(), expected);
            assert!(writer.is_empty(), "it is ready for the next");
        }
    }
    // The last byte that fits, and the first that does not.
    let mut writer = BatchWriter::new(limits);
    let exact = (1..1_000).rev().find(|bytes| {
        let fits = writer.push(&OutgoingEnvelope::new(name, &vec![0; *bytes], &echo)).is_ok();
        assert!(fits || writer.is_empty());
        fits
    });
    assert_eq!(writer.encoded_len(WireForm::W1), 1_000);
    let over = vec![0; exact.expect("some fit") + 1];
    writer.clear();
    let refusal = Full::TooLarge { size: 1_001, limit: 1_000 };
    assert_eq!(writer.push(&OutgoingEnvelope::new(name, &over, &echo)), Err(refusal));
    // In a batch that holds something else, a message that fits nowhere is told from one that only has to wait.
    writer.push(&OutgoingEnvelope::new(name, b"x", &echo)).expect("room");
    assert_eq!(writer.push(&OutgoingEnvelope::new(name, &over, &echo)), Err(refusal));
    assert_eq!(writer.push(&OutgoingEnvelope::new(name, &over[1..], &echo)), Err(Full::Batch));
}

/// What a peer would refuse or misread is not sent.
#[test]
fn a_writer_refuses_what_must_not_be_sent() {
    let name = TypeName { package: "google.protobuf", name: "StringValue" };
    let echo = Arc::new(PidEntry::new("127.0.0.1:29002", "echo"));
    let mut writer = BatchWriter::new(BatchLimits::default());
    for (id, fault) in [
        ("\nx".to_owned(), EntryFault::Ambiguous),
        ("\u{12}x".to_owned(), EntryFault::Ambiguous),
        ("i".repeat(513), EntryFault::TooLong { part: Part::Id, size: 513, limit: 512 }),
        ("x/".repeat(32) + "x", EntryFault::TooDeep { count: 33, limit: 32 }),
    ] {
        let target = Arc::new(PidEntry::new("127.0.0.1:29002", id));
        assert_eq!(writer.push(&OutgoingEnvelope::new(name, b"", &target)), Err(Full::Entry(fault)));
    }
    let sender = Arc::new(PidEntry::new("a".repeat(256), "x"));
    let envelope = OutgoingEnvelope { sender: Some(&sender), ..OutgoingEnvelope::new(name, b"", &echo) };
    let fault = EntryFault::TooLong { part: Part::Address, size: 256, limit: 255 };
    assert_eq!(writer.push(&envelope), Err(Full::Entry(fault)));
    let envelope = OutgoingEnvelope { serializer: -1, ..OutgoingEnvelope::new(name, b"", &echo) };
    assert_eq!(writer.push(&envelope), Err(Full::Serializer(-1)));
    let headers = (0..65).fold(Headers::new(), |headers, number| headers.with(number.to_string(), "v"));
    let envelope = OutgoingEnvelope { header: Some(&headers), ..OutgoingEnvelope::new(name, b"", &echo) };
    assert!(matches!(writer.push(&envelope), Err(Full::Headers { entries: 65, .. })));
    assert!(writer.is_empty());
    // Headers without a pair are no headers.
    let none = Headers::new();
    let envelope = OutgoingEnvelope { header: Some(&none), ..OutgoingEnvelope::new(name, b"", &echo) };
    writer.push(&envelope).expect("room");
    let mut message = Vec::new();
    writer.finish(WireForm::W2, &mut message);
    assert!(batch(&message).envelopes().next().expect("one").expect("sound").header.is_none());
}

/// Tables hold each name and each actor once, however many `Arc`s name it, and in order of first use.
#[test]
fn tables_hold_each_entry_once() {
    let names: Vec<_> =
        (0..20).map(|number| Box::leak(format!("T{number}").into_boxed_str()) as &_).collect();
    for distinct in [1, 2, 8, 9, 10, 20] {
        let mut writer = BatchWriter::new(BatchLimits::default());
        for round in 0..3 {
            for (number, name) in names.iter().enumerate().take(distinct) {
                let target = Arc::new(PidEntry::new("127.0.0.1:29002", format!("target{number}")));
                let sender = Arc::new(PidEntry::new("127.0.0.1:29001", format!("sender{number}")));
                let name = TypeName { package: "p", name };
                let text = format!("{round}");
                writer
                    .push(&OutgoingEnvelope {
                        sender: Some(&sender),
                        ..OutgoingEnvelope::new(name, text.as_bytes(), &target)
                    })
                    .expect("room");
            }
        }
        let mut message = Vec::new();
        writer.finish(WireForm::W1, &mut message);
        let batch = batch(&message);
        assert_eq!(
            (batch.type_name_count(), batch.target_count(), batch.sender_count(), batch.len()),
            (distinct, distinct, distinct, 3 * distinct)
        );
        for (position, envelope) in batch.envelopes().enumerate() {
            let (envelope, number) = (envelope.expect("sound"), position % distinct);
            assert_eq!(envelope.type_name, format!("p.T{number}"));
            assert_eq!(envelope.target.id, format!("target{number}"));
            assert_eq!(envelope.sender.expect("there").id, format!("sender{number}"));
            assert_eq!(
                (envelope.type_index, envelope.target_index, envelope.sender_index),
                (number, number, Some(number))
            );
        }
    }
}

/// The mixed batch of the page, once more by its numbers.
#[test]
fn the_mixed_batch_has_the_table_of_the_page() {
    for name in ["W1-27", "W2-27"] {
        let batch = batch(&vector(name));
        let rows: Vec<_> = batch
            .envelopes()
            .map(|envelope| {
                let e = envelope.expect("sound");
                (
                    e.type_index,
                    e.payload.to_vec(),
                    e.target_index,
                    e.sender_index,
                    e.target_request_id,
                    e.sender_request_id,
                )
            })
            .collect();
        let expected = [
            (0, hex("0a026d31"), 0, None, 0, 0),
            (0, hex("0a026d32"), 0, Some(0), 0, 0),
            (0, hex("0a026d33"), 1, Some(1), 0, 0),
            (1, hex("08ac02"), 0, Some(0), 0, 0),
            (1, hex("08ffffffffffffffffff01"), 1, None, 0, 0),
            (0, hex("0a026d36"), 0, Some(1), 5, 77),
        ];
        assert_eq!(rows, expected, "{name}");
    }
}
