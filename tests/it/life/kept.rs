//! What is kept by a process of ours between: odd ends, and what must not come through.

use serde_json::{Value, json};

use super::{ECHO, HASTE, begin_work};
use crate::support::peers::has_containment;
use crate::support::{Gateway, PROGRAM, Start, alive, demo, processes, until};
use rustix::process::{Pid, Signal, kill_process};

const KEPT: Start<'static> =
    Start { env: &[], args: &["--containment", "subreaper"], script: None, mark: None, stdin: None };

/// The demo server, once a shell has done something else.
fn after(script: &str) -> String {
    let script = format!("{script} exec {PROGRAM} demo --faults");
    format!("[servers.demo]\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nprotocol = \"legacy\"\n")
}

fn process(gateway: &Gateway, tool: &str, arguments: &str) -> Value {
    let answer = gateway.tool(tool, arguments);
    let call = answer.header("spawnling-call-id").expect("a call has an id");
    let receipt = gateway.request("GET", &format!("/v1/calls/{call}"), &[("Spawnling-Wait", "end")], "");
    receipt.good()["process"].clone()
}

#[test]
fn an_end_by_a_real_time_signal_is_an_end_and_no_proof_that_nobody_is_left() {
    // The orphan is dead when the server begins: its end of the pipe is closed.
    let gateway = Gateway::start_by(
        &after("setsid sleep 600 </dev/null >/dev/null 2>&1 & (sh -c 'kill -40 $$' &) | cat;"),
        KEPT,
    );
    // One keeper serves them all.
    for _ in 0..3 {
        let process = process(&gateway, "echo", ECHO);
        assert_eq!((&process["killed"], &process["rung"]), (&json!(1), &json!("eof")), "{process}");
    }
    gateway.stop();
    let gateway = Gateway::start_by(&after("trap 'kill -40 $$' EXIT; true;").replace("exec ", ""), KEPT);
    let process = process(&gateway, "echo", ECHO);
    assert_eq!(process["exit"]["signal"], json!(40), "{process}");
    gateway.stop();
}

#[test]
fn a_descriptor_that_a_kept_gateway_was_started_with_reaches_no_server() {
    let script = Some("exec 7<it.toml; exec \"$0\" \"$@\"");
    let gateway = Gateway::start_by(&demo(&[]), Start { script, ..KEPT });
    let call = begin_work(&gateway, 600.0);
    let [server] = *gateway.servers() else { panic!("one server") };
    let descriptors = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap();
    let files: Vec<_> =
        descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!files.is_empty() && !files.iter().any(|file| file.ends_with("it.toml")), "{files:?}");
    drop(call);
    gateway.stop();
}

#[test]
fn a_gateway_that_was_started_with_its_childrens_deaths_ignored_learns_of_them() {
    for containment in ["group", "subreaper"] {
        let args = ["--containment", containment];
        let script = Some("exec env --ignore-signal=CHLD \"$0\" \"$@\"");
        let gateway = Gateway::start_by(&demo(&[]), Start { script, args: &args, ..KEPT });
        let process = process(&gateway, "echo", ECHO);
        assert_eq!(process["exit"], json!({"code": 0}), "{process}");
        gateway.stop();
    }
}

#[test]
fn a_keeper_that_somebody_has_stopped_ends_its_tree() {
    let gateway = Gateway::start_by(&(demo(&[]) + HASTE), KEPT);
    let call = begin_work(&gateway, 600.0);
    let [server] = *gateway.servers() else { panic!("one server") };
    let keeper = processes::parent_of(server).and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).unwrap();
    kill_process(keeper, Signal::STOP).unwrap();
    drop(call);
    gateway.stop();
}

fn stop(processes: &[u32]) {
    for pid in processes {
        kill_process(Pid::from_raw((*pid).try_into().unwrap()).unwrap(), Signal::STOP).unwrap();
    }
}

#[test]
fn a_keeper_that_was_stopped_while_it_waited_is_replaced() {
    let gateway = Gateway::start_by(&demo(&[]), KEPT);
    assert_eq!(gateway.tool_to_its_end("echo", ECHO).said(), "hello");
    let [keeper] = *processes::keepers_of(gateway.pid()) else { panic!("one keeper") };
    let pid = Pid::from_raw(keeper.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    until("it has stopped", || {
        std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap().contains("State:\tT")
    });
    assert_eq!(gateway.tool_to_its_end("echo", ECHO).said(), "hello");
    let keepers = processes::keepers_of(gateway.pid());
    assert!(keepers.len() == 1 && !keepers.contains(&keeper), "{keeper}: {keepers:?}");
    // Nor does the end of the gateway wait for one that is stopped.
    stop(&keepers);
    gateway.stop();
}

#[test]
fn a_gateway_that_is_killed_takes_its_trees_along_though_its_keepers_were_stopped() {
    for containment in ["subreaper", "namespace"] {
        let args = ["--containment", containment];
        if !has_containment(containment) {
            continue;
        }
        let gateway = Gateway::start_by(&demo(&[]), Start { args: &args, ..KEPT });
        let call = begin_work(&gateway, 600.0);
        let keepers = processes::keepers_of(gateway.pid());
        let below =
            |above: &[u32]| above.iter().flat_map(|pid| processes::keepers_of(*pid)).collect::<Vec<_>>();
        let (guards, keepers) = (keepers.clone(), below(&keepers));
        let inits = below(&keepers);
        assert_eq!(inits.is_empty(), containment == "subreaper", "{keepers:?} {inits:?}");
        let helpers = [guards, keepers, inits].concat();
        stop(&helpers);
        gateway.killed();
        until("the keepers have left", || !helpers.iter().any(|pid| alive(*pid)));
        drop(call);
    }
}
