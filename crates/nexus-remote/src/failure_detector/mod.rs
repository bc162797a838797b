//! Whether a peer that has fallen silent is still there.
//!
//! A [`FailureDetector`] turns the arrival times of heartbeat replies into one number, the suspicion. It
//! reads no clock and knows neither peers nor uids; [`HeartbeatMonitor`] adds those: it numbers the beats,
//! lets through only fresh answers of the right incarnation, and notices when this node itself had stopped.

mod deadline;
mod evaluation;
mod math;
mod monitor;
mod phi;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use nexus_actor_core::Instant;

pub use deadline::{DeadlineConfig, DeadlineFailureDetector};
pub use evaluation::{Evaluation, evaluate};
pub use monitor::{HealthSnapshot, HeartbeatDue, HeartbeatMonitor, Judge, PeerHealth, Tick};
pub use phi::{PhiConfig, PhiFailureDetector};

use crate::config_error::ConfigError;

/// No suspicion is larger: it stays finite and printable however long the silence lasts.
pub const SUSPICION_MAX: f64 = 1_000.0;

/// What a heartbeat's arrival meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arrival {
    /// The first one; the allowance for a first answer is over.
    First,
    /// In time.
    Regular {
        /// Time since the one before.
        interval: Duration,
    },
    /// In time, but more than two thirds of the acceptable pause were used up: worth one warning.
    Slow {
        /// Time since the one before.
        interval: Duration,
    },
    /// The peer had been suspected; it is available again and the outage was not learned.
    Recovered {
        /// How long it had been silent.
        silence: Duration,
    },
    /// Not later than the one before, a duplicate, or of another incarnation. Nothing changed.
    Ignored,
}

/// Decides from the arrival times of heartbeats whether their sender is still alive.
///
/// All times come from one monotonic clock. Suspicion never falls while nothing arrives, and is never NaN
/// or infinite; `is_available(now)` is `suspicion(now) < threshold()`. Only [`Self::local_pause`], which speaks
/// of this node's own absence, may lower it without a beat.
///
/// All functions run under the lock of the peer's association and for every heartbeat: they must be short, must not
/// block, and must not call remoting, send a message or publish an event, which could wait for the same lock.
pub trait FailureDetector: fmt::Debug + Send + Sync {
    /// A first beat is now asked for. Starts the allowance for the first answer; later calls change nothing.
    fn expect(&mut self, now: Instant);

    /// A beat arrived.
    fn heartbeat(&mut self, now: Instant) -> Arrival;

    /// How suspect the peer is: zero when it has just been heard or nothing was expected yet, growing with the
    /// silence, at most [`SUSPICION_MAX`].
    fn suspicion(&self, now: Instant) -> f64;

    /// The suspicion at which the peer counts as lost.
    fn threshold(&self) -> f64;

    /// Whether the peer does not count as lost. True before a beat was ever asked for.
    fn is_available(&self, now: Instant) -> bool {
        self.next_suspicion_at().is_none_or(|at| now < at)
    }

    /// Whether a beat was asked for or has arrived since the start or the last reset.
    fn is_monitoring(&self) -> bool;

    /// When the peer will count as lost if nothing arrives; in the past when it does already. `None` while
    /// nothing is expected.
    fn next_suspicion_at(&self) -> Option<Instant>;

    /// This node itself was `late` in running what was due, until `now`.
    ///
    /// The lateness is discounted from the silence. If it was long enough to have missed a beat, the peer is
    /// given until one fresh beat could have arrived; once per silence, so that a node which starves for
    /// ever still finds the dead. A peer that counted as lost before the pause stays lost.
    fn local_pause(&mut self, now: Instant, late: Duration);

    /// The tick at which a beat is sent, due at `due` and run at `now`.
    fn heartbeat_tick(&mut self, now: Instant, due: Instant) {
        self.local_pause(now, now - due);
        self.expect(now);
    }

    /// Forgets everything, as for a new incarnation of the peer.
    fn reset(&mut self);
}

/// Makes the detector of one peer.
pub type DetectorFactory = Arc<dyn Fn() -> Box<dyn FailureDetector> + Send + Sync>;

/// Which detector is used.
#[derive(Clone)]
#[non_exhaustive]
pub enum DetectorChoice {
    /// Learns the peer's rhythm ([`PhiFailureDetector`]); the default.
    Phi(PhiConfig),
    /// A fixed deadline ([`DeadlineFailureDetector`]).
    Deadline(DeadlineConfig),
    /// The application's own.
    Custom(DetectorFactory),
}

impl Default for DetectorChoice {
    fn default() -> Self {
        Self::Phi(PhiConfig::default())
    }
}

impl fmt::Debug for DetectorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phi(config) => f.debug_tuple("Phi").field(config).finish(),
            Self::Deadline(config) => f.debug_tuple("Deadline").field(config).finish(),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}

impl DetectorChoice {
    /// Checks the chosen detector's settings; an application's own has none here.
    ///
    /// # Errors
    /// [`ConfigError`] listing every offending setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Phi(config) => config.validate(),
            Self::Deadline(config) => config.validate(),
            Self::Custom(_) => Ok(()),
        }
    }

    /// Whether `other` makes the same detector, so that one would do for both.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Phi(a), Self::Phi(b)) => a == b,
            (Self::Deadline(a), Self::Deadline(b)) => a == b,
            (Self::Custom(a), Self::Custom(b)) => Arc::ptr_eq(a, b),
            (Self::Phi(_) | Self::Deadline(_) | Self::Custom(_), _) => false,
        }
    }

    /// A fresh detector for one peer.
    ///
    /// # Errors
    /// [`ConfigError`] listing every offending setting.
    pub fn build(&self) -> Result<Box<dyn FailureDetector>, ConfigError> {
        Ok(match self {
            Self::Phi(config) => Box::new(PhiFailureDetector::new(config.clone())?),
            Self::Deadline(config) => Box::new(DeadlineFailureDetector::new(config.clone())?),
            Self::Custom(factory) => factory(),
        })
    }
}

/// By how much a local lateness of `late` moves a silence that would become suspect at `suspect_at`.
fn forgiven(
    now: Instant,
    suspect_at: Instant,
    late: Duration,
    interval: Duration,
    graced: &mut bool,
) -> Duration {
    let paused_at = Instant::ZERO + (now - Instant::ZERO).saturating_sub(late);
    if late.is_zero() || paused_at >= suspect_at {
        return Duration::ZERO;
    }
    let moved = suspect_at + late;
    let fresh_by = now + interval;
    if late >= interval && !*graced && moved < fresh_by {
        *graced = true;
        return fresh_by - suspect_at;
    }
    late
}
