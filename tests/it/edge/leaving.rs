//! Where it is hard to see that a caller has left. (Of those who leave a plain request, a stream of events or a stream of
//! HTTP/2: `life/hang_up.rs`.)

use super::{ECHO, gateway, head};
use crate::support::{Connection, Gateway, JSON, alive, until};

/// Begins a call that would take ten minutes.
fn asleep(gateway: &Gateway) -> (Connection, u32) {
    let mut caller = Connection::to(gateway);
    caller.send("POST", "/v1/servers/demo/tools/sleep", &[JSON], r#"{"seconds":600}"#);
    let server = gateway.until_servers(1)[0];
    (caller, server)
}

#[test]
fn a_caller_who_leaves_with_half_its_body_sent_starts_nothing() {
    let gateway = gateway("body_timeout = \"10m\"\nheader_timeout = \"10m\"");
    for half in [0, 5, ECHO.len() - 1] {
        let mut caller = Connection::to(&gateway);
        caller.write((head(ECHO.len()) + &ECHO[..half]).as_bytes());
        gateway.until_at_rest();
        drop(caller);
    }
    assert_eq!(gateway.servers(), [0; 0]);
    // Its descriptors show that the connections are gone, long before any time limit.
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_with_a_byte_behind_its_request_ends_its_call() {
    let gateway = gateway("");
    for behind in ["G", "\r\n", "POST /v1/servers/demo/tools/sleep HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let (mut caller, server) = asleep(&gateway);
        caller.write(behind.as_bytes());
        gateway.until_at_rest();
        assert!(alive(server), "whoever pipelines has not left");
        drop(caller);
        until("the server is dead", || !alive(server));
    }
    gateway.stop();
}

#[test]
fn a_caller_who_closes_its_half_has_left_whatever_stands_behind_its_request() {
    let gateway = gateway("");
    for behind in ["", "\r\n", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let (mut caller, server) = asleep(&gateway);
        caller.write(behind.as_bytes());
        caller.close_half();
        until("the server is dead", || !alive(server));
        assert_eq!(caller.rest(), "");
    }
    gateway.stop();
}
