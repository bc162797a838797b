//! What can be said of a host by its name alone, for the settings of both wires.

use core::net::IpAddr;

/// The host without what does not count in it.
fn bare(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host).trim_start_matches('[').trim_end_matches(']')
}

fn address(host: &str) -> Option<IpAddr> {
    bare(host).parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Whether it stands for every address of this host, which no peer could dial.
#[must_use]
pub fn is_wildcard(host: &str) -> bool {
    address(host).is_some_and(|ip| ip.is_unspecified())
}

/// Whether only this host can reach it. Of names only `localhost` is known to be such.
#[must_use]
pub fn is_local(host: &str) -> bool {
    address(host).map_or_else(|| bare(host).eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// Whether it can be a host at all: an address, or a name of 1 to 255 bytes.
#[must_use]
pub fn is_host(host: &str) -> bool {
    (1..=255).contains(&host.len())
        && (address(host).is_some() || host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
}
