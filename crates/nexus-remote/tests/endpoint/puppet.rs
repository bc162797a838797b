//! A node that the test plays by hand: it says what it is told to, frame by frame.

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::{ActorPathScheme, ActorUid, Authority};
use nexus_actor_core::serialization::SerializerId;
use nexus_remote::wire::{
    Ack, Acknowledge, AssociationHandshake, CapabilityFlags, ControlFrame, DefineManifest, DefineReference,
    Envelope, FrameReader, Lane, NodeAddress, OrdinaryFrame, Preamble, RemoteNodeId, Request, SessionLimits,
    SystemMessage, VersionRange, WirePath,
};
use nexus_testkit::{Decoy, SimNode, Simulation, Stranger};

use crate::kit::*;

const LIMITS: SessionLimits =
    SessionLimits { frame_max: 256 * 1024, message_max: 256 * 1024, window_bytes: u32::MAX };

/// The node at `10.0.0.9:port`, where nobody can reach it.
pub(crate) fn at_port(port: u16, uid: u64) -> RemoteNodeId {
    RemoteNodeId::new("stranger", "10.0.0.9", Some(port), ActorUid::new(uid)).unwrap()
}

fn introduce(node: &RemoteNodeId, capabilities: u64, nonce: u64) -> AssociationHandshake {
    AssociationHandshake::new(
        ActorPathScheme::from_name(own_scheme()),
        node.clone(),
        CapabilityFlags::from_bits(capabilities),
        nonce,
        CorrelationId::new(1, 2),
    )
    .unwrap()
}

/// A request as `from` would send it.
pub(crate) fn request_of(from: &RemoteNodeId, to: &SimNode, capabilities: u64) -> Request {
    Request {
        handshake: introduce(from, capabilities, 7),
        to: NodeAddress::of(&to.system().address()).unwrap(),
        session: 0,
        peer_uid: ActorUid::ANY,
        receive_next: 0,
        system_next: 0,
        limits: LIMITS,
    }
}

/// A request as the node at `10.0.0.9:9` would send it.
pub(crate) fn request(to: &SimNode, capabilities: u64) -> Request {
    request_of(&at_port(9, 99), to, capabilities)
}

pub(crate) fn ours() -> VersionRange {
    Preamble::OURS.versions
}

/// The first bytes of a connection.
pub(crate) fn hello(versions: VersionRange, request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    Preamble { versions }.encode(&mut bytes);
    request.encode(&mut bytes);
    bytes
}

/// What an opener sends once it has the answer.
pub(crate) fn confirmation(ack: &Ack) -> ControlFrame {
    ControlFrame::Acknowledge(Acknowledge {
        session: ack.session,
        next: 0,
        credit_messages: u32::MAX,
        credit_bytes: u32::MAX,
    })
}

/// One end of a connection in which the test speaks for a node.
pub(crate) struct Puppet {
    line: Stranger,
    reader: FrameReader,
    /// Ordinary frames heard so far.
    pub(crate) ordinary: u64,
    pub(crate) session: u64,
    /// The node at the other end.
    pub(crate) peer: ActorUid,
}

impl Puppet {
    fn on(line: Stranger) -> Self {
        Self { line, reader: FrameReader::new(), ordinary: 0, session: 0, peer: ActorUid::ANY }
    }

    /// Dials `to` and has said its hello.
    #[track_caller]
    pub(crate) fn dial(sim: &Simulation, to: &SimNode, request: &Request) -> Self {
        let puppet = Self::on(sim.stranger(to.authority()));
        puppet.write(&hello(ours(), request));
        sim.settle();
        puppet
    }

    /// A session with `to`, as the node at `10.0.0.9:port`.
    #[track_caller]
    pub(crate) fn associated(sim: &Simulation, to: &SimNode, port: u16) -> Self {
        let mut puppet = Self::dial(sim, to, &request_of(&at_port(port, u64::from(port)), to, 0));
        match puppet.hear().as_slice() {
            [ControlFrame::Ack(ack)] => {
                let ack = ack.clone();
                puppet.confirm(&ack);
            }
            other => panic!("{other:?}"),
        }
        sim.settle();
        puppet
    }

    /// The connection that a node made to `decoy`, and what it asks for.
    #[track_caller]
    pub(crate) fn dialled(sim: &Simulation, decoy: &Decoy) -> (Self, Request) {
        let mut line = None;
        assert!(
            sim.until(s(10), || {
                line = line.take().or_else(|| decoy.accept());
                line.is_some()
            }),
            "nobody dials"
        );
        let mut puppet = Self::on(line.unwrap());
        sim.settle();
        let heard = puppet.hear();
        match heard.first() {
            Some(ControlFrame::Request(request)) => {
                let request = (**request).clone();
                puppet.peer = request.handshake.node().uid();
                (puppet, request)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the node `uid` at `authority` answers to `request`, beginning session 5.
    pub(crate) fn answer(authority: &Authority, system: &str, uid: u64, request: &Request) -> Ack {
        let node =
            RemoteNodeId::new(system, authority.host(), Some(authority.port()), ActorUid::new(uid)).unwrap();
        Ack {
            handshake: introduce(&node, 0, 22),
            to: request.handshake.node().address().clone(),
            session: 5,
            peer_uid: request.handshake.node().uid(),
            receive_next: 0,
            system_next: 0,
            limits: LIMITS,
            echo: request.handshake.nonce(),
            resumed: false,
        }
    }

    /// From here frames of all lanes are read.
    pub(crate) fn establish(&mut self, session: u64) {
        self.session = session;
        self.reader.established(256 * 1024);
    }

    pub(crate) fn confirm(&mut self, ack: &Ack) {
        self.peer = ack.handshake.node().uid();
        self.establish(ack.session);
        self.say(&confirmation(ack));
    }

    #[track_caller]
    pub(crate) fn write(&self, bytes: &[u8]) {
        assert_eq!(self.line.write(bytes), Some(bytes.len()));
    }

    #[track_caller]
    pub(crate) fn say(&self, frame: &ControlFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.write(&bytes);
    }

    #[track_caller]
    pub(crate) fn say_system(&self, seq: u64, message: SystemMessage) {
        self.say(&ControlFrame::System { seq, message });
    }

    pub(crate) fn watch(&self, seq: u64, path: &str) {
        self.say_system(seq, SystemMessage::Watch { path: WirePath::new(path).unwrap(), uid: ActorUid::ANY });
    }

    pub(crate) fn stop(&self, seq: u64, path: &str) {
        self.say_system(seq, SystemMessage::Stop { path: WirePath::new(path).unwrap(), uid: ActorUid::ANY });
    }

    /// The number `n` for the actor at `path`, as the first frames of a session.
    pub(crate) fn tell_first(&self, path: &str, n: u8) {
        let mut bytes = Vec::new();
        let reference = DefineReference::new(0, ActorUid::ANY, path).unwrap();
        OrdinaryFrame::DefineReference(reference).encode(&mut bytes);
        let manifest = DefineManifest::new(0, SerializerId::POSTCARD, "test.talk@1").unwrap();
        OrdinaryFrame::DefineManifest(manifest).encode(&mut bytes);
        let envelope = Envelope {
            recipient: 0,
            manifest: 0,
            correlation_id: CorrelationId::new(9, 9),
            reply_to: None,
            headers: None,
            // `Talk::Say(n)`.
            payload: &[0, n],
        };
        OrdinaryFrame::Envelope(envelope).encode(&mut bytes);
        self.write(&bytes);
    }

    /// The control frames that came since the last look.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> Vec<ControlFrame> {
        let bytes = self.line.read().unwrap_or_default();
        let (mut at, mut heard) = (0, Vec::new());
        loop {
            at += self.reader.feed(&bytes[at..]);
            while let Some(raw) = self.reader.next_frame().unwrap() {
                if raw.header.kind.lane() == Lane::Ordinary {
                    self.ordinary += 1;
                } else {
                    heard.push(ControlFrame::decode(raw).unwrap());
                }
            }
            if at == bytes.len() {
                return heard;
            }
        }
    }

    /// The system messages that came since the last look, by number.
    #[track_caller]
    pub(crate) fn hear_system(&mut self) -> Vec<(u64, SystemMessage)> {
        self.hear()
            .into_iter()
            .filter_map(|frame| match frame {
                ControlFrame::System { seq, message } => Some((seq, message)),
                _ => None,
            })
            .collect()
    }

    /// What the node acknowledged of system messages since the last look.
    #[track_caller]
    pub(crate) fn hear_acknowledged(&mut self) -> Vec<u64> {
        let session = self.session;
        self.hear()
            .into_iter()
            .filter_map(|frame| match frame {
                ControlFrame::SystemAcknowledge { session: of, next } => {
                    assert_eq!(of, session);
                    Some(next)
                }
                _ => None,
            })
            .collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.line.is_closed()
    }
}
