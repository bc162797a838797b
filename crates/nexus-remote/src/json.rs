//! Shared spelling of events and metrics in JSON.

use alloc::string::{String, ToString};

use nexus_actor_core::CorrelationId;
use nexus_actor_core::path::ActorUid;
use serde_json::{Map, Value};

/// A flat object. Keys come out sorted, so equal objects are equal texts.
#[derive(Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_string(), value.into());
        self
    }

    pub(crate) fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// As text: most readers of JSON keep only 53 bits of a number.
    pub(crate) fn with_uid(self, uid: ActorUid) -> Self {
        self.with("uid", uid.to_string())
    }

    pub(crate) fn with_correlation(self, id: CorrelationId) -> Self {
        self.with("correlation_id", id.to_string())
    }

    pub(crate) fn finish(self) -> String {
        Value::Object(self.0).to_string()
    }
}
