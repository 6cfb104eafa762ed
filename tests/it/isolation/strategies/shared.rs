//! What an instance that many calls share promises: whatever becomes of one call, the others get their own answer or a
//! clear error, never silence.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{count, stop, timing};
use crate::support::{Gateway, JSON, PROGRAM, Pending, alive, demo, events, kill, server, until};

fn shared(keys: &str) -> Gateway {
    Gateway::start(&(demo(&[]) + "strategy = \"shared\"\n" + keys))
}

fn instances(gateway: &Gateway) -> Value {
    gateway.get("/v1/servers").good()["servers"][0]["instances"].clone()
}

fn sleeping(gateway: &Gateway, seconds: f64) -> Pending {
    gateway.begin_tool("sleep", &json!({"seconds": seconds}).to_string())
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn all_calls_go_to_one_process_which_outlives_them_and_that_is_told() {
    let gateway = shared("");
    assert_eq!(instances(&gateway), json!({"alive": 0, "idle": 0}), "none before it is asked for");
    let calls: Vec<_> = (0..4).map(|_| sleeping(&gateway, 0.2)).collect();
    let only = gateway.until_servers(1);
    for call in calls {
        call.response().good();
    }
    let answer = gateway.tool_to_its_end("counter", "{}");
    assert!(timing(&answer).contains("desc=\"shared\"") && !timing(&answer).contains("spawn"), "{answer:?}");
    let receipt = answer.header("spawnling-receipt").unwrap();
    assert!(receipt.contains(", kept, calls=5, ") && !receipt.contains("exit"), "{receipt}");
    until("nobody uses it", || instances(&gateway) == json!({"alive": 1, "idle": 1}));
    assert_eq!(gateway.servers(), only);
    stop(gateway);
}

#[test]
fn a_crash_is_told_to_all_who_wait_and_the_next_call_is_served() {
    let gateway = shared("");
    assert_eq!(count(&gateway), 1);
    let waiting: Vec<_> = (0..4).map(|_| sleeping(&gateway, 600.0)).collect();
    gateway.until_at_rest();
    let ordered = json!({"kind": "exit", "code": 3}).to_string();
    let crashed = gateway.tool_to_its_end("fault", &ordered);
    assert_eq!((crashed.receipt("exit-code"), crashed.receipt("calls")), ("3", "6"));
    let told = waiting.into_iter().map(Pending::response);
    for answer in told.chain([crashed]) {
        assert_eq!(answer.problem(502, "server-crashed")["exit"]["code"], 3);
    }
    assert_eq!(count(&gateway), 1);
    stop(gateway);
}

#[test]
fn a_failure_says_what_the_server_wrote_last_though_it_lives_on() {
    let gateway = shared("");
    gateway.tool("fault", r#"{"kind":"stderr-flood","bytes":100}"#).good();
    let complains = |problem: &Value| {
        problem.get("stderr_tail").is_some_and(|tail| tail.as_str().unwrap().starts_with("complaint "))
    };
    let (path, late) = ("/v1/servers/demo/tools/sleep", [JSON, ("Spawnling-Timeout", "100ms")]);
    // It is read while it is attended to, and not before anybody is answered.
    until("it was read, and is told", || {
        let answer = gateway.request("POST", path, &late, r#"{"seconds":600}"#);
        complains(&answer.problem(504, "deadline-exceeded"))
    });
    let wrong = gateway.tool("fault", r#"{"kind":"both-result-and-error"}"#);
    let wrong = wrong.problem(502, "protocol-violation");
    assert!(complains(&wrong) && wrong.get("exit").is_none(), "{wrong}");
    let crashed = gateway.tool("fault", r#"{"kind":"exit","code":3}"#).problem(502, "server-crashed");
    assert!(complains(&crashed) && crashed["exit"]["code"] == 3, "{crashed}");
    stop(gateway);
}

#[test]
fn a_call_whose_time_runs_out_while_the_server_starts_says_what_that_wrote_last() {
    let script = format!("echo no license >&2; exec {PROGRAM} demo --fault hang-open");
    let gateway = Gateway::start(&format!(
        "[servers.demo]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nstrategy = \"shared\"\n"
    ));
    let late = [JSON, ("Spawnling-Timeout", "1s")];
    // It may not have come to that in time.
    until("it was read, and is told", || {
        let answer = gateway.request("POST", "/v1/servers/demo/tools/echo", &late, r#"{"message":"x"}"#);
        let problem = answer.problem(504, "deadline-exceeded");
        assert_eq!(problem["phase"], "open");
        problem["stderr_tail"] == "no license\n"
    });
    stop(gateway);
}

#[test]
fn a_call_that_ends_early_harms_no_other() {
    let gateway = shared("");
    assert_eq!(count(&gateway), 1);
    let other = sleeping(&gateway, 0.5);
    let (path, late) = ("/v1/servers/demo/tools/sleep", [JSON, ("Spawnling-Timeout", "100ms")]);
    gateway.request("POST", path, &late, r#"{"seconds":600}"#).problem(504, "deadline-exceeded");
    let left = sleeping(&gateway, 600.0);
    gateway.until_at_rest();
    left.hang_up();
    gateway.tool("fault", r#"{"kind":"both-result-and-error"}"#).problem(502, "protocol-violation");
    gateway.tool("fault", r#"{"kind":"answer-twice"}"#).good();
    gateway.tool("fault", r#"{"kind":"garbage"}"#).good();
    assert_eq!(count(&gateway), 2, "the same server, as nothing was wrong with it");
    other.response().good();
    stop(gateway);
}

#[test]
fn a_server_that_is_stuck_in_what_nobody_waits_for_holds_up_nobody_else() {
    let gateway = shared("eof_grace = \"50ms\"\nterm_grace = \"50ms\"\n");
    assert_eq!(count(&gateway), 1);
    let stuck = gateway.until_servers(1)[0];
    signal(stuck, Signal::STOP);
    let (path, late) = ("/v1/servers/demo/tools/counter", [JSON, ("Spawnling-Timeout", "100ms")]);
    gateway.request("POST", path, &late, "{}").problem(504, "deadline-exceeded");
    assert_eq!(count(&gateway), 1, "of another process");
    until("the one that was stuck is gone", || !alive(stuck));
    assert_eq!(count(&gateway), 2);
    stop(gateway);
}

#[test]
fn a_call_that_waits_for_a_stuck_server_is_not_given_up_for_those_who_go_elsewhere() {
    let gateway = shared("eof_grace = \"50ms\"\nterm_grace = \"50ms\"\n");
    assert_eq!(count(&gateway), 1);
    let patient = sleeping(&gateway, 0.1);
    let stuck = gateway.until_servers(1)[0];
    gateway.until_at_rest();
    signal(stuck, Signal::STOP);
    let (path, late) = ("/v1/servers/demo/tools/counter", [JSON, ("Spawnling-Timeout", "100ms")]);
    gateway.request("POST", path, &late, "{}").problem(504, "deadline-exceeded");
    assert_eq!(count(&gateway), 1, "of another process");
    signal(stuck, Signal::CONT);
    patient.response().good();
    until("it is gone with its last call", || !alive(stuck));
    stop(gateway);
}

#[test]
fn a_question_that_no_server_has_seen_goes_to_the_next_and_one_that_was_seen_does_not() {
    let gateway = shared("");
    assert_eq!(count(&gateway), 1);
    let server = gateway.until_servers(1)[0];
    signal(server, Signal::STOP);
    // More than its stdin can hold: what is asked after it waits with us.
    let seen = gateway.begin_tool("echo", &json!({"message": "x".repeat(1 << 20)}).to_string());
    gateway.until_at_rest();
    let unseen = gateway.begin_tool("counter", "{}");
    gateway.until_at_rest();
    kill(server);
    assert_eq!(seen.response().problem(502, "server-crashed")["exit"]["signal"], 9);
    assert_eq!(unseen.response().good()["structuredContent"]["count"], 1);
    stop(gateway);
}

#[test]
fn a_server_whose_stdin_is_full_is_listened_to_all_the_same() {
    let gateway = shared("");
    let large = json!({"message": "x".repeat(1 << 20)}).to_string();
    let calls: Vec<_> = (0..6).map(|_| gateway.begin_tool("echo", &large)).collect();
    for call in calls {
        assert_eq!(call.response().said().len(), 1 << 20);
    }
    stop(gateway);
}

#[test]
fn a_server_that_died_while_nobody_used_it_is_started_again() {
    let gateway = shared("");
    for _ in 0..3 {
        assert_eq!(count(&gateway), 1);
        let only = gateway.until_servers(1)[0];
        kill(only);
        until("that is known", || instances(&gateway) == json!({"alive": 0, "idle": 0}));
    }
    stop(gateway);
}

#[test]
fn no_more_calls_are_in_flight_than_may_be() {
    let gateway = shared("limits = { concurrent = 2, queue = 0 }\n");
    let calls: Vec<_> = (0..2).map(|_| sleeping(&gateway, 600.0)).collect();
    gateway.until_servers(1);
    gateway.until_at_rest();
    gateway.tool("echo", r#"{"message":"one too many"}"#).problem(503, "overloaded");
    calls.into_iter().for_each(Pending::hang_up);
    until("there is room again", || gateway.tool("counter", "{}").status == 200);
    stop(gateway);
}

#[test]
fn what_is_logged_is_for_all_who_listen_and_progress_for_whoever_asked() {
    let gateway = shared("");
    let listen = |steps: usize| {
        let body = json!({"seconds": 0.4, "steps": steps}).to_string();
        let headers = [JSON, ("Accept", "text/event-stream")];
        gateway.begin("POST", "/v1/servers/demo/tools/sleep", &headers, &body)
    };
    let calls = [listen(1), listen(3)];
    let heard = calls.map(|call| {
        let events = events(&call.response().body);
        let of = |name: &str| events.iter().filter(|event| event.name == name).count();
        assert_eq!(events.last().unwrap().name, "result", "{events:?}");
        (of("progress"), of("log") > 0)
    });
    assert_eq!(heard, [(1, true), (3, true)]);
    stop(gateway);
}

#[test]
fn a_server_that_cannot_be_started_is_told_to_all_who_wait_and_tried_less_often() {
    let gateway = Gateway::start(&(demo(&["--fault", "crash-before-open=7"]) + "strategy = \"shared\"\n"));
    let calls: Vec<_> = (0..4).map(|_| gateway.begin_tool("echo", r#"{"message":"a"}"#)).collect();
    for call in calls {
        assert_eq!(call.response().problem(502, "open-failed")["exit"]["code"], 7);
    }
    for _ in 0..8 {
        gateway.tool("echo", r#"{"message":"a"}"#).problem(502, "open-failed");
    }
    gateway.settle();
    gateway.signal(Signal::TERM);
    let log = gateway.ended();
    let starts = log.matches("a shared server could not be started").count();
    assert!((1..12).contains(&starts), "{starts}");
}

#[test]
fn a_shared_server_that_nobody_uses_gives_its_seat_to_whoever_needs_it() {
    let other = server("other", &[]) + "protocol = \"legacy\"\n";
    let config = String::from("concurrent = 1\n") + &demo(&[]) + "strategy = \"shared\"\n" + &other;
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        assert_eq!(count(&gateway), 1, "the one before had to give way");
        let answer = gateway.post("/v1/servers/other/tools/counter", "{}");
        assert_eq!(answer.good()["structuredContent"]["count"], 1);
    }
    stop(gateway);
}

#[test]
fn whoever_waits_for_a_start_may_leave_and_the_others_get_their_server() {
    let gateway = Gateway::start(
        &(demo(&["--startup", "300ms"]) + "strategy = \"shared\"\nlimits = { concurrent = 3 }\n"),
    );
    let first = gateway.begin_tool("counter", "{}");
    gateway.until_servers(1);
    let second = gateway.begin_tool("counter", "{}");
    gateway.until_at_rest();
    first.hang_up();
    assert_eq!(second.response().good()["structuredContent"]["count"], 1);
    stop(gateway);
}

#[test]
fn a_forced_stop_answers_all_who_wait_and_leaves_nothing() {
    let gateway = shared("");
    let waiting: Vec<_> = (0..3).map(|_| sleeping(&gateway, 600.0)).collect();
    gateway.until_servers(1);
    gateway.until_at_rest();
    gateway.signal(Signal::TERM);
    until("it drains", || gateway.log().contains("running calls may end"));
    gateway.signal(Signal::TERM);
    for call in waiting {
        call.response().problem(503, "shutting-down");
    }
    gateway.ended();
}

/// A server that offers one tool more when `more` is called, and says so.
const GROWING: &str = r#"
tool() { printf '{"name":"%s","inputSchema":{"type":"object"}}' "$1"; }
tools=$(tool more)
while read -r line; do
    id=${line#*\"id\":}; id=${id%%,*}
    case $line in
    *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}' ;;
    *tools/list*) result="{\"tools\":[$tools]}" ;;
    *'"name":"more"'*)
        tools="$tools,$(tool another)"
        echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
        result='{"content":[{"type":"text","text":"more"}]}' ;;
    *tools/call*) result='{"content":[{"type":"text","text":"another"}]}' ;;
    *) continue ;;
    esac
    printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done"#;

#[test]
fn a_server_that_says_that_its_list_is_another_one_is_asked_for_it_again() {
    let config = format!(
        "\n[servers.demo]\ncommand = \"sh\"\nargs = [\"-c\", {}]\n",
        json!(GROWING.replace("${", "$${"))
    );
    let gateway = Gateway::start(&(config + "protocol = \"legacy\"\nstrategy = \"shared\"\n"));
    let names = || {
        let told = gateway.get("/v1/servers/demo/tools").good();
        let names =
            told["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(), ["more"]);
    gateway.tool("another", "{}").problem(404, "unknown-tool");
    assert_eq!(gateway.tool("more", "{}").said(), "more");
    assert_eq!(gateway.tool("another", "{}").said(), "another");
    assert_eq!(names(), ["more", "another"]);
    kill(gateway.until_servers(1)[0]);
    gateway.until_servers(0);
    assert_eq!(gateway.tool("another", "{}").said(), "another");
    assert_eq!(names(), ["more"], "what the first one had changed was its own");
    stop(gateway);
}
