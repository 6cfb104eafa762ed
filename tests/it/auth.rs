//! Who may ask, and what they are shown: tokens over the wire.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{
    Connection, Gateway, JSON, Pending, Response, Start, command_output, demo, server, shown, until,
};

const TOKENS: &str = r#"
[[tokens]]
name = "wide"
value = "wide-token"

[[tokens]]
name = "narrow"
value = "narrow-token"
servers = ["demo"]
tools = ["echo", "sleep", "adds"]
concurrent = 1

[[tokens]]
name = "owner"
value = "owner-token"
diagnostics = true
"#;

const ECHO: &str = r#"{"message":"hello"}"#;

fn start() -> Gateway {
    Gateway::start(&format!("{TOKENS}{}{}", demo(&[]), server("other", &[])))
}

/// Asks as whoever has this token.
#[track_caller]
fn ask(gateway: &Gateway, token: &str, line: &str, body: &str) -> Response {
    let (method, path) = line.split_once(' ').unwrap();
    let bearer = format!("Bearer {token}");
    gateway.request(method, path, &[JSON, ("Authorization", &bearer)], body)
}

#[track_caller]
fn begin(gateway: &Gateway, token: &str, tool: &str, arguments: &str) -> Pending {
    gateway.begin("POST", &format!("/v1/servers/demo/tools/{tool}"), &[JSON, ("X-API-Key", token)], arguments)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn without_a_token_nothing_is_started() {
    let gateway = start();
    let refused = gateway.tool("echo", ECHO);
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"spawnling\""));
    let wrong = ask(&gateway, "wide-tokem", "POST /v1/servers/demo/tools/echo", ECHO);
    wrong.problem(401, "unauthenticated");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer realm=\"spawnling\", error=\"invalid_token\""));
    assert_eq!(ask(&gateway, "wide-token", "POST /v1/servers/demo/tools/echo", ECHO).said(), "hello");
    assert_eq!(begin(&gateway, "wide-token", "echo", ECHO).response().said(), "hello");
    assert_eq!((gateway.get("/healthz").status, gateway.get("/readyz").status), (200, 200));
    gateway.stop();
}

#[test]
fn a_token_is_shown_and_given_what_it_allows() {
    let gateway = start();
    let narrow = |line: &str, body: &str| ask(&gateway, "narrow-token", line, body);
    assert_eq!(names(&narrow("GET /v1/servers", "").good()["servers"]), ["demo"]);
    assert_eq!(names(&narrow("GET /v1/servers/demo/tools", "").good()["tools"]), ["echo", "sleep"]);
    let front = narrow("GET /", "").body;
    assert!(front.contains("\n  demo\n") && !front.contains("\n  other\n"), "{front}");
    assert!(!gateway.get("/").body.contains("\n  demo\n"));
    let steps = |steps: &Value| json!({ "steps": steps }).to_string();
    let listed = narrow("POST /v1/servers/demo/calls", &steps(&json!([{"method": "tools/list"}]))).good();
    assert_eq!(names(&listed["steps"][0]["result"]["tools"]), ["echo", "sleep"]);
    for (line, body) in [
        ("POST /v1/servers/demo/tools/add", r#"{"a":1,"b":2}"#.to_owned()),
        ("POST /v1/servers/demo/tools/no-such-tool", "{}".to_owned()),
        ("POST /v1/servers/other/tools/echo", ECHO.to_owned()),
        ("POST /v1/servers/no-such-server/tools/echo", ECHO.to_owned()),
        ("GET /v1/servers/demo/resources", String::new()),
        ("POST /v1/servers/demo/resources/read", r#"{"uri":"demo://x"}"#.to_owned()),
        ("GET /v1/servers/demo/prompts", String::new()),
        (
            "POST /v1/servers/demo/calls",
            steps(
                &json!([{"tool": "echo", "arguments": {"message": "a"}}, {"tool": "add", "arguments": {}}]),
            ),
        ),
    ] {
        narrow(line, &body).problem(403, "forbidden");
    }
    // One that it may call and that there is not: of those like it, none is named that it may not call.
    let named = |token: &str| {
        let answer = ask(&gateway, token, "POST /v1/servers/demo/tools/adds", "{}");
        answer.problem(404, "unknown-tool")["detail"].as_str().unwrap().contains("\"add\"")
    };
    assert_eq!([named("narrow-token"), named("wide-token")], [false, true]);
    assert_eq!(narrow("POST /v1/servers/demo/tools/echo", ECHO).said(), "hello");
    assert_eq!(
        names(&ask(&gateway, "wide-token", "GET /v1/servers", "").good()["servers"]),
        ["demo", "other"]
    );
    gateway.stop();
}

#[test]
fn a_receipt_is_for_whoever_made_the_call() {
    let gateway = start();
    let asked = ask(&gateway, "narrow-token", "POST /v1/servers/demo/tools/echo", ECHO);
    let listed = ask(&gateway, "narrow-token", "GET /v1/servers/demo/tools", "");
    for answer in [asked, listed] {
        let line = format!("GET /v1/calls/{}", answer.header("spawnling-call-id").unwrap());
        assert_eq!(ask(&gateway, "narrow-token", &line, "").good()["server"], "demo");
        for other in ["wide-token", "owner-token"] {
            ask(&gateway, other, &line, "").problem(404, "unknown-call");
        }
    }
    gateway.stop();
}

#[test]
fn one_call_more_than_its_share_is_refused_and_the_next_after_an_answer_is_not() {
    let gateway = start();
    let sleeping = begin(&gateway, "narrow-token", "sleep", r#"{"seconds":600}"#);
    gateway.until_servers(1);
    let refused = ask(&gateway, "narrow-token", "POST /v1/servers/demo/tools/echo", ECHO);
    let problem = refused.problem(429, "quota-exceeded");
    assert_eq!((&problem["fault"], &problem["phase"]), (&json!("caller"), &json!("queue")), "{problem}");
    let advice: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&advice), "{advice}");
    // Others are not concerned.
    assert_eq!(ask(&gateway, "wide-token", "POST /v1/servers/demo/tools/echo", ECHO).said(), "hello");
    sleeping.hang_up();
    until("the share is free again", || {
        ask(&gateway, "narrow-token", "POST /v1/servers/demo/tools/echo", ECHO).status == 200
    });
    // Each tree is still being ended when the next call comes.
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "narrow-token", "POST /v1/servers/demo/tools/echo", ECHO).said(), "hello");
    }
    gateway.stop();
}

#[test]
fn last_words_are_for_a_token_that_says_so_and_not_for_who_is_near() {
    let gateway = Gateway::start(&format!("{TOKENS}{}{}", telltale("crash"), demo(&[])));
    for (token, sees) in [("wide-token", false), ("owner-token", true)] {
        let answer = ask(&gateway, token, "POST /v1/servers/crash/tools/x", "{}");
        assert_eq!(answer.json()["exit"]["code"], 3, "{answer:?}");
        for member in ["stderr_tail", "noise"] {
            assert_eq!(answer.json().get(member).is_some(), sees, "{answer:?}");
        }
    }
    gateway.stop();
}

#[test]
fn the_original_api_asks_for_the_authority_of_its_tool() {
    let config = format!(
        "{TOKENS}{}[browser_agent]\nserver = \"demo\"\ntool = \"run_browser_agent\"\n",
        demo(&[]).replace("[servers", "\n[servers")
    );
    let gateway = Gateway::start(&config);
    for line in ["POST /api/browser-agent", "POST /api/disconnect"] {
        for (token, status) in [("none", 401), ("narrow-token", 403)] {
            let answer = ask(&gateway, token, line, r#"{"task":"x"}"#);
            assert_eq!(
                (answer.status, &answer.json()["success"]),
                (status, &json!(false)),
                "{line} {answer:?}"
            );
        }
    }
    assert_eq!(ask(&gateway, "wide-token", "POST /api/disconnect", "").good()["success"], true);
    assert_eq!(gateway.get("/api/health").good()["status"], "healthy");
    gateway.stop();
}

#[test]
fn with_tokens_a_gateway_may_be_reached_from_elsewhere() {
    let script = "exec \"$0\" serve --listen 0.0.0.0:0 --log-format json --config it.toml";
    let config = format!("{TOKENS}{}", demo(&[]));
    let gateway = Gateway::start_by(&config, Start { script: Some(script), ..Start::default() });
    gateway.stop();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("open.toml");
    std::fs::write(&file, demo(&[])).unwrap();
    let said = command_output(&["serve", "--listen", "0.0.0.0:0", "--config", shown(&file)]);
    assert!(said.contains("add `[[tokens]]`, or give --insecure"), "{said}");
}

/// A secret of every kind, in every place where a server or a caller can put it.
const SECRETS: [&str; 5] =
    ["wide-token", "owner-token", "s3cret-from-the-environment", "quo\"ted\\s3cret", "passed-on-s3cret"];

/// A server that tells what it should not: on stderr in pieces, on stdout, and in the error that it answers with.
const TELLTALE: &str = r#"
printf '%s' "$FRONT" >&2
for at in 1 2 3; do echo "noise $at: $HIDDEN $QUOTED $API_KEY"; done
echo "$(printf '%180s' '')$HIDDEN"
read line
printf '%s' "$BACK" >&2; echo " and $QUOTED" >&2; echo "key $API_KEY" >&2
case "$HOW" in
  *error) id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
         [ "$HOW" = error ] && code='"code":-32000,'
         echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{$code\"message\":\"bad $HIDDEN\",\"data\":\"$API_KEY\"}}"
         read line ;;
esac
exit 3
"#;

fn telltale(how: &str) -> String {
    let (front, back) = SECRETS[2].split_at(12);
    let pieces = format!("FRONT = {front:?}, BACK = {back:?}");
    let env = format!("HIDDEN = {:?}, QUOTED = {:?}, HOW = {how:?}, {pieces}", SECRETS[2], SECRETS[3]);
    let script = toml::Value::from(TELLTALE);
    format!(
        "\n[servers.{how}]\ncommand = \"sh\"\nargs = [\"-c\", {script}]\nprotocol = \"legacy\"\n\
         secret_env = [\"HIDDEN\", \"QUOTED\", \"API_*\"]\nenv = {{ {env} }}\n"
    )
}

#[test]
fn no_secret_is_in_anything_that_we_write() {
    let config =
        format!("{TOKENS}{}{}{}", telltale("crash"), telltale("error"), demo(&[])) + &telltale("odd-error");
    let env = [("API_KEY", SECRETS[4]), ("SPAWNLING_LOG", "trace")];
    let gateway = Gateway::start_by(&config, Start { env: &env, ..Start::default() });
    let mut written = String::new();
    let mut said = |answer: Response| {
        written.extend(answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")));
        written.push_str(&answer.body);
    };
    for server in ["crash", "error", "odd-error"] {
        let tool = format!("POST /v1/servers/{server}/tools/x");
        let answer = ask(&gateway, "owner-token", &tool, "{}");
        assert_eq!(answer.status, 502, "{answer:?}");
        let shown = answer.json();
        assert!(shown["stderr_tail"].as_str().unwrap().contains("***"), "{shown}");
        assert!(shown["noise"][0].as_str().unwrap().contains("*** *** ***"), "{shown}");
        let detail = shown["detail"].as_str().unwrap();
        assert_eq!(detail.contains("bad ***"), server != "crash", "{shown}");
        let receipt = format!("GET /v1/calls/{}", answer.header("spawnling-call-id").unwrap());
        said(ask(&gateway, "owner-token", &receipt, ""));
        said(answer);
        for path in ["", "/tools", "/prompts"] {
            said(ask(&gateway, "owner-token", &format!("GET /v1/servers/{server}{path}"), ""));
        }
        let steps = r#"{"steps":[{"tool":"x","arguments":{}}]}"#;
        said(ask(&gateway, "owner-token", &format!("POST /v1/servers/{server}/calls"), steps));
        let mut stream = Connection::to(&gateway);
        let headers = [JSON, ("X-API-Key", "owner-token"), ("Accept", "text/event-stream")];
        stream.send("POST", &tool[5..], &[&headers[..], &[("Connection", "close")]].concat(), "{}");
        said(stream.receive());
    }
    for path in ["/v1/servers/owner-token", "/owner-token", "/v1/calls/owner-token", "/?token=owner-token"] {
        said(ask(&gateway, "owner-token", &format!("GET {path}"), ""));
        said(gateway.get(path));
    }
    said(ask(&gateway, "wide-token", "POST /v1/servers/demo/tools/add", r#"{"a":"owner-token","b":1}"#));
    said(ask(&gateway, "wide-token", "POST /v1/servers/demo/tools/owner-token", "{}"));
    said(ask(&gateway, "owner-token", "GET /v1/servers", ""));
    gateway.settle();
    gateway.signal(Signal::TERM);
    written.push_str(&gateway.ended());
    assert!(written.contains("\"message\":\"call ended\""), "the log was written, too");
    for secret in SECRETS {
        let json = serde_json::to_string(secret).unwrap();
        for form in [secret, json.trim_matches('"')] {
            let around = written.find(form).map(|at| &written[at.saturating_sub(200)..at + form.len()]);
            assert_eq!(around, None, "{secret} was written");
        }
    }
    // Nor so much of one as a line that was cut has left.
    assert!(!written.contains("s3cret-from"), "the beginning of a secret was written");
}

#[test]
fn the_command_line_hides_secrets_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.toml");
    let config = telltale("error").replace("\"API_*\"", "\"API_*\", \"LC_KEY\"");
    std::fs::write(&file, format!("{TOKENS}{config}{}", demo(&[]))).unwrap();
    for words in [&["check"][..], &["call", "error", "x"], &["tools", "error"]] {
        let said = command_output(&[words, &["--config", shown(&file)]].concat());
        assert!(said.contains("***"), "{said}");
        for secret in SECRETS {
            assert!(!said.contains(secret), "{said}");
        }
    }
}
