//! The program as a person or a script runs it.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nexus-cli");

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("runs")
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).expect("is text")
}

fn json(output: &Output) -> serde_json::Value {
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    assert_eq!(out.lines().count(), 1, "{out}");
    serde_json::from_str(out).expect("is one JSON object")
}

fn number(object: &serde_json::Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {object}"))
}

/// A node in a process of its own, killed at the latest when the test ends.
struct Node {
    child: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Node {
    fn start(bind: &str) -> Self {
        Self::start_with(&["--system", "b", "--bind", bind], "listening ")
    }

    /// On the protoactor wire alone.
    fn start_protoactor(bind: &str) -> Self {
        Self::start_with(&["--protoactor", bind], "listening protoactor ")
    }

    fn start_with(options: &[&str], word: &str) -> Self {
        let mut child = command(&["node"]).args(options).spawn().expect("starts");
        let mut out = BufReader::new(child.stdout.take().expect("is piped"));
        let address = listening(&mut out, word);
        Self { child, out, address }
    }

    fn authority(&self) -> &str {
        self.address.split_once('@').expect("has an authority").1
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("runs");
        assert!(status.success());
    }
}

/// Reads a line that says where a node listens.
#[track_caller]
fn listening(out: &mut BufReader<ChildStdout>, word: &str) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("prints a line");
    line.strip_prefix(word).unwrap_or_else(|| panic!("no `{word}` in {line}")).trim_end().to_string()
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_says_where_it_listens_and_answers() {
    let node = Node::start("127.0.0.1:0");
    assert!(node.address.starts_with("fraktor.tcp://b@127.0.0.1:"), "{}", node.address);
    assert!(!node.address.ends_with(":0"), "{}", node.address);
    // Without a path the echo actor is meant.
    for url in [node.address.clone(), format!("{}/user/echo", node.address)] {
        let answer = json(&run(&["ping", &url, "--count", "3", "--interval", "0ms", "--json"]));
        assert_eq!((number(&answer, "n"), number(&answer, "lost")), (3.0, 0.0));
        assert!(number(&answer, "p50_us") > 0.0 && number(&answer, "p50_us") <= number(&answer, "max_us"));
    }
    let readable = run(&["ping", &node.address, "--count", "2", "--interval", "0ms"]);
    assert!(readable.status.success());
    assert!(text(&readable.stdout).contains("2 sent, 2 answered, 0 lost"), "{}", text(&readable.stdout));
    assert!(!text(&readable.stdout).contains('\x1b'), "a pipe gets no colours");
}

/// Covers: TOOL-01
#[test]
fn a_node_shows_its_endpoints_over_http() {
    let options = ["--system", "b", "--bind", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut node = Node::start_with(&options, "listening ");
    let url = listening(&mut node.out, "http ");
    let show = |arguments: &[&str]| run(&[&["endpoints", &url], arguments].concat());
    assert_eq!(text(&show(&[]).stdout), "no endpoints now; those that ended are in the totals of /metrics\n");
    assert_eq!(json(&show(&["--json"]))["endpoints"].as_array().map(Vec::len), Some(0));
    let answer = json(&run(&["ping", &node.address, "--count", "3", "--interval", "0ms", "--json"]));
    assert_eq!(number(&answer, "lost"), 0.0);
    let shown = json(&show(&["--json"]));
    let endpoint = &shown["endpoints"][0];
    assert_eq!((&endpoint["protocol"], number(endpoint, "sent")), (&"fraktor".into(), 3.0), "{shown}");
    assert!(number(endpoint, "received") >= 3.0, "{shown}");
    let table = show(&[]);
    let table = text(&table.stdout);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(
        table.starts_with("ADDRESS") && table.contains("  fraktor  ") && table.contains("0/1,000,000"),
        "{table}"
    );

    node.signal("-TERM");
    assert_eq!(node.child.wait().expect("ends").code(), Some(0));
    let gone = show(&[]);
    assert!(!gone.status.success());
    assert!(text(&gone.stderr).contains("--http"), "{}", text(&gone.stderr));
    for wrong in [
        &["endpoints", "127.0.0.1:1"][..],
        &["node", "--system", "b", "--bind", "127.0.0.1:0", "--http", "0.0.0.0:0"],
    ] {
        let refused = run(wrong);
        assert!(!refused.status.success(), "{wrong:?}");
        let says = text(&refused.stderr);
        assert!(says.contains("http://HOST:PORT") || says.contains("--insecure-plaintext"), "{says}");
    }
}

/// A signal ends a node that reads its standard input, though that stays open.
#[test]
fn a_signal_ends_a_node_whose_input_stays_open() {
    let mut command = command(&["node", "--protoactor", "127.0.0.1:0", "--until-stdin-ends"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("is piped"));
    let input = child.stdin.take().expect("is piped");
    let address = listening(&mut out, "listening protoactor ");
    let mut node = Node { child, out, address };
    node.signal("-TERM");
    // Its output ends with it, or else the input does, and the node by that.
    let (ended, end) = std::sync::mpsc::channel();
    let patience = std::thread::spawn(move || {
        let in_time = end.recv_timeout(std::time::Duration::from_secs(60)).is_ok();
        drop(input);
        in_time
    });
    assert_eq!(node.child.wait().expect("ends").code(), Some(0));
    let _ = ended.send(());
    assert!(patience.join().expect("no panic"), "it ended with its input, not by the signal");
}

/// Covers: S113
#[test]
fn signals_shut_a_node_down_in_order() {
    for signal in ["-TERM", "-INT"] {
        let mut node = Node::start("127.0.0.1:0");
        // It has been spoken to; a peer that is connected at the time is in the tests of the remoting crate.
        let answer = json(&run(&["ping", &node.address, "--count", "1", "--json"]));
        assert_eq!(number(&answer, "lost"), 0.0);
        let asked = std::time::Instant::now();
        node.signal(signal);
        let mut rest = String::new();
        node.out.read_to_string(&mut rest).expect("is read to its end");
        assert_eq!(rest, "", "one line for one listener, and nothing else");
        assert_eq!(node.child.wait().expect("ends").code(), Some(0), "{signal}");
        // The limit of a shutdown is ten seconds.
        assert!(asked.elapsed().as_secs() < 30, "{signal}: {:?}", asked.elapsed());
    }
}

/// Covers: S132
#[test]
fn plaintext_beyond_this_host_needs_to_be_allowed() {
    let refused = run(&["node", "--system", "b", "--bind", "0.0.0.0:0", "--canonical", "127.0.0.1:0"]);
    assert!(!refused.status.success());
    assert_eq!(text(&refused.stdout), "");
    for way_on in ["TLS", "--insecure-plaintext"] {
        assert!(text(&refused.stderr).contains(way_on), "{}", text(&refused.stderr));
    }
    let arguments = [
        "node",
        "--system",
        "b",
        "--bind",
        "0.0.0.0:0",
        "--canonical",
        "127.0.0.1:0",
        "--insecure-plaintext",
    ];
    let mut child = command(&arguments).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut line).expect("prints a line");
    child.kill().expect("is killed");
    assert!(line.starts_with("listening fraktor.tcp://b@127.0.0.1:"), "{line}");
    let mut warnings = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut warnings).expect("is text");
    child.wait().expect("ends");
    assert!(warnings.contains("warning"), "{warnings}");
}

/// Covers: S133
#[test]
fn a_port_that_is_taken_is_named() {
    let node = Node::start("127.0.0.1:0");
    let second = run(&["node", "--system", "c", "--bind", node.authority()]);
    assert_eq!((second.status.code(), text(&second.stdout)), (Some(1), ""));
    assert!(text(&second.stderr).contains(node.authority()), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));
}

/// One echo actor serves both wires of one node; each listener has its line.
#[test]
fn a_node_answers_on_both_wires() {
    let options = ["--system", "b", "--bind", "127.0.0.1:0", "--protoactor", "127.0.0.1:0"];
    let mut node = Node::start_with(&options, "listening ");
    assert!(node.address.starts_with("fraktor.tcp://b@127.0.0.1:"), "{}", node.address);
    let other = listening(&mut node.out, "listening protoactor ");
    assert!(other.starts_with("127.0.0.1:") && !other.ends_with(":0"), "{other}");
    for url in
        [node.address.clone(), format!("protoactor://{other}"), format!("protoactor://{other}/user/echo")]
    {
        let answer = json(&run(&["ping", &url, "--count", "2", "--interval", "0ms", "--json"]));
        assert_eq!((number(&answer, "n"), number(&answer, "lost")), (2.0, 0.0), "{url}");
        assert!(answer["target"].as_str().is_some_and(|target| target.ends_with("/user/echo")), "{answer}");
    }
}

/// What a peer sees that knows nothing of this program but the name of the actor and of the kind.
#[tokio::test(flavor = "multi_thread")]
async fn echo_answers_in_kind_and_can_be_spawned() {
    use nexus_actor::grpc::{Config, Remote, SpawnRemoteError};
    use nexus_actor::pid::Pid;
    use nexus_actor::prelude::*;

    #[derive(Message)]
    #[message(protobuf)]
    struct Say(String, Reply<String>);

    let node = Node::start_protoactor("127.0.0.1:0");
    let system = ActorSystem::builder("peer").build().expect("a system");
    system.register::<Say>().expect("registered once");
    let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
    let bob = remote.spawn_remote_named(&node.address, "bob", "echo").await.expect("spawned");
    for pid in [Pid::new(node.address.as_str(), "echo"), bob] {
        let echo: ActorRef<Say> = remote.resolve(&pid).expect("a pid");
        let answer = echo.ask(|reply| Say("grüße".into(), reply)).await;
        assert_eq!(answer.as_deref(), Ok("grüße"), "{pid}");
    }
    let unheard = remote.spawn_remote(&node.address, "unheard-of").await;
    assert!(matches!(unheard, Err(SpawnRemoteError::Status { .. })), "{unheard:?}");
    system.shutdown().await.expect("an orderly end");
}

#[test]
fn a_node_shows_its_endpoints_of_the_protoactor_wire() {
    let options = ["--protoactor", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let mut node = Node::start_with(&options, "listening protoactor ");
    let url = listening(&mut node.out, "http ");
    // Connected until it is killed: an endpoint ends with the goodbye of its peer.
    let target = format!("protoactor://{}", node.address);
    let mut ping = command(&["ping", &target, "--count", "2", "--interval", "10m"]).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(ping.stdout.take().expect("is piped")).read_line(&mut line).expect("prints a line");
    assert!(line.contains("1/2"), "{line}");
    let shown = json(&run(&["endpoints", &url, "--json"]));
    ping.kill().expect("is killed");
    ping.wait().expect("ends");
    let endpoint = &shown["endpoints"][0];
    assert_eq!((&endpoint["protocol"], number(endpoint, "sent")), (&"protoactor".into(), 1.0), "{shown}");
}

/// Covers: S113
#[test]
fn a_protoactor_node_prints_one_line_and_shuts_down_in_order() {
    let mut node = Node::start_protoactor("127.0.0.1:0");
    let url = format!("protoactor://{}/user/echo", node.address);
    let answer = json(&run(&["ping", &url, "--count", "1", "--json"]));
    assert_eq!(number(&answer, "lost"), 0.0);
    let asked = std::time::Instant::now();
    node.signal("-TERM");
    let mut rest = String::new();
    node.out.read_to_string(&mut rest).expect("is read to its end");
    assert_eq!(rest, "", "one line for one listener, and nothing else");
    assert_eq!(node.child.wait().expect("ends").code(), Some(0));
    // The limit of a shutdown is ten seconds.
    assert!(asked.elapsed().as_secs() < 30, "{:?}", asked.elapsed());
}

/// Covers: S132
#[test]
fn plaintext_of_the_protoactor_wire_beyond_this_host_needs_to_be_allowed() {
    let arguments = ["node", "--protoactor", "0.0.0.0:0", "--protoactor-canonical", "127.0.0.1:0"];
    let refused = run(&arguments);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
    for way_on in ["TLS", "--insecure-plaintext"] {
        assert!(text(&refused.stderr).contains(way_on), "{}", text(&refused.stderr));
    }
    let mut node =
        Node::start_with(&[&arguments[1..], &["--insecure-plaintext"]].concat(), "listening protoactor ");
    assert!(node.address.starts_with("127.0.0.1:") && !node.address.ends_with(":0"), "{}", node.address);
    node.child.kill().expect("is killed");
    let mut warnings = String::new();
    node.child.stderr.take().expect("is piped").read_to_string(&mut warnings).expect("is text");
    assert!(warnings.contains("warning: insecure_plaintext"), "{warnings}");
}

#[test]
fn parity_is_said_aloud() {
    for (parity, warned) in [(&["--parity"][..], true), (&[], false)] {
        let options = [&["--protoactor", "127.0.0.1:0"], parity].concat();
        let mut node = Node::start_with(&options, "listening protoactor ");
        node.signal("-TERM");
        let mut warnings = String::new();
        node.child.stderr.take().expect("is piped").read_to_string(&mut warnings).expect("is text");
        assert_eq!(warnings.contains("any peer may stop actors"), warned, "{warnings}");
    }
}

/// What a node shows of itself.
fn metrics(url: &str) -> String {
    let host = url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("taken");
    let mut shown = String::new();
    stream.read_to_string(&mut shown).expect("text");
    shown
}

/// `--parity` is what lets a peer stop actors; without it the peer is refused, which is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn peers_stop_actors_with_parity_only() {
    use nexus_actor::grpc::{Config, Remote};
    use nexus_actor::pid::Pid;
    use nexus_actor::prelude::*;

    #[derive(Message)]
    #[message(protobuf)]
    struct Say(String, Reply<String>);

    for (parity, is_obeyed) in [(&["--parity"][..], true), (&[], false)] {
        let options = [&["--protoactor", "127.0.0.1:0", "--http", "127.0.0.1:0"], parity].concat();
        let mut node = Node::start_with(&options, "listening protoactor ");
        let url = listening(&mut node.out, "http ");
        let system = ActorSystem::builder("peer").build().expect("a system");
        system.register::<Say>().expect("registered once");
        let remote = Remote::start(&system, Config::new("127.0.0.1", 0)).await.expect("a node");
        let address = node.address.as_str();
        let ask = async |pid: &Pid| {
            let echo: ActorRef<Say> = remote.resolve(pid).expect("a pid");
            echo.ask(|reply| Say("x".into(), reply)).await
        };
        let spawned = remote.spawn_remote(address, "echo").await.expect("spawned");
        for (in_order, pid) in [(false, Pid::new(address, "echo")), (true, spawned)] {
            assert_eq!(ask(&pid).await.as_deref(), Ok("x"), "{pid}");
            // `PoisonPill` and `Stop`. The question is behind it in the same queue there.
            if in_order {
                remote.resolve::<Say>(&pid).expect("a pid").to_any().stop_in_order();
            } else {
                remote.manager().remote_stop(&pid).expect("a pid");
            }
            let answer = ask(&pid).await;
            if is_obeyed {
                assert_eq!(answer, Err(AskError::NoSuchActor), "{pid} {parity:?}");
            } else {
                assert_eq!(answer.as_deref(), Ok("x"), "{pid} {parity:?}");
            }
        }
        let denied =
            format!("nexus_deadletters_total{{reason=\"denied\"}} {}", if is_obeyed { 0 } else { 2 });
        let shown = metrics(&url);
        assert!(shown.lines().any(|line| line == denied), "both are recorded: {shown}");
        system.shutdown().await.expect("an orderly end");
    }
}

/// Covers: S133
#[test]
fn a_taken_port_of_the_protoactor_wire_is_named() {
    let node = Node::start_protoactor("127.0.0.1:0");
    let second = run(&["node", "--protoactor", &node.address]);
    assert_eq!((second.status.code(), text(&second.stdout)), (Some(1), ""));
    assert!(text(&second.stderr).contains(&node.address), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));
}

#[test]
fn round_trips_of_the_protoactor_wire_are_measured() {
    let node = Node::start_protoactor("127.0.0.1:0");
    let target = format!("protoactor://{}", node.address);
    let ask = ["bench", "remote", "--target", &target, "--workload", "ask", "--messages", "2000"];
    let result = json(&run(&[&ask[..], &["--outstanding", "8", "--json"]].concat()));
    assert_eq!((number(&result, "n"), number(&result, "lost")), (2_000.0, 0.0), "{result}");
    assert!(number(&result, "p50_us") > 0.0, "{result}");
    let tell = run(&["bench", "remote", "--target", &target]);
    assert_eq!(tell.status.code(), Some(1));
    assert!(text(&tell.stderr).contains("--workload ask"), "{}", text(&tell.stderr));
    let nobody = run(&["ping", &format!("{target}/user/nobody"), "--count", "1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("no such actor"), "{}", text(&nobody.stderr));
}

#[test]
fn the_demonstration_shows_everything() {
    let output = run(&["demo", "--messages", "100000"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    for part in [
        "asks Get: 42",
        "from 5 to 47",
        "100,000 of 100,000",
        "0 lost",
        "kill -9",
        "Terminated {",
        "unreachable }",
        "dead letters",
        "acknowledged by b before the kill",
        "re-associated",
        "all of it happened",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = command(&["demo", "--messages", "1000"]).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!output.status.success(), "not all of it was shown");
    assert_eq!(text(&output.stderr), "");
}

const KEYS: [&str; 10] = [
    "workload",
    "payload_bytes",
    "n",
    "lost",
    "seconds",
    "msgs_per_s",
    "p50_us",
    "p99_us",
    "cpu_s",
    "rss_kb",
];

#[test]
fn a_remote_run_knows_what_arrived() {
    let node = Node::start("127.0.0.1:0");
    for (workload, path, n, payload, outstanding) in [
        ("tell", "", "20000", "16", "1"),
        ("tell", "/user/sink", "1", "0", "1"),
        ("tell", "", "50", "261120", "1"),
        ("ask", "/user/echo", "500", "16", "1"),
        ("ask", "", "2000", "100", "256"),
        ("ask", "", "10", "261120", "2"),
        ("fan-in", "", "20001", "32", "8"),
    ] {
        let target = format!("{}{path}", node.address);
        let arguments = [
            "bench",
            "remote",
            "--target",
            &target,
            "--workload",
            workload,
            "--payload",
            payload,
            "--messages",
            n,
            "--outstanding",
            outstanding,
            "--json",
        ];
        let result = json(&run(&arguments));
        for key in KEYS {
            assert!(!result[key].is_null(), "{key} is missing in {result}");
        }
        assert_eq!(result["workload"], workload);
        assert_eq!(number(&result, "n").to_string(), n);
        assert_eq!(number(&result, "payload_bytes").to_string(), payload);
        assert_eq!(number(&result, "lost"), 0.0, "{result}");
        assert!(number(&result, "p50_us") <= number(&result, "p99_us"));
    }
}

#[test]
fn the_floor_is_measured_beside_it() {
    let node = Node::start("127.0.0.1:0");
    let base = ["bench", "remote", "--target", &node.address, "--floor", "--json", "--messages"];
    let tell = json(&run(&[&base[..], &["1000"]].concat()));
    assert!(number(&tell, "floor_ratio") > 0.0 && number(&tell, "floor_msgs_per_s") > 0.0);
    let ask = json(&run(&[&base[..], &["100", "--workload", "ask"]].concat()));
    assert!(number(&ask, "floor_round_trip_p50_us") > 0.0);
    // Left out when the scheduler placed the two differently; never an ask faster than what it is made of.
    assert!(ask.get("floor_round_trip_ratio").is_none_or(|ratio| ratio.as_f64() >= Some(1.0)), "{ask}");
}

/// Reads lines until one begins with `word`; false at their end.
fn says(lines: &mut BufReader<ChildStderr>, word: &str) -> bool {
    let mut line = String::new();
    while !line.starts_with(word) {
        line.clear();
        if lines.read_line(&mut line).expect("is text") == 0 {
            return false;
        }
    }
    true
}

/// A host that is nobody else's, so that a port of it stays free while nobody listens. Where there is but one address of
/// this host, another test may draw the port meanwhile.
fn own_host() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    if !cfg!(target_os = "linux") {
        return "127.0.0.1".to_string();
    }
    let (process, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("127.{}.{}.{nth}", 192 + ((process >> 8) & 63), process & 255)
}

/// Kills the target of a run and starts it again. False if the run was over before.
fn outlives_its_target(workload: &str, messages: u32, outstanding: &str) -> bool {
    let node = Node::start(&format!("{}:0", own_host()));
    let messages = messages.to_string();
    let arguments = [
        "bench",
        "remote",
        "--target",
        &node.address,
        "--workload",
        workload,
        "--messages",
        &messages,
        "--outstanding",
        outstanding,
        "--json",
        "--verbose",
    ];
    let mut bench = command(&arguments).spawn().expect("starts");
    let mut remarks = BufReader::new(bench.stderr.take().expect("is piped"));
    assert!(says(&mut remarks, "connected"));
    let authority = node.authority().to_string();
    node.signal("-KILL");
    let is_cut_off = says(&mut remarks, "disconnected");
    drop(node);
    let _again = is_cut_off.then(|| Node::start(&authority));
    let goes_on = is_cut_off && says(&mut remarks, "connected");
    let mut rest = String::new();
    remarks.read_to_string(&mut rest).expect("is text");
    let output = bench.wait_with_output().expect("ends");
    assert!(output.status.success(), "{workload}: {rest}");
    let result = json(&output);
    assert_eq!(number(&result, "restarts"), if goes_on { 1.0 } else { 0.0 }, "{result}");
    assert!(number(&result, "lost") < number(&result, "n"), "{result}");
    goes_on
}

#[test]
fn a_run_outlives_its_target() {
    for (workload, messages, outstanding) in [("tell", 1_000_000, "1"), ("ask", 40_000, "16")] {
        // A busy machine may be slower to kill than to measure: then there has to be more to measure.
        let is_outlived =
            [1, 4, 16].into_iter().any(|times| outlives_its_target(workload, times * messages, outstanding));
        assert!(is_outlived, "{workload}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_rule() {
    let node = Node::start("127.0.0.1:0");
    let nobody = format!("{}/user/nobody", node.address);
    let misnamed = format!("fraktor.tcp://other@{}", node.authority());
    let (echo, target) = (format!("{}/user/echo", node.address), node.address.as_str());
    let bench = ["bench", "remote", "--target"];
    for (arguments, said) in [
        (
            vec!["bench", "remote", "--target", target, "--messages", "0"],
            &["'0'", "--messages", "from 1 to"][..],
        ),
        (vec!["bench", "remote", "--target", target, "--messages", "many"], &["'many'", "from 1 to"]),
        (
            vec!["bench", "remote", "--target", target, "--payload", "261121"],
            &["'261121'", "from 0 to 261120"],
        ),
        (vec!["bench", "remote", "--target", target, "--outstanding", "0"], &["'0'", "from 1 to"]),
        (vec!["bench", "remote", "--target", target, "--patience", "0s"], &["'0s'", "above zero"]),
        (vec!["bench", "local", "tell", "--messages", "-5"], &["-5"]),
        (vec!["bench", "local", "ask", "--senders", "4"], &["--senders", "fan-in"]),
        (vec!["bench", "remote", "--target", target, "--outstanding", "2"], &["--outstanding", "one sender"]),
        (vec!["ping", &misnamed, "--count", "1"], &["address may be wrong", "`listening`"]),
        (vec!["bench", "local", "nonsense"], &["nonsense", "ping-pong"]),
        (vec!["bench", "remote", "--target", "nonsense"], &["nonsense"]),
        (vec!["ping", "127.0.0.1:1"], &["system, host and port"]),
        (vec!["ping", "foo"], &["and a port", "such as protoactor://"]),
        (vec!["ping", target, "-w", "5"], &["'5'", "--timeout", "no unit", "5s"]),
        (vec!["node"], &["--bind", "--protoactor"]),
        (vec!["node", "--system", "b"], &["--bind", "--protoactor"]),
        (
            vec!["node", "--protoactor", "127.0.0.1:0", "--protoactor-canonical", "0.0.0.0:80"],
            &["0.0.0.0 is for listening", "--protoactor-canonical"],
        ),
        (vec!["ping", &nobody, "--count", "1"], &["no such actor"]),
        (vec!["node", "--system", "b", "--bind", "127.0.0.1"], &["127.0.0.1"]),
        (vec!["node", "--bind", "127.0.0.1:0"], &["--system"]),
        (vec!["node", "--protoactor", "127.0.0.1:0", "--bind", "127.0.0.1:0"], &["--system"]),
        (vec!["node", "--system", "b", "--bind", "127.0.0.1:0", "--parity"], &["--protoactor"]),
        ([&bench[..], &[&nobody]].concat(), &["no such actor"]),
        ([&bench[..], &[&echo]].concat(), &["decode", "other messages"]),
    ] {
        let output = run(&arguments);
        let err = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(err.contains("error: "), "{arguments:?}: {err}");
        for said in said {
            assert!(err.contains(said), "{arguments:?}: {said} is missing in {err}");
        }
        assert!(!err.contains("panicked"), "{err}");
    }
}

#[test]
fn a_local_run_has_its_floor_beside_it() {
    let output = run(&["bench", "local", "--messages", "2000", "--rounds", "1", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let results: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect();
    let workloads: Vec<&str> = results.iter().filter_map(|result| result["workload"].as_str()).collect();
    assert_eq!(workloads, ["tell", "ask", "ping-pong", "spawn", "fan-in"]);
    for result in &results {
        assert_eq!((number(result, "n"), number(result, "lost")), (2_000.0, 0.0));
        assert!(number(result, "floor_ratio") > 0.0, "{result}");
    }
}
