//! Routes of one's own: the paths that a backend has always called, with the answers that it expects.

use serde_json::{Value, json};

use crate::support::{Gateway, JSON, demo, events};

fn routes() -> String {
    let route = |path: &str, tool: &str, more: &str| {
        format!("\n[[routes]]\npath = \"{path}\"\nserver = \"demo\"\ntool = \"{tool}\"\n{more}\n")
    };
    [
        demo(&[]),
        route("/say", "echo", "response = \"envelope\"\narguments = { message = \"/text/0\" }"),
        route("/plain", "echo", ""),
        route("/fault", "fault", "response = \"envelope\""),
        route("/add", "add", "response = \"envelope\"\narguments = { a = \"/x\", b = \"/y\" }"),
        // The original API is off, so its paths may be had.
        route("/api/browser-agent", "echo", "arguments = { message = \"/task\" }"),
    ]
    .concat()
}

#[test]
fn the_envelope_says_whether_it_worked_with_the_status_of_every_route() {
    let gateway = Gateway::start(&routes());
    let good = gateway.post("/say", r#"{"text":["hello"],"more":1}"#);
    assert_eq!(good.good(), json!({"success": true, "result": "hello"}));
    assert_eq!(good.header("spawnling-call-id").map(str::len), Some(32));
    assert!(good.header("server-timing").is_some());
    let sum = gateway.post("/add", r#"{"x":1,"y":2}"#).good();
    assert_eq!((&sum["success"], &sum["structured"]), (&Value::Bool(true), &json!({"sum": 3})));

    let mut failed = Vec::new();
    for (path, headers, body) in [
        ("/add", &[JSON][..], r#"{"x":1}"#),
        ("/say", &[JSON], "{"),
        ("/say", &[], "{}"),
        ("/fault", &[JSON], r#"{"kind":"exit"}"#),
    ] {
        let answer = gateway.request("POST", path, headers, body);
        let told = answer.json();
        assert!(told["success"] == false && told["error"].is_string(), "{answer:?}");
        failed.push(answer.status);
    }
    assert_eq!(failed[..3], [422, 400, 415], "{failed:?}");
    assert!(failed[3] >= 400, "{failed:?}");
    let wrong = gateway.get("/say");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")), "{wrong:?}");
    gateway.stop();
}

#[test]
fn without_the_envelope_it_is_the_tool_under_another_path() {
    let gateway = Gateway::start(&routes());
    let result = gateway.post("/plain", r#"{"message":"hello"}"#);
    assert_eq!(result.said(), "hello");
    assert_eq!(gateway.post("/api/browser-agent", r#"{"task":"go"}"#).said(), "go");
    gateway.post("/plain", "{}").problem(422, "invalid-arguments");
    gateway.post("/plain", "[]").problem(400, "malformed-request");
    gateway.get("/plain").problem(405, "method-not-allowed");
    let text = gateway.request("POST", "/plain", &[JSON, ("Accept", "text/plain")], r#"{"message":"t"}"#);
    assert_eq!((text.status, text.body.as_str()), (200, "t"));
    let stream = [JSON, ("Accept", "text/event-stream")];
    let stream = gateway.request("POST", "/plain", &stream, r#"{"message":"s"}"#);
    assert_eq!(events(&stream.body).last().map(|event| event.name.as_str()), Some("result"));
    // A foreign page is kept out here as everywhere.
    let foreign = [JSON, ("Origin", "http://evil.example")];
    assert_eq!(gateway.request("POST", "/say", &foreign, "{}").status, 403);
    gateway.post("/plain/", "{}").problem(404, "unknown-route");
    gateway.stop();
}

#[test]
fn a_route_asks_for_the_same_authority_as_its_tool() {
    let token = |name: &str, more: &str| {
        format!("\n[[tokens]]\nname = \"{name}\"\nvalue = \"{name}-correct-horse\"\n{more}\n")
    };
    let tokens = token("echoes", "tools = [\"echo\"]") + &token("adds", "tools = [\"add\"]");
    let gateway = Gateway::start(&(routes() + &tokens));
    let ask = |path: &str, who: &str| {
        let bearer = format!("Bearer {who}-correct-horse");
        gateway.request("POST", path, &[JSON, ("Authorization", &bearer)], r#"{"message":"m","text":["m"]}"#)
    };
    assert_eq!(ask("/say", "echoes").good(), json!({"success": true, "result": "m"}));
    assert_eq!(ask("/plain", "echoes").said(), "m");
    ask("/plain", "adds").problem(403, "forbidden");
    ask("/plain", "nobody").problem(401, "unauthenticated");
    for (who, status) in [("adds", 403), ("nobody", 401)] {
        let refused = ask("/say", who);
        assert_eq!(
            (refused.status, &refused.json()["success"]),
            (status, &Value::Bool(false)),
            "{refused:?}"
        );
    }
    gateway.stop();
}

#[test]
fn the_front_page_names_the_routes_to_whoever_may_call_what_is_behind_them() {
    let token = "\n[[tokens]]\nname = \"adds\"\nvalue = \"adds-correct-horse\"\ntools = [\"add\"]\n";
    let gateway = Gateway::start(&routes());
    let named = gateway.get("/").body;
    for line in ["POST /say  ", "POST /api/browser-agent  "] {
        assert!(
            named.lines().any(|shown| shown.starts_with(line) && shown.ends_with("the tool echo of demo")),
            "{named}"
        );
    }
    gateway.stop();
    let gateway = Gateway::start(&(routes() + token));
    let ask = |headers: &[(&str, &str)]| gateway.request("GET", "/", headers, "").body;
    let named = ask(&[("X-API-Key", "adds-correct-horse")]);
    assert!(named.contains("POST /add  ") && !named.contains("POST /say"), "{named}");
    assert!(!ask(&[]).contains("POST /add"), "{}", ask(&[]));
    gateway.stop();
}
