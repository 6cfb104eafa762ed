//! The gateway held to its own document: Schemathesis invents requests out of it, good ones and bad ones.

use std::path::Path;

use crate::cli::command;
use crate::support::peers::{Part, peer};
use crate::support::{Gateway, server, shown};

/// So many requests are invented for each operation, beside those that try each bound once.
const EXAMPLES: &str = "4";

const CONFIG: &str = r#"
[browser_agent]
server = "demo"

[[routes]]
path = "/own"
server = "demo"
tool = "echo"

[[routes]]
path = "/own/envelope"
server = "demo"
tool = "echo"
arguments = { message = "/text" }
response = "envelope"
"#;

#[test]
fn every_answer_is_one_that_the_document_promises() {
    let Some(program) = peer(Part::Python, "venv/bin/schemathesis") else { return };
    let gateway = Gateway::start(&format!("{CONFIG}{}deadline = \"2s\"\n", server("demo", &[])));
    let document = gateway.get("/openapi.json?refresh=true").good();
    let tools = document["paths"].as_object().expect("paths").keys();
    assert!(tools.filter(|path| path.starts_with("/v1/servers/demo/tools/")).count() > 3, "{document}");

    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openapi/schemathesis.toml");
    let url = format!("http://{}/openapi.json", gateway.address());
    let dir = tempfile::tempdir().expect("a directory for its report");
    let mut tester = command(program, dir.path());
    tester.args(["--config-file", shown(&settings), "run", &url]);
    tester.args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES]);
    // The same requests in every run, and a call that hangs is a finding.
    tester.args(["--seed", "1", "--generation-database", "none", "--request-timeout", "20", "--no-color"]);
    tester.args(["--continue-on-failure", "--warnings", "off"]);
    let output = tester.output().expect("it can be started");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("No issues found"), "{said}");
    gateway.stop();
}
