//! Two kinds of wire at once: what goes by manifest and what goes by the names of protobuf types, and questions that
//! are passed on from the one to the other. The wires are calls; what is written and read is real.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::{Context as TaskContext, Poll};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde::{Deserialize, Serialize};

use crate::kit::*;
use nexus_actor_core::ask::RELAY_TIMEOUT;
use nexus_actor_core::path::{ActorPath, ActorPathScheme, Address};
use nexus_actor_core::pid::Pid;
use nexus_actor_core::remote::{
    ActorRefProvider, Encode, PendingReply, ReplyKey, ReplyTo, Route, Wire as Kind,
};
use nexus_actor_core::runtime::PumpRuntime;
use nexus_actor_core::serialization::scope::{self, DecodeScope, LiftedReply};
use nexus_actor_core::serialization::{
    Aftermath, DecodeError, Decoder, EncodeError, Encoder, Message, Named, ProtobufCodec, ProtobufForm,
    SerializerId, TypeName,
};
use nexus_actor_core::*;

/// A message of both wires, written by hand.
#[derive(Debug, Serialize, Deserialize)]
enum Talk {
    Note(String),
    Ask(String, Reply<String>),
    Count(i64, Reply<i64>),
    Here(u8),
}

impl Message for Talk {
    const MANIFEST: &'static str = "lab.talk@1";
    const PROTOBUF: Option<ProtobufCodec<Self>> = Some(ProtobufCodec {
        forms: const {
            &[
                ProtobufForm::tell_of::<String>(),
                ProtobufForm::ask_of::<String>(),
                ProtobufForm::ask_of::<i64>(),
            ]
        },
        encode: |message, encoder| match message {
            Self::Note(text) => encoder.protobuf(text),
            Self::Ask(text, reply) => encoder.protobuf(text).and_then(|()| encoder.reply_protobuf(reply)),
            Self::Count(by, reply) => encoder.protobuf(by).and_then(|()| encoder.reply_protobuf(reply)),
            Self::Here(_) => Err(EncodeError::failed("it stays here")),
        },
        decode: |named| match named {
            named if named.is::<String>() && named.has_sender => {
                named.protobuf().map(|text| Self::Ask(text, Reply::protobuf()))
            }
            named if named.is::<String>() => named.protobuf().map(Self::Note),
            named if named.is::<i64>() => named.protobuf().map(|by| Self::Count(by, Reply::protobuf())),
            named => Err(named.unknown::<Self>()),
        },
    });
    fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
        encoder.postcard(self)
    }
    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        decoder.postcard()
    }
}

/// One direction between two systems.
struct Link {
    me: Weak<Link>,
    kind: Kind,
    from: ActorSystem,
    to: ActorSystem,
    address: Address,
    /// Whether askers on it have a pid.
    named: bool,
    /// The other direction.
    back: OnceLock<Weak<Link>>,
    paths: Mutex<Vec<(ActorPath, &'static str)>>,
    asks: Mutex<BTreeMap<u32, Arc<dyn PendingReply>>>,
    next: AtomicU32,
    /// Refuses what it has encoded.
    full: AtomicBool,
    /// Answers by itself, before the sender is through.
    quick: AtomicBool,
    /// Payloads that went this way, by type or manifest.
    sent: Mutex<Vec<String>>,
}

/// The payload, its protobuf type and the reply.
type Encoded = (Vec<u8>, Option<TypeName>, Option<LiftedReply>);

impl Link {
    /// Both directions between `a` and `b`, who are reached at these addresses.
    fn pair(kind: Kind, named: bool, a: (&ActorSystem, &str), b: (&ActorSystem, &str)) -> [Arc<Self>; 2] {
        let one = |from: &ActorSystem, to: &ActorSystem, address: &str| {
            Arc::new_cyclic(|me: &Weak<Self>| Self {
                me: me.clone(),
                kind,
                from: from.clone(),
                to: to.clone(),
                address: address.parse().unwrap(),
                named,
                back: OnceLock::new(),
                paths: Mutex::default(),
                asks: Mutex::default(),
                next: AtomicU32::new(1),
                full: AtomicBool::new(false),
                quick: AtomicBool::new(false),
                sent: Mutex::default(),
            })
        };
        let (there, back) = (one(a.0, b.0, b.1), one(b.0, a.0, a.1));
        there.back.set(Arc::downgrade(&back)).unwrap();
        back.back.set(Arc::downgrade(&there)).unwrap();
        [there, back]
    }

    fn back(&self) -> Arc<Self> {
        self.back.get().and_then(Weak::upgrade).expect("both directions live")
    }

    fn encode(encode: Encode<'_>) -> Result<Encoded, Refusal> {
        let (mut payload, mut type_name) = (Vec::new(), None);
        let (written, lifted) = scope::encode(|| {
            let mut encoder = Encoder::new(&mut payload, 1000);
            encode(&mut encoder)?;
            type_name = encoder.type_name();
            Ok::<(), EncodeError>(())
        })
        .expect("not nested");
        written.map_err(|error| Refusal::Encode(error.to_string()))?;
        Ok((payload, type_name, lifted))
    }

    fn log(&self, type_name: Option<TypeName>, other: &str) -> String {
        let name = type_name.map_or_else(|| other.to_string(), |name| name.to_string());
        self.sent.lock().unwrap().push(name.clone());
        name
    }

    fn waiting(&self) -> usize {
        self.asks.lock().unwrap().len()
    }

    fn take(&self, key: ReplyKey) -> Option<Arc<dyn PendingReply>> {
        self.asks.lock().unwrap().remove(&key.slot)
    }
}

impl Route for Link {
    fn address(&self) -> &Address {
        &self.address
    }
    fn wire(&self) -> Kind {
        self.kind
    }
    fn system(&self) -> Option<ActorSystem> {
        Some(self.from.clone())
    }
    fn sender_pid(&self) -> Option<Pid> {
        self.named.then(|| Pid::new("h:1", "future$1"))
    }
    fn intern(&self, path: &ActorPath, _: SerializerId, manifest: &'static str) -> Result<u32, Refusal> {
        let mut paths = self.paths.lock().unwrap();
        paths.push((path.clone(), manifest));
        Ok(paths.len() as u32 - 1)
    }
    fn release(&self, _: u32) {}
    fn send(&self, recipient: u32, headers: Option<&Headers>, encode: Encode<'_>) -> Result<(), Refusal> {
        let (payload, type_name, lifted) = Self::encode(encode)?;
        if self.full.load(Ordering::Relaxed) {
            return Err(Refusal::Unreachable);
        }
        let (path, manifest) = self.paths.lock().unwrap()[recipient as usize].clone();
        let name = self.log(type_name, manifest);
        let mut asked = None;
        let reply_to = lifted.map(|lifted| match lifted {
            LiftedReply::Pending(ask) => {
                let slot = self.next.fetch_add(1, Ordering::Relaxed);
                let key = ReplyKey { secret: 0, slot };
                self.asks.lock().unwrap().insert(slot, ask.clone());
                asked = Some((ask, key));
                ReplyTo { route: self.back(), key, correlation_id: CorrelationId::NIL }
            }
            LiftedReply::Foreign(foreign) => {
                foreign.passed_on();
                foreign.to
            }
        });
        if self.quick.load(Ordering::Relaxed)
            && let Some(to) = &reply_to
        {
            let answer = "quick".to_string();
            let encode: Encode<'_> = match self.kind {
                Kind::Native => &mut |encoder| encoder.postcard(&answer),
                Kind::Protobuf => &mut |encoder| encoder.protobuf(&answer),
            };
            to.route.reply(to.key, to.correlation_id, encode)?;
            let (ask, key) = asked.expect("it was not passed on");
            ask.pending_at(Some((self.me.upgrade().unwrap(), key)));
            return Ok(());
        }
        let me: Arc<dyn Route> = self.back();
        let has_sender = reply_to.is_some();
        let _scope = DecodeScope::enter(&self.to, Some(me.clone()));
        scope::set_reply_to(reply_to);
        let registry = self.to.serialization();
        match self.to.find(path.elements()) {
            Some(found) => {
                let headers = headers.cloned();
                let mut inlet = match self.kind {
                    Kind::Native => registry.inlet(&name, &found, &me).expect("it takes this type"),
                    Kind::Protobuf => registry.protobuf_inlet(&found, &me).expect("it takes this type"),
                };
                match self.kind {
                    Kind::Native => inlet.decode(&payload, headers).expect("it is one"),
                    Kind::Protobuf => {
                        let serializer = SerializerId::PROTOBUF;
                        let named = Named { type_name: &name, serializer, payload: &payload, has_sender };
                        inlet.decode_named(&named, headers).expect("it is one");
                    }
                }
                let mut after = Aftermath::new();
                inlet.flush(&mut after);
                after.run();
            }
            None => {
                if let Some(to) = scope::take_reply_to() {
                    to.route.reply_failed(to.key, to.correlation_id, AskError::NoSuchActor);
                }
            }
        }
        if let Some((ask, key)) = asked {
            ask.pending_at(Some((self.me.upgrade().unwrap(), key)));
        }
        Ok(())
    }
    fn poll_room(&self, _: &mut TaskContext<'_>) -> Poll<()> {
        Poll::Ready(())
    }
    fn reply(&self, to: ReplyKey, _: CorrelationId, encode: Encode<'_>) -> Result<(), Refusal> {
        let (payload, type_name, _) = Self::encode(encode)?;
        let name = self.log(type_name, "answer");
        let Some(ask) = self.back().take(to) else { return Ok(()) };
        let _scope = DecodeScope::enter(&self.to, None);
        match self.kind {
            Kind::Native => ask.complete(&payload).expect("it is one"),
            Kind::Protobuf => {
                let serializer = SerializerId::PROTOBUF;
                let named = Named { type_name: &name, serializer, payload: &payload, has_sender: false };
                ask.complete_named(&named).expect("it is one");
            }
        }
        Ok(())
    }
    fn reply_failed(&self, to: ReplyKey, _: CorrelationId, why: AskError) {
        if let Some(ask) = self.back().take(to) {
            ask.fail(why);
        }
    }
    fn forget(&self, key: ReplyKey) {
        drop(self.take(key));
    }
    fn watch(&self, _: &ActorPath, _: AnyRef) {}
    fn unwatch(&self, _: &ActorPath, _: &AnyRef) {}
    fn stop(&self, _: &ActorPath) {}
    fn lookup(&self, _: &ActorPath, _: &'static str, found: Arc<dyn PendingReply>) {
        found.fail(AskError::Unreachable);
    }
}

/// Finds the links of one system on one wire.
struct Provider {
    kind: Kind,
    own: Address,
    links: Mutex<Vec<Arc<Link>>>,
}

impl ActorRefProvider for Provider {
    fn canonical_address(&self) -> Option<Address> {
        Some(self.own.clone())
    }
    fn serves(&self, scheme: &ActorPathScheme) -> bool {
        (*scheme == ActorPathScheme::Protoactor) == (self.kind == Kind::Protobuf)
    }
    fn route(&self, _: &ActorSystem, address: &Address) -> Result<Arc<dyn Route>, Refusal> {
        let links = self.links.lock().unwrap();
        let link = links.iter().find(|link| link.address.authority == address.authority);
        link.cloned().map(|link| link as _).ok_or(Refusal::Unreachable)
    }
}

/// Nodes on one clock, each reached at port `10 * number` natively and at `10 * number + 1` by protobuf.
struct World {
    pump: PumpRuntime,
    systems: Vec<ActorSystem>,
    providers: Vec<[Arc<Provider>; 2]>,
}

fn address(kind: Kind, node: usize) -> String {
    match kind {
        Kind::Native => format!("fraktor.tcp://node{node}@10.0.0.1:{}", 10 * node),
        Kind::Protobuf => format!("protoactor://10.0.0.1:{}", 10 * node + 1),
    }
}

impl World {
    fn new(nodes: usize) -> Self {
        let pump = PumpRuntime::new();
        let (mut systems, mut providers) = (Vec::new(), Vec::new());
        for node in 0..nodes {
            let builder = ActorSystem::builder(format!("node{node}"));
            let system = builder.with_runtime(pump.clone()).with_seed(node as u64 + 1).build().unwrap();
            system.register::<Talk>().unwrap();
            let both = [Kind::Native, Kind::Protobuf].map(|kind| {
                let own = address(kind, node).parse().unwrap();
                Arc::new(Provider { kind, own, links: Mutex::default() })
            });
            for provider in &both {
                system.add_actor_ref_provider(provider.clone());
            }
            systems.push(system);
            providers.push(both);
        }
        pump.run_until_idle();
        Self { pump, systems, providers }
    }

    /// Connects two nodes; gives the way from `a` to `b`.
    fn connect(&self, kind: Kind, named: bool, a: usize, b: usize) -> Arc<Link> {
        let [there, back] = Link::pair(
            kind,
            named,
            (&self.systems[a], &address(kind, a)),
            (&self.systems[b], &address(kind, b)),
        );
        let place = kind as usize;
        self.providers[a][place].links.lock().unwrap().push(there.clone());
        self.providers[b][place].links.lock().unwrap().push(back);
        there
    }

    fn resolve(&self, from: usize, kind: Kind, to: usize) -> ActorRef<Talk> {
        self.systems[from].resolve(&format!("{}/user/talk", address(kind, to))).expect("it is a path")
    }

    fn spawn(&self, node: usize, props: Props<Talker>) -> ActorRef<Talk> {
        let talk = self.systems[node].spawn("talk", props).unwrap();
        self.pump.run_until_idle();
        talk
    }

    #[track_caller]
    fn wait<T: Send + 'static>(&self, ask: Ask<T>) -> Result<T, AskError> {
        self.pump.block_on(Duration::from_secs(3600), ask).expect("it ends")
    }
}

/// Answers, or passes on.
struct Talker {
    log: Log,
    next: Option<ActorRef<Talk>>,
    keeps: bool,
    kept: Vec<Reply<String>>,
}

fn talker(log: &Log) -> Props<Talker> {
    let log = log.clone();
    Props::from_fn(move || Talker { log: log.clone(), next: None, keeps: false, kept: Vec::new() })
}

/// Keeps questions for ever.
fn keeper(log: &Log) -> Props<Talker> {
    let log = log.clone();
    Props::from_fn(move || Talker { log: log.clone(), next: None, keeps: true, kept: Vec::new() })
}

/// Passes questions on.
fn passing(log: &Log, next: &ActorRef<Talk>) -> Props<Talker> {
    let (log, next) = (log.clone(), next.clone());
    Props::from_fn(move || Talker {
        log: log.clone(),
        next: Some(next.clone()),
        keeps: false,
        kept: Vec::new(),
    })
}

impl Actor for Talker {
    type Msg = Talk;
    async fn receive(&mut self, message: Talk, cx: &mut Context<'_, Self>) -> Done {
        match (message, &self.next) {
            (Talk::Ask(text, reply), Some(next)) => {
                if let Err(error) = next.try_tell(Talk::Ask(text + ">", reply)) {
                    let Talk::Ask(_, reply) = error.message else { unreachable!("as it was given") };
                    reply.send(format!("refused: {}", error.refusal));
                }
            }
            (Talk::Ask(_, reply), None) if self.keeps => self.kept.push(reply),
            (Talk::Ask(text, reply), None) => {
                self.log.add(&text);
                if text != "drop>" {
                    reply.send(text + "!");
                }
            }
            (Talk::Count(by, reply), _) => reply.send(by + 1),
            (Talk::Note(text), _) => {
                let peer = cx.peer().map_or("here".to_string(), ToString::to_string);
                let trace = cx.headers().and_then(|headers| headers.get("trace")).unwrap_or("");
                self.log.add(format!("{text} {peer}{trace}"));
            }
            (Talk::Here(n), _) => self.log.add(n.to_string()),
        }
        Ok(())
    }
}

const BOTH: [Kind; 2] = [Kind::Native, Kind::Protobuf];

#[test]
fn messages_and_answers_cross_a_wire_that_names_types() {
    let (world, log) = (World::new(2), Log::default());
    let link = world.connect(Kind::Protobuf, true, 0, 1);
    world.spawn(1, talker(&log));
    let talk = world.resolve(0, Kind::Protobuf, 1);
    assert_eq!(talk.path().to_string(), "protoactor://10.0.0.1:11/user/talk");
    talk.tell(Talk::Note("a".into()));
    talk.tell_with_headers(Talk::Note("b".into()), Headers::new().with("trace", "!"));
    assert_eq!(world.wait(talk.ask(|reply| Talk::Ask("c".into(), reply))), Ok("c!".into()));
    assert_eq!(world.wait(talk.ask(|reply| Talk::Count(41, reply))), Ok(42));
    log.expect(&["a protoactor://10.0.0.1:1", "b protoactor://10.0.0.1:1!", "c"]);
    let refused = talk.try_tell(Talk::Here(7)).expect_err("it has no form there");
    assert!(matches!(refused.refusal, Refusal::Encode(why) if why.contains("it stays here")));
    assert!(matches!(refused.message, Talk::Here(7)));
    let wrapper = |name: &str| format!("google.protobuf.{name}");
    let (text, number) = (wrapper("StringValue"), wrapper("Int64Value"));
    let sent = link.sent.lock().unwrap().clone();
    assert_eq!(sent, [text.clone(), text.clone(), text.clone(), number.clone()]);
    assert_eq!(*link.back().sent.lock().unwrap(), [text, number]);
    assert_eq!(link.waiting(), 0);
}

/// An asker on either wire is answered by a node on either, however the question is passed on.
#[test]
fn a_question_that_is_passed_on_to_the_other_wire_is_answered() {
    for (first, second) in BOTH.into_iter().flat_map(|first| BOTH.map(|second| (first, second))) {
        for named in [true, false] {
            let (world, log) = (World::new(3), Log::default());
            let one = world.connect(first, named, 0, 1);
            let two = world.connect(second, named, 1, 2);
            world.spawn(2, talker(&log));
            let last = world.resolve(1, second, 2);
            world.spawn(1, passing(&log, &last));
            let ask = world.resolve(0, first, 1).ask(|reply| Talk::Ask("a".into(), reply));
            assert_eq!(world.wait(ask), Ok("a>!".into()), "{first:?} {second:?} {named}");
            assert_eq!((one.waiting(), two.waiting()), (0, 0), "{first:?} {second:?}");
            // Where the last node can name the asker, the answer does not come back through the middle.
            let direct = first == second && (first == Kind::Native || named);
            assert_eq!(two.back().sent.lock().unwrap().is_empty(), direct, "{first:?} {second:?} {named}");
        }
    }
}

#[test]
fn a_question_that_is_passed_on_and_not_answered_says_why() {
    for (first, second) in [(Kind::Native, Kind::Protobuf), (Kind::Protobuf, Kind::Native)] {
        let (world, log) = (World::new(3), Log::default());
        let _one = world.connect(first, true, 0, 1);
        let two = world.connect(second, true, 1, 2);
        let last = world.resolve(1, second, 2);
        world.spawn(1, passing(&log, &last));
        let talk = world.resolve(0, first, 1);
        let ask = |text: &str| world.wait(talk.ask(|reply| Talk::Ask(text.into(), reply)));
        assert_eq!(ask("nobody"), Err(AskError::NoSuchActor), "{first:?}");
        world.spawn(2, talker(&log));
        assert_eq!(ask("drop"), Err(AskError::NoReply), "{first:?}");
        // Refused after it was encoded: the right to answer is where it was.
        two.full.store(true, Ordering::Relaxed);
        assert_eq!(ask("full"), Ok("refused: unreachable".into()), "{first:?}");
        assert_eq!(two.waiting(), 0, "{first:?}");
    }
}

/// A peer that never answers, and never says that it will not, costs a place for a while only.
#[test]
fn a_question_that_was_passed_on_is_given_up_in_the_end() {
    for (first, second) in [(Kind::Native, Kind::Protobuf), (Kind::Protobuf, Kind::Native)] {
        let (world, log) = (World::new(3), Log::default());
        let one = world.connect(first, true, 0, 1);
        let two = world.connect(second, true, 1, 2);
        world.spawn(2, keeper(&log));
        let last = world.resolve(1, second, 2);
        world.spawn(1, passing(&log, &last));
        let talk = world.resolve(0, first, 1);
        let ask = talk.ask(|reply| Talk::Ask("a".into(), reply)).timeout(10 * RELAY_TIMEOUT);
        world.pump.run_until_idle();
        assert_eq!((one.waiting(), two.waiting()), (1, 1));
        let began = world.systems[0].now();
        assert_eq!(world.wait(ask), Err(AskError::Timeout { after: RELAY_TIMEOUT }));
        assert!(world.systems[0].now() - began <= RELAY_TIMEOUT + Duration::from_millis(100));
        assert_eq!((one.waiting(), two.waiting()), (0, 0));

        // One that is dropped with the connection is told at once.
        let ask = talk.ask(|reply| Talk::Ask("b".into(), reply)).timeout(10 * RELAY_TIMEOUT);
        world.pump.run_until_idle();
        two.asks.lock().unwrap().clear();
        let began = world.systems[0].now();
        assert_eq!(world.wait(ask), Err(AskError::NoReply));
        assert!(world.systems[0].now() - began < Duration::from_secs(1));
    }
}

/// A deadline of the middle node does not outlive the answer, however fast that was.
#[test]
fn an_answered_question_leaves_no_deadline_behind() {
    for quick in [false, true] {
        let (world, log) = (World::new(3), Log::default());
        let _one = world.connect(Kind::Protobuf, true, 0, 1);
        let two = world.connect(Kind::Native, true, 1, 2);
        two.quick.store(quick, Ordering::Relaxed);
        world.spawn(2, talker(&log));
        let last = world.resolve(1, Kind::Native, 2);
        world.spawn(1, passing(&log, &last));
        let talk = world.resolve(0, Kind::Protobuf, 1);
        let scheduled = world.systems[1].scheduler().pending();
        for _ in 0..100 {
            let answer = world.wait(talk.ask(|reply| Talk::Ask("a".into(), reply)));
            assert_eq!(answer, Ok(if quick { "quick" } else { "a>!" }.into()));
        }
        assert_eq!(world.systems[1].scheduler().pending(), scheduled, "{quick}");
    }
}

/// Nobody asked, so the answer goes nowhere; the message itself goes on all the same.
#[test]
fn a_reply_to_nobody_can_be_passed_on_too() {
    for second in BOTH {
        let (world, log) = (World::new(3), Log::default());
        let _two = world.connect(second, true, 1, 2);
        let link: Arc<dyn Route> = world.connect(Kind::Protobuf, true, 0, 1);
        world.spawn(2, talker(&log));
        let last = world.resolve(1, second, 2);
        let middle = world.spawn(1, passing(&log, &last));
        let system = &world.systems[1];
        let mut inlet = system.serialization().protobuf_inlet(&middle.to_any(), &link).unwrap();
        let mut payload = Vec::new();
        Encoder::new(&mut payload, 100).protobuf(&1_i64).unwrap();
        let number = Named {
            type_name: "google.protobuf.Int64Value",
            serializer: SerializerId::PROTOBUF,
            payload: &payload,
            has_sender: false,
        };
        let Talk::Count(1, reply) = (Talk::PROTOBUF.unwrap().decode)(&number).unwrap() else {
            panic!("it is a number")
        };
        assert!(reply.is_over());
        // As the middle does with a question.
        last.try_tell(Talk::Count(1, reply)).expect("it goes on");
        assert_eq!(inlet.decode_named(&number, None), Ok(()));
        let mut after = Aftermath::new();
        assert_eq!(inlet.flush(&mut after).delivered, 1);
        after.run();
        world.pump.run_until_idle();
    }
}

/// What comes as an answer is read as what was asked for, and its asker hears when it is something else.
#[test]
fn an_answer_of_another_type_or_wire_is_an_error_of_the_ask() {
    let (world, log) = (World::new(2), Log::default());
    world.spawn(1, keeper(&log));
    for kind in BOTH {
        let link = world.connect(kind, true, 0, 1);
        let talk = world.resolve(0, kind, 1);
        let text = |type_name| Named {
            type_name,
            serializer: SerializerId::PROTOBUF,
            payload: &[],
            has_sender: false,
        };
        let mut texts = Vec::new();
        for by_name in [true, false] {
            let ask = talk.ask(|reply| Talk::Ask("a".into(), reply));
            let (_, pending) = link.asks.lock().unwrap().pop_first().unwrap();
            let _scope = DecodeScope::enter(&world.systems[0], None);
            let told = match by_name {
                true => pending.complete_named(&text("google.protobuf.Int64Value")),
                false => pending.complete(&[9, b'x']),
            };
            told.expect_err("it is none");
            assert!(pending.is_over());
            match world.wait(ask) {
                Err(AskError::Decode(why)) => texts.push(why),
                other => panic!("{other:?}"),
            }
        }
        match kind {
            Kind::Native => {
                assert!(texts[0].contains("takes none from a protobuf wire"), "{texts:?}");
                assert!(texts[1].contains("ends early"), "{texts:?}");
            }
            Kind::Protobuf => {
                let expected =
                    "`google.protobuf.Int64Value` came where `google.protobuf.StringValue` is expected";
                assert!(texts[0].contains(expected), "{texts:?}");
                assert!(texts[1].contains("has no type's name"), "{texts:?}");
            }
        }
    }
}

#[test]
fn a_recipient_of_a_protobuf_wire_says_what_it_lacks() {
    /// Crosses the native wire only.
    #[derive(Serialize, Deserialize)]
    struct Plain(u8);
    impl Message for Plain {
        const MANIFEST: &'static str = "lab.plain@1";
        fn encode(&self, encoder: &mut Encoder<'_>) -> Result<(), EncodeError> {
            encoder.postcard(self)
        }
        fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
            decoder.postcard()
        }
    }
    struct Idle;
    impl Actor for Idle {
        type Msg = Plain;
        async fn receive(&mut self, _: Plain, _: &mut Context<'_, Self>) -> Done {
            Ok(())
        }
    }
    let world = World::new(2);
    let link: Arc<dyn Route> = world.connect(Kind::Protobuf, true, 0, 1);
    let system = &world.systems[1];
    let idle = system.spawn("idle", Props::from_fn(|| Idle)).unwrap().to_any();
    let open = || match system.serialization().protobuf_inlet(&idle, &link) {
        Ok(_) => panic!("there is no way in"),
        Err(error) => error.to_string(),
    };
    let text = open();
    assert!(text.contains("Plain, which is not registered; call `system.register::<"), "{text}");
    system.register::<Plain>().unwrap();
    let text = open();
    assert!(text.contains("Plain has no form") && text.contains("#[message(protobuf)]"), "{text}");
    // The sender hears it where it makes its reference.
    let refused = world.systems[0].resolve::<Plain>("protoactor://10.0.0.1:11/user/idle").unwrap_err();
    assert!(matches!(refused, ResolveError::NoProtobuf { .. }));
    assert!(refused.to_string().contains("Plain has no form on the protobuf wire"), "{refused}");
    let found = format!("{:?}", system.serialization().lookup("lab.talk@1").unwrap());
    let expected = "[google.protobuf.StringValue, google.protobuf.StringValue with a reply, \
                    google.protobuf.Int64Value with a reply]";
    assert!(found.ends_with(expected), "{found}");
}

/// A payload that cannot be read costs its message, and its asker is told.
#[test]
fn who_asked_with_what_cannot_be_read_is_told() {
    let (world, log) = (World::new(2), Log::default());
    let there = world.connect(Kind::Protobuf, true, 0, 1);
    let talk = world.spawn(1, talker(&log));
    let back: Arc<dyn Route> = there.back();
    let mut inlet = world.systems[1].serialization().protobuf_inlet(&talk.to_any(), &back).unwrap();
    for (type_name, part) in [
        ("google.protobuf.StringValue", "StringValue: "),
        ("lab.Unknown", "no variant that is `lab.Unknown`"),
    ] {
        let ask = world.resolve(0, Kind::Protobuf, 1).ask(|reply| Talk::Ask("a".into(), reply));
        world.systems[1].find("/user/talk").unwrap();
        let slot = *there.asks.lock().unwrap().keys().next().unwrap();
        let key = ReplyKey { secret: 0, slot };
        let _scope = DecodeScope::enter(&world.systems[1], Some(back.clone()));
        scope::set_reply_to(Some(ReplyTo { route: back.clone(), key, correlation_id: CorrelationId::NIL }));
        let named =
            Named { type_name, serializer: SerializerId::PROTOBUF, payload: &[0x0a, 9], has_sender: true };
        inlet.decode_named(&named, None).expect_err("it is none");
        assert_eq!(inlet.pending(), 0);
        drop(_scope);
        match world.wait(ask) {
            Err(AskError::Decode(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Covers: S121
#[test]
fn one_actor_is_reached_under_the_addresses_of_both_wires() {
    let (world, log) = (World::new(2), Log::default());
    let talk = world.spawn(1, talker(&log));
    let system = &world.systems[1];
    assert_eq!(system.address().to_string(), "fraktor.tcp://node1@10.0.0.1:10", "the first provider's");
    let pid = Pid::new("10.0.0.1:11", "talk");
    let mut paths = vec![
        "/user/talk".to_string(),
        "fraktor.tcp://node1@10.0.0.1:10/user/talk".to_string(),
        "protoactor://10.0.0.1:11/user/talk".to_string(),
        "protoactor:///user/talk".to_string(),
        "fraktor://node1/user/talk".to_string(),
        pid.to_path(ActorPathScheme::Protoactor, "").unwrap().to_string(),
        pid.to_path(ActorPathScheme::FraktorTcp, "node1").unwrap().to_string(),
        Pid::new("nonhost", "talk").to_path(ActorPathScheme::Protoactor, "").unwrap().to_string(),
    ];
    paths.push(Pid::from_path(&talk.path()).to_path(ActorPathScheme::Protoactor, "").unwrap().to_string());
    for path in &paths {
        let found = system.resolve::<Talk>(path).expect(path);
        assert!(found.is_local(), "{path}");
        found.tell(Talk::Here(1));
        world.pump.run_until_idle();
        assert_eq!(log.take(), ["1"], "{path}");
    }
    for (address, own) in [
        ("fraktor.tcp://node1@10.0.0.1:10", true),
        ("protoactor://10.0.0.1:10", true),
        ("protoactor://10.0.0.1:12", false),
        ("fraktor.tcp://node0@10.0.0.1:10", false),
        ("fraktor.tcp://node1@10.0.0.1:12", false),
        ("fraktor://node0", false),
    ] {
        assert_eq!(system.is_own(&address.parse().unwrap()), own, "{address}");
    }
}

#[test]
fn providers_come_and_go_while_a_system_runs() {
    let world = World::new(2);
    let (link, other) = (
        world.connect(Kind::Protobuf, true, 0, 1),
        Link::pair(
            Kind::Protobuf,
            true,
            (&world.systems[0], "protoactor://10.0.0.1:1"),
            (&world.systems[1], "protoactor://10.0.0.1:11"),
        ),
    );
    let system = &world.systems[0];
    let path = "protoactor://10.0.0.1:11/user/talk";
    let resolve = |count: &Arc<Link>| {
        let before = count.paths.lock().unwrap().len();
        drop(system.resolve::<Talk>(path).expect("somebody serves it"));
        count.paths.lock().unwrap().len() - before
    };
    assert_eq!(resolve(&link), 1);
    // One more for the same scheme is asked when the first has gone.
    let own = "protoactor://10.0.0.1:1".parse().unwrap();
    let second: Arc<dyn ActorRefProvider> =
        Arc::new(Provider { kind: Kind::Protobuf, own, links: Mutex::new(vec![other[0].clone()]) });
    system.add_actor_ref_provider(second.clone());
    assert_eq!((resolve(&link), resolve(&other[0])), (1, 0));
    let first: Arc<dyn ActorRefProvider> = world.providers[0][1].clone();
    system.remove_actor_ref_provider(&first);
    assert_eq!(resolve(&other[0]), 1);
    system.remove_actor_ref_provider(&second);
    let refused = system.resolve::<Talk>(path).unwrap_err();
    assert!(matches!(refused, ResolveError::NoRemoting { .. }));
    assert!(refused.to_string().contains("`Remote`"), "{refused}");
    let ending = system.clone();
    let ended = world.pump.block_on(Duration::from_secs(60), async move { ending.shutdown().await });
    assert_eq!(ended, Some(Ok(())));
    system.add_actor_ref_provider(second.clone());
    assert_eq!(Arc::strong_count(&second), 1, "a system that has ended keeps none");
}
