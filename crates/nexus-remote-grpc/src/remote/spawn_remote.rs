//! Starting actors on other nodes.

use std::sync::Arc;

use nexus_actor_core::ask::Ask;
use nexus_actor_core::path::Authority;
use nexus_actor_core::pid::Pid;
use nexus_actor_core::serialization::Encoder;
use nexus_actor_core::{AskError, Refusal, Reply};

use crate::endpoint::Spelled;
use crate::endpoint::pid_entry::PidEntry;
use crate::kinds::{ACTIVATOR, ActivatorMessage, SpawnRequest, Spawned};
use crate::node::Node;
use crate::status::{ResponseStatusCode, SpawnRemoteError};
use crate::wire::proto::remote::{ActorPidRequest, ActorPidResponse};

/// Bytes of a kind or a name.
const NAME_BYTES_MAX: usize = 256;

/// The same on this very node: nothing leaves the process.
async fn spawn_here(node: &Arc<Node>, name: &str, kind: &str) -> Result<Pid, SpawnRemoteError> {
    let failed = |error| SpawnRemoteError::Ask(error);
    let activator = node.activator.get().ok_or(failed(AskError::Shutdown))?;
    let (sender, spawned) = tokio::sync::oneshot::channel();
    activator.tell(ActivatorMessage::Spawn(SpawnRequest {
        kind: kind.to_owned(),
        name: name.to_owned(),
        peer: node.address.clone(),
        // Whoever gave up does not wait for it.
        answer: Box::new(move |spawned| drop(sender.send(spawned))),
    }));
    let after = node.config.get_call_timeout();
    let Spawned { status, actor } = tokio::select! {
        biased;
        spawned = spawned => spawned.map_err(|_| failed(AskError::Stopped))?,
        () = node.system.runtime().sleep_until(node.system.now() + after) => {
            return Err(failed(AskError::Timeout { after }));
        }
    };
    match (status, actor.map(|actor| node.pid_of(&actor))) {
        (ResponseStatusCode::Ok, Some(pid)) => Ok(pid),
        (status, pid) => Err(SpawnRemoteError::Status { status, pid }),
    }
}

pub(crate) async fn spawn(
    node: &Arc<Node>,
    address: &str,
    name: &str,
    kind: &str,
) -> Result<Pid, SpawnRemoteError> {
    for text in [name, kind] {
        if text.len() > NAME_BYTES_MAX {
            return Err(SpawnRemoteError::Invalid {
                value: text.chars().take(64).collect(),
                rule: format!("names and kinds have at most {NAME_BYTES_MAX} bytes"),
            });
        }
    }
    let authority = address
        .parse::<Authority>()
        .map_err(|error| SpawnRemoteError::Invalid { value: address.to_owned(), rule: error.to_string() })?;
    let spelled = address;
    let address = authority.to_string();
    if !node.config.knows_kind(&address, kind) {
        return Err(SpawnRemoteError::KindNotKnown { kind: kind.to_owned(), address });
    }
    let failed = |error| SpawnRemoteError::Ask(error);
    if node.is_own(&address) {
        return spawn_here(node, name, kind).await;
    }
    let request = ActorPidRequest { name: name.to_owned(), kind: kind.to_owned() };
    let endpoint = node.endpoint(&address).map_err(|refusal| failed(AskError::from(refusal)))?;
    endpoint.spell(spelled, Spelled::Dialled);
    let (ask, reply) = Reply::<ActorPidResponse>::pending(&node.system);
    let activator = Arc::new(PidEntry::new(endpoint.spelling(), ACTIVATOR));
    let sent = endpoint.deliver(activator, 0, None, &mut |encoder: &mut Encoder<'_>| {
        encoder.reply_protobuf(&reply)?;
        encoder.protobuf(&request)
    });
    sent.map_err(|refusal: Refusal| failed(AskError::from(refusal)))?;
    drop(reply);
    let ask: Ask<ActorPidResponse> = ask;
    let response = ask.timeout(node.config.get_call_timeout()).await.map_err(failed)?;
    let pid = response.pid.map(|pid| {
        let address = if pid.address.is_empty() { address } else { pid.address };
        Pid::new(address, pid.id)
    });
    match (ResponseStatusCode::from_code(response.status_code), pid) {
        (ResponseStatusCode::Ok, Some(pid)) => Ok(pid),
        (ResponseStatusCode::Ok, None) => {
            Err(SpawnRemoteError::Status { status: ResponseStatusCode::Error, pid: None })
        }
        (status, pid) => Err(SpawnRemoteError::Status { status, pid }),
    }
}
