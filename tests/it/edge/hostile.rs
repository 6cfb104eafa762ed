//! Requests that mean harm.

use super::{ECHO, gateway, serves};
use crate::support::{Connection, Gateway, JSON};

const TE: &str = "Transfer-Encoding: chunked\r\n";

/// Sends these bytes and returns whatever comes back until the connection ends.
fn told(gateway: &Gateway, request: &str) -> String {
    let mut caller = Connection::to(gateway);
    // A refusal may come before all of it was taken.
    let _ = caller.try_write(request.as_bytes());
    caller.rest()
}

#[test]
fn heads_that_are_too_large_are_431_and_the_connection_ends() {
    let gateway = gateway("");
    let many = "X: y\r\n".repeat(200);
    let long = format!("X: {}\r\n", "y".repeat(100_000));
    for bomb in [many, long, format!("X: {}", "y".repeat(8 << 20))] {
        let answer = told(&gateway, &format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 431 "), "{} bytes: {answer:.200}", bomb.len());
    }
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "y".repeat(100_000));
    let answer = told(&gateway, &path);
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer:.200}");
    serves(&gateway);
    gateway.stop();
}

#[test]
fn no_request_is_smuggled_behind_another() {
    let gateway = gateway("");
    let post =
        "POST /v1/servers/demo/tools/echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let hidden = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = format!("{:x}\r\n{ECHO}\r\n0\r\n\r\n{hidden}", ECHO.len());
    let length = |length: usize| format!("Content-Length: {length}\r\n");
    for (what, lines, body) in [
        ("both framings, the length first", length(chunked.len()) + TE, chunked.clone()),
        ("both framings, the length last", TE.to_owned() + &length(chunked.len()), chunked.clone()),
        ("two lengths", length(0) + &length(hidden.len()), hidden.to_owned()),
        ("two lengths in one", format!("Content-Length: 0, {}\r\n", hidden.len()), hidden.to_owned()),
        ("a length with a sign", format!("Content-Length: +{}\r\n", ECHO.len()), ECHO.to_owned() + hidden),
        ("a folded line", format!("X: a\r\n {}", length(ECHO.len())), ECHO.to_owned() + hidden),
        (
            "a space before the colon",
            format!("Content-Length : {}\r\n", ECHO.len()),
            ECHO.to_owned() + hidden,
        ),
        ("chunked, but not at last", "Transfer-Encoding: chunked, identity\r\n".to_owned(), chunked.clone()),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".to_owned(), chunked.clone()),
        (
            "a chunk that overflows",
            TE.to_owned(),
            format!("FFFFFFFFFFFFFFFFF\r\n{ECHO}\r\n0\r\n\r\n{hidden}"),
        ),
        ("a chunk without its end", TE.to_owned(), format!("1\r\n{ECHO}\r\n0\r\n\r\n{hidden}")),
    ] {
        let mut caller = Connection::to(&gateway);
        caller.write(format!("{post}{lines}\r\n{body}").as_bytes());
        let answers = caller.rest();
        assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{what}: {answers}");
        assert!(!answers.contains(r#"{"status":"ok"}"#), "{what}: {answers}");
    }
    serves(&gateway);
    gateway.stop();
}

#[test]
fn a_body_in_a_coding_that_is_not_known_is_501_and_the_connection_ends() {
    let gateway = gateway("");
    let body = format!("{:x}\r\n{ECHO}\r\n0\r\n\r\n", ECHO.len());
    let sent = |route: &str, lines: &str| {
        let head = "Host: localhost\r\nContent-Type: application/json\r\n";
        told(&gateway, &format!("{route} HTTP/1.1\r\n{head}{lines}\r\n{body}"))
    };
    let (echo, separate) =
        ("POST /v1/servers/demo/tools/echo", "Transfer-Encoding: gzip\r\n".to_owned() + TE);
    for lines in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity,chunked\r\n",
        "Transfer-Encoding: Chunked, chunked\r\n",
        &separate,
    ] {
        for route in [echo, "GET /healthz"] {
            let answer = sent(route, lines);
            assert!(answer.starts_with("HTTP/1.1 501 "), "{route} {lines}: {answer}");
            assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
            assert!(answer.contains("/problems/unknown-transfer-coding"), "{answer}");
        }
    }
    for lines in [TE, "Transfer-Encoding: , CHUNKED\r\n"] {
        let answer = sent(echo, lines);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{lines}: {answer}");
    }
    serves(&gateway);
    gateway.stop();
}

#[test]
fn json_a_million_deep_is_400_and_takes_no_stack() {
    let gateway = gateway("");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for closed in [true, false] {
            let inner = open.repeat(500_000) + if closed { "1" } else { "" };
            let deep = if closed { inner + &close.repeat(500_000) } else { inner };
            let body = format!("{{\"message\":{deep}}}");
            gateway.tool("echo", &body).problem(400, "malformed-request");
            gateway
                .post("/v1/servers/demo/calls", &format!("{{\"steps\":{deep}}}"))
                .problem(400, "malformed-request");
        }
    }
    serves(&gateway);
    gateway.stop();
}

#[test]
fn names_are_names_and_no_paths() {
    let gateway = gateway("");
    for name in
        ["..%2f..%2f..%2fetc%2fpasswd", "%2e%2e", "..%5c..%5c", "%00", "demo%00", "demo%2f..%2fdemo", "."]
    {
        for path in
            ["/v1/servers/{}", "/v1/servers/{}/tools", "/v1/calls/{}", "/problems/{}", "/{}", "/v1/{}/demo"]
        {
            let path = path.replace("{}", name);
            let answer = gateway.get(&path);
            assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        }
        let path = format!("/v1/servers/demo/tools/{name}");
        let answer = gateway.request("POST", &path, &[JSON], ECHO);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    for path in ["/../../etc/passwd", "/v1/servers/../../etc/passwd", "//etc/passwd", "/v1//servers"] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    gateway.stop();
}

#[test]
fn no_foreign_page_reaches_any_route_however_it_comes() {
    let gateway = gateway("");
    let port = gateway.address().port();
    let routes = [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/problems/forbidden"),
        ("GET", "/v1/servers"),
        ("GET", "/v1/servers/demo"),
        ("GET", "/v1/servers/demo/tools"),
        ("GET", "/v1/calls/00000000000000000000000000000000"),
        ("POST", "/v1/servers/demo/tools/echo"),
        ("POST", "/v1/servers/demo/calls"),
        ("POST", "/api/browser-agent"),
        ("GET", "/no/such/route"),
        ("OPTIONS", "/v1/servers/demo/tools/echo"),
        ("DELETE", "/healthz"),
    ];
    // A name that its owner lets mean 127.0.0.1 by now, pages of other origins, and what a browser says of them.
    let signs = [
        ("Host", format!("rebound.example:{port}")),
        ("Host", format!("127.0.0.1.rebound.example:{port}")),
        ("Host", format!("localhost.rebound.example:{port}")),
        ("Host", "x".to_owned()),
        ("Origin", format!("http://rebound.example:{port}")),
        ("Origin", "null".to_owned()),
        ("Origin", "https://localhost.rebound.example".to_owned()),
        ("Sec-Fetch-Site", "cross-site".to_owned()),
    ];
    for (method, path) in routes {
        for (name, value) in &signs {
            let answer = gateway.request(
                method,
                path,
                &[JSON, (name, value)],
                if method == "POST" { ECHO } else { "" },
            );
            answer.problem(403, "forbidden");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}");
        }
        let absolute = format!(
            "{method} http://rebound.example:{port}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        assert!(told(&gateway, &absolute).starts_with("HTTP/1.1 403 "), "{absolute}");
    }
    assert_eq!(gateway.servers(), [0; 0], "none has started anything");
    gateway.stop();
}

#[test]
fn what_is_no_http_is_answered_by_a_few_bytes_or_none() {
    let gateway = gateway("header_timeout = \"500ms\"");
    for noise in [
        "\x16\x03\x01\x02\x00\x01\x00",
        "\0\0\0\0\0\0\0\0",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = told(&gateway, noise);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
            "{answer}"
        );
        assert!(answer.len() < 500, "{answer}");
    }
    serves(&gateway);
    gateway.stop();
}
