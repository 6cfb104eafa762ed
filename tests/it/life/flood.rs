//! A server that never stops talking keeps nobody from ending it.

use std::fmt::Write as _;

use crate::support::Gateway;

/// Servers that flood in ways of their own: a deadline ends the call, and the ladder the server.
const FLOODS: [(&str, &str); 3] =
    [("stdout", "exec yes"), ("stderr", "exec yes >&2"), ("an orphan's stdout", "yes & exit 3")];

#[test]
fn a_server_that_floods_is_ended_when_its_time_is_over() {
    for (what, script) in FLOODS {
        let mut config = String::from("\n[servers.demo]\ncommand = \"/bin/sh\"\nprotocol = \"legacy\"\n");
        write!(config, "args = [\"-c\", {script:?}]\ndeadline = \"300ms\"\n{}", super::HASTE)
            .expect("a String");
        let gateway = Gateway::start(&config);
        let response = gateway.post("/v1/servers/demo/tools/any", "{}");
        assert!([502, 504].contains(&response.status), "{what}: {}", response.status);
        gateway.stop();
    }
}
