//! What a pool promises: who is used again, who is not, and what a call leaves to the next.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{count, stop, timing};
use crate::support::{Gateway, JSON, Response, alive, demo, kill, server, until};

fn pooled(keys: &str) -> Gateway {
    Gateway::start(&(demo(&[]) + "strategy = \"pooled\"\n" + keys))
}

fn instances(gateway: &Gateway) -> Value {
    gateway.get("/v1/servers").good()["servers"][0]["instances"].clone()
}

/// Waits until nobody has a server, and so many wait for a call.
#[track_caller]
fn until_idle(gateway: &Gateway, count: usize) {
    let expected = json!({"alive": count, "idle": count});
    until("that many servers wait", || instances(gateway) == expected);
}

fn fault(gateway: &Gateway, kind: &str) -> Response {
    gateway.tool("fault", &json!({"kind": kind}).to_string())
}

#[test]
fn a_server_that_was_given_back_is_used_again_and_that_is_told() {
    let gateway = pooled("");
    let first = gateway.tool_to_its_end("counter", "{}");
    assert!(timing(&first).contains("spawn;") && !timing(&first).contains("pooled"), "{first:?}");
    let receipt = first.header("spawnling-receipt").unwrap().to_owned();
    assert!(receipt.contains(", kept, calls=1, containment="), "{receipt}");
    let second = gateway.tool_to_its_end("counter", "{}");
    assert_eq!(second.good()["structuredContent"]["count"], 2);
    assert!(timing(&second).contains("open;dur=0.000;desc=\"pooled\""), "{second:?}");
    assert!(!timing(&second).contains("spawn"), "{second:?}");
    let receipt = second.header("spawnling-receipt").unwrap();
    assert!(receipt.contains(", kept, calls=2, ") && !receipt.contains("exit"), "{receipt}");
    assert_eq!(second.receipt("pid"), first.receipt("pid"));
    let id = second.header("spawnling-call-id").unwrap();
    let record = gateway.get(&format!("/v1/calls/{id}")).good();
    assert_eq!((&record["state"], &record["process"]["kept"]), (&json!("ended"), &json!(true)), "{record}");
    until_idle(&gateway, 1);
    stop(gateway);
}

#[test]
fn a_server_has_one_call_at_a_time_and_there_are_no_more_servers_than_seats() {
    let gateway = pooled("limits = { concurrent = 2 }\n");
    let calls: Vec<_> = (0..8).map(|_| gateway.begin_tool("sleep", r#"{"seconds":0.05}"#)).collect();
    let mut most = 0;
    for call in calls {
        most = most.max(gateway.servers().len());
        assert_eq!(call.response().status, 200);
    }
    assert!(most <= 2, "{most}");
    until_idle(&gateway, 2);
    stop(gateway);
}

#[test]
fn a_server_is_used_no_more_often_than_it_may() {
    let gateway = pooled("pool = { uses = 3 }\n");
    let counts: Vec<Value> = (0..7).map(|_| count(&gateway)).collect();
    assert_eq!(counts, [1, 2, 3, 1, 2, 3, 1]);
    count(&gateway);
    let last = gateway.tool_to_its_end("counter", "{}");
    assert_eq!((last.receipt("calls"), last.receipt("rung")), ("3", "eof"));
    stop(gateway);
}

#[test]
fn a_server_that_is_too_old_or_waits_too_long_is_ended() {
    for keys in ["pool = { max_age = \"50ms\" }\n", "pool = { idle = \"50ms\" }\n"] {
        let gateway = pooled(keys);
        assert_eq!(count(&gateway), 1);
        gateway.until_servers(0);
        assert_eq!(count(&gateway), 1);
        gateway.stop();
    }
}

fn break_off(gateway: &Gateway, breach: &str) {
    match breach {
        "deadline" => {
            let (path, late) = ("/v1/servers/demo/tools/sleep", [JSON, ("Spawnling-Timeout", "100ms")]);
            gateway.request("POST", path, &late, r#"{"seconds":600}"#).problem(504, "deadline-exceeded");
        }
        "hang-up" => {
            let begun = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
            gateway.until_at_rest();
            begun.hang_up();
            gateway.until_at_rest();
        }
        "exit" | "close-stdout" => drop(fault(gateway, breach).problem(502, "server-crashed")),
        "endless-line" => drop(fault(gateway, breach).problem(502, "output-too-large")),
        _ => drop(fault(gateway, breach).problem(502, "protocol-violation")),
    }
}

#[test]
fn a_server_whose_call_was_broken_off_is_ended_and_not_used_again() {
    let gateway = pooled("limits = { output = \"1MiB\" }\n");
    for breach in ["deadline", "hang-up", "exit", "close-stdout", "both-result-and-error", "endless-line"] {
        assert_eq!(count(&gateway), 1, "a new one before {breach}");
        assert_eq!(count(&gateway), 2, "the same before {breach}");
        break_off(&gateway, breach);
        // Whoever calls next is not kept from it by what was there before, be it on its way out.
        assert_eq!(count(&gateway), 1, "a new one after {breach}");
        until_idle(&gateway, 1);
        kill(gateway.until_servers(1)[0]);
        until_idle(&gateway, 0);
    }
    stop(gateway);
}

#[test]
fn a_server_that_answers_what_nobody_has_asked_is_replaced() {
    let gateway = pooled("");
    assert_eq!(count(&gateway), 1);
    assert_eq!(count(&gateway), 2);
    fault(&gateway, "answer-twice").good();
    // The second answer may come when the server has its next call already: it is nobody's, and the end of that server.
    until("a new one is asked", || count(&gateway) == 1);
    stop(gateway);
}

#[test]
fn a_failure_that_is_an_answer_spoils_nothing() {
    let gateway = pooled("");
    assert_eq!(count(&gateway), 1);
    gateway.tool("fail", "{}").problem(424, "tool-error");
    gateway.tool("no-such-tool", "{}").problem(404, "unknown-tool");
    fault(&gateway, "rpc-error").problem(502, "server-error");
    assert_eq!(count(&gateway), 2);
    stop(gateway);
}

#[test]
fn a_server_that_died_while_it_waited_is_not_handed_out() {
    let gateway = pooled("");
    for _ in 0..5 {
        assert_eq!(count(&gateway), 1);
        until_idle(&gateway, 1);
        let waiting = gateway.until_servers(1)[0];
        kill(waiting);
        until("the kernel has ended it", || !alive(waiting));
    }
    assert_eq!(count(&gateway), 1);
    stop(gateway);
}

#[test]
fn a_server_that_waits_gives_its_seat_to_whoever_needs_it() {
    let other = server("other", &[]) + "protocol = \"legacy\"\n";
    let config = String::from("concurrent = 1\n") + &demo(&[]) + "strategy = \"pooled\"\n" + &other;
    let gateway = Gateway::start(&config);
    for _ in 0..3 {
        assert_eq!(count(&gateway), 1, "the one before had to give way");
        let answer = gateway.post("/v1/servers/other/tools/counter", "{}");
        assert_eq!(answer.good()["structuredContent"]["count"], 1);
    }
    stop(gateway);
}

#[test]
fn a_pool_that_is_always_asked_for_keeps_nobody_else_out() {
    let other = server("other", &[]) + "protocol = \"legacy\"\n";
    let config = String::from("concurrent = 1\n") + &demo(&[]) + "strategy = \"pooled\"\n" + &other;
    let gateway = Gateway::start(&config);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    // So long that at its end the two others wait for the server.
                    gateway.tool("sleep", r#"{"seconds":0.05}"#).good();
                }
            });
        }
        for _ in 0..3 {
            gateway.post("/v1/servers/other/tools/counter", "{}").good();
        }
        done.store(true, Ordering::SeqCst);
    });
    stop(gateway);
}
