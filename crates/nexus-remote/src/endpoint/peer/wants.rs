//! What an association wants done, and how it is done: tasks woken, dials, the timer, what it has to tell.

use alloc::vec::Vec;
use core::task::Waker;

use nexus_actor_core::Instant;
use nexus_actor_core::scheduler::Cancel;
use portable_atomic::Ordering;

use super::drivers::Driver;
use super::{Machine, Peer};
use crate::association::{Association, ConnectionId, DialError};
use crate::endpoint::connection::Connection;
use crate::endpoint::dials::DialSlot;
use crate::endpoint::inbox::Posted;

/// What the machine wants done, collected under its lock and done outside, by [`Peer::fulfil`].
#[derive(Default)]
pub(crate) struct Wants {
    pub(super) wakers: Vec<Waker>,
    dials: Vec<(ConnectionId, DialSlot)>,
    /// A place for a dial that is not wanted any more.
    spare: Option<DialSlot>,
    posted: bool,
    arm: Option<(Instant, u64)>,
    disarm: Vec<Cancel>,
}

impl Wants {
    pub(crate) const fn new() -> Self {
        Self {
            wakers: Vec::new(),
            dials: Vec::new(),
            spare: None,
            posted: false,
            arm: None,
            disarm: Vec::new(),
        }
    }
}

impl Peer {
    pub(super) fn harvest(&self, machine: &mut Machine, now: Instant, wants: &mut Wants) {
        let Machine {
            association,
            busy_since,
            armed,
            timers,
            drivers,
            flooded,
            readers,
            queued,
            granted,
            ..
        } = machine;
        if !association.is_live() {
            *busy_since = None;
        }
        self.suspended.store(!association.accepts_ordinary(), Ordering::Release);
        let was_flooded = core::mem::replace(flooded, association.is_flooded());
        if association.has_event() || self.backlog.has_more() || *flooded || was_flooded {
            self.post(association, wants);
            let behind = association.events_waiting() > 0 || *flooded;
            if self.backlog.note_behind(behind) && !behind {
                wants.wakers.append(readers);
            }
        }
        if association.wants_dial() {
            if granted.is_none() && !*queued {
                *granted = self.node.dials.ask(&self.node, &self.authority, &self.me);
                *queued = granted.is_none();
            }
            if let Some(slot) = granted.take()
                && let Some(conn) = association.poll_dial(now)
            {
                drivers.push(Driver::new(conn));
                wants.dials.push((conn, slot));
            }
        } else if granted.is_some() {
            wants.spare = granted.take();
        }
        while let Some((conn, _)) = association.poll_close() {
            if let Some(driver) = drivers.iter_mut().find(|driver| driver.id == conn) {
                driver.closing = true;
                wants.wakers.extend(driver.waker.take());
            }
        }
        if association.take_wake() {
            wants.wakers.extend(drivers.iter_mut().filter_map(|driver| driver.waker.take()));
        }
        match (association.poll_timeout(), &*armed) {
            (Some((at, _)), Some(running)) if running.at <= at => {}
            (Some((at, _)), _) => {
                *timers += 1;
                let new = Armed { at, number: *timers, cancel: None };
                if let Some(cancel) = armed.replace(new).and_then(|old| old.cancel) {
                    wants.disarm.push(cancel);
                }
                wants.arm = Some((at, *timers));
            }
            // A timer that runs for nothing is harmless and stops by itself.
            (None, _) => {}
        }
    }

    /// Hands out what the association has to tell, as much as may wait.
    fn post(&self, association: &mut Association, wants: &mut Wants) {
        let Some(me) = self.arc() else { return };
        loop {
            while self.backlog.has_room()
                && let Some(event) = association.poll_event()
            {
                self.node.inbox.post(Posted::new(me.clone()), event);
                wants.posted = true;
            }
            if !self.backlog.note_more(association.has_event()) {
                return;
            }
        }
    }

    /// Does what the machine wanted. Not under a lock: it wakes tasks, dials and starts timers.
    pub(crate) fn fulfil(&self, wants: &mut Wants) {
        let Wants { wakers, dials, spare, posted, arm, disarm } = wants;
        for waker in wakers.drain(..) {
            waker.wake();
        }
        for cancel in disarm.drain(..) {
            cancel.cancel();
        }
        if let Some((at, number)) = arm.take() {
            self.arm(at, number);
        }
        for (conn, slot) in dials.drain(..) {
            self.dial(conn, slot);
        }
        drop(spare.take());
        if core::mem::take(posted) {
            self.node.notify();
        }
    }

    fn arm(&self, at: Instant, number: u64) {
        let Some(system) = self.node.system.upgrade() else { return };
        let me = self.me.clone();
        let cancel = system.scheduler().schedule_at(at, move || {
            if let Some(peer) = me.upgrade() {
                {
                    let mut machine = peer.machine.lock();
                    if machine.armed.as_ref().is_some_and(|running| running.number == number) {
                        machine.armed = None;
                    }
                }
                peer.apply(|association, now| association.handle_timeout(now));
            }
        });
        let superseded = {
            let mut machine = self.machine.lock();
            match &mut machine.armed {
                Some(running) if running.number == number => {
                    running.cancel = Some(cancel);
                    None
                }
                // It has run already, or another thread armed an earlier one meanwhile.
                _ => Some(cancel),
            }
        };
        if let Some(cancel) = superseded {
            cancel.cancel();
        }
    }

    /// Its turn to dial has come; the place comes back when it has no use for it.
    pub(in crate::endpoint) fn grant(&self, slot: DialSlot) -> Option<DialSlot> {
        let mut machine = self.machine.lock();
        machine.queued = false;
        if !machine.association.wants_dial() {
            return Some(slot);
        }
        machine.granted.replace(slot)
    }

    fn dial(&self, conn: ConnectionId, slot: DialSlot) {
        let Some(me) = self.arc() else { return };
        let opened = self.node.transport().map(|transport| {
            let endpoint = crate::transport::TransportEndpoint::new(self.authority.clone())
                .with_connect_timeout(self.node.config.connect_timeout());
            transport.open_channel(&endpoint)
        });
        match opened {
            Some(Ok(channel)) => self.node.spawn(Connection::dialled(me, conn, channel).run(slot)),
            Some(Err(error)) => {
                let error = dial_error(&error);
                self.apply(|association, now| association.handle_dialled(now, conn, Err(error)));
                self.forget_connection(conn);
            }
            None => {
                self.apply(|association, now| {
                    association.handle_dialled(now, conn, Err(DialError::Failed));
                });
                self.forget_connection(conn);
            }
        }
    }
}

/// A timer for the machine's earliest deadline. It is noted before it is scheduled: it may run at once.
pub(super) struct Armed {
    at: Instant,
    number: u64,
    cancel: Option<Cancel>,
}

/// What a failed dial means to the machine.
pub(crate) fn dial_error(error: &crate::transport::TransportError) -> DialError {
    use crate::transport::TransportError;
    match error {
        TransportError::Refused { .. } => DialError::Refused,
        TransportError::TimedOut { .. } => DialError::TimedOut,
        TransportError::NameNotFound { .. } => DialError::Unresolved,
        _ => DialError::Failed,
    }
}
