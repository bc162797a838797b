//! What this node tells of its actors, when it is asked and allowed to.

use std::time::{Duration, Instant};

use nexus_actor_core::AnyRef;
use nexus_actor_core::pid::Pid;
use regex::RegexBuilder;

use crate::node::Node;
use crate::wire::proto::actor;
use crate::wire::proto::remote::{ListProcessesMatchType, ListProcessesRequest};

/// Bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 1_024;
/// Memory of a compiled pattern.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// The second, and the requests that were answered in it.
#[derive(Default)]
pub(crate) struct Answered {
    began: Option<Instant>,
    count: u32,
}

impl Answered {
    /// Counts one more, unless there were `max` in this second.
    pub(crate) fn one_more(&mut self, now: Instant, max: u32) -> bool {
        if self.began.is_none_or(|began| now.duration_since(began) >= Duration::from_secs(1)) {
            *self = Self { began: Some(now), count: 0 };
        }
        let is_within = self.count < max;
        self.count += u32::from(is_within);
        is_within
    }
}

/// The actors whose id matches, in the order of the tree.
///
/// # Errors
/// When the pattern is too long or no pattern; the text says why.
pub(crate) fn list(node: &Node, request: &ListProcessesRequest) -> Result<Vec<actor::Pid>, String> {
    if request.pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!(
            "a pattern of {} bytes, where {PATTERN_BYTES_MAX} are accepted",
            request.pattern.len()
        ));
    }
    let pattern = request.pattern.as_str();
    let matches: Box<dyn Fn(&str) -> bool> = match ListProcessesMatchType::try_from(request.r#type) {
        Ok(ListProcessesMatchType::MatchPartOfString) => Box::new(|id| id.contains(pattern)),
        Ok(ListProcessesMatchType::MatchExactString) => Box::new(|id| id == pattern),
        Ok(ListProcessesMatchType::MatchRegex) => {
            // Linear in time whatever the pattern: no backtracking.
            let regex = RegexBuilder::new(pattern)
                .size_limit(PATTERN_SIZE_MAX)
                .dfa_size_limit(PATTERN_SIZE_MAX)
                .build()
                .map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
            Box::new(move |id| regex.is_match(id))
        }
        Err(_) => return Err(format!("match type {} is not known", request.r#type)),
    };
    let limits = node.config.get_limits();
    let mut bytes = 0;
    let mut found = Vec::new();
    for actor in node.system.processes().list() {
        let id = plain_id(&actor);
        if !matches(&id) {
            continue;
        }
        // Two length prefixes and two tags, and the address.
        bytes += id.len() + node.address.len() + 8;
        if found.len() == limits.diagnostics_page || bytes > limits.diagnostics_bytes {
            break;
        }
        found.push(actor::Pid { address: node.address.to_string(), id: id.to_string(), request_id: 0 });
    }
    Ok(found)
}

/// What is known of one actor: whether it lives, what it takes, how much waits. Nothing of any message.
pub(crate) fn describe(node: &Node, pid: &actor::Pid) -> String {
    match node.find_any(&pid.id) {
        None => format!("id: {}\nalive: false\n", pid.id.escape_debug()),
        Some(actor) => format!(
            "id: {}\nalive: {}\nuid: {}\nmessage: {}\nwaiting: {}\n",
            plain_id(&actor).escape_debug(),
            !actor.is_terminated(),
            actor.uid(),
            actor.message_type(),
            actor.mailbox_len(),
        ),
    }
}

/// The id of an actor here without its incarnation.
fn plain_id(actor: &AnyRef) -> std::sync::Arc<str> {
    Pid::from_path(&actor.path().with_uid(nexus_actor_core::path::ActorUid::ANY)).id
}
