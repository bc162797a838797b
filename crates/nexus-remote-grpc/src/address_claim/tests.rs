//! How often the holder of a name is asked.

use nexus_actor_core::ActorSystem;

use super::Question;
use crate::{Config, Remote};

/// However many claim a name, its holder has a few questions at a time, and none is left of claims that ended.
///
/// Covers: T10
#[tokio::test]
async fn many_claims_are_few_questions() {
    let system = ActorSystem::builder("node").build().expect("a system");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let node = remote.node_for_tests().clone();
    let holder = node.endpoint("127.0.0.1:1").expect("an address");
    let mut claims = Vec::new();
    for number in 1..=30 {
        claims.push(Question::ask(&holder));
        assert_eq!(node.asks.len(), number.min(4), "after {number} claims");
    }
    // Who asked gives up: the others only wait, until there are few of them.
    claims.drain(..4);
    assert_eq!(node.asks.len(), 0);
    claims.push(Question::ask(&holder));
    assert_eq!(node.asks.len(), 0, "{} others wait", claims.len() - 1);
    claims.truncate(3);
    claims.push(Question::ask(&holder));
    assert_eq!(node.asks.len(), 1);
    drop(claims);
    assert_eq!(node.asks.len(), 0);
    remote.shutdown(false).await;
}
