//! The REST contract: what each route answers, and each way in which it refuses.
//!
//! How values are relayed is in `rest/relay.rs`, several steps in `rest/steps.rs`, streams in `rest/streams.rs`.

use std::collections::HashSet;

use serde_json::json;

use crate::support::{Connection, EMBEDDED, Gateway, JSON, Response, Start, demo, kill, server};

mod relay;
mod steps;
mod streams;

const ECHO: &str = r#"{"message":"hello"}"#;

/// A demo server that is asked without a handshake.
fn modern() -> String {
    server("demo", &["--faults", "--era", "modern"]) + "protocol = \"modern\"\n"
}

/// The phases that `Server-Timing` tells of.
fn phases(answer: &Response) -> Vec<&str> {
    let timing = answer.header("server-timing").unwrap_or_default();
    timing.split(", ").filter_map(|entry| Some(entry.split_once(";dur=")?.0)).collect()
}

#[test]
fn a_tool_answers_with_its_result_as_it_wrote_it() {
    let gateway = Gateway::start(&demo(&[]));
    let answer = gateway.tool("add", r#"{"a":1,"b":2}"#);
    assert_eq!(answer.good()["structuredContent"], json!({"sum": 3}));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(phases(&answer), ["queue", "spawn", "open", "call"]);
    // No body at all is the empty object, if only its kind is said.
    assert_eq!(gateway.tool("counter", "").good()["structuredContent"], json!({"count": 1}));
    gateway.stop();
}

#[test]
fn each_call_has_an_id_of_its_own_whatever_becomes_of_it() {
    let gateway = Gateway::start(&demo(&[]));
    let answers = [
        gateway.tool("echo", ECHO),
        gateway.tool("echo", ECHO),
        gateway.tool("fail", "{}"),
        gateway.tool("no-such-tool", "{}"),
        gateway.get("/v1/servers/demo/prompts"),
    ];
    let ids: HashSet<_> = answers.iter().map(|answer| answer.header("spawnling-call-id").unwrap()).collect();
    assert_eq!(ids.len(), answers.len(), "{ids:?}");
    for id in ids {
        assert!(id.len() == 32 && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
    gateway.stop();
}

#[test]
fn a_tool_that_fails_is_424_with_its_whole_result() {
    let gateway = Gateway::start(&demo(&[]));
    let answer = gateway.tool("fail", r#"{"message":"no luck"}"#);
    let problem = answer.problem(424, "tool-error");
    let result = json!({"content": [{"type": "text", "text": "no luck"}], "isError": true});
    assert_eq!((&problem["result"], &problem["phase"]), (&result, &json!("call")));
    assert_eq!(problem["call"], answer.header("spawnling-call-id").unwrap());
    gateway.stop();
}

#[test]
fn text_alone_is_given_to_whoever_takes_text() {
    let gateway = Gateway::start(&demo(&[]));
    let text = |path: &str, body| {
        let headers = [JSON, ("Accept", "text/plain")];
        gateway.request("POST", &format!("/v1/servers/demo/{path}"), &headers, body)
    };
    let answer = text("tools/echo", r#"{"message":"zwei\nZeilen \u00fc"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "zwei\nZeilen ü"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(phases(&answer), ["queue", "spawn", "open", "call"]);
    let greeting = text("resources/read", r#"{"uri":"demo://greeting"}"#);
    assert_eq!(greeting.body, "Hello from the demo server.");
    let prompt = text("prompts/greet", r#"{"name":"Ada"}"#);
    assert_eq!(prompt.body, "Please greet Ada in a friendly way.");
    // A failure is a problem all the same.
    text("tools/fail", "{}").problem(424, "tool-error");
    gateway.stop();
}

#[test]
fn resources_and_prompts_answer_with_their_results() {
    for config in [demo(&[]), modern()] {
        let gateway = Gateway::start(&config);
        let read = gateway.post("/v1/servers/demo/resources/read", r#"{"uri":"demo://echo/hi"}"#).good();
        assert_eq!(read["contents"][0]["text"], "hi");
        let prompt = gateway.post("/v1/servers/demo/prompts/greet", r#"{"name":"Ada"}"#).good();
        assert_eq!(prompt["messages"][0]["content"]["text"], "Please greet Ada in a friendly way.");
        let unknown = gateway.post("/v1/servers/demo/resources/read", r#"{"uri":"demo://nothing"}"#);
        unknown.problem(404, "unknown-resource");
        gateway.post("/v1/servers/demo/prompts/nothing", "{}").problem(404, "unknown-prompt");
        gateway.post("/v1/servers/demo/prompts/greet", "{}").problem(422, "invalid-arguments");
        gateway.stop();
    }
}

#[test]
fn lists_are_whole_and_are_asked_for_once() {
    let gateway = Gateway::start(&demo(&["--fault", "page-size=2"]));
    for (list, member, first) in [
        ("tools", "tools", "/tools/0/name"),
        ("resources", "resources", "/resources/0/uri"),
        ("resource-templates", "resourceTemplates", "/resourceTemplates/0/uriTemplate"),
        ("prompts", "prompts", "/prompts/0/name"),
    ] {
        let path = format!("/v1/servers/demo/{list}");
        let asked = gateway.get(&path);
        let all = asked.good();
        assert!(all.pointer(first).is_some(), "{all}");
        assert_eq!(all.as_object().map(serde_json::Map::len), Some(1), "{member}");
        let again = gateway.get(&path);
        assert_eq!(again.body, asked.body);
        assert_eq!((phases(&asked).len(), phases(&again)), (4, vec!["queue"]), "{list}");
    }
    assert_eq!(gateway.get("/v1/servers/demo/tools").good()["tools"].as_array().map(Vec::len), Some(9));
    gateway.stop();
}

#[test]
fn who_waits_for_a_list_or_an_introduction_is_told_at_once_that_it_cannot_be_had() {
    for path in ["/v1/servers/demo/tools", "/v1/servers/demo"] {
        let gateway = Gateway::start(&demo(&["--fault", "hang-open"]));
        let waiting: Vec<_> = (0..3).map(|_| gateway.begin("GET", path, &[], "")).collect();
        let only = gateway.until_servers(1)[0];
        gateway.until_at_rest();
        kill(only);
        // Each would have another server to hang over otherwise, one after the other.
        for answer in waiting {
            answer.response().problem(502, "open-failed");
        }
        gateway.stop();
    }
}

#[test]
fn a_server_says_what_it_is_when_it_is_asked() {
    for (config, era, version) in [(demo(&[]), "legacy", "2025-11-25"), (modern(), "modern", "2026-07-28")] {
        let gateway = Gateway::start(&config);
        let known = &gateway.get("/v1/servers").good()["servers"][0];
        assert_eq!((&known["name"], &known["era"]), (&json!("demo"), &json!(era)));
        assert_eq!(known["serverInfo"], json!(null), "nothing was started for the list");
        let told = gateway.get("/v1/servers/demo").good();
        assert_eq!((&told["strategy"], &told["protocolVersion"]), (&json!("fresh"), &json!(version)));
        assert!(told["serverInfo"]["name"].is_string() && told["instructions"].is_string(), "{told}");
        assert!(told["capabilities"]["tools"].is_object(), "{told}");
        gateway.stop();
    }
}

#[test]
fn a_body_that_is_not_what_the_route_takes_is_400() {
    let gateway = Gateway::start(&demo(&[]));
    for (path, body, named) in [
        ("tools/echo", "{", "not valid JSON"),
        ("tools/echo", r#"{"message":"a"} {}"#, "not valid JSON"),
        ("tools/echo", r#"{"message":"a","message":"b"}"#, "\"message\""),
        ("tools/echo", r#"{"message":{"deep":[{"a":1,"\u0061":2}]}}"#, "\"a\""),
        ("tools/echo", "[]", "not a JSON object"),
        ("tools/echo", "\"hello\"", "not a JSON object"),
        ("resources/read", "{}", "no `uri`"),
        ("resources/read", r#"{"uri":"a:b","more":1}"#, "\"more\""),
        ("prompts/greet", r#"{"name":3}"#, "no string"),
        ("calls", "{}", "no `steps`"),
        ("calls", r#"{"steps":[]}"#, "between 1 and 64"),
        ("calls", r#"{"steps":[{"method":"initialize"}]}"#, "initialize"),
    ] {
        let answer = gateway.post(&format!("/v1/servers/demo/{path}"), body);
        let detail = answer.problem(400, "malformed-request")["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{body}: {detail}");
        assert_eq!(answer.header("server-timing"), None, "nothing was started: {body}");
    }
    gateway.stop();
}

#[test]
fn terms_that_cannot_be_read_are_400() {
    let gateway = Gateway::start(&demo(&[]));
    for header in [("Spawnling-Timeout", "soon"), ("Spawnling-Timeout", "0s"), ("Spawnling-Wait", "start")] {
        let answer = gateway.request("POST", "/v1/servers/demo/tools/echo", &[JSON, header], ECHO);
        answer.problem(400, "malformed-request");
    }
    for (path, named) in [
        ("/v1/servers/demo/tools/echo?timeout=1", "\"1\""),
        ("/v1/servers/demo/tools/echo?timout=3s", "\"timout\"; known: timeout"),
        ("/v1/servers/demo/tools/echo?timeout=3s&timeout=4s", "twice"),
    ] {
        let problem = gateway.post(path, ECHO).problem(400, "malformed-request");
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
    }
    for path in [
        "/v1/servers?name=demo",
        "/v1/servers/demo/tools?page=2",
        "/openapi.json?refesh=true",
        "/readyz?ful=503",
    ] {
        gateway.get(path).problem(400, "malformed-request");
    }
    assert_eq!(gateway.servers(), [0; 0], "nothing was started");
    for path in ["/?x", "/healthz?x", "/metrics?x", "/problems/tool-error?x"] {
        assert_eq!(gateway.get(path).status, 200, "{path}: nothing is read there");
    }
    gateway.stop();
}

#[test]
fn what_is_not_there_is_404_and_says_what_is() {
    let gateway = Gateway::start(&demo(&[]));
    gateway.get("/v1/nothing").problem(404, "unknown-route");
    let problem = gateway.post("/v1/servers/nobody/tools/echo", ECHO).problem(404, "unknown-server");
    assert!(problem["detail"].as_str().unwrap().contains("configured: demo"), "{problem}");
    // The list is not known yet: it is learned by the call. Then it is known.
    let cold = gateway.tool("nothing", "{}");
    cold.problem(404, "unknown-tool");
    let warm = gateway.tool("nothing", "{}");
    warm.problem(404, "unknown-tool");
    assert_eq!((phases(&cold).len(), phases(&warm)), (4, vec!["queue"]));
    gateway.tool("ec%0Aho", ECHO).problem(404, "unknown-tool");
    for answer in [
        gateway.tool("ecoh", ECHO),
        gateway.post("/v1/servers/demo/calls", r#"{"steps":[{"tool":"counter"},{"tool":"ecoh"}]}"#),
    ] {
        let problem = answer.problem(404, "unknown-tool");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("There is no tool \"ecoh\"; did you mean \"echo\"? `GET "), "{detail}");
    }
    // -32601, from the server itself.
    let lacks = gateway.tool("fault", r#"{"kind":"rpc-error","code":-32601}"#);
    lacks.problem(404, "not-offered");
    gateway.stop();
}

#[test]
fn arguments_that_break_the_schema_are_422_with_pointers_and_cost_no_process() {
    let gateway = Gateway::start(&demo(&[]));
    let cold = gateway.tool("add", r#"{"a":"one"}"#);
    let warm = gateway.tool("add", r#"{"a":"one","b":2}"#);
    for (answer, count) in [(&cold, 2), (&warm, 1)] {
        let problem = answer.problem(422, "invalid-arguments");
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(errors.len(), count, "{problem}");
        assert!(errors.iter().any(|error| error["pointer"] == "/a"), "{problem}");
    }
    assert_eq!((phases(&cold).len(), phases(&warm)), (4, vec!["queue"]));
    // The server's own refusal.
    let refused = gateway.tool("fault", r#"{"kind":"rpc-error","code":-32602,"message":"not those"}"#);
    let problem = refused.problem(422, "invalid-arguments");
    assert!(problem["detail"].as_str().unwrap().contains("not those"), "{problem}");
    gateway.stop();
}

#[test]
fn arguments_are_sent_as_they_are_where_nobody_is_to_check_them() {
    for validate in ["warn", "off"] {
        let gateway = Gateway::start(&(demo(&[]) + &format!("validate = \"{validate}\"\n")));
        let problem = gateway.tool("add", r#"{"a":"one"}"#).problem(424, "tool-error");
        let words = problem["result"]["content"][0]["text"].as_str().unwrap();
        assert!(words.contains("bad arguments"), "{problem}");
        gateway.stop();
    }
}

#[test]
fn an_error_of_the_server_is_502_with_its_code_and_data() {
    let gateway = Gateway::start(&demo(&[]));
    let order = r#"{"kind":"rpc-error","code":-32099,"message":"out of ideas"}"#;
    let problem = gateway.tool("fault", order).problem(502, "server-error");
    assert_eq!((&problem["code"], &problem["data"]), (&json!(-32099), &json!({"kind": "demo"})));
    assert!(problem["detail"].as_str().unwrap().contains("out of ideas"), "{problem}");
    gateway.stop();
}

#[test]
fn an_error_of_the_server_shows_what_it_wrote_to_stderr() {
    let (program, strategies) = (crate::support::PROGRAM, ["fresh", "shared"]);
    for strategy in strategies {
        let script = format!("echo the reason >&2; exec {program} demo --faults");
        let config = format!(
            "[servers.demo]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\nstrategy = \"{strategy}\"\n"
        );
        let gateway = Gateway::start(&config);
        let order = r#"{"kind":"rpc-error","code":-32099,"message":"out of ideas"}"#;
        let problem = gateway.tool("fault", order).problem(502, "server-error");
        assert_eq!(problem["stderr_tail"], "the reason\n", "{strategy}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("`stderr_tail`"), "{strategy}: {problem}");
        gateway.signal(rustix::process::Signal::TERM);
        gateway.ended();
    }
}

#[test]
fn a_server_that_asks_back_is_409_and_goes_on_with_the_answer() {
    let gateway = Gateway::start(&modern());
    let arguments = json!({"kind": "input-required"});
    let problem = gateway.tool("fault", &arguments.to_string()).problem(409, "input-required");
    assert_eq!(problem["inputRequests"]["who"]["method"], "elicitation/create");
    let mut step = json!({"tool": "fault", "arguments": arguments});
    step["requestState"] = problem["requestState"].clone();
    step["inputResponses"] = json!({"who": {"action": "accept", "content": {"name": "Ada"}}});
    let body = json!({"steps": [step]}).to_string();
    let answered = gateway.post("/v1/servers/demo/calls", &body).good();
    let said = &answered["steps"][0]["result"]["structuredContent"]["answered"];
    assert_eq!(said["content"]["name"], "Ada", "{answered}");
    gateway.stop();
}

#[test]
fn a_method_that_a_path_does_not_take_is_405_with_those_that_it_takes() {
    let gateway = Gateway::start(&demo(&[]));
    for (method, path, allow) in [
        ("GET", "/v1/servers/demo/tools/echo", "POST"),
        ("DELETE", "/v1/servers/demo/tools", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("GET", "/v1/servers/demo/calls", "POST"),
    ] {
        let answer = gateway.request(method, path, &[], "");
        answer.problem(405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    gateway.stop();
}

#[test]
fn a_kind_of_answer_that_a_route_does_not_have_is_406() {
    let gateway = Gateway::start(&demo(&[]));
    for (path, accept) in [("tools/echo", "image/png"), ("calls", "text/plain"), ("tools/echo", "*/*;q=0")] {
        let path = format!("/v1/servers/demo/{path}");
        let answer = gateway.request("POST", &path, &[JSON, ("Accept", accept)], ECHO);
        answer.problem(406, "not-acceptable");
    }
    gateway.stop();
}

#[test]
fn a_body_that_is_not_declared_as_json_is_415() {
    let gateway = Gateway::start(&demo(&[]));
    for headers in [
        &[][..],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "application/json; charset=latin1")],
        &[JSON, ("Content-Encoding", "gzip")],
    ] {
        let answer = gateway.request("POST", "/v1/servers/demo/tools/echo", headers, ECHO);
        let detail = answer.problem(415, "unsupported-media-type")["detail"].to_string();
        // What helps is another thing for a body that is compressed.
        let header =
            if headers.len() == 2 { "without the header `Content-Encoding`" } else { "Content-Type: " };
        assert!(detail.contains(header), "{detail}");
    }
    gateway.stop();
}

#[test]
fn foreign_pages_and_foreign_names_are_refused_before_anything_is_started() {
    let gateway = Gateway::start(&demo(&[]));
    for header in
        [("Host", "evil.example"), ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")]
    {
        let answer = gateway.request("POST", "/v1/servers/demo/tools/echo", &[JSON, header], ECHO);
        answer.problem(403, "forbidden");
        gateway.request("GET", "/v1/servers/demo/tools", &[header], "").problem(403, "forbidden");
    }
    gateway.stop();
}

#[test]
fn every_type_of_problem_leads_to_a_page_that_explains_it() {
    let gateway = Gateway::start(&demo(&[]));
    let problem = gateway.tool("nothing", "{}").json();
    let page = gateway.get(problem["type"].as_str().unwrap());
    assert_eq!(page.status, 200);
    assert!(page.body.contains("What to do:"), "{}", page.body);
    assert_eq!(gateway.get("/problems/no-such-problem").status, 404);
    gateway.stop();
}

#[test]
fn one_connection_serves_many_requests_good_and_bad() {
    let gateway = Gateway::start(&demo(&[]));
    let mut connection = Connection::to(&gateway);
    for _ in 0..2 {
        connection.send("POST", "/v1/servers/demo/tools/echo", &[JSON], ECHO);
        assert_eq!(connection.receive().said(), "hello");
        connection.send("POST", "/v1/servers/demo/tools/echo", &[JSON], "{");
        connection.receive().problem(400, "malformed-request");
        connection.send("GET", "/healthz", &[], "");
        assert_eq!(connection.receive().good(), json!({"status": "ok"}));
    }
    drop(connection);
    gateway.stop();
}

#[test]
fn a_gateway_on_every_address_answers_at_the_one_it_announces_and_visits_itself() {
    let script = "exec \"$0\" serve --listen 0.0.0.0:0 --insecure --log-format json";
    let gateway = Gateway::start_by(EMBEDDED, Start { script: Some(script), ..Start::default() });
    let announced = gateway.address().to_string();
    assert!(announced.starts_with("0.0.0.0:"), "{announced}");
    gateway.request("GET", "/readyz", &[("Host", &announced)], "").good();
    gateway.request("GET", "/readyz", &[("Host", "0.0.0.1")], "").problem(403, "forbidden");
    let task = format!("{{\"task\":\"Go to http://127.0.0.1:{}/readyz\"}}", gateway.address().port());
    assert_eq!(gateway.post("/api/browser-agent", &task).good()["success"], true);
    gateway.stop();
}

#[test]
fn a_list_that_cost_a_process_can_bring_its_receipt_and_one_from_memory_has_none() {
    let gateway = Gateway::start(&demo(&[]));
    let wanted = [("Spawnling-Wait", "end")];
    for path in ["/v1/servers/demo", "/v1/servers/demo/tools"] {
        let first = gateway.request("GET", path, &wanted, "");
        assert!(
            first.header("spawnling-receipt").is_some_and(|receipt| receipt.contains("rung=eof")),
            "{path}"
        );
        let second = gateway.request("GET", path, &wanted, "");
        assert_eq!((second.status, second.header("spawnling-receipt")), (200, None), "{path}");
    }
    gateway.stop();
}
