//! What a caller's headers hold is given to that call's process, and to nothing and nobody else.

use serde_json::{Value, json};

use crate::support::{Gateway, JSON, Response, Start, command_output, events, shown};

/// A server that offers a tool by the name of whoever asks, and tells the key that it was given.
const TELLS: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case "$line" in
    *'"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"tells","version":"'"${WHO:-1}"'"}}' ;;
    *'"tools/list"'*)
      answer '{"tools":[{"name":"key_of_'"${WHO:-nobody}"'","inputSchema":{"type":"object"}},{"name":"crash","inputSchema":{"type":"object"}}]}' ;;
    *'"crash"'*) echo "no message: $KEY"; echo "bad key $KEY" >&2; exit 3 ;;
    *'"tools/call"'*) answer '{"content":[{"type":"text","text":"'"${KEY-none}"'"}]}' ;;
  esac
done
"#;

const ALICE: &[(&str, &str)] = &[JSON, ("X-Who", "alice"), ("X-Key", "alice-0123456789")];
const BOB: &[(&str, &str)] = &[JSON, ("X-Who", "bob"), ("x-key", "bob-9876543210")];
const NOBODY: &[(&str, &str)] = &[JSON];

fn tells() -> String {
    let script = toml::Value::from(TELLS.replace("${", "$${"));
    format!(
        "[servers.tells]\ncommand = \"sh\"\nargs = [\"-c\", {script}]\nprotocol = \"legacy\"\npass_env = [\"KEY\"]\n\
         header_env = {{ \"X-Who\" = \"WHO\", \"X-Key\" = \"KEY\" }}\n"
    )
}

fn tool(gateway: &Gateway, name: &str, headers: &[(&str, &str)]) -> Response {
    gateway.request("POST", &format!("/v1/servers/tells/tools/{name}"), headers, "{}")
}

#[test]
fn a_header_is_a_variable_of_its_own_calls_process_alone() {
    let env = [("KEY", "the-gateways-own-key")];
    let gateway = Gateway::start_by(&tells(), Start { env: &env, ..Start::default() });
    for _ in 0..2 {
        assert_eq!(tool(&gateway, "key_of_alice", ALICE).said(), "alice-0123456789");
        assert_eq!(tool(&gateway, "key_of_bob", BOB).said(), "bob-9876543210");
        // Neither the one before, nor the gateway's own.
        assert_eq!(tool(&gateway, "key_of_nobody", NOBODY).said(), "none");
    }
    let empty = [JSON, ("X-Key", "")];
    assert_eq!(tool(&gateway, "key_of_nobody", &empty).said(), "none");
    let twice = [JSON, ("X-Key", "a"), ("X-Key", "b")];
    tool(&gateway, "key_of_nobody", &twice).problem(400, "malformed-request");
    gateway.stop();
}

#[test]
fn what_one_caller_is_offered_is_neither_told_to_another_nor_kept() {
    let gateway = Gateway::start(&tells());
    let names = |headers: &[(&str, &str)]| {
        let listed = gateway.request("GET", "/v1/servers/tells/tools", headers, "").good();
        listed["tools"][0]["name"].as_str().unwrap().to_owned()
    };
    for _ in 0..2 {
        for (headers, name) in [(NOBODY, "key_of_nobody"), (ALICE, "key_of_alice"), (BOB, "key_of_bob")] {
            assert_eq!(names(headers), name);
        }
    }
    tool(&gateway, "key_of_alice", BOB).problem(404, "unknown-tool");
    tool(&gateway, "key_of_alice", NOBODY).problem(404, "unknown-tool");
    tool(&gateway, "key_of_nobody", ALICE).problem(404, "unknown-tool");
    let said = |headers: &[(&str, &str)]| {
        let server = gateway.request("GET", "/v1/servers/tells", headers, "").good();
        server["serverInfo"]["version"].clone()
    };
    assert_eq!([said(ALICE), said(NOBODY), said(BOB)], [json!("alice"), json!("1"), json!("bob")]);
    gateway.stop();
}

#[test]
fn steps_streams_and_routes_bring_them_too() {
    let route = "\n[[routes]]\npath = \"/key\"\nserver = \"tells\"\ntool = \"key_of_alice\"\nresponse = \"envelope\"\n";
    let gateway = Gateway::start(&(tells() + route));
    let steps = r#"{"steps":[{"tool":"key_of_alice"},{"tool":"key_of_alice"}]}"#;
    let done = gateway.request("POST", "/v1/servers/tells/calls", ALICE, steps).good();
    let texts = [0, 1].map(|at| &done["steps"][at]).map(Value::to_string);
    assert!(texts.iter().all(|text| text.contains("alice-0123456789")), "{done}");
    let stream = [ALICE, &[("Accept", "text/event-stream")]].concat();
    let stream = tool(&gateway, "key_of_alice", &stream);
    let last = events(&stream.body).pop().expect("an event");
    assert!(last.name == "result" && stream.body.contains("alice-0123456789"), "{stream:?}");
    let enveloped = gateway.request("POST", "/key", ALICE, "{}").good();
    assert_eq!(enveloped, json!({"success": true, "result": "alice-0123456789"}));
    gateway.stop();
}

#[test]
fn their_values_are_in_nothing_that_we_write() {
    let env = [("SPAWNLING_LOG", "trace")];
    let gateway = Gateway::start_by(&tells(), Start { env: &env, ..Start::default() });
    let answer = tool(&gateway, "crash", ALICE);
    let problem = answer.problem(502, "server-crashed");
    assert_eq!(problem["stderr_tail"], "bad key ***\n", "{answer:?}");
    assert_eq!(problem["noise"][0], "no message: ***", "{answer:?}");
    let stream = [BOB, &[("Accept", "text/event-stream")]].concat();
    let streamed = tool(&gateway, "crash", &stream);
    assert!(streamed.body.contains("bad key ***"), "{streamed:?}");
    let id = answer.header("spawnling-call-id").unwrap();
    let receipt = gateway.request("GET", &format!("/v1/calls/{id}"), &[("Spawnling-Wait", "end")], "");
    gateway.settle();
    gateway.signal(rustix::process::Signal::TERM);
    let log = gateway.ended();
    assert!(log.contains("bad key ***"), "{log}");
    for text in [&answer.body, &streamed.body, &receipt.body, &log] {
        assert!(!text.contains("alice-0123456789") && !text.contains("bob-9876543210"), "{text}");
    }
}

#[test]
fn a_configuration_that_could_not_keep_them_apart_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let refused = |lines: &str| {
        std::fs::write(&file, format!("[servers.a]\ncommand = \"x\"\n{lines}\n")).unwrap();
        command_output(&["check", "--config", shown(&file)])
    };
    let map = |header: &str, variable: &str| format!("header_env = {{ {header:?} = {variable:?} }}");
    let good = map("X-Key", "KEY");
    for (lines, expected) in [
        (
            format!("strategy = \"pooled\"\n{good}"),
            "t.toml:4:1: servers.a.header_env: a process that is used for many calls",
        ),
        (format!("strategy = \"shared\"\n{good}"), "a process that is used for many calls"),
        (
            format!("strategy = \"prewarmed\"\n{good}"),
            "a process that is started before the call cannot have",
        ),
        (
            format!("env = {{ KEY = \"x\" }}\n{good}"),
            "`env` sets KEY, which `header_env` takes from a header",
        ),
        (map("Host", "KEY"), "this header has a meaning of its own"),
        (map("authorization", "KEY"), "this header has a meaning of its own"),
        (map("X-API-Key", "KEY"), "this header has a meaning of its own"),
        (map("Spawnling-Timeout", "KEY"), "this header has a meaning of its own"),
        (map("X Key", "KEY"), "no header can have this name"),
        (map("X-Key", "A=B"), "\"A=B\" is no name of a variable"),
        (map("X-Key", "LD_PRELOAD"), "LD_PRELOAD decides what is run"),
        (map("X-Key", "PATH"), "PATH decides what is run"),
        ("header_env = { X-Key = \"A\", x-key = \"B\" }".to_owned(), "stands there twice"),
        ("header_env = { X-A = \"A\", X-B = \"A\" }".to_owned(), "stands there twice"),
    ] {
        let said = refused(&lines);
        assert!(said.contains(expected), "{lines}: {said}");
    }
    assert!(!refused(&good).contains("configuration"), "{}", refused(&good));
}
