//! Why there is no answer.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use nexus_actor_core::remote::ReplyKey;
use nexus_actor_core::{AskError, CorrelationId};

use super::reply_key::{put_key, read_key};
use crate::wire::error::WireError;
use crate::wire::header::{FrameHeader, FrameKind, RawFrame, put_frame, put_text16};
use crate::wire::reader::Reader;
use crate::wire::{check, limit};

/// An ask or a lookup will not be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyFailed {
    /// What is not answered.
    pub key: ReplyKey,
    /// The id of the question.
    pub correlation_id: CorrelationId,
    /// Why. Its text is cut to 1,024 bytes when it is written.
    pub error: AskError,
}

impl ReplyFailed {
    /// Reads the frame in `raw`.
    ///
    /// # Errors
    /// When the body breaks a rule. A code of a later version is no fault: the asker is told that it was one.
    pub fn decode(raw: RawFrame<'_>) -> Result<Self, WireError> {
        raw.check_flags(0)?;
        let mut reader = Reader::new(raw.body);
        let key = read_key("reply_failed.key", &mut reader)?;
        let code = reader.u8("reply_failed.code")?;
        let numbers = [reader.u64("reply_failed.numbers")?, reader.u64("reply_failed.numbers")?];
        let text = reader.text16("reply_failed.text", limit::TEXT)?;
        reader.finish("reply_failed")?;
        let error = ask_error(code, numbers, text);
        Ok(Self { key, correlation_id: raw.header.correlation_id, error })
    }

    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (code, numbers, text) = ask_error_code(&self.error);
        put_frame(out, FrameHeader::with(FrameKind::ReplyFailed, 0, self.correlation_id), |out| {
            put_key(out, self.key);
            out.push(code);
            for number in numbers {
                out.extend_from_slice(&number.to_le_bytes());
            }
            put_text16(out, check::cut(text, limit::TEXT));
        });
    }
}

fn ask_error_code(error: &AskError) -> (u8, [u64; 2], &str) {
    match error {
        AskError::Timeout { after } => (1, [after.as_secs(), u64::from(after.subsec_nanos())], ""),
        AskError::Full => (2, [0; 2], ""),
        AskError::Stopped => (3, [0; 2], ""),
        AskError::NoSuchActor => (4, [0; 2], ""),
        AskError::NoReply => (5, [0; 2], ""),
        AskError::Unreachable => (6, [0; 2], ""),
        AskError::Quarantined => (7, [0; 2], ""),
        AskError::Blocked => (8, [0; 2], ""),
        AskError::Decode(why) => (9, [0; 2], why),
        AskError::Encode(why) => (10, [0; 2], why),
        AskError::TooLarge { size, limit } => (11, [*size as u64, *limit as u64], ""),
        AskError::Denied => (12, [0; 2], ""),
        AskError::Suspended => (13, [0; 2], ""),
        AskError::Shutdown => (14, [0; 2], ""),
        // The core's list is open; what it gains later is told in the closest word there is.
        _ => (6, [0; 2], ""),
    }
}

fn ask_error(code: u8, [first, second]: [u64; 2], text: &str) -> AskError {
    let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
    match code {
        1 => AskError::Timeout {
            // A carry from the peer's nanoseconds would overflow, and a panic is no answer.
            after: Duration::new(first, second.min(999_999_999) as u32),
        },
        2 => AskError::Full,
        3 => AskError::Stopped,
        4 => AskError::NoSuchActor,
        5 => AskError::NoReply,
        6 => AskError::Unreachable,
        7 => AskError::Quarantined,
        8 => AskError::Blocked,
        9 => AskError::Decode(text.to_string()),
        10 => AskError::Encode(text.to_string()),
        11 => AskError::TooLarge { size: size(first), limit: size(second) },
        12 => AskError::Denied,
        13 => AskError::Suspended,
        14 => AskError::Shutdown,
        other => AskError::Decode(later_code(other, text)),
    }
}

#[cold]
fn later_code(code: u8, text: &str) -> String {
    format!("failure code {code} of a later version: {text}")
}
