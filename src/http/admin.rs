//! About the gateway itself: alive, ready, where things are, and what each problem means.
//!
//! Nothing that a caller sent appears in these answers.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::accept::{self, Media};
use super::body::Body;
use super::json::Pieces;
use super::legacy::BrowserApi;
use super::problem::Kind;
use super::rest::good;

/// Alive: this very answer is the proof.
pub(super) fn alive() -> Response<Body> {
    status("ok")
}

/// Ready for calls, unless the gateway is draining.
pub(super) fn ready(draining: bool) -> Response<Body> {
    if !draining {
        return status("ready");
    }
    let mut response = status("draining");
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn status(word: &str) -> Response<Body> {
    good(Pieces::object([("status", Pieces::of(word))]), Media::Json)
}

/// Where things are.
pub(super) fn front(servers: &[&str], browser: Option<&BrowserApi>) -> Response<Body> {
    good(Pieces::from(bytes::Bytes::from(contents(servers, browser))), Media::Text)
}

fn contents(servers: &[&str], browser: Option<&BrowserApi>) -> String {
    let mut text = String::from(
        "Spawnling: a fresh MCP server process for every HTTP request.\n\n\
         GET  /v1/servers                              the configured servers\n\
         GET  /v1/servers/{server}                     one of them, and what it says of itself\n\
         GET  /v1/servers/{server}/tools               its tools; likewise /resources, /resource-templates, /prompts\n\
         POST /v1/servers/{server}/tools/{tool}        call a tool; the body is its arguments, as JSON\n\
         POST /v1/servers/{server}/resources/read      {\"uri\":\"...\"}\n\
         POST /v1/servers/{server}/prompts/{prompt}    the body is its arguments\n\
         POST /v1/servers/{server}/calls               several steps in one process\n\
         GET  /v1/calls/{id}                           the receipt of a call: how it went and how its process ended\n\
         GET  /problems/{name}                         what a problem means and what to do\n\
         GET  /healthz, /readyz                        alive; ready\n",
    );
    if let Some(api) = browser {
        text.push_str("\nthe original API, by the tool ");
        text.extend([&*api.tool, " of ", &*api.server]);
        text.push_str(
            ":\n\
             POST /api/browser-agent                       {\"task\":\"...\"}\n\
             GET  /api/health, /health                     whether its configuration is complete\n\
             POST /api/disconnect                          there is nothing to disconnect\n",
        );
    }
    if !servers.is_empty() {
        text.push_str("\nservers:\n");
        for server in servers {
            text.push_str("  ");
            text.push_str(server);
            text.push('\n');
        }
    }
    text
}

/// The page of one kind of problem, for a reader or for a browser.
pub(super) fn problem_page(kind: Kind, headers: &HeaderMap) -> Response<Body> {
    // Whoever follows the link of a problem gets its page, whatever else they accept.
    let media = accept::choose(headers, &[Media::Text, Media::Html]).unwrap_or(Media::Text);
    let page = if media == Media::Html { html(kind) } else { plain(kind) };
    let mut response = good(Pieces::from(bytes::Bytes::from(page)), media);
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn plain(kind: Kind) -> String {
    let facts = kind.facts();
    format!(
        "{} ({}, status {})\n\n{}\n\nWhat to do: {}.\n",
        facts.title,
        facts.name,
        facts.status.as_u16(),
        facts.meaning,
        facts.remedy
    )
}

fn html(kind: Kind) -> String {
    let facts = kind.facts();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:1rem/1.5 sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}</style></head>\n\
         <body><h1>{title}</h1>\n<p><code>{name}</code>, status {status}</p>\n<p>{meaning}</p>\n\
         <p><b>What to do:</b> {remedy}.</p></body></html>\n",
        title = escaped(facts.title),
        name = facts.name,
        status = facts.status.as_u16(),
        meaning = escaped(facts.meaning),
        remedy = escaped(facts.remedy),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(media: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, media.parse().unwrap())])
    }

    #[test]
    fn every_problem_has_a_page_in_text_and_in_html() {
        for &kind in Kind::ALL {
            assert!(plain(kind).contains(kind.facts().remedy));
            assert!(html(kind).contains(&format!("<code>{}</code>", kind.facts().name)));
        }
    }

    #[test]
    fn a_browser_gets_html_and_everybody_else_text() {
        for (accept, media) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", Media::Html),
            ("*/*", Media::Text),
            ("application/json", Media::Text),
        ] {
            let response = problem_page(Kind::ToolError, &accepting(accept));
            assert_eq!(response.headers()["content-type"], media.content_type(), "{accept}");
        }
    }

    #[test]
    fn a_draining_gateway_is_alive_but_not_ready() {
        assert_eq!(alive().status(), 200);
        assert_eq!(ready(false).status(), 200);
        assert_eq!(ready(true).status(), 503);
    }
}
