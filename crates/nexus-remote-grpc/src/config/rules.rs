//! What the settings must satisfy, each and together.

use std::time::Duration;

use nexus_actor_core::path::Authority;
use nexus_remote::config_error::{ConfigError, Violations};
use nexus_remote::host::{is_host, is_wildcard};

use super::{Config, Limits};
use crate::wire::batch::BatchLimits;

const BRIEFEST: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// As much as a Go node accepts.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// Room for the tables of one envelope with names of full length.
const MESSAGE_MIN: usize = 8 * 1024;

pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let mut found = Violations::new();
    addresses(config, &mut found);
    times(config, &mut found);
    bounds(config, &mut found);
    limits(&config.values.limits, &mut found);
    batch_limits(&config.values.batch_limits, &mut found);
    found.into_result()
}

fn addresses(config: &Config, found: &mut Violations) {
    let rule = "must be a host name or address of 1 to 255 bytes";
    found.require(is_host(&config.host), "host", &config.host, rule);
    match &config.advertised_host {
        Some(address) => {
            let host = address.parse::<Authority>().map_or_else(
                |_| address.clone(),
                |authority| authority.host().to_owned(),
            );
            found.require(
                is_host(&host),
                "advertised_host",
                address,
                "must be host:port or a host, one that peers can dial",
            );
            found.require(
                !is_wildcard(&host),
                "advertised_host",
                address,
                "an address such as 0.0.0.0 is for listening on all interfaces; peers need one that they can dial",
            );
        }
        None => found.require(
            !is_wildcard(&config.host),
            "host",
            &config.host,
            "listening on all interfaces announces no address a peer could dial; set with_advertised_host to the \
             host:port under which peers reach this node",
        ),
    }
    found.require(
        config.mutual_tls.is_none() || (config.server_tls.is_none() && config.client_tls.is_none()),
        "mutual_tls",
        &"set",
        "stands in the place of server_tls and client_tls; set it alone",
    );
    if config.is_plaintext_beyond_host() && !config.values.insecure_plaintext && is_host(&config.host) {
        found.require(
            false,
            "host",
            &config.host,
            "is reachable from other hosts without TLS; the ways on are with_server_tls, and \
             with_insecure_plaintext(true), which warns at every start",
        );
    }
    for (name, systems) in [
        ("blocked_systems", &config.blocked_systems),
        ("allowed_systems", &config.allowed_systems),
        ("spawn_denied", &config.spawn_denied),
    ] {
        for system in systems {
            let rule = "must be a system id or host:port of 1 to 255 bytes";
            found.require((1..=255).contains(&system.len()), name, system, rule);
        }
    }
    for (name, addresses) in [
        ("wire_form", config.wire_forms.keys().collect::<Vec<_>>()),
        ("known_type_names", config.known_type_names.keys().collect()),
        ("known_kinds", config.known_kinds.keys().collect()),
    ] {
        for address in addresses {
            found.require(address.parse::<Authority>().is_ok(), name, address, "must be for a host:port");
        }
    }
    for (address, names) in &config.known_type_names {
        for name in names {
            let value = format!("{address}: {name}");
            let rule = "must be a full name such as google.protobuf.StringValue, of 1 to 256 bytes";
            found.require(is_type_name(name), "known_type_names", &value, rule);
        }
    }
}

fn is_type_name(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && name
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

fn times(config: &Config, found: &mut Violations) {
    let v = &config.values;
    for (name, value, longest, rule) in [
        ("endpoint_reconnect_initial_backoff", v.endpoint_reconnect_initial_backoff, HOUR, "hour"),
        ("endpoint_reconnect_max_backoff", v.endpoint_reconnect_max_backoff, DAY, "day"),
        ("endpoint_heartbeat_timeout", v.endpoint_heartbeat_timeout, DAY, "day"),
        ("connect_timeout", v.connect_timeout, HOUR, "hour"),
        ("handshake_timeout", v.handshake_timeout, HOUR, "hour"),
        ("call_timeout", v.call_timeout, DAY, "day"),
        ("shutdown_timeout", v.shutdown_timeout, HOUR, "hour"),
        ("auto_throttle", v.auto_throttle.unwrap_or(BRIEFEST), DAY, "day"),
    ] {
        let rule =
            format!("must be above zero and at most {} {rule}", if rule == "hour" { "an" } else { "a" });
        found.require(!value.is_zero() && value <= longest, name, &value, rule);
    }
    let interval = v.endpoint_heartbeat_interval;
    let rule = "must be from 1 ms to an hour";
    found.require((BRIEFEST..=HOUR).contains(&interval), "endpoint_heartbeat_interval", &interval, rule);
    found.require(
        v.endpoint_heartbeat_timeout > interval,
        "endpoint_heartbeat_timeout",
        &v.endpoint_heartbeat_timeout,
        format!("must be longer than endpoint_heartbeat_interval ({interval:?})"),
    );
    let initial = v.endpoint_reconnect_initial_backoff;
    found.require(
        v.endpoint_reconnect_max_backoff >= initial,
        "endpoint_reconnect_max_backoff",
        &v.endpoint_reconnect_max_backoff,
        format!("must be at least endpoint_reconnect_initial_backoff ({initial:?})"),
    );
    found.require(
        v.shutdown_timeout >= v.shutdown_flush,
        "shutdown_timeout",
        &v.shutdown_timeout,
        format!("must be at least shutdown_flush ({:?})", v.shutdown_flush),
    );
}

fn bounds(config: &Config, found: &mut Violations) {
    let v = &config.values;
    let most = v.batch_limits.envelopes;
    found.require(
        (1..=most).contains(&v.endpoint_writer_batch_size),
        "endpoint_writer_batch_size",
        &v.endpoint_writer_batch_size,
        format!("must be from 1 to batch_limits.envelopes ({most})"),
    );
    for (name, value) in [
        ("endpoint_writer_queue_size", v.endpoint_writer_queue_size),
        ("endpoint_writer_queue_bytes", v.endpoint_writer_queue_bytes),
        ("endpoint_manager_batch_size", v.endpoint_manager_batch_size),
        ("endpoint_reconnect_max_retries", v.endpoint_reconnect_max_retries as usize),
    ] {
        found.require(value >= 1, name, &value, "must be at least 1");
    }
    found.require(
        v.endpoint_manager_queue_size >= v.endpoint_manager_batch_size,
        "endpoint_manager_queue_size",
        &v.endpoint_manager_queue_size,
        format!("must be at least endpoint_manager_batch_size ({})", v.endpoint_manager_batch_size),
    );
    let jitter = v.endpoint_reconnect_jitter;
    let rule = "must be from 0 to below 1";
    found.require((0.0..1.0).contains(&jitter), "endpoint_reconnect_jitter", &jitter, rule);
    if let Err(error) = config.backpressure_marks().validate() {
        for violation in error.violations {
            found.add(violation.setting, violation.value, violation.rule);
        }
    }
}

fn limits(limits: &Limits, found: &mut Violations) {
    let time = limits.message_time;
    let rule = "must be above zero and at most an hour";
    found.require(!time.is_zero() && time <= HOUR, "limits.message_time", &time, rule);
    for (name, value) in [
        ("limits.system_messages", limits.system_messages),
        ("limits.system_bytes", limits.system_bytes),
        ("limits.system_messages_per_second", limits.system_messages_per_second as usize),
        ("limits.system_messages_burst", limits.system_messages_burst as usize),
        ("limits.watches", limits.watches),
        ("limits.watchers", limits.watchers),
        ("limits.pending_asks", limits.pending_asks),
        ("limits.spawned", limits.spawned),
        ("limits.spawns_per_second", limits.spawns_per_second as usize),
        ("limits.inbound_peers", limits.inbound_peers),
        ("limits.inbound_calls", limits.inbound_calls),
        ("limits.named_peers", limits.named_peers),
        ("limits.endpoints", limits.endpoints),
        ("limits.dials", limits.dials),
        ("limits.queue_bytes", limits.queue_bytes),
        ("limits.unfinished_bytes", limits.unfinished_bytes),
        ("limits.strangers", limits.strangers),
        ("limits.strangers_per_ip", limits.strangers_per_ip),
        ("limits.failures_per_second", limits.failures_per_second as usize),
        ("limits.failures_burst", limits.failures_burst as usize),
        ("limits.mailbox_messages", limits.mailbox_messages),
        ("limits.mailbox_bytes", limits.mailbox_bytes),
        ("limits.diagnostics_per_second", limits.diagnostics_per_second as usize),
        ("limits.diagnostics_page", limits.diagnostics_page),
        ("limits.diagnostics_bytes", limits.diagnostics_bytes),
    ] {
        found.require(value >= 1, name, &value, "must be at least 1");
    }
}

fn batch_limits(limits: &BatchLimits, found: &mut Violations) {
    found.require(
        (MESSAGE_MIN..=MESSAGE_MAX).contains(&limits.message_bytes),
        "batch_limits.message_bytes",
        &limits.message_bytes,
        format!("must be from {MESSAGE_MIN} to {MESSAGE_MAX}: a Go node ends the stream over more"),
    );
    for (name, value) in [
        ("batch_limits.handshake_bytes", limits.handshake_bytes),
        ("batch_limits.envelopes", limits.envelopes),
        ("batch_limits.type_names", limits.type_names),
        ("batch_limits.targets", limits.targets),
        ("batch_limits.senders", limits.senders),
        ("batch_limits.name_bytes", limits.name_bytes),
        ("batch_limits.id_bytes", limits.id_bytes),
        ("batch_limits.id_elements", limits.id_elements),
        ("batch_limits.address_bytes", limits.address_bytes),
        ("batch_limits.header_entries", limits.header_entries),
        ("batch_limits.header_bytes", limits.header_bytes),
    ] {
        found.require(value >= 1, name, &value, "must be at least 1");
    }
}
