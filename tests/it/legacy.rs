//! The original API keeps working, with the embedded stand-in and with the real agent's configuration, and so do the
//! scripts that show how to use this gateway: from curl, and from synchronous backends in five languages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::peers::{installed, skip};
use crate::support::{EMBEDDED, Gateway, PROGRAM, Pending, Response, Start, shown};

/// A task that needs no network: to visit the gateway itself.
fn task(gateway: &Gateway) -> String {
    json!({"task": format!("Go to http://{}/healthz", gateway.address())}).to_string()
}

fn begin(gateway: &Gateway) -> Pending {
    gateway.begin("POST", "/api/browser-agent", &[crate::support::JSON], &task(gateway))
}

#[track_caller]
fn is_good(answer: &Response) {
    let answer = answer.good();
    assert_eq!(answer["success"], true, "{answer}");
    assert!(answer["result"].as_str().is_some_and(|text| text.contains("/healthz")), "{answer}");
}

fn health(gateway: &Gateway, available: bool) {
    for path in ["/api/health", "/health"] {
        let healthy = json!({"status": "healthy", "mcp_available": available});
        assert_eq!(gateway.get(path).good(), healthy, "{path}");
    }
}

#[test]
fn two_tasks_in_a_row_and_two_at_once_all_succeed() {
    let gateway = Gateway::start(EMBEDDED);
    is_good(&begin(&gateway).response());
    is_good(&begin(&gateway).response());
    let (one, other) = (begin(&gateway), begin(&gateway));
    is_good(&one.response());
    is_good(&other.response());
    gateway.stop();
}

#[test]
fn the_gateway_may_be_visited_by_the_name_that_people_type() {
    let gateway = Gateway::start(EMBEDDED);
    let port = gateway.address().port();
    let task = json!({"task": format!("Go to http://localhost:{port}/healthz")}).to_string();
    is_good(&gateway.post("/api/browser-agent", &task));
    gateway.stop();
}

#[test]
fn a_task_that_cannot_be_done_is_told_in_the_same_envelope() {
    let gateway = Gateway::start(EMBEDDED);
    for (body, status) in [
        ("{}", 400),
        (r#"{"task":" "}"#, 400),
        ("not JSON", 400),
        (r#"{"task":"Go to http://169.254.169.254/"}"#, 424),
        (r#"{"task":"Go nowhere"}"#, 424),
    ] {
        let answer = gateway.post("/api/browser-agent", body);
        let told = answer.json();
        assert_eq!((answer.status, &told["success"]), (status, &Value::Bool(false)), "{body}: {answer:?}");
        assert!(told["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}: {answer:?}");
    }
    gateway.stop();
}

#[test]
fn nothing_needs_to_be_disconnected() {
    let gateway = Gateway::start(EMBEDDED);
    let message = "No persistent connection maintained. Each request uses a fresh connection.";
    assert_eq!(gateway.post("/api/disconnect", "").good(), json!({"success": true, "message": message}));
    health(&gateway, true);
    gateway.stop();
}

/// The place of the original's server, and a `uv` to start it with.
struct Original {
    dir: TempDir,
}

impl Original {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("bin")).expect("a directory for uv");
        Self { dir }
    }

    fn agent(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn check_out(&self) {
        fs::create_dir(self.agent()).expect("the directory of the agent");
    }

    /// A `uv` that insists on what it is told, writes down its environment, and becomes the demo server.
    fn install_uv(&self) {
        let (agent, uv) = (self.agent(), self.dir.path().join("bin/uv"));
        let script = format!(
            "#!/bin/sh\n\
             if [ \"$*\" != 'run --directory {0} mcp-server-browser-use' ]; then echo \"told: $*\" >&2; exit 64; fi\n\
             /usr/bin/env >{0}/environment.$$ && /bin/mv {0}/environment.$$ {0}/environment\n\
             exec {PROGRAM:?} demo --allow-private\n",
            agent.display()
        );
        fs::write(&uv, script).expect("a uv");
        fs::set_permissions(&uv, fs::Permissions::from_mode(0o755)).expect("it may be run");
    }

    /// A gateway that was told of the directory as the original was, with these variables too.
    fn gateway(&self, variables: &[(&str, &str)]) -> Gateway {
        let (agent, bin) = (self.agent(), self.dir.path().join("bin"));
        let ours = [("MCP_BROWSER_USE_DIR", shown(&agent)), ("PATH", shown(&bin))];
        Gateway::start_by(EMBEDDED, Start { env: &[&ours, variables].concat(), ..Start::default() })
    }
}

#[test]
fn health_is_true_to_what_is_there_at_that_moment() {
    let original = Original::new();
    let gateway = original.gateway(&[]);
    health(&gateway, false);
    let answer = begin(&gateway).response();
    assert_eq!((answer.status, &answer.json()["success"]), (502, &Value::Bool(false)), "{answer:?}");
    original.check_out();
    health(&gateway, false);
    original.install_uv();
    health(&gateway, true);
    is_good(&begin(&gateway).response());
    fs::remove_dir_all(original.agent()).expect("the agent is taken away");
    health(&gateway, false);
    gateway.stop();
}

#[test]
fn the_real_agent_is_started_as_the_original_was_and_sees_its_variables_and_no_others() {
    let passed = [
        ("MCP_LLM_PROVIDER", "openai"),
        ("OPENAI_API_KEY", "k e y"),
        ("AZURE_OPENAI_ENDPOINT", "https://e"),
        ("OPENAI_BASE_URL", "https://b"),
        ("BROWSER_PATH", "/b"),
        ("CHROME_CDP", "http://c"),
        ("ANONYMIZED_TELEMETRY", "false"),
    ];
    let kept_back = [
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("API_KEY", "s"),
        ("OPENAI_KEY", "s"),
        ("MY_MCP_X", "s"),
        ("BROWSER", "s"),
        ("ANONYMIZED_TELEMETRY_X", "s"),
    ];
    let original = Original::new();
    original.check_out();
    original.install_uv();
    let gateway = original.gateway(&[&passed[..], &kept_back].concat());
    is_good(&begin(&gateway).response());
    is_good(&begin(&gateway).response());
    let seen = fs::read_to_string(original.agent().join("environment")).expect("what uv saw");
    for (name, value) in passed {
        assert!(seen.lines().any(|line| line == format!("{name}={value}")), "{name} in\n{seen}");
    }
    for (name, _) in kept_back {
        assert!(!seen.lines().any(|line| line.starts_with(&format!("{name}="))), "{name} in\n{seen}");
    }
    gateway.stop();
}

/// Runs a script of this repository against a gateway. Its status, and what it said.
fn run(script: &str, gateway: &Gateway) -> (ExitStatus, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    #[expect(clippy::disallowed_methods, reason = "the script is a child of the test, not of the gateway")]
    let mut command = Command::new(&program);
    let url = format!("http://{}", gateway.address());
    command.env("SPAWNLING_URL", url).env_remove("SPAWNLING_TOKEN").env("SPAWNLING", PROGRAM);
    let done = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    (done.status, said)
}

#[test]
fn every_curl_script_meets_what_it_expects() {
    if installed("curl").is_none() {
        return;
    }
    let gateway = Gateway::start(EMBEDDED);
    let (status, said) = run("curl/all", &gateway);
    assert!(status.success() && said.contains(" 0 failed"), "{status}: {said}");
    gateway.stop();
}

/// What a backend ends with where a program that it needs is missing: `EX_UNAVAILABLE` of sysexits(3).
const UNAVAILABLE: i32 = 69;

/// Has a backend's own check put it through everything.
#[track_caller]
fn backend(name: &str) {
    if installed("python3").is_none() {
        return;
    }
    let gateway = Gateway::start(EMBEDDED);
    let (status, said) = run(&format!("legacy/{name}/check"), &gateway);
    gateway.stop();
    if status.code() == Some(UNAVAILABLE) {
        return skip(name, &said);
    }
    assert!(status.success(), "{status}: {said}");
    for part in ["20 calls in a row and 8 at once", "failures", "gateway down", "deadline", "nothing left"] {
        assert!(said.contains(part), "{part} was not tried: {said}");
    }
}

#[test]
fn a_flask_backend_makes_twenty_calls_in_a_row_and_eight_at_once() {
    backend("flask");
}

#[test]
fn a_php_backend_makes_twenty_calls_in_a_row_and_eight_at_once() {
    backend("php");
}

#[test]
fn a_java_backend_makes_twenty_calls_in_a_row_and_eight_at_once() {
    backend("java");
}

#[test]
fn a_ruby_backend_makes_twenty_calls_in_a_row_and_eight_at_once() {
    backend("ruby");
}

#[test]
fn a_cgi_program_makes_twenty_calls_in_a_row_and_eight_at_once() {
    backend("cgi");
}
