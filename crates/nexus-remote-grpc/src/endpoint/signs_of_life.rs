//! Who waits for the sign of life that a touch asks for.

use std::sync::Arc;

use nexus_actor_core::path::ActorUid;
use nexus_actor_core::remote::{PendingReply, ReplyKey, Route};
use nexus_actor_core::serialization::protobuf::Named;
use nexus_actor_core::serialization::{DecodeError, Encoder};
use nexus_actor_core::{AskError, TerminationReason};

use crate::endpoint::Endpoint;

/// Runs its function when there is an answer. Any one, a failure as well, shows that the peer is there.
pub(crate) struct SignOfLife<F>(pub(crate) F);

impl<F: Fn() + Send + Sync> PendingReply for SignOfLife<F> {
    fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
        (self.0)();
        Ok(())
    }
    fn complete_named(&self, _: &Named<'_>) -> Result<(), DecodeError> {
        (self.0)();
        Ok(())
    }
    fn fail(&self, error: AskError) {
        if error == AskError::NoSuchActor {
            (self.0)();
        }
    }
    fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
    fn is_over(&self) -> bool {
        false
    }
}

/// Waits for the sign of life of an actor that is watched.
pub(crate) struct WatchTouch {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) id: Arc<str>,
}

impl PendingReply for WatchTouch {
    fn complete(&self, _: &[u8]) -> Result<(), DecodeError> {
        Ok(())
    }
    fn complete_named(&self, _: &Named<'_>) -> Result<(), DecodeError> {
        Ok(())
    }
    fn fail(&self, error: AskError) {
        if error == AskError::NoSuchActor {
            self.endpoint.watcher.terminated(&self.id, &TerminationReason::NeverExisted);
        }
    }
    fn pending_at(&self, _: Option<(Arc<dyn Route>, ReplyKey)>) {}
    fn is_over(&self) -> bool {
        false
    }
}

/// Turns a sign of life into the answer of a lookup. This wire knows no incarnations: any will do.
pub(crate) struct Found(pub(crate) Arc<dyn PendingReply>);

impl PendingReply for Found {
    fn complete(&self, payload: &[u8]) -> Result<(), DecodeError> {
        self.0.complete(payload)
    }
    fn complete_named(&self, _: &Named<'_>) -> Result<(), DecodeError> {
        let mut uid = Vec::new();
        let mut encoder = Encoder::new(&mut uid, 16);
        encoder.postcard(&ActorUid::ANY.get()).map_err(DecodeError::failed)?;
        self.0.complete(&uid)
    }
    fn fail(&self, error: AskError) {
        self.0.fail(error);
    }
    fn pending_at(&self, place: Option<(Arc<dyn Route>, ReplyKey)>) {
        self.0.pending_at(place);
    }
    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}
