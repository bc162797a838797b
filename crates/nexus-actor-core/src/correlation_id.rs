//! The 96-bit id that leads from a sender's record of a message to its receiver's.

use core::fmt;

/// Identifies one envelope on its way through both nodes.
///
/// # Source
/// The field widths and the XORShift step are those of the remoting foundation's data model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CorrelationId {
    /// The upper 64 bits; the generator's state lives here.
    pub hi: u64,
    /// The lower 32 bits.
    pub lo: u32,
}

impl CorrelationId {
    /// No message has this id; frames that belong to no message carry it.
    pub const NIL: Self = Self { hi: 0, lo: 0 };

    /// An id from its two parts.
    #[must_use]
    pub const fn new(hi: u64, lo: u32) -> Self {
        Self { hi, lo }
    }

    /// Steps the generator whose state `self` is and returns the new id.
    ///
    /// A generator starts at a seed (an association uses its handshake's `correlation_seed`); nothing is
    /// global. The period is 2^64 - 1; a nil seed is moved to a fixed non-nil state first.
    #[must_use]
    pub const fn next(self) -> Self {
        let mut x = if self.hi == 0 { 0x9e37_79b9_7f4a_7c15 } else { self.hi };
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        // The multiplication spreads the low half, whose XORShift bits are the weak ones.
        Self { hi: x, lo: (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32 }
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}", self.hi, self.lo)
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another implementation of the protocol gets the same ids from the same seed.
    ///
    /// Covers: DM-04, API-59
    #[test]
    fn each_step_is_the_documented_one() {
        let mut id = CorrelationId::new(1, 0);
        for expected in ["0000000040822041bafacf62", "100041060c01144102da6891", "9b1e842f6e862629fe17a361"] {
            id = id.next();
            assert_eq!(alloc::format!("{id}"), expected);
        }
        assert_ne!(CorrelationId::NIL.next(), CorrelationId::NIL);
    }

    #[test]
    fn a_million_steps_do_not_repeat_and_never_reach_nil() {
        let mut seen = hashbrown::HashSet::new();
        let mut id = CorrelationId::NIL;
        for _ in 0..1_000_000 {
            id = id.next();
            assert_ne!(id, CorrelationId::NIL);
            assert!(seen.insert(id));
        }
    }
}
