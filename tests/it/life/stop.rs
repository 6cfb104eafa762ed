//! A gateway that stops loses no work that can be done in its grace time, and leaves nothing.

use rustix::process::Signal;

use super::{ECHO, begin_work};
use crate::support::processes::command_line;
use crate::support::{Connection, EMBEDDED, Gateway, JSON, Start, demo, until};

const LONG: &str = r#"{"seconds":600}"#;

/// A kept connection on which an answer was given, so that it was accepted before any signal.
fn kept(gateway: &Gateway) -> Connection {
    let mut connection = Connection::to(gateway);
    connection.send("GET", "/healthz", &[], "");
    assert_eq!(connection.receive().status, 200);
    connection
}

/// Whether it has begun to stop: it says so in its log.
fn until_stopping(gateway: &Gateway) {
    until("it stops", || gateway.log().contains("stopping: running calls may end"));
}

#[test]
fn a_gateway_told_to_stop_lets_calls_finish_and_takes_no_more() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        // Whoever has a file is told by SIGHUP to read it again.
        let config = if signal == Signal::HUP { EMBEDDED.to_owned() } else { demo(&[]) };
        let gateway = Gateway::start(&config);
        let mut busy = Connection::to(&gateway);
        busy.send("POST", "/v1/servers/demo/tools/sleep", &[JSON], r#"{"seconds":1}"#);
        gateway.until_servers(1);
        gateway.signal(signal);
        until_stopping(&gateway);
        until("nothing more is accepted", || std::net::TcpStream::connect(gateway.address()).is_err());
        assert_eq!(busy.receive().said(), "slept 1 s");
        gateway.ended();
    }
}

#[test]
fn an_idle_connection_is_closed_by_the_stop() {
    let gateway = Gateway::start(&demo(&[]));
    let mut idle = kept(&gateway);
    gateway.signal(Signal::TERM);
    assert!(idle.is_at_its_end());
    gateway.ended();
}

#[test]
fn a_request_behind_the_one_that_is_finished_is_not_lost_without_a_word() {
    let gateway = Gateway::start(&demo(&[]));
    let mut busy = Connection::to(&gateway);
    busy.send("POST", "/v1/servers/demo/tools/sleep", &[JSON], r#"{"seconds":1.5}"#);
    gateway.until_servers(1);
    gateway.signal(Signal::TERM);
    until_stopping(&gateway);
    busy.send("POST", "/v1/servers/demo/tools/echo", &[JSON], ECHO);
    let first = busy.receive();
    assert_eq!(first.said(), "slept 1.5 s");
    match busy.try_receive() {
        Ok(second) => drop(second.problem(503, "shutting-down")),
        // It was told that nothing more would be answered here, so that it can be asked elsewhere.
        Err(_) => assert_eq!(first.header("connection"), Some("close"), "{first:?}"),
    }
    gateway.ended();
}

#[test]
fn a_second_signal_ends_every_call_at_once_with_an_answer() {
    let gateway = Gateway::start(&demo(&[]));
    let busy = begin_work(&gateway, 600.0);
    gateway.signal(Signal::TERM);
    until_stopping(&gateway);
    gateway.signal(Signal::TERM);
    let problem = busy.response().problem(503, "shutting-down");
    assert_eq!(problem["phase"], "call");
    let done = &problem["steps"][0]["result"]["structuredContent"];
    assert_eq!(done["count"], 1, "what was done is not lost: {problem}");
    let log = gateway.ended();
    assert!(log.contains("told to hurry"), "{log}");
}

#[test]
fn a_second_signal_kills_a_server_that_heeds_nothing_however_long_it_would_be_given() {
    let patience = "eof_grace = \"10m\"\nterm_grace = \"10m\"\n";
    // Told to hurry before the calls were ended, and after: their servers are being waited for by then.
    for drain in ["10m", "1ms"] {
        let config = format!("drain = \"{drain}\"\n") + &demo(&[]) + patience;
        let gateway = Gateway::start(&config);
        let busy = gateway.begin_tool("fault", r#"{"kind":"hang-ignoring-all"}"#);
        let server = gateway.until_servers(1)[0];
        until("it hangs", || command_line(server).starts_with("sleep "));
        gateway.signal(Signal::TERM);
        until_stopping(&gateway);
        if drain == "1ms" {
            until("calls are ended", || gateway.log().contains("ending every call that is left"));
        }
        gateway.signal(Signal::TERM);
        busy.response().problem(503, "shutting-down");
        let log = gateway.ended();
        assert!(log.contains("told to hurry"), "{log}");
    }
}

#[test]
fn a_call_beyond_the_grace_time_is_ended_with_an_answer() {
    for start in [
        (String::from("drain = \"200ms\"\n"), Start::default()),
        (String::new(), Start { args: &["--drain", "200ms"], ..Start::default() }),
    ] {
        let config = start.0 + &demo(&["--fault", "ignore-term"]) + super::HASTE;
        let gateway = Gateway::start_by(&config, start.1);
        let busy = gateway.begin_tool("sleep", LONG);
        gateway.until_servers(1);
        gateway.signal(Signal::TERM);
        busy.response().problem(503, "shutting-down");
        gateway.ended();
    }
}

#[test]
fn a_stop_in_every_phase_leaves_nothing() {
    for (args, limits) in [
        (&["--fault", "hang-open"][..], ""),
        (&["--fault", "slow-start=60000"], ""),
        (&["--fault", "ignore-term"], ""),
        (&[], "limits = { concurrent = 1 }\n"),
    ] {
        let config = String::from("drain = \"100ms\"\n") + &demo(args) + super::HASTE + limits;
        let gateway = Gateway::start(&config);
        let calls = [(); 3].map(|()| gateway.begin_tool("sleep", LONG));
        until("one of them has begun", || !gateway.servers().is_empty());
        gateway.signal(Signal::TERM);
        for call in calls {
            call.response().problem(503, "shutting-down");
        }
        gateway.ended();
    }
}

#[test]
fn whoever_has_connected_before_the_signal_gets_an_answer() {
    let gateway = Gateway::start(&demo(&[]));
    // So that connections wait in the kernel when the signal is dealt with.
    gateway.signal(Signal::STOP);
    let calls = [(); 16].map(|()| gateway.begin_tool("echo", ECHO));
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    for call in calls {
        let answer = call.response();
        match answer.status {
            200 => assert_eq!(answer.said(), "hello"),
            _ => drop(answer.problem(503, "shutting-down")),
        }
    }
    gateway.ended();
}

#[test]
fn a_stream_of_events_ends_with_its_problem_when_the_gateway_stops() {
    let gateway = Gateway::start(&(String::from("drain = \"100ms\"\n") + &demo(&[])));
    let wanted = [JSON, ("Accept", "text/event-stream")];
    let mut reader = gateway.begin("POST", "/v1/servers/demo/tools/sleep", &wanted, LONG);
    reader.read_until("200 OK");
    gateway.signal(Signal::TERM);
    let rest = reader.read_until("event: problem\n") + &reader.read_until("\n\n");
    assert!(rest.contains("/problems/shutting-down"), "{rest}");
    gateway.ended();
}

#[test]
fn the_learning_of_an_era_is_broken_off_by_a_stop() {
    // Without a configured era a sibling is started behind the first call, and this one never answers it.
    let config = crate::support::server("demo", &["--silent-on-probe"]);
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    gateway.signal(Signal::TERM);
    gateway.ended();
}
