//! The connection tasks of an association, as its machine sees them.

use core::task::{Context, Waker};

use nexus_actor_core::Instant;

use super::{Peer, STRETCH, Wants};
use crate::association::{ConnectionId, LostCause, Transmit};
use crate::endpoint::pen::Pen;
use crate::transport::TransportChannel;

/// The connection task as the machine's side sees it.
pub(in crate::endpoint) struct Driver {
    pub(in crate::endpoint) id: ConnectionId,
    pub(in crate::endpoint) waker: Option<Waker>,
    pub(super) closing: bool,
    /// Once it serves.
    pub(in crate::endpoint) channel: Option<TransportChannel>,
    pub(in crate::endpoint) pen: Pen,
}

impl Driver {
    pub(super) const fn new(id: ConnectionId) -> Self {
        Self { id, waker: None, closing: false, channel: None, pen: Pen::Driver }
    }
}

/// What a driver is given to write.
pub(crate) struct Given {
    /// The machine wants the connection closed once this is written.
    pub(crate) closing: bool,
    /// So much of it is written already.
    pub(crate) written: usize,
    /// Nothing: the connection is to be given up.
    pub(crate) broken: bool,
}

impl Peer {
    /// A connection that the peer opened begins to serve this association.
    pub(crate) fn add_driver(&self, conn: ConnectionId) {
        self.machine.lock().drivers.push(Driver::new(conn));
    }

    /// `channel` begins to carry bytes for `conn`. Its driver's handle stays until the connection is forgotten.
    pub(crate) fn begin_to_serve(&self, conn: ConnectionId, channel: TransportChannel) {
        let mut machine = self.machine.lock();
        if let Some(driver) = machine.drivers.iter_mut().find(|driver| driver.id == conn) {
            driver.channel = Some(channel);
        }
    }

    pub(crate) fn forget_connection(&self, conn: ConnectionId) {
        let old = {
            let mut machine = self.machine.lock();
            let at = machine.drivers.iter().position(|driver| driver.id == conn);
            at.map(|at| machine.drivers.swap_remove(at))
        };
        drop(old);
    }

    /// The connection has ended.
    pub(crate) fn connection_ended(&self, conn: ConnectionId, cause: LostCause) {
        self.machine.lock().busy_since = None;
        self.forget_connection(conn);
        self.apply(|association, now| association.handle_connection_lost(now, conn, cause));
    }

    /// Asks for what to write next on `conn`, and registers its task's waker for when there is more.
    pub(crate) fn poll_transmit(
        &self,
        cx: &Context<'_>,
        conn: ConnectionId,
        transmit: &mut Transmit,
        now: Instant,
    ) -> Given {
        let mut wants = Wants::default();
        let mut old = None;
        let given = {
            let mut guard = self.machine.lock();
            let machine = &mut *guard;
            let mut given = Given { closing: true, written: 0, broken: false };
            if let Some(driver) = machine.drivers.iter_mut().find(|driver| driver.id == conn) {
                match &driver.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => {}
                    _ => old = driver.waker.replace(cx.waker().clone()),
                }
                given.closing = driver.closing;
                match core::mem::take(&mut driver.pen) {
                    Pen::Driver | Pen::Idle => {
                        let busy = machine.association.poll_transmit(now, conn, transmit);
                        machine.busy_since = busy.then_some(now);
                        machine.borrowed = 0;
                        machine.give_way_at = machine.association.unsent_bytes() + STRETCH;
                        if !busy {
                            driver.pen = Pen::Idle;
                        }
                    }
                    Pen::Lent { .. } => {
                        transmit.clear();
                        driver.pen = Pen::Lent { missed: true };
                        given.closing = false;
                    }
                    Pen::Left(left, written) => {
                        *transmit = left;
                        given.written = written;
                    }
                    Pen::Broken => {
                        transmit.clear();
                        given.broken = true;
                    }
                }
            } else {
                transmit.clear();
            }
            self.harvest(machine, now, &mut wants);
            given
        };
        drop(old);
        self.fulfil(&mut wants);
        given
    }

    /// Whether the machine wants `conn` closed; registers the waker for when it does.
    pub(crate) fn poll_closing(&self, cx: &Context<'_>, conn: ConnectionId) -> bool {
        let (closing, old) = {
            let mut machine = self.machine.lock();
            let closing = machine.association.is_closing(conn);
            match machine.drivers.iter_mut().find(|driver| driver.id == conn) {
                None => (true, None),
                Some(driver) => match &driver.waker {
                    Some(waker) if waker.will_wake(cx.waker()) => (closing, None),
                    _ => (closing, driver.waker.replace(cx.waker().clone())),
                },
            }
        };
        drop(old);
        closing
    }
}
