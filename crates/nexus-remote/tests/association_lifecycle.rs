//! Associating, losing and resuming connections, incarnations.

mod association_support;

use association_support::*;

/// Covers: S1, S17
#[test]
fn the_first_send_associates_and_arrives() {
    let mut net = Net::new(2, 1);
    for n in 0..5 {
        net.tell(0, 1, n);
    }
    assert!(net.nodes[1].delivered.is_empty());
    net.run(S(1));
    assert_eq!(net.numbers(1), [0, 1, 2, 3, 4]);
    for (node, peer) in [(0, 1), (1, 0)] {
        assert_eq!(net.side(node, peer).associated(), 1, "{node}");
        assert_eq!(net.side(node, peer).association.remote().cloned(), Some(net.id(peer)));
        net.check_accounting(node, peer);
    }
    let s = net.side(0, 1).association.statistics();
    assert_eq!((s.sent, s.acknowledged, s.in_flight), (5, 5, 0));
}
