//! A server that hangs over its start, or hears nothing any more, is told from one whose tool takes long.

use serde_json::{Value, json};

use super::ECHO;
use crate::support::{Gateway, server};

/// More than a test may take: whoever waits for the end of a call's time fails.
const DEADLINE: &str = "deadline = \"10m\"\n";

/// A server that is a shell script.
fn script(script: &str) -> String {
    format!(
        "\n[servers.demo]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nvalidate = \"off\"\n{DEADLINE}"
    )
}

/// Arguments that no pipe holds, so that they are not said when a server closes its side.
fn large() -> String {
    json!({"message": "x".repeat(1 << 20)}).to_string()
}

#[test]
fn a_start_that_hangs_costs_its_own_time_and_not_the_calls_whatever_the_era() {
    for protocol in ["legacy", "modern", "auto"] {
        let hanging = server("demo", &["--fault", "slow-start=600000"]) + DEADLINE;
        let more = format!("open_deadline = \"300ms\"\nprotocol = {protocol:?}\n");
        let gateway = Gateway::start(&(hanging + &more + super::HASTE));
        let problem = gateway.tool("echo", ECHO).problem(504, "deadline-exceeded");
        assert_eq!(problem["phase"], "open", "{protocol}: {problem}");
        gateway.get("/v1/servers/demo/tools").problem(504, "deadline-exceeded");
        gateway.get("/v1/servers/demo").problem(504, "deadline-exceeded");
        gateway.stop();
    }
}

#[test]
fn a_tool_may_take_longer_than_any_start() {
    let more = "protocol = \"modern\"\nopen_deadline = \"2s\"\n";
    let gateway = Gateway::start(&(server("demo", &[]) + DEADLINE + more));
    assert_eq!(gateway.tool("sleep", r#"{"seconds":2.5}"#).said(), "slept 2.5 s");
    gateway.stop();
}

#[test]
fn a_server_that_has_closed_its_stdin_over_the_handshake_is_given_up_at_once() {
    let introduction = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": introduction});
    // Nobody can write to it any more when its answer comes.
    let deaf = format!("read line; exec <&-; echo deaf >&2; echo '{answer}'; exec sleep 600");
    let gateway = Gateway::start(&(script(&deaf) + "protocol = \"legacy\"\n" + super::HASTE));
    let problem = gateway.tool("echo", ECHO).problem(502, "protocol-violation");
    assert_eq!((&problem["phase"], &problem["exit"]), (&json!("call"), &Value::Null));
    assert_eq!(problem["stderr_tail"], "deaf\n", "{problem}");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("closed its stdin")),
        "{problem}"
    );
    gateway.stop();
}

#[test]
fn a_server_that_stops_reading_in_the_middle_of_a_question_is_given_up_at_once() {
    let deaf = script("dd bs=1 count=10 status=none >/dev/null; exec <&-; exec sleep 600");
    let gateway = Gateway::start(&(deaf + "protocol = \"modern\"\n" + super::HASTE));
    let problem = gateway.tool("echo", &large()).problem(502, "protocol-violation");
    assert_eq!(problem["phase"], "call");
    gateway.stop();
}

/// The rest of a script: an answer to the question with this number.
fn answers(id: u32) -> String {
    let result =
        json!({"content": [{"type": "text", "text": "read, and worked on"}], "resultType": "complete"});
    format!("echo '{}'", json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

#[test]
fn a_server_that_closes_its_stdin_with_a_question_unread_is_given_up_long_before_the_calls_time() {
    // By then the question is in the pipe, and would have stayed there.
    let deaf = script("sleep 0.3; exec <&-; exec sleep 600");
    let gateway = Gateway::start(&(deaf + "protocol = \"modern\"\n" + super::HASTE));
    let problem = gateway.tool("echo", ECHO).problem(502, "protocol-violation");
    assert_eq!((&problem["phase"], &problem["exit"]), (&json!("call"), &Value::Null), "{problem}");
    gateway.stop();
}

#[test]
fn a_server_that_has_read_all_of_its_question_may_close_its_stdin_and_work_on() {
    let busy = format!("read line; exec <&-; sleep 0.5; {}; exec sleep 600", answers(1));
    let gateway = Gateway::start(&(script(&busy) + "protocol = \"modern\"\n" + super::HASTE));
    assert_eq!(gateway.tool("echo", ECHO).said(), "read, and worked on");
    gateway.stop();
}

#[test]
fn a_server_that_exits_in_the_middle_of_a_question_has_crashed_with_its_exit_and_its_noise() {
    let leaving = script("dd bs=1 count=10 status=none >/dev/null; echo too long; exit 3");
    let gateway = Gateway::start(&(leaving + "protocol = \"modern\"\n"));
    let problem = gateway.tool("echo", &large()).problem(502, "server-crashed");
    assert_eq!((&problem["exit"], &problem["noise"]), (&json!({"code": 3}), &json!(["too long"])));
    gateway.stop();
}
