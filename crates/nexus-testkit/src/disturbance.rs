//! What a stream never does: whole frames of the control lane that are lost, doubled or overtaken.

use alloc::vec::Vec;

use nexus_remote::wire::FrameKind;

/// How often frames of the handshake and the control lane suffer, each as a share from 0 to 1.
///
/// No stream transport does this to its bytes. It shows that the protocol does not lean on its transport where it
/// promises not to: system messages and their acknowledgements are numbered, beats are counted, requests are repeated.
/// Spared are ordinary frames, which are numbered by position, the acknowledgement that confirms a handshake, and
/// those that end a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// Not sent at all.
    pub lose: f64,
    /// Sent twice.
    pub double: f64,
    /// Sent after the frame behind it.
    pub swap: f64,
}

/// One direction of one connection, cut into frames.
pub(crate) struct Frames {
    disturbance: Disturbance,
    random: fastrand::Rng,
    /// The start of something whose rest has not come.
    begun: Vec<u8>,
    preamble_bytes: usize,
    confirmed: bool,
    /// Waits for the frame that is to overtake it.
    held: Option<Vec<u8>>,
    /// Decided on, not written yet.
    pub(crate) out: Vec<u8>,
    pub(crate) suffered: u64,
}

const LENGTH_BYTES: usize = 4;
const KIND_AT: usize = 4;

impl Frames {
    pub(crate) fn new(disturbance: Disturbance, random: fastrand::Rng) -> Self {
        Self {
            disturbance,
            random,
            begun: Vec::new(),
            preamble_bytes: nexus_remote::wire::PREAMBLE_BYTES,
            confirmed: false,
            held: None,
            out: Vec::new(),
            suffered: 0,
        }
    }

    /// Takes bytes after the disturbance has ended.
    pub(crate) fn feed_undisturbed(&mut self, bytes: &[u8]) {
        self.disturbance = Disturbance::default();
        self.feed(bytes);
    }

    /// Takes bytes as the node wrote them.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(length) = self.next(&self.begun[at..]) {
            let whole = self.begun[at..at + length].to_vec();
            at += length;
            if self.preamble_bytes > 0 {
                self.preamble_bytes = 0;
                self.out.extend_from_slice(&whole);
            } else {
                self.pass(&whole);
            }
        }
        self.begun.drain(..at);
    }

    /// How long the next whole thing at the front of `bytes` is.
    fn next(&self, bytes: &[u8]) -> Option<usize> {
        let length = if self.preamble_bytes > 0 {
            self.preamble_bytes
        } else {
            let length = bytes.first_chunk::<LENGTH_BYTES>()?;
            LENGTH_BYTES + usize::try_from(u32::from_le_bytes(*length)).ok()?
        };
        (length > 0 && bytes.len() >= length).then_some(length)
    }

    fn pass(&mut self, frame: &[u8]) {
        let may_suffer = self.may_suffer(frame[KIND_AT]);
        let Disturbance { lose, double, swap } = self.disturbance;
        let overtaken = self.held.take();
        if may_suffer && self.random.f64() < lose {
            self.suffered += 1;
        } else if may_suffer && overtaken.is_none() && self.random.f64() < swap {
            self.suffered += 1;
            self.held = Some(frame.to_vec());
        } else {
            self.out.extend_from_slice(frame);
            if may_suffer && self.random.f64() < double {
                self.suffered += 1;
                self.out.extend_from_slice(frame);
            }
        }
        self.out.extend(overtaken.into_iter().flatten());
    }

    fn may_suffer(&mut self, kind: u8) -> bool {
        if kind == FrameKind::Acknowledge.code() && !self.confirmed {
            self.confirmed = true;
            return false;
        }
        [
            FrameKind::Request,
            FrameKind::Ack,
            FrameKind::Refuse,
            FrameKind::Heartbeat,
            FrameKind::HeartbeatReply,
            FrameKind::Acknowledge,
            FrameKind::System,
            FrameKind::SystemAcknowledge,
        ]
        .iter()
        .any(|suffering| suffering.code() == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len() + 1).unwrap_or(0).to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(body);
        bytes
    }

    fn through(disturbance: Disturbance, frames: &[Vec<u8>], piece: usize) -> Vec<u8> {
        let mut link = Frames::new(disturbance, fastrand::Rng::with_seed(1));
        let mut bytes = [7; nexus_remote::wire::PREAMBLE_BYTES].to_vec();
        bytes.extend(frames.concat());
        bytes.chunks(piece).for_each(|piece| link.feed(piece));
        link.out.split_off(nexus_remote::wire::PREAMBLE_BYTES)
    }

    #[test]
    fn what_suffers_is_whole_and_of_the_control_lane() {
        let confirmation = frame(FrameKind::Acknowledge.code(), b"first");
        let (beat, system) =
            (frame(FrameKind::Heartbeat.code(), b"beat"), frame(FrameKind::System.code(), b"stop"));
        let message = frame(FrameKind::Envelope.code(), b"hello");
        let leave = frame(FrameKind::Leave.code(), b"");
        let sent = [
            confirmation.clone(),
            beat.clone(),
            message.clone(),
            system.clone(),
            message.clone(),
            leave.clone(),
        ];
        let spared = [confirmation.clone(), message.clone(), message.clone(), leave.clone()];
        let doubled = [
            vec![confirmation.clone(), beat.clone(), beat.clone(), message.clone()],
            vec![system.clone(), system.clone(), message.clone(), leave.clone()],
        ];
        let swapped = [confirmation, message.clone(), beat, message, system, leave];
        for piece in [1, 3, 1_000] {
            assert_eq!(through(Disturbance::default(), &sent, piece), sent.concat());
            assert_eq!(
                through(Disturbance { lose: 1.0, ..Default::default() }, &sent, piece),
                spared.concat()
            );
            let double = Disturbance { double: 1.0, ..Default::default() };
            assert_eq!(through(double, &sent, piece), doubled.concat().concat());
            assert_eq!(
                through(Disturbance { swap: 1.0, ..Default::default() }, &sent, piece),
                swapped.concat()
            );
        }
    }
}
