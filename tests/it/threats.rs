//! What docs/threat-model.md says of a hostile tool and its containment, tried by one. Each way out that is open is shown to be
//! open too: a page that says less than the truth would be as wrong.
//!
//! This is the half for a gateway of root, whose tools are root as well; elsewhere it is skipped, loudly.

use std::path::Path;

use crate::support::peers::say_skipped;
use crate::support::{Gateway, JSON, PROGRAM, Start, command_output, kill, shown, until};

/// Whether this host can have a containment, and we are who this is about.
fn can(containment: &str) -> bool {
    let said = command_output(&["check", "--containment", containment, "--", PROGRAM, "demo"]);
    let refusal = said.lines().find(|line| line.contains("this host does not allow the containment"));
    let why = match (rustix::process::geteuid().is_root(), refusal) {
        (true, None) => return true,
        (false, _) => "it is about root",
        (true, Some(refusal)) => refusal,
    };
    say_skipped(&format!("the containment {containment}, for root"), why);
    false
}

/// A gateway whose servers are hostile, each in one way.
fn gateway(containment: &str) -> Gateway {
    let hostile = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile.sh");
    let server = |way: &&str| {
        let args = [shown(&hostile), way];
        format!("[servers.{way}]\ncommand = \"/bin/sh\"\nargs = {args:?}\nprotocol = \"legacy\"\n")
    };
    let config: String = ["plain", "move", "keeper", "both"].iter().map(server).collect();
    Gateway::start_by(&config, Start { args: &["--containment", containment], ..Start::default() })
}

/// Lets a hostile server do its worst, and says how many processes outlived it. They are killed.
fn outlived(gateway: &Gateway, way: &str) -> usize {
    let path = format!("/v1/servers/{way}/calls");
    let answer = gateway.request(
        "POST",
        &path,
        &[JSON, ("Spawnling-Wait", "end")],
        r#"{"steps":[{"method":"ping"}]}"#,
    );
    assert_ne!(answer.status, 200, "{answer:?}");
    let left = gateway.servers();
    left.iter().copied().for_each(kill);
    until("who outlived it is killed", || gateway.servers().is_empty());
    left.len()
}

/// Tries every way out, and compares with what the page says: how many get out by each.
fn gets_out(containment: &str, expected: [usize; 4]) {
    if !can(containment) {
        return;
    }
    let gateway = gateway(containment);
    let came = ["plain", "move", "keeper", "both"].map(|way| outlived(&gateway, way));
    assert_eq!(came, expected, "{containment}: plain, move, keeper, both\n{}", gateway.log());
    gateway.settle();
    // To lose a keeper is an error in the log, which an end in order would be blamed for.
    gateway.killed();
}

#[test]
fn root_leaves_a_cgroup_only_if_it_kills_its_keeper_too() {
    gets_out("cgroup", [0, 0, 0, 1]);
}

#[test]
fn whoever_kills_the_keeper_of_a_subreaper_gets_out() {
    gets_out("subreaper", [0, 0, 1, 1]);
}

#[test]
fn nobody_gets_out_of_a_namespace() {
    gets_out("namespace", [0, 0, 0, 0]);
}

#[test]
fn nobody_gets_out_of_a_namespace_in_a_cgroup() {
    gets_out("strict", [0, 0, 0, 0]);
}
