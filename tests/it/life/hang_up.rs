//! Whoever leaves ends their call, wherever it stood.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{ECHO, HASTE, begin_steps, begin_work};
use crate::support::{Connection, Gateway, JSON, Pending, alive, demo, until};

/// The promise is 100 ms to the cancellation; the end of a server that leaves at once comes soon after. The rest is
/// for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(3);

/// One seat, a server that leaves at once when told to, and all the time in the world.
fn gateway(args: &[&str]) -> Gateway {
    Gateway::start(&(demo(args) + "limits = { concurrent = 1, queue = 8, queue_timeout = \"20s\" }\n"))
}

/// Hangs up, and checks that the one server dies soon, and that its seat is free for the next call.
fn leave(gateway: &Gateway, pending: Pending) {
    let servers = gateway.until_servers(1);
    pending.hang_up();
    let left = Instant::now();
    until("the server is dead", || !servers.iter().any(|pid| alive(*pid)));
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
}

#[test]
fn a_caller_who_leaves_while_the_server_works_ends_it() {
    let gateway = gateway(&[]);
    leave(&gateway, begin_work(&gateway, 600.0));
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_a_server_that_hangs_ends_it() {
    let config = demo(&[]) + HASTE;
    let gateway = Gateway::start(&config);
    leave(&gateway, gateway.begin_tool("fault", r#"{"kind":"hang-ignoring-all"}"#));
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_while_the_server_opens_ends_it() {
    let gateway = gateway(&["--fault", "hang-open"]);
    leave(&gateway, gateway.begin_tool("echo", ECHO));
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_while_the_server_starts_ends_it() {
    let config = demo(&["--fault", "slow-start=60000"]) + HASTE;
    let gateway = Gateway::start(&config);
    leave(&gateway, gateway.begin_tool("echo", ECHO));
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_the_queue_is_not_served() {
    let gateway = gateway(&[]);
    let first = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    let server = gateway.until_servers(1);
    let waiting = gateway.begin_tool("sleep", r#"{"seconds":600}"#);
    gateway.until_at_rest();
    waiting.hang_up();
    let next = gateway.begin_tool("echo", ECHO);
    gateway.until_at_rest();
    assert_eq!(gateway.servers(), server);
    first.hang_up();
    // Had the one in the middle been served, this one would wait for ten minutes.
    assert_eq!(next.response().said(), "hello");
    gateway.stop();
}

#[test]
fn a_reader_of_events_who_leaves_ends_the_call() {
    let gateway = gateway(&[]);
    let wanted = [JSON, ("Accept", "text/event-stream")];
    let order = json!({"seconds": 600, "steps": 6000}).to_string();
    let mut reader = gateway.begin("POST", "/v1/servers/demo/tools/sleep", &wanted, &order);
    reader.read_until("event: progress");
    leave(&gateway, reader);
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    gateway.stop();
}

#[test]
fn a_caller_who_leaves_a_server_told_to_finish_lets_it_finish() {
    let gateway = Gateway::start(&(demo(&[]) + "on_disconnect = \"finish\"\n"));
    // The last step is one that is seen from outside to have been taken.
    let last = [
        json!({"tool": "sleep", "arguments": {"seconds": 1}}),
        json!({"tool": "fault", "arguments": {"kind": "exit", "code": 5}}),
    ];
    let pending = begin_steps(&gateway, &last);
    let server = gateway.until_servers(1);
    pending.hang_up();
    until("it has finished", || !alive(server[0]));
    gateway.settle();
    until("the last step was taken", || gateway.log().contains("\"exit_code\":5"));
    gateway.stop();
}

#[test]
fn an_http2_stream_that_is_reset_ends_its_call_and_the_connection_lives_on() {
    let gateway = gateway(&[]);
    let mut connection = Connection::to(&gateway);
    connection.write(&http2::request(1, "/v1/servers/demo/tools/sleep", r#"{"seconds":600}"#));
    let server = gateway.until_servers(1);
    // RST_STREAM, CANCEL
    connection.write(&http2::frame(3, 0, 1, &[0, 0, 0, 8]));
    until("the server is dead", || !alive(server[0]));
    connection.write(&http2::frame(1, 5, 3, &http2::headers("GET", "/healthz", 0)));
    // HEADERS of stream 3: 200 is entry 8 of the static table.
    while http2::next_frame(&mut connection) != (1, 3, Some(0x88)) {}
    drop(connection);
    gateway.stop();
}

#[test]
fn an_http2_caller_who_leaves_ends_the_call() {
    let gateway = gateway(&[]);
    let mut connection = Connection::to(&gateway);
    connection.write(&http2::request(1, "/v1/servers/demo/tools/sleep", r#"{"seconds":600}"#));
    let server = gateway.until_servers(1);
    drop(connection);
    until("the server is dead", || !alive(server[0]));
    gateway.stop();
}

/// Just enough of RFC 9113 and RFC 7541 to ask one thing and to leave.
mod http2 {
    use crate::support::Connection;

    /// The preface, empty settings, and a `POST` of JSON.
    pub(super) fn request(stream: u32, path: &str, body: &str) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(1, 4, stream, &headers("POST", path, body.len())));
        bytes.extend(frame(0, 1, stream, body.as_bytes()));
        bytes
    }

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Kind, stream and first byte of the next frame.
    pub(super) fn next_frame(connection: &mut Connection) -> (u8, u32, Option<u8>) {
        let head = connection.read(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = connection.read(usize::try_from(length).expect("a small frame"));
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        (head[3], stream, payload.first().copied())
    }

    /// Literal fields without indexing, names and values as they are.
    pub(super) fn headers(method: &str, path: &str, length: usize) -> Vec<u8> {
        let length = length.to_string();
        let fields = [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("fewer than 127 letters"));
                block.extend(text.as_bytes());
            }
        }
        block
    }
}
