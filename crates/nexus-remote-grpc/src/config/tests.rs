use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use nexus_remote::backpressure::BackpressureSignal;

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn applied(option: &ConfigOption) -> Config {
    let mut config = Config::default();
    option.apply(&mut config);
    config
}

/// Checks that the option changes what its getter reads, from the default to `value`, and nothing else that is printed.
#[track_caller]
fn changes<T: PartialEq + fmt::Debug>(
    option: &ConfigOption,
    get: impl Fn(&Config) -> T,
    default: T,
    value: T,
) {
    let (before, after) = (Config::default(), applied(option));
    assert_eq!((get(&before), get(&after)), (default, value), "{option:?}");
    let lines = |config: &Config| format!("{config:#?}").lines().map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (lines(&before), lines(&after));
    if before.len() == after.len() {
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(changed <= 1, "{option:?} changed {changed} lines");
    }
}

/// Covers: CFG-01, CFG-02, CFG-03, CFG-04, CFG-40, API-21, API-22, API-25, TST-34, BP-10
#[test]
fn options_of_sizes_change_their_settings() {
    type Option = ConfigOption;
    changes(&Option::with_endpoint_writer_batch_size(7), Config::get_endpoint_writer_batch_size, 512, 7);
    changes(
        &Option::with_endpoint_writer_queue_size(7),
        Config::get_endpoint_writer_queue_size,
        1_000_000,
        7,
    );
    changes(
        &Option::with_endpoint_writer_queue_bytes(7),
        Config::get_endpoint_writer_queue_bytes,
        67_108_864,
        7,
    );
    changes(&Option::with_endpoint_manager_batch_size(7), Config::get_endpoint_manager_batch_size, 1_000, 7);
    changes(
        &Option::with_endpoint_manager_queue_size(7),
        Config::get_endpoint_manager_queue_size,
        1_000_000,
        7,
    );
    let limits = Limits { watches: 7, ..Limits::default() };
    changes(&Option::with_limits(limits), Config::get_limits, Limits::default(), limits);
    let limits = BatchLimits { envelopes: 7, ..BatchLimits::default() };
    changes(&Option::with_batch_limits(limits), Config::get_batch_limits, BatchLimits::default(), limits);
}

/// Covers: CFG-05, CFG-06, CFG-07, CFG-08, CFG-09, CFG-10, CFG-41, API-23, API-24, TST-34
#[test]
fn options_of_connections_change_their_settings() {
    type Option = ConfigOption;
    changes(
        &Option::with_endpoint_reconnect_max_retries(7),
        Config::get_endpoint_reconnect_max_retries,
        5,
        7,
    );
    changes(
        &Option::with_endpoint_reconnect_initial_backoff(ms(7)),
        Config::get_endpoint_reconnect_initial_backoff,
        ms(200),
        ms(7),
    );
    changes(
        &Option::with_endpoint_reconnect_max_backoff(ms(7)),
        Config::get_endpoint_reconnect_max_backoff,
        ms(5_000),
        ms(7),
    );
    changes(&Option::with_endpoint_reconnect_jitter(0.5), Config::get_endpoint_reconnect_jitter, 0.2, 0.5);
    changes(
        &Option::with_endpoint_heartbeat_interval(ms(7)),
        Config::get_endpoint_heartbeat_interval,
        ms(15_000),
        ms(7),
    );
    changes(
        &Option::with_endpoint_heartbeat_timeout(ms(7)),
        Config::get_endpoint_heartbeat_timeout,
        ms(45_000),
        ms(7),
    );
    changes(&Option::with_connect_timeout(ms(7)), Config::get_connect_timeout, ms(5_000), ms(7));
    changes(&Option::with_handshake_timeout(ms(7)), Config::get_handshake_timeout, ms(10_000), ms(7));
    changes(&Option::with_call_timeout(ms(7)), Config::get_call_timeout, ms(10_000), ms(7));
    changes(&Option::with_shutdown_flush(ms(7)), Config::get_shutdown_flush, ms(3_000), ms(7));
    changes(&Option::with_shutdown_timeout(ms(7)), Config::get_shutdown_timeout, ms(10_000), ms(7));

    let policy = ReconnectPolicy { max_retries: 1, initial_backoff: ms(2), max_backoff: ms(3), jitter: 0.4 };
    let config = applied(&Option::with_endpoint_reconnect_policy(policy));
    assert_eq!(config.get_endpoint_reconnect_policy(), policy);
    let heartbeat = HeartbeatConfig { interval: ms(1), timeout: ms(2) };
    let config = applied(&Option::with_endpoint_heartbeat(heartbeat));
    assert_eq!(config.get_endpoint_heartbeat(), heartbeat);
}

/// Covers: CFG-11, CFG-12, CFG-41, BP-12, CNF-16, CNF-20
#[test]
fn options_of_pressure_change_their_settings() {
    type Option = ConfigOption;
    changes(
        &Option::with_backpressure_warning_threshold(0.1),
        Config::get_backpressure_warning_threshold,
        0.6,
        0.1,
    );
    changes(
        &Option::with_backpressure_critical_threshold(0.9),
        Config::get_backpressure_critical_threshold,
        0.85,
        0.9,
    );
    let (newest, oldest) = (Overflow::RefuseNewest, Overflow::DropOldest);
    changes(&Option::with_queue_overflow(oldest), Config::get_queue_overflow, newest, oldest);
    changes(&Option::with_drop_oldest(), Config::get_queue_overflow, newest, oldest);
    changes(
        &Option::with_queue_patience(Patience::Keep),
        Config::get_queue_patience,
        Patience::Drop,
        Patience::Keep,
    );
    changes(&Option::with_auto_throttle(Some(ms(7))), Config::get_auto_throttle, None, Some(ms(7)));
    let marks = Config::default().backpressure_marks();
    for (ratio, expected) in [
        (0.599, BackpressureSignal::Normal),
        (0.6, BackpressureSignal::Warning),
        (0.85, BackpressureSignal::Warning),
        (0.851, BackpressureSignal::Critical),
    ] {
        assert_eq!(marks.signal(ratio), expected, "{ratio}");
    }
}

/// Covers: CFG-13, CFG-14, CFG-15, CFG-16, CFG-17, BLK-04, SEC-01
#[test]
fn options_of_peers_and_calls_change_their_settings() {
    type Option = ConfigOption;
    changes(&Option::with_host("::1"), |c| c.get_host().to_owned(), "127.0.0.1".into(), "::1".into());
    changes(&Option::with_port(7), Config::get_port, 0, 7);
    let advertised = |c: &Config| c.get_advertised_host().map(str::to_owned);
    changes(&Option::with_advertised_host("h:7"), advertised, None, Some("h:7".into()));
    let blocked = |c: &Config| c.get_blocked_systems().to_vec();
    changes(&Option::with_blocked_systems(["a", "h:1"]), blocked, vec![], vec!["a".into(), "h:1".into()]);
    let allowed = |c: &Config| c.get_allowed_systems().to_vec();
    changes(&Option::with_allowed_systems(["a"]), allowed, vec![], vec!["a".into()]);
    changes(&Option::with_diagnostics(true), Config::get_diagnostics, false, true);
    changes(&Option::with_peer_lifecycle(true), Config::get_peer_lifecycle, false, true);
    changes(&Option::with_insecure_plaintext(true), Config::get_insecure_plaintext, false, true);
    changes(
        &Option::with_default_wire_form(WireForm::W2),
        Config::get_default_wire_form,
        WireForm::W1,
        WireForm::W2,
    );
    let form = |c: &Config| c.get_wire_form("h.:1");
    changes(&Option::with_wire_form("H:1", WireForm::W2), form, None, Some(WireForm::W2));
    let tls = |c: &Config| (c.get_client_tls().is_some(), c.get_server_tls().is_some());
    changes(&Option::with_client_tls(ClientTlsConfig::new()), tls, (false, false), (true, false));
    changes(&Option::with_server_tls(ServerTlsConfig::new()), tls, (false, false), (false, true));
    let mutual = |config: &Config| config.get_mutual_tls().is_some();
    changes(&Option::with_mutual_tls(MutualTls::new("", "", "")), mutual, false, true);

    let served = Arc::new(AtomicUsize::new(0));
    let counter = served.clone();
    let config = Config::from([
        Option::with_dial_option(|endpoint| endpoint.connect_timeout(ms(7))),
        Option::with_dial_option(|endpoint| {
            let before = endpoint.get_connect_timeout();
            endpoint.tcp_keepalive(before)
        }),
        Option::with_server_option(move |server| {
            counter.fetch_add(1, Ordering::Relaxed);
            server
        }),
        Option::with_call_interceptor(|mut request| {
            request.metadata_mut().insert("token", "secret".parse().unwrap());
            Ok(request)
        }),
        Option::with_server_interceptor(|request| match request.metadata().get("token") {
            Some(_) => Ok(request),
            None => Err(Status::unauthenticated("no token")),
        }),
    ]);
    let endpoint = config.dial(Endpoint::from_static("http://h:1"));
    assert_eq!(endpoint.get_tcp_keepalive(), Some(ms(7)), "in their order");
    assert_eq!(config.get_server_options().len(), 1);
    let _ = config.serve(Server::builder());
    assert_eq!(served.load(Ordering::Relaxed), 1);
    let call = config.intercept_call(tonic::Request::new(())).unwrap();
    assert!(config.intercept_server(call).is_ok());
    assert!(config.intercept_server(tonic::Request::new(())).is_err());
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn what_an_address_knows_is_a_list_only_once_something_was_said() {
    let config = Config::from([
        ConfigOption::with_known_type_names("H:1", ["shop.Order"]),
        ConfigOption::with_known_type_names("h:1", ["shop.Bill"]),
        ConfigOption::with_known_kinds("h:1", ["echo"]),
    ]);
    for (address, name, expected) in [
        ("h:1", "shop.Order", true),
        ("h.:1", "shop.Bill", true),
        ("h:1", "shop.Other", false),
        ("h:2", "shop.Other", true),
    ] {
        assert_eq!(config.knows_type_name(address, name), expected, "{address} {name}");
    }
    assert!(config.knows_kind("h:1", "echo") && !config.knows_kind("h:1", "other"));
    assert!(config.knows_kind("h:2", "other"));
    assert_eq!(config.get_known_type_names("h:1").map(BTreeSet::len), Some(2));
    assert_eq!(config.get_known_kinds("h:2"), None);
}

/// Covers: CFG-42, CNF-01, CNF-03
#[test]
fn parity_is_what_go_does() {
    let config = Config::protoactor_parity();
    config.validate().unwrap();
    assert_eq!(config.get_endpoint_writer_batch_size(), 1_000);
    assert_eq!(config.get_endpoint_writer_queue_size(), 1_000_000);
    assert_eq!(config.get_endpoint_reconnect_policy(), ReconnectPolicy::fixed(5, ms(2_000)));
    assert_eq!(config.get_queue_patience(), Patience::Drop);
    assert!(config.get_peer_lifecycle());
    assert_eq!(config.warnings(), ["peer_lifecycle: any peer may stop actors of this node"]);
    assert!(Config::default().warnings().is_empty());
}

#[test]
fn the_machine_and_the_mailbox_get_what_was_set() {
    let config = Config::from([
        ConfigOption::with_endpoint_reconnect_max_retries(9),
        ConfigOption::with_endpoint_heartbeat_interval(ms(1)),
        ConfigOption::with_connect_timeout(ms(20)),
        ConfigOption::with_handshake_timeout(ms(3)),
        ConfigOption::with_queue_patience(Patience::Keep),
        ConfigOption::with_auto_throttle(Some(ms(4))),
        ConfigOption::with_endpoint_writer_queue_size(5),
        ConfigOption::with_endpoint_writer_queue_bytes(6),
        ConfigOption::with_limits(Limits { system_messages: 7, system_bytes: 8, ..Limits::new() }),
        ConfigOption::with_drop_oldest(),
        ConfigOption::with_backpressure_warning_threshold(0.5),
    ]);
    let state = config.endpoint_state_config();
    assert_eq!((state.reconnect_policy.max_retries, state.heartbeat.interval), (9, ms(1)));
    assert_eq!((state.attempt_timeout, state.patience), (ms(23), Patience::Keep));
    assert_eq!(state.auto_throttle, Some(ms(4)));
    let bounds = config.mailbox_bounds();
    assert_eq!((bounds.messages_max, bounds.bytes_max), (5, 6));
    assert_eq!((bounds.system_messages_max, bounds.system_bytes_max), (7, 8));
    assert_eq!((bounds.overflow, bounds.marks.warning), (Overflow::DropOldest, 0.5));
    assert_eq!(Config::default().endpoint_state_config(), EndpointStateConfig::default());
    assert_eq!(Config::default().mailbox_bounds(), MailboxBounds::default());
}

/// Covers: S114
#[test]
fn the_announced_address_is_the_one_set_or_the_bound_one() {
    let bound = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_711));
    for (options, expected) in [
        (vec![], "127.0.0.1:4711"),
        (vec![ConfigOption::with_host("LocalHost.")], "localhost:4711"),
        (vec![ConfigOption::with_host("::1")], "[::1]:4711"),
        (vec![ConfigOption::with_advertised_host("Shop.example:80")], "shop.example:80"),
        (vec![ConfigOption::with_advertised_host("shop.example")], "shop.example:4711"),
        (vec![ConfigOption::with_advertised_host("[::1]:80")], "[::1]:80"),
    ] {
        assert_eq!(Config::from(options).advertised_address(bound), expected);
    }
    let config = Config::new("localhost", 7);
    assert_eq!((config.get_host(), config.get_port()), ("localhost", 7));
}

#[track_caller]
fn offending(config: &Config) -> Vec<String> {
    config.validate().err().map_or_else(Vec::new, |error| {
        error.violations.iter().map(|violation| violation.setting.to_string()).collect()
    })
}

/// Each rule at its edge, on both sides.
///
/// Covers: CFG-43, S116, T1
#[test]
fn a_setting_that_breaks_a_rule_is_named_and_one_at_its_edge_is_not() {
    type Option = ConfigOption;
    let hour = ms(3_600_000);
    let tick = Duration::from_nanos(1);
    let zero = Duration::ZERO;
    for (options, expected) in [
        (vec![], ""),
        (vec![Option::with_host("")], "host"),
        (vec![Option::with_host("a b")], "host"),
        (vec![Option::with_host("0.0.0.0"), Option::with_insecure_plaintext(true)], "host"),
        (
            vec![
                Option::with_host("0.0.0.0"),
                Option::with_insecure_plaintext(true),
                Option::with_advertised_host("10.0.0.1:80"),
            ],
            "",
        ),
        (vec![Option::with_host("10.0.0.1")], "host"),
        (vec![Option::with_host("10.0.0.1"), Option::with_insecure_plaintext(true)], ""),
        (vec![Option::with_host("10.0.0.1"), Option::with_server_tls(ServerTlsConfig::new())], ""),
        (vec![Option::with_host("10.0.0.1"), Option::with_mutual_tls(MutualTls::new("", "", ""))], ""),
        (vec![Option::with_advertised_host("0.0.0.0:80")], "advertised_host"),
        (vec![Option::with_advertised_host("a b:80")], "advertised_host"),
        (vec![Option::with_advertised_host("")], "advertised_host"),
        (vec![Option::with_blocked_systems([""])], "blocked_systems"),
        (vec![Option::with_allowed_systems(["x".repeat(256)])], "allowed_systems"),
        (vec![Option::with_allowed_systems(["x".repeat(255)])], ""),
        (vec![Option::with_wire_form("nowhere", WireForm::W1)], "wire_form"),
        (vec![Option::with_known_kinds("nowhere", ["x"])], "known_kinds"),
        (vec![Option::with_known_type_names("nowhere", ["x"])], "known_type_names"),
        (vec![Option::with_known_type_names("h:1", ["shop.v1.Order_2", "Order"])], ""),
        (vec![Option::with_known_type_names("h:1", [".shop.Order"])], "known_type_names"),
        (vec![Option::with_known_type_names("h:1", ["type.googleapis.com/shop.Order"])], "known_type_names"),
        (vec![Option::with_endpoint_writer_batch_size(1)], ""),
        (vec![Option::with_endpoint_writer_batch_size(0)], "endpoint_writer_batch_size"),
        (vec![Option::with_endpoint_writer_batch_size(4_096)], ""),
        (vec![Option::with_endpoint_writer_batch_size(4_097)], "endpoint_writer_batch_size"),
        (vec![Option::with_endpoint_writer_queue_size(1)], ""),
        (vec![Option::with_endpoint_writer_queue_size(0)], "endpoint_writer_queue_size"),
        (vec![Option::with_endpoint_writer_queue_bytes(0)], "endpoint_writer_queue_bytes"),
        (vec![Option::with_endpoint_manager_batch_size(0)], "endpoint_manager_batch_size"),
        (vec![Option::with_endpoint_manager_queue_size(1_000)], ""),
        (vec![Option::with_endpoint_manager_queue_size(999)], "endpoint_manager_queue_size"),
        (vec![Option::with_endpoint_reconnect_max_retries(1)], ""),
        (vec![Option::with_endpoint_reconnect_max_retries(0)], "endpoint_reconnect_max_retries"),
        (vec![Option::with_endpoint_reconnect_initial_backoff(tick)], ""),
        (vec![Option::with_endpoint_reconnect_initial_backoff(zero)], "endpoint_reconnect_initial_backoff"),
        (vec![Option::with_endpoint_reconnect_max_backoff(ms(200))], ""),
        (vec![Option::with_endpoint_reconnect_max_backoff(ms(200) - tick)], "endpoint_reconnect_max_backoff"),
        (vec![Option::with_endpoint_reconnect_jitter(0.0)], ""),
        (vec![Option::with_endpoint_reconnect_jitter(1.0)], "endpoint_reconnect_jitter"),
        (vec![Option::with_endpoint_reconnect_jitter(f64::NAN)], "endpoint_reconnect_jitter"),
        (vec![Option::with_endpoint_heartbeat_interval(zero)], "endpoint_heartbeat_interval"),
        (vec![Option::with_endpoint_heartbeat_interval(ms(44_999))], ""),
        (vec![Option::with_endpoint_heartbeat_interval(ms(45_000))], "endpoint_heartbeat_timeout"),
        (vec![Option::with_backpressure_warning_threshold(0.85)], "backpressure_warning_threshold"),
        (vec![Option::with_backpressure_critical_threshold(1.0)], ""),
        (vec![Option::with_backpressure_critical_threshold(1.1)], "backpressure_critical_threshold"),
        (vec![Option::with_auto_throttle(Some(tick))], ""),
        (vec![Option::with_auto_throttle(Some(zero))], "auto_throttle"),
        (vec![Option::with_connect_timeout(hour)], ""),
        (vec![Option::with_connect_timeout(hour + tick)], "connect_timeout"),
        (vec![Option::with_handshake_timeout(zero)], "handshake_timeout"),
        (vec![Option::with_call_timeout(zero)], "call_timeout"),
        (vec![Option::with_shutdown_flush(ms(10_000))], ""),
        (vec![Option::with_shutdown_flush(ms(10_001))], "shutdown_timeout"),
        (vec![Option::with_limits(Limits { watches: 0, ..Limits::new() })], "limits.watches"),
        (
            vec![Option::with_batch_limits(BatchLimits { header_bytes: 0, ..BatchLimits::default() })],
            "batch_limits.header_bytes",
        ),
        (
            vec![Option::with_batch_limits(BatchLimits {
                message_bytes: 4 * 1024 * 1024 + 1,
                ..BatchLimits::default()
            })],
            "batch_limits.message_bytes",
        ),
    ] {
        let expected: Vec<&str> = if expected.is_empty() { vec![] } else { vec![expected] };
        assert_eq!(offending(&Config::from(options.clone())), expected, "{options:?}");
    }
}

#[test]
fn one_error_lists_every_offender_with_value_and_rule() {
    let error = Config::from([
        ConfigOption::with_host("0.0.0.0"),
        ConfigOption::with_endpoint_reconnect_max_backoff(ms(100)),
        ConfigOption::with_endpoint_reconnect_jitter(7.5),
    ])
    .validate()
    .unwrap_err();
    let text = error.to_string();
    for (value, rule) in [
        ("0.0.0.0", "with_advertised_host"),
        ("0.0.0.0", "with_insecure_plaintext(true)"),
        ("100ms", "must be at least endpoint_reconnect_initial_backoff (200ms)"),
        ("7.5", "must be from 0 to below 1"),
    ] {
        let found = error.violations.iter().any(|v| v.value.contains(value) && v.rule.contains(rule));
        assert!(found, "{value}: {rule} not in {text}");
    }
    assert_eq!(error.violations.len(), 4, "{text}");
}
