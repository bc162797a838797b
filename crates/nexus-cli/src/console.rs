//! What a person or a script reads.

use core::fmt;
use std::io::{self, IsTerminal, Write};

/// Writes a line to standard output at once.
///
/// # Errors
/// When nobody reads any more; unlike `println!` it does not panic.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes a remark to standard error. Nobody may be reading it.
pub(crate) fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes an error to standard error.
pub(crate) fn error(text: &str) {
    let style = if is_colored(&io::stderr()) { Style::COLORED } else { Style::PLAIN };
    let _ = writeln!(io::stderr().lock(), "{}error:{} {text}", style.bad, style.off);
}

/// An error and its causes on one line; a cause that is told already is not told again.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// Whether an error says that the reader of our output has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// The escapes that colour a text; empty when it is not to be coloured.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) dim: &'static str,
    pub(crate) good: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) strong: &'static str,
    pub(crate) off: &'static str,
}

impl Style {
    const COLORED: Self =
        Self { dim: "\x1b[2m", good: "\x1b[32m", bad: "\x1b[31m", strong: "\x1b[1m", off: "\x1b[0m" };
    const PLAIN: Self = Self { dim: "", good: "", bad: "", strong: "", off: "" };

    /// How to write to standard output.
    pub(crate) fn stdout() -> Self {
        if is_colored(&io::stdout()) { Self::COLORED } else { Self::PLAIN }
    }
}

/// Only a terminal is coloured, and never against `NO_COLOR` (set to anything but the empty text).
fn is_colored(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_chain_tells_nothing_twice() {
        let error = anyhow::anyhow!("in use").context("7: in use").context("no start");
        assert_eq!(chain(&error), "no start: 7: in use");
    }

    #[test]
    fn a_broken_pipe_is_found_below_its_context() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("while writing");
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
