//! What is wrong with a configuration, all of it at once.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

/// One setting that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The setting's name, as its `with_*` function spells it.
    pub setting: Cow<'static, str>,
    /// The offending value.
    pub value: String,
    /// The rule it breaks, and where it helps what to set instead.
    pub rule: Cow<'static, str>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.setting, self.value, self.rule)
    }
}

/// A configuration was refused: every offending setting with its value and its rule. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The offending settings, in the order they were checked; never empty.
    pub violations: Vec<Violation>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.violations.len() {
            1 => f.write_str("1 setting is refused")?,
            n => write!(f, "{n} settings are refused")?,
        }
        for (i, violation) in self.violations.iter().enumerate() {
            f.write_str(if i == 0 { ": " } else { "; " })?;
            fmt::Display::fmt(violation, f)?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}

/// Gathers violations, so that a user repairs a configuration in one round.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes `setting` unless `holds`.
    pub fn require(
        &mut self,
        holds: bool,
        setting: &'static str,
        value: &dyn fmt::Debug,
        rule: impl Into<Cow<'static, str>>,
    ) {
        if !holds {
            self.add(setting, alloc::format!("{value:?}"), rule);
        }
    }

    /// Notes `setting` unless `value` is above zero.
    pub(crate) fn above_zero(&mut self, setting: &'static str, value: Duration) {
        self.require(!value.is_zero(), setting, &value, "must be above zero");
    }

    /// Notes `setting` unless `value` reaches `least`.
    pub(crate) fn at_least<T: PartialOrd + fmt::Display>(
        &mut self,
        setting: &'static str,
        value: T,
        least: T,
    ) {
        if value < least {
            self.add(setting, value, alloc::format!("must be at least {least}"));
        }
    }

    /// Notes `setting` unless `value` is in `range`.
    pub(crate) fn within<T: PartialOrd + fmt::Display>(
        &mut self,
        setting: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let rule = alloc::format!("must be from {} to {}", range.start(), range.end());
            self.add(setting, value, rule);
        }
    }

    /// Notes `setting` unless `value` reaches `bound`, the value of the setting `other`.
    pub(crate) fn not_below(
        &mut self,
        setting: &'static str,
        value: Duration,
        other: &'static str,
        bound: Duration,
    ) {
        if value < bound {
            self.add(setting, alloc::format!("{value:?}"), alloc::format!("must be at least {other}"));
        }
    }

    /// Notes `setting` unless `value` is above `bound`, the value of the setting `other`.
    pub(crate) fn longer_than(
        &mut self,
        setting: &'static str,
        value: Duration,
        other: &'static str,
        bound: Duration,
    ) {
        if value <= bound {
            self.add(setting, alloc::format!("{value:?}"), alloc::format!("must be longer than {other}"));
        }
    }

    /// Notes a violation.
    pub fn add(
        &mut self,
        setting: impl Into<Cow<'static, str>>,
        value: impl ToString,
        rule: impl Into<Cow<'static, str>>,
    ) {
        self.0.push(Violation { setting: setting.into(), value: value.to_string(), rule: rule.into() });
    }

    /// Takes over what another check found, its settings prefixed with `prefix` and a dot.
    pub fn absorb(&mut self, prefix: &str, found: Result<(), ConfigError>) {
        if let Err(error) = found {
            self.0.extend(
                error.violations.into_iter().map(|v| Violation {
                    setting: Cow::Owned(alloc::format!("{prefix}.{}", v.setting)),
                    ..v
                }),
            );
        }
    }

    /// The verdict.
    ///
    /// # Errors
    /// [`ConfigError`] when anything was noted.
    pub fn into_result(self) -> Result<(), ConfigError> {
        if self.0.is_empty() { Ok(()) } else { Err(ConfigError { violations: self.0 }) }
    }
}
