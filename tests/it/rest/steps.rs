//! Several steps in one process.

use serde_json::{Value, json};

use crate::support::{Gateway, Response, demo};

fn calls(gateway: &Gateway, body: &Value) -> Response {
    gateway.post("/v1/servers/demo/calls", &body.to_string())
}

fn counter() -> Value {
    json!({"tool": "counter"})
}

#[test]
fn the_steps_of_a_call_share_a_process_and_calls_do_not() {
    let gateway = Gateway::start(&demo(&[]));
    for _ in 0..2 {
        let answer = calls(&gateway, &json!({"steps": [counter(), counter(), counter()]})).good();
        let counts: Vec<_> = (0..3)
            .map(|step| answer["steps"][step]["result"]["structuredContent"]["count"].clone())
            .collect();
        assert_eq!(counts, [1, 2, 3]);
        assert_eq!(gateway.tool("counter", "{}").good()["structuredContent"]["count"], 1);
    }
    gateway.stop();
}

#[test]
fn every_kind_of_step_has_its_outcome_in_order() {
    let gateway = Gateway::start(&demo(&[]));
    let reference = json!({"type": "ref/prompt", "name": "greet"});
    let body = json!({"steps": [
        {"tool": "echo", "arguments": {"message": "one"}},
        {"method": "tools/call", "params": {"name": "echo", "arguments": {"message": "two"}}},
        {"method": "resources/read", "params": {"uri": "demo://greeting"}},
        {"method": "prompts/get", "params": {"name": "greet", "arguments": {"name": "Ada"}}},
        {"method": "tools/list"},
        {"method": "completion/complete",
         "params": {"ref": reference, "argument": {"name": "name", "value": "a"}}},
        {"method": "ping"},
    ]});
    let answer = calls(&gateway, &body).good();
    for (pointer, expected) in [
        ("/steps/0/result/content/0/text", json!("one")),
        ("/steps/1/result/content/0/text", json!("two")),
        ("/steps/2/result/contents/0/uri", json!("demo://greeting")),
        ("/steps/3/result/messages/0/role", json!("user")),
        ("/steps/4/result/tools/0/name", json!("echo")),
        ("/steps/5/result/completion/values", json!(["Ada", "Alan"])),
        ("/steps/6/result", json!({})),
    ] {
        assert_eq!(answer.pointer(pointer), Some(&expected), "{pointer}: {answer}");
    }
    gateway.stop();
}

#[test]
fn a_failed_step_is_the_last_and_all_outcomes_are_told() {
    let gateway = Gateway::start(&demo(&[]));
    let body =
        json!({"steps": [counter(), {"tool": "fail", "arguments": {"message": "no luck"}}, counter()]});
    let problem = calls(&gateway, &body).problem(424, "step-failed");
    assert_eq!(problem["failed_step"], 1);
    let steps = problem["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{problem}");
    assert_eq!(steps[0]["result"]["structuredContent"]["count"], 1);
    assert_eq!(steps[1]["problem"]["type"], "/problems/tool-error");
    assert_eq!(steps[1]["problem"]["result"]["content"][0]["text"], "no luck");
    gateway.stop();
}

#[test]
fn a_call_told_to_continue_goes_on_after_failed_steps() {
    let gateway = Gateway::start(&demo(&[]));
    let body = json!({"on_error": "continue", "steps": [
        counter(),
        {"tool": "fail"},
        {"tool": "fault", "arguments": {"kind": "rpc-error", "code": -32099}},
        counter(),
    ]});
    let answer = calls(&gateway, &body).good();
    assert_eq!(answer["steps"][1]["problem"]["type"], "/problems/tool-error");
    assert_eq!(answer["steps"][2]["problem"]["type"], "/problems/server-error");
    assert_eq!(answer["steps"][3]["result"]["structuredContent"]["count"], 2);
    gateway.stop();
}

#[test]
fn a_server_that_dies_ends_the_call_and_what_was_done_is_told() {
    let gateway = Gateway::start(&demo(&[]));
    for on_error in ["stop", "continue"] {
        let crash = json!({"tool": "fault", "arguments": {"kind": "exit", "code": 9}});
        let body = json!({"on_error": on_error, "steps": [counter(), crash, counter()]});
        let problem = calls(&gateway, &body).problem(502, "server-crashed");
        assert_eq!((&problem["failed_step"], &problem["exit"]), (&json!(1), &json!({"code": 9})));
        assert_eq!(problem["steps"].as_array().map(Vec::len), Some(1), "{problem}");
    }
    gateway.stop();
}

#[test]
fn the_arguments_of_all_steps_are_checked_before_the_first_is_asked() {
    let gateway = Gateway::start(&demo(&[]));
    let body = json!({"steps": [counter(), {"tool": "add", "arguments": {"a": 1, "b": "two"}}]});
    for _ in ["cold", "warm"] {
        let problem = calls(&gateway, &body).problem(422, "invalid-arguments");
        assert_eq!(problem["errors"][0]["pointer"], "/b");
        assert_eq!(
            (&problem["steps"], &problem["failed_step"]),
            (&json!([]), &Value::Null),
            "none was asked"
        );
        assert!(problem["detail"].as_str().unwrap().contains("step 1 (add)"), "{problem}");
    }
    gateway.stop();
}

/// A server with the tools `open` and, after that was called, `inside`; it declares such changes, or not.
fn unfolding(declares: bool) -> String {
    let script = r#"
        tools='{"name":"open","inputSchema":{"type":"object"}}'; inside=
        while read -r line; do
            id=${line#*\"id\":}; id=${id%%,*}
            case $line in
            *'"initialize"'*) result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":DECLARES}},"serverInfo":{"name":"s","version":"1"}}' ;;
            *tools/list*) result="{\"tools\":[$tools]}" ;;
            *'"name":"open"'*) inside=1; result='{"content":[{"type":"text","text":"opened"}]}' ;;
            *'"name":"inside"'*) [ "$inside" ] && result='{"content":[{"type":"text","text":"within"}]}' ;;
            *tools/call*) ;;
            *) continue ;;
            esac
            said="\"result\":$result"
            [ "$result" ] || said='"error":{"code":-32602,"message":"Unknown tool"}'
            printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$said"
            result=
        done"#;
    let script = toml::Value::from(script.replace("DECLARES", &declares.to_string()).replace("${", "$${"));
    format!("\n[servers.demo]\ncommand = \"sh\"\nargs = [\"-c\", {script}]\nprotocol = \"legacy\"\n")
}

#[test]
fn a_later_step_may_call_what_an_earlier_one_makes_appear_if_the_server_declares_that() {
    let steps = |tools: &[&str]| {
        let steps: Vec<_> = tools.iter().map(|tool| json!({"tool": tool})).collect();
        json!({"steps": steps})
    };
    let gateway = Gateway::start(&unfolding(true));
    // While its list is not known, and when it is.
    for _ in 0..2 {
        let answer = calls(&gateway, &steps(&["open", "inside"])).good();
        assert_eq!(answer["steps"][1]["result"]["content"][0]["text"], "within", "{answer}");
    }
    let problem = calls(&gateway, &steps(&["inside", "open"])).problem(404, "unknown-tool");
    assert_eq!(problem["steps"], json!([]), "{problem}");
    let problem = calls(&gateway, &steps(&["open", "opem"])).problem(404, "unknown-tool");
    assert_eq!(problem["steps"], json!([]), "{problem}");
    let problem = calls(&gateway, &steps(&["open", "elsewhere"])).problem(424, "step-failed");
    assert_eq!(
        (&problem["failed_step"], &problem["steps"][1]["problem"]["status"]),
        (&json!(1), &json!(404))
    );
    gateway.stop();
    let gateway = Gateway::start(&unfolding(false));
    for _ in 0..2 {
        calls(&gateway, &steps(&["open", "inside"])).problem(404, "unknown-tool");
    }
    gateway.stop();
}
