//! Who answers for what a call has taken.

use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::endpoint_writer::outbound::OutboundControl;

/// Of whoever has a call, and hears what the peer says of it. However it is let go of, be it by a panic, the call takes nothing
/// more, what went out and is not confirmed by then is unknown, and questions among it fail where the peer confirms.
pub(crate) struct CallOwner {
    endpoint: Arc<Endpoint>,
    control: Arc<OutboundControl>,
}

impl CallOwner {
    pub(crate) fn of(endpoint: &Arc<Endpoint>, control: &Arc<OutboundControl>) -> Self {
        Self { endpoint: endpoint.clone(), control: control.clone() }
    }
}

impl Drop for CallOwner {
    fn drop(&mut self) {
        self.control.close();
        let node = self.endpoint.node();
        node.add_late_unknown(&self.endpoint, self.control.settle(&node.asks));
    }
}
