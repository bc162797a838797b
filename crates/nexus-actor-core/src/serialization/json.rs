//! JSON payloads of a protobuf wire.

use alloc::string::{String, ToString};
use core::any::Any;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads one value and nothing behind it.
///
/// Serde's own formats of the types that stand for protobuf's well-known wrappers differ from protobuf's JSON mapping
/// for some: those are read here.
pub(super) fn read<T: DeserializeOwned + 'static>(payload: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Empty {}
    /// A 64-bit number: protobuf writes those as text, since JavaScript's numbers do not hold them.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Long<N> {
        Number(N),
        Text(String),
    }
    fn long<N: DeserializeOwned + core::str::FromStr<Err = core::num::ParseIntError>>(
        payload: &[u8],
    ) -> Result<N, String> {
        match parse(payload)? {
            Long::Number(number) => Ok(number),
            Long::Text(text) => text.parse().map_err(|error: core::num::ParseIntError| error.to_string()),
        }
    }
    fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
        serde_json::from_slice(payload).map_err(|error| error.to_string())
    }
    /// `value` if it is a `T`.
    fn same<T: 'static, U: 'static>(value: impl FnOnce() -> Result<U, String>) -> Option<Result<T, String>> {
        if core::any::TypeId::of::<T>() != core::any::TypeId::of::<U>() {
            return None;
        }
        Some(value().and_then(|value| {
            let mut value = Some(value);
            let value = (&mut value as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take);
            value.ok_or_else(String::new)
        }))
    }
    same(|| long::<u64>(payload))
        .or_else(|| same(|| long::<i64>(payload)))
        .or_else(|| same(|| parse::<Empty>(payload).map(|Empty {}| ())))
        .unwrap_or_else(|| parse(payload))
}
