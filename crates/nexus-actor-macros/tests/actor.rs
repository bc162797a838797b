//! What `#[actor]` writes, used as an application uses it, on the pump and its virtual time.

#![deny(warnings)]

extern crate alloc;
// Generated code looks for `::nexus_actor` unless told otherwise.
extern crate nexus_actor_core as nexus_actor;

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use alloc::sync::Arc;

use nexus_actor::runtime::PumpRuntime;
use nexus_actor::serialization::scope::{self, LiftedReply};
use nexus_actor::serialization::{DecodeError, Decoder, EncodeError, Encoder, Message};
use nexus_actor::{
    ActorError, ActorRef, ActorSystem, AskError, Context, Props, Refusal, Reply, Signal, TellError,
};
use nexus_actor_macros::actor;

/// A type less visible than the generated enum: no warning for the user.
#[derive(Debug, PartialEq)]
struct Ticket(u8);

#[derive(Default)]
struct Tally {
    n: i64,
    waiting: Vec<Reply<i64>>,
    log: Arc<AtomicUsize>,
}

#[actor(manifest = "shop.counter@1", derive(Debug))]
impl Tally {
    /// In the process only, and written first: on the wire it has no number.
    #[message(local)]
    fn admit(&mut self, ticket: Ticket) -> u8 {
        ticket.0
    }

    #[message]
    fn add(&mut self, mut by: i64) {
        by += self.offset();
        self.n += by;
        for reply in self.waiting.drain(..) {
            reply.send(self.n);
        }
    }

    #[message]
    async fn get(&mut self) -> i64 {
        self.n
    }

    #[message]
    async fn save(&mut self, fail: bool) -> Result<(), ActorError> {
        if fail { Err("the disk is full".into()) } else { Ok(()) }
    }

    #[message]
    fn divide(&mut self, by: i64) -> Result<i64, ActorError> {
        self.n.checked_div(by).ok_or_else(|| "division by zero".into())
    }

    #[message]
    fn parse(&self, text: String) -> Result<i64, String> {
        text.parse().map_err(|_| text)
    }

    #[message(ask)]
    fn reset(&mut self) {
        self.n = 0;
    }

    #[message(name = NextChange)]
    fn next(&mut self, reply: Reply<i64>) {
        self.waiting.push(reply);
    }

    /// Fields of the names that the generated code uses itself.
    #[message]
    async fn r#type(&mut self, cx: u8, message: u8, this: &mut Context<'_, Self>) -> String {
        format!("{cx} {message} {}", this.path().name())
    }

    #[message]
    fn join(&mut self, peer: ActorRef<TallyMsg>) {
        peer.tell_add(self.n);
    }

    #[cfg(any())]
    #[message]
    fn not_in_this_build(&mut self, what: Undefined) -> Undefined {
        what
    }

    #[signal]
    async fn on_signal(&mut self, signal: Signal, cx: &mut Context<'_, Self>) -> Result<(), ActorError> {
        if matches!(signal, Signal::Started) {
            self.log.fetch_add(cx.path().name().len(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn offset(&self) -> i64 {
        0
    }
}

fn run<F: Future<Output = ()> + Send + 'static>(
    test: impl FnOnce(ActorSystem, ActorRef<TallyMsg>, Arc<AtomicUsize>) -> F,
) {
    let pump = PumpRuntime::new();
    let system = ActorSystem::builder("test").with_runtime(pump.clone()).build().expect("a system");
    let log = Arc::new(AtomicUsize::new(0));
    let shared = log.clone();
    let props = Props::from_fn(move || Tally { log: shared.clone(), ..Tally::default() });
    let counter = system.spawn("counter", props).expect("a free name");
    pump.block_on(Duration::from_secs(60), test(system, counter, log)).expect("the test to end");
}

#[test]
fn tells_and_asks_reach_their_methods() {
    run(|_, counter, log| async move {
        counter.add(2).await.unwrap();
        counter.tell_add(3);
        assert_eq!(counter.get().await, Ok(5));
        assert_eq!(counter.divide(2).await, Ok(2));
        assert_eq!(counter.parse("7".into()).await, Ok(Ok(7)));
        assert_eq!(counter.parse("x".into()).await, Ok(Err("x".into())));
        assert_eq!(counter.reset().await, Ok(()));
        assert_eq!(counter.get().timeout(Duration::from_secs(30)).await, Ok(0));
        assert_eq!(counter.r#type(1, 2).await, Ok("1 2 counter".into()));
        assert_eq!(counter.admit(Ticket(9)).await, Ok(9));
        assert_eq!(log.load(Ordering::Relaxed), "counter".len(), "one Started with its context");
    });
}

#[test]
fn a_reply_that_the_method_keeps_is_answered_later() {
    run(|_, counter, _| async move {
        let next = counter.next();
        assert_eq!(counter.get().await, Ok(0));
        counter.tell_add(4);
        assert_eq!(next.await, Ok(4));
    });
}

#[test]
fn an_actor_error_is_a_failure_of_the_actor() {
    run(|_, counter, log| async move {
        counter.tell_add(1);
        counter.save(false).await.unwrap();
        assert_eq!(counter.get().await, Ok(1));
        counter.save(true).await.unwrap();
        assert_eq!(counter.get().await, Ok(0), "restarted with new state");
        assert_eq!(counter.divide(0).await, Err(AskError::NoReply));
        assert_eq!(counter.get().await, Ok(0));
        assert_eq!(log.load(Ordering::Relaxed), 3 * "counter".len(), "started anew twice");
    });
}

#[test]
fn a_message_for_a_stopped_actor_comes_back() {
    run(|_, counter, _| async move {
        counter.stop();
        assert!(matches!(counter.get().await, Err(AskError::Stopped)));
        let refused = counter.add(7).await;
        assert!(
            matches!(refused, Err(TellError { message: TallyMsg::Add { by: 7 }, refusal: Refusal::Stopped })),
            "{refused:?}"
        );
    });
}

#[test]
fn references_travel_as_arguments() {
    run(|system, counter, _| async move {
        let other = system.spawn("other", Props::from_fn(Tally::default)).unwrap();
        counter.tell_add(3);
        counter.join(other.clone()).await.unwrap();
        assert_eq!(counter.get().await, Ok(3));
        assert_eq!(other.get().await, Ok(3));
    });
}

fn bytes(message: &TallyMsg) -> (Result<Vec<u8>, EncodeError>, Option<LiftedReply>) {
    let mut out = Vec::new();
    let (written, lifted) =
        scope::encode(|| message.encode(&mut Encoder::new(&mut out, 256))).expect("no encoding under way");
    (written.map(|()| out), lifted)
}

#[test]
fn with_a_manifest_the_messages_cross_a_wire() {
    assert_eq!(TallyMsg::MANIFEST, "shop.counter@1");
    run(|_, counter, _| async move {
        let (written, lifted) = bytes(&TallyMsg::Add { by: -1 });
        assert_eq!(written, Ok(vec![0, 1]), "numbered by its place among those that cross");
        assert!(lifted.is_none());
        let read = TallyMsg::decode(&mut Decoder::new(&[0, 1]));
        assert!(matches!(read, Ok(TallyMsg::Add { by: -1 })), "{read:?}");

        let _ask = counter.ask(|reply| {
            let message = TallyMsg::Divide { by: 1, reply };
            let (written, lifted) = bytes(&message);
            assert_eq!(written, Ok(vec![3, 2]), "the reply is in the envelope");
            assert!(matches!(lifted, Some(LiftedReply::Pending(_))));
            message
        });

        let _ask = counter.ask(|reply| {
            let message = TallyMsg::Admit { ticket: Ticket(1), reply };
            let (written, lifted) = bytes(&message);
            assert!(matches!(written, Err(EncodeError::Failed(_))), "stays here: {written:?}");
            assert!(lifted.is_none());
            message
        });

        let past_the_last = TallyMsg::decode(&mut Decoder::new(&[9, 0]));
        assert!(matches!(past_the_last, Err(DecodeError::Failed(_))), "{past_the_last:?}");
    });
}

/// Everything that `#[actor]` can be told, on messages that need only be `Send`.
mod local {
    use nexus_actor::{Actor, ActorError, Reply};
    use nexus_actor_macros::actor;

    pub(crate) struct Desk<T>(pub(crate) Vec<T>);

    #[actor(crate = ::nexus_actor_core, vis = pub(crate), message = Words, handle = Talk)]
    impl Desk<String> {
        #[message]
        fn run(&mut self, work: Box<dyn FnOnce(&str) -> String + Send>, with: &'static str) {
            self.0.push(work(with));
        }

        #[message]
        fn swap(&mut self, other: Self) -> Result<Self, ActorError> {
            Ok(core::mem::replace(self, other))
        }

        #[message]
        fn ask_later(&self, _reply: Reply<Vec<Self>>) {}
    }

    const _: fn() = || {
        fn is_message_of<A: Actor<Msg = M>, M>() {}
        is_message_of::<Desk<String>, Words>();
    };
}

#[test]
fn without_a_manifest_messages_need_only_be_send() {
    use local::{Desk, Talk};
    run(|system, _, _| async move {
        let desk = system.spawn_anonymous(Props::from_fn(|| Desk(Vec::new()))).unwrap();
        desk.run(Box::new(|text| text.to_uppercase()), "hello").await.unwrap();
        let old = desk.swap(Desk(Vec::new())).await.unwrap();
        assert_eq!(old.0, ["HELLO"]);
        assert!(matches!(desk.ask_later().await, Err(AskError::NoReply)));
    });
}
