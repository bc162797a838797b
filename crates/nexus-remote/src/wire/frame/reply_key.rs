//! The key of an ask, as several frames carry it.

use alloc::vec::Vec;

use nexus_actor_core::remote::ReplyKey;

use crate::wire::error::WireError;
use crate::wire::reader::Reader;

pub(super) const KEY_BYTES: usize = 12;

#[inline]
pub(super) fn put_key(out: &mut Vec<u8>, key: ReplyKey) {
    out.extend_from_slice(&key.secret.to_le_bytes());
    out.extend_from_slice(&key.slot.to_le_bytes());
}

#[inline]
pub(super) const fn read_key(field: &'static str, reader: &mut Reader<'_>) -> Result<ReplyKey, WireError> {
    let secret = match reader.u64(field) {
        Ok(secret) => secret,
        Err(error) => return Err(error),
    };
    match reader.u32(field) {
        Ok(slot) => Ok(ReplyKey { secret, slot }),
        Err(error) => Err(error),
    }
}
