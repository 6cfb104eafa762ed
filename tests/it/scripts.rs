//! The scripts around the program: that each can fail on what it is there for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;

mod operator;

use crate::cli::command;
use crate::support::peers::installed;
use crate::support::{Gateway, PROGRAM, demo};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `.ci/run` has `make` know of the variable that makes every real server a must.
fn required_by_ci(given: Option<&str>) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    for program in ["make", "cargo"] {
        let path = dir.path().join(program);
        let text = "#!/bin/sh\necho \"$@: ${SPAWNLING_REQUIRE_PEERS-unset}\"\n";
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
    }
    let theirs = std::env::var_os("PATH").unwrap_or_default();
    let path = [dir.path().to_owned()].into_iter().chain(std::env::split_paths(&theirs));
    let mut ci = command(root().join(".ci/run"), dir.path());
    ci.env("PATH", std::env::join_paths(path).expect("no path holds a colon")).env("HOME", dir.path());
    match given {
        Some(value) => ci.env("SPAWNLING_REQUIRE_PEERS", value),
        None => ci.env_remove("SPAWNLING_REQUIRE_PEERS"),
    };
    let output = ci.output().expect("it can be started");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_script_that_hangs_up_fails_where_calls_outlive_their_callers() {
    if installed("curl").is_none() {
        return;
    }
    let gateway =
        Gateway::start(&(String::from("drain = \"100ms\"\n") + &demo(&[]) + "on_disconnect = \"finish\"\n"));
    let mut script = command(root().join("scripts/curl/hang-up"), &gateway.tmp());
    script.env("SPAWNLING_URL", format!("http://{}", gateway.address())).env_remove("SPAWNLING_TOKEN");
    let output = script.output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("calls outlived their callers"), "{output:?}");
    gateway.signal(Signal::TERM);
    gateway.ended();
}

#[test]
fn the_curl_scripts_with_tokens_meet_what_they_expect() {
    if installed("curl").is_none() {
        return;
    }
    let config = include_str!("../../scripts/curl/tokens/gateway.toml");
    let gateway = Gateway::start(&config.replace("\"spawnling\"", &format!("{PROGRAM:?}")));
    let mut script = command(root().join("scripts/curl/all"), &gateway.tmp());
    script.arg("tokens").env("SPAWNLING_URL", format!("http://{}", gateway.address()));
    let output = script.env_remove("SPAWNLING_TOKEN").output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("6 passed, 0 failed"), "{output:?}");
    gateway.stop();
}

#[test]
fn ci_takes_no_skipped_test_for_a_passed_one() {
    assert_eq!(required_by_ci(None), "check: 1\n");
    assert_eq!(required_by_ci(Some("0")), "check: 0\n");
}

#[test]
fn the_five_lines_in_the_readme_of_a_backend_are_lines_of_it() {
    for (name, program) in
        [("php", "app.php"), ("java", "Server.java"), ("ruby", "app.rb"), ("cgi", "cgi-bin/api")]
    {
        let directory = root().join("scripts/legacy").join(name);
        let [page, code] = ["README.md", program].map(|file| {
            fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
        });
        let (_, lines) = page.split_once("\n```").expect("a block");
        let (_, lines) = lines.split_once('\n').expect("a language");
        let (lines, _) = lines.split_once("```").expect("its end");
        assert!(code.contains(lines), "{name}: not in {program}:\n{lines}");
        assert!(lines.lines().count() <= 5, "{name}: more than five lines");
    }
}
