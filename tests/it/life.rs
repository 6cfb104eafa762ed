//! Nothing is left, however a call ended; and each failure says whose it was.
//!
//! What fails by its server is here, every fault of the demo; who leaves in `life/hang_up.rs`; how the gateway stops in
//! `life/stop.rs`; how a server is asked to leave in `life/ladder.rs`; who says or hears nothing in `life/silence.rs`;
//! what a keeper keeps in `life/kept.rs`; who has too little to start in `life/shortage.rs`; what is told of it all in
//! `life/receipt.rs`.

use serde_json::{Value, json};

use crate::support::{Gateway, JSON, Pending, demo, kill, until};

mod flood;
mod hang_up;
mod kept;
mod ladder;
mod receipt;
mod shortage;
mod silence;
mod stop;

const ECHO: &str = r#"{"message":"hello"}"#;

/// Short graces for servers that will not take a hint; one that behaves leaves long before.
const HASTE: &str = "eof_grace = \"200ms\"\nterm_grace = \"200ms\"\n";

/// A gateway whose demo server has these faults from its start.
fn with_faults(faults: &[&str]) -> Gateway {
    let args: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", *fault]).collect();
    Gateway::start(&(demo(&args) + HASTE))
}

fn with_limit(limits: &str) -> Gateway {
    Gateway::start(&(demo(&[]) + HASTE + "limits = { " + limits + " }\n"))
}

/// The arguments of a fault, its kind first.
fn fault(kind: &str, more: &str) -> String {
    format!(r#"{{"kind":"{kind}"{more}}}"#)
}

/// A call of the server `demo` whose first step is answered, and whose last takes as long as it says.
fn begin_work(gateway: &Gateway, seconds: f64) -> Pending {
    begin_steps(gateway, &[json!({"tool": "sleep", "arguments": {"seconds": seconds}})])
}

/// A call of the server `demo` whose first step is answered, and whose further ones are these.
fn begin_steps(gateway: &Gateway, more: &[Value]) -> Pending {
    let first = [json!({"tool": "counter"}), json!({"tool": "fault", "arguments": {"kind": "scratch-file"}})];
    let steps = [&first[..], more].concat();
    let steps = json!({"steps": steps});
    let pending = gateway.begin("POST", "/v1/servers/demo/calls", &[JSON], &steps.to_string());
    until("the second step has left its file", || {
        gateway
            .scratch()
            .iter()
            .any(|dir| std::fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some()))
    });
    pending
}

#[test]
fn a_good_call_is_answered_and_leaves_nothing() {
    let gateway = Gateway::start(&demo(&[]));
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    gateway.stop();
}

#[test]
fn an_answer_without_a_newline_at_its_end_is_none_and_is_shown() {
    let script = r#"read -r asked
echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}'
read -r opened; read -r called
printf '{"jsonrpc":"2.0","id":2,"result":{"content":[]}}'"#;
    let server = format!("[servers.demo]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\n");
    let gateway = Gateway::start(&(server + "protocol = \"legacy\"\nvalidate = \"off\"\n"));
    let problem = gateway.tool("echo", ECHO).problem(502, "server-crashed");
    assert_eq!(problem["exit"], json!({"code": 0}));
    let line = r#"(no newline at its end, so no message) {"jsonrpc":"2.0","id":2,"result":{"content":[]}}"#;
    assert_eq!(problem["noise"], json!([line]));
    gateway.stop();
}

#[test]
fn a_server_that_does_not_come_up_is_an_open_failed_with_its_last_words() {
    let gateway = with_faults(&["garbage-at-start", "crash-before-open=7"]);
    let problem = gateway.tool("echo", ECHO).problem(502, "open-failed");
    assert_eq!(problem["phase"], "open");
    assert_eq!(problem["exit"], json!({"code": 7}));
    let tail = problem["stderr_tail"].as_str().unwrap();
    assert!(tail.contains("configuration of the demo is on fire"), "{problem}");
    assert_eq!(problem["noise"][0], "Welcome to the demo server v1.0!");
    assert_eq!(problem["noise"].as_array().map(Vec::len), Some(3));
    let proxied = [JSON, ("X-Forwarded-For", "192.0.2.1")];
    let little = gateway.request("POST", "/v1/servers/demo/tools/echo", &proxied, ECHO);
    let little = little.problem(502, "open-failed");
    assert_eq!(
        (&little["exit"], little.get("stderr_tail"), little.get("noise")),
        (&problem["exit"], None, None)
    );
    gateway.stop();
}

#[test]
fn a_crash_over_the_handshake_tells_code_or_signal() {
    for (fault, exit) in [
        ("crash-during-open=3", json!({"code": 3})),
        ("crash-during-open=0", json!({"code": 0})),
        ("crash-during-open", json!({"signal": 6, "name": "SIGABRT"})),
    ] {
        let gateway = with_faults(&[fault]);
        let problem = gateway.tool("echo", ECHO).problem(502, "open-failed");
        assert_eq!((&problem["phase"], &problem["exit"]), (&json!("open"), &exit), "{fault}");
        gateway.stop();
    }
}

#[test]
fn a_server_that_never_opens_is_given_up_and_killed() {
    for fault in ["hang-open", "hang-open-ignoring-term"] {
        let args = ["--fault", fault];
        let gateway = Gateway::start(&(demo(&args) + HASTE + "open_deadline = \"150ms\"\n"));
        let problem = gateway.tool("echo", ECHO).problem(504, "deadline-exceeded");
        assert_eq!(problem["phase"], "open", "{fault}");
        gateway.stop();
    }
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let config = "[servers.missing]\ncommand = \"no-such-program-anywhere\"\n\
                  [servers.plain]\ncommand = \"./it.toml\"\n";
    let gateway = Gateway::start(config);
    for (server, named) in [("missing", "no-such-program-anywhere"), ("plain", "it.toml")] {
        let path = format!("/v1/servers/{server}/tools/x");
        let problem = gateway.post(&path, "{}").problem(502, "spawn-failed");
        assert_eq!(problem["phase"], "spawn");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    gateway.stop();
}

#[test]
fn a_server_that_speaks_oddly_at_its_start_is_understood_all_the_same() {
    for faults in [
        &["garbage-at-start"][..],
        &["non-utf8-at-start"],
        &["bom-and-crlf"],
        &["notification-at-start"],
        &["stderr-flood=3000000"],
        &["slow-start=100"],
        &["batch"],
        &["wrong-ids"],
        &["ask-client"],
        &["answer-and-exit"],
        &["page-size=2"],
        &["broken-schema"],
        &["child"],
        &["read-only-scratch"],
    ] {
        let gateway = with_faults(faults);
        assert_eq!(gateway.tool("echo", ECHO).said(), "hello", "{faults:?}");
        gateway.stop();
    }
}

#[test]
fn a_list_that_leads_back_to_itself_ends_neither_the_gateway_nor_the_call_of_a_tool() {
    let gateway = with_faults(&["page-size=2", "repeat-cursor"]);
    let problem = gateway.get("/v1/servers/demo/tools").problem(502, "protocol-violation");
    assert_eq!(problem["phase"], "call");
    assert_eq!(
        gateway.tool("echo", ECHO).said(),
        "hello",
        "what could not be learned stands in nobody's way"
    );
    gateway.stop();
}

#[test]
fn a_list_that_is_longer_than_an_answer_may_be_is_told_as_that() {
    let gateway = with_limit("output = \"1KiB\"");
    gateway.get("/v1/servers/demo/tools").problem(502, "output-too-large");
    gateway.tool("echo", ECHO).problem(502, "output-too-large");
    gateway.stop();
}

#[test]
fn a_server_that_ends_in_the_middle_of_a_call_is_a_server_crashed_with_its_exit() {
    let gateway = with_faults(&["garbage-at-start"]);
    for (order, exit) in [
        (fault("exit", r#","code":3"#), json!({"code": 3})),
        (fault("exit", r#","code":0"#), json!({"code": 0})),
        (fault("abort", ""), json!({"signal": 6, "name": "SIGABRT"})),
        (fault("signal", r#","signal":9"#), json!({"signal": 9, "name": "SIGKILL"})),
        (fault("signal", r#","signal":15"#), json!({"signal": 15, "name": "SIGTERM"})),
    ] {
        let answer = gateway.tool("fault", &order);
        let problem = answer.problem(502, "server-crashed");
        assert_eq!((&problem["phase"], &problem["exit"]), (&json!("call"), &exit), "{order}");
        assert_eq!(problem["noise"][0], "Welcome to the demo server v1.0!", "{order}");
        assert_eq!(problem["call"], answer.header("spawnling-call-id").unwrap());
        gateway.settle();
    }
    gateway.stop();
}

#[test]
fn a_server_that_closes_its_stdout_is_gone_to_us_though_it_lives() {
    let gateway = with_limit("concurrent = 1");
    let problem = gateway.tool("fault", &fault("close-stdout", "")).problem(502, "server-crashed");
    assert_eq!((&problem["phase"], &problem["exit"]), (&json!("call"), &Value::Null));
    gateway.stop();
}

#[test]
fn a_server_that_never_answers_costs_its_caller_the_deadline_and_no_more() {
    let gateway = with_limit("concurrent = 8");
    // Long enough for a busy machine to come to the call itself.
    let hurry = [JSON, ("Spawnling-Timeout", "1s")];
    let calls = ["hang", "hang-ignoring-all", "wrong-id", "null-id"].map(|kind| {
        let order = fault(kind, "");
        (kind, gateway.begin("POST", "/v1/servers/demo/tools/fault", &hurry, &order))
    });
    for (kind, call) in calls {
        let problem = call.response().problem(504, "deadline-exceeded");
        assert_eq!(problem["phase"], "call", "{kind}");
    }
    gateway.stop();
}

#[test]
fn a_message_that_cannot_be_understood_is_a_protocol_violation() {
    let gateway = with_limit("concurrent = 8");
    for kind in ["both-result-and-error", "unknown-result-type"] {
        let problem = gateway.tool("fault", &fault(kind, "")).problem(502, "protocol-violation");
        assert_eq!(problem["phase"], "call", "{kind}");
        gateway.settle();
    }
    gateway.stop();
}

#[test]
fn noise_floods_and_odd_answers_harm_nobody() {
    let gateway = with_limit("concurrent = 8");
    for order in [
        fault("garbage", r#","count":50"#),
        fault("non-utf8", r#","count":50"#),
        fault("stderr-flood", r#","bytes":3000000"#),
        fault("notification-flood", r#","bytes":3000000"#),
        fault("answer-and-exit", ""),
        fault("answer-twice", ""),
        fault("child", ""),
        fault("scratch-file", ""),
        fault("no-content", ""),
    ] {
        gateway.tool("fault", &order).good();
        gateway.settle();
    }
    gateway.stop();
}

#[test]
fn a_large_reply_arrives_whole() {
    let gateway = with_limit("concurrent = 8");
    let answer = gateway.tool("fault", &fault("big-reply", r#","bytes":5000000"#));
    assert_eq!(answer.said().len(), 5_000_000);
    gateway.stop();
}

#[test]
fn a_line_beyond_the_limit_ends_the_call_whether_it_ends_or_not() {
    let gateway = with_limit("output = \"64KiB\"");
    for order in [
        fault("endless-line", ""),
        fault("endless-line", r#","bytes":100000"#),
        fault("big-reply", r#","bytes":100000"#),
    ] {
        let problem = gateway.tool("fault", &order).problem(502, "output-too-large");
        assert_eq!(problem["phase"], "call", "{order}");
        gateway.settle();
    }
    gateway.stop();
}

#[test]
fn only_the_end_of_a_long_stderr_is_told() {
    let gateway = with_limit("stderr = \"1KiB\"");
    let steps = json!({"steps": [
        {"tool": "fault", "arguments": {"kind": "stderr-flood", "bytes": 1_000_000}},
        {"tool": "fault", "arguments": {"kind": "exit", "code": 4}},
    ]});
    let problem = gateway.post("/v1/servers/demo/calls", &steps.to_string()).problem(502, "server-crashed");
    let tail = problem["stderr_tail"].as_str().unwrap();
    assert!(tail.len() <= 1024 && tail.starts_with("complaint "), "{}: {tail}", tail.len());
    assert_eq!(problem["exit"], json!({"code": 4}));
    gateway.stop();
}

/// Kills whom `group` does not hold. They are known by their mark: the number that a server tells may be that of a
/// stranger here, if the server has a PID namespace of its own.
fn end_survivors(gateway: &Gateway) {
    until("nothing but survivors is left", || {
        gateway.servers().into_iter().for_each(kill);
        gateway.servers().is_empty()
    });
}

/// What leaves its process group by `setsid` is the containment's to end; the call must not wait for it, and all else
/// must be swept.
#[test]
fn a_grandchild_in_a_session_of_its_own_holds_up_neither_answer_nor_end() {
    let gateway = with_limit("concurrent = 1");
    for kind in ["setsid-child", "daemon-child"] {
        let answer = gateway.tool_to_its_end("fault", &fault(kind, ""));
        answer.good();
        assert_eq!(answer.receipt("rung"), "eof", "{kind}");
        end_survivors(&gateway);
        gateway.settle();
    }
    for fault in ["setsid-child", "daemon-child"] {
        let gateway = with_faults(&[fault]);
        assert_eq!(gateway.tool_to_its_end("echo", ECHO).said(), "hello");
        end_survivors(&gateway);
        gateway.stop();
    }
    gateway.stop();
}

#[test]
fn an_answer_leaves_before_its_server_does_and_the_seat_returns_with_its_death() {
    let limits = "limits = { concurrent = 1, queue = 0 }\neof_grace = \"1500ms\"\nterm_grace = \"20s\"\n";
    let gateway = Gateway::start(&(demo(&["--fault", "ignore-eof"]) + limits));
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    let alive = gateway.servers();
    let refused = gateway.tool("echo", ECHO);
    let still = gateway.servers();
    refused.problem(503, "overloaded");
    assert_eq!(alive.len(), 1, "the answer came after the end");
    assert_eq!(alive, still, "a second server lived beside the first");
    let advice: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&advice), "{advice}");
    until("the seat is free again", || gateway.tool("echo", ECHO).status == 200);
    gateway.stop();
}
