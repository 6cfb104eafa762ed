//! However a call went, its receipt says so: over the wire, and in the log.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{ECHO, HASTE, begin_work, fault};
use crate::support::peers::has_containment;
use crate::support::{Connection, Gateway, JSON, Response, Start, demo, until};

const LONG: &str = r#"{"seconds":600}"#;

/// What every call is worth a line for.
const ALL: Start<'static> = Start {
    env: &[("SPAWNLING_LOG", "info,spawnling::call=debug")],
    args: &[],
    script: None,
    mark: None,
    stdin: None,
};

fn path(answer: &Response) -> String {
    format!("/v1/calls/{}", answer.header("spawnling-call-id").expect("a call has an id"))
}

/// The receipt of an answered call, once it is complete.
#[track_caller]
fn receipt(gateway: &Gateway, answer: &Response) -> Value {
    let receipt = gateway.request("GET", &path(answer), &[("Spawnling-Wait", "end")], "").good();
    assert_eq!((&receipt["state"], &receipt["call"]), (&json!("ended"), &json!(path(answer)[10..])));
    receipt
}

/// The events of calls in a log.
fn events(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|event| event["message"] == "call ended").collect()
}

#[test]
fn the_receipt_of_a_good_call_has_everything() {
    let gateway = Gateway::start_by(&demo(&[]), ALL);
    let answer = gateway.tool("echo", ECHO);
    let receipt = receipt(&gateway, &answer);
    assert_eq!((&receipt["outcome"], &receipt["server"]), (&json!("ok"), &json!("demo")), "{receipt}");
    let process = &receipt["process"];
    assert_eq!((&process["exit"], &process["rung"]), (&json!({"code": 0}), &json!("eof")), "{receipt}");
    // Which one it is depends on the host.
    let containment = format!("\"containment\":{}", process["containment"]);
    assert!(process["killed"] == 0 && gateway.log().contains(&containment), "{receipt}");
    assert!(process["cpu_ms"].is_f64() && process["cpu_source"].is_string(), "{receipt}");
    let phases = ["queue", "spawn", "open", "call"].map(|phase| receipt["timing"][phase].as_f64());
    let (sum, lasted) = (phases.iter().flatten().sum::<f64>(), receipt["duration_ms"].as_f64().unwrap());
    assert!(phases.iter().all(Option::is_some) && sum <= lasted, "{receipt}");
    let began = receipt["began"].as_str().unwrap();
    assert!(began.len() == 24 && began.ends_with('Z') && &began[10..11] == "T", "{began}");
    for missing in ["fault", "phase", "ended_early"] {
        assert_eq!(receipt.get(missing), None, "{receipt}");
    }
    gateway.settle();
    gateway.signal(Signal::TERM);
    let log = gateway.ended();
    let [event] = &*events(&log) else { panic!("{log}") };
    assert_eq!((&event["level"], &event["call"]), (&json!("DEBUG"), &receipt["call"]), "{event}");
    assert_eq!((&event["outcome"], &event["server"]), (&json!("ok"), &json!("demo")), "{event}");
    assert_eq!((&event["began"], &event["duration_ms"]), (&receipt["began"], &receipt["duration_ms"]));
    for (field, member) in [
        ("pid", "pid"),
        ("rung", "rung"),
        ("killed", "killed"),
        ("cpu_ms", "cpu_ms"),
        ("cpu_source", "cpu_source"),
        ("containment", "containment"),
        ("end_ms", "end_ms"),
    ] {
        assert_eq!(event[field], process[member], "{field}: {event}");
    }
    assert_eq!((&event["exit_code"], event.get("exit_signal")), (&json!(0), None), "{event}");
    for phase in ["queue", "spawn", "open", "call"] {
        assert_eq!(event[format!("{phase}_ms")], receipt["timing"][phase], "{event}");
    }
}

/// Where the processor time was read, and where the peak of memory may have been. docs/http-api.md says what each means.
const SOURCES: [(&str, &str, &[&str]); 5] = [
    ("strict", "cpu.stat", &[LARGEST_REAPED]),
    ("cgroup", "cpu.stat", &[LARGEST_REAPED, LARGEST_ALIVE]),
    ("namespace", "getrusage of all reaped", &[LARGEST_REAPED]),
    ("subreaper", "getrusage of all reaped", &[LARGEST_REAPED, LARGEST_ALIVE]),
    ("group", "proc_pid_stat", &[LARGEST_ALIVE]),
];
const LARGEST_REAPED: &str = "getrusage, largest process";
const LARGEST_ALIVE: &str = "VmHWM, largest process alive at its end";
/// Of all, where the cgroup of each tree has the controller.
const PEAK: &str = "memory.peak";

#[test]
fn in_every_containment_a_receipt_says_what_was_used_and_where_that_was_read_wherever_it_is_told() {
    for (containment, cpu, peaks) in SOURCES {
        if containment != "group" && !has_containment(containment) {
            continue;
        }
        let args = ["--containment", containment];
        let gateway = Gateway::start_by(&demo(&[]), Start { args: &args, ..ALL });
        // One keeper serves both.
        for _ in 0..2 {
            let answer = gateway.tool_to_its_end("echo", ECHO);
            let receipt = receipt(&gateway, &answer);
            let process = &receipt["process"];
            assert_eq!((&process["containment"], &process["cpu_source"]), (&json!(containment), &json!(cpu)));
            let peak =
                process["peak_memory_source"].as_str().unwrap_or_else(|| panic!("{containment}: {process}"));
            assert!(peak == PEAK || peaks.contains(&peak), "{containment}: {process}");
            // Less than a tick of the clock, perhaps.
            let (spent, bytes) = (process["cpu_ms"].as_f64(), process["peak_memory_bytes"].as_u64());
            assert!(spent.is_some_and(|ms| ms > 0.0 || containment == "group"), "{containment}: {process}");
            assert!(bytes.is_some_and(|bytes| bytes > 100_000), "{containment}: {process}");
            let header = answer.header("spawnling-receipt").unwrap();
            for source in [cpu, peak] {
                assert!(header.contains(&format!(";source=\"{source}\"")), "{containment}: {header}");
            }
            until("it is in the log", || {
                let event = events(&gateway.log()).into_iter().find(|event| event["call"] == receipt["call"]);
                event.is_some_and(|event| {
                    event["cpu_source"] == cpu
                        && event["peak_memory_source"] == peak
                        && event["peak_memory_bytes"] == process["peak_memory_bytes"]
                })
            });
        }
        gateway.stop();
    }
}

#[test]
fn the_receipt_of_a_failure_says_whose_it_was_and_how_the_server_ended() {
    let gateway = Gateway::start_by(&(demo(&[]) + HASTE), ALL);
    let call = |tool, arguments: &str| receipt(&gateway, &gateway.tool(tool, arguments));
    let failed = call("fail", "{}");
    assert_eq!((&failed["outcome"], &failed["fault"]), (&json!("tool-error"), &json!("caller")), "{failed}");
    assert_eq!(failed["process"]["exit"], json!({"code": 0}), "{failed}");
    let crashed = call("fault", &fault("signal", r#","signal":9"#));
    assert_eq!((&crashed["outcome"], &crashed["fault"]), (&json!("server-crashed"), &json!("server")));
    assert_eq!(crashed["process"]["exit"], json!({"signal": 9, "name": "SIGKILL"}), "{crashed}");
    assert_eq!((&crashed["process"]["rung"], &crashed["phase"]), (&json!("already"), &json!("call")));
    // Refused before a process was spent on it.
    let refused = call("add", "{}");
    assert_eq!((&refused["outcome"], refused.get("process")), (&json!("invalid-arguments"), None));
    gateway.settle();
    gateway.signal(Signal::TERM);
    let log = gateway.ended();
    let told: Vec<_> =
        events(&log).iter().map(|event| (event["level"].clone(), event["outcome"].clone())).collect();
    let expected = [("DEBUG", "tool-error"), ("WARN", "server-crashed"), ("DEBUG", "invalid-arguments")];
    assert_eq!(told, expected.map(|(level, outcome)| (json!(level), json!(outcome))), "{log}");
    let crashed = &events(&log)[1];
    assert_eq!((&crashed["exit_signal"], &crashed["fault"]), (&json!(9), &json!("server")), "{crashed}");
    assert!(crashed["error"].as_str().unwrap().contains("was ended by SIGKILL"), "{crashed}");
}

#[test]
fn a_call_that_ran_out_of_time_says_so_and_that_it_is_being_ended_meanwhile() {
    // It takes no hint, so that there is time to ask in between.
    let config = demo(&["--fault", "ignore-eof"]) + "eof_grace = \"20s\"\n";
    let gateway = Gateway::start(&config);
    let hurry = [JSON, ("Spawnling-Timeout", "1s")];
    let answer = gateway.request("POST", "/v1/servers/demo/tools/sleep", &hurry, LONG);
    answer.problem(504, "deadline-exceeded");
    let ending = gateway.get(&path(&answer)).good();
    assert_eq!((&ending["state"], &ending["outcome"]), (&json!("ending"), &json!("deadline-exceeded")));
    assert_eq!((ending.get("process"), ending.get("duration_ms")), (None, None), "{ending}");
    gateway.servers().into_iter().for_each(crate::support::kill);
    let ended = receipt(&gateway, &answer);
    assert_eq!((&ended["ended_early"], &ended["phase"]), (&json!("deadline"), &json!("call")), "{ended}");
    assert!(ended["process"].is_object(), "{ended}");
    gateway.stop();
}

#[test]
fn whoever_left_is_named_as_the_reason_to_whoever_asks_on_another_connection() {
    let gateway = Gateway::start(&demo(&[]));
    let streaming = [JSON, ("Accept", "text/event-stream")];
    let mut pending = gateway.begin("POST", "/v1/servers/demo/tools/sleep", &streaming, LONG);
    let head = pending.read_until("\r\n\r\n");
    let id = head.lines().find_map(|line| line.strip_prefix("spawnling-call-id: ")).expect("an id");
    let path = format!("/v1/calls/{}", id.trim());
    let running = gateway.get(&path).good();
    assert_eq!((&running["state"], running.get("outcome")), (&json!("running"), None), "{running}");
    pending.hang_up();
    let ended = gateway.request("GET", &path, &[("Spawnling-Wait", "end")], "").good();
    assert_eq!((&ended["state"], &ended["outcome"]), (&json!("ended"), &json!("caller-gone")), "{ended}");
    assert_eq!((&ended["ended_early"], &ended["phase"]), (&json!("caller-gone"), &json!("call")), "{ended}");
    assert!(ended["process"]["pid"].is_u64(), "{ended}");
    gateway.stop();
}

#[test]
fn whoever_was_turned_away_has_a_receipt_without_a_process() {
    let gateway = Gateway::start(&(demo(&[]) + "limits = { concurrent = 1, queue = 0 }\n"));
    let mut busy = Connection::to(&gateway);
    busy.send("POST", "/v1/servers/demo/tools/sleep", &[JSON], LONG);
    gateway.until_servers(1);
    let refused = gateway.tool("echo", ECHO);
    refused.problem(503, "overloaded");
    let receipt = receipt(&gateway, &refused);
    assert_eq!((&receipt["outcome"], &receipt["fault"]), (&json!("overloaded"), &json!("overload")));
    assert_eq!((&receipt["phase"], receipt.get("process")), (&json!("queue"), None), "{receipt}");
    assert!(receipt["timing"]["queue"].is_f64() && receipt["timing"].get("spawn").is_none(), "{receipt}");
    drop(busy);
    gateway.stop();
}

#[test]
fn only_the_last_calls_are_remembered() {
    let gateway = Gateway::start(&("receipts = 2\n".to_owned() + &demo(&[])));
    let answers: Vec<_> = (0..3).map(|_| gateway.tool_to_its_end("echo", ECHO)).collect();
    gateway.get(&path(&answers[0])).problem(404, "unknown-call");
    for answer in &answers[1..] {
        receipt(&gateway, answer);
    }
    gateway.stop();

    let gateway = Gateway::start(&("receipts = 0\n".to_owned() + &demo(&[])));
    let answer = gateway.tool_to_its_end("echo", ECHO);
    assert_eq!(answer.receipt("rung"), "eof");
    gateway.get(&path(&answer)).problem(404, "unknown-call");
    gateway.stop();
}

#[test]
fn there_is_no_list_of_calls_and_no_guess_is_answered() {
    let gateway = Gateway::start(&demo(&[]));
    let answer = gateway.tool_to_its_end("echo", ECHO);
    gateway.get("/v1/calls").problem(404, "unknown-route");
    for wrong in ["00000000000000000000000000000000", "x", "%2F"] {
        let problem = gateway.get(&format!("/v1/calls/{wrong}")).problem(404, "unknown-call");
        assert!(problem["detail"].as_str().unwrap().contains("is kept"), "{problem}");
    }
    gateway.request("DELETE", &path(&answer), &[], "").problem(405, "method-not-allowed");
    gateway.stop();
}

#[test]
fn what_was_answered_from_memory_has_a_receipt_too() {
    let gateway = Gateway::start(&demo(&[]));
    let lists = [(); 2].map(|()| gateway.get("/v1/servers/demo/prompts"));
    let [first, second] = lists.map(|list| receipt(&gateway, &list));
    assert_eq!((&first["outcome"], &second["outcome"]), (&json!("ok"), &json!("ok")));
    assert_eq!((first["process"].is_object(), second.get("process")), (true, None), "{second}");
    gateway.stop();
}

#[test]
fn calls_that_a_stop_has_ended_are_in_the_log_with_their_ends() {
    let gateway = Gateway::start(&(demo(&["--fault", "ignore-eof"]) + HASTE));
    let busy = begin_work(&gateway, 600.0);
    gateway.signal(Signal::TERM);
    until("it stops", || gateway.log().contains("stopping: running calls may end"));
    gateway.signal(Signal::TERM);
    let problem = busy.response().problem(503, "shutting-down");
    let log = gateway.ended();
    let [event] = &*events(&log) else { panic!("{log}") };
    assert_eq!((&event["call"], &event["outcome"]), (&problem["call"], &json!("shutting-down")), "{event}");
    assert_eq!((&event["ended_early"], &event["level"]), (&json!("stopped"), &json!("WARN")), "{event}");
    assert!(event["pid"].is_u64() && event["end_ms"].is_f64() && event["rung"].is_string(), "{event}");
}
