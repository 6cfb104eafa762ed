//! The order of the steps, seen from outside; no server is asked anything.

use http_body_util::{BodyExt, Full};

use super::*;
use crate::auth::{Secret, Token};

fn service(browser: bool) -> Service {
    let api = BrowserApi { server: "browser".into(), tool: "run".into(), available: Arc::new(|| true) };
    let config = Config { browser: browser.then_some(api), body_limit: 64, ..Config::default() };
    Service::new(config, Vec::new(), Arc::new(Receipts::new(1)), CancellationToken::new())
}

fn request(line: &str) -> http::request::Builder {
    let (method, path) = line.split_once(' ').unwrap();
    Request::builder().method(method).uri(path).header("host", "localhost:5001")
}

fn ends(peer: &str) -> Ends {
    let local = "127.0.0.1:5001".parse().unwrap();
    Ends::Tcp { bound: local, local, peer: format!("{peer}:4000").parse().unwrap() }
}

async fn answer(service: &Service, builder: http::request::Builder, body: &'static str) -> (Head, String) {
    let ends = ends("127.0.0.1");
    let request = builder.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
    let (head, body) = service.answer(ends, request).await.into_parts();
    (head, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

type Head = http::response::Parts;

#[tokio::test]
async fn each_refusal_is_a_problem_with_its_own_status_and_type() {
    let service = service(false);
    for (builder, status, name) in [
        (request("GET /nowhere"), 404, "unknown-route"),
        (request("DELETE /healthz"), 405, "method-not-allowed"),
        (request("GET /healthz").header("origin", "http://evil.example"), 403, "forbidden"),
        (request("GET /healthz").header("sec-fetch-site", "cross-site"), 403, "forbidden"),
        (request("GET /healthz").header("host", "localhost"), 400, "malformed-request"),
        (request("GET /v1/servers").header("accept", "image/png"), 406, "not-acceptable"),
        (request("GET /v1/servers/a/tools"), 404, "unknown-server"),
        (request("POST /v1/servers/a/tools/t"), 404, "unknown-server"),
        (request("GET /v1/calls/x"), 404, "unknown-call"),
        (request("GET /v1/calls/00000000000000000000000000000001"), 404, "unknown-call"),
        (request("GET /problems/no-such"), 404, "unknown-route"),
        (request("GET /api/health"), 404, "unknown-route"),
    ] {
        let (head, body) = answer(&service, builder, "").await;
        assert_eq!(head.status, status, "{name}");
        assert_eq!(head.headers["content-type"], "application/problem+json");
        assert_eq!(head.headers["cache-control"], "no-store");
        assert!(body.starts_with(&format!("{{\"type\":\"/problems/{name}\"")), "{body}");
    }
}

#[tokio::test]
async fn every_answer_forbids_guessing_its_type() {
    for line in
        ["GET /", "GET /healthz", "GET /readyz", "GET /v1/servers", "GET /problems/overloaded", "GET /x"]
    {
        let (head, _) = answer(&service(false), request(line), "").await;
        assert_eq!(head.headers["x-content-type-options"], "nosniff", "{line}");
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (get, body) = answer(&service(false), request("GET /healthz"), "").await;
    let (head, nothing) = answer(&service(false), request("HEAD /healthz"), "").await;
    assert_eq!((get.status, body.as_str()), (head.status, r#"{"status":"ok"}"#));
    assert_eq!(nothing, "");
    assert_eq!(head.headers["content-length"], body.len().to_string());
}

#[tokio::test]
async fn the_original_api_answers_in_its_envelope_only() {
    let service = service(true);
    let agent = || request("POST /api/browser-agent");
    let json = || agent().header("content-type", "application/json");
    for (builder, body, status) in [
        (agent(), r#"{"task":"a"}"#, 415),
        (json(), "{", 400),
        (json(), r#"{"task":"a","task":"b"}"#, 400),
        (json().header("spawnling-timeout", "soon"), r#"{"task":"a"}"#, 400),
        (
            json(),
            r#"{"task":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            413,
        ),
        (json(), r#"{"task":"a"}"#, 404),
    ] {
        let (head, text) = answer(&service, builder, body).await;
        assert_eq!(head.status, status, "{text}");
        assert!(text.starts_with(r#"{"success":false,"error":""#), "{text}");
    }
    let (head, text) = answer(&service, request("POST /api/disconnect"), "whatever").await;
    assert_eq!(head.status, 200);
    assert!(text.starts_with(r#"{"success":true"#));
}

#[tokio::test]
async fn the_front_page_shows_the_original_api_where_it_is_on() {
    for on in [true, false] {
        let (_, page) = answer(&service(on), request("GET /"), "").await;
        for line in ["POST /api/browser-agent", "GET  /api/health, /health", "POST /api/disconnect"] {
            assert_eq!(page.contains(line), on, "{page}");
        }
    }
}

#[tokio::test]
async fn readiness_ends_with_the_first_sign_of_a_stop() {
    let service = service(false);
    assert_eq!(answer(&service, request("GET /readyz"), "").await.0.status, 200);
    service.draining.cancel();
    assert_eq!(answer(&service, request("GET /readyz"), "").await.0.status, 503);
    assert_eq!(answer(&service, request("GET /healthz"), "").await.0.status, 200);
}

#[tokio::test]
async fn what_a_caller_sent_never_comes_back_as_html() {
    let line = "GET /problems/%3Cscript%3E";
    let (head, _) = answer(&service(false), request(line).header("accept", "text/html"), "").await;
    assert_eq!(head.headers["content-type"], "application/problem+json");
}

fn guarded() -> Service {
    let narrow = Token { servers: Some(vec!["a".into()]), ..Token::plain("narrow", "narrow-token") };
    let gate = Gate::new([narrow]);
    let api = BrowserApi { server: "browser".into(), tool: "run".into(), available: Arc::new(|| true) };
    let config = Config { gate, browser: Some(api), ..Config::default() };
    Service::new(config, Vec::new(), Arc::new(Receipts::new(1)), CancellationToken::new())
}

#[tokio::test]
async fn nothing_but_health_and_help_is_answered_without_a_token() {
    let service = guarded();
    for line in
        ["GET /", "GET /healthz", "GET /readyz", "GET /problems/overloaded", "GET /api/health", "GET /health"]
    {
        assert_eq!(answer(&service, request(line), "").await.0.status, 200, "{line}");
    }
    for line in [
        "GET /v1/servers",
        "GET /v1/servers/a",
        "GET /v1/servers/a/tools",
        "POST /v1/servers/a/tools/t",
        "POST /v1/servers/a/calls",
        "GET /v1/calls/x",
        "GET /nowhere",
        "DELETE /healthz",
    ] {
        let (head, body) = answer(&service, request(line), "").await;
        assert_eq!(head.status, 401, "{line}");
        assert_eq!(head.headers["www-authenticate"], "Bearer realm=\"spawnling\"", "{line}");
        assert!(body.starts_with("{\"type\":\"/problems/unauthenticated\""), "{body}");
    }
    for line in ["POST /api/browser-agent", "POST /api/disconnect"] {
        let (head, body) = answer(&service, request(line), "").await;
        assert_eq!(
            (head.status, &body[..16]),
            (http::StatusCode::UNAUTHORIZED, "{\"success\":false"),
            "{line}"
        );
        assert!(head.headers.contains_key("www-authenticate"), "{line}");
    }
}

#[tokio::test]
async fn a_token_is_taken_from_either_header_and_in_any_case_of_the_scheme() {
    let service = guarded();
    for (name, value, status) in [
        ("authorization", "Bearer narrow-token", 200),
        ("authorization", "bearer  narrow-token", 200),
        ("x-api-key", "narrow-token", 200),
        ("authorization", "Bearer narrow-toke", 401),
        ("authorization", "Bearer ", 401),
        ("authorization", "Bearer", 401),
        ("authorization", "Basic narrow-token", 401),
        ("authorization", "narrow-token", 401),
        ("x-api-key", "", 401),
    ] {
        let asked = request("GET /v1/servers").header(name, value);
        assert_eq!(answer(&service, asked, "").await.0.status, status, "{name}: {value}");
    }
    let two = || request("GET /v1/servers").header("x-api-key", "narrow-token");
    for (builder, status) in [
        (two().header("authorization", "Bearer narrow-token"), 200),
        (two().header("authorization", "Bearer other"), 400),
        (two().header("x-api-key", "narrow-token"), 400),
        (two().header("authorization", "Basic b2YgYQ=="), 200),
    ] {
        assert_eq!(answer(&service, builder, "").await.0.status, status);
    }
}

#[tokio::test]
async fn of_a_server_that_is_not_allowed_nobody_learns_whether_it_is_there() {
    let service = guarded();
    let asked = |line| request(line).header("x-api-key", "narrow-token");
    for line in ["GET /v1/servers/b", "GET /v1/servers/b/tools", "POST /v1/servers/b/tools/t"] {
        assert_eq!(answer(&service, asked(line), "").await.0.status, 403, "{line}");
    }
    assert_eq!(answer(&service, asked("GET /v1/servers/a"), "").await.0.status, 404);
    for line in ["POST /api/browser-agent", "POST /api/disconnect"] {
        let asked = asked(line).header("content-type", "application/json");
        assert_eq!(answer(&service, asked, "{\"task\":\"x\"}").await.0.status, 403, "{line}");
    }
}

#[tokio::test]
async fn what_a_caller_puts_into_a_path_by_mistake_is_not_repeated_if_it_is_secret() {
    let service = service(false);
    service.config.mask.learn(&[Secret::new("s3cr3t-token")]);
    let (_, body) = answer(&service, request("GET /v1/servers/s3cr3t-token"), "").await;
    assert!(body.contains("***") && !body.contains("s3cr3t-token"), "{body}");
}

#[test]
fn only_a_caller_of_this_machine_for_whom_no_proxy_asks_sees_everything() {
    let from = |peer: &str, name: &str| {
        let headers =
            HeaderMap::from_iter([(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"))]);
        sees(ends(peer), &headers, &Principal::anonymous())
    };
    for peer in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
        assert_eq!(from(peer, "user-agent"), Sees::Everything, "{peer}");
        for header in FORWARDED {
            assert_eq!(from(peer, header.as_str()), Sees::Little, "{peer} {header}");
        }
    }
    assert_eq!(from("192.168.1.5", "user-agent"), Sees::Little);
}
