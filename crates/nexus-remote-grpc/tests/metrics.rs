//! What an operator sees of this wire.

mod support;

use nexus_remote::metrics::MetricsRegistry;
use nexus_remote::{EndpointSource, EndpointStatisticsSnapshot};
use support::{Echo, TestNode, local};

/// The value of a series, 0 where there is none.
fn value(text: &str, name: &str, address: &str) -> f64 {
    let labels = [format!("address=\"{address}\""), "protocol=\"protoactor\"".to_owned()];
    text.lines()
        .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn sums(source: &dyn EndpointSource, address: &str) -> EndpointStatisticsSnapshot {
    let all = source.endpoints();
    let of_address = all.iter().filter(|report| *report.address == *address);
    of_address
        .fold(EndpointStatisticsSnapshot::default(), |sum, report| sum.plus(&report.statistics.totals()))
}

/// Covers: MET-01, MET-02, MET-03, MET-04, MET-05, MET-06, MET-08, ST-06, ST-12, DL-09
#[tokio::test(flavor = "multi_thread")]
async fn figures_are_exported_and_totals_never_go_back() {
    let (a, b) = (TestNode::start("a", local()).await, TestNode::start("b", local()).await);
    let address = b.remote.address().to_owned();
    let registry = MetricsRegistry::new();
    registry.add_source(a.remote.clone());
    let far = a.far(&b, "echo");
    for number in 0..9 {
        far.tell(Echo::Count(number));
    }
    assert_eq!(a.ask(&far, "x").await.as_deref(), Ok("re:x"));
    let nobody = a.far(&b, "nobody");
    assert!(a.ask(&nobody, "x").await.is_err());

    let text = registry.encode();
    assert!(value(&text, "nexus_endpoint_sent_total", &address) >= 11.0, "{text}");
    assert!(value(&text, "nexus_endpoint_queue_capacity", &address) >= 1.0, "{text}");
    for name in [
        "nexus_endpoint_queue_size",
        "nexus_endpoint_deadletters_total",
        "nexus_endpoint_send_failures_total",
        "nexus_endpoint_reconnect_attempts_total",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }

    // The endpoint ends with its last reference, its totals do not.
    let before = sums(&a.remote, &address).sent;
    let mut ended = a.events::<nexus_remote::EndpointTerminatedEvent>();
    drop((far, nobody));
    b.stop().await;
    ended.next("the end").await;
    assert!(a.remote.get_endpoint_statistics(&address).is_none());
    let after = registry.encode();
    assert!(value(&after, "nexus_endpoint_sent_total", &address) >= before as f64, "{after}");
    assert!(sums(&a.remote, &address).sent >= before);
    a.stop().await;
}
