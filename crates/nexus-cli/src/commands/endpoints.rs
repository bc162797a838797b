//! `nexus-cli endpoints`: whom a node talks to, and how it goes.

use core::fmt::Write as _;

use anyhow::Context as _;
use serde::Deserialize;

use crate::args::EndpointsOptions;
use crate::console::{self, Style, grouped};
use crate::http;

#[derive(Debug, Deserialize)]
struct Endpoints {
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    protocol: String,
    address: String,
    state: String,
    queue_size: u64,
    queue_capacity: u64,
    sent: u64,
    send_failures: u64,
    dead_letters: u64,
    reconnect_attempts: u64,
    received: u64,
    unknown: u64,
}

pub(crate) async fn run(options: EndpointsOptions) -> anyhow::Result<()> {
    let text = http::get(&options.url, "/endpoints").await?;
    let endpoints: Endpoints = serde_json::from_str(&text)
        .with_context(|| format!("{}/endpoints is not the list of a node", options.url))?;
    if options.json {
        console::line(text.trim_end())?;
    } else if endpoints.endpoints.is_empty() {
        console::line("no endpoints now; those that ended are in the totals of /metrics")?;
    } else {
        console::line(table(&endpoints.endpoints, Style::stdout()).trim_end())?;
    }
    Ok(())
}

const HEAD: [&str; 10] =
    ["ADDRESS", "WIRE", "STATE", "QUEUE", "SENT", "RECEIVED", "REFUSED", "DEAD", "UNKNOWN", "RECONNECTS"];
/// Columns of text; the others are figures, which end below each other.
const TEXTS: usize = 3;

/// One line for each endpoint, columns as wide as they must be.
fn table(endpoints: &[Endpoint], style: Style) -> String {
    let rows: Vec<[String; HEAD.len()]> = endpoints.iter().map(row).collect();
    let widths: [usize; HEAD.len()] = core::array::from_fn(|at| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([HEAD[at].len()]).max().unwrap_or(0)
    });
    let line = |cells: &[String; HEAD.len()]| {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            // Writing to a text does not fail.
            let _ = if at < TEXTS {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        line.trim_end().to_string()
    };
    let mut text = format!("{}{}{}\n", style.dim, line(&HEAD.map(String::from)), style.off);
    for (row, endpoint) in rows.iter().zip(endpoints) {
        let colour = match endpoint.state.as_str() {
            "connected" => style.good,
            "quarantined" | "blocked" | "closed" => style.bad,
            _ => "",
        };
        let off = if colour.is_empty() { "" } else { style.off };
        let _ = writeln!(text, "{colour}{}{off}", line(row));
    }
    text
}

/// Addresses and states may be words of a peer: a terminal must not obey them.
fn row(endpoint: &Endpoint) -> [String; HEAD.len()] {
    let printable = |text: &str| text.escape_debug().to_string();
    [
        printable(&endpoint.address),
        printable(&endpoint.protocol),
        printable(&endpoint.state),
        format!("{}/{}", grouped(endpoint.queue_size), grouped(endpoint.queue_capacity)),
        grouped(endpoint.sent),
        grouped(endpoint.received),
        grouped(endpoint.send_failures),
        grouped(endpoint.dead_letters),
        grouped(endpoint.unknown),
        grouped(endpoint.reconnect_attempts),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"endpoints":[
        {"protocol":"fraktor","address":"10.0.0.2:25520","state":"connected","queue_size":12,"queue_capacity":1000000,
         "sent":1234567,"send_failures":0,"dead_letters":3,"reconnect_attempts":1,"received":99,"unknown":0},
        {"protocol":"protoactor","address":"x\u001b[31m:1","state":"reconnecting","queue_size":0,"queue_capacity":10,
         "sent":1,"send_failures":22,"dead_letters":0,"reconnect_attempts":0,"received":0,"unknown":4}]}"#;

    /// Covers: TOOL-01
    #[test]
    fn a_table_lines_up_and_escapes_what_peers_say() {
        let endpoints: Endpoints = serde_json::from_str(ANSWER).unwrap();
        let plain = Style { dim: "", good: "", bad: "", strong: "", off: "" };
        let expected = "\
ADDRESS         WIRE        STATE                QUEUE       SENT  RECEIVED  REFUSED  DEAD  UNKNOWN  RECONNECTS
10.0.0.2:25520  fraktor     connected     12/1,000,000  1,234,567        99        0     3        0           1
x\\u{1b}[31m:1   protoactor  reconnecting          0/10          1         0       22     0        4           0
";
        assert_eq!(table(&endpoints.endpoints, plain), expected);
    }
}
