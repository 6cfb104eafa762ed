//! A call belongs to the trace that its caller names: the server is told so with each step, and the log says it.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::ledger::Ledger;
use crate::support::{Gateway, JSON, Start, until};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const STATE: &str = "rojo=\"a\\b\",congo=t61";
const HELLO: &str = r#"{"message":"hello"}"#;
const ECHO: &str = "/v1/servers/demo/tools/echo";

/// What was told of a trace with each message that is not part of a handshake: method, parent, state.
fn told(ledger: &Ledger) -> Vec<(String, Value, Value)> {
    let messages = ledger.heard().concat();
    let opening = |method: &str| method == "initialize" || method.starts_with("notifications/");
    let methods = messages.iter().map(|message| message["method"].as_str().expect("we only ask").to_owned());
    let metas = messages.iter().map(|message| &message["params"]["_meta"]);
    let both = methods.zip(metas).filter(|(method, _)| !opening(method));
    both.map(|(method, meta)| (method, meta["traceparent"].clone(), meta["tracestate"].clone())).collect()
}

fn legacy(ledger: &Ledger) -> String {
    ledger.config() + "protocol = \"legacy\"\n"
}

#[test]
fn every_step_is_told_the_trace_of_its_call() {
    let traced = [JSON, ("traceparent", PARENT), ("tracestate", STATE)];
    for era in ["legacy", "modern"] {
        let ledger = Ledger::new(&[]);
        let gateway = Gateway::start(&format!("{}protocol = \"{era}\"\n", ledger.config()));
        let steps = [
            json!({"tool": "echo", "arguments": {"message": "hi"}}),
            json!({"method": "tools/list"}),
            json!({"method": "resources/read", "params": {"uri": "demo://echo/hi"}}),
            json!({"method": "prompts/get", "params": {"name": "greet", "arguments": {"name": "Ada"}}}),
        ];
        let body = json!({ "steps": steps }).to_string();
        let answer = gateway.request("POST", "/v1/servers/demo/calls", &traced, &body).good();
        assert_eq!(answer["steps"].as_array().map(Vec::len), Some(4), "{era}: {answer}");
        let told = told(&ledger);
        assert_eq!(told.len(), 4, "{era}: {told:?}");
        for (method, parent, state) in told {
            assert_eq!((parent, state), (json!(PARENT), json!(STATE)), "{era}: {method}");
        }
        gateway.stop();
    }
}

#[test]
fn every_way_to_ask_passes_the_trace_on() {
    let ledger = Ledger::new(&[]);
    let routes = "\n[[routes]]\npath = \"/say\"\nserver = \"demo\"\ntool = \"echo\"\n\
                  \n[browser_agent]\nserver = \"demo\"\ntool = \"echo\"\n";
    let gateway = Gateway::start(&(legacy(&ledger) + routes));
    let ask = |method: &str, path: &str, accept: &str, body: &str| {
        let headers = [JSON, ("traceparent", PARENT), ("accept", accept)];
        gateway.request(method, path, &headers, body);
    };
    ask("POST", ECHO, "application/json", HELLO);
    ask("POST", ECHO, "text/event-stream", HELLO);
    ask("POST", "/say", "application/json", HELLO);
    ask("POST", "/api/browser-agent", "application/json", r#"{"task":"t"}"#);
    ask("GET", "/v1/servers/demo/tools", "application/json", "");
    let told = told(&ledger);
    let methods: Vec<&str> = told.iter().map(|(method, ..)| &**method).collect();
    assert_eq!(methods, ["tools/call", "tools/call", "tools/call", "tools/call", "tools/list"]);
    assert!(told.iter().all(|(_, parent, state)| *parent == json!(PARENT) && state.is_null()), "{told:?}");
    gateway.stop();
}

#[test]
fn a_trace_is_one_calls_own_whoever_else_has_the_server() {
    for strategy in ["pooled", "shared"] {
        let ledger = Ledger::new(&[]);
        let gateway = Gateway::start(&(legacy(&ledger) + &format!("strategy = \"{strategy}\"\n")));
        gateway.request("POST", ECHO, &[JSON, ("traceparent", PARENT)], HELLO).good();
        gateway.post(ECHO, HELLO).good();
        let parents: Vec<Value> = told(&ledger).into_iter().map(|(_, parent, _)| parent).collect();
        assert_eq!(parents, [json!(PARENT), Value::Null], "{strategy}");
        gateway.signal(Signal::TERM);
        gateway.ended();
    }
}

#[test]
fn a_trace_that_is_not_well_formed_is_dropped_and_the_call_is_made() {
    let ledger = Ledger::new(&[]);
    let gateway = Gateway::start(&legacy(&ledger));
    let upper = PARENT.to_uppercase();
    let cases: [(&[(&str, &str)], Value); 5] = [
        (&[("traceparent", "00-0\"}-1"), ("tracestate", "a=1")], Value::Null),
        (&[("traceparent", &upper)], Value::Null),
        (&[("traceparent", PARENT), ("traceparent", PARENT)], Value::Null),
        (&[("tracestate", "a=1")], Value::Null),
        (&[("traceparent", PARENT), ("tracestate", "a=1,no")], json!(PARENT)),
    ];
    for (headers, _) in &cases {
        let answer = gateway.request("POST", ECHO, &[&[JSON], *headers].concat(), HELLO);
        assert_eq!(answer.said(), "hello", "{headers:?}");
    }
    let expected = cases.map(|(_, parent)| ("tools/call".to_owned(), parent, Value::Null));
    assert_eq!(told(&ledger), expected);
    gateway.stop();
}

#[test]
fn the_log_names_the_trace_of_a_call() {
    let ledger = Ledger::new(&[]);
    let start = Start { env: &[("SPAWNLING_LOG", "info,spawnling::call=debug")], ..Start::default() };
    let gateway = Gateway::start_by(&legacy(&ledger), start);
    gateway.post(ECHO, HELLO).good();
    gateway.request("POST", ECHO, &[JSON, ("traceparent", PARENT)], HELLO).good();
    // What is answered without a process belongs to a trace as well.
    gateway.request("GET", "/v1/servers/demo/tools", &[("traceparent", PARENT)], "").good();
    gateway.request("GET", "/v1/servers/demo/tools", &[("traceparent", PARENT)], "").good();
    let ended = || -> Vec<Value> {
        let log = gateway.log();
        let events = log.lines().filter(|line| line.contains("call ended"));
        events.map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
    };
    until("all calls are in the log", || ended().len() == 4);
    let mut traces: Vec<Value> = ended().iter().map(|event| event["trace_id"].clone()).collect();
    traces.sort_by_key(Value::is_null);
    assert_eq!(traces, [json!(TRACE), json!(TRACE), json!(TRACE), Value::Null]);
    gateway.stop();
}
