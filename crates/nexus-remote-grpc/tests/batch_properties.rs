//! Whatever is pushed into a writer comes out of the reader, in both forms; and both agree with the schema.

use std::collections::HashMap;
use std::sync::Arc;

use nexus_actor_core::Headers;
use nexus_remote_grpc::endpoint::pid_entry::PidEntry;
use nexus_remote_grpc::wire::batch::{
    BatchLimits, BatchWriter, Incoming, OutgoingEnvelope, TypeName, WireForm, decode,
};
use nexus_remote_grpc::wire::proto::actor::Pid;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{MessageBatch, MessageEnvelope, MessageHeader, RemoteMessage};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use prost::Message;

const NAMES: [TypeName; 12] = {
    const fn name(package: &'static str, name: &'static str) -> TypeName {
        TypeName { package, name }
    }
    [
        name("google.protobuf", "StringValue"),
        name("google.protobuf", "Int32Value"),
        name("", "Bare"),
        name("actor", "Touch"),
        name("a.b.c", "D"),
        name("p", "E"),
        name("p", "F"),
        name("p", "G"),
        name("p", "H"),
        name("p", "I"),
        name("p", "J"),
        name("p", "K"),
    ]
};

/// One message as a test thinks of it.
#[derive(Clone, Debug)]
struct Letter {
    name: usize,
    payload: Vec<u8>,
    target: (String, String),
    sender: Option<(String, String)>,
    serializer: i32,
    headers: HashMap<String, String>,
    request_ids: (u32, u32),
}

fn pid() -> impl Strategy<Value = (String, String)> {
    ("[a-z0-9.]{0,8}:[0-9]{1,5}", "[a-c$/]{1,3}|[a-zé$]{1,140}")
}

fn letter() -> impl Strategy<Value = Letter> {
    (
        0..NAMES.len(),
        vec(any::<u8>(), 0..300),
        pid(),
        proptest::option::of(pid()),
        prop_oneof![Just(0), Just(1), 0..i32::MAX],
        hash_map("[a-z]{0,4}", ".{0,6}", 0..4),
        prop_oneof![Just((0, 0)), any::<(u32, u32)>()],
    )
        .prop_map(|(name, payload, target, sender, serializer, headers, request_ids)| Letter {
            name,
            payload,
            target,
            sender,
            serializer,
            headers,
            request_ids,
        })
}

fn headers(letter: &Letter) -> Headers {
    letter.headers.iter().fold(Headers::new(), |all, (name, value)| all.with(name, value))
}

fn write(letters: &[Letter], form: WireForm) -> Vec<u8> {
    let entry = |(address, id): &(String, String)| Arc::new(PidEntry::new(address.as_str(), id.as_str()));
    let mut writer = BatchWriter::new(BatchLimits::default());
    for letter in letters {
        let (target, sender) = (entry(&letter.target), letter.sender.as_ref().map(entry));
        let headers = headers(letter);
        let envelope = OutgoingEnvelope {
            sender: sender.as_ref(),
            serializer: letter.serializer,
            header: Some(&headers),
            target_request_id: letter.request_ids.0,
            sender_request_id: letter.request_ids.1,
            ..OutgoingEnvelope::new(NAMES[letter.name], &letter.payload, &target)
        };
        writer.push(&envelope).expect("room");
    }
    let (mut message, length) = (Vec::new(), writer.encoded_len(form));
    writer.finish(form, &mut message);
    assert_eq!(message.len(), length);
    message
}

/// What the types of the schema make of a batch of the first generation.
fn by_the_schema(bytes: &[u8]) -> MessageBatch {
    match RemoteMessage::decode(bytes).expect("a message of the schema").message_type {
        Some(MessageType::MessageBatch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// A batch as the schema has it, indices and all: mostly sound.
fn any_batch() -> impl Strategy<Value = MessageBatch> {
    let pid = || ("[a-z:]{0,6}", "[a-z]{0,6}", 0..3_u32);
    let envelope = (
        0..5_i32,
        vec(any::<u8>(), 0..20),
        0..5_i32,
        0..5_i32,
        -1..3_i32,
        hash_map("[a-z]{0,3}", "[a-z]{0,3}", 0..3),
        any::<(u32, u32)>(),
    );
    (vec("[a-z.]{0,9}", 0..5), vec(pid(), 0..5), vec(pid(), 0..5), vec(envelope, 0..8)).prop_map(
        |(type_names, targets, senders, envelopes)| MessageBatch {
            type_names,
            targets: targets
                .into_iter()
                .map(|(address, id, request_id)| Pid { address, id, request_id })
                .collect(),
            senders: senders
                .into_iter()
                .map(|(address, id, request_id)| Pid { address, id, request_id })
                .collect(),
            envelopes: envelopes
                .into_iter()
                .map(|(type_id, message_data, target, sender, serializer_id, header_data, ids)| {
                    MessageEnvelope {
                        type_id,
                        message_data,
                        target,
                        sender,
                        serializer_id,
                        message_header: (!header_data.is_empty()).then_some(MessageHeader { header_data }),
                        target_request_id: ids.0,
                        sender_request_id: ids.1,
                    }
                })
                .collect(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(letters in vec(letter(), 1..40)) {
        for form in [WireForm::W1, WireForm::W2] {
            let message = write(&letters, form);
            let Ok(Incoming::Batch(batch)) = decode(message.into(), &BatchLimits::default()) else {
                panic!("a batch was written");
            };
            prop_assert_eq!(batch.form(), Some(form));
            prop_assert_eq!(batch.len(), letters.len());
            for (envelope, letter) in batch.envelopes().zip(&letters) {
                let envelope = envelope.expect("what was written is sound");
                prop_assert_eq!(envelope.type_name, NAMES[letter.name].to_string());
                prop_assert_eq!(envelope.payload, letter.payload.as_slice());
                prop_assert_eq!(envelope.serializer, letter.serializer);
                let address = (form == WireForm::W1).then_some(letter.target.0.as_str());
                prop_assert_eq!((envelope.target.address, envelope.target.id), (address, letter.target.1.as_str()));
                let sender = envelope.sender.map(|sender| (sender.address.to_owned(), sender.id.to_owned()));
                prop_assert_eq!(&sender, &letter.sender);
                prop_assert_eq!((envelope.target_request_id, envelope.sender_request_id), letter.request_ids);
                let read = envelope.header.map(|header| header.to_headers()).unwrap_or_default();
                prop_assert_eq!(read, headers(letter));
            }
        }
    }

    #[test]
    fn the_schema_reads_what_is_written(letters in vec(letter(), 1..20)) {
        let batch = by_the_schema(&write(&letters, WireForm::W1));
        prop_assert_eq!(batch.envelopes.len(), letters.len());
        for (envelope, letter) in batch.envelopes.iter().zip(&letters) {
            let at = |index: i32| usize::try_from(index).expect("an index");
            let pid = |pid: &Pid| (pid.address.clone(), pid.id.clone());
            prop_assert_eq!(&batch.type_names[at(envelope.type_id)], &NAMES[letter.name].to_string());
            prop_assert_eq!(pid(&batch.targets[at(envelope.target)]), letter.target.clone());
            let sender = (envelope.sender != 0).then(|| pid(&batch.senders[at(envelope.sender) - 1]));
            prop_assert_eq!(&sender, &letter.sender);
            prop_assert_eq!(&envelope.message_data, &letter.payload);
            prop_assert_eq!(envelope.message_header.is_some(), !letter.headers.is_empty());
            let header = envelope.message_header.clone().unwrap_or_default().header_data;
            prop_assert_eq!(&header, &letter.headers);
        }
        // No entry twice.
        for (position, target) in batch.targets.iter().enumerate() {
            prop_assert!(!batch.targets[..position].contains(target));
        }
    }

    #[test]
    fn what_the_schema_writes_is_read(given in any_batch()) {
        let message = RemoteMessage { message_type: Some(MessageType::MessageBatch(given.clone())) };
        let Ok(Incoming::Batch(batch)) = decode(message.encode_to_vec().into(), &BatchLimits::default()) else {
            panic!("a batch was written");
        };
        prop_assert_eq!(batch.len(), given.envelopes.len());
        for (read, given_envelope) in batch.envelopes().zip(&given.envelopes) {
            let name = given.type_names.get(given_envelope.type_id as usize);
            let target = given.targets.get(given_envelope.target as usize);
            let sender = given.senders.get((given_envelope.sender as usize).wrapping_sub(1));
            let sound = name.is_some()
                && target.is_some()
                && (given_envelope.sender == 0 || sender.is_some())
                && given_envelope.serializer_id >= 0;
            prop_assert_eq!(read.is_ok(), sound);
            let Ok(read) = read else { continue };
            prop_assert_eq!(read.type_name, name.expect("sound"));
            // An entry of an id alone that is empty, or of a number alone, is a PID only by its place.
            let target = target.expect("sound");
            if !(target.address.is_empty() && target.id.is_empty()) {
                prop_assert_eq!(read.target.address, Some(target.address.as_str()));
                prop_assert_eq!(read.target.id, target.id.as_str());
            }
            prop_assert_eq!(
                read.sender.map(|sender| (sender.address, sender.id)),
                sender.map(|sender| (sender.address.as_str(), sender.id.as_str()))
            );
            prop_assert_eq!(read.payload, given_envelope.message_data.as_slice());
            let headers = given_envelope.message_header.as_ref().map(|header| &header.header_data);
            let found = read.header.map(|header| {
                header.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<HashMap<_, _>>()
            });
            prop_assert_eq!(found.as_ref(), headers);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(Incoming::Batch(batch)) = decode(bytes.into(), &BatchLimits::default()) {
            prop_assert_eq!(batch.envelopes().count(), batch.len());
        }
    }
}
