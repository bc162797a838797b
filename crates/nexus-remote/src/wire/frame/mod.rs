//! The typed frames of the control lane and of the ordinary lane.

mod control;
mod definition;
mod envelope;
mod header_pairs;
mod lookup;
mod open_frame;
mod ordinary;
mod reply;
mod reply_failed;
mod reply_key;

pub use control::{Acknowledge, ControlFrame};
pub use definition::{DefineManifest, DefineReference};
pub use envelope::{Envelope, EnvelopeReply, EnvelopeWriter};
pub use header_pairs::HeaderPairs;
pub use lookup::Lookup;
pub use ordinary::OrdinaryFrame;
pub use reply::{Reply, ReplyWriter};
pub use reply_failed::ReplyFailed;
