//! The configuration, as the running program deals with it.

use std::fs;

use crate::support::{Gateway, JSON, Start};

/// A server that tells everybody everything, and dies of it.
const TALKATIVE: &str = r#"
[servers.talkative]
command = "sh"
args = ["-c", "printf 'bad key '; echo \"$KEY\"; printf 'I have %s' \"$KEY\" >&2; echo \" and $SHELL_KEY $OPEN\" >&2; exit 1"]
env = { KEY = "${file:key}", OPEN = "${OPEN_VALUE}" }
pass_env = ["SHELL_KEY"]
secret_env = ["SHELL_*"]
protocol = "legacy"
"#;

#[test]
fn a_secret_that_a_server_repeats_is_masked_wherever_we_write_it() {
    let (key, shell_key) = ("k-0123456789abcdef", "s-fedcba9876543210");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key"), format!("{key}\n")).unwrap();
    let config = TALKATIVE.replace("file:key", &format!("file:{}", dir.path().join("key").display()));
    let env = [("SHELL_KEY", shell_key), ("OPEN_VALUE", "an-open-value"), ("SPAWNLING_LOG", "trace")];
    let gateway = Gateway::start_by(&config, Start { env: &env, ..Start::default() });
    let answer = gateway.request("POST", "/v1/servers/talkative/tools/x", &[JSON], "{}");
    let problem = answer.problem(502, "open-failed");
    assert_eq!(problem["stderr_tail"], "I have *** and *** an-open-value\n", "{answer:?}");
    assert_eq!(problem["noise"][0], "bad key ***", "{answer:?}");
    let id = answer.header("spawnling-call-id").unwrap();
    let receipt = gateway.request("GET", &format!("/v1/calls/{id}"), &[("Spawnling-Wait", "end")], "");
    gateway.settle();
    gateway.signal(rustix::process::Signal::TERM);
    let log = gateway.ended();
    assert!(log.contains("*** an-open-value"), "{log}");
    for text in [&answer.body, &format!("{:?}", answer.headers), &receipt.body, &log] {
        assert!(!text.contains(key) && !text.contains(shell_key), "{text}");
    }
}
