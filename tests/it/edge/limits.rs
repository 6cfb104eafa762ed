//! Bounds of time, number and memory at the edge; beside whoever meets one, the others are served.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use rustix::process::Signal;

use super::{ECHO, gateway, head, serves};
use crate::support::{Connection, Gateway, JSON, demo, until};

#[test]
fn whoever_sends_nothing_or_half_a_head_is_closed_in_time() {
    let gateway = gateway("header_timeout = \"300ms\"");
    for sent in ["", "G", "GET /healthz HTTP/1.1\r\nHost: loc", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut caller = Connection::to(&gateway);
        caller.write(sent.as_bytes());
        let rest = caller.rest();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{sent:?}: {rest}");
    }
    gateway.stop();
}

#[test]
fn half_a_body_is_408_in_time_and_starts_nothing() {
    let gateway = gateway("body_timeout = \"300ms\"");
    let mut caller = Connection::to(&gateway);
    caller.write((head(ECHO.len()) + &ECHO[..5]).as_bytes());
    let late = caller.receive();
    late.problem(408, "body-timeout");
    assert_eq!(late.header("connection"), Some("close"));
    assert_eq!(gateway.servers(), [0; 0]);
    drop(caller);
    gateway.stop();
}

#[test]
fn an_answer_that_does_not_wait_for_the_body_says_that_the_connection_ends_with_it() {
    let gateway = gateway("body_limit = \"64KiB\"");
    let expecting = |head: String| head.replace("Host:", "Expect: 100-continue\r\nHost:");
    let nowhere = |head: String| head.replace("/v1/servers/demo", "/v2");
    for (head, status) in [
        (head(100_000), 413),
        (nowhere(head(100_000)), 404),
        (expecting(head(100_000)), 413),
        (expecting(nowhere(head(ECHO.len()))), 404),
        (expecting(head(ECHO.len())).replace("application/json", "text/plain"), 415),
    ] {
        let mut caller = Connection::to(&gateway);
        caller.write(head.as_bytes());
        let refused = caller.receive();
        assert_eq!((refused.status, refused.header("connection")), (status, Some("close")), "{head}");
        assert!(caller.is_at_its_end(), "{head}");
    }
    // Whoever is told to go on with the body may ask again behind it.
    let mut caller = Connection::to(&gateway);
    for _ in 0..2 {
        caller.write(expecting(head(ECHO.len())).as_bytes());
        assert_eq!(caller.receive().status, 100);
        caller.write(ECHO.as_bytes());
        assert_eq!(caller.receive().said(), "hello");
    }
    drop(caller);
    gateway.stop();
}

#[test]
fn heads_and_bodies_that_come_in_drops_are_cut_off_and_hold_nobody_up() {
    let gateway = gateway("header_timeout = \"500ms\"\nbody_timeout = \"500ms\"\nmax_connections = 64");
    let mut drips: Vec<Connection> = (0..40).map(|_| Connection::to(&gateway)).collect();
    for (index, drip) in drips.iter_mut().enumerate() {
        let start = if index % 2 == 0 { "GET / HTTP/1.1\r\nX: ".to_owned() } else { head(1_000_000) };
        drip.write(start.as_bytes());
    }
    serves(&gateway);
    until("each of them is cut off", || {
        drips.retain_mut(|drip| drip.try_write(b"x").is_ok());
        drips.is_empty()
    });
    serves(&gateway);
    gateway.stop();
}

#[test]
fn who_comes_beyond_the_bound_on_connections_waits_and_is_served_then() {
    let gateway = gateway("max_connections = 2");
    let mut first: Vec<Connection> = (0..2).map(|_| Connection::to(&gateway)).collect();
    for connection in &mut first {
        connection.send("GET", "/healthz", &[], "");
        assert_eq!(connection.receive().status, 200);
    }
    let waiting = gateway.begin_tool("echo", ECHO);
    gateway.until_at_rest();
    assert_eq!(gateway.servers(), [0; 0], "it is not its turn");
    first.pop();
    assert_eq!(waiting.response().said(), "hello");
    drop(first);
    gateway.stop();
}

#[test]
fn who_waits_beyond_that_bound_when_the_gateway_stops_is_answered_and_not_reset() {
    let gateway = gateway("max_connections = 1");
    let mut busy = Connection::to(&gateway);
    busy.send("POST", "/v1/servers/demo/tools/sleep", &[JSON], r#"{"seconds":1}"#);
    gateway.until_servers(1);
    let mut waiting: Vec<Connection> = (0..5).map(|_| Connection::to(&gateway)).collect();
    for connection in &mut waiting {
        connection.send("POST", "/v1/servers/demo/tools/echo", &[JSON], ECHO);
    }
    gateway.signal(Signal::TERM);
    for connection in &mut waiting {
        // One may come in at the very last moment.
        let answer = connection.receive();
        if answer.status != 200 {
            answer.problem(503, "shutting-down");
        }
    }
    assert_eq!(busy.receive().said(), "slept 1 s");
    gateway.ended();
}

#[test]
fn bodies_beyond_the_budget_are_503_until_others_have_gone() {
    let gateway = gateway("body_limit = \"64KiB\"\nin_flight = \"64KiB\"");
    let mut holder = Connection::to(&gateway);
    holder.write((head(60_000) + &" ".repeat(50_000)).as_bytes());
    gateway.until_at_rest();
    let body = format!("{{\"message\":\"{}\"}}", "x".repeat(20_000));
    let refused = gateway.tool("echo", &body);
    let detail = refused.problem(503, "overloaded")["detail"].to_string();
    assert!(detail.contains("`in_flight`"), "{detail}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    serves(&gateway);
    drop(holder);
    until("there is room again", || gateway.tool("echo", &body).status == 200);
    gateway.stop();
}

/// Asks for an answer of 8 MB, far more than sockets hold, and reads its first bytes only.
fn unread(gateway: &Gateway) -> Connection {
    let mut reader = Connection::to(gateway);
    let order = r#"{"kind":"big-reply","bytes":8000000}"#;
    reader.send("POST", "/v1/servers/demo/tools/fault", &[JSON], order);
    reader.read(20);
    reader
}

#[test]
fn an_answer_that_nobody_reads_counts_until_its_reader_leaves() {
    let gateway = gateway("in_flight = \"4MiB\"");
    let reader = unread(&gateway);
    until("the answer counts", || gateway.tool("echo", ECHO).status == 503);
    assert_eq!(gateway.get("/readyz").status, 200, "what needs no room is served");
    drop(reader);
    until("there is room again", || gateway.tool("echo", ECHO).status == 200);
    gateway.stop();
}

#[test]
fn a_reader_who_takes_nothing_is_given_up_in_time() {
    let gateway = gateway("in_flight = \"4MiB\"\nwrite_timeout = \"300ms\"");
    let mut reader = unread(&gateway);
    until("there is room again", || gateway.tool("echo", ECHO).status == 200);
    assert!(reader.rest().len() < 8_000_000, "the answer was cut off");
    gateway.stop();
}

/// Memory that is really there, in bytes: `VmRSS`, or `VmHWM` for the most that ever was. See `proc_pid_status(5)`.
fn resident(pid: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':'));
    let line = line.expect("it has memory");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn two_thousand_idle_connections_are_held_in_little_memory_and_others_are_served() {
    let gateway = Gateway::start(&format!("max_connections = 4096\n{}", demo(&[])));
    serves(&gateway);
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(own / 2).unwrap_or(usize::MAX).min(2000);
    let before = resident(gateway.pid(), "VmRSS");
    let idle: Vec<Connection> = (0..count)
        .map(|_| {
            let mut connection = Connection::to(&gateway);
            connection.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /");
            connection
        })
        .collect();
    serves(&gateway);
    let each = (resident(gateway.pid(), "VmRSS").saturating_sub(before)) / count as u64;
    assert!(each < 64 << 10, "{each} bytes for each of {count}");
    drop(idle);
    gateway.stop();
}

/// A connection on which a head is sent, and behind it a gibibyte in these pieces, if the gateway takes that much.
/// What it answered meanwhile.
fn gibibyte(gateway: &Gateway, head: &str, piece: &[u8], end: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address()).expect("it accepts connections");
    let mut reader = stream.try_clone().expect("a copy");
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        // Whoever goes on sending may be reset; what came before that is kept.
        let _ = reader.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let pieces = std::iter::repeat_n(piece, (1 << 30) / (1 << 16));
    let mut all = std::iter::once(head.as_bytes()).chain(pieces).chain([end]);
    if all.all(|bytes| stream.write_all(bytes).is_ok()) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    answer.join().expect("it was read")
}

#[test]
fn a_body_of_a_gibibyte_is_refused_early_and_never_held() {
    let piece = vec![b' '; 1 << 16];
    let chunk = [b"10000\r\n", &piece[..], b"\r\n"].concat();
    let open = |path: &str, framing: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n{framing}\r\n\r\n"
        )
    };
    let (length, chunked) = ("Content-Length: 1073741824", "Transfer-Encoding: chunked");
    let echo = "/v1/servers/demo/tools/echo";
    for (path, status) in
        [(echo, "413"), ("/v1/servers/demo/calls", "413"), ("/healthz", "405"), ("/no/such/route", "404")]
    {
        let gateway = gateway("body_limit = \"1MiB\"");
        serves(&gateway);
        let before = resident(gateway.pid(), "VmHWM");
        for answer in [
            gibibyte(&gateway, &open(path, length), &piece, b""),
            gibibyte(&gateway, &open(path, chunked), &chunk, b"0\r\n\r\n"),
        ] {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer:.300}");
        }
        let more = resident(gateway.pid(), "VmHWM") - before;
        assert!(more < 16 << 20, "{path}: {more} bytes more");
        serves(&gateway);
        gateway.stop();
    }
}
