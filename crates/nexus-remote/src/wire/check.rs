//! The rules for texts, applied alike when a value is made and when it is read.

use nexus_actor_core::path::validate_element;

use super::error::{WireError, WireRule};
use super::limit;

/// A name: not empty, within `max` bytes, no control character.
pub(crate) fn name(field: &'static str, text: &str, max: usize) -> Result<(), WireError> {
    if text.is_empty() {
        return Err(WireError::new(field, WireRule::Empty));
    }
    text_of(field, text, max)
}

/// As [`name`], but it may be empty.
pub(crate) fn text_of(field: &'static str, text: &str, max: usize) -> Result<(), WireError> {
    if text.len() > max {
        return Err(WireError::new(field, WireRule::TooLong { length: text.len(), limit: max }));
    }
    // A byte of a longer UTF-8 sequence is never below 0x80.
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(WireError::new(field, WireRule::ControlCharacter));
    }
    Ok(())
}

/// A path below the root: `/user/a/b` (L11).
pub(crate) fn path(field: &'static str, text: &str) -> Result<(), WireError> {
    name(field, text, limit::PATH)?;
    let Some(names) = text.strip_prefix('/') else { return Err(WireError::new(field, WireRule::NotAPath)) };
    let mut count = 0;
    for element in names.split('/') {
        if validate_element(element).is_err() {
            return Err(WireError::new(field, WireRule::NotAPath));
        }
        count += 1;
    }
    if count > limit::PATH_ELEMENTS {
        return Err(WireError::new(field, WireRule::TooMany { count, limit: limit::PATH_ELEMENTS }));
    }
    Ok(())
}

/// The longest beginning of `text` that has at most `max` bytes and ends between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
