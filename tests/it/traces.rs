//! A call belongs to the trace that its caller names: the server is told so with each step, and the log says it.

use opentelemetry_proto::tonic::trace::v1::Span;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::ledger::Ledger;
use crate::support::{Gateway, JSON, Start, until};

mod collector;

use collector::Collector;

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

fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    names.sort_unstable();
    names
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).expect("it is below 16")).collect()
}

fn sends_to(address: &str, ledger: &Ledger) -> Gateway {
    let start = Start { args: &["--otlp-endpoint", address], ..Start::default() };
    Gateway::start_by(&legacy(ledger), start)
}

#[track_caller]
fn the_call(spans: &[Span]) -> &Span {
    let found = spans.iter().find(|span| span.name == "call demo");
    found.unwrap_or_else(|| panic!("no span of the call: {:?}", names(spans)))
}

#[test]
fn a_collector_sees_each_part_of_a_call_below_the_callers_span() {
    let (ledger, collector) = (Ledger::new(&["--faults"]), Collector::answering(200));
    let gateway = sends_to(&collector.address, &ledger);
    let steps = json!({"steps": [{"tool": "echo", "arguments": {"message": "a"}}, {"tool": "fail"}]});
    let traced = [JSON, ("traceparent", PARENT), ("tracestate", STATE), ("spawnling-wait", "end")];
    let answer = gateway.request("POST", "/v1/servers/demo/calls", &traced, &steps.to_string());
    answer.problem(424, "step-failed");
    let all = ["call demo", "end", "open", "queue", "spawn", "tools/call echo", "tools/call fail"];
    until("all spans have come", || collector.spans().len() >= all.len());
    let spans = collector.spans();
    assert_eq!(names(&spans), all);
    let call = the_call(&spans);
    assert_eq!(hex(&call.parent_span_id), &PARENT[36..52]);
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
        assert!(span.name == call.name || span.parent_span_id == call.span_id, "{}", span.name);
        assert!(span.start_time_unix_nano >= call.start_time_unix_nano, "{}", span.name);
        let failed = span.status.as_ref().is_some_and(|status| status.code == 2);
        assert_eq!(failed, matches!(&*span.name, "call demo" | "tools/call fail"), "{}", span.name);
    }
    // What the server makes of a step belongs below that step.
    for (step, (_, parent, state)) in ["tools/call echo", "tools/call fail"].iter().zip(told(&ledger)) {
        let span = spans.iter().find(|span| span.name == *step).expect("it is one of all");
        assert_eq!(parent, format!("00-{TRACE}-{}-01", hex(&span.span_id)));
        assert_eq!(state, STATE);
    }
    gateway.stop();
}

#[test]
fn a_trace_that_is_not_recorded_is_left_as_it_is_and_an_untraced_call_begins_one() {
    let (ledger, collector) = (Ledger::new(&[]), Collector::answering(200));
    let gateway = sends_to(&collector.address, &ledger);
    let unsampled = PARENT.replace("-01", "-00");
    gateway.request("POST", ECHO, &[JSON, ("traceparent", &unsampled)], HELLO).good();
    gateway.post(ECHO, HELLO).good();
    // Whoever is told to stop sends what waits before.
    gateway.stop();
    let spans = collector.spans();
    let call = the_call(&spans);
    assert_eq!(names(&spans).iter().filter(|name| **name == "call demo").count(), 1);
    assert!(call.parent_span_id.is_empty() && hex(&call.trace_id) != TRACE, "{call:?}");
    let parents: Vec<Value> = told(&ledger).into_iter().map(|(_, parent, _)| parent).collect();
    let step = spans.iter().find(|span| span.name == "tools/call echo").expect("it was asked");
    let own = format!("00-{}-{}-03", hex(&call.trace_id), hex(&step.span_id));
    assert_eq!(parents, [json!(unsampled), json!(own)]);
}

#[test]
fn a_collector_that_takes_nothing_is_in_nobodys_way() {
    let ledger = Ledger::new(&[]);
    let refusing = Collector::answering(503);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = format!("http://{}", silent.local_addr().expect("an address"));
    for address in [&refusing.address, &deaf] {
        let gateway = sends_to(address, &ledger);
        for _ in 0..3 {
            assert_eq!(gateway.post(ECHO, HELLO).status, 200);
        }
        if address == &refusing.address {
            until("the spans are lost", || {
                let metrics = gateway.get("/metrics").body;
                metrics.lines().any(|line| line.starts_with("spawnling_spans_total{result=\"failed\"}"))
            });
        }
        gateway.signal(Signal::TERM);
        gateway.ended();
    }
}

#[test]
fn why_a_collector_takes_nothing_is_said_once() {
    let ledger = Ledger::new(&[]);
    let refusing = Collector::answering(401);
    let speaks_no_tls = refusing.address.replace("http://", "https://");
    // A port that was free a moment ago.
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let nobody = format!("http://{nobody}");
    for (address, why) in [
        (&refusing.address, "status code: 401"),
        (&speaks_no_tls, "unexpected end of file"),
        (&nobody, "onnection refused"),
    ] {
        let gateway = sends_to(address, &ledger);
        let said = || gateway.log().matches("the collector takes no spans").count();
        gateway.post(ECHO, HELLO).good();
        until("that is said", || said() == 1);
        let log = gateway.log();
        let line = log.lines().find(|line| line.contains("the collector takes no spans")).unwrap_or_default();
        assert!(line.to_lowercase().contains(why), "{why}: {line}");
        gateway.stop();
    }
}

#[test]
fn what_lets_us_in_at_the_collector_is_in_no_log() {
    let (ledger, collector) = (Ledger::new(&[]), Collector::answering(200));
    let key = "q".repeat(64);
    let headers = format!("authorization=Bearer%20{key},x-key={key}");
    let env = [("SPAWNLING_LOG", "trace"), ("OTEL_EXPORTER_OTLP_HEADERS", &headers)];
    let start = Start { args: &["--otlp-endpoint", &collector.address], env: &env, ..Start::default() };
    let gateway = Gateway::start_by(&legacy(&ledger), start);
    gateway.post(ECHO, HELLO).good();
    until("a span has come", || !collector.spans().is_empty());
    gateway.settle();
    gateway.signal(Signal::TERM);
    let log = gateway.ended();
    // Shorter than what stands on a line where bytes are shown.
    assert!(!log.contains("qqqqqqqq") && !log.contains("7171 7171"), "{log}");
}
