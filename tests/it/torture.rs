//! Nothing survives, whatever the end and whatever the tree: a small helping of `make torture`.
//!
//! The script itself has the matrix, the bounds and the reasons; here it gets the program under test and two rounds of
//! each cell. What a host cannot do is skipped by the script, loudly, and so is the half for which one must be root.

use std::path::Path;
use std::process::Output;

use crate::cli::command;
use crate::support::PROGRAM;
use crate::support::peers::installed;

/// Runs a script; `None` where a program is missing that it needs.
fn script(name: &str, args: &[&str]) -> Option<Output> {
    installed("python3")?;
    installed("cc")?;
    let dir = tempfile::tempdir().expect("a directory");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    // Its gateways' users must be able to reach what it makes, so not below a directory of our own.
    let output = command(path, dir.path()).env_remove("TMPDIR").args(args).output();
    Some(output.expect("it can be started"))
}

#[track_caller]
fn passes(output: Option<Output>, last: &str) {
    let Some(output) = output else { return };
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.lines().last() == Some(last), "{said}\n{told}");
}

#[test]
fn nobody_survives_two_rounds_of_torture() {
    passes(script("torture", &["--spawnling", PROGRAM, "--rounds", "2"]), "survivors: 0");
}

#[test]
fn the_torture_finds_who_does_survive() {
    passes(script("torture", &["--spawnling", PROGRAM, "--self-test"]), "self-test: 6 passed");
}

#[test]
fn the_soak_finds_what_grows() {
    passes(script("soak", &["--self-test"]), "self-test: passed");
}
