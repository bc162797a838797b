//! The node or actor that a command talks to.

use core::str::FromStr;

use anyhow::anyhow;
use nexus_actor::AskError;
use nexus_actor::path::{ActorPath, ActorPathParts, ActorPathScheme};

/// How two nodes talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Native,
    /// gRPC, as protoactor-go does.
    Protoactor,
}

/// `fraktor.tcp://system@host:port` or `protoactor://host:port`, with or without the path of an actor.
#[derive(Clone, Debug)]
pub(crate) struct Target(ActorPathParts);

const RULE: &str = "must name system, host and port, such as fraktor.tcp://b@127.0.0.1:25520/user/echo, or host and port, \
                    such as protoactor://127.0.0.1:8090/user/echo";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: ActorPathParts = text.parse().map_err(|error| format!("{error}; it {RULE}"))?;
        let is_protoactor = *parts.scheme() == ActorPathScheme::Protoactor;
        if parts.authority().is_none() || (parts.system().is_none() && !is_protoactor) {
            return Err(String::from(RULE));
        }
        Ok(Self(parts))
    }
}

impl Target {
    pub(crate) fn wire(&self) -> Wire {
        if *self.0.scheme() == ActorPathScheme::Protoactor { Wire::Protoactor } else { Wire::Native }
    }

    /// The actor's path; `default` is the actor meant when only a node was given.
    pub(crate) fn path(&self, default: &str) -> anyhow::Result<ActorPath> {
        let address = self.0.address("");
        let elements = match self.0.elements() {
            "/" | "" => default,
            elements => elements,
        };
        ActorPath::checked(address, elements, self.0.uid()).map_err(|error| anyhow!("{elements}: {error}"))
    }
}

/// What a wrong address is answered with.
pub(crate) const USE_WHAT_IT_PRINTED: &str = "use exactly the address that the node printed as `listening`";

/// A failed ask in words that say what to look at.
pub(crate) fn explain(path: &ActorPath, error: &AskError) -> String {
    let hint = match error {
        AskError::Quarantined => {
            return format!(
                "{path} does not answer: {error}; the address may be wrong: {USE_WHAT_IT_PRINTED}"
            );
        }
        AskError::Timeout { .. } | AskError::Unreachable => {
            "; is the node running, and is that the address it printed?"
        }
        AskError::NoSuchActor => "; `nexus-cli node` has /user/echo, /user/sink and /user/counter",
        AskError::Decode(_) => "; the actor takes other messages than this command sends",
        _ => "",
    };
    format!("{path} does not answer: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_node_or_an_actor() {
        let node: Target = "fraktor.tcp://b@127.0.0.1:25520".parse().unwrap();
        assert_eq!(node.path("/user/echo").unwrap().to_string(), "fraktor.tcp://b@127.0.0.1:25520/user/echo");
        let actor: Target = "fraktor.tcp://b@127.0.0.1:25520/user/x".parse().unwrap();
        assert_eq!(actor.path("/user/echo").unwrap().elements(), "/user/x");
        assert_eq!(actor.wire(), Wire::Native);
        let other: Target = "protoactor://127.0.0.1:8090".parse().unwrap();
        assert_eq!(other.path("/user/echo").unwrap().to_string(), "protoactor://127.0.0.1:8090/user/echo");
        assert_eq!(other.wire(), Wire::Protoactor);
        for wrong in [
            "",
            "b",
            "127.0.0.1:25520",
            "fraktor.tcp://b",
            "fraktor.tcp://b@127.0.0.1:99999/user/x",
            "protoactor://b",
        ] {
            let says = wrong.parse::<Target>().unwrap_err();
            assert!(says.contains("such as protoactor://"), "{wrong}: {says}");
        }
    }
}
