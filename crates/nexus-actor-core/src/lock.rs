//! The one lock type of the workspace.
//!
//! With `std` it is a [`std::sync::Mutex`] that tries for a short while before it lets the kernel put the
//! thread to sleep: critical sections here are tens of nanoseconds, and a sleep costs a thousand times that.
//! Without `std` it is a spin lock. Poisoning is ignored on purpose: every critical section leaves its data
//! valid at each step that can unwind, and one actor's panic must not take a mailbox with it.

use core::ops::{Deref, DerefMut};

/// How often a contended lock is tried before the thread sleeps.
#[cfg(feature = "std")]
const SPINS: u32 = 40;
/// How many spin hints pass between two tries. Long enough that whoever holds the lock takes it a few dozen times more
/// meanwhile: what it guards then changes processors once for many messages, not for each.
#[cfg(feature = "std")]
const PAUSES: u32 = 24;

/// Mutual exclusion for short critical sections.
///
/// Rule of the house: no user code, wake-up or drop of a message runs under it. The exceptions are what turns messages
/// into bytes and back, and failure detectors; `ARCHITECTURE.md` says what holds for each.
#[derive(Debug, Default)]
pub struct Lock<T>(Inner<T>);

#[cfg(feature = "std")]
type Inner<T> = std::sync::Mutex<T>;
#[cfg(feature = "std")]
type InnerGuard<'a, T> = std::sync::MutexGuard<'a, T>;
#[cfg(not(feature = "std"))]
type Inner<T> = spin::Mutex<T>;
#[cfg(not(feature = "std"))]
type InnerGuard<'a, T> = spin::MutexGuard<'a, T>;

/// Access to the data of a [`Lock`]; unlocks when dropped.
#[derive(Debug)]
pub struct Guard<'a, T>(InnerGuard<'a, T>);

impl<T> Lock<T> {
    /// A lock around `value`.
    pub const fn new(value: T) -> Self {
        Self(Inner::new(value))
    }

    /// Waits for the lock.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        #[cfg(feature = "std")]
        {
            use std::sync::{PoisonError, TryLockError};
            for _ in 0..SPINS {
                match self.0.try_lock() {
                    Ok(guard) => return Guard(guard),
                    Err(TryLockError::Poisoned(poisoned)) => return Guard(poisoned.into_inner()),
                    Err(TryLockError::WouldBlock) => {
                        for _ in 0..PAUSES {
                            core::hint::spin_loop();
                        }
                    }
                }
            }
            Guard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
        #[cfg(not(feature = "std"))]
        {
            Guard(self.0.lock())
        }
    }

    /// The lock, if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        #[cfg(feature = "std")]
        {
            match self.0.try_lock() {
                Ok(guard) => Some(Guard(guard)),
                Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(Guard(poisoned.into_inner())),
                Err(std::sync::TryLockError::WouldBlock) => None,
            }
        }
        #[cfg(not(feature = "std"))]
        {
            self.0.try_lock().map(Guard)
        }
    }

    /// The data, when this is the only handle on the lock.
    pub fn into_inner(self) -> T {
        #[cfg(feature = "std")]
        {
            self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
        #[cfg(not(feature = "std"))]
        {
            self.0.into_inner()
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
