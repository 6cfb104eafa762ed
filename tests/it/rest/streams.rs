//! Answers that tell what happens while it happens.

use serde_json::json;

use crate::support::{Event, Gateway, JSON, Response, demo, events, server};

const EVENTS: (&str, &str) = ("Accept", "text/event-stream");

fn stream(gateway: &Gateway, path: &str, body: &str) -> Response {
    gateway.request("POST", &format!("/v1/servers/demo/{path}"), &[JSON, EVENTS], body)
}

/// The events of a stream, the last of which is the only one of its kind.
fn told(answer: &Response) -> (Vec<Event>, Event) {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/event-stream")),
        "{answer:?}"
    );
    let mut told = events(&answer.body);
    let last = told.pop().expect("a last event");
    assert!(told.iter().all(|event| event.name != "result" && event.name != "problem"), "{told:?}");
    (told, last)
}

#[test]
fn events_come_in_order_and_exactly_one_result_is_the_last() {
    let modern = server("demo", &["--era", "modern"]) + "protocol = \"modern\"\n";
    for config in [demo(&[]), modern] {
        let gateway = Gateway::start(&config);
        let answer = stream(&gateway, "tools/sleep", r#"{"seconds":0.03,"steps":3}"#);
        let (before, last) = told(&answer);
        let names: Vec<_> = before.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["log", "progress", "progress", "progress"], "{before:?}");
        let steps: Vec<_> = before[1..].iter().map(|event| event.data["progress"].clone()).collect();
        assert_eq!(steps, [1.0, 2.0, 3.0]);
        assert_eq!((last.name.as_str(), &last.data["result"]["isError"]), ("result", &json!(false)));
        assert_eq!(last.data["callId"], answer.header("spawnling-call-id").unwrap());
        assert!(last.data["timing"]["call"].as_f64().is_some_and(|time| time >= 30.0), "{last:?}");
        gateway.stop();
    }
}

#[test]
fn a_failure_before_the_server_is_there_is_a_plain_problem() {
    let gateway = Gateway::start(&demo(&["--fault", "crash-before-open=7"]));
    stream(&gateway, "tools/echo", r#"{"message":"a"}"#).problem(502, "open-failed");
    stream(&gateway, "tools/echo", "{").problem(400, "malformed-request");
    gateway.stop();
}

#[test]
fn a_failure_behind_that_is_the_last_event() {
    let gateway = Gateway::start(&demo(&[]));
    for (path, body, kind) in [
        ("tools/fail", r#"{"message":"no luck"}"#, "tool-error"),
        ("tools/fault", r#"{"kind":"exit","code":9}"#, "server-crashed"),
        ("calls", r#"{"steps":[{"tool":"counter"},{"tool":"fail"}]}"#, "step-failed"),
    ] {
        let answer = stream(&gateway, path, body);
        let (_, last) = told(&answer);
        assert_eq!(
            (last.name.as_str(), &last.data["type"]),
            ("problem", &json!(format!("/problems/{kind}")))
        );
        assert_eq!(last.data["call"], answer.header("spawnling-call-id").unwrap());
        gateway.settle();
    }
    gateway.stop();
}

#[test]
fn the_receipt_is_in_the_last_event_for_whoever_waits_for_the_end() {
    let gateway = Gateway::start(&demo(&[]));
    let headers = [JSON, EVENTS, ("Spawnling-Wait", "end")];
    let answer = gateway.request("POST", "/v1/servers/demo/tools/counter", &headers, "{}");
    let (_, last) = told(&answer);
    assert_eq!(
        (&last.data["receipt"]["rung"], &last.data["receipt"]["exit"]),
        (&json!("eof"), &json!({"code": 0}))
    );
    gateway.stop();
}

#[test]
fn what_a_slow_reader_misses_is_counted() {
    let gateway = Gateway::start(&demo(&[]));
    let answer = stream(&gateway, "tools/fault", r#"{"kind":"notification-flood","bytes":5000000}"#);
    let (before, last) = told(&answer);
    assert_eq!(last.name, "result");
    let count = |name: &str| before.iter().filter(|event| event.name == name).count() as u64;
    let dropped: u64 = before.iter().filter_map(|event| event.data["count"].as_u64()).sum();
    // So many messages the demo makes of that many bytes.
    let sent = 5_000_000_u64.div_ceil(960 + 90);
    assert_eq!(count("progress") + count("log") + dropped, sent, "{dropped} dropped");
    gateway.stop();
}

#[test]
fn a_carriage_return_of_the_server_ends_no_line_of_an_event() {
    let gateway = Gateway::start(&demo(&[]));
    // `events` refuses any in the stream.
    let answer = stream(&gateway, "tools/fault", r#"{"kind":"surrogate"}"#);
    told(&answer);
    assert!(
        answer.body.contains("1e400") && answer.body.contains("lone \\ud800 surrogate"),
        "{}",
        answer.body
    );
    gateway.stop();
}
