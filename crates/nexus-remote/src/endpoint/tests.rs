//! What happens between the roles, caused where no test from outside can stop them.

use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use nexus_actor_core::dead_letter::DeadLetterEvent;
use nexus_actor_core::lock::Lock;
use nexus_actor_core::path::{ActorPathScheme, ActorUid, Authority};
use nexus_actor_core::remote::Route;
use nexus_actor_core::runtime::{PumpRuntime, Runtime};
use nexus_actor_core::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message, SerializerId};
use nexus_actor_core::system::ActorSystem;
use nexus_actor_core::{Actor, ActorError, CorrelationId, DeadLetterReason, Instant, MailboxConfig, Props};
use portable_atomic::{AtomicBool, Ordering};

use super::inbox::{Inbox, Posted};
use super::node::Node;
use super::peer::Peer;
use super::pen::Loan;
use super::registry::Origin;
use crate::association::{AssociationEvent, StateKind};
use crate::correlation_trace::HopKind;
use crate::flight_recorder::FlightKind;
use crate::transport::{
    Channel, LoopbackNetwork, LoopbackTransport, RemoteTransport, TransportChannel, TransportEndpoint,
    TransportError, TransportFactory,
};
use crate::wire::{
    Acknowledge, AssociationHandshake, CapabilityFlags, ControlFrame, DefineManifest, DefineReference,
    Envelope, FrameReader, NodeAddress, OrdinaryFrame, Preamble, RemoteNodeId, Request, SessionLimits,
    SystemMessage, WirePath,
};
use crate::{RemotingExtension, RemotingExtensionConfig, WithRemoting};

const HOUR: Duration = Duration::from_secs(3_600);

/// Systems on one pump and one network.
struct House {
    pump: PumpRuntime,
    network: LoopbackNetwork,
}

impl House {
    fn new() -> Self {
        Self { pump: PumpRuntime::new(), network: LoopbackNetwork::new() }
    }

    fn node(&self, name: &str) -> (ActorSystem, Arc<Node>) {
        self.node_with(name, |config| config)
    }

    fn node_with(
        &self,
        name: &str,
        adjust: impl FnOnce(RemotingExtensionConfig) -> RemotingExtensionConfig,
    ) -> (ActorSystem, Arc<Node>) {
        let config = RemotingExtensionConfig::default()
            .with_canonical_host("127.0.0.1")
            .with_canonical_port(0)
            .with_transport_scheme("fraktor.loopback")
            .with_transport_factory(TransportFactory::new().with_loopback(&self.network));
        let system = ActorSystem::builder(name).with_runtime(self.pump.clone()).with_remoting(adjust(config));
        let system = system.build().unwrap();
        let node = system.extension::<RemotingExtension>().unwrap().handle().node;
        self.pump.run_until_idle();
        (system, node)
    }
}

/// An association says that it is unused; before the manager hears it, somebody begins to use it. It stays, as one
/// beside which there would soon be another.
#[test]
fn an_attempt_just_begun_keeps_its_association() {
    for begun in [false, true] {
        let house = House::new();
        let ((_a, a), (b, _b)) = (house.node("a"), house.node("b"));
        let peer = a.peer(&b.address(), Origin::Here).unwrap();
        // The clock moves, and nobody has run yet.
        let late = house.pump.now() + 2 * HOUR;
        house.pump.set_time(late);
        peer.apply(|association, now| association.handle_timeout(now));
        if begun {
            peer.apply(|association, now| association.associate(now));
        }
        drop(peer);
        house.pump.run_until_idle();
        assert_eq!(a.registry.len(), usize::from(begun));
        assert_eq!(a.tasks(), 1 + usize::from(begun), "the listener, and what serves the association");
    }
}

/// Whoever asks for an association while it is being forgotten, from another thread, gets one that is registered.
#[test]
fn what_is_looked_up_is_never_forgotten_under_its_holder() {
    let house = House::new();
    let ((_a, a), (b, _b)) = (house.node("a"), house.node("b"));
    let address = b.address();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for peer in a.registry.all() {
                    let _gone = a.forget(&peer, |_, _| true);
                }
            }
        });
        for _ in 0..20_000 {
            let peer = a.peer(&address, Origin::Peer);
            // As long as it is held, it is the one that everybody gets.
            let again = a.peer(&address, Origin::Peer);
            let same = peer.zip(again).is_some_and(|(peer, again)| Arc::ptr_eq(&peer, &again));
            if !same {
                over.store(true, Ordering::Relaxed);
                panic!("another association beside one that is held");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}

/// A peer driven by hand, connected to the node of `system`.
struct Hand(TransportChannel);

impl Hand {
    fn connect(house: &House, system: &ActorSystem) -> Self {
        let to = system.address();
        let channel = LoopbackTransport::new(&house.network)
            .open_channel(&TransportEndpoint::new(to.authority.clone().unwrap()))
            .unwrap();
        let hand = Self(channel);
        assert!(hand.0.poll_connected(&mut Context::from_waker(Waker::noop())).is_ready());
        let me = RemoteNodeId::new("hand", "10.0.0.9", Some(9), ActorUid::new(99)).unwrap();
        let (scheme, id) = (ActorPathScheme::FraktorLoopback, CorrelationId::new(1, 2));
        let request = Request {
            handshake: AssociationHandshake::new(scheme, me, CapabilityFlags::NONE, 7, id).unwrap(),
            to: NodeAddress::of(&to).unwrap(),
            session: 0,
            peer_uid: ActorUid::ANY,
            receive_next: 0,
            system_next: 0,
            limits: SessionLimits { frame_max: 256 * 1024, message_max: 256 * 1024, window_bytes: u32::MAX },
        };
        let mut hello = Vec::new();
        Preamble::OURS.encode(&mut hello);
        request.encode(&mut hello);
        assert_eq!(hand.write(&hello), hello.len());
        house.pump.run_until_idle();
        let bytes = hand.read();
        let mut frames = FrameReader::new();
        assert_eq!(frames.feed(&bytes), bytes.len());
        let raw = frames.next_frame().unwrap().expect("an answer");
        let Ok(ControlFrame::Ack(ack)) = ControlFrame::decode(raw) else { panic!("refused") };
        let confirmation = Acknowledge {
            session: ack.session,
            next: 0,
            credit_messages: Acknowledge::UNLIMITED,
            credit_bytes: Acknowledge::UNLIMITED,
        };
        let mut bytes = Vec::new();
        ControlFrame::Acknowledge(confirmation).encode(&mut bytes);
        assert_eq!(hand.write(&bytes), bytes.len());
        house.pump.run_until_idle();
        hand
    }

    fn write(&self, bytes: &[u8]) -> usize {
        match self.0.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(written) => written.unwrap(),
            Poll::Pending => 0,
        }
    }

    fn read(&self) -> Vec<u8> {
        let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
        while let Poll::Ready(Ok(count)) =
            self.0.poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer)
            && count > 0
        {
            read.extend_from_slice(&buffer[..count]);
        }
        read
    }
}

/// A peer sends watches and unwatches as fast as it can to a node whose manager and watcher take a few in a turn: what
/// waits for them is bounded, and none is lost.
#[test]
fn a_flood_of_system_messages_waits_where_it_came_from() {
    const BATCH: usize = 50;
    let house = House::new();
    let (system, node) = house.node_with("a", |config| {
        let batch = u32::try_from(BATCH).unwrap();
        config.with_endpoint_manager_batch_size(batch).with_system_message_burst(1_000_000)
    });
    let hand = Hand::connect(&house, &system);
    let mut flood = Vec::new();
    let count: u64 = 40_000;
    for seq in 0..count {
        let (path, uid) = (WirePath::new("/user/nobody").unwrap(), ActorUid::new(1 + seq / 2));
        let message = if seq % 2 == 0 {
            SystemMessage::Watch { path, uid }
        } else {
            SystemMessage::Unwatch { path, uid }
        };
        ControlFrame::System { seq, message }.encode(&mut flood);
    }
    let peer = node.registry.all().pop().unwrap();
    let (mut sent, mut waited, mut held) = (0, 0, 0);
    loop {
        let before = sent;
        if sent < flood.len() {
            sent += hand.write(&flood[sent..]);
        }
        // Answers are read, or it would stop for those.
        let answers = hand.read();
        let polls = house.pump.run_at_most(1);
        waited = waited.max(node.inbox.len() + node.watching.len());
        held = held.max(peer.read(|association| association.events_waiting()));
        if polls == 0 && answers.is_empty() && sent == before {
            break;
        }
    }
    assert_eq!(sent, flood.len(), "it goes on when the node has caught up");
    assert!(waited <= BATCH, "{waited} told and not worked off");
    assert!(held > 0, "never more than may wait");
    // So many fit into what is read at once.
    assert!(held <= 64 * 1024 / (flood.len() / count as usize) + BATCH, "{held} in the association");
    assert_eq!(peer.read(|association| association.events_waiting()), 0);
    assert_eq!(peer.read(|association| association.statistics().watched), 0);
    assert!(peer.read(|association| association.live_connection().is_some()));
}

/// What a peer sends of system messages beyond its burst is taken at the rate, not faster and not slower.
///
/// L17: below, at and above the limit.
#[test]
fn system_messages_are_taken_no_faster_than_they_may_come() {
    const RATE: u64 = 100;
    const BURST: u64 = 1_000;
    for count in [BURST - 1, BURST, BURST + 1, 3 * BURST] {
        let house = House::new();
        let (system, node) =
            house.node_with("a", |c| c.with_system_message_rate(100).with_system_message_burst(1_000));
        let hand = Hand::connect(&house, &system);
        let peer = node.registry.all().pop().unwrap();
        let mut flood = Vec::new();
        for seq in 0..count {
            let (path, uid) = (WirePath::new("/user/nobody").unwrap(), ActorUid::new(1 + seq));
            ControlFrame::System { seq, message: SystemMessage::Unwatch { path, uid } }.encode(&mut flood);
        }
        // So many fit into what is read at once, and are taken before they are counted.
        let at_once = 64 * 1024 / (flood.len() as u64 / count);
        let mut answers = FrameReader::new();
        answers.established(256 * 1024);
        let (started, mut sent, mut taken) = (house.pump.now(), 0, 0);
        let passed = || (house.pump.now() - started).as_secs();
        while taken < count {
            if sent > 0 {
                house.pump.advance(Duration::from_secs(1));
            }
            sent += hand.write(&flood[sent..]);
            house.pump.run_until_idle();
            let (bytes, mut at) = (hand.read(), 0);
            while at < bytes.len() {
                at += answers.feed(&bytes[at..]);
                while let Some(raw) = answers.next_frame().unwrap() {
                    if let Ok(ControlFrame::SystemAcknowledge { next, .. }) = ControlFrame::decode(raw) {
                        taken = next;
                    }
                }
            }
            assert!(taken <= BURST + passed() * RATE + at_once, "{count}: {taken} after {} s", passed());
            assert!(taken >= count.min(BURST + passed() * RATE), "{count}: {taken} after {} s", passed());
        }
        assert!(peer.read(|association| association.live_connection().is_some()));
    }
}

/// A number; 255 cannot be read.
struct Num(u8);

impl Message for Num {
    const MANIFEST: &'static str = "tests.num@1";
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(&self.0)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match decoder.postcard()? {
            255 => Err(DecodeError::failed("not a number of ours")),
            n => Ok(Self(n)),
        }
    }
}

/// Takes numbers and does nothing.
struct Sink;

impl Actor for Sink {
    type Msg = Num;
    async fn receive(
        &mut self,
        _: Num,
        _: &mut nexus_actor_core::Context<'_, Self>,
    ) -> Result<(), ActorError> {
        Ok(())
    }
}

/// The frames that define the number of [`Num`] and those of the actors `/user/n0` and so on.
fn definitions(actors: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let manifest = DefineManifest::new(0, SerializerId::POSTCARD, Num::MANIFEST).unwrap();
    OrdinaryFrame::DefineManifest(manifest).encode(&mut bytes);
    for n in 0..actors {
        let path = format!("/user/n{n}");
        let reference = DefineReference::new(n, ActorUid::ANY, &path).unwrap();
        OrdinaryFrame::DefineReference(reference).encode(&mut bytes);
    }
    bytes
}

fn say(recipient: u32, n: u8, times: usize, bytes: &mut Vec<u8>) {
    for _ in 0..times {
        let envelope = Envelope {
            recipient,
            manifest: 0,
            correlation_id: CorrelationId::new(9, 9),
            reply_to: None,
            headers: None,
            payload: &[n],
        };
        OrdinaryFrame::Envelope(envelope).encode(bytes);
    }
}

/// A peer that sends a large batch to one actor after the other leaves few large buffers behind, not one for each.
#[test]
fn few_recipients_keep_a_large_buffer() {
    const ACTORS: u32 = 40;
    let house = House::new();
    let (system, node) = house.node("a");
    system.register::<Num>().unwrap();
    for n in 0..ACTORS {
        // Behind it stands a mailbox that takes each message by itself and leaves the buffer here.
        let props = Props::from_fn(|| Sink).with_mailbox(MailboxConfig::bounded(10_000));
        system.spawn(&format!("n{n}"), props).unwrap();
    }
    let hand = Hand::connect(&house, &system);
    let peer = node.registry.all().pop().unwrap();
    assert!(hand.write(&definitions(ACTORS)) > 0);
    let mut most = 0;
    for n in 0..ACTORS {
        let mut bytes = Vec::new();
        say(n, 1, 300, &mut bytes);
        assert_eq!(hand.write(&bytes), bytes.len());
        house.pump.run_until_idle();
        most = most.max(peer.intake.lock().large_buffers(0..ACTORS));
    }
    assert_eq!(most, 8, "kept while they are in use, and no more");
    assert_eq!(peer.intake.lock().inbound.next(), 1 + u64::from(ACTORS) * 301);
}

/// Usual messages that cannot be read are recorded a few at a time, in between frames, and not when all of what was read
/// has been gone through.
#[test]
fn a_flood_of_unreadable_messages_is_interrupted_to_record_them() {
    let house = House::new();
    let (system, node) = house.node("a");
    system.register::<Num>().unwrap();
    system.spawn("n0", Props::from_fn(|| Sink)).unwrap();
    let hand = Hand::connect(&house, &system);
    let peer = node.registry.all().pop().unwrap();
    let mut bytes = definitions(1);
    for _ in 0..150 {
        // Behind one that can be read the others are usual ones.
        say(0, 1, 1, &mut bytes);
        say(0, 255, 9, &mut bytes);
    }
    let taken = Arc::<Lock<Vec<u64>>>::default();
    let (of, to) = (peer.clone(), taken.clone());
    let record = move |_: &DeadLetterEvent| {
        let next = of.intake.lock().inbound.next();
        to.lock().push(next);
    };
    system.event_stream().subscribe(record).forever();
    assert_eq!(hand.write(&bytes), bytes.len());
    house.pump.run_until_idle();
    let taken = taken.lock();
    assert_eq!(taken.len(), 1_350);
    for (recorded, taken) in taken.iter().enumerate() {
        let (definitions, read) = (2, recorded as u64 / 9);
        let waiting = taken - definitions - read - recorded as u64;
        assert!(waiting <= 256 * 10 / 9 + 3, "{waiting} wait to be recorded");
    }
}

/// Senders take the time of the one before for the time, and not for ever: the connection's task may not come to look at
/// the clock.
#[test]
fn a_borrowed_time_is_looked_at_again_soon() {
    let house = House::new();
    let (system, node) = house
        .node_with("a", |config| config.with_trace_sampling(crate::correlation_trace::TraceSampling::All));
    let _hand = Hand::connect(&house, &system);
    let peer = node.registry.all().pop().unwrap();
    let path = "fraktor.loopback://hand@10.0.0.9:9/user/x".parse().unwrap();
    let recipient = peer.intern(&path, SerializerId::POSTCARD, Num::MANIFEST).unwrap();
    let say = |times: usize| {
        for _ in 0..times {
            peer.send(recipient, None, &mut |encoder| encoder.postcard(&1_u8)).unwrap();
        }
    };
    let before = house.pump.now();
    say(1);
    // Time passes, and nobody runs.
    let later = before + Duration::from_secs(10);
    house.pump.set_time(later);
    say(600);
    let snapshot = node.recorder.snapshot();
    let sent = |at: Instant| {
        let is_sent = |kind: &FlightKind| matches!(kind, FlightKind::Hop { hop: HopKind::Send, .. });
        snapshot
            .records
            .iter()
            .filter(|record| is_sent(&record.event.kind) && record.event.time == at)
            .count()
    };
    assert_eq!(sent(before) + sent(later), 601);
    assert_eq!(sent(before), 1 + 256, "borrowed");
}

/// The rest of a frame that the node has not read is not missing: its connection lives on, and ends where it is.
#[test]
fn a_frame_that_is_not_read_is_not_unfinished() {
    for behind in [true, false] {
        let house = House::new();
        let (system, node) = house.node("a");
        let hand = Hand::connect(&house, &system);
        let peer = node.registry.all().pop().unwrap();
        let mut frame = Vec::new();
        let (path, uid) = (WirePath::new("/user/nobody").unwrap(), ActorUid::new(1));
        ControlFrame::System { seq: 0, message: SystemMessage::Watch { path, uid } }.encode(&mut frame);
        assert_eq!(hand.write(&frame[..9]), 9);
        house.pump.run_until_idle();
        peer.backlog.note_behind(behind);
        assert_eq!(hand.write(&frame[9..12]), 3);
        house.pump.run_until_idle();
        house.pump.advance(Duration::from_secs(11));
        house.pump.run_until_idle();
        assert_eq!(peer.read(|association| association.live_connection().is_some()), behind);
    }
}

/// A session that ends with many messages in its lane tells of each, and not of all at once.
#[test]
fn a_lane_full_of_lost_messages_is_told_a_few_at_a_time() {
    const BATCH: usize = 50;
    let house = House::new();
    let (system, node) =
        house.node_with("a", |config| config.with_endpoint_manager_batch_size(u32::try_from(BATCH).unwrap()));
    let nowhere = "fraktor.loopback://b@127.0.0.1:1".parse().unwrap();
    let peer = node.peer(&nowhere, Origin::Here).unwrap();
    let to = "fraktor.loopback://b@127.0.0.1:1/user/x".parse().unwrap();
    let number = peer.intern(&to, SerializerId::POSTCARD, "test@1").unwrap();
    for _ in 0..10_000 {
        peer.send(number, None, &mut |encoder| encoder.put(&[7])).unwrap();
    }
    let mut waited = 0;
    for second in 0..40 {
        house.pump.set_time(house.pump.now() + Duration::from_secs(1));
        while house.pump.run_at_most(1) > 0 {
            waited = waited.max(node.inbox.len());
        }
        let lost = system.dead_letters().count(DeadLetterReason::Unreachable);
        assert!(lost == 0 || lost == 10_000, "{lost} after {second} s");
    }
    assert_eq!(system.dead_letters().count(DeadLetterReason::Unreachable), 10_000);
    assert!(waited <= BATCH, "{waited} told and not worked off");
}

/// Below, at and above what one association may have waiting.
#[test]
fn one_association_does_not_fill_the_inbox_of_another() {
    for batch in [1, 2, 7] {
        let house = House::new();
        let (_system, node) = house.node_with("a", |config| config.with_endpoint_manager_batch_size(batch));
        let peer = |host: &str| {
            let address = format!("fraktor.loopback://x@{host}:1").parse().unwrap();
            node.peer(&address, Origin::Here).unwrap()
        };
        let (one, other) = (peer("10.0.0.1"), peer("10.0.0.2"));
        let changes = |peer: &Arc<Peer>, times: u32| {
            for _ in 0..times {
                peer.apply(|association, now| association.suspend(now));
                peer.apply(|association, now| association.resume(now));
            }
        };
        // Each time two changes of state, and nobody runs.
        changes(&one, 100);
        assert_eq!(node.inbox.len(), batch as usize);
        assert!(one.backlog.is_behind());
        changes(&other, batch / 2);
        assert_eq!(node.inbox.len(), (batch + batch / 2 * 2) as usize);
        assert!(!other.backlog.is_behind());
        house.pump.run_until_idle();
        assert_eq!(node.inbox.len(), 0);
        assert!(!one.backlog.is_behind());
        assert_eq!(one.read(|association| association.events_waiting()), 0);
    }
}

/// One at a time works off what is posted, in order; what it leaves is the next one's.
#[test]
fn what_is_posted_is_worked_off_by_one_at_a_time() {
    let house = House::new();
    let ((_a, a), (b, _b)) = (house.node("a"), house.node("b"));
    let peer = a.peer(&b.address(), Origin::Here).unwrap();
    a.set_manager(None);
    for uid in 1..=5 {
        let event = AssociationEvent::Recovered { uid: Some(ActorUid::new(uid)) };
        a.inbox.post(Posted::new(peer.clone()), event);
    }
    let numbers = |events: &mut dyn Iterator<Item = (Posted, AssociationEvent)>| {
        events
            .map(|(_, event)| match event {
                AssociationEvent::Recovered { uid } => uid.unwrap().get(),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let mut first = Inbox::take(&a, 3).unwrap();
    assert!(Inbox::take(&a, 3).is_none(), "beside another");
    assert!(!a.inbox.is_done());
    assert_eq!(numbers(&mut first.by_ref().take(1)), [1]);
    // It fails here.
    drop(first);
    assert_eq!(numbers(&mut Inbox::take(&a, 2).unwrap()), [2, 3]);
    assert_eq!(numbers(&mut Inbox::take(&a, usize::MAX).unwrap()), [4, 5]);
    assert!(Inbox::take(&a, 1).is_none());
    assert!(a.inbox.is_done());
}

/// Thousands wait for their turn, and each dial fails at once, inside the turn: they follow each other in a loop.
#[test]
fn turns_that_end_at_once_do_not_nest() {
    let house = House::new();
    let (_system, node) = house.node_with("a", |config| config.with_dials_in_flight_max(1));
    let slot = node.dials.ask(&node, &"10.0.0.1:1".parse().unwrap(), &Weak::new()).unwrap();
    let peers: Vec<_> = (0..5_000)
        .map(|n| {
            let address = format!("fraktor.loopback://x@10.1.{}.{}:1", n / 250, n % 250).parse().unwrap();
            let peer = node.peer(&address, Origin::Here).unwrap();
            peer.apply(|association, now| association.associate(now));
            peer
        })
        .collect();
    let failed = || {
        let failures = |peer: &Arc<Peer>| peer.read(|a| a.statistics().attempts_failed);
        peers.iter().map(failures).sum::<u64>()
    };
    assert_eq!(failed(), 0);
    let transport = node.transport.lock().take();
    drop(slot);
    assert_eq!(failed(), 5_000);
    drop(transport);
}

/// An association of `a` with `b` at rest, and the number of a recipient there that was sent to before.
fn at_rest(house: &House, a: &Arc<Node>, b: &ActorSystem) -> (Arc<Peer>, u32) {
    let peer = a.peer(&b.address(), Origin::Here).unwrap();
    let path = nexus_actor_core::path::ActorPath::new(b.address(), "/user/nobody", ActorUid::ANY);
    let number = peer.intern(&path, SerializerId::POSTCARD, "test@1").unwrap();
    send_one(&peer, number);
    house.pump.run_until_idle();
    (peer, number)
}

fn send_one(peer: &Peer, number: u32) {
    peer.send(number, None, &mut |encoder| encoder.put(&[0])).unwrap();
}

/// Takes the pen and one message, as an asker does.
fn lend(peer: &Peer, number: u32) -> Loan {
    let mut guard = peer.machine.lock();
    let (machine, now) = (&mut *guard, peer.node.now());
    let _sent = machine.association.send(now, number, None, &mut |encoder| encoder.put(&[0])).unwrap();
    Loan::take(peer, machine, now).expect("the driver is idle")
}

/// Messages sent to a peer, and how many of them have reached it.
fn arrived(house: &House, peer: &Peer) -> (u64, u64) {
    // An acknowledgement may wait for company.
    house.pump.advance(Duration::from_secs(1));
    let statistics = peer.read(|association| association.statistics());
    (statistics.sent, statistics.acknowledged)
}

/// While a sender writes, the driver takes nothing, and there is one pen; afterwards it goes on with what came
/// meanwhile. A pen given back unused leaves what it was taken for to the driver.
#[test]
fn a_lent_pen_comes_back_and_nothing_stays_behind() {
    let house = House::new();
    let ((_a, a), (b, b_node)) = (house.node("a"), house.node("b"));
    let (peer, number) = at_rest(&house, &a, &b);
    for written in [true, false] {
        let loan = lend(&peer, number);
        for _ in 0..3 {
            send_one(&peer, number);
        }
        // The driver is woken by something else, and asks.
        peer.flush();
        let (sent, before) = arrived(&house, &peer);
        assert_eq!(before, sent - 4, "the driver wrote beside a sender");
        assert!(Loan::take(&peer, &mut peer.machine.lock(), a.now()).is_none(), "two pens");
        if written {
            loan.write();
        } else {
            drop(loan);
        }
        let (sent, acknowledged) = arrived(&house, &peer);
        assert_eq!(acknowledged, sent);
    }
    assert_eq!(b_node.registry.all()[0].read(|association| association.statistics().frames_ignored), 0);
}

/// The association is suspended, quarantined or left while a sender writes, all or nothing: it comes to what it would
/// come to without the loan, the peer is told, and nothing runs on.
#[test]
fn a_lent_pen_holds_up_no_change_of_state() {
    for (change, written) in [
        ("suspended", true),
        ("suspended", false),
        ("quarantined", true),
        ("quarantined", false),
        ("left", true),
        ("left", false),
    ] {
        let house = House::new();
        let ((a_system, a), (b, b_node)) = (house.node("a"), house.node("b"));
        let (peer, number) = at_rest(&house, &a, &b);
        let loan = lend(&peer, number);
        match change {
            "suspended" => peer.apply(|association, now| association.suspend(now)),
            "quarantined" => peer.apply(|association, now| {
                association.quarantine(now, None, crate::wire::QuarantineReason::ByOperator);
            }),
            _ => a_system.begin_shutdown(),
        }
        house.pump.run_until_idle();
        if written {
            loan.write();
        } else {
            drop(loan);
        }
        house.pump.run_until_idle();
        match change {
            "suspended" => {
                send_one(&peer, number);
                let (sent, acknowledged) = arrived(&house, &peer);
                assert_eq!(acknowledged, sent - 1, "what was sent since waits");
                peer.apply(|association, now| association.resume(now));
                let (sent, acknowledged) = arrived(&house, &peer);
                assert_eq!(acknowledged, sent);
            }
            "quarantined" => {
                let change = b_node.registry.all()[0].read(|association| association.last_change().cloned());
                let from = change.map(|change| change.from);
                assert_eq!(from, Some(StateKind::Connected), "told by the last words, not by a refused dial");
                house.pump.advance(Duration::from_secs(2));
                assert!(peer.machine.lock().drivers.is_empty(), "the connection is closed");
            }
            _ => {
                house.pump.advance(Duration::from_secs(10));
                assert!(peer.machine.lock().drivers.is_empty(), "{change}");
                assert_eq!(a.tasks(), 0);
            }
        }
    }
}

/// A channel that panics as soon as a sender writes on it, after a few bytes; so does its `abort`.
struct Treacherous(TransportChannel);

impl Channel for Treacherous {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.0.poll_connected(cx)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, TransportError>> {
        self.0.poll_read(cx, buf)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TransportError>> {
        self.0.poll_write(cx, bytes)
    }

    fn try_write(&self, bytes: &[u8]) -> Result<usize, TransportError> {
        self.0.try_write(&bytes[..3]).unwrap();
        panic!("a channel of somebody else")
    }

    fn finish(&self) {
        self.0.finish();
    }

    fn close(&self) {
        self.0.close();
    }

    fn abort(&self) {
        panic!("a channel of somebody else, once more")
    }

    fn local_address(&self) -> Option<Authority> {
        self.0.local_address()
    }

    fn peer_address(&self) -> Option<Authority> {
        self.0.peer_address()
    }
}

/// A transport that panics under a sender costs the connection, not the sender and no message; also when what was
/// wanted of the channel in the meantime is to be closed.
#[test]
fn a_channel_that_panics_under_a_sender_is_a_break() {
    for closing in [false, true] {
        let house = House::new();
        let ((_a, a), (b, b_node)) = (house.node("a"), house.node("b"));
        let (peer, number) = at_rest(&house, &a, &b);
        let before = peer.read(|association| association.live()).unwrap();
        {
            let mut machine = peer.machine.lock();
            let channel = &mut machine.drivers[0].channel;
            *channel = channel.take().map(|inner| TransportChannel::new(Treacherous(inner)));
        }
        let loan = lend(&peer, number);
        send_one(&peer, number);
        if closing {
            peer.apply(|association, now| {
                association.quarantine(now, None, crate::wire::QuarantineReason::ByOperator);
            });
        }
        loan.write();
        if closing {
            house.pump.advance(Duration::from_secs(2));
            assert!(peer.machine.lock().drivers.is_empty());
            continue;
        }
        let (sent, acknowledged) = arrived(&house, &peer);
        assert_eq!(acknowledged, sent);
        assert_ne!(peer.read(|association| association.live()), Some(before));
        let ignored = b_node.registry.all()[0].read(|association| association.statistics().frames_ignored);
        assert_eq!(ignored, 0);
    }
}
