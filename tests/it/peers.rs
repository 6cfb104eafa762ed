//! Real servers, on the official SDKs of three languages and of both eras, are called as the demo server is.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::peers::{Part, installed, offline, peer};
use crate::support::{Gateway, JSON, Response, Start, events, example, shown, until};

/// A real server, and what is known of it.
struct Real<'a> {
    program: PathBuf,
    args: &'a [&'a str],
    era: &'a str,
    /// What `serverInfo` calls it.
    name: &'a str,
    /// Some of its tools.
    tools: &'a [&'a str],
    /// A call of the first of them.
    arguments: &'a str,
    /// What is in its text.
    text: &'a str,
}

impl Real<'_> {
    fn gateway(&self) -> Gateway {
        self.gateway_with("")
    }

    fn gateway_with(&self, keys: &str) -> Gateway {
        let (program, args) = (shown(&self.program), self.args);
        // On a busy machine an interpreter may need long to leave, too.
        let config =
            format!("[servers.real]\ncommand = {program:?}\nargs = {args:?}\neof_grace = \"20s\"\n{keys}");
        let offline = offline();
        let env: Vec<(&str, &str)> =
            offline.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Gateway::start_by(&config, Start { env: &env, ..Start::default() })
    }

    /// Meets it as a stranger, learns what it is, calls it again as what it is, and looks for anything left.
    fn is_served(&self) {
        let gateway = self.gateway();
        self.call(&gateway);
        until("its era is known", || !gateway.get("/v1/servers").good()["servers"][0]["era"].is_null());
        gateway.settle();
        let about = gateway.get("/v1/servers/real").good();
        assert_eq!(
            (&about["era"], &about["serverInfo"]["name"]),
            (&self.era.into(), &self.name.into()),
            "{about}"
        );
        let listed = gateway.get("/v1/servers/real/tools").good();
        let listed: Vec<&str> = listed["tools"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        assert!(self.tools.iter().all(|tool| listed.contains(tool)), "{listed:?}");
        self.call(&gateway);
        gateway.stop();
    }

    /// Asks it again and again while it lives, and finds nothing of it when its gateway has ended.
    fn is_served_by_one_process(&self, strategy: &str) {
        let gateway = self.gateway_with(&format!("strategy = {strategy:?}\n"));
        let path = format!("/v1/servers/real/tools/{}", self.tools[0]);
        let answers = [(); 4].map(|()| {
            let answer = gateway.request("POST", &path, &[JSON, ("Spawnling-Wait", "end")], self.arguments);
            assert!(answer.said().contains(self.text), "{strategy}: {answer:?}");
            let receipt = answer.header("spawnling-receipt").expect("its process is told");
            assert!(receipt.contains(", kept, "), "{strategy}: {receipt}");
            answer
        });
        let pids = answers.map(|answer| answer.receipt("pid").to_owned());
        assert!(pids.iter().all(|pid| *pid == pids[0]), "{strategy}: {pids:?}");
        gateway.signal(Signal::TERM);
        gateway.ended();
    }

    /// One call to its end, which it reaches by itself when its stdin is closed.
    fn call(&self, gateway: &Gateway) {
        let path = format!("/v1/servers/real/tools/{}", self.tools[0]);
        let answer = gateway.request("POST", &path, &[JSON, ("Spawnling-Wait", "end")], self.arguments);
        assert!(answer.said().contains(self.text), "{answer:?}");
        assert_eq!(answer.receipt("rung"), "eof", "{answer:?}");
        assert_eq!((answer.receipt("exit-code"), answer.receipt("killed")), ("0", "0"), "{answer:?}");
    }
}

/// `mcp-server-time`, however it is started.
fn time<'a>(program: PathBuf, args: &'a [&'a str], era: &'a str) -> Real<'a> {
    Real {
        program,
        args,
        era,
        name: "mcp-time",
        tools: &["get_current_time", "convert_time"],
        arguments: r#"{"timezone":"Europe/Berlin"}"#,
        text: "Europe/Berlin",
    }
}

/// `server-everything`, however it is started.
fn everything<'a>(program: PathBuf, args: &'a [&'a str]) -> Real<'a> {
    Real {
        program,
        args,
        era: "legacy",
        name: "mcp-servers/everything",
        tools: &["get-sum", "echo", "get-env"],
        arguments: r#"{"a":19,"b":23}"#,
        text: "42",
    }
}

fn rust<'a>(name: &str, era: &'a str) -> Real<'a> {
    let (tools, arguments) = (&["add", "slow"], r#"{"a":19,"b":23}"#);
    Real { program: example(name), args: &[], era, name: "rmcp", tools, arguments, text: "42" }
}

#[test]
fn a_server_on_the_rust_sdk_of_the_legacy_era_which_leaves_on_a_probe_is_served() {
    rust("rmcp1-server", "legacy").is_served();
}

#[test]
fn a_server_on_the_rust_sdk_of_both_eras_is_served() {
    rust("rmcp3-server", "modern").is_served();
}

#[test]
fn a_server_on_the_python_sdk_of_both_eras_is_served() {
    if let Some(program) = peer(Part::Python, "venv/bin/mcp-server-time") {
        time(program, &[], "modern").is_served();
    }
}

#[test]
fn a_server_on_the_python_sdk_of_the_legacy_era_is_served() {
    if let Some(program) = peer(Part::Python, "venv-legacy/bin/mcp-server-time") {
        time(program, &[], "legacy").is_served();
    }
}

#[test]
fn a_server_is_served_through_uvx() {
    if let Some(uvx) = peer(Part::Python, "venv/bin/uvx") {
        time(uvx, &["mcp-server-time"], "modern").is_served();
    }
}

#[test]
fn a_git_server_tells_what_was_committed() {
    let (Some(program), Some(git)) = (peer(Part::Python, "venv/bin/mcp-server-git"), installed("git")) else {
        return;
    };
    let repository = tempfile::tempdir().expect("a directory");
    commit(&git, repository.path(), "born, asked, proved dead");
    let path = shown(repository.path());
    let arguments = format!(r#"{{"repo_path":{path:?},"max_count":1}}"#);
    Real {
        program,
        args: &["--repository", path],
        era: "modern",
        name: "mcp-git",
        tools: &["git_log", "git_status", "git_diff"],
        arguments: &arguments,
        text: "born, asked, proved dead",
    }
    .is_served();
}

#[expect(clippy::disallowed_methods, reason = "the test itself makes a repository to look at")]
fn commit(git: &Path, repository: &Path, message: &str) {
    let who = ["-c", "user.name=it", "-c", "user.email=it@localhost", "-c", "commit.gpgsign=false"];
    for args in [&["init", "--quiet"][..], &["commit", "--quiet", "--allow-empty", "--message", message]] {
        let done = Command::new(git).current_dir(repository).args(who).args(args).status();
        assert!(done.expect("git runs").success(), "{args:?}");
    }
}

#[test]
fn a_server_on_the_typescript_sdk_is_served() {
    if let Some(program) = peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything") {
        everything(program, &[]).is_served();
    }
}

#[test]
fn a_server_in_python_answers_one_call_after_the_other_and_many_at_once() {
    if let Some(program) = peer(Part::Python, "venv/bin/mcp-server-time") {
        let server = time(program, &[], "modern");
        server.is_served_by_one_process("pooled");
        server.is_served_by_one_process("shared");
    }
}

#[test]
fn a_server_in_javascript_answers_one_call_after_the_other_and_many_at_once() {
    if let Some(program) = peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything") {
        let server = everything(program, &[]);
        server.is_served_by_one_process("pooled");
        server.is_served_by_one_process("shared");
    }
}

#[test]
fn a_server_is_served_through_npx() {
    let package = "@modelcontextprotocol/server-everything";
    let (Some(_), Some(npx)) =
        (peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything"), installed("npx"))
    else {
        return;
    };
    let pins = include_str!("../fixtures/peers/package.json");
    let pins: serde_json::Value = serde_json::from_str(pins).expect("the versions");
    let version = pins["dependencies"][package].as_str().expect("a version");
    everything(npx, &["-y", &format!("{package}@{version}")]).is_served();
}

#[test]
fn a_file_server_reads_what_is_there() {
    let Some(program) = peer(Part::Node, "npm/node_modules/.bin/mcp-server-filesystem") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    // It compares real paths.
    let dir = dir.path().canonicalize().expect("it is there");
    let file = dir.join("note.txt");
    std::fs::write(&file, "nothing is left").expect("a file");
    let arguments = format!(r#"{{"path":{file:?}}}"#);
    Real {
        program,
        args: &[shown(&dir)],
        era: "legacy",
        name: "secure-filesystem-server",
        tools: &["read_text_file", "write_file", "list_directory"],
        arguments: &arguments,
        text: "nothing is left",
    }
    .is_served();
}

#[test]
fn all_that_a_real_server_offers_is_listed_read_and_listened_to() {
    let Some(program) = peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything") else { return };
    let gateway = everything(program, &[]).gateway();
    let get = |kind: &str| gateway.get(&format!("/v1/servers/real/{kind}")).good();
    let prompts = get("prompts");
    assert!(prompts["prompts"].as_array().is_some_and(|all| all.len() > 1), "{prompts}");
    let templates = get("resource-templates");
    assert!(templates["resourceTemplates"].as_array().is_some_and(|all| !all.is_empty()), "{templates}");
    let resources = get("resources");
    let uri = resources["resources"][0]["uri"].as_str().expect("a resource");
    let read = gateway.post("/v1/servers/real/resources/read", &format!(r#"{{"uri":{uri:?}}}"#)).good();
    assert_eq!(read["contents"][0]["uri"], uri);
    let prompt = gateway.post("/v1/servers/real/prompts/simple-prompt", "{}").good();
    assert_eq!(prompt["messages"][0]["role"], "user", "{prompt}");
    gateway.post("/v1/servers/real/prompts/nonesuch", "{}").problem(404, "unknown-prompt");
    progress(&gateway);
    gateway.stop();
}

/// A long operation tells of its progress, and then has its result.
fn progress(gateway: &Gateway) {
    let path = "/v1/servers/real/tools/trigger-long-running-operation";
    let headers = [JSON, ("Accept", "text/event-stream")];
    let answer: Response = gateway.request("POST", path, &headers, r#"{"duration":0.3,"steps":3}"#);
    let events = events(&answer.body);
    let (last, before) = events.split_last().expect("events");
    assert_eq!(last.name, "result", "{events:?}");
    let steps: Vec<_> = before
        .iter()
        .filter(|event| event.name == "progress")
        .map(|event| event.data["progress"].as_f64())
        .collect();
    assert_eq!(steps, [Some(1.0), Some(2.0), Some(3.0)], "{events:?}");
}
