//! Limits of the kernel: each stops a server that would go beyond it, and says that it was the limit.

use std::path::Path;

use serde_json::Value;

use super::{Treasure, came, listed, possible, tries};
use crate::support::peers::has_containment;
use crate::support::{Gateway, Start, demo};

/// A server that is this shell script and nothing else, under these limits; `None`: they cannot be had here.
fn greedy(script: &str, limits: &str) -> Option<Gateway> {
    let limits = format!("limits = {{ {limits} }}\n");
    if !possible(&limits) {
        return None;
    }
    let config = format!("[servers.greedy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\n{limits}");
    Some(Gateway::start(&config))
}

/// How it ended.
fn end(gateway: &Gateway) -> Value {
    let problem = gateway.get("/v1/servers/greedy/tools").json();
    assert!(problem["exit"].is_object(), "{problem}");
    problem["exit"].clone()
}

#[test]
fn a_server_that_takes_too_much_memory_is_told_apart_from_one_that_crashed() {
    // It keeps the last line, which has no end.
    let Some(gateway) = greedy("exec tail -n 1 /dev/zero", "memory = \"32MiB\"") else { return };
    let end = end(&gateway);
    assert_eq!((&end["cause"], &end["signal"]), (&"memory".into(), &9.into()), "{end}");
    gateway.stop();

    let gateway =
        Gateway::start("[servers.greedy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"kill -9 $$\"]\n");
    let end = self::end(&gateway);
    assert_eq!((&end["cause"], &end["signal"]), (&Value::Null, &9.into()), "{end}");
    gateway.stop();
}

#[test]
fn a_server_that_starts_too_many_processes_is_refused_more() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; exit 3";
    let Some(gateway) = greedy(script, "processes = 4") else { return };
    let end = end(&gateway);
    assert_eq!(end["cause"], "processes", "{end}");
    assert_ne!(end["code"], 3, "{end}");
    gateway.stop();
}

#[test]
fn a_server_that_computes_too_long_is_ended() {
    let Some(gateway) = greedy("while :; do :; done", "cpu_time = \"1s\"") else { return };
    assert_eq!(end(&gateway)["cause"], "cpu");
    gateway.stop();
}

#[test]
fn a_server_that_does_not_heed_the_end_of_its_time_is_known_to_have_been_killed_for_it() {
    let config = "[servers.greedy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"trap '' XCPU; while :; do :; done\"]\n\
                  limits = { cpu_time = \"1s\" }\n";
    for containment in ["group", "subreaper", "namespace"] {
        if containment != "group" && !has_containment(containment) {
            continue;
        }
        let args = ["--containment", containment];
        let gateway = Gateway::start_by(config, Start { args: &args, ..Start::default() });
        let end = end(&gateway);
        assert_eq!((&end["cause"], &end["signal"]), (&"cpu".into(), &9.into()), "{containment}: {end}");
        gateway.stop();
    }
}

#[test]
fn a_server_whose_own_server_computes_too_long_is_known_to_have_ended_of_that() {
    // The one in front passes the other's end on; or has no word for it, and whoever adopts the other sees how that has ended.
    let passed_on = "sh -c 'while :; do :; done'; exit $?";
    let orphaned = "(sh -c 'while :; do :; done' & echo $! >pid)
        while kill -0 $(cat pid); do sleep 0.05; done; exit 3";
    for (script, code) in [(passed_on, 152), (orphaned, 3)] {
        let Some(gateway) = greedy(script, "cpu_time = \"1s\"") else { return };
        let end = end(&gateway);
        assert_eq!((&end["cause"], &end["code"]), (&"cpu".into(), &code.into()), "{end}");
        gateway.stop();
    }
    let gateway = Gateway::start("[servers.greedy]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"exit 152\"]\n");
    let end = end(&gateway);
    assert_eq!((&end["cause"], &end["code"]), (&Value::Null, &152.into()), "{end}");
    gateway.stop();
}

#[test]
fn a_server_writes_no_more_than_it_may() {
    let treasure = Treasure::new();
    for limits in ["file_size = \"1MiB\"", "scratch = \"1MiB\""] {
        let limits = format!("limits = {{ {limits}, open_files = 64 }}\n");
        if !possible(&limits) {
            continue;
        }
        let gateway = Gateway::start(&treasure.thief("thief", &limits));
        let tries = tries(&gateway, "thief");
        came(&tries, &["scratch", "tmpdir"], &["big", "core"]);
        assert_eq!(tries["files"], "64");
        gateway.stop();
    }
}

#[test]
fn the_limits_are_listed_and_a_tree_is_put_under_them_together_with_a_sandbox() {
    let treasure = Treasure::new();
    let limits = "limits = { memory = \"64MiB\", processes = 20, cpu = \"50%\" }\n";
    let settings = format!("{limits}sandbox = {{ seccomp = true }}\n");
    if !possible(&settings) {
        return;
    }
    let gateway = Gateway::start(&(treasure.thief("thief", &settings) + &demo(&[]) + &settings));
    let told = &listed(&gateway, "thief")["limits"];
    for (member, limit) in [("memory_bytes", 64 << 20), ("processes", 20), ("cpu_percent", 50)] {
        assert_eq!(
            (&told[member]["limit"], &told[member]["enforced"]),
            (&limit.into(), &true.into()),
            "{told}"
        );
    }
    let answer = gateway.tool_to_its_end("echo", r#"{"message":"hello"}"#);
    assert!(answer.receipt("peak-memory-bytes").parse::<u64>().is_ok_and(|bytes| bytes > 0), "{answer:?}");
    let tries = tries(&gateway, "thief");
    assert_eq!(tries["Seccomp"], "2");
    gateway.stop();
    // Where the controller is of version 1, its cgroup was ours to remove.
    let cgroup = Path::new("/sys/fs/cgroup/memory").join(tries["cgroup"].trim_start_matches('/'));
    assert!(tries["cgroup"].is_empty() || !cgroup.exists(), "{} is left", cgroup.display());
}
