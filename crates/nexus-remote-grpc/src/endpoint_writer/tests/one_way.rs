//! What becomes of watches, notices and answers when only one direction's connection breaks, and of calls at their end.

use nexus_actor_core::ActorRef;
use nexus_remote::EndpointConnectedEvent;
use prost::Message as _;
use tokio::time::timeout;

use super::*;
use crate::endpoint_state::EndpointState;
use crate::inbound::peer_watcher::PeerWatch;
use crate::remote::tests::support::raw::{batch, hello, note, sent, server_hello};
use crate::wire::batch::{Incoming, WireForm};
use crate::wire::proto::actor;
use crate::wire::proto::remote::ServerConnection;
use crate::wire::proto::remote::connect_request::ConnectionType;

/// A peer on the wire of Go, of either generation.
const GO: Manners = Manners { is_nexus: false, ..NEXUS };

fn fixed(tries: u32, wait: Duration) -> ConfigOption {
    ConfigOption::with_endpoint_reconnect_policy(ReconnectPolicy::fixed(tries, wait))
}

fn pid(id: &str) -> Option<actor::Pid> {
    Some(actor::Pid { address: PEER.to_owned(), id: id.to_owned(), request_id: 0 })
}

fn watcher(node: &TestNode) -> (ActorRef<Watch>, Heard) {
    let seen = Heard::default();
    let heard = seen.clone();
    let watcher = node.system.spawn("watcher", Props::from_fn(move || Watcher(heard.clone()))).expect("free");
    (watcher, seen)
}

/// Lets all that can run do so.
async fn settle() {
    tokio::time::sleep(ms(1)).await;
}

impl Pair {
    /// A call of the peer, by which an actor of its watches `echo` here; and what it came in by.
    async fn watching_call(&self) -> (Door, RawCall) {
        let door = Door::of(&self.node);
        let call = door.call(server_hello("raw", PEER)).await.expect("it is served");
        let watch = actor::Watch { watcher: pid("watcher") }.encode_to_vec();
        call.send(sent(batch(self.node.remote.address(), "echo", None, &[("actor.Watch", watch)])));
        settle().await;
        assert_eq!(self.node.remote.peer_watches(), 1);
        (door, call)
    }

    /// The types of what the peer got, up to a message that is sent for it now.
    async fn told(&mut self) -> Vec<String> {
        settle().await;
        self.tell(Echo::Count(1));
        let mut told = Vec::new();
        loop {
            for envelope in self.peer.batch().await.envelopes().flatten() {
                if envelope.type_name == "google.protobuf.Int32Value" {
                    return told;
                }
                told.push(envelope.type_name.to_owned());
            }
        }
    }
}

/// A notice may be lost with the call that it came by, and nobody says it again. So whom it watches a peer hears at the end of
/// a call, when a peer of Go opens none by itself, and at the beginning of the next, by which the answer is sure to come: what
/// was said between may have gone the way of the first. Of an answer that comes twice the watcher hears once.
#[tokio::test(start_paused = true)]
async fn a_peer_whose_call_breaks_is_told_again_of_watches() {
    for (manners, said) in [(NEXUS, &["actor.Watch"][..]), (GO, &["actor.Watch", "actor.Touch"])] {
        let form = ConfigOption::with_wire_form(PEER, WireForm::W2);
        let mut pair = Pair::start(local().with([form]), manners).await;
        let door = Door::of(&pair.node);
        let (watcher, seen) = watcher(&pair.node);
        watcher.tell(Watch::Begin(pair.node.at(PEER, "watched")));
        seen.until("the watch", |all| all.len() == 1).await;
        assert_eq!(pair.told().await, said);
        let call = door.call(server_hello("raw", PEER)).await.expect("it is served");
        assert!(pair.told().await.is_empty(), "nothing was lost yet");
        drop(call);
        assert_eq!(pair.told().await, said, "at the end of the call");
        let call = door.call(server_hello("raw", PEER)).await.expect("it is served");
        assert_eq!(pair.told().await, said, "at the beginning of the next");
        // One each for the watches, and what was said of a touch.
        let of_nobody = actor::Terminated { who: pid("watched"), why: 2 }.encode_to_vec();
        for _ in 0..3 {
            let notice = [("actor.Terminated", of_nobody.clone())];
            call.send(sent(batch(pair.node.remote.address(), "$system/protoactor_watcher", None, &notice)));
        }
        seen.until("the end", |all| all.len() > 1).await;
        assert_eq!(
            pair.node.remote.pending_asks(),
            said.len() - 1,
            "one question, however often it was told"
        );
        drop(call);
        assert!(pair.told().await.is_empty(), "nobody is watched any more");
        assert_eq!(seen.all(), ["watching watched", "watched never existed"]);
        pair.node.stop().await;
    }
}

/// The same between two nodes of ours: the notice is in the connection that is cut, and only that one is. A client has but one
/// connection, by which it says itself whom it watches.
///
/// Covers: S49
#[tokio::test(start_paused = true)]
async fn a_notice_that_is_cut_off_on_its_way_is_heard_once() {
    for is_client in [false, true] {
        let config = || local().with([fixed(5, ms(200))]);
        let b = TestNode::start("b", config()).await;
        let a = if is_client {
            TestNode::start_client("a", config()).await
        } else {
            TestNode::start("a", config()).await
        };
        let (there, back) = (Links::join(&a, &b), Links::join(&b, &a));
        let (watcher, seen) = watcher(&a);
        let far = a.far(&b, "echo");
        watcher.tell(Watch::Begin(far.clone()));
        seen.until("the watch", |all| all.len() == 1).await;
        assert!(a.ask(&far, "x").await.is_ok());
        settle().await;
        assert_eq!(b.remote.peer_watches(), 1);
        let way = if is_client { &there } else { &back };
        way.stall();
        settle().await;
        b.system.find("/user/echo").expect("it lives").stop();
        settle().await;
        assert_eq!((b.remote.peer_watches(), seen.len()), (0, 1), "it is on its way");
        way.cut();
        seen.until("the end", |all| all.len() > 1).await;
        tokio::time::sleep(ms(10_000)).await;
        assert_eq!(seen.all(), ["watching echo", "echo never existed"]);
        a.stop().await;
        b.stop().await;
    }
}

/// A peer that cannot be called back hears a goodbye when a notice for it is given up, though it has no watch left here: its
/// own connection stands, and it would wait for good.
#[tokio::test(start_paused = true)]
async fn a_peer_for_whom_a_notice_is_given_up_is_told_goodbye() {
    let pair = Pair::start(local().with([fixed(2, ms(100))]), NEXUS).await;
    pair.refuses.store(true, Ordering::Release);
    let (_door, mut call) = pair.watching_call().await;
    pair.node.system.find("/user/echo").expect("it lives").stop();
    settle().await;
    assert_eq!(pair.node.remote.peer_watches(), 0);
    let heard = timeout(ms(10_000), call.next()).await.expect("a goodbye");
    assert!(matches!(heard, Ok(Some(Incoming::Disconnect))), "{heard:?}");
    pair.node.stop().await;
}

/// Who asks by a connection that stands gets its answer, though the way back is being connected again. That begins at once
/// when it was the asker that came back, and else when it does anyway.
#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_way_back() {
    const WAIT: Duration = ms(5_000);
    for is_both in [true, false] {
        let a = TestNode::start("a", local().with([fixed(5, ms(100))])).await;
        let b = TestNode::start("b", local().with([fixed(5, WAIT)])).await;
        let (there, back) = (Links::join(&a, &b), Links::join(&b, &a));
        let far = a.far(&b, "echo");
        assert!(a.ask(&far, "one").await.is_ok());
        let mut connected = a.events::<EndpointConnectedEvent>();
        let mut attempts = b.events::<EndpointReconnectEvent>();
        let began = Instant::now();
        back.cut();
        if is_both {
            there.cut();
            connected.next("the way there").await;
            assert_eq!(began.elapsed(), ms(100));
        }
        settle().await;
        assert_eq!(a.ask(&far, "two").await.as_deref(), Ok("re:two"));
        let expected = if is_both { ms(101) } else { WAIT };
        assert_eq!((began.elapsed(), attempts.next("an attempt").await.attempt), (expected, 1));
        assert!(attempts.try_next().is_none());
        assert_eq!(b.system.dead_letters().count(DeadLetterReason::Unreachable), 0);
        // What nobody waits for is refused as ever.
        back.cut();
        settle().await;
        b.far(&a, "echo").tell(Echo::Count(1));
        assert_eq!(b.system.dead_letters().count(DeadLetterReason::Unreachable), 1);
        a.stop().await;
        b.stop().await;
    }
}

/// What waits for a peer is recorded when the way to it breaks. The answers wait on, while a call of the peer's own is open.
#[tokio::test(start_paused = true)]
async fn an_answer_in_the_queue_outlives_the_break() {
    let pair = Pair::start(local().with([fixed(2, ms(200))]), Manners { never_reads: true, ..NEXUS }).await;
    let endpoint = pair.endpoint();
    let door = Door::of(&pair.node);
    let mut call = Some(door.call(server_hello("raw", PEER)).await.expect("it is served"));
    let recorded = || pair.node.system.dead_letters().count(DeadLetterReason::Unreachable);
    for is_open in [true, false] {
        // More than the windows of the connection hold.
        for _ in 0..40 {
            pair.tell(Echo::Note("x".repeat(500_000)));
        }
        let question = batch(pair.node.remote.address(), "echo", Some((PEER, "future$1")), &[note("x")]);
        call.as_ref().expect("it is open").send(sent(question));
        settle().await;
        if !is_open {
            call = None;
            settle().await;
        }
        let (waiting, before) = (endpoint.mailbox.state().len as u64, recorded());
        assert!(waiting > 1);
        endpoint
            .apply(|state, now| state.handle_disconnected(now, DisconnectCause::Stream(Arc::from("cut"))));
        settle().await;
        let kept = u64::from(is_open);
        assert_eq!((endpoint.mailbox.state().len as u64, recorded() - before), (kept, waiting - kept));
        tokio::time::sleep(ms(200)).await;
        assert!(endpoint.read(EndpointState::is_linked) && endpoint.mailbox.is_empty());
        assert_eq!(recorded() - before, waiting - kept, "it is sent");
    }
    pair.node.stop().await;
}

/// That a peer cannot be told anything is seen to when the daemon gets to it. By then it may be told again.
#[tokio::test(start_paused = true)]
async fn a_peer_that_is_reached_again_is_not_told_goodbye() {
    let mut pair = Pair::start(local(), NEXUS).await;
    let (_door, mut call) = pair.watching_call().await;
    assert!(pair.told().await.is_empty());
    let endpoint = pair.endpoint();
    let unheard = || endpoint.node().tell_watcher(PeerWatch::Unheard { endpoint: endpoint.clone() });
    unheard();
    assert!(timeout(ms(1_000), call.next()).await.is_err(), "its call goes on");
    endpoint.apply(|state, now| state.handle_disconnected(now, DisconnectCause::PeerLeft));
    unheard();
    let heard = timeout(ms(1_000), call.next()).await.expect("a goodbye");
    assert!(matches!(heard, Ok(Some(Incoming::Disconnect))), "{heard:?}");
    pair.node.stop().await;
}

/// A peer that hangs up in order hears how much was taken, whatever of it it had not heard yet.
///
/// Covers: S108, S142
#[tokio::test(start_paused = true)]
async fn who_hangs_up_hears_how_much_was_taken() {
    let node = TestNode::start("node", local()).await;
    let door = Door::of(&node);
    let first = hello(ConnectionType::ServerConnection(ServerConnection {
        member_id: "raw".to_owned(),
        address: PEER.to_owned(),
        block_list: Vec::new(),
        nexus: Some(super::super::NEXUS),
    }));
    let mut call = door.call(first).await.expect("it is served");
    let began = Instant::now();
    call.send(sent(batch(node.remote.address(), "echo", None, &["a", "b", "c"].map(note))));
    call.hang_up();
    let heard = call.next().await;
    assert!(matches!(heard, Ok(Some(Incoming::Acknowledge(3)))), "{heard:?}");
    assert!(matches!(call.next().await, Ok(None)));
    assert_eq!(began.elapsed(), ms(0));
    node.stop().await;
}

/// A call that comes while the node begins to end, too late for the goodbye to all that there were.
#[tokio::test(start_paused = true)]
async fn a_call_that_meets_the_end_of_the_node_is_not_served() {
    let node: Arc<std::sync::OnceLock<Arc<crate::node::Node>>> = Arc::default();
    let ending = node.clone();
    // What the application looks at comes between the two.
    let config = local().with([ConfigOption::with_server_interceptor(move |request| {
        assert!(ending.get().expect("it is set").begin_closing());
        Ok(request)
    })]);
    let test = TestNode::start("node", config).await;
    assert!(node.set(test.remote.node_for_tests().clone()).is_ok());
    let _known = test.remote.node_for_tests().endpoint(PEER).expect("an address");
    let door = Door::of(&test);
    let status = door.call(server_hello("raw", PEER)).await.err().expect("it is not served");
    assert_eq!(status.code(), Code::Unavailable);
}
