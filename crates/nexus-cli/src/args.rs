//! The command line.

use core::time::Duration;
use std::str::FromStr;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use nexus_actor::path::Authority;

use crate::http::HttpUrl;
use crate::target::Target;

/// Run, demonstrate and measure nexus nodes.
#[derive(Debug, Parser)]
#[command(name = "nexus-cli", version, about)]
pub(crate) struct Arguments {
    /// Worker threads; one per core unless given.
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Two nodes in two processes: they talk, one is killed, they find each other again.
    Demo(DemoOptions),
    /// Run a node with /user/echo, /user/sink and /user/counter.
    Node(NodeOptions),
    /// Show the endpoints of a node that runs with `--http`.
    Endpoints(EndpointsOptions),
    /// Measure round trips to an actor of a node.
    Ping(PingOptions),
    /// Measure throughput and latency.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// The other process of `bench remote --floor`.
    #[command(hide = true)]
    FloorPeer,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Actors of one process, beside plain tokio tasks and channels doing the same.
    Local(BenchLocalOptions),
    /// An actor of another node.
    Remote(BenchRemoteOptions),
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Messages in the burst.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = count)]
    pub(crate) messages: u64,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("wires").args(["bind", "protoactor"]).required(true).multiple(true))]
pub(crate) struct NodeOptions {
    /// Name of the actor system; the native wire needs one.
    #[arg(long, value_name = "NAME")]
    pub(crate) system: Option<String>,
    /// Where to listen on the native wire; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", requires = "system")]
    pub(crate) bind: Option<Authority>,
    /// The address announced to others, when it differs from the one bound.
    #[arg(long, value_name = "HOST:PORT", requires = "bind")]
    pub(crate) canonical: Option<Authority>,
    /// Where to listen on the wire of protoactor-go; port 0 takes a free one. There is /user/echo, which answers a
    /// google.protobuf.StringValue in kind, and the kind `echo`, which peers may spawn.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) protoactor: Option<Authority>,
    /// The address announced on that wire, when it differs from the one bound; port 0 is the one bound.
    #[arg(long, value_name = "HOST:PORT", requires = "protoactor")]
    pub(crate) protoactor_canonical: Option<Authority>,
    /// Do as a protoactor-go node does where we differ: among other things any peer may stop actors of this node.
    #[arg(long, requires = "protoactor")]
    pub(crate) parity: bool,
    /// Serve /metrics, /endpoints and /healthz over HTTP here; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Option<Authority>,
    /// Allow listening beyond this host although there is no TLS.
    #[arg(long)]
    pub(crate) insecure_plaintext: bool,
    /// Shut down when standard input ends, so that a node does not outlive whoever started it.
    #[arg(long, hide = true)]
    pub(crate) until_stdin_ends: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointsOptions {
    /// Where the node serves HTTP, as it printed it.
    #[arg(value_name = "http://HOST:PORT")]
    pub(crate) url: HttpUrl,
    /// Print the JSON object that the node gave instead of a table.
    ///
    /// `endpoints`, each with `protocol`, `address` and `state`; `queue_size` and `queue_capacity` in messages; and in messages
    /// since the endpoint began `sent`, `send_failures`, `dead_letters`, `received`, `unknown`; `reconnect_attempts`.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The node that asks: every command that talks to another node is one.
#[derive(Debug, Args)]
pub(crate) struct OwnNode {
    /// Where this side listens; a target on another host needs an address it can reach.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(crate) bind: Authority,
    /// Allow listening beyond this host although there is no TLS.
    #[arg(long)]
    pub(crate) insecure_plaintext: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PingOptions {
    /// The actor, which answers as /user/echo does; without a path /user/echo.
    pub(crate) url: Target,
    /// Round trips to make.
    #[arg(long, short = 'c', value_name = "N", default_value = "5", value_parser = count)]
    pub(crate) count: u64,
    /// Pause between two round trips, such as 200ms or 1s.
    #[arg(long, short = 'i', value_name = "TIME", default_value = "200ms", value_parser = duration)]
    pub(crate) interval: Duration,
    /// How long to wait for an answer, such as 500ms or 5s.
    #[arg(long, short = 'w', value_name = "TIME", default_value = "5s", value_parser = positive_duration)]
    pub(crate) timeout: Duration,
    /// Bytes in each message.
    #[arg(long, value_name = "BYTES", default_value = "16", value_parser = payload)]
    pub(crate) payload: usize,
    /// Print one JSON object instead of text.
    ///
    /// `target`; `payload_bytes` of each message; `n` round trips tried, `lost` of them without an answer; `p50_us`,
    /// `p99_us` and `max_us`: median, 99th percentile and longest round trip in microseconds, null without an answer.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) own: OwnNode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LocalWorkload {
    /// One sender to one actor.
    Tell,
    /// One caller that waits for each answer.
    Ask,
    /// Two actors that answer each other.
    PingPong,
    /// Start an actor, send it one message, stop it.
    Spawn,
    /// Many senders to one actor.
    FanIn,
}

#[derive(Debug, Args)]
pub(crate) struct BenchLocalOptions {
    /// What to do; all of them unless given.
    #[arg(value_enum)]
    pub(crate) workload: Option<LocalWorkload>,
    /// Messages per round.
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) messages: Option<u64>,
    /// Senders of fan-in, which alone has several; 8 unless given.
    #[arg(long, value_name = "N", value_parser = outstanding)]
    pub(crate) senders: Option<usize>,
    /// Rounds, of which the median counts; actors and floor take turns.
    #[arg(long, value_name = "N", default_value = "3", value_parser = rounds)]
    pub(crate) rounds: usize,
    /// Print one JSON object per workload instead of text.
    ///
    /// `workload`; `payload_bytes` of each message; `n` messages per round, `lost` of them; `seconds` and `msgs_per_s` of the
    /// median round; `p50_us` and `p99_us` of an ask in microseconds, null for the others; `cpu_s` processor time of all
    /// rounds of actors; `rss_kb` resident memory in KiB; `rounds`; `floor`: what does the same without actors,
    /// `floor_msgs_per_s` its rate, `floor_ratio` ours divided by it.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RemoteWorkload {
    /// One sender; the receiver confirms how many arrived.
    Tell,
    /// Questions, `--outstanding` at a time.
    Ask,
    /// `--outstanding` senders to one actor; the receiver confirms how many arrived.
    FanIn,
}

impl RemoteWorkload {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Tell => "tell",
            Self::Ask => "ask",
            Self::FanIn => "fan-in",
        }
    }

    /// The actor of a node that serves this workload.
    pub(crate) const fn actor(self) -> &'static str {
        match self {
            Self::Tell | Self::FanIn => "/user/sink",
            Self::Ask => "/user/echo",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchRemoteOptions {
    /// The actor or node, such as fraktor.tcp://b@127.0.0.1:25520/user/sink; without a path the workload's own.
    #[arg(long, value_name = "URL")]
    pub(crate) target: Target,
    /// What to do.
    #[arg(long, value_enum, default_value = "tell")]
    pub(crate) workload: RemoteWorkload,
    /// Bytes in each message.
    #[arg(long, value_name = "BYTES", default_value = "16", value_parser = payload)]
    pub(crate) payload: usize,
    /// Messages, or questions, in all.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = count)]
    pub(crate) messages: u64,
    /// Questions that wait for an answer at a time, or senders of fan-in; 1 and 8 unless given. Tell has one sender.
    #[arg(long, value_name = "K", value_parser = outstanding)]
    pub(crate) outstanding: Option<usize>,
    /// How long to wait for a target that does not answer before the run is given up, such as 20s.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = positive_duration)]
    pub(crate) patience: Duration,
    /// Measure beside it what plain tokio TCP does between two processes.
    ///
    /// A round trip costs several times as much when its ends are on two cores, and the scheduler chooses: compare
    /// round trips only with node and bench under the same `taskset -c N`.
    #[arg(long)]
    pub(crate) floor: bool,
    /// Tell on standard error when the target is connected and when it is lost.
    #[arg(long, short = 'v')]
    pub(crate) verbose: bool,
    /// Print one JSON object instead of text.
    ///
    /// `workload`; `payload_bytes` of each message; `n` messages in all, `lost`: those the receiver did not confirm, of ask
    /// those without an answer; `seconds`, `msgs_per_s`; `p50_us` and `p99_us` in microseconds: of ask a round trip, else a
    /// report that waits its turn behind the messages; `cpu_s` processor time of this side; `rss_kb` its resident memory in
    /// KiB; `outstanding` as used; `restarts` of the target; `dead_letters` of this side by reason. With `--floor`
    /// `floor_msgs_per_s` and `floor_ratio`, `floor_round_trip_p50_us` and `floor_round_trip_ratio`: plain TCP, and ours
    /// divided by it.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) own: OwnNode,
}

/// The most bytes of payload that fit a message in one frame of 256 KiB.
pub(crate) const PAYLOAD_MAX: u64 = 255 * 1024;
const MESSAGES_MAX: u64 = 1_000_000_000_000;
const OUTSTANDING_MAX: u64 = 10_000;
/// In any unit.
const TIME_MAX: u64 = 1_000_000_000;

fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let rule = || format!("must be a whole number from {min} to {max}");
    let number: u64 = text.replace('_', "").parse().map_err(|_| rule())?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(rule()) }
}

fn count(text: &str) -> Result<u64, String> {
    whole(text, 1, MESSAGES_MAX)
}

fn payload(text: &str) -> Result<usize, String> {
    whole(text, 0, PAYLOAD_MAX).map(|bytes| bytes as usize)
}

fn outstanding(text: &str) -> Result<usize, String> {
    whole(text, 1, OUTSTANDING_MAX).map(|many| many as usize)
}

fn rounds(text: &str) -> Result<usize, String> {
    whole(text, 1, 1_000).map(|many| many as usize)
}

fn threads(text: &str) -> Result<usize, String> {
    whole(text, 1, 1_024).map(|many| many as usize)
}

fn duration(text: &str) -> Result<Duration, String> {
    let rule =
        || String::from("must be a number with a unit, us, ms, s or m, up to 1000000000, such as 200ms");
    if text.parse::<u64>().is_ok_and(|number| number <= TIME_MAX) {
        return Err(format!("has no unit: {text}us, {text}ms, {text}s and {text}m are times"));
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(rule)?;
    let (number, unit) = text.split_at(split);
    let number = u64::from_str(number).ok().filter(|n| *n <= TIME_MAX).ok_or_else(rule)?;
    match unit {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        _ => Err(rule()),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err(String::from("must be above zero")) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn numbers_are_checked_at_their_limits() {
        for (text, expected) in [
            ("0", None),
            ("1", Some(1)),
            ("1_000_000", Some(1_000_000)),
            ("1000000000000", Some(MESSAGES_MAX)),
            ("1000000000001", None),
            ("-1", None),
            ("1e6", None),
            ("", None),
        ] {
            assert_eq!(count(text).ok(), expected, "{text}");
        }
        assert_eq!(payload("0"), Ok(0));
        assert_eq!(payload(&PAYLOAD_MAX.to_string()), Ok(PAYLOAD_MAX as usize));
        assert!(payload(&(PAYLOAD_MAX + 1).to_string()).is_err());
    }

    #[test]
    fn times_need_a_unit() {
        for (text, expected) in [
            ("200ms", Some(Duration::from_millis(200))),
            ("0s", Some(Duration::ZERO)),
            ("5us", Some(Duration::from_micros(5))),
            ("2m", Some(Duration::from_secs(120))),
            ("200", None),
            ("ms", None),
            ("1.5s", None),
            ("1000000001s", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
        assert!(positive_duration("0s").is_err());
        let says = duration("5").unwrap_err();
        assert!(says.contains("no unit") && says.contains("5s"), "{says}");
    }
}
