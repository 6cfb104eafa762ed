//! What must be true of a request, whatever a caller wrote into it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::{Host, Url};

use super::accept::{self, Media};
use super::edge::{Edge, Reached};
use super::own::{OwnRoute, Response};
use super::rest::steps;
use super::route::{self, Admin, Browser, Post, Route};
use super::terms::{self, Terms};
use super::{body, edge, text};
use crate::auth::{Gate, Secret, Token};
use crate::exchange::{Ask, CallId, HeaderVariable, ListKind, RawJson, Reply};

/// A head out of lines: its URI, then one header each. What is no URI or no header never gets here.
fn head(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let uri = Uri::try_from(lines.next()?).ok()?;
    let mut head = Request::builder().uri(uri).body(()).ok()?.into_parts().0;
    for line in lines {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        else {
            continue;
        };
        head.headers.try_append(name, value).ok()?;
    }
    Some(head)
}

/// The first line, and what comes after it.
fn two(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    (&input[..at], input.get(at + 1..).unwrap_or_default())
}

/// The body of a request, as it comes to whoever reads it.
fn body(input: &[u8]) -> Option<RawJson> {
    let body = RawJson::parse(Bytes::copy_from_slice(input)).ok()?;
    body.check_unique().is_ok().then_some(body)
}

/// A method and a path: what is found under a path is found again under the names that were read out of it.
pub(crate) fn route(input: &[u8]) {
    let mut halves = input.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(path)) = (halves.next(), halves.next()) else { return };
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method), Uri::try_from(path)) else { return };
    let path = uri.path();
    let Ok(found) = route::find(&method, path, true) else {
        assert!(route::find(&method, path, false).is_err());
        return;
    };
    assert!(route::is_taken(path, true));
    let original = matches!(found, Route::Browser(_));
    assert_eq!(route::is_taken(path, false), !original);
    match route::find(&method, path, false) {
        Ok(other) => assert!(!original && other == found),
        Err(_) => assert!(original),
    }
    assert_eq!(route::find(&method, &path_of(&found), true).ok().as_ref(), Some(&found), "another name");
    if let Route::Post { .. } = found {
        assert_eq!(method, Method::POST);
    }
    if let Route::Call { id } = &found
        && let Some(call) = CallId::parse(id)
    {
        assert!(call.to_string().eq_ignore_ascii_case(id));
    }
}

fn path_of(route: &Route) -> String {
    let name = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    match route {
        Route::Admin(Admin::Front) => "/".into(),
        Route::Admin(Admin::Asset { name: asset }) => format!("/assets/{}", name(asset)),
        Route::Admin(Admin::Alive) => "/healthz".into(),
        Route::Admin(Admin::Ready) => "/readyz".into(),
        Route::Admin(Admin::Metrics) => "/metrics".into(),
        Route::Admin(Admin::Problem { name: problem }) => format!("/problems/{}", name(problem)),
        Route::OpenApi => "/openapi.json".into(),
        Route::Servers => "/v1/servers".into(),
        Route::Server { server } => format!("/v1/servers/{}", name(server)),
        Route::List { server, kind } => {
            let list = match kind {
                ListKind::Tools => "tools",
                ListKind::Resources => "resources",
                ListKind::ResourceTemplates => "resource-templates",
                ListKind::Prompts => "prompts",
            };
            format!("/v1/servers/{}/{list}", name(server))
        }
        Route::Post { server, post } => {
            let rest = match post {
                Post::Tool { name: tool } => format!("tools/{}", name(tool)),
                Post::Resource => "resources/read".into(),
                Post::Prompt { name: prompt } => format!("prompts/{}", name(prompt)),
                Post::Calls => "calls".into(),
            };
            format!("/v1/servers/{}/{rest}", name(server))
        }
        Route::Call { id } => format!("/v1/calls/{}", name(id)),
        Route::Browser(Browser::Agent) => "/api/browser-agent".into(),
        Route::Browser(Browser::Health) => "/api/health".into(),
        Route::Browser(Browser::Disconnect) => "/api/disconnect".into(),
    }
}

/// A head with `Spawnling-Timeout`, `Spawnling-Wait`, `?timeout=`, and a header that becomes a variable.
pub(crate) fn terms(input: &[u8]) {
    const MOST: Duration = Duration::from_mins(2);
    let Some(head) = head(input) else { return };
    if let Ok(terms) = Terms::of(&head) {
        let budget = terms.budget(MOST);
        assert!(!budget.is_zero() && budget <= MOST);
        let waits = head.headers.contains_key("spawnling-wait");
        assert_eq!(terms.reply == Reply::WhenDead, waits);
        if let Some(timeout) = terms.timeout {
            let written = format!("/\nSpawnling-Timeout: {}ms", timeout.as_millis());
            let again = self::head(written.as_bytes()).and_then(|head| Terms::of(&head).ok());
            assert_eq!(again.and_then(|terms| terms.timeout), Some(timeout));
        } else {
            assert!(!head.headers.contains_key("spawnling-timeout"), "it was not heard");
        }
    }
    let wanted = [HeaderVariable { header: "x-key".into(), variable: "KEY".into() }];
    let Ok(found) = terms::credentials(&head.headers, &wanted) else { return };
    assert!(head.headers.get_all("x-key").iter().count() <= 1, "which of them?");
    for (name, value) in found.iter() {
        let value = value.reveal();
        assert!(name == "KEY" && !value.is_empty() && !value.contains(['\0', '\n', '\r']), "{value:?}");
    }
}

/// A head with `Accept`: the order of what is named, and over how many headers, changes nothing.
pub(crate) fn accept(input: &[u8]) {
    const OFFERED: &[Media] = &[Media::Json, Media::Text, Media::Events];
    let Some(head) = head(input) else { return };
    let chosen = accept::choose(&head.headers, OFFERED).ok();
    assert!(chosen.is_none_or(|media| OFFERED.contains(&media)));
    let values = head.headers.get_all(header::ACCEPT).iter();
    let Ok(values) = values.map(HeaderValue::to_str).collect::<Result<Vec<&str>, _>>() else { return };
    let mut ranges: Vec<&str> = values.iter().flat_map(|value| value.split(',')).collect();
    if ranges.is_empty() {
        assert_eq!(chosen, Some(Media::Json));
    }
    ranges.reverse();
    let mut joined = HeaderMap::new();
    let one = HeaderValue::from_str(&ranges.join(",")).expect("out of such values");
    joined.insert(header::ACCEPT, one);
    assert_eq!(accept::choose(&joined, OFFERED).ok(), chosen);
}

/// The names under which this gateway is addressed; the last is the address that was connected to.
const OURS: [&str; 2] = ["tools.example", "192.168.1.5"];

/// A head with `Host`, `Origin`, `Sec-Fetch-Site`: what is let through is ours as a browser reads it, too.
pub(crate) fn edge(input: &[u8]) {
    let Some(head) = head(input) else { return };
    let [name, address] = OURS;
    let address = address.parse().expect("an address");
    let edge = Edge::new(&[name.to_owned()]);
    if edge.check(&head, Reached::At([address, address])).is_err() {
        return;
    }
    let text = |name| head.headers.get(name).map(|value| value.to_str().expect("it was let through"));
    let host = text(header::HOST);
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    assert!(host.is_some() || authority.is_some(), "nobody was addressed");
    for named in [host, authority].into_iter().flatten() {
        assert!(is_ours(&format!("http://{named}/")), "{named}");
    }
    if let Some(origin) = text(header::ORIGIN) {
        assert!(origin.starts_with("http") && is_ours(origin), "{origin}");
    }
    // Of the other values those that are unknown are to be ignored (Fetch Metadata, section 3), be they text or not.
    assert!(head.headers.get_all("sec-fetch-site").iter().all(|site| site != "cross-site"));
}

/// By the URL standard, which browsers follow.
fn is_ours(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name == OURS[0],
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.to_string() == OURS[1],
        Some(Host::Ipv6(ip)) => {
            let mapped = ip.to_ipv4_mapped();
            ip.is_loopback() || mapped.is_some_and(|ip| ip.is_loopback() || ip.to_string() == OURS[1])
        }
        None => false,
    }
}

/// A head with `Authorization` and `X-API-Key`: nobody is let in but by showing the whole token.
pub(crate) fn credential(input: &[u8]) {
    const VALUE: &str = "a-token";
    let Some(head) = head(input) else { return };
    let Ok(shown) = edge::credential(&head.headers) else { return };
    let key = head.headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let bearer = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(shown) = shown {
        let (_, token) = bearer.and_then(|bearer| bearer.split_once(' ')).unwrap_or_default();
        assert!(key == Some(shown) || token.trim() == shown, "where does it come from?");
    }
    let token = Token {
        name: "me".into(),
        value: Secret::new(VALUE),
        servers: None,
        tools: None,
        concurrent: None,
        diagnostics: false,
    };
    assert_eq!(Gate::new([token]).identify(shown).is_ok(), shown == Some(VALUE));
    assert!(Gate::default().identify(shown).is_ok(), "a gateway without tokens asks for none");
}

/// A head with `Content-Type` and `Content-Encoding`: nothing passes that a web page may send to other sites unasked.
pub(crate) fn content_type(input: &[u8]) {
    let Some(head) = head(input) else { return };
    if body::check_content_type(&head.headers).is_err() {
        return;
    }
    assert_eq!(head.headers.get_all(header::CONTENT_TYPE).iter().count(), 1);
    let value = head.headers[header::CONTENT_TYPE].to_str().expect("it was let through");
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (main, sub) = essence.split_once('/').expect("a type and a subtype");
    // RFC 9110, section 5.6.2.
    let token = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
    assert!(main == "application" && sub.chars().all(token), "{value:?}");
    assert!(sub == "json" || sub.ends_with("+json"), "{value:?}");
    let coding = head.headers.get(header::CONTENT_ENCODING);
    assert!(coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")));
}

/// A kind of question in the first line, and the body for it in the others.
pub(crate) fn steps(input: &[u8]) {
    let (kind, text) = two(input);
    let post = match kind {
        b"tool" => Post::Tool { name: "t".into() },
        b"prompt" => Post::Prompt { name: "p".into() },
        b"resource" => Post::Resource,
        _ => Post::Calls,
    };
    let many = post == Post::Calls;
    let Some(body) = body(text) else { return };
    let Ok(asked) = steps::read(post, body.clone()) else { return };
    assert!((1..=64).contains(&asked.steps.len()) && (many || asked.steps.len() == 1));
    for (index, step) in asked.steps.iter().enumerate() {
        is_sound(&step.ask);
        let written = body.read::<Value>().ok();
        let written = written.as_ref().and_then(|body| body["steps"].get(index));
        if let (Ask::Tool { name, .. }, Some(written)) = (&step.ask, written) {
            let by_method = written.get("method").is_some();
            let said = if by_method { &written["params"]["name"] } else { &written["tool"] };
            assert_eq!(said, name.as_str(), "another tool than was named");
        }
    }
}

/// What is put into an envelope of ours.
fn is_sound(ask: &Ask) {
    let (arguments, extra) = match ask {
        Ask::Tool { arguments, extra, .. } | Ask::Prompt { arguments, extra, .. } => {
            (arguments.as_ref(), extra)
        }
        Ask::Resource { extra, .. } | Ask::Complete { params: extra } => (None, extra),
        Ask::List(_) | Ask::Ping => return,
    };
    assert!(arguments.is_none_or(|arguments| arguments.as_str().starts_with('{')), "arguments are an object");
    for (name, value) in extra {
        let known = ["inputResponses", "requestState", "ref", "argument", "context"];
        assert!(known.contains(&name.as_str()), "{name} is for us to write");
        assert!(!value.as_str().contains(['\n', '\r']));
    }
}

/// A JSON pointer in the first line, and a body in the others: it leads where RFC 6901 says.
pub(crate) fn arguments(input: &[u8]) {
    let (pointer, text) = two(input);
    let Ok(pointer) = std::str::from_utf8(pointer) else { return };
    // A configuration has no others.
    if !(pointer.is_empty() || pointer.starts_with('/')) {
        return;
    }
    let Some(body) = body(text) else { return };
    let route = OwnRoute {
        path: "/own".into(),
        server: Arc::from("demo"),
        tool: "echo".into(),
        arguments: Some(vec![("found".to_owned(), pointer.to_owned())]),
        response: Response::Result,
    };
    let picked = route.arguments(body.clone());
    assert!(!picked.as_str().contains(['\n', '\r']));
    // What no generic value can hold cannot be compared with one.
    let Ok(whole) = body.read::<Value>() else { return };
    let picked: Value = picked.read().expect("a part of what could be read");
    assert_eq!(picked.get("found"), whole.pointer(pointer));
}

/// A result that a server wrote, of which somebody wants the text alone: what a generic parser finds as well.
pub(crate) fn text(input: &[u8]) {
    let Ok(result) = RawJson::parse(Bytes::copy_from_slice(input)) else { return };
    let found = text::of_tool(&result);
    let (_, _) = (text::of_resource(&result), text::of_prompt(&result));
    // Of two equal names each parser takes another.
    if result.check_unique().is_err() {
        return;
    }
    let Ok(Value::Object(whole)) = result.read::<Value>() else { return };
    let expected = match whole.get("content") {
        None => Some(Vec::new()),
        Some(Value::Array(items)) => Some(items.iter().filter_map(text_item).collect()),
        Some(_) => None,
    };
    assert_eq!(found, expected.map(|texts: Vec<&str>| texts.join("\n")));
}

fn text_item(item: &Value) -> Option<&str> {
    item["text"].as_str().filter(|_| item["type"] == "text")
}
