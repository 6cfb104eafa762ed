//! Which era a server speaks is found out without cost to anybody, remembered, and forgotten when it proves wrong.
//!
//! What was said is read from the server's own record, process by process.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::ledger::Ledger;
use crate::support::{Gateway, Response, Start, demo, example, server, shown, until};

const HANDSHAKE_AND_CALL: [&str; 3] = ["initialize", "notifications/initialized", "tools/call"];
const HELLO: &str = r#"{"message":"hello"}"#;

fn greet(gateway: &Gateway) -> Response {
    gateway.tool("echo", HELLO)
}

fn era(gateway: &Gateway) -> Value {
    gateway.get("/v1/servers").good()["servers"][0]["era"].clone()
}

/// Waits until the era is known and the sibling that found it out is gone.
#[track_caller]
fn learned(gateway: &Gateway, expected: &str) {
    until("the era is known", || !era(gateway).is_null());
    assert_eq!(era(gateway), expected);
    gateway.settle();
}

/// A gateway whose cache is below the ledger's own directory, so that the next one uses it too. Both start the server
/// with the same environment.
fn gateway_with_memory(ledger: &Ledger, more: &str) -> Gateway {
    let cache = ledger.file("cache");
    let cache = shown(&cache);
    let start = Start { env: &[("SPAWNLING_CACHE_DIR", cache)], mark: Some(cache), ..Start::default() };
    Gateway::start_by(&(ledger.config() + more), start)
}

/// A gateway that knows the demo server with these flags from an earlier one, and nothing on record.
fn acquainted(flags: &[&str], era: &str, more: &str) -> (Ledger, Gateway) {
    let ledger = Ledger::new(flags);
    let gateway = gateway_with_memory(&ledger, more);
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, era);
    gateway.stop();
    std::fs::remove_file(ledger.file("log")).expect("there was a record");
    let gateway = gateway_with_memory(&ledger, more);
    (ledger, gateway)
}

#[test]
fn a_stranger_is_initialized_at_once_and_a_sibling_learns_whether_it_is_modern() {
    let ledger = Ledger::new(&[]);
    let gateway = Gateway::start(&ledger.config());
    assert_eq!(era(&gateway), Value::Null);
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "modern");
    assert_eq!(ledger.told(), [&HANDSHAKE_AND_CALL[..], &["server/discover"]]);
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    assert_eq!(ledger.told()[2..], [["tools/call"]], "one round trip, and nobody is asked again");
}

#[test]
fn a_legacy_server_keeps_its_handshake_whatever_it_makes_of_the_probe() {
    for flags in [&["--era", "legacy"][..], &["--era", "legacy", "--exit-on-probe"]] {
        let ledger = Ledger::new(flags);
        let gateway = Gateway::start(&ledger.config());
        assert_eq!(greet(&gateway).said(), "hello");
        learned(&gateway, "legacy");
        assert_eq!(greet(&gateway).said(), "hello");
        gateway.stop();
        assert_eq!(
            ledger.told(),
            [&HANDSHAKE_AND_CALL[..], &["server/discover"], &HANDSHAKE_AND_CALL],
            "{flags:?}"
        );
    }
}

#[test]
fn a_server_that_never_answers_the_probe_is_legacy_and_keeps_no_caller_waiting() {
    let ledger = Ledger::new(&[]);
    ledger.behave_and_answer(&["--era", "legacy"], &[("server/discover", "")]);
    let gateway = Gateway::start(&ledger.config());
    for _ in 0..2 {
        assert_eq!(greet(&gateway).said(), "hello");
        assert_eq!(era(&gateway), Value::Null, "it is still being found out");
    }
    learned(&gateway, "legacy");
    gateway.stop();
    let told = ledger.told();
    let probes: Vec<_> = told.iter().filter(|told| told[0] == "server/discover").collect();
    assert_eq!(probes, [&["server/discover", "notifications/cancelled"]], "one sibling was enough: {told:?}");
}

#[test]
fn a_modern_server_that_refuses_initialize_is_asked_on_the_same_pipe() {
    let ledger = Ledger::new(&["--era", "modern"]);
    let gateway = Gateway::start(&ledger.config());
    assert_eq!(greet(&gateway).said(), "hello");
    assert_eq!(era(&gateway), "modern");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    assert_eq!(ledger.told(), [&["initialize", "tools/call"][..], &["tools/call"]]);
}

#[test]
fn a_modern_server_of_another_revision_keeps_its_handshake() {
    let ledger = Ledger::new(&[]);
    let refusal = r#""error":{"code":-32022,"message":"m","data":{"supported":["2027-01-01"],"requested":"2026-07-28"}}"#;
    ledger.behave_and_answer(&[], &[("server/discover", refusal)]);
    let gateway = Gateway::start(&ledger.config());
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "legacy");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
}

#[test]
fn eight_strangers_at_once_are_probed_once() {
    let ledger = Ledger::new(&[]);
    let gateway = Gateway::start(&ledger.config());
    let pending: Vec<_> = (0..8).map(|_| gateway.begin_tool("echo", HELLO)).collect();
    for answer in pending {
        assert_eq!(answer.response().said(), "hello");
    }
    learned(&gateway, "modern");
    gateway.stop();
    let told = ledger.told();
    let probes = told.iter().filter(|told| **told == ["server/discover"]).count();
    assert_eq!((told.len(), probes), (9, 1), "{told:?}");
}

#[test]
fn what_is_configured_is_not_put_to_the_test() {
    for (protocol, flags, expected) in [
        ("legacy", &["--era", "dual"][..], &HANDSHAKE_AND_CALL[..]),
        ("modern", &["--era", "dual"], &["tools/call"]),
    ] {
        let ledger = Ledger::new(flags);
        let gateway = Gateway::start(&format!("{}protocol = {protocol:?}\n", ledger.config()));
        assert_eq!(greet(&gateway).said(), "hello");
        assert_eq!(era(&gateway), protocol);
        gateway.stop();
        assert_eq!(ledger.told(), [expected]);
    }
}

#[test]
fn the_next_gateway_knows_what_the_last_one_learned() {
    for (flags, known, expected) in [
        (&[][..], "modern", &["tools/call"][..]),
        (&["--era", "modern"], "modern", &["tools/call"]),
        (&["--era", "legacy", "--exit-on-probe"], "legacy", &HANDSHAKE_AND_CALL),
    ] {
        let (ledger, gateway) = acquainted(flags, known, "");
        assert_eq!(era(&gateway), known, "{flags:?}");
        assert_eq!(greet(&gateway).said(), "hello");
        gateway.stop();
        assert_eq!(ledger.told(), [expected], "{flags:?}");
    }
}

#[test]
fn a_server_that_turns_modern_is_followed_within_the_call() {
    let (ledger, gateway) = acquainted(&["--era", "legacy"], "legacy", "");
    ledger.behave(&["--era", "modern"]);
    assert_eq!(greet(&gateway).said(), "hello");
    assert_eq!(era(&gateway), "modern");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    assert_eq!(ledger.told(), [&["initialize", "tools/call"][..], &["tools/call"]]);
}

#[test]
fn a_legacy_verdict_of_long_ago_is_put_to_the_test_behind_a_call() {
    let (ledger, gateway) = acquainted(&["--era", "legacy"], "legacy", "");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    assert_eq!(ledger.told(), [HANDSHAKE_AND_CALL], "one of today is not");
    for (flags, found) in [(&["--era", "legacy"][..], "legacy"), (&[], "modern")] {
        for kept in std::fs::read_dir(ledger.file("cache/eras")).expect("verdicts").flatten() {
            let kept = std::fs::File::options().append(true).open(kept.path()).expect("a verdict");
            kept.set_modified(SystemTime::now() - Duration::from_hours(25)).expect("another time");
        }
        ledger.behave(flags);
        std::fs::remove_file(ledger.file("log")).expect("there was a record");
        let gateway = gateway_with_memory(&ledger, "");
        assert_eq!(era(&gateway), "legacy", "it stands until it is tested");
        assert_eq!(greet(&gateway).said(), "hello");
        until("a sibling has answered", || ledger.told().len() == 2 && era(&gateway) == found);
        gateway.settle();
        assert_eq!(greet(&gateway).said(), "hello");
        gateway.stop();
        let next = if found == "modern" { &["tools/call"][..] } else { &HANDSHAKE_AND_CALL };
        assert_eq!(ledger.told(), [&HANDSHAKE_AND_CALL[..], &["server/discover"], next], "{found}");
    }
}

#[test]
fn a_verdict_that_proves_wrong_is_dropped_and_no_tool_is_called_twice() {
    let left = "The server ended in phase call without an answer";
    let other = "The server no longer speaks the protocol revision that it did. What was remembered of it is dropped: ask \
                 again, and the next call begins with a handshake.";
    for (flags, name, detail) in [
        (&["--era", "legacy"][..], "open-failed", other),
        (&["--era", "legacy", "--exit-on-probe"], "server-crashed", left),
    ] {
        let (ledger, gateway) = acquainted(&[], "modern", "");
        ledger.behave(flags);
        let problem = greet(&gateway).problem(502, name);
        assert_eq!(problem["fault"], "server", "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|told| told.starts_with(detail)), "{problem}");
        gateway.settle();
        assert_eq!(era(&gateway), Value::Null, "{flags:?}");
        let told = &ledger.told()[0];
        let calls = told.iter().filter(|method| *method == "tools/call").count();
        assert_eq!(calls, 1, "what was refused is not sent again: {flags:?} {told:?}");
        assert_eq!(greet(&gateway).said(), "hello", "{flags:?}");
        assert_eq!(ledger.told()[1], HANDSHAKE_AND_CALL, "{flags:?}");
        let log = gateway.log();
        let warning = log.lines().find(|line| line.contains("protocol revision that was remembered"));
        assert_eq!(warning.is_some(), flags.len() == 2, "{flags:?} {log}");
        let told = |line: &str| line.contains("\"WARN\"") && line.contains("\"server\":\"demo\"");
        assert!(warning.is_none_or(told), "{warning:?}");
        gateway.stop();
    }
}

#[test]
fn what_a_modern_server_refuses_for_its_arguments_stays_the_callers_fault() {
    let refusal = r#""error":{"code":-32602,"message":"Invalid request parameters"}"#;
    // One that keeps silent when it is asked for its era has told nothing against it.
    for answers in [&[("tools/call", refusal)][..], &[("tools/call", refusal), ("server/discover", "")]] {
        let (ledger, gateway) = acquainted(&[], "modern", "");
        ledger.behave_and_answer(&[], answers);
        let problem = greet(&gateway).problem(422, "invalid-arguments");
        assert_eq!(problem["fault"], "caller", "{problem}");
        gateway.settle();
        assert_eq!(era(&gateway), "modern", "{answers:?}");
        gateway.stop();
        assert_eq!(ledger.told()[0][..2], ["tools/call", "server/discover"]);
    }
}

#[test]
fn a_modern_servers_refusals_are_no_reason_to_doubt_it() {
    let (ledger, gateway) = acquainted(&[], "modern", "");
    gateway.tool("nonesuch", "{}").problem(404, "unknown-tool");
    gateway.post("/v1/servers/demo/prompts/nonesuch", "{}").problem(404, "unknown-prompt");
    gateway
        .post("/v1/servers/demo/resources/read", r#"{"uri":"none:such"}"#)
        .problem(404, "unknown-resource");
    gateway.settle();
    assert_eq!(era(&gateway), "modern");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    let asked = |method| vec![method, "server/discover"];
    let expected = [asked("tools/call"), asked("prompts/get"), asked("resources/read"), vec!["tools/call"]];
    assert_eq!(ledger.told(), expected, "asked for its era on the way out, by no process of its own");
}

#[test]
fn a_tool_that_an_older_server_runs_without_a_handshake_is_answered_and_remembered_as_a_sign() {
    let (ledger, gateway) = acquainted(&[], "modern", "");
    let unlike_modern = r#""result":{"content":[{"type":"text","text":"done"}]}"#;
    ledger.behave_and_answer(&["--era", "legacy"], &[("tools/call", unlike_modern)]);
    assert_eq!(greet(&gateway).said(), "done");
    assert_eq!(era(&gateway), Value::Null);
    assert_eq!(greet(&gateway).said(), "done");
    learned(&gateway, "legacy");
    gateway.stop();
    assert_eq!(ledger.told(), [&["tools/call"][..], &HANDSHAKE_AND_CALL, &["server/discover"]]);
}

#[test]
fn a_silence_longer_than_any_start_speaks_against_the_verdict_and_a_shorter_one_does_not() {
    let (ledger, gateway) = acquainted(&[], "modern", "open_deadline = \"1s\"\ndeadline = \"1200ms\"\n");
    ledger.behave_and_answer(&["--era", "legacy"], &[("tools/call", "")]);
    let hurried = [("Content-Type", "application/json"), ("Spawnling-Timeout", "50ms")];
    let path = "/v1/servers/demo/tools/echo";
    gateway.request("POST", path, &hurried, HELLO).problem(504, "deadline-exceeded");
    assert_eq!(era(&gateway), "modern");
    greet(&gateway).problem(504, "deadline-exceeded");
    assert_eq!(era(&gateway), Value::Null);
    gateway.stop();
}

#[test]
fn asking_what_a_server_is_sets_a_wrong_verdict_right() {
    let (ledger, gateway) = acquainted(&[], "modern", "");
    ledger.behave(&["--era", "legacy"]);
    assert_eq!(gateway.get("/v1/servers/demo").good()["protocolVersion"], "2025-11-25");
    learned(&gateway, "legacy");
    gateway.stop();
    let told = ledger.told();
    assert_eq!(told[0], ["server/discover", "initialize", "notifications/initialized"]);

    let (ledger, gateway) = acquainted(&[], "modern", "");
    ledger.behave(&["--era", "legacy", "--exit-on-probe"]);
    gateway.get("/v1/servers/demo").problem(502, "open-failed");
    assert_eq!(era(&gateway), Value::Null);
    assert_eq!(gateway.get("/v1/servers/demo").good()["protocolVersion"], "2025-11-25");
    gateway.stop();
}

#[test]
fn another_version_of_the_program_is_a_stranger() {
    use std::os::unix::fs::PermissionsExt as _;

    let ledger = Ledger::new(&[]);
    let program = ledger.file("server");
    let script = format!("#!/bin/sh\nexec {:?} \"$@\"\n", shown(&example("ledger")));
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    let gateway = Gateway::start(&ledger.config_with(&program));
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "modern");
    let file = std::fs::File::options().append(true).open(&program).expect("the program");
    file.set_modified(SystemTime::now() - Duration::from_hours(1)).expect("another time");
    drop(file);
    assert_eq!(era(&gateway), Value::Null);
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "modern");
    gateway.stop();
    assert_eq!(ledger.told()[2..], [&HANDSHAKE_AND_CALL[..], &["server/discover"]]);
}

#[test]
fn odd_but_lawful_servers_are_understood_in_either_era() {
    for fault in ["batch", "bom-and-crlf", "notification-at-start", "garbage-at-start", "non-utf8-at-start"] {
        for protocol in ["legacy", "modern", "auto"] {
            let config = server("demo", &["--fault", fault]) + &format!("protocol = {protocol:?}\n");
            let gateway = Gateway::start(&config);
            assert_eq!(greet(&gateway).said(), "hello", "{fault}, {protocol}");
            gateway.stop();
        }
    }
}

#[test]
fn a_server_that_asks_back_gets_its_answers() {
    let gateway = Gateway::start(&demo(&["--fault", "ask-client"]));
    let answer = greet(&gateway).good();
    let heard = answer["content"][1]["text"].as_str().expect("what it heard");
    assert_eq!(heard.lines().next(), Some("ping: {}"));
    assert!(heard.contains("roots/list: {") && heard.contains("-32601"), "{heard}");
    gateway.stop();
}

#[test]
fn a_wrong_verdict_is_no_fault_of_the_caller() {
    let ledger = Ledger::new(&[]);
    let config = ledger.config().replace("validate = \"off\"\n", "");
    let cache = ledger.file("cache");
    let start = Start {
        env: &[("SPAWNLING_CACHE_DIR", shown(&cache))],
        mark: Some(shown(&cache)),
        ..Start::default()
    };
    let gateway = Gateway::start_by(&config, start);
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "modern");
    gateway.stop();
    ledger.behave(&["--era", "legacy"]);
    let gateway = Gateway::start_by(&config, start);
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "legacy");
    gateway.stop();
    let late = [
        "tools/list",
        "server/discover",
        "initialize",
        "notifications/initialized",
        "tools/list",
        "tools/call",
    ];
    assert_eq!(ledger.told()[2..], [&late[..], &["server/discover"]]);
}

#[test]
fn a_server_can_be_pinged_whatever_its_era() {
    let ping = r#"{"steps":[{"method":"ping"}]}"#;
    for protocol in ["legacy", "modern", "auto"] {
        let gateway = Gateway::start(&(server("demo", &[]) + &format!("protocol = {protocol:?}\n")));
        assert_eq!(gateway.post("/v1/servers/demo/calls", ping).good()["steps"][0]["result"], json!({}));
        gateway.stop();
    }
    let (ledger, gateway) = acquainted(&[], "modern", "");
    assert_eq!(gateway.post("/v1/servers/demo/calls", ping).good()["steps"][0]["result"], json!({}));
    assert_eq!(era(&gateway), "modern");
    gateway.stop();
    assert_eq!(ledger.told(), [["server/discover"]]);
}

#[test]
fn a_start_that_hangs_says_nothing_against_a_verdict() {
    use std::os::unix::fs::PermissionsExt as _;

    let ledger = Ledger::new(&[]);
    let (program, hang) = (ledger.file("server"), ledger.file("hang"));
    let script = format!(
        "#!/bin/sh\nif [ -e {hang:?} ]; then exec sleep 600; fi\nexec {:?} \"$@\"\n",
        shown(&example("ledger"))
    );
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it may be run");
    let limits = "open_deadline = \"5s\"\ndeadline = \"10m\"\neof_grace = \"200ms\"\n";
    let gateway = Gateway::start(&(ledger.config_with(&program) + limits));
    assert_eq!(greet(&gateway).said(), "hello");
    learned(&gateway, "modern");
    std::fs::write(&hang, "").expect("a sign to hang");
    assert_eq!(greet(&gateway).problem(504, "deadline-exceeded")["phase"], "open");
    assert_eq!(era(&gateway), "modern");
    std::fs::remove_file(&hang).expect("the sign");
    assert_eq!(greet(&gateway).said(), "hello");
    gateway.stop();
    assert_eq!(ledger.told()[2..], [["tools/call"]]);
}
