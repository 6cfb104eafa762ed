//! A server is asked to leave before it is made to, and is remembered by what it took.

use super::ECHO;
use crate::support::processes::command_line;
use crate::support::{Gateway, demo, until};

/// The rungs of two ends, one after the other.
fn rungs(gateway: &Gateway) -> [String; 2] {
    [(); 2].map(|()| {
        let answer = gateway.tool_to_its_end("echo", ECHO);
        assert_eq!(answer.said(), "hello");
        assert_eq!(gateway.servers(), [0; 0], "the receipt came before the death");
        answer.receipt("rung").to_owned()
    })
}

#[test]
fn a_server_that_behaves_leaves_when_its_stdin_is_closed() {
    let gateway = Gateway::start(&(demo(&[]) + "eof_grace = \"20s\"\n"));
    let answer = gateway.tool_to_its_end("echo", ECHO);
    assert_eq!((answer.receipt("rung"), answer.receipt("exit-code")), ("eof", "0"));
    assert_eq!(answer.receipt("killed"), "0");
    for number in ["pid", "end-ms", "cpu-ms"] {
        assert!(answer.receipt(number).parse::<f64>().is_ok_and(|value| value >= 0.0), "{number}");
    }
    gateway.stop();
}

#[test]
fn a_server_that_ignores_the_end_of_its_stdin_is_terminated_at_once_the_second_time() {
    let graces = "eof_grace = \"1s\"\nterm_grace = \"20s\"\n";
    let gateway = Gateway::start(&(demo(&["--fault", "ignore-eof"]) + graces));
    let ends = [(); 2].map(|()| {
        let answer = gateway.tool_to_its_end("echo", ECHO);
        assert_eq!((answer.receipt("rung"), answer.receipt("exit-signal")), ("term", "15"));
        answer.receipt("end-ms").parse::<f64>().unwrap()
    });
    assert!(ends[0] >= 1000.0 && ends[1] < 1000.0, "{ends:?}");
    gateway.stop();
}

#[test]
fn a_server_that_ignores_everything_is_killed_at_once_the_second_time() {
    let graces = "eof_grace = \"400ms\"\nterm_grace = \"400ms\"\n";
    let gateway = Gateway::start(&(demo(&["--fault", "ignore-term"]) + graces));
    let ends = [(); 2].map(|()| {
        let answer = gateway.tool_to_its_end("echo", ECHO);
        assert_eq!((answer.receipt("rung"), answer.receipt("exit-signal")), ("kill", "9"));
        answer.receipt("end-ms").parse::<f64>().unwrap()
    });
    assert!(ends[0] >= 800.0 && ends[1] < 400.0, "{ends:?}");
    gateway.stop();
}

#[test]
fn a_server_that_needs_no_goodbye_is_killed_at_once() {
    let gateway = Gateway::start(&(demo(&["--fault", "ignore-term"]) + "teardown = \"kill\"\n"));
    assert_eq!(rungs(&gateway), ["kill", "kill"]);
    gateway.stop();
}

#[test]
fn a_server_that_left_by_itself_needs_no_rung() {
    let gateway = Gateway::start(&demo(&["--fault", "answer-and-exit"]));
    until("it has left before it was asked to", || {
        gateway.tool_to_its_end("echo", ECHO).receipt("rung") == "already"
    });
    gateway.stop();
}

#[test]
fn a_call_that_was_interrupted_teaches_the_ladder_nothing() {
    let graces = "eof_grace = \"200ms\"\nterm_grace = \"200ms\"\n";
    let gateway = Gateway::start(&(demo(&[]) + graces));
    let hangs = gateway.begin_tool("fault", r#"{"kind":"hang-ignoring-all"}"#);
    let server = gateway.until_servers(1)[0];
    // It becomes a program that has to be killed.
    until("it hangs", || command_line(server).starts_with("sleep "));
    hangs.hang_up();
    gateway.settle();
    assert_eq!(gateway.tool_to_its_end("echo", ECHO).receipt("rung"), "eof");
    gateway.stop();
}
