//! The node that a command starts to talk to another.

use core::time::Duration;

use anyhow::Context as _;
use nexus_actor::ActorSystemConfig;
use nexus_actor::grpc::{Config, ConfigOption, Remote};
use nexus_actor::prelude::*;
use nexus_actor::remote::RemotingExtensionConfig;
use nexus_actor::remote::event::RemotingLifecycleEvent;
use nexus_actor::remote::wire::QuarantineReason;

use crate::args::OwnNode;
use crate::console;
use crate::target::{USE_WHAT_IT_PRINTED, Wire};

impl OwnNode {
    /// Starts the node that talks to the target. Its name is its own, since a peer tells nodes apart by it.
    pub(crate) async fn start(&self, wire: Wire, ask_timeout: Duration) -> anyhow::Result<ActorSystem> {
        let no_start = "this side's node does not start";
        let name = format!("cli-{:08x}", fastrand::u32(..));
        let builder = ActorSystem::builder(name)
            .with_config(ActorSystemConfig { ask_timeout, ..ActorSystemConfig::default() });
        let system = match wire {
            Wire::Native => {
                let config = RemotingExtensionConfig::default()
                    .with_bind(self.bind.host(), self.bind.port())
                    .with_insecure_plaintext(self.insecure_plaintext);
                builder.with_remoting(config).build().context(no_start)?
            }
            Wire::Protoactor => {
                let system = builder.build().context(no_start)?;
                let config = Config::new(self.bind.host(), self.bind.port())
                    .with([ConfigOption::with_insecure_plaintext(self.insecure_plaintext)]);
                // The system holds it from here on.
                Remote::start(&system, config).await.context(no_start)?;
                system
            }
        };
        system.event_stream().subscribe(tell_the_right_address).forever();
        crate::actors::register(&system)?;
        Ok(system)
    }
}

/// A node that is called otherwise than the target says refuses for good, and says what it is called.
fn tell_the_right_address(event: &RemotingLifecycleEvent) {
    if let RemotingLifecycleEvent::Quarantined { reason: QuarantineReason::WrongAddress, facts, .. } = event {
        console::remark(&format!("{facts}; {USE_WHAT_IT_PRINTED}"));
    }
}
