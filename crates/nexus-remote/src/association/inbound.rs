//! The receiving side of the ordinary lane: what is expected next, the peer's tables, and notices that wait.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::serialization::SerializerId;

use super::config::AssociationConfig;
use super::event::{ConnectionId, TerminationNotice};
use crate::wire::OrdinaryFrame;

/// What a connection that serves the association goes on with; see `Association::attachment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The connection.
    pub connection: ConnectionId,
    /// Grows with each connection, so that an older one cannot take a newer one's place.
    pub epoch: u64,
    /// The session.
    pub session: u64,
    /// The number of the first ordinary frame on the connection.
    pub start: u64,
}

/// What to do with an ordinary frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Deliver it: it is the one expected.
    Deliver {
        /// Its number.
        number: u64,
    },
    /// Nothing: it was a definition, which is noted.
    Defined,
    /// Nothing: it has been taken before, by an earlier connection.
    Duplicate,
    /// Nothing: another connection serves the session now.
    Stale,
}

/// The peer broke a rule of the tables: report it with `Association::handle_fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InboundFault {
    /// A number beyond the table.
    OutOfRange,
    /// More bytes of names than the table holds.
    TooManyBytes,
    /// The connection skipped frames that were never taken.
    Gap,
}

impl core::fmt::Display for InboundFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "a table number beyond the table",
            Self::TooManyBytes => "more bytes of names than the table holds",
            Self::Gap => "frames were skipped",
        })
    }
}

impl core::error::Error for InboundFault {}

/// A recipient by its number.
#[derive(Debug)]
pub struct ReferenceEntry<C> {
    /// Its path below this node's root.
    pub path: Arc<str>,
    /// Its incarnation, or [`ActorUid::ANY`].
    pub uid: ActorUid,
    /// What the reader found there, so that it is looked up once. Goes with the entry.
    pub cached: Option<C>,
}

#[derive(Debug)]
struct ManifestEntry {
    serializer: SerializerId,
    name: Arc<str>,
}

/// The receiving side of one peer's ordinary lane, over all its sessions. `C` is what the reader caches for each
/// recipient.
///
/// Frames carry no number: their position on the connection says it, counted from the number that was announced
/// when the connection was agreed. What an earlier connection had delivered already is passed over.
#[derive(Debug)]
pub struct Inbound<C = ()> {
    epoch: u64,
    connection: Option<ConnectionId>,
    session: u64,
    next: u64,
    position: u64,
    /// Messages of sessions before; where the numbers of this one began, and how many of them are definitions.
    before: u64,
    start: u64,
    defined: u64,
    references: Vec<Option<ReferenceEntry<C>>>,
    manifests: Vec<Option<ManifestEntry>>,
    bytes: usize,
    held: VecDeque<TerminationNotice>,
    replaced: Option<ReferenceEntry<C>>,
    references_max: usize,
    manifests_max: usize,
    bytes_max: usize,
}

impl<C> Inbound<C> {
    /// Nothing has arrived.
    #[must_use]
    pub fn new(config: &AssociationConfig) -> Self {
        Self {
            epoch: 0,
            connection: None,
            session: 0,
            next: 0,
            position: 0,
            before: 0,
            start: 0,
            defined: 0,
            references: Vec::new(),
            manifests: Vec::new(),
            bytes: 0,
            held: VecDeque::new(),
            replaced: None,
            references_max: config.references_max() as usize,
            manifests_max: usize::from(config.manifests_max()),
            bytes_max: config.table_bytes_max(),
        }
    }

    /// A connection serves the session from now on. An older attachment changes nothing.
    ///
    /// Returns what the tables of an ended session cached, to be dropped outside the lock; the notices that
    /// waited for it are [`released`](Self::released).
    #[must_use = "to be dropped outside the lock"]
    pub fn attach(&mut self, attachment: Attachment) -> Vec<ReferenceEntry<C>> {
        if attachment.epoch <= self.epoch {
            return Vec::new();
        }
        self.epoch = attachment.epoch;
        self.connection = Some(attachment.connection);
        let mut gone = Vec::new();
        if attachment.session != self.session {
            self.before = self.messages();
            self.session = attachment.session;
            self.next = attachment.start;
            (self.start, self.defined) = (attachment.start, 0);
            gone = core::mem::take(&mut self.references).into_iter().flatten().collect();
            self.manifests.clear();
            self.bytes = 0;
        }
        self.position = attachment.start;
        gone
    }

    /// The number expected next, for `Association::handle_received`.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Messages taken over all sessions: every numbered frame that is no definition.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.before + (self.next - self.start - self.defined)
    }

    /// The session whose numbers these are.
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.session
    }

    /// Takes the number of `frame`, which arrived on `conn`, and notes it if it is a definition.
    ///
    /// # Errors
    /// A protocol fault of the peer. Nothing was taken.
    #[inline]
    pub fn place(&mut self, conn: ConnectionId, frame: &OrdinaryFrame<'_>) -> Result<Placed, InboundFault> {
        if let Some(passed) = self.pass_over(conn)? {
            return Ok(passed);
        }
        let number = self.position;
        let placed = match frame {
            OrdinaryFrame::DefineReference(define) => {
                self.define_reference(define.id(), define.uid(), define.path())?;
                Placed::Defined
            }
            OrdinaryFrame::DefineManifest(define) => {
                self.define_manifest(define.id(), define.serializer(), define.name())?;
                Placed::Defined
            }
            OrdinaryFrame::Envelope(_)
            | OrdinaryFrame::Reply(_)
            | OrdinaryFrame::ReplyFailed(_)
            | OrdinaryFrame::Lookup(_) => Placed::Deliver { number },
        };
        self.position += 1;
        self.next += 1;
        self.defined += u64::from(placed == Placed::Defined);
        Ok(placed)
    }

    /// Takes the number of a frame whose body could not be read: it has one all the same. The reader records it
    /// (reason *decode*) when the answer is [`Placed::Deliver`].
    ///
    /// # Errors
    /// As [`place`](Self::place).
    pub fn place_broken(&mut self, conn: ConnectionId) -> Result<Placed, InboundFault> {
        if let Some(passed) = self.pass_over(conn)? {
            return Ok(passed);
        }
        let number = self.position;
        self.position += 1;
        self.next += 1;
        Ok(Placed::Deliver { number })
    }

    /// What becomes of a frame that is not the one expected.
    #[inline]
    fn pass_over(&mut self, conn: ConnectionId) -> Result<Option<Placed>, InboundFault> {
        if self.connection != Some(conn) {
            return Ok(Some(Placed::Stale));
        }
        if self.position > self.next {
            return Err(InboundFault::Gap);
        }
        if self.position < self.next {
            self.position += 1;
            return Ok(Some(Placed::Duplicate));
        }
        Ok(None)
    }

    /// [`place`](Self::place) for a frame that is no definition.
    ///
    /// # Errors
    /// As [`place`](Self::place).
    #[inline]
    pub fn advance(&mut self, conn: ConnectionId) -> Result<Placed, InboundFault> {
        if self.connection != Some(conn) {
            return Ok(Placed::Stale);
        }
        let number = self.position;
        if number > self.next {
            return Err(InboundFault::Gap);
        }
        self.position += 1;
        if number < self.next {
            return Ok(Placed::Duplicate);
        }
        self.next += 1;
        Ok(Placed::Deliver { number })
    }

    fn define_reference(&mut self, id: u32, uid: ActorUid, path: &str) -> Result<(), InboundFault> {
        let index = id as usize;
        if index >= self.references_max {
            return Err(InboundFault::OutOfRange);
        }
        let old = self.references.get(index).and_then(Option::as_ref).map_or(0, |e| e.path.len());
        if self.bytes - old + path.len() > self.bytes_max {
            return Err(InboundFault::TooManyBytes);
        }
        if index >= self.references.len() {
            self.references.resize_with(index + 1, || None);
        }
        self.bytes = self.bytes - old + path.len();
        self.replaced =
            self.references[index].replace(ReferenceEntry { path: path.into(), uid, cached: None });
        Ok(())
    }

    /// What the last definition took the place of, to be dropped outside the lock. Ask after [`Placed::Defined`].
    #[must_use = "to be dropped outside the lock"]
    pub const fn replaced(&mut self) -> Option<ReferenceEntry<C>> {
        self.replaced.take()
    }

    fn define_manifest(&mut self, id: u16, serializer: SerializerId, name: &str) -> Result<(), InboundFault> {
        let index = usize::from(id);
        if index >= self.manifests_max {
            return Err(InboundFault::OutOfRange);
        }
        let old = self.manifests.get(index).and_then(Option::as_ref).map_or(0, |e| e.name.len());
        if self.bytes - old + name.len() > self.bytes_max {
            return Err(InboundFault::TooManyBytes);
        }
        if index >= self.manifests.len() {
            self.manifests.resize_with(index + 1, || None);
        }
        self.bytes = self.bytes - old + name.len();
        self.manifests[index] = Some(ManifestEntry { serializer, name: name.into() });
        Ok(())
    }

    /// Takes what the reader cached, and leaves the entries.
    #[must_use = "to be dropped outside the lock"]
    pub fn take_cached(&mut self) -> Vec<C> {
        self.references.iter_mut().flatten().filter_map(|entry| entry.cached.take()).collect()
    }

    /// Who has the number `id`. An unknown number costs that envelope and never falls back to a guess.
    #[inline]
    pub fn reference_mut(&mut self, id: u32) -> Option<&mut ReferenceEntry<C>> {
        self.references.get_mut(id as usize)?.as_mut()
    }

    /// The message type with the number `id`.
    #[inline]
    #[must_use]
    pub fn manifest(&self, id: u16) -> Option<(SerializerId, &Arc<str>)> {
        self.manifests.get(usize::from(id))?.as_ref().map(|e| (e.serializer, &e.name))
    }

    /// Hands in a termination notice: it comes back when it may be delivered now, else it waits for the last
    /// messages of the actor it speaks of.
    pub fn hold(&mut self, notice: TerminationNotice) -> Option<TerminationNotice> {
        if notice.session != self.session || notice.after <= self.next {
            return Some(notice);
        }
        self.held.push_back(notice);
        None
    }

    /// The next notice that need not wait any more. Ask after each batch and after each attachment.
    pub fn released(&mut self) -> Option<TerminationNotice> {
        let (session, next) = (self.session, self.next);
        let index = self.held.iter().position(|n| n.session != session || n.after <= next)?;
        self.held.remove(index)
    }

    /// How many notices wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The session has ended without a next one: everything that waited may be delivered.
    #[must_use = "to be dropped outside the lock"]
    pub fn detach(&mut self) -> Vec<ReferenceEntry<C>> {
        self.before = self.messages();
        (self.start, self.defined) = (0, 0);
        self.session = 0;
        self.connection = None;
        self.manifests.clear();
        self.bytes = 0;
        self.next = 0;
        self.position = 0;
        core::mem::take(&mut self.references).into_iter().flatten().collect()
    }
}
