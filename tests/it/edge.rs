//! The HTTP edge: whoever is hostile, clumsy or slow there hurts nobody else; and every door that it has.

use crate::support::{Connection, Gateway, JSON, demo};

mod hostile;
mod leaving;
mod limits;
mod sockets;
mod tls;

/// The arguments of `echo`.
const ECHO: &str = r#"{"message":"hello"}"#;

/// A gateway with these keys, and the server `demo`.
fn gateway(keys: &str) -> Gateway {
    Gateway::start(&format!("{keys}\n{}", demo(&[])))
}

/// The head of a call of `echo` that announces so long a body.
fn head(length: usize) -> String {
    format!(
        "POST /v1/servers/demo/tools/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Checks that the gateway serves everybody else.
#[track_caller]
fn serves(gateway: &Gateway) {
    assert_eq!(gateway.tool("echo", ECHO).said(), "hello");
    let mut kept = Connection::to(gateway);
    kept.send("POST", "/v1/servers/demo/tools/echo", &[JSON], ECHO);
    assert_eq!(kept.receive().said(), "hello");
}
