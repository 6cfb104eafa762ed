//! The presets, with the real thing: the server of each kind starts and answers, and a thief that takes the same way in
//! gets at nothing.

use std::path::{Path, PathBuf};

use super::{Treasure, came, in_reach, possible, thief, tries};
use crate::support::peers::{Part, installed, offline, peer};
use crate::support::{Gateway, Response, Start, shown};

/// A kind of server.
struct Kind<'a> {
    preset: &'a str,
    program: &'a Path,
    /// How the real server is started by it,
    real: &'a [&'a str],
    /// and how the thief is.
    thief: &'a [&'a str],
    /// A call of the real one, and what is in its answer.
    call: (&'a str, &'a str, &'a str),
}

impl Kind<'_> {
    fn works_and_keeps_a_thief_out(&self) {
        if !possible(&format!("sandbox = {{ preset = {} }}", self.preset)) {
            return;
        }
        let treasure = Treasure::new();
        let (thief, shared) = (thief(), treasure.shared());
        let (fixtures, shared) = (shown(thief.parent().unwrap()), shown(&shared));
        let sandbox =
            format!("sandbox = {{ preset = {}, read = [{fixtures:?}], write = [{shared:?}] }}", self.preset);
        let server = |name: &str, args: &[&str], sandbox: &str| {
            let program = shown(self.program);
            let graces = "eof_grace = \"20s\"\nprotocol = \"legacy\"";
            format!(
                "\n[servers.{name}]\ncommand = {program:?}\nargs = {args:?}\n{}{graces}\n{sandbox}\n",
                treasure.env()
            )
        };
        let config = server("real", self.real, &sandbox)
            + &server("thief", self.thief, &sandbox)
            + &server("free", self.thief, "");
        let offline = offline();
        let mut env: Vec<(&str, &str)> =
            offline.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.push(("HOME", shown(treasure.home())));
        let gateway = Gateway::start_by(&config, Start { env: &env, ..Start::default() });
        let (tool, arguments, text) = self.call;
        let answer: Response = gateway.post(&format!("/v1/servers/real/tools/{tool}"), arguments);
        assert!(answer.said().contains(text), "{answer:?}");
        let done = ["shared", "scratch", "tmpdir", "tmp", "shm"];
        came(&tries(&gateway, "thief"), &done, &["read", "write", "foreign", "signal", "spy", "sockets"]);
        assert!(!treasure.home().join("stolen").exists());
        // Nothing of this proves anything if the way was barred by something else.
        let free = tries(&gateway, "free");
        came(&free, &["read", "write", "foreign"], &[]);
        came(&free, in_reach(&gateway), &[]);
        gateway.stop();
    }
}

const BY_PYTHON: &str = "import os; os.execvp('sh', ['sh', os.environ['THIEF']])";
const BY_NODE: &str = "require('child_process').execFileSync('sh', [process.env.THIEF], {stdio: 'inherit'})";
const TIME: (&str, &str, &str) = ("get_current_time", r#"{"timezone":"Europe/Berlin"}"#, "Europe/Berlin");
const SUM: (&str, &str, &str) = ("get-sum", r#"{"a":19,"b":23}"#, "42");

#[test]
fn a_python_server_works_in_its_preset() {
    let (Some(python), Some(server)) =
        (peer(Part::Python, "venv/bin/python"), peer(Part::Python, "venv/bin/mcp-server-time"))
    else {
        return;
    };
    let real = [shown(&server)];
    let kind =
        Kind { preset: "\"python\"", program: &python, real: &real, thief: &["-c", BY_PYTHON], call: TIME };
    kind.works_and_keeps_a_thief_out();
}

#[test]
fn a_python_program_brings_its_own_interpreter() {
    let Some(server) = peer(Part::Python, "venv-legacy/bin/mcp-server-time") else { return };
    if !possible("sandbox = { preset = \"python\" }") {
        return;
    }
    let program = shown(&server);
    let config = format!(
        "[servers.real]\ncommand = {program:?}\nprotocol = \"legacy\"\nsandbox = {{ preset = \"python\", network = false }}\n"
    );
    let gateway = Gateway::start(&config);
    let answer = gateway.post("/v1/servers/real/tools/get_current_time", TIME.1);
    assert!(answer.said().contains(TIME.2), "{answer:?}");
    gateway.stop();
}

#[test]
fn a_node_server_works_in_its_preset() {
    let (Some(node), Some(server)) =
        (installed("node"), peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything"))
    else {
        return;
    };
    let real = [shown(&server)];
    let kind = Kind { preset: "\"node\"", program: &node, real: &real, thief: &["-e", BY_NODE], call: SUM };
    kind.works_and_keeps_a_thief_out();
}

#[test]
fn uvx_works_in_its_preset() {
    let Some(uvx) = peer(Part::Python, "venv/bin/uvx") else { return };
    let (real, thief) = (["mcp-server-time"], ["python", "-c", BY_PYTHON]);
    let kind = Kind { preset: "\"uvx\"", program: &uvx, real: &real, thief: &thief, call: TIME };
    kind.works_and_keeps_a_thief_out();
}

#[test]
fn npx_works_in_its_preset() {
    let (Some(_), Some(npx)) =
        (peer(Part::Node, "npm/node_modules/.bin/mcp-server-everything"), installed("npx"))
    else {
        return;
    };
    let package = "@modelcontextprotocol/server-everything";
    let pins = include_str!("../../fixtures/peers/package.json");
    let pins: serde_json::Value = serde_json::from_str(pins).expect("the versions");
    let package = format!("{package}@{}", pins["dependencies"][package].as_str().expect("a version"));
    let (real, thief) = (["-y", package.as_str()], ["-c", "sh $THIEF"]);
    let kind = Kind { preset: "\"npx\"", program: &npx, real: &real, thief: &thief, call: SUM };
    kind.works_and_keeps_a_thief_out();
}

/// A page for a browser that has nothing but files.
const PAGE: &str = "data:text/html,<title>Found</title><h1>Here</h1>";

#[test]
fn chromium_works_in_its_preset() {
    let (Some(server), Some(node), Some(chromium)) =
        (peer(Part::Node, "npm/node_modules/.bin/playwright-mcp"), installed("node"), installed("chromium"))
    else {
        return;
    };
    let mut real = vec![shown(&server), "--headless", "--executable-path", shown(&chromium)];
    if super::is_root() {
        real.push("--no-sandbox");
    }
    let arguments = format!("{{\"url\":{PAGE:?}}}");
    let call = ("browser_navigate", arguments.as_str(), "Page Title: Found");
    let preset = r#"["node", "browser"]"#;
    let kind = Kind { preset, program: &node, real: &real, thief: &["-e", BY_NODE], call };
    kind.works_and_keeps_a_thief_out();
}

#[test]
fn a_file_server_serves_what_it_was_given_and_the_sandbox_keeps_the_rest() {
    let Some(server) = peer(Part::Node, "npm/node_modules/.bin/mcp-server-filesystem") else { return };
    let treasure = Treasure::new();
    let shared: PathBuf = treasure.shared().canonicalize().unwrap();
    std::fs::write(shared.join("note"), "for all").unwrap();
    let sandbox = format!("sandbox = {{ preset = \"node\", read = [{shared:?}] }}");
    if !possible("sandbox = { preset = \"node\" }") {
        return;
    }
    // It would hand out all of the home directory.
    let home = treasure.home().canonicalize().unwrap();
    let (program, args) = (shown(&server), [shown(&home)]);
    let config = format!(
        "[servers.files]\ncommand = {program:?}\nargs = {args:?}\nprotocol = \"legacy\"\n{sandbox}\n"
    );
    let gateway = Gateway::start(&config);
    let read = |file: &Path| {
        gateway.post("/v1/servers/files/tools/read_text_file", &format!("{{\"path\":{file:?}}}"))
    };
    assert!(read(&shared.join("note")).said().contains("for all"));
    let refused = read(&home.join(".ssh/id_x"));
    assert_eq!(refused.status, 424, "{refused:?}");
    assert!(refused.body.contains("EACCES"), "{refused:?}");
    gateway.stop();
}
