//! What happens when an actor fails.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::time::Instant;

/// What a failed handler leaves: the error it returned, or the text of its panic.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The handler returned this error.
    Error(crate::actor::ActorError),
    /// The handler panicked with this text.
    Panic(String),
    /// A child gave up and escalated; the text is its error.
    Escalated(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => fmt::Display::fmt(error, f),
            Self::Panic(text) => write!(f, "panic: {text}"),
            Self::Escalated(text) => write!(f, "escalated: {text}"),
        }
    }
}

/// What to do with an actor that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    /// Go on with the next message; the actor keeps its state. After a panic the state is not trusted: the
    /// actor is restarted instead.
    Resume,
    /// Replace the actor by a new one from its factory; mailbox, path and references stay.
    Restart,
    /// Stop the actor.
    Stop,
    /// Stop the actor and let its parent fail in turn.
    Escalate,
}

/// Whom a directive concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// The one that failed.
    #[default]
    OneForOne,
    /// The one that failed and all its siblings.
    AllForOne,
    /// The one that failed and the siblings spawned after it.
    RestForOne,
}

/// Waiting times between restarts: `initial`, doubled each time, at most `max`, spread by `jitter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Before the second restart of a row. The first comes at once.
    pub initial: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// Each wait is multiplied by a random factor in `1 - jitter ..= 1 + jitter`; 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// The wait before the restart after `restarts` earlier ones; `random` is uniform in 0..1.
    #[must_use]
    pub fn delay(&self, restarts: u32, random: f64) -> Duration {
        if restarts == 0 {
            return Duration::ZERO;
        }
        let doubled = self.initial.saturating_mul(2u32.saturating_pow((restarts - 1).min(31)));
        let base = doubled.min(self.max);
        let jitter = self.jitter.clamp(0.0, 1.0);
        let seconds = base.as_secs_f64() * (1.0 + jitter * (2.0 * random - 1.0));
        // Too long for a duration, or not a number: the longest wait there is.
        Duration::try_from_secs_f64(seconds).map_or(self.max, |wait| wait.min(self.max))
    }
}

type Decider = Arc<dyn Fn(&Failure) -> Directive + Send + Sync>;

/// How an actor's children are supervised.
///
/// The default: one for one, restart at once and then with a back-off from 100 ms to 10 s, and stop a child
/// that needs more than 10 restarts within a minute.
#[derive(Clone)]
pub struct SupervisorStrategy {
    scope: Scope,
    decider: Option<Decider>,
    max_restarts: u32,
    within: Duration,
    backoff: Backoff,
    exhausted: Directive,
}

impl Default for SupervisorStrategy {
    fn default() -> Self {
        Self {
            scope: Scope::OneForOne,
            decider: None,
            max_restarts: 10,
            within: Duration::from_secs(60),
            backoff: Backoff {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(10),
                jitter: 0.2,
            },
            exhausted: Directive::Stop,
        }
    }
}

impl SupervisorStrategy {
    /// Only the failed child is concerned.
    #[must_use]
    pub fn one_for_one() -> Self {
        Self::default()
    }

    /// All children share the fate of the failed one.
    #[must_use]
    pub fn all_for_one() -> Self {
        Self { scope: Scope::AllForOne, ..Self::default() }
    }

    /// The failed child and those spawned after it share its fate.
    #[must_use]
    pub fn rest_for_one() -> Self {
        Self { scope: Scope::RestForOne, ..Self::default() }
    }

    /// Decides by the failure instead of always restarting. Runs on the failed child's task.
    #[must_use]
    pub fn with_decider(mut self, decide: impl Fn(&Failure) -> Directive + Send + Sync + 'static) -> Self {
        self.decider = Some(Arc::new(decide));
        self
    }

    /// At most `max` restarts within `within` (a sliding window); zero: never restart.
    #[must_use]
    pub const fn with_budget(mut self, max: u32, within: Duration) -> Self {
        self.max_restarts = max;
        self.within = within;
        self
    }

    /// What happens to a child whose budget is used up: [`Directive::Stop`] (the default) or
    /// [`Directive::Escalate`]; anything else means stop.
    #[must_use]
    pub const fn with_exhausted(mut self, directive: Directive) -> Self {
        self.exhausted = directive;
        self
    }

    /// The waiting times between restarts.
    #[must_use]
    pub const fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Every restart comes at once.
    #[must_use]
    pub const fn without_backoff(self) -> Self {
        self.with_backoff(Backoff { initial: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 })
    }

    pub(crate) fn decide(&self, failure: &Failure) -> Directive {
        let directive = self.decider.as_ref().map_or(Directive::Restart, |decide| decide(failure));
        match (directive, failure) {
            (Directive::Resume, Failure::Panic(_)) => Directive::Restart,
            (directive, _) => directive,
        }
    }

    pub(crate) const fn scope(&self) -> Scope {
        self.scope
    }

    pub(crate) const fn exhausted(&self) -> Directive {
        match self.exhausted {
            Directive::Escalate => Directive::Escalate,
            Directive::Resume | Directive::Restart | Directive::Stop => Directive::Stop,
        }
    }

    pub(crate) fn delay(&self, restarts: u32, random: f64) -> Duration {
        self.backoff.delay(restarts, random)
    }
}

impl fmt::Debug for SupervisorStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorStrategy")
            .field("scope", &self.scope)
            .field("max_restarts", &self.max_restarts)
            .field("within", &self.within)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

/// The restarts of one actor, or of one group, within the strategy's window.
#[derive(Default)]
pub(crate) struct RestartWindow(VecDeque<Instant>);

impl RestartWindow {
    /// Counts one restart if the budget allows it and returns how many came before it in the window.
    pub(crate) fn allow(&mut self, strategy: &SupervisorStrategy, now: Instant) -> Option<u32> {
        while let Some(first) = self.0.front()
            && now.saturating_duration_since(*first) > strategy.within
        {
            self.0.pop_front();
        }
        if self.0.len() >= strategy.max_restarts as usize {
            return None;
        }
        self.0.push_back(now);
        Some((self.0.len() - 1) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_counts_within_its_window_only() {
        let strategy = SupervisorStrategy::one_for_one().with_budget(2, Duration::from_secs(10));
        let mut window = RestartWindow::default();
        for (at, expected) in
            [(0, Some(0)), (1, Some(1)), (2, None), (10, None), (11, Some(1)), (12, Some(1)), (13, None)]
        {
            assert_eq!(window.allow(&strategy, Instant::from_millis(at * 1000)), expected, "at {at} s");
        }
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let backoff =
            Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1), jitter: 0.0 };
        let waits: Vec<_> = (0..7).map(|n| backoff.delay(n, 0.5).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
        let jittered = Backoff { jitter: 0.2, ..backoff };
        assert_eq!(jittered.delay(1, 0.0).as_millis(), 80);
        assert!(jittered.delay(1, 1.0).as_millis() >= 119);
    }
    use alloc::vec::Vec;
}
