//! What is relayed arrives as it was written, on one line, and as nothing else.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::modern;
use crate::support::{Gateway, JSON, demo};

/// What a text becomes on its way: white space between tokens that would end a line is a space, nothing else changes.
fn on_one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn white_space() -> impl Strategy<Value = String> {
    "[ \t\n\r]{0,3}"
}

/// JSON texts that a careful reader takes and a careless relay changes.
fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        r#""([a-z é😀{}\[\]:,]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\ud[89abcdef][0-9a-f]{2})*""#,
    ]
}

/// Values of any shape with any white space in them.
fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        let element = (white_space(), inner, white_space()).prop_map(|(a, value, b)| a + &value + &b).boxed();
        prop_oneof![
            prop::collection::vec(element.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(","))),
            object(element),
        ]
    })
}

/// Objects of these values, their names distinct.
fn object(element: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let member = ("[a-z\"\\\\]{0,4}", white_space(), white_space(), element);
    (white_space(), prop::collection::vec(member, 0..5)).prop_map(|(empty, members)| {
        let members = members.into_iter().enumerate().map(|(number, (name, before, after, value))| {
            format!("{before}{}{after}:{value}", Value::from(format!("{name}{number}")))
        });
        let members: Vec<_> = members.collect();
        if members.is_empty() { format!("{{{empty}}}") } else { format!("{{{}}}", members.join(",")) }
    })
}

/// Asks `raw` for each of these in one process, and returns what arrived there.
fn arrived(gateway: &Gateway, all: &[String]) -> Vec<String> {
    let steps: Vec<_> =
        all.iter().map(|text| format!("{{\"tool\":\"raw\",\n\r\"arguments\":{text}}}")).collect();
    let body = format!("{{\"steps\":\n[{}]}}", steps.join(",\n"));
    let hurry = [JSON, ("Spawnling-Timeout", "10s")];
    let answer = gateway.request("POST", "/v1/servers/demo/calls", &hurry, &body).good();
    let steps = answer["steps"].as_array().unwrap();
    steps.iter().map(|step| step["result"]["content"][0]["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn arguments_of_any_shape_arrive_on_one_line_and_otherwise_unchanged() {
    for config in [demo(&[]), modern()] {
        let gateway = Gateway::start(&config);
        let mut runner =
            TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
        let arguments = prop::collection::vec(object(value()), 1..=60);
        let tested = runner.run(&arguments, |all| {
            let arrived = arrived(&gateway, &all);
            let expected: Vec<_> = all.iter().map(|text| on_one_line(text)).collect();
            prop_assert_eq!(arrived, expected);
            Ok(())
        });
        tested.unwrap_or_else(|failed| panic!("{failed}"));
        gateway.stop();
    }
}

#[test]
fn a_message_inside_of_arguments_stays_inside() {
    let gateway = Gateway::start(&demo(&[]));
    let message =
        r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"counter","arguments":{}}}"#;
    for separator in ["\n", "\r\n", "\r", "\n\n"] {
        // Relayed as it is, the message would stand on a line of its own.
        let arguments = format!(r#"{{"value":[1,{separator}{message}{separator},2]}}"#);
        let steps = format!(r#"{{"steps":[{{"tool":"raw","arguments":{arguments}}},{{"tool":"counter"}}]}}"#);
        let answer = gateway.post("/v1/servers/demo/calls", &steps).good();
        let arrived = answer["steps"][0]["result"]["content"][0]["text"].as_str().unwrap();
        assert_eq!(arrived, on_one_line(&arguments));
        let count = &answer["steps"][1]["result"]["structuredContent"]["count"];
        assert_eq!(count, 1, "the message inside was obeyed");
    }
    gateway.stop();
}

#[test]
fn a_message_behind_the_arguments_is_refused() {
    let gateway = Gateway::start(&demo(&[]));
    let message = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"counter"}}"#;
    for body in [
        format!("{{\n}}\n{message}"),
        format!("{{\"message\":\"a\"}}\n{message}\n"),
        format!("{{}}}}\n{message}\n{{"),
        format!("{{\"steps\":[{{\"tool\":\"raw\",\"arguments\":{{}}\n}}\n{message}]}}"),
    ] {
        for path in ["/v1/servers/demo/tools/raw", "/v1/servers/demo/calls"] {
            gateway.post(path, &body).problem(400, "malformed-request");
        }
    }
    gateway.stop();
}

#[test]
fn names_and_addresses_with_line_breaks_break_no_line() {
    let gateway = Gateway::start(&demo(&[]));
    let inject =
        "x\"}}\n{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"tools/call\",\"params\":{\"name\":\"counter\"}}\n";
    let body = json!({"on_error": "continue", "steps": [
        {"method": "resources/read", "params": {"uri": format!("demo://echo/{inject}")}},
        {"method": "prompts/get", "params": {"name": "greet", "arguments": {"name": inject}}},
        {"method": "prompts/get", "params": {"name": inject}},
        {"tool": "counter"},
    ]});
    let answer = gateway.post("/v1/servers/demo/calls", &body.to_string()).good();
    assert_eq!(answer["steps"][0]["result"]["contents"][0]["text"], inject);
    assert_eq!(answer["steps"][2]["problem"]["status"], 404);
    assert_eq!(answer["steps"][3]["result"]["structuredContent"]["count"], 1);
    gateway.stop();
}

#[test]
fn values_that_no_generic_json_value_holds_arrive_as_they_are() {
    let gateway = Gateway::start(&demo(&[]));
    for text in [
        r#"{"value":1234567890123456789012345678901234567890}"#,
        r#"{"value":-1e400,"other":1.10}"#,
        r#"{"value":"lone \ud800 surrogate","\udfff":1}"#,
        r#"{"z":1,"a":2,"unknown":{"z":[],"a":{}}}"#,
        "{\"value\":\"\u{2028} \u{2029} \u{85}\"}",
    ] {
        assert_eq!(gateway.tool("raw", text).said(), text);
    }
    gateway.stop();
}

#[test]
fn an_answer_arrives_as_its_server_wrote_it_but_for_the_line_breaks() {
    for (config, kind) in [(demo(&[]), ""), (modern(), " \"resultType\":\"complete\", ")] {
        let gateway = Gateway::start(&config);
        let answer = gateway.tool("fault", r#"{"kind":"surrogate"}"#);
        let content = r#""content":[{"type":"text","text":"lone \ud800 surrogate"}],"#;
        let structured = r#" "structuredContent":{"huge":1e400,"long":1234567890123456789012345678901234567890,"twice":1,"twice":2,"trailing":1.10},"#;
        let unknown = r#""unknownField":{"z":1,"a":[ 1 , 2 ]},"isError":false}"#;
        let start = if kind.is_empty() { " " } else { kind };
        assert_eq!((answer.status, answer.body), (200, format!("{{{start}{content}{structured}{unknown}")));
        let text = [JSON, ("Accept", "text/plain")];
        let order = r#"{"kind":"surrogate"}"#;
        let answer = gateway.request("POST", "/v1/servers/demo/tools/fault", &text, order);
        assert_eq!(answer.body, "lone \u{fffd}\u{fffd}\u{fffd} surrogate");
        gateway.stop();
    }
}
