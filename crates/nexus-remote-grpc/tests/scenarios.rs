//! The scenarios of the conformance page on this wire, over real connections.

mod support;

use std::collections::HashSet;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::serialization::protobuf::{ProtobufCodec, ProtobufForm};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor_core::system::ResolveError;
use nexus_actor_core::{Actor, ActorError, ActorRef, AskError, Context, DeadLetterReason, Props, Refusal};
use nexus_remote::{
    EndpointConnectedEvent, EndpointReconnectEvent, EndpointReport, EndpointSource as _,
    EndpointTerminatedEvent,
};
use nexus_remote_grpc::config::Limits;
use nexus_remote_grpc::endpoint_state::{ConnectionState, HeartbeatConfig, ReconnectPolicy};
use nexus_remote_grpc::wire::batch::{Incoming, WireForm};
use nexus_remote_grpc::wire::proto::actor;
use nexus_remote_grpc::wire::proto::remote::remote_message::MessageType;
use nexus_remote_grpc::wire::proto::remote::{ConnectResponse, MessageEnvelope};
use nexus_remote_grpc::{Config, ConfigOption};
use prost::Message as _;
use support::proxy::Proxy;
use support::raw::{
    Manners, RawCall, RawServer, batch, client_hello, eventually, message, note, sent, server_hello,
};
use support::{Echo, Heard, TestNode, Watch, Watcher, local, nowhere, own_host, within};

const fn ms(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

async fn node(options: impl IntoIterator<Item = ConfigOption>) -> TestNode {
    TestNode::start("node", local().with(options)).await
}

/// Tries again every 20 ms, so often.
fn tries(count: u32) -> ConfigOption {
    ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(count, ms(20)))
}

/// Hears nothing.
struct Quiet;

impl Actor for Quiet {
    type Msg = Echo;
    async fn receive(&mut self, _: Echo, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        Ok(())
    }
}

async fn start_at(address: &str) -> TestNode {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    TestNode::start("again", Config::new(host, port.parse().expect("a port"))).await
}

fn watcher(node: &TestNode, name: &str) -> (ActorRef<Watch>, Heard) {
    let seen = Heard::default();
    let told = seen.clone();
    (node.system.spawn(name, Props::from_fn(move || Watcher(told.clone()))).expect("free"), seen)
}

/// A node behind a proxy that a test can cut, and one that talks to it.
async fn behind_proxy(options: impl IntoIterator<Item = ConfigOption>) -> (TestNode, TestNode, Proxy) {
    let proxy = Proxy::new().await;
    let b = node([ConfigOption::with_advertised_host(proxy.address())]).await;
    proxy.set_target(b.remote.bound_address().expect("it listens"));
    let a = node(options).await;
    assert_eq!(a.ask(&a.far(&b, "echo"), "hello").await.as_deref(), Ok("re:hello"));
    (a, b, proxy)
}

/// Covers: S1, S5
#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_connects_either_way() {
    let (a, b) = (node([]).await, node([]).await);
    let mut connected = [a.events::<EndpointConnectedEvent>(), b.events::<EndpointConnectedEvent>()];
    a.far(&b, "echo").tell(Echo::Note("there".to_owned()));
    b.heard.until("the first", |all| all == ["there"]).await;
    let event = connected[0].next("the event").await;
    assert_eq!((&*event.address, &*event.system_id), (b.remote.address(), b.remote.system_id()));
    // The other has been called and has not called yet: its first message arrives all the same.
    b.far(&a, "echo").tell(Echo::Note("back".to_owned()));
    a.heard.until("the first", |all| all == ["back"]).await;
    let event = connected[1].next("the event").await;
    assert_eq!((&*event.address, &*event.system_id), (a.remote.address(), a.remote.system_id()));
    assert!(connected.iter_mut().all(|events| events.try_next().is_none()), "one event each");
    a.stop().await;
    b.stop().await;
}

/// Covers: S2
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_before_a_node_starts_arrives_in_order() {
    let a = node([tries(1_000)]).await;
    let address = nowhere();
    let there = a.at(&address, "echo");
    let mut attempts = a.events::<EndpointReconnectEvent>();
    for number in 0..100 {
        there.tell(Echo::Count(number));
    }
    attempts.find("a second attempt", |event| event.attempt >= 2).await;
    let b = start_at(&address).await;
    let all = b.heard.until("all", |all| all.len() == 100).await;
    assert!(all.iter().enumerate().all(|(at, number)| *number == at.to_string()));
    assert_eq!(a.system.dead_letters().total(), 0);
    a.stop().await;
    b.stop().await;
}

/// Covers: S3, S36, S152, ERR-09
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_given_up_is_begun_afresh_by_the_next_message() {
    let a = node([tries(2)]).await;
    let address = nowhere();
    let there = a.at(&address, "echo");
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    let (watching, seen) = watcher(&a, "watcher");
    watching.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    for number in 0..3 {
        there.tell(Echo::Count(number));
    }
    // The asker learns of it with the others, long before its own time is up.
    assert_eq!(a.ask(&there, "x").await, Err(AskError::Unreachable));
    terminated.next("the end").await;
    seen.until("the notice", |all| all.len() == 2).await;
    assert_eq!(seen.all()[1], "echo unreachable");
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Unreachable), 4);
    eventually("its worker stops", || a.remote.tasks() <= 1).await;
    let b = start_at(&address).await;
    assert_eq!(a.ask(&there, "again").await.as_deref(), Ok("re:again"));
    assert_eq!(seen.len(), 2, "told once");
    a.stop().await;
    b.stop().await;
}

/// The peer has the question in the connection's buffers and never says that it took it; the connection comes back, with the
/// same peer. A node of ours would have said so, and nothing is known of any other.
///
/// Covers: S36
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_went_down_with_its_connection_does_not_wait_for_its_time() {
    for is_nexus in [true, false] {
        let mut server = RawServer::start(Manners { is_nexus, ..Manners::default() }).await;
        let proxy = Proxy::to(&server.address()).await;
        let a = node([tries(u32::MAX), ConfigOption::with_wire_form(proxy.address(), WireForm::W2)]).await;
        let there = a.at(&proxy.address(), "echo");
        let mut connected = a.events::<EndpointConnectedEvent>();
        let ask = there.ask(|reply| Echo::Say("x".to_owned(), reply));
        let question = tokio::spawn(if is_nexus { ask } else { ask.timeout(ms(200)) });
        connected.next("the connection").await;
        server.batch().await;
        proxy.cut();
        connected.next("the next connection").await;
        let answer = within("the end of the question", question).await.expect("no panic");
        if is_nexus {
            assert_eq!(answer, Err(AskError::Unreachable));
        } else {
            assert_eq!(answer, Err(AskError::Timeout { after: ms(200) }));
        }
        assert_eq!(a.remote.pending_asks(), 0);
        a.stop().await;
    }
}

/// The end of a watched actor is said once, by the peer's own call, and may go down with that. Our own connection stands:
/// the peer is asked again as soon as it has a call again, whichever of the two is seen first.
///
/// Covers: S64
#[tokio::test(flavor = "multi_thread")]
async fn watches_are_told_again_when_the_call_of_the_peer_was_lost() {
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let a = node([]).await;
    let bound = a.remote.bound_address().expect("it listens").to_string();
    let hello = || server_hello("raw", &server.address());
    let (first_hello, second_hello, third_hello) = (hello(), hello(), hello());
    let first = RawCall::shake(&bound, first_hello).await;
    let (watching, seen) = watcher(&a, "watcher");
    watching.tell(Watch::Begin(a.at(&server.address(), "echo")));
    seen.until("the watch", |all| all.len() == 1).await;
    within("the watch", server.until("actor.Watch")).await;
    // The next call comes when the first one is over, ...
    drop(first);
    let second = RawCall::shake(&bound, second_hello).await;
    within("the watch again", server.until("actor.Watch")).await;
    // ... or before.
    let third = RawCall::shake(&bound, third_hello).await;
    drop(second);
    within("the watch once more", server.until("actor.Watch")).await;
    assert_eq!(seen.len(), 1, "a lost call alone is no death");
    drop(third);
    a.stop().await;
}

/// As in `two_dials_that_meet_are_one_endpoint_at_each_end`, with sockets, as often as it happens.
#[tokio::test(flavor = "multi_thread")]
async fn both_dial_at_once() {
    for _ in 0..20 {
        let (a, b) = (node([]).await, node([]).await);
        let (there, back) = (a.far(&b, "echo"), b.far(&a, "echo"));
        for number in 0..10 {
            there.tell(Echo::Count(number));
            back.tell(Echo::Count(number));
        }
        let numbers: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        for one in [&a, &b] {
            one.heard.until("all", |all| all == numbers).await;
            assert_eq!(one.remote.manager().endpoints().len(), 1);
        }
        a.stop().await;
        b.stop().await;
    }
}

/// Covers: S6, S64, TST-46
#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_healed_without_a_death() {
    let (a, b, proxy) = behind_proxy([tries(1_000)]).await;
    let there = a.far(&b, "echo");
    let (watching, seen) = watcher(&a, "watcher");
    watching.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    assert!(a.ask(&there, "behind the watch").await.is_ok());
    let mut connected = a.events::<EndpointConnectedEvent>();
    for round in 0..5 {
        proxy.cut();
        let event = connected.next("the connection").await;
        assert_eq!(&*event.system_id, b.remote.system_id(), "round {round}: the same incarnation");
        assert_eq!(a.ask(&there, "again").await.as_deref(), Ok("re:again"));
    }
    assert_eq!(seen.len(), 1, "a broken connection alone is no death");
    // And the watch still holds.
    b.system.find("/user/echo").expect("it lives").stop();
    seen.until("the end", |all| all.len() == 2).await;
    assert_eq!(seen.all()[1], "echo stopped");
    a.stop().await;
    b.stop().await;
}

/// Room for a few system messages, and watches of many more.
fn little_room() -> ConfigOption {
    let mut limits = Limits::new();
    limits.system_messages = 4;
    ConfigOption::with_limits(limits)
}

const MANY: usize = 200;

/// A connection that is lost is no death, of however many actors: watches take no room in the queue of system messages.
///
/// Covers: L16, S6, S95
#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_no_death_of_more_than_the_queue_holds() {
    let (a, b, proxy) = behind_proxy([tries(1_000), little_room()]).await;
    let (watching, seen) = watcher(&a, "watcher");
    let names: Vec<_> = (0..MANY).map(|number| format!("one{number}")).collect();
    let ends: Vec<_> =
        names.iter().map(|name| b.system.spawn(name, Props::from_fn(|| Quiet)).expect("free")).collect();
    for name in &names {
        watching.tell(Watch::Begin(a.far(&b, name)));
    }
    eventually("the watches there", || b.remote.peer_watches() == MANY as u64).await;
    let mut connected = a.events::<EndpointConnectedEvent>();
    for _ in 0..2 {
        proxy.cut();
        connected.next("the connection").await;
        assert!(a.ask(&a.far(&b, "echo"), "again").await.is_ok());
    }
    // A question goes ahead of watches for which there is no room yet, a watch behind them: its answer shows that all of them
    // have been told again. Of one that came after the end it would be said that there is nobody.
    watching.tell(Watch::Begin(a.far(&b, "nobody")));
    seen.until("never", |all| all.last().is_some_and(|last| last == "nobody never existed")).await;
    assert_eq!(seen.len(), MANY + 2, "nobody is told of an end");
    for end in &ends {
        end.stop();
    }
    let all = seen.until("the ends", |all| all.len() == 2 * MANY + 2).await;
    assert!(all[MANY + 2..].iter().all(|line| line.ends_with(" stopped")), "{all:?}");
    eventually("nothing of it is left", || b.remote.peer_watches() == 0).await;
    a.stop().await;
    b.stop().await;
}

/// The same toward Go nodes, to which each watch is two messages: a new connection is told of all of them.
///
/// Covers: L16, S6, S95
#[tokio::test(flavor = "multi_thread")]
async fn a_go_node_is_told_again_of_more_watches_than_the_queue_holds() {
    for form in [WireForm::W1, WireForm::W2] {
        let mut server = RawServer::start(Manners::default()).await;
        let proxy = Proxy::to(&server.address()).await;
        let address = proxy.address();
        let a = node([tries(1_000), little_room(), ConfigOption::with_wire_form(&address, form)]).await;
        let (watching, seen) = watcher(&a, "watcher");
        for number in 0..MANY {
            watching.tell(Watch::Begin(a.at(&address, &format!("one{number}"))));
        }
        for round in 0..3 {
            let (mut watched, mut touched) = (HashSet::new(), HashSet::new());
            while watched.len() < MANY || touched.len() < MANY {
                for envelope in server.batch().await.envelopes().flatten() {
                    let told = match envelope.type_name {
                        "actor.Watch" => &mut watched,
                        "actor.Touch" => &mut touched,
                        other => panic!("round {round}: {other}"),
                    };
                    assert!(told.insert(envelope.target.id.to_owned()), "round {round}: told twice");
                }
            }
            if round < 2 {
                proxy.cut();
            }
        }
        assert_eq!(seen.len(), MANY, "nobody is told of an end: {form:?}");
        a.stop().await;
    }
}

/// Covers: S59, S151
#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_at_an_address_is_told_from_the_old_one() {
    let (a, b) = (node([tries(1_000)]).await, node([ConfigOption::with_host(own_host())]).await);
    let address = b.remote.address().to_owned();
    let there = a.far(&b, "echo");
    let (watching, seen) = watcher(&a, "watcher");
    watching.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    assert!(a.ask(&there, "behind the watch").await.is_ok());
    let first = b.remote.system_id().to_owned();
    b.remote.shutdown(false).await;
    b.stop().await;
    let b = start_at(&address).await;
    seen.until("the notice", |all| all.len() == 2).await;
    assert_eq!(a.ask(&there, "by name").await.as_deref(), Ok("re:by name"));
    assert_ne!(b.remote.system_id(), first);
    assert_eq!(seen.len(), 2, "told once");
    a.stop().await;
    b.stop().await;
}

/// Covers: S33
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_is_recorded_there_and_told_to_who_asks() {
    let (a, b) = (node([]).await, node([]).await);
    let mut letters = b.events::<DeadLetterEvent>();
    let nobody = a.far(&b, "nobody");
    assert_eq!(a.ask(&nobody, "x").await, Err(AskError::NoSuchActor));
    let letter = letters.next("the record").await;
    assert_eq!(letter.reason(), DeadLetterReason::NoSuchActor);
    assert_eq!(letter.pid, Some(b.pid("nobody")));
    assert_eq!(
        letter.context().peer.as_ref().map(ToString::to_string),
        Some(format!("protoactor://{}", a.remote.address()))
    );
    a.stop().await;
    b.stop().await;
}

/// Covers: S54, S55, S57, S60, S61, S62
#[tokio::test(flavor = "multi_thread")]
async fn watches_tell_once_and_leave_nothing() {
    let (a, b) = (node([]).await, node([]).await);
    let there = a.far(&b, "echo");
    let watchers: Vec<_> = (0..5).map(|n| watcher(&a, &format!("w{n}"))).collect();
    for (watching, seen) in &watchers {
        watching.tell(Watch::Begin(there.clone()));
        seen.until("the watch", |all| all.len() == 1).await;
    }
    // One of them does not any more.
    watchers[0].0.tell(Watch::End(there.clone()));
    let (nobody, never) = watcher(&a, "other");
    nobody.tell(Watch::Begin(a.far(&b, "nobody")));
    never.until("never", |all| all.last().is_some_and(|last| last == "nobody never existed")).await;
    assert!(a.ask(&there, "behind the watches").await.is_ok());
    // And one the other way, across the same two nodes.
    let (back, told) = watcher(&b, "back");
    back.tell(Watch::Begin(b.far(&a, "echo")));
    told.until("the watch", |all| all.len() == 1).await;
    assert!(b.ask(&b.far(&a, "echo"), "behind").await.is_ok());
    let before = b.remote.get_endpoint_statistics(a.remote.address()).expect("an endpoint").sent;
    b.system.find("/user/echo").expect("it lives").stop();
    for (_, seen) in &watchers[1..] {
        seen.until("the end", |all| all.len() == 2).await;
        assert_eq!(seen.all()[1], "echo stopped");
    }
    a.system.find("/user/echo").expect("it lives").stop();
    told.until("the end", |all| all.len() == 2).await;
    let after = b.remote.get_endpoint_statistics(a.remote.address()).expect("an endpoint").sent;
    assert_eq!(after - before, 1, "one notice on the wire for all of them");
    assert_eq!(watchers[0].1.len(), 1, "who has ended its watch is told nothing");
    let endpoint = a.remote.manager().ensure_connected(b.remote.address()).expect("an endpoint");
    assert!(endpoint.watcher().is_empty());
    a.stop().await;
    b.stop().await;
}

/// Covers: S56, S58, S63
#[tokio::test(flavor = "multi_thread")]
async fn watches_end_with_the_node_of_either_side() {
    let (a, b, proxy) = behind_proxy([tries(3)]).await;
    let (watching, seen) = watcher(&a, "watcher");
    watching.tell(Watch::Begin(a.far(&b, "echo")));
    watching.tell(Watch::Begin(a.at(&nowhere(), "elsewhere")));
    seen.until("the host that nobody is at", |all| all.iter().any(|line| line == "elsewhere unreachable"))
        .await;
    assert!(a.ask(&a.far(&b, "echo"), "behind the watch").await.is_ok());
    // B vanishes: it can be dialled no more.
    proxy.refuse();
    seen.until("the crash", |all| all.iter().any(|line| line == "echo unreachable")).await;
    assert_eq!(seen.len(), 4, "each told once: {:?}", seen.all());
    // And B keeps nothing of the watcher whose node it cannot hear.
    eventually("nothing of it is left", || b.remote.peer_watches() == 0).await;
    a.stop().await;
    b.stop().await;
}

/// Covers: S90
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_costs_its_bound_and_nobody_else() {
    const BYTES: usize = 1024 * 1024;
    let frozen = RawServer::start(Manners { is_nexus: true, never_reads: true, ..Manners::default() }).await;
    let a = node([ConfigOption::with_endpoint_writer_queue_bytes(BYTES)]).await;
    let b = node([]).await;
    let (flooded, healthy) = (a.at(&frozen.address(), "echo"), a.far(&b, "echo"));
    for round in 0..50 {
        for _ in 0..400 {
            flooded.tell(Echo::Note("x".repeat(1_000)));
        }
        let waiting = a.remote.get_endpoint_statistics(&frozen.address()).expect("an endpoint").queue_size;
        assert!(waiting <= (BYTES / 1_000) as u64 + 1, "round {round}: {waiting} wait");
        assert!(a.ask(&healthy, "x").await.is_ok(), "round {round}");
    }
    assert!(a.system.dead_letters().count(DeadLetterReason::QueueFull) > 0);
    drop(frozen);
    a.stop().await;
    b.stop().await;
}

/// Covers: S92
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_waited_for_or_told_at_once() {
    let (a, b) = (node([ConfigOption::with_endpoint_writer_queue_size(2)]).await, node([]).await);
    let there = a.far(&b, "echo");
    assert!(a.ask(&there, "hello").await.is_ok());
    a.remote.suspend();
    for number in 0..2 {
        there.tell(Echo::Count(number));
    }
    let refused = there.try_tell(Echo::Count(9)).expect_err("full");
    assert!(matches!(refused.refusal, Refusal::QueueFull { messages: 2, .. }), "{:?}", refused.refusal);
    let waiting = tokio::spawn({
        let there = there.clone();
        async move { there.send(Echo::Count(2)).await.is_ok() }
    });
    // Nobody else is held up by who waits.
    assert!(a.ask(&a.at(a.remote.address(), "echo"), "here").await.is_ok());
    assert!(!waiting.is_finished());
    a.remote.resume();
    assert!(within("room", waiting).await.expect("no panic"));
    b.heard.until("all three", |all| all == ["0", "1", "2"]).await;
    a.stop().await;
    b.stop().await;
}

/// Covers: S97, S142
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_not_lost_and_every_message_is_accounted_for() {
    const BURST: u64 = 100_000;
    let (a, b) = (node([]).await, node([]).await);
    let (there, nobody) = (a.far(&b, "echo"), a.far(&b, "nobody"));
    for number in 0..BURST {
        there.tell(Echo::Count(number as i32));
    }
    nobody.tell(Echo::Note("x".to_owned()));
    b.heard.until("all", |all| all.len() as u64 == BURST).await;
    assert_eq!(a.system.dead_letters().total(), 0);
    let of = |one: &TestNode, other: &TestNode| {
        one.remote.get_endpoint_statistics(other.remote.address()).expect("an endpoint")
    };
    eventually("the record", || b.system.dead_letters().count(DeadLetterReason::NoSuchActor) == 1).await;
    let (sent, taken) = (of(&a, &b), of(&b, &a));
    assert_eq!(sent.sent, BURST + 1);
    assert_eq!(taken.received, sent.sent);
    assert_eq!((sent.queue_size, sent.dead_letters, sent.unknown), (0, 0, 0));
    assert_eq!(taken.dead_letters, 0, "nothing that went to it was lost");
    a.stop().await;
    b.stop().await;
}

/// A message that [`Echo`] cannot read.
struct Odd;

impl Message for Odd {
    const MANIFEST: &'static str = "test.odd@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: &[ProtobufForm::tell_of::<bool>()],
        encode: |_, encoder| encoder.protobuf(&true),
        decode: |named| Err(named.unknown::<Self>()),
    });
    fn encode(&self, _: &mut Encoder<'_>) -> Result<(), EncodeError> {
        Err(EncodeError::failed("only as a protobuf"))
    }
    fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Err(DecodeError::failed("only as a protobuf"))
    }
}

/// What is lost on its way in counts for the process, and leaves the sum of what goes out to the same peer alone.
///
/// Covers: DL-08, MET-01, S97
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_a_peer_adds_up_beside_what_is_lost_of_it() {
    let (a, b) = (node([ConfigOption::with_endpoint_writer_queue_size(2)]).await, node([]).await);
    let (there, back) = (a.far(&b, "echo"), b.far(&a, "echo"));
    assert_eq!(a.ask(&there, "first").await.as_deref(), Ok("re:first"));
    let inbound = || {
        [DeadLetterReason::Decode, DeadLetterReason::Denied, DeadLetterReason::NoSuchActor]
            .map(|reason| a.system.dead_letters().count(reason))
    };
    b.remote.resolve::<Odd>(&Pid::new(a.remote.address(), "echo")).expect("a pid").tell(Odd);
    back.stop();
    b.far(&a, "nobody").tell(Echo::Note("x".to_owned()));
    eventually("all three are recorded", || inbound() == [1, 1, 1]).await;
    a.remote.suspend();
    for number in 0..5 {
        there.tell(Echo::Count(number));
    }
    let counted = a.remote.get_endpoint_statistics(b.remote.address()).expect("an endpoint");
    let (asked, told, delivered) = (1, 5, 1);
    assert_eq!((counted.dead_letters, counted.queue_size, counted.unknown), (3, 2, 0));
    assert_eq!(asked + told, delivered + counted.dead_letters + counted.queue_size + counted.unknown);
    a.remote.resume();
    b.heard.until("what waited", |all| all == ["0", "1"]).await;
    a.stop().await;
    b.stop().await;
}

/// Who leaves right behind an answer has confirmed it, whether it listens or only dials out.
///
/// Covers: S108, S142
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_behind_an_answer_has_confirmed_it() {
    let b = node([]).await;
    let tasks = b.remote.tasks();
    let mut ended = b.events::<EndpointTerminatedEvent>();
    for round in 0..40 {
        let a = if round % 2 == 0 { node([]).await } else { TestNode::start_client("client", local()).await };
        assert_eq!(a.ask(&a.far(&b, "echo"), "x").await.as_deref(), Ok("re:x"));
        a.stop().await;
        ended.next("the end").await;
        // What is unknown is known when the call has ended as well.
        eventually("the call has ended", || b.remote.tasks() == tasks).await;
        let of_all = b.remote.endpoints();
        let lost = |all: &EndpointReport| all.statistics.unknown + all.statistics.dead_letters;
        assert_eq!(of_all.iter().map(lost).sum::<u64>(), 0, "round {round}");
    }
    b.stop().await;
}

/// S142 where a stream breaks: what it had taken and nobody confirmed counts as unknown.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_stream_had_taken_is_unknown() {
    let a = node([tries(1)]).await;
    let server = RawServer::start(Manners { is_nexus: true, never_reads: true, ..Manners::default() }).await;
    let address = server.address();
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    let there = a.at(&address, "echo");
    for number in 0..10 {
        there.tell(Echo::Count(number));
    }
    eventually("all is handed over", || {
        a.remote.get_endpoint_statistics(&address).is_some_and(|now| now.sent == 10)
    })
    .await;
    drop(server);
    a.remote.block_system(&address).await;
    let event = terminated.next("the end").await;
    assert_eq!((event.statistics.sent, event.statistics.unknown, event.statistics.dead_letters), (10, 10, 0));
    a.stop().await;
}

/// Covers: S98
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_peer_costs_no_more_with_time() {
    let a = node([tries(u32::MAX), ConfigOption::with_endpoint_writer_queue_size(100)]).await;
    let address = nowhere();
    let there = a.at(&address, "echo");
    let mut attempts = a.events::<EndpointReconnectEvent>();
    for round in 1..=10_u64 {
        for _ in 0..1_000 {
            there.tell(Echo::Count(0));
        }
        attempts.next("an attempt").await;
        let now = a.remote.get_endpoint_statistics(&address).expect("an endpoint");
        assert!(now.queue_size <= 100);
        assert_eq!(now.dead_letters + now.queue_size, round * 1_000);
        assert!(a.remote.tasks() <= 2, "{}", a.remote.tasks());
    }
    a.stop().await;
}

/// Covers: S108
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_delivers_what_was_accepted() {
    let (a, b) = (node([]).await, node([]).await);
    let there = a.far(&b, "echo");
    let mut terminated = b.events::<EndpointTerminatedEvent>();
    let back = b.far(&a, "echo");
    assert!(b.ask(&back, "hello").await.is_ok());
    for number in 0..20_000 {
        there.tell(Echo::Count(number));
    }
    within("the end", a.remote.shutdown(true)).await;
    let all = b.heard.until("all", |all| all.len() == 20_000).await;
    assert!(all.iter().enumerate().all(|(at, number)| *number == at.to_string()));
    assert_eq!(&*terminated.next("the goodbye").await.reason, "the peer disconnected");
    a.stop().await;
    b.stop().await;
}

/// Covers: S110
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_one_and_frees_the_port() {
    let (a, b) = (node([ConfigOption::with_host(own_host())]).await, node([]).await);
    let there = a.far(&b, "echo");
    assert!(a.ask(&there, "hello").await.is_ok());
    let (one, other) = (a.remote.clone(), a.remote.clone());
    tokio::join!(one.shutdown(true), other.shutdown(false));
    assert_eq!(a.remote.tasks(), 0);
    there.tell(Echo::Note("too late".to_owned()));
    assert!(a.ask(&there, "too late").await.is_err());
    assert!(a.remote.resolve::<Echo>(&b.pid("other")).is_err());
    assert!(a.system.dead_letters().total() >= 1);
    let address = a.remote.address().to_owned();
    let again = start_at(&address).await;
    assert!(b.ask(&b.far(&again, "echo"), "you").await.is_ok());
    for one in [a, again, b] {
        one.stop().await;
    }
}

/// Covers: S121
#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_address_reach_the_same_actor() {
    let (a, b) = (node([]).await, node([]).await);
    let by_pid = a.at(b.remote.address(), "echo");
    let path = format!("protoactor://{}/user/echo", b.remote.address());
    let by_path: ActorRef<Echo> = a.system.resolve(&path).expect("a path");
    assert_eq!(by_pid.path().to_string(), path);
    by_pid.tell(Echo::Note("by pid".to_owned()));
    by_path.tell(Echo::Note("by path".to_owned()));
    b.heard.until("both", |all| all.len() == 2).await;
    // On the node itself all three mean the actor here, and nothing is dialled.
    let here = b.system.find("/user/echo").expect("it lives");
    let own: ActorRef<Echo> = b.system.resolve(&path).expect("a path");
    let mine = b.at(b.remote.address(), "echo");
    assert!(own.is_local() && mine.is_local());
    own.tell(Echo::Note("by path".to_owned()));
    mine.tell(Echo::Note("by pid".to_owned()));
    b.heard.until("both", |all| all.len() == 4).await;
    assert!(b.remote.manager().endpoints().iter().all(|one| *one.address == *a.remote.address()));
    let pid = b.remote.pid_of(&here);
    assert_eq!(pid, Pid::new(b.remote.address(), "echo"));
    a.stop().await;
    b.stop().await;
}

/// Covers: S127, T36, TST-41, TST-42, HS-04, HS-05, ERR-15
#[tokio::test(flavor = "multi_thread")]
async fn a_block_cuts_refuses_and_is_lifted_without_a_restart() {
    for by_id in [false, true] {
        let (a, b) = (node([]).await, node([]).await);
        let (there, back) = (a.far(&b, "echo"), b.far(&a, "echo"));
        assert!(a.ask(&there, "x").await.is_ok() && b.ask(&back, "x").await.is_ok());
        let mut ends = [a.events::<EndpointTerminatedEvent>(), b.events::<EndpointTerminatedEvent>()];
        let name = if by_id { b.remote.system_id() } else { b.remote.address() }.to_owned();
        assert!(a.remote.block_system(&name).await);
        assert!(!a.remote.block_system(&name).await);
        assert_eq!(a.remote.list_blocked_systems().await, std::slice::from_ref(&name));
        for end in &mut ends {
            assert_eq!(&*end.next("the cut").await.reason, "blocked");
        }
        assert_eq!(a.ask(&there, "x").await, Err(AskError::Blocked));
        assert_eq!(b.ask(&back, "x").await, Err(AskError::Blocked));
        assert!(a.remote.unblock_system(&name).await);
        assert_eq!(a.ask(&there, "again").await.as_deref(), Ok("re:again"));
        // The other side does not try by itself until it is told to.
        b.remote.manager().schedule_reconnect(a.remote.address()).expect("an address");
        assert_eq!(
            within("the connection", b.remote.await_reconnect(a.remote.address())).await,
            Ok(ConnectionState::Connected)
        );
        assert_eq!(b.ask(&back, "again").await.as_deref(), Ok("re:again"));
        a.stop().await;
        b.stop().await;
    }
}

/// A peer that blocks this node and takes it off again says so on two connections, of which the older may be the slower.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_older_than_a_call_of_the_peer_is_asked_about_again() {
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let a = node([]).await;
    let there = a.at(&server.address(), "echo");
    there.tell(Echo::Note("before".to_owned()));
    server.call().await;
    server.batch().await;
    let mut lost = a.events::<EndpointReconnectEvent>();
    let mut connected = a.events::<EndpointConnectedEvent>();
    let call = RawCall::shake(a.remote.address(), server_hello("raw", &server.address())).await;
    let refusal = ConnectResponse { member_id: "raw".to_owned(), blocked: true, nexus: None };
    server.say(message(MessageType::ConnectResponse(refusal))).await;
    lost.next("another attempt").await;
    connected.next("the connection that it makes").await;
    there.tell(Echo::Note("behind".to_owned()));
    server.batch().await;
    drop(call);
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Blocked), 0);
    a.stop().await;
}

/// Covers: TST-41, CC-07
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_client_is_refused_and_others_are_announced() {
    let server = node([ConfigOption::with_blocked_systems(["bad"])]).await;
    let mut connected = server.events::<nexus_remote::ClientConnectedEvent>();
    let mut call = RawCall::open(server.remote.address(), client_hello("bad")).await.expect("a call");
    assert!(call.response().await.expect("an answer").blocked);
    assert_eq!(call.end().await, tonic::Code::PermissionDenied);
    let _good = RawCall::shake(server.remote.address(), client_hello("good")).await;
    assert_eq!(&*connected.next("the client").await.system_id, "good");
    server.stop().await;
}

/// Covers: S153, RC-16
#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_blocked_does_not_try_again() {
    let mut server = RawServer::start(Manners { blocks: true, ..Manners::default() }).await;
    let a = node([tries(1_000)]).await;
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    let mut attempts = a.events::<EndpointReconnectEvent>();
    let there = a.at(&server.address(), "echo");
    assert_eq!(a.ask(&there, "x").await, Err(AskError::Blocked));
    assert_eq!(&*terminated.next("the end").await.reason, "blocked");
    server.call().await;
    assert_eq!(a.ask(&there, "x").await, Err(AskError::Blocked));
    let refused = a.remote.resolve::<Echo>(&Pid::new(server.address(), "other"));
    assert!(matches!(refused, Err(ResolveError::Refused(Refusal::Blocked))));
    assert!(attempts.try_next().is_none());
    a.remote.manager().schedule_reconnect(&server.address()).expect("an address");
    server.call().await;
    a.stop().await;
}

/// Covers: S129, S154, T14, T15
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_envelope_costs_that_envelope() {
    let a = node([]).await;
    let call = RawCall::shake(a.remote.address(), server_hello("raw", "127.0.0.1:1")).await;
    type Change = fn(&mut MessageEnvelope);
    let wrong: [(&str, Change); 7] = [
        ("a type index", |envelope| envelope.type_id = 7),
        ("a target index", |envelope| envelope.target = -1),
        ("a sender index", |envelope| envelope.sender = 5),
        ("a serializer", |envelope| envelope.serializer_id = 2),
        ("a negative serializer", |envelope| envelope.serializer_id = -1),
        ("a payload", |envelope| envelope.message_data = b"\x0a\x50\x01".to_vec()),
        ("an unknown type", |envelope| envelope.type_id = 3),
    ];
    for (at, (what, change)) in wrong.into_iter().enumerate() {
        let mut letters = a.events::<DeadLetterEvent>();
        let messages = [note("before"), note("wrong"), note("after"), ("my.Unknown", Vec::new())];
        let mut batch = batch(a.remote.address(), "echo", None, &messages);
        batch.envelopes.truncate(3);
        change(&mut batch.envelopes[1]);
        call.send(sent(batch));
        let all = a.heard.until(what, |all| all.len() == 2 * (at + 1)).await;
        assert_eq!(all[2 * at..], ["before", "after"], "{what}");
        let letter = letters.next(what).await;
        assert_eq!(letter.reason(), DeadLetterReason::Decode, "{what}");
        assert!(letters.try_next().is_none(), "{what}: recorded once");
    }
    a.stop().await;
}

/// Covers: S155, TST-29
#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_client_is_told() {
    let server = node([]).await;
    let client = TestNode::start_client("client", local()).await;
    assert!(client.ask(&client.far(&server, "echo"), "hello").await.is_ok());
    let address = client.remote.address().to_owned();
    let there = server.at(&address, "echo");
    assert_eq!(server.ask(&there, "you").await.as_deref(), Ok("re:you"));
    let (watching, seen) = watcher(&server, "watcher");
    watching.tell(Watch::Begin(there.clone()));
    seen.until("the watch", |all| all.len() == 1).await;
    assert!(server.ask(&there, "behind the watch").await.is_ok());
    let mut terminated = server.events::<EndpointTerminatedEvent>();
    client.remote.shutdown(false).await;
    assert_eq!(*terminated.next("the end").await.address, *address);
    seen.until("the notice", |all| all.last().is_some_and(|last| last == "echo unreachable")).await;
    assert!(server.ask(&there, "x").await.is_err());
    assert!(server.remote.manager().client_connections().is_empty());
    client.stop().await;
    server.stop().await;
}

/// Covers: TST-32, TST-33
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_lives_from_its_first_use_to_its_last() {
    let (a, b) = (node([]).await, node([]).await);
    let address = b.remote.address().to_owned();
    assert_eq!(a.remote.manager().connection_state(&address), None);
    let there = a.far(&b, "echo");
    assert!(a.ask(&there, "hello").await.is_ok());
    assert_eq!(a.remote.manager().connection_state(&address), Some(ConnectionState::Connected));
    a.remote.suspend();
    assert_eq!(a.remote.manager().connection_state(&address), Some(ConnectionState::Suspended));
    there.tell(Echo::Count(1));
    assert_eq!(a.remote.get_endpoint_statistics(&address).map(|now| now.queue_size), Some(1));
    let mut terminated = a.events::<EndpointTerminatedEvent>();
    a.remote.block_system(&address).await;
    let event = terminated.next("the end").await;
    assert_eq!(event.statistics.queue_size, 0);
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Blocked), 1);
    assert_eq!(a.remote.get_endpoint_statistics(&address), None, "its figures end with it");
    drop(there);
    eventually("it is forgotten", || a.remote.manager().endpoints().is_empty()).await;
    a.stop().await;
    b.stop().await;
}

/// A connection ends with the use for it, also where the peer reads nothing and lets nothing more be written.
#[tokio::test(flavor = "multi_thread")]
async fn the_socket_to_a_frozen_peer_is_closed_after_its_silence() {
    let frozen = RawServer::start(Manners { is_nexus: true, never_reads: true, ..Manners::default() }).await;
    let proxy = Proxy::to(&frozen.address()).await;
    let (interval, timeout) = (ms(100), ms(300));
    let heartbeat = ConfigOption::with_endpoint_heartbeat(HeartbeatConfig { interval, timeout });
    let a = node([tries(1), heartbeat]).await;
    let mut gone = a.events::<EndpointTerminatedEvent>();
    let mut there = a.events::<EndpointConnectedEvent>();
    let far = a.at(&proxy.address(), "echo");
    for _ in 0..400 {
        far.tell(Echo::Note("x".repeat(10_000)));
    }
    there.next("the connection").await;
    assert!(proxy.accepted() > 0);
    proxy.close();
    gone.next("the end").await;
    eventually("the socket is closed", || proxy.open() == 0).await;
    drop(far);
    a.stop().await;
}

/// Whoever watches here and cannot be told of an end hears a goodbye: it would wait for ever. A peer that only talks is left
/// alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_told_of_ends_is_told_goodbye() {
    let a = node([tries(1)]).await;
    let to = a.remote.address().to_owned();
    for watches in [false, true] {
        let address = nowhere();
        let mut call = RawCall::shake(&to, server_hello("raw", &address)).await;
        if watches {
            let watcher = actor::Pid { address: address.clone(), id: "watcher".to_owned(), request_id: 0 };
            let watch = actor::Watch { watcher: Some(watcher) }.encode_to_vec();
            call.send(sent(batch(&to, "echo", None, &[("actor.Watch", watch)])));
            eventually("the watch", || a.remote.peer_watches() == 1).await;
        }
        let mut gone = a.events::<EndpointTerminatedEvent>();
        a.at(&address, "nobody").tell(Echo::Count(1));
        assert_eq!(*gone.next("the end").await.address, *address);
        if watches {
            assert!(matches!(call.next().await, Ok(Some(Incoming::Disconnect))));
            call.hang_up();
            call.end().await;
            eventually("nothing is left of it", || a.remote.peer_watches() == 0).await;
        } else {
            call.send(sent(batch(&to, "echo", None, &[note("still there")])));
            a.heard.until("what came after", |all| all == ["still there"]).await;
        }
    }
    a.stop().await;
}

/// Watches of a peer that come while this node is suspended hold, and who is asked for a sign of life is not said to be
/// dead: only what is for actors is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_node_keeps_its_books() {
    let mut server = RawServer::start(Manners { is_nexus: true, ..Manners::default() }).await;
    let (a, address) = (node([]).await, server.address());
    let to = a.remote.address().to_owned();
    let call = RawCall::shake(&to, server_hello("raw", &address)).await;
    let pid = |id: &str| Some(actor::Pid { address: address.clone(), id: id.to_owned(), request_id: 0 });
    a.remote.suspend();
    let watch = actor::Watch { watcher: pid("watcher") }.encode_to_vec();
    let sender = Some((&*address, "asker"));
    call.send(sent(batch(
        &to,
        "echo",
        sender,
        &[note("lost"), ("actor.Watch", watch), ("actor.Touch", vec![])],
    )));
    eventually("the watch holds", || a.remote.peer_watches() == 1).await;
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Suspended), 1);
    a.remote.resume();
    server.until("actor.Touched").await;
    a.system.find("/user/echo").expect("it lives").stop();
    server.until("actor.Terminated").await;
    assert_eq!(a.system.dead_letters().count(DeadLetterReason::Suspended), 1);
    drop(call);
    a.stop().await;
}
