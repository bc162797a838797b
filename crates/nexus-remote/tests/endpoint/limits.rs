//! What a peer can have of a node: associations, connections, and what it is told at their limits.

use nexus_actor_core::path::{ActorPathParts, ActorUid};
use nexus_actor_core::{Actor, ActorError, ActorRef, AskError, Context, DeadLetterReason, Props, Reply};
use nexus_remote::RemotingControl;
use nexus_remote::event::{RefusedBy, RemotingLifecycleEvent as Event};
use nexus_remote::wire::{ControlFrame, RefuseReason, RemoteNodeId, Request};
use nexus_testkit::{DialFate, SimNode, Simulation, Stranger};

use crate::hostile::frames;
use crate::kit::*;
use crate::puppet::{confirmation, hello, ours, request_of};

/// A request as the node at port 9 of `host` would send it.
fn request_from(host: &str, to: &SimNode) -> Request {
    request_of(&RemoteNodeId::new("stranger", host, Some(9), ActorUid::new(99)).unwrap(), to, 0)
}

/// What `node` answers to a node that says it lives at `host`; its connection, confirmed if it was taken.
fn dial_as(sim: &Simulation, node: &SimNode, host: &str) -> (Stranger, Option<RefuseReason>) {
    let stranger = sim.stranger(node.authority());
    let _taken = stranger.write(&hello(ours(), &request_from(host, node)));
    sim.run(ms(10));
    match frames(&stranger.read().unwrap()).first() {
        Some(ControlFrame::Ack(ack)) => {
            let mut bytes = Vec::new();
            confirmation(ack).encode(&mut bytes);
            let _taken = stranger.write(&bytes);
            sim.run(ms(10));
            (stranger, None)
        }
        Some(ControlFrame::Refuse(refuse)) => (stranger, Some(refuse.reason)),
        other => panic!("{other:?}"),
    }
}

/// L6: below, at and above the number of associations that peers bring about.
#[test]
fn so_many_nodes_may_dial_and_the_next_is_refused() {
    let sim = Simulation::new(6);
    let b = know(sim.node_with("b", |config| config.with_inbound_associations_max(3)));
    let a = know(sim.node("a"));
    parrot(a.system(), "parrot");
    // One that this node itself asked for does not count.
    let to_a = far(&b, &a, "/user/parrot");
    assert_eq!(sim.wait(s(2), to_a.ask(|r| Talk::Echo(1, r))), Some(Ok(1)));
    let mut inside: Vec<_> = (1..=3)
        .map(|n| {
            let (stranger, refused) = dial_as(&sim, &b, &format!("10.0.1.{n}"));
            assert_eq!(refused, None, "{n}");
            stranger
        })
        .collect();
    assert_eq!(b.remoting().associations(), 4);
    let refusals = || {
        let limit = |event: &Event| {
            matches!(event, Event::Refused { by: RefusedBy::Us, reason: RefuseReason::Limit, .. })
        };
        b.count(limit)
    };
    assert_eq!(dial_as(&sim, &b, "10.0.1.4").1, Some(RefuseReason::Limit));
    assert_eq!((b.remoting().associations(), refusals()), (4, 1));
    // One that is known may come back.
    drop(inside.remove(0));
    sim.run(s(2));
    let (back, refused) = dial_as(&sim, &b, "10.0.1.1");
    assert_eq!(refused, None);
    // Its place is its own while its session may go on, and another's when nothing of it is in use any more.
    drop(back);
    sim.run(s(60));
    assert_eq!(dial_as(&sim, &b, "10.0.1.5").1, Some(RefuseReason::Limit));
    // What this node has use of its own for leaves its place to another.
    let adopted: ActorPathParts = "fraktor.loopback://stranger@10.0.1.2:9".parse().unwrap();
    b.remoting().associate(&adopted).unwrap();
    assert_eq!(dial_as(&sim, &b, "10.0.1.6").1, None);
    assert_eq!(dial_as(&sim, &b, "10.0.1.7").1, Some(RefuseReason::Limit));
    assert_eq!(b.remoting().associations(), 5);
    sim.run(s(300));
    assert_eq!(dial_as(&sim, &b, "10.0.1.7").1, None);
    assert_eq!(b.remoting().associations(), 5);
    assert_eq!(sim.wait(s(2), to_a.ask(|r| Talk::Echo(2, r))), Some(Ok(2)), "others are undisturbed");
}

/// An attacker that names addresses by the hundred does not keep others out for an hour.
#[test]
fn addresses_that_came_to_nothing_make_room() {
    let sim = Simulation::new(60);
    let b = know(sim.node_with("b", |config| config.with_inbound_associations_max(50)));
    for n in 0..500 {
        let stranger = sim.stranger(b.authority());
        let _taken =
            stranger.write(&hello(ours(), &request_from(&format!("10.{}.{}.1", n / 250, n % 250), &b)));
        sim.run(ms(10));
        drop(stranger);
        sim.run(ms(10));
        assert!(b.remoting().associations() <= 50);
    }
    let a = know(sim.node("a"));
    let ear = probe(b.system(), "ear");
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    sim.run(s(2));
    assert_eq!(numbers(&ear), [1]);
}

/// Asks on behalf of another: the question goes on with its reply.
struct Errand(ActorRef<Talk>, fn(u64, Reply<u64>) -> Talk);

impl Actor for Errand {
    type Msg = Talk;
    async fn receive(&mut self, talk: Talk, _: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if let Talk::Echo(n, reply) = talk {
            self.0.tell((self.1)(n, reply));
        }
        Ok(())
    }
}

/// A question that was passed on makes an association with its asker's node when it is answered, or dropped, and
/// not before.
#[test]
fn a_reply_to_a_third_node_makes_its_association_when_it_is_used() {
    for kept in [false, true] {
        let (sim, [a, b, c]) = nodes(61, ["a", "b", "c"]);
        let parrot = parrot(c.system(), "parrot");
        let then = if kept { |_, reply| Talk::Keep(reply) } else { |n, reply| Talk::Echo(n, reply) };
        let to_c = far(&b, &c, "/user/parrot");
        let errand = Props::from_fn(move || Errand(to_c.clone(), then));
        b.system().spawn("errand", errand).unwrap();
        let ask = far(&a, &b, "/user/errand").ask(|r| Talk::Echo(7, r)).timeout(s(600));
        if kept {
            sim.run(s(5));
            assert_eq!(c.remoting().associations(), 1, "only b's");
            parrot.stop();
            assert_eq!(sim.wait(s(5), ask), Some(Err(AskError::NoReply)));
        } else {
            assert_eq!(sim.wait(s(5), ask), Some(Ok(7)));
        }
        assert_eq!(c.remoting().associations(), 2, "kept {kept}");
        assert!(c.is_connected_to(&a));
    }
}

/// A message may hold references to nodes without number; those that are used become associations.
#[test]
fn a_reference_to_a_third_node_makes_its_association_when_it_is_used() {
    let (sim, [a, b, c]) = nodes(62, ["a", "b", "c"]);
    let (at_a, at_c) = (probe(a.system(), "ear"), probe(c.system(), "ear"));
    let to_c = far(&b, &c, "/user/ear");
    for n in 0..1_000 {
        let nowhere = format!("fraktor.loopback://x@10.1.{}.{}:1/user/x", n / 250, n % 250);
        to_c.tell(Talk::Use(b.system().resolve(&nowhere).unwrap(), n));
    }
    to_c.tell(Talk::Use(far(&b, &a, "/user/ear"), 0));
    sim.run(s(2));
    let mut named = at_c.take_messages();
    assert_eq!((named.len(), c.remoting().associations()), (1_001, 1), "only b's");
    let Some(Talk::Use(to_a, _)) = named.pop() else { panic!("{named:?}") };
    assert_eq!(to_a.path().address().authority.as_ref(), Some(a.authority()));
    for n in 0..3 {
        to_a.tell(Talk::Say(n));
    }
    at_c.watch(&to_a);
    sim.run(s(2));
    assert_eq!((numbers(&at_a), c.remoting().associations()), (vec![0, 1, 2], 2));
    at_a.stop();
    sim.run(s(2));
    assert_eq!(at_c.take_terminations().len(), 1);
}

/// What is sent by such a reference when there may be no more associations is refused, and nothing else is.
#[test]
fn a_named_node_beyond_the_limit_is_refused_to_its_sender() {
    let sim = Simulation::new(63);
    let (a, b) = (know(sim.node("a")), know(sim.node("b")));
    let c = know(sim.node_with("c", |config| config.with_inbound_associations_max(1)));
    let (at_a, at_c) = (probe(a.system(), "ear"), probe(c.system(), "ear"));
    far(&b, &c, "/user/ear").tell(Talk::Use(far(&b, &a, "/user/ear"), 0));
    sim.run(s(2));
    let Some(Talk::Use(to_a, _)) = at_c.take_messages().pop() else { panic!() };
    let refused = to_a.try_tell(Talk::Say(1)).expect_err("b has the only place").refusal;
    assert_eq!(refused.reason(), DeadLetterReason::Limit);
    at_c.watch(&to_a);
    sim.run(s(1));
    let told = at_c.take_terminations();
    assert_eq!(told.first().map(|t| &t.1), Some(&nexus_actor_core::TerminationReason::Limit), "{told:?}");
    // What this node resolves by itself has its own room, and the reference finds it.
    let own = far(&c, &a, "/user/ear");
    own.tell(Talk::Say(2));
    to_a.tell(Talk::Say(3));
    sim.run(s(2));
    assert_eq!(numbers(&at_a), [2, 3]);
}

/// A peer that is refused gets to read why although it goes on sending, and one that never stops is cut off.
#[test]
fn who_is_refused_can_read_why() {
    let sim = Simulation::new(7);
    let b = know(sim.node_with("b", |config| config.with_blocked_systems(["stranger"])));
    let (stranger, refused) = dial_as(&sim, &b, "10.0.2.1");
    assert_eq!(refused, Some(RefuseReason::Blocked));
    // Closing while bytes are unread would reset the connection, and the refusal might go with it.
    for _ in 0..9 {
        assert_eq!(stranger.write(&[0; 100]), Some(100));
        sim.run(ms(100));
    }
    sim.run(ms(200));
    assert_eq!(stranger.write(&[0; 100]), None);
    assert_eq!(b.remoting().tasks(), 1, "only the listener runs");
}

/// Covers: S144
#[test]
fn a_storm_of_refused_peers_is_a_few_events_with_counts() {
    let sim = Simulation::new(144);
    let b = know(sim.node_with("b", |config| config.with_blocked_systems(["stranger"])));
    let heard = || {
        let mut heard = Vec::new();
        for (_, event) in b.lifecycle() {
            if let Event::Refused { authority, by: RefusedBy::Us, held_back, .. } = event {
                heard.push((authority.host().to_string(), held_back));
            }
        }
        heard
    };
    for _ in 0..100 {
        assert_eq!(dial_as(&sim, &b, "10.0.3.1").1, Some(RefuseReason::Blocked));
        sim.run(ms(50));
    }
    assert_eq!(dial_as(&sim, &b, "10.0.3.2").1, Some(RefuseReason::Blocked));
    assert_eq!(heard(), [("10.0.3.1".into(), 0), ("10.0.3.2".into(), 0)]);
    sim.run(s(30));
    assert_eq!(dial_as(&sim, &b, "10.0.3.1").1, Some(RefuseReason::Blocked));
    assert_eq!(heard()[2..], [("10.0.3.1".into(), 99)]);
}

/// L25: below, at and above the dials under way; who waits has its turn in the order of asking.
#[test]
fn so_many_dials_are_under_way_and_others_wait_their_turn() {
    for (most, count) in [(4, 3), (4, 4), (4, 9), (1, 5), (64, 70)] {
        let sim = Simulation::new(25);
        let a = know(sim.node_with("a", |config| config.with_dials_in_flight_max(most)));
        let peers: Vec<_> = (0..count).map(|n| know(sim.node(&format!("p{n}")))).collect();
        let ears: Vec<_> = peers.iter().map(|peer| probe(peer.system(), "ear")).collect();
        a.link().set_dials(DialFate::Hold);
        for (n, peer) in (0..).zip(&peers) {
            far(&a, peer, "/user/ear").tell(Talk::Say(n));
            sim.settle();
            assert_eq!(a.link().counts().live, u64::from(most).min(n + 1), "dials under way");
        }
        sim.run(s(1));
        assert_eq!(a.link().counts().live, u64::from(most).min(count), "dials under way");
        a.link().set_dials(DialFate::Pass);
        sim.run(s(1));
        for (n, ear) in (0..).zip(&ears) {
            assert_eq!(numbers(ear), [n]);
        }
        let connected: Vec<_> = a
            .lifecycle()
            .into_iter()
            .filter_map(|(_, event)| match event {
                Event::Connected { authority, .. } => Some(authority),
                _ => None,
            })
            .collect();
        let asked: Vec<_> = peers.iter().map(|peer| peer.authority().clone()).collect();
        assert_eq!(connected.len(), asked.len());
        let first = most as usize;
        if count > u64::from(most) {
            assert_eq!(connected[first..], asked[first..], "in the order of asking");
        }
    }
}

/// Nobody is given up before its turn has come, however many dead addresses there are; nobody waits for ever.
#[test]
fn many_dead_addresses_are_each_tried() {
    const COUNT: usize = 100;
    let sim = Simulation::new(26);
    let a = know(sim.node_with("a", |config| config.with_dials_in_flight_max(4)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    a.link().set_dials(DialFate::Hold);
    for n in 0..COUNT {
        let nowhere: ActorRef<Talk> =
            a.system().resolve(&format!("fraktor.loopback://x@10.2.0.{n}:1/user/x")).unwrap();
        nowhere.tell(Talk::Say(0));
    }
    for _ in 0..300 {
        sim.run(s(1));
        assert!(a.link().counts().live <= 4);
    }
    let mut tried: Vec<_> = a
        .lifecycle()
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Gated { authority, .. } => Some(authority.host().to_string()),
            _ => None,
        })
        .collect();
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), COUNT, "each was dialled");
    assert_eq!(a.lost(DeadLetterReason::Unreachable), COUNT, "and given up in the end");
    assert_eq!(a.link().counts().live, 0);
    a.link().set_dials(DialFate::Pass);
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [1]);
}

/// Dials that fail at once, one inside the turn of another, end in their order and leave no place taken.
#[test]
fn dials_that_fail_at_once_take_no_place() {
    let sim = Simulation::new(27);
    let a = know(sim.node_with("a", |config| config.with_dials_in_flight_max(2)));
    let b = know(sim.node("b"));
    let ear = probe(b.system(), "ear");
    a.link().set_dials(DialFate::Hold);
    for n in 0..2_000 {
        let nowhere = format!("fraktor.loopback://x@10.3.{}.{}:1/user/x", n / 250, n % 250);
        a.system().resolve::<Talk>(&nowhere).unwrap().tell(Talk::Say(0));
    }
    sim.settle();
    a.link().set_dials(DialFate::Refuse);
    sim.run(s(60));
    assert_eq!(a.link().counts().live, 0);
    a.link().set_dials(DialFate::Pass);
    far(&a, &b, "/user/ear").tell(Talk::Say(1));
    sim.run(s(1));
    assert_eq!(numbers(&ear), [1]);
}

/// Two systems that are said to live at one address are dialled one after the other.
#[test]
fn one_address_is_dialled_once_at_a_time() {
    let (sim, [a, b]) = nodes(28, ["a", "b"]);
    a.link().set_dials(DialFate::Hold);
    for name in ["b", "other", "third"] {
        let url = b.url("/user/ear").replace("://b@", &format!("://{name}@"));
        a.system().resolve::<Talk>(&url).unwrap().tell(Talk::Say(0));
    }
    sim.run(s(1));
    assert_eq!(a.link().counts().live, 1);
    a.link().set_dials(DialFate::Pass);
    sim.run(s(2));
    assert_eq!(a.link().counts().dialled, 3);
}
