//! About the gateway itself: alive, ready, counted, where things are, and what each problem means.
//!
//! Nothing that a caller sent appears in these answers.

use std::fmt::Write as _;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::accept::{self, Media};
use super::body::Body;
use super::json::Pieces;
use super::legacy::BrowserApi;
use super::problem::{Kind, Problem, Refusal};
use super::rest::good;
use super::route::Admin;
use super::{Ends, OwnRoute, Service, is_near, page, rest, unknown};
use crate::catalog::Catalog;
use crate::exchange::{LastStart, Principal};
use crate::telemetry::metrics;

/// To whom the metrics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MetricsFor {
    /// Whoever asks from this machine, and whoever else sees the machine.
    #[default]
    Loopback,
    /// Whoever sees the machine.
    Token,
    /// Everybody.
    Everybody,
}

/// Who asks; `None`: somebody without a token, where one is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit<'a> {
    who: Option<&'a Principal>,
    near: bool,
}

impl<'a> Visit<'a> {
    /// Who asks by this request.
    pub(super) fn of(ends: Ends, head: &Parts, who: Option<&'a Principal>) -> Self {
        Self { who, near: is_near(ends, &head.headers) }
    }

    fn may_use(self, server: &str) -> bool {
        self.who.is_some_and(|who| who.may_use(server))
    }

    fn may_call(self, server: &str, tool: &str) -> bool {
        self.may_use(server) && self.who.is_some_and(|who| who.may_call(tool))
    }
}

impl MetricsFor {
    /// Whether they are shown to whoever is there, by whatever name.
    fn includes(self, visit: Visit<'_>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Loopback => visit.near,
            Self::Token => false,
        }
    }
}

impl Service {
    /// Answers about the gateway itself.
    pub(super) fn admin(
        &self,
        head: &Parts,
        admin: &Admin,
        visit: Visit<'_>,
    ) -> Result<Response<Body>, Problem> {
        match admin {
            Admin::Front => {
                let names: Vec<&str> = self.names().filter(|name| visit.may_use(name)).collect();
                let browser = self.config.browser.as_ref().filter(|api| visit.may_use(&api.server));
                let own = self.config.routes.iter();
                let own = own.filter(|own| visit.may_call(&own.server, &own.tool)).collect::<Vec<_>>();
                // A browser asks for a page, curl for anything.
                match accept::choose(&head.headers, &[Media::Text, Media::Html]) {
                    Ok(Media::Html) => Ok(page::page()),
                    _ => Ok(front(&names, browser, &own)),
                }
            }
            Admin::Asset { name } => page::asset(name).ok_or_else(|| unknown(head).into()),
            Admin::Alive => Ok(alive()),
            Admin::Ready => Ok(ready(&self.state(asks_about_seats(head)?), visit)),
            Admin::Metrics => {
                if !self.config.metrics_for.includes(visit) {
                    let who = self.identify(&head.headers)?;
                    if !who.sees_the_machine(visit.near) {
                        let (token, what) = (who.name().to_owned(), "the metrics".to_owned());
                        return Err(Refusal::NotAllowed { token, what }.into());
                    }
                }
                Ok(self.counted())
            }
            Admin::Problem { name } => {
                let kind = Kind::named(name).ok_or_else(|| unknown(head))?;
                Ok(problem_page(kind, &head.headers))
            }
        }
    }

    fn state(&self, seats_count: bool) -> State {
        if self.draining.is_cancelled() {
            return State::Draining;
        }
        let new_id = || rest::new_id().ok();
        let missing =
            |catalog: &Catalog| catalog.not_ready(new_id).map(|last| (catalog.name().clone(), last));
        let missing: Vec<_> = self.servers.iter().filter_map(|catalog| missing(catalog)).collect();
        if !missing.is_empty() {
            return State::Missing(missing);
        }
        let full = seats_count && self.servers.iter().all(|catalog| catalog.is_full());
        if full {
            return State::Full;
        }
        let fails = |catalog: &&Arc<Catalog>| catalog.calls().about().last_start == LastStart::Failed;
        State::Ready { failing: self.servers.iter().filter(fails).map(|it| it.name().clone()).collect() }
    }

    /// Everything that is counted.
    fn counted(&self) -> Response<Body> {
        for catalog in &self.servers {
            catalog.calls().count_standbys();
        }
        let mut response = Response::new(Body::from(self.config.metrics.text()));
        let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Whether `?full=503` is said.
fn asks_about_seats(head: &Parts) -> Result<bool, Refusal> {
    let query = head.uri.query().unwrap_or_default();
    let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "full");
    match values.next() {
        None => Ok(false),
        Some((_, value)) if value == "503" => Ok(true),
        Some(_) => {
            Err(Refusal::malformed("`full` says which status is wanted when every seat is taken: 503"))
        }
    }
}

/// Whether calls may come.
#[derive(Debug)]
enum State {
    /// But for servers that are not required and whose last start failed.
    Ready {
        failing: Vec<Arc<str>>,
    },
    Draining,
    /// Required servers that cannot be started, or that nobody has started yet.
    Missing(Vec<(Arc<str>, LastStart)>),
    /// Whoever comes now is turned away.
    Full,
}

/// Alive: this very answer is the proof.
fn alive() -> Response<Body> {
    status("ok")
}

fn ready(state: &State, visit: Visit<'_>) -> Response<Body> {
    let word = match state {
        State::Ready { failing } => {
            let names: Vec<_> = failing.iter().filter(|name| visit.may_use(name)).collect();
            let names = (!names.is_empty())
                .then(|| ("failing", Pieces::array(names.into_iter().map(|name| Pieces::of(&**name)))));
            let ready = [("status", Pieces::of("ready"))].into_iter();
            return good(Pieces::object(ready.chain(names)), Media::Json);
        }
        State::Draining => "draining",
        State::Full => "full",
        State::Missing(servers) if servers.iter().any(|(_, last)| *last == LastStart::Failed) => {
            "cannot-start"
        }
        State::Missing(_) => "starting",
    };
    let mut members = vec![("status", Pieces::of(word))];
    if let State::Missing(servers) = state {
        let names =
            servers.iter().filter(|(name, _)| visit.may_use(name)).map(|(name, _)| Pieces::of(&**name));
        members.push(("servers", Pieces::array(names)));
    }
    let mut response = good(Pieces::object(members), Media::Json);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn status(word: &str) -> Response<Body> {
    good(Pieces::object([("status", Pieces::of(word))]), Media::Json)
}

/// Where things are.
fn front(servers: &[&str], browser: Option<&BrowserApi>, own: &[&OwnRoute]) -> Response<Body> {
    good(Pieces::from(bytes::Bytes::from(contents(servers, browser, own))), Media::Text)
}

fn contents(servers: &[&str], browser: Option<&BrowserApi>, own: &[&OwnRoute]) -> String {
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
         GET  /healthz, /readyz, /metrics              alive; ready; counted\n\
         GET  /openapi.json                            all of this, and the tools that are known, as OpenAPI\n",
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
    if !own.is_empty() {
        text.push_str("\nroutes of your own:\n");
        for route in own {
            let _ = writeln!(text, "POST {:<40} the tool {} of {}", route.path, route.tool, route.server);
        }
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
fn problem_page(kind: Kind, headers: &HeaderMap) -> Response<Body> {
    // Whoever follows the link of a problem gets its page, whatever else they accept.
    let media = accept::choose(headers, &[Media::Text, Media::Html]).unwrap_or(Media::Text);
    let page = if media == Media::Html { html(kind) } else { plain(kind) };
    let mut response = good(Pieces::from(bytes::Bytes::from(page)), media);
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'self'; img-src 'self'");
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
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"/assets/icon.svg\"><link rel=\"stylesheet\" href=\"/assets/page.css\"></head>\n\
         <body><main class=\"alone\"><div class=\"card\"><h1>{title}</h1>\n<p><code>{name}</code>, status {status}</p>\n\
         <p>{meaning}</p>\n<p><b>What to do:</b> {remedy}.</p></div>\n\
         <p><a href=\"/\">What this gateway has</a></p></main></body></html>\n",
        title = escaped(facts.title),
        name = facts.name,
        status = facts.status.as_u16(),
        meaning = typed(facts.meaning),
        remedy = typed(facts.remedy),
    )
}

/// As HTML, what stands between backticks as what somebody would type.
fn typed(text: &str) -> String {
    let parts = escaped(text);
    let parts = parts.split('`').enumerate().map(|(number, part)| match number % 2 {
        0 => part.to_owned(),
        _ => format!("<code>{part}</code>"),
    });
    parts.collect()
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
            assert!(!html(kind).contains('`'), "{kind:?}");
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
        let nobody = Visit { who: None, near: true };
        assert_eq!(ready(&State::Ready { failing: Vec::new() }, nobody).status(), 200);
        assert_eq!(ready(&State::Draining, nobody).status(), 503);
    }
}
