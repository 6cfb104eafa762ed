//! What an operator sees: what is counted, and whether calls may come.

use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;

use crate::support::{Gateway, JSON, PROGRAM, Response, demo, server, shown, until, until_some};

mod contract;
mod openapi;

/// The value of one series; `None`: there is no such series.
#[track_caller]
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|_| panic!("{series}: {line}")))
}

/// The figures of a gateway of which nothing is alive.
#[track_caller]
fn settled(gateway: &Gateway) -> String {
    gateway.settle();
    let answer = gateway.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    answer.body
}

#[test]
fn calls_are_counted_by_what_became_of_them() {
    let gateway = Gateway::start(&(demo(&[]) + "limits = { concurrent = 3, queue = 0 }\n"));
    gateway.tool_to_its_end("echo", r#"{"message":"a"}"#).good();
    gateway.tool_to_its_end("echo", r#"{"message":"b"}"#).good();
    gateway.tool_to_its_end("fail", "{}").problem(424, "tool-error");
    gateway.tool_to_its_end("fault", r#"{"kind":"abort"}"#).problem(502, "server-crashed");
    gateway.tool_to_its_end("no-such-script", "{}").problem(404, "unknown-tool");
    gateway.get("/no-such-page").problem(404, "unknown-route");
    let metrics = settled(&gateway);
    let calls = |outcome: &str, fault: &str| {
        let labels = format!("server=\"demo\",strategy=\"fresh\",outcome=\"{outcome}\",fault=\"{fault}\"");
        value(&metrics, &format!("spawnling_calls_total{{{labels}}}"))
    };
    assert_eq!(calls("ok", ""), Some(2.0), "{metrics}");
    assert_eq!(calls("tool-error", "caller"), Some(1.0));
    assert_eq!(calls("server-crashed", "server"), Some(1.0));
    assert_eq!(calls("unknown-tool", "caller"), Some(1.0));
    for (series, expected) in [
        ("spawnling_phase_seconds_count{server=\"demo\",phase=\"open\"}", 4.0),
        ("spawnling_seats{server=\"demo\"}", 3.0),
        ("spawnling_seats_taken{server=\"demo\"}", 0.0),
        ("spawnling_calls_running{server=\"demo\"}", 0.0),
        ("spawnling_queue_length{server=\"demo\"}", 0.0),
        ("spawnling_seats_overall", 64.0),
        ("spawnling_children_alive", 0.0),
        ("spawnling_rescued_total", 0.0),
        ("spawnling_http_responses_total{status=\"404\"}", 2.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}\n{metrics}");
    }
    // The one that asks for them.
    assert!(value(&metrics, "spawnling_connections").is_some_and(|open| open >= 1.0), "{metrics}");
    let ends: f64 = ["already", "eof", "term", "kill"]
        .iter()
        .filter_map(|rung| {
            value(&metrics, &format!("spawnling_end_seconds_count{{server=\"demo\",rung=\"{rung}\"}}"))
        })
        .sum();
    assert!((ends - 4.0).abs() < 0.1, "{metrics}");
    assert!(!metrics.contains("script"), "what a caller wrote is no label: {metrics}");
    gateway.stop();
}

#[test]
fn what_goes_on_is_seen_while_it_goes_on() {
    let gateway = Gateway::start(&(demo(&[]) + "limits = { concurrent = 1, queue = 4 }\n"));
    let sleeper = gateway.begin_tool("sleep", r#"{"seconds":60}"#);
    gateway.until_servers(1);
    let waiting = gateway.begin_tool("echo", r#"{"message":"a"}"#);
    let metrics = until_some("somebody waits", || {
        let metrics = gateway.get("/metrics").body;
        (value(&metrics, "spawnling_queue_length{server=\"demo\"}") == Some(1.0)).then_some(metrics)
    });
    for (series, expected) in [
        ("spawnling_seats_taken{server=\"demo\"}", 1.0),
        ("spawnling_calls_running{server=\"demo\"}", 2.0),
        ("spawnling_children_alive", 1.0),
    ] {
        assert_eq!(value(&metrics, series), Some(expected), "{series}\n{metrics}");
    }
    drop((sleeper, waiting));
    gateway.stop();
}

#[test]
fn a_standby_that_was_there_is_a_hit() {
    let config = demo(&[]) + "strategy = \"prewarmed\"\nstandby = { min = 1, max = 1 }\n";
    let gateway = Gateway::start(&config);
    let ready = || value(&gateway.get("/metrics").body, "spawnling_standbys_ready{server=\"demo\"}");
    until("one stands by", || ready() == Some(1.0));
    gateway.tool_to_its_end("echo", r#"{"message":"a"}"#).good();
    let hit = "spawnling_standby_total{server=\"demo\",result=\"hit\"}";
    assert_eq!(value(&gateway.get("/metrics").body, hit), Some(1.0));
    gateway.signal(Signal::TERM);
    gateway.ended();
}

#[test]
fn the_metrics_are_shown_to_whom_the_configuration_says() {
    const TOKENS: &str = r#"
        [[tokens]]
        name = "owner"
        value = "owner-token"
        diagnostics = true

        [[tokens]]
        name = "guest"
        value = "guest-token"
    "#;
    let ask = |gateway: &Gateway, token: &str, via: Option<&str>| -> Response {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![];
        headers.extend((!token.is_empty()).then_some(("Authorization", bearer.as_str())));
        headers.extend(via.map(|via| ("X-Forwarded-For", via)));
        gateway.request("GET", "/metrics", &headers, "")
    };
    let gateway = Gateway::start(&format!("{TOKENS}{}", demo(&[])));
    assert_eq!(ask(&gateway, "", None).status, 200);
    assert_eq!(ask(&gateway, "owner-token", Some("192.0.2.1")).status, 200);
    ask(&gateway, "", Some("192.0.2.1")).problem(401, "unauthenticated");
    ask(&gateway, "guest-token", Some("192.0.2.1")).problem(403, "forbidden");
    gateway.stop();
    for (word, nobody, guest) in [("token", 401, 403), ("open", 200, 200)] {
        let gateway = Gateway::start(&format!("metrics = \"{word}\"\n{TOKENS}{}", demo(&[])));
        assert_eq!(ask(&gateway, "", None).status, nobody, "{word}");
        assert_eq!(ask(&gateway, "guest-token", None).status, guest, "{word}");
        assert_eq!(ask(&gateway, "owner-token", None).status, 200, "{word}");
        gateway.stop();
    }
}

#[test]
fn a_gateway_whose_required_server_cannot_start_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("server");
    let program = shown(&program);
    let config = format!(
        "[servers.needed]\ncommand = {program:?}\nrequired = true\nprotocol = \"legacy\"\n{}",
        server("other", &[])
    );
    let gateway = Gateway::start(&config);
    until("that is known", || gateway.get("/readyz").json()["status"] == "cannot-start");
    let answer = gateway.get("/readyz");
    assert_eq!((answer.status, &answer.json()["servers"][0]), (503, &"needed".into()));
    assert_eq!(gateway.get("/healthz").status, 200);
    // It is there now, and a call that finds it makes the gateway ready.
    std::fs::write(program, format!("#!/bin/sh\nexec {PROGRAM:?} demo\n")).unwrap();
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    gateway.request("POST", "/v1/servers/needed/tools/echo", &[JSON], r#"{"message":"a"}"#).good();
    assert_eq!(gateway.get("/readyz").json()["status"], "ready");
    gateway.stop();
}

#[test]
fn a_server_that_cannot_start_and_is_not_required_is_told_of_by_a_gateway_that_is_ready() {
    for strategy in ["fresh", "prewarmed"] {
        let config = format!("[servers.lost]\ncommand = \"/bin/false\"\nstrategy = \"{strategy}\"\n");
        let gateway = Gateway::start(&(config + &server("other", &[])));
        if strategy == "fresh" {
            assert_eq!(gateway.get("/readyz").json(), serde_json::json!({"status": "ready"}));
            gateway.request("POST", "/v1/servers/lost/tools/x", &[JSON], "{}").problem(502, "open-failed");
        }
        until("that is known", || gateway.get("/readyz").json()["failing"][0] == "lost");
        let answer = gateway.get("/readyz");
        assert_eq!((answer.status, &answer.json()["status"]), (200, &"ready".into()), "{answer:?}");
        gateway.stop();
    }
}

#[test]
fn whether_a_required_server_can_start_is_found_out_without_a_call() {
    let gateway = Gateway::start(&(demo(&[]) + "required = true\n"));
    until("it was started once", || gateway.get("/readyz").status == 200);
    gateway.stop();
}

#[test]
fn a_full_gateway_is_not_ready_only_for_those_who_ask_so() {
    let gateway = Gateway::start(&(demo(&[]) + "limits = { concurrent = 1, queue = 0 }\n"));
    assert_eq!(gateway.get("/readyz?full=503").status, 200);
    let sleeper = gateway.begin_tool("sleep", r#"{"seconds":60}"#);
    gateway.until_servers(1);
    assert_eq!(gateway.get("/readyz").status, 200);
    let full = gateway.get("/readyz?full=503");
    assert_eq!((full.status, &full.json()["status"]), (503, &"full".into()));
    gateway.get("/readyz?full=yes").problem(400, "malformed-request");
    drop(sleeper);
    // Its seat is free a moment after nothing of it is alive.
    until("there is room again", || gateway.get("/readyz?full=503").status == 200);
    gateway.stop();
}
