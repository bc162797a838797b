//! Who writes on a connection: its driver, or, while that has nothing to write, a sender somebody waits for.
//!
//! A wake-up, a task's turn and what the driver does besides writing stand between a lone question and the socket.
//! So the sender takes the pen of an idle driver, writes without waiting and gives it back, with whatever the
//! channel did not take. Meanwhile the driver takes nothing from the association, so the order of bytes is that of the
//! lane, and no lock is held while the system is called.

use alloc::sync::Arc;
use core::task::Waker;

use nexus_actor_core::Instant;
use nexus_actor_core::runtime::contained;

use super::peer::{Machine, Peer};
use crate::association::{ConnectionId, Transmit};
use crate::transport::TransportChannel;
use crate::wire::REST_AHEAD;

/// The right to take bytes for a connection from its association.
#[derive(Debug, Default)]
pub(super) enum Pen {
    /// The driver has it.
    #[default]
    Driver,
    /// The driver has it, everything it took is written, and there was nothing more.
    Idle,
    /// A sender has it.
    Lent {
        /// The driver asked meanwhile.
        missed: bool,
    },
    /// A sender gave it back with so much of the bytes written: the rest comes before anything else.
    Left(Transmit, usize),
    /// The channel panicked under a sender: what it took nobody knows, and nothing more may be written on it.
    Broken,
}

/// A pen that a sender has.
pub(super) struct Loan {
    peer: Arc<Peer>,
    conn: ConnectionId,
    channel: TransportChannel,
    transmit: Transmit,
    /// How much of it the channel has taken; `None` when it panicked.
    written: Option<usize>,
}

impl Loan {
    /// Takes the pen and what there is to write, if the driver of the serving connection is idle.
    pub(super) fn take(peer: &Peer, machine: &mut Machine, now: Instant) -> Option<Self> {
        let conn = machine.association.live()?;
        let driver = machine.drivers.iter_mut().find(|driver| driver.id == conn)?;
        if !matches!(driver.pen, Pen::Idle) {
            return None;
        }
        let (peer, channel) = (peer.arc()?, driver.channel.clone()?);
        let mut transmit = core::mem::take(&mut machine.scratch);
        if !machine.association.poll_transmit(now, conn, &mut transmit) {
            machine.scratch = transmit;
            return None;
        }
        driver.pen = Pen::Lent { missed: false };
        Some(Self { peer, conn, channel, transmit, written: Some(0) })
    }

    /// Writes what the channel takes at once. Not under a lock.
    pub(super) fn write(mut self) {
        let (channel, head) = (&self.channel, &self.transmit.head);
        let mut written = None;
        // Whoever asks has no part in a panic of the transport. An error is the driver's to find: it fails in the same
        // way there.
        contained(|| written = Some(channel.try_write(head).unwrap_or(0)));
        if written.is_none() {
            contained(|| channel.abort());
        }
        self.written = written;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut transmit = core::mem::take(&mut self.transmit);
        let waker = {
            let mut guard = self.peer.machine.lock();
            let Machine { association, drivers, scratch, busy_since, .. } = &mut *guard;
            // Without a driver the connection has ended meanwhile; the next one sends everything again.
            let Some(driver) = drivers.iter_mut().find(|driver| driver.id == self.conn) else { return };
            let missed = matches!(driver.pen, Pen::Lent { missed: true });
            driver.pen = match self.written {
                None => Pen::Broken,
                Some(written) if written < transmit.len() => Pen::Left(transmit, written),
                Some(_) => {
                    if transmit.head.capacity() <= REST_AHEAD {
                        transmit.clear();
                        *scratch = transmit;
                    }
                    if association.handle_written(self.conn) && !missed {
                        *busy_since = None;
                        Pen::Idle
                    } else {
                        Pen::Driver
                    }
                }
            };
            if matches!(driver.pen, Pen::Idle) { None } else { driver.waker.take() }
        };
        // This may run while a panic of somebody else passes.
        contained(|| waker.into_iter().for_each(Waker::wake));
    }
}
