//! What is kept by a process of ours between: odd ends, and what must not come through.

use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use super::{ECHO, HASTE, begin_work};
use crate::support::peers::has_containment;
use crate::support::{
    Gateway, PROGRAM, Pending, Start, alive, demo, example, processes, shown, until, until_some,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};

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

/// docs/decisions/sessions-of-keepers.md
#[test]
fn a_tree_is_kept_in_a_session_of_its_own_and_its_guard_stays_in_the_gateways() {
    let session = |pid: u32| processes::session_of(pid).unwrap();
    let gateway = Gateway::start_by(&demo(&[]), KEPT);
    let calls = [begin_work(&gateway, 600.0), begin_work(&gateway, 600.0)];
    let servers = until_some("both serve", || Some(gateway.servers()).filter(|servers| servers.len() == 2));
    let keepers: Vec<u32> = servers.iter().map(|pid| processes::parent_of(*pid).unwrap()).collect();
    for (server, keeper) in servers.iter().zip(&keepers) {
        let guard = processes::parent_of(*keeper).unwrap();
        assert_eq!(session(*keeper), *keeper);
        assert_eq!(session(*server), session(*keeper));
        assert_eq!(session(guard), session(gateway.pid()));
    }
    drop(calls);
    gateway.stop();
}

fn stop(processes: &[u32]) {
    for pid in processes {
        kill_process(Pid::from_raw((*pid).try_into().unwrap()).unwrap(), Signal::STOP).unwrap();
    }
}

fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tT")
}

#[test]
fn a_keeper_that_was_stopped_while_it_waited_is_replaced() {
    let gateway = Gateway::start_by(&demo(&[]), KEPT);
    assert_eq!(gateway.tool_to_its_end("echo", ECHO).said(), "hello");
    let [keeper] = *processes::keepers_of(gateway.pid()) else { panic!("one keeper") };
    let pid = Pid::from_raw(keeper.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    until("it has stopped", || is_stopped(keeper));
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

/// All that a process has open, as a child of it has that was not yet executed (`pidfd_getfd(2)`).
fn descriptors_of(pid: u32) -> Vec<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(pid.try_into().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let numbers = names.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    numbers.filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()).collect()
}

#[test]
fn a_gateway_that_is_killed_takes_its_trees_along_though_somebody_holds_all_that_it_had_open() {
    for containment in ["cgroup", "namespace", "subreaper"] {
        if !has_containment(containment) {
            continue;
        }
        let args = ["--containment", containment];
        let gateway = Gateway::start_by(&demo(&[]), Start { args: &args, ..KEPT });
        let call = begin_work(&gateway, 600.0);
        let helpers = children(gateway.pid());
        let held = descriptors_of(gateway.pid());
        assert!(held.len() > helpers.len(), "{held:?} {helpers:?}");
        gateway.signal(Signal::KILL);
        until("its servers have gone", || gateway.servers().is_empty());
        until("its helpers have gone", || !helpers.iter().any(|pid| alive(*pid)));
        drop(held);
        drop(call);
        gateway.was_killed();
    }
}

/// The guard of a keeper that is hired now, stopped before it could see to anything: it has no handler yet
/// (`proc_pid_status(5)`, `SigCgt`). Beside it the calls that keepers were hired for.
fn stopped_at_birth(gateway: &Gateway) -> (u32, Vec<Pending>) {
    // For the first call there is the keeper that the containment was tried out with.
    let mut calls = vec![gateway.begin_tool("sleep", r#"{"seconds":600}"#)];
    gateway.until_servers(1);
    loop {
        assert!(calls.len() < 40, "each had seen to itself when it was found");
        let known = children(gateway.pid());
        calls.push(gateway.begin_tool("sleep", r#"{"seconds":600}"#));
        let born = until_some("a guard", || {
            children(gateway.pid()).into_iter().find(|child| !known.contains(child))
        });
        stop(&[born]);
        until("it has stopped", || is_stopped(born));
        let status = std::fs::read_to_string(format!("/proc/{born}/status")).unwrap();
        if status.contains("SigCgt:\t0000000000000000") {
            return (born, calls);
        }
        processes::signal(born, Signal::CONT);
        gateway.until_servers(calls.len());
    }
}

/// As soon as they are there, so without a look at anybody else (`proc_tid_children(5)`).
fn children(parent: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists.collect::<String>().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_helper_that_was_stopped_at_its_birth_goes_with_a_gateway_that_has_a_session_of_its_own() {
    for containment in ["subreaper", "strict"] {
        if !has_containment(containment) {
            continue;
        }
        let (script, args) = (Some("exec setsid \"$0\" \"$@\""), ["--containment", containment]);
        let config = demo(&[]) + "limits = { concurrent = 64 }\n";
        let gateway = Gateway::start_by(&config, Start { script, args: &args, ..KEPT });
        let (born, calls) = stopped_at_birth(&gateway);
        gateway.killed();
        until("it has gone", || !alive(born));
        drop(calls);
    }
}

#[test]
fn a_tree_of_more_processes_than_a_keeper_may_have_descriptors_is_ended_though_it_fills_its_gaps() {
    let places = tempfile::tempdir().unwrap();
    let swarm = format!("{} {} 300", example("swarm").display(), shown(places.path()));
    let server = after(&format!("setsid {swarm} </dev/null >/dev/null 2>&1 &"));
    let script = Some("ulimit -n 64; exec \"$0\" \"$@\"");
    let gateway = Gateway::start_by(&(server + HASTE), Start { script, ..KEPT });
    let call = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    until("the swarm is complete", || gateway.servers().len() > 300);
    drop(call);
    gateway.stop();
}
