//! The contract of every strategy, and what each of them promises beside it.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::{Value, json};

mod pooled;
mod shared;

use crate::support::processes;
use crate::support::{
    Gateway, JSON, PROGRAM, Pending, Response, alive, demo, kill, server, until, until_some,
};

/// The keys that choose a strategy, each with its name.
const STRATEGIES: [(&str, &str); 4] = [
    ("fresh", "strategy = \"fresh\"\n"),
    ("prewarmed", "strategy = \"prewarmed\"\nstandby = { min = 2, max = 3 }\n"),
    ("pooled", "strategy = \"pooled\"\n"),
    ("shared", "strategy = \"shared\"\n"),
];

/// Those under which nothing of one call is there for another.
const ISOLATING: [&str; 2] = ["fresh", "prewarmed"];

/// Runs `promise` once for every strategy, against a gateway of its own, which must leave nothing behind.
fn each(promise: impl Fn(&str, &Gateway)) {
    for (name, keys) in STRATEGIES {
        let gateway = Gateway::start(&(demo(&[]) + keys));
        promise(name, &gateway);
        stop(gateway);
    }
}

/// Ends a gateway that may keep servers alive: with all of them.
#[track_caller]
fn stop(gateway: Gateway) {
    gateway.signal(Signal::TERM);
    gateway.ended();
}

fn prewarmed(standby: &str, more: &str) -> Gateway {
    Gateway::start(&(demo(&[]) + "strategy = \"prewarmed\"\n" + standby + "\n" + more))
}

fn count(gateway: &Gateway) -> Value {
    gateway.tool("counter", "{}").good()["structuredContent"]["count"].clone()
}

fn standby(gateway: &Gateway) -> Value {
    gateway.get("/v1/servers").good()["servers"][0]["standby"].clone()
}

#[track_caller]
fn until_ready(gateway: &Gateway, count: usize) {
    until("standbys are ready", || standby(gateway)["ready"] == count);
}

fn timing(answer: &Response) -> &str {
    answer.header("server-timing").unwrap()
}

#[test]
fn every_strategy_answers_and_tells_its_name() {
    each(|name, gateway| {
        assert_eq!(gateway.get("/v1/servers").good()["servers"][0]["strategy"], name);
        assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello", "{name}");
        gateway.tool("no-such-tool", "{}").problem(404, "unknown-tool");
        gateway.tool("fault", r#"{"kind":"exit","code":3}"#).problem(502, "server-crashed");
        // Whatever became of that one, the next call is served.
        assert_eq!(gateway.tool("echo", r#"{"message":"again"}"#).said(), "again", "{name}");
    });
}

#[test]
fn under_every_strategy_calls_at_once_all_get_their_own_answers() {
    each(|name, gateway| {
        let messages: BTreeSet<String> = (0..12).map(|number| format!("{name} {number}")).collect();
        let begin = |message: &String| gateway.begin_tool("echo", &json!({"message": message}).to_string());
        let calls: Vec<Pending> = messages.iter().map(begin).collect();
        let said: Vec<String> = calls.into_iter().map(|call| call.response().said()).collect();
        assert_eq!(said, messages.into_iter().collect::<Vec<_>>());
    });
}

#[test]
fn under_every_strategy_a_call_ends_with_its_time_or_its_caller() {
    each(|name, gateway| {
        let headers = [JSON, ("Spawnling-Timeout", "300ms")];
        let path = "/v1/servers/demo/tools/sleep";
        gateway.request("POST", path, &headers, r#"{"seconds":600}"#).problem(504, "deadline-exceeded");
        let begun = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
        gateway.until_at_rest();
        begun.hang_up();
        assert_eq!(gateway.tool("echo", r#"{"message":"still there"}"#).said(), "still there", "{name}");
    });
}

#[test]
fn under_every_strategy_a_stop_lets_the_running_call_end_and_leaves_nothing() {
    for (name, keys) in STRATEGIES {
        let gateway = Gateway::start(&(demo(&[]) + keys));
        let running = gateway.begin_tool("sleep", r#"{"seconds":0.3}"#);
        gateway.until_at_rest();
        gateway.signal(Signal::TERM);
        assert_eq!(running.response().status, 200, "{name}");
        gateway.ended();
    }
}

#[test]
fn under_every_strategy_a_gateway_that_is_killed_leaves_nothing() {
    for (_, keys) in STRATEGIES {
        let gateway = Gateway::start(&(demo(&[]) + keys));
        assert_eq!(gateway.tool("echo", r#"{"message":"hello"}"#).said(), "hello");
        let _running = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
        until("a server runs", || !gateway.servers().is_empty());
        gateway.killed();
    }
}

#[test]
fn where_calls_are_isolated_a_counter_is_always_one_and_else_it_counts() {
    each(|name, gateway| {
        let counts: Vec<Value> = (0..6).map(|_| count(gateway)).collect();
        let expected = if ISOLATING.contains(&name) { [1; 6] } else { [1, 2, 3, 4, 5, 6] };
        assert_eq!(counts, expected, "{name}");
    });
}

#[test]
fn under_every_strategy_the_steps_of_a_call_are_put_to_one_server() {
    each(|name, gateway| {
        let steps = json!({"steps": [{"tool": "counter"}, {"tool": "counter"}, {"method": "tools/list"}]});
        let answer = gateway.post("/v1/servers/demo/calls", &steps.to_string()).good();
        let counts = [0, 1].map(|step| answer["steps"][step]["result"]["structuredContent"]["count"].clone());
        assert_eq!(counts, [1, 2], "{name}");
        assert!(answer["steps"][2]["result"]["tools"].is_array(), "{name}: {answer}");
    });
}

#[test]
fn under_every_strategy_servers_of_either_era_are_asked() {
    for protocol in ["auto", "legacy", "modern"] {
        for (name, keys) in STRATEGIES {
            let config = server("demo", &["--faults"]) + &format!("protocol = {protocol:?}\n") + keys;
            let gateway = Gateway::start(&config);
            for message in ["one", "two"] {
                let said = gateway.tool("echo", &json!({"message": message}).to_string()).said();
                assert_eq!(said, message, "{name} {protocol}");
            }
            stop(gateway);
        }
    }
}

#[test]
fn under_every_strategy_whoever_listens_hears_the_progress_of_their_own_call() {
    each(|name, gateway| {
        let listen = |steps: usize| {
            let path = "/v1/servers/demo/tools/sleep";
            let body = json!({"seconds": 0.2, "steps": steps}).to_string();
            gateway.begin("POST", path, &[JSON, ("Accept", "text/event-stream")], &body)
        };
        for _ in 0..2 {
            let calls = [2, 3, 5].map(|steps| (steps, listen(steps)));
            for (steps, call) in calls {
                let events = crate::support::events(&call.response().body);
                let heard = events.iter().filter(|event| event.name == "progress").count();
                assert_eq!(heard, steps, "{name}: {events:?}");
                assert_eq!(events.last().unwrap().name, "result", "{name} {steps}");
            }
        }
    });
}

#[test]
fn a_call_that_finds_a_standby_waits_for_no_start() {
    let gateway = prewarmed("standby = { min = 1, max = 1 }", "");
    for _ in 0..3 {
        until_ready(&gateway, 1);
        let standby = gateway.until_servers(1)[0];
        // In a namespace of its own it is known by its init.
        let numbers = [Some(standby), processes::parent_of(standby)].map(|pid| pid.unwrap_or(0).to_string());
        let answer = gateway.tool_to_its_end("counter", "{}");
        assert_eq!(answer.good()["structuredContent"]["count"], 1);
        let timing = timing(&answer);
        assert!(timing.contains("open;dur=0.000;desc=\"standby\"") && !timing.contains("spawn"), "{timing}");
        // Its process is its own: the call's receipt tells of its end.
        assert!(numbers.contains(&answer.receipt("pid").to_string()), "{numbers:?}");
    }
    stop(gateway);
}

#[test]
fn a_burst_beyond_the_standbys_is_served_as_under_fresh() {
    let gateway = prewarmed("standby = { min = 1, max = 1 }", "");
    until_ready(&gateway, 1);
    let calls: Vec<_> = (0..6).map(|_| gateway.begin_tool("counter", "{}")).collect();
    let answers: Vec<Response> = calls.into_iter().map(Pending::response).collect();
    let counts: Vec<Value> =
        answers.iter().map(|answer| answer.good()["structuredContent"]["count"].clone()).collect();
    assert_eq!(counts, [1; 6]);
    let standbys = answers.iter().filter(|answer| timing(answer).contains("standby")).count();
    assert!((1..6).contains(&standbys), "{standbys}");
    stop(gateway);
}

#[test]
fn a_standby_that_was_killed_is_not_handed_out() {
    let gateway = prewarmed("standby = { min = 1, max = 1 }", "");
    for _ in 0..5 {
        until_ready(&gateway, 1);
        let standby = gateway.until_servers(1)[0];
        kill(standby);
        until("the kernel has ended it", || !alive(standby));
        assert_eq!(count(&gateway), 1);
    }
    stop(gateway);
}

#[test]
fn a_standby_that_is_too_old_is_thrown_away_and_replaced() {
    let gateway = prewarmed("standby = { min = 1, max = 1, max_age = \"100ms\" }", "");
    let mut seen = BTreeSet::new();
    until("there was a third standby", || {
        seen.extend(gateway.servers());
        seen.len() > 2
    });
    assert_eq!(count(&gateway), 1);
    stop(gateway);
}

#[test]
fn a_server_of_either_era_stands_by_and_is_up_when_it_does() {
    for protocol in ["auto", "legacy", "modern"] {
        let config = server("demo", &["--faults"])
            + &format!(
                "protocol = {protocol:?}\nstrategy = \"prewarmed\"\nstandby = {{ min = 1, max = 1 }}\n"
            );
        let gateway = Gateway::start(&config);
        for _ in 0..3 {
            until_ready(&gateway, 1);
            let answer = gateway.tool("counter", "{}");
            assert_eq!(answer.good()["structuredContent"]["count"], 1, "{protocol}");
            assert!(timing(&answer).contains("standby"), "{protocol}");
        }
        stop(gateway);
    }
}

#[test]
fn a_server_that_cannot_be_started_ahead_is_tried_less_often_and_that_is_told() {
    let gateway = Gateway::start("[servers.demo]\ncommand = \"/nowhere/server\"\nstrategy = \"prewarmed\"\n");
    let told = until_some("two starts have failed", || {
        Some(standby(&gateway))
            .filter(|told| told["failures"].as_u64() > Some(1) && told["retry_in_ms"].is_u64())
    });
    assert_eq!((&told["ready"], &told["min"]), (&json!(0), &json!(1)));
    gateway.tool("echo", "{}").problem(502, "spawn-failed");
    stop(gateway);
}

#[test]
fn a_standby_gives_its_seat_to_whoever_waits_for_it() {
    let other = server("other", &[]) + "protocol = \"legacy\"\n";
    let config = String::from("concurrent = 2\n")
        + &demo(&[])
        + "strategy = \"prewarmed\"\nstandby = { min = 2, max = 2 }\n"
        + &other;
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        until_ready(&gateway, 2);
        let answer = gateway.post("/v1/servers/other/tools/counter", "{}");
        assert_eq!(answer.good()["structuredContent"]["count"], 1);
    }
    stop(gateway);
}

#[test]
fn a_standby_holds_a_seat_and_its_call_needs_no_other() {
    let gateway = prewarmed("standby = { min = 3, max = 3 }", "limits = { concurrent = 1 }\n");
    let mut most = 0;
    for _ in 0..4 {
        until_ready(&gateway, 1);
        most = most.max(gateway.servers().len());
        let answer = gateway.tool("counter", "{}");
        assert_eq!(answer.good()["structuredContent"]["count"], 1);
        assert!(timing(&answer).contains("standby"));
        most = most.max(gateway.servers().len());
    }
    assert_eq!(most, 1, "no more than there are seats");
    stop(gateway);
}

#[test]
fn no_standby_is_started_for_a_single_command() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("one.toml");
    let keys = demo(&[]) + "strategy = \"prewarmed\"\n";
    std::fs::write(&config, keys).unwrap();
    let said = crate::support::command_output(&["check", "--config", crate::support::shown(&config)]);
    assert!(said.contains("strategy prewarmed") && !said.contains(PROGRAM), "{said}");
}

#[test]
fn a_server_that_writes_stray_lines_after_its_handshake_stands_by_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    // More than a pipe holds: when it is done, some of it was read.
    let script = r#"
        answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$1" "$2"; }
        read -r line; answer 1 '{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}'
        read -r line; yes 'Ready to serve!' | head -c 300000; : >"$DONE"
        read -r line; answer 2 '{"content":[{"type":"text","text":"served"}]}'
        read -r line"#;
    let script = toml::Value::from(script);
    let gateway = Gateway::start(&format!(
        "\n[servers.demo]\ncommand = \"sh\"\nargs = [\"-c\", {script}]\nenv = {{ DONE = {:?} }}\n\
         protocol = \"legacy\"\nvalidate = \"off\"\nstrategy = \"prewarmed\"\nstandby = {{ min = 1, max = 1 }}\n",
        done.to_str().unwrap()
    ));
    for _ in 0..3 {
        until("it has written its lines", || done.exists());
        until_ready(&gateway, 1);
        std::fs::remove_file(&done).unwrap();
        let answer = gateway.tool("any", "{}");
        assert_eq!(answer.said(), "served");
        assert!(timing(&answer).contains("desc=\"standby\""), "{answer:?}");
    }
    stop(gateway);
}
