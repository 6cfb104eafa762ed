//! `run_browser_agent`: the text-mode stand-in for a browser agent.
//!
//! It fetches the one page that the task names and returns what it says. It runs no script, follows no instruction
//! beyond "go there", and says so in every answer.
//!
//! ```text
//! task -> target::find -> each candidate: [permit -> fetch -> redirect?]* -> page::from_html -> answer
//! ```
//!
//! It refuses addresses that lead inside (see `address`), except origins that were allowed by name. Every hop is
//! permitted anew. The name is resolved once per hop, in the resolver that the connection itself uses, so that a name
//! which changes its mind between check and connect gains nothing. Behind a proxy the proxy resolves; there the rule
//! holds for whatever resolves here too.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy, http::Response};
use url::{Host, Url};

use super::page::{self, Page};
use super::{address, target};

/// Longest page, in bytes after decompression.
const MOST_BYTES: u64 = 2 << 20;
/// Redirects followed before giving up.
const MOST_REDIRECTS: usize = 5;
/// Time for one task, all its hops and candidates.
const BUDGET: Duration = Duration::from_secs(30);
/// Time to reach a host, so that an https port that drops packets leaves time to try http.
const CONNECT_BUDGET: Duration = Duration::from_secs(8);

/// Time to make sense of a page; an ordinary one takes milliseconds.
const PARSE_BUDGET: Duration = Duration::from_secs(5);

const NOTE: &str = "This is Spawnling's text-mode stand-in, not a browser: it fetched the page, ran no scripts, clicked \
                    nothing and followed no other part of the task. Set MCP_BROWSER_USE_DIR to use a real browser agent.";

/// The tool's arguments.
#[derive(Deserialize)]
pub(super) struct Task {
    pub(super) task: String,
    /// Taken, as the real agent takes it, and only searched for an address if the task has none.
    #[serde(default)]
    pub(super) add_infos: Option<String>,
}

/// Where the stand-in may go.
#[derive(Debug, Clone, Default)]
pub(super) struct Reach {
    origins: Vec<Url>,
    anywhere: bool,
}

impl Reach {
    /// Takes the allowed origins as given by flags and by `SPAWNLING_ORIGIN`; unreadable ones are named on stderr.
    pub(super) fn new(flags: &[String], anywhere: bool) -> Reach {
        let variable = std::env::var("SPAWNLING_ORIGIN").unwrap_or_default();
        let given = flags.iter().map(String::as_str).chain(variable.split(',')).map(str::trim);
        let mut reach = Reach { origins: Vec::new(), anywhere };
        for text in given.filter(|text| !text.is_empty()) {
            match target::page(text) {
                Some(url) => reach.origins.push(url),
                None => super::wire::complain(&format!(
                    "ignoring {text:?}: not an origin such as http://127.0.0.1:5001"
                )),
            }
        }
        reach
    }

    fn allows(&self, url: &Url) -> bool {
        self.anywhere || self.origins.iter().any(|origin| origin.origin() == url.origin())
    }

    /// Refuses an address that is written as one; names are judged when they are resolved.
    fn permit(&self, url: &Url) -> Result<(), Failure> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::Refused(format!("{url} is not an http or https address")));
        }
        if self.allows(url) {
            return Ok(());
        }
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            _ => None,
        };
        match literal.and_then(address::refusal) {
            Some(kind) => Err(Failure::Refused(format!("{url} is {kind}"))),
            None => Ok(()),
        }
    }
}

/// Why there is no page.
#[derive(Debug)]
enum Failure {
    /// The rule forbids it; no other candidate is tried.
    Refused(String),
    /// It could not be had; the next candidate may do better.
    Unreachable(String),
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Other(inner) if inner.is::<RefusedAddress>() => Failure::Refused(inner.to_string()),
            ureq::Error::BodyExceedsLimit(limit) => {
                Failure::Unreachable(format!("the page is longer than {limit} bytes"))
            }
            other => Failure::Unreachable(other.to_string()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{host} leads to {address}, {kind}")]
struct RefusedAddress {
    host: String,
    address: std::net::IpAddr,
    kind: &'static str,
}

/// Resolves as usual, and yields addresses only if every one of them is public.
#[derive(Debug)]
struct PublicOnly;

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = DefaultResolver::default().resolve(uri, config, timeout)?;
        judge(uri.host().unwrap_or_default(), &addresses)?;
        Ok(addresses)
    }
}

fn judge(host: &str, addresses: &[SocketAddr]) -> Result<(), ureq::Error> {
    for address in addresses.iter().map(SocketAddr::ip) {
        if let Some(kind) = address::refusal(address) {
            let refused = RefusedAddress { host: host.to_owned(), address, kind };
            return Err(ureq::Error::Other(Box::new(refused)));
        }
    }
    Ok(())
}

/// Does the task; the value is a `CallToolResult`. `tell` hears what is being done.
pub(super) fn run(task: &Task, reach: &Reach, tell: &mut dyn FnMut(&str)) -> Value {
    let found = match target::find(&task.task) {
        target::Target::Nowhere => target::find(task.add_infos.as_deref().unwrap_or_default()),
        found => found,
    };
    let pages = match found {
        target::Target::Pages(pages) => pages,
        target::Target::OtherScheme(scheme) => {
            return sorry(&format!(
                "Only http and https pages can be fetched, not {scheme}:// ones. Name a web page in the task."
            ));
        }
        target::Target::Nowhere => {
            return sorry("The task names no web page. Name one, for example: Go to example.com");
        }
    };
    let deadline = Instant::now() + BUDGET;
    let mut failures = Vec::new();
    for url in pages {
        tell(&format!("fetching {url}"));
        match fetch(url.clone(), reach, deadline) {
            Ok((address, status, page)) => return shown(&address, status, &page),
            Err(Failure::Refused(why)) => {
                return sorry(&format!(
                    "Refused: {why}. Only public addresses are fetched. If it is yours, allow its origin: configure \
                     this server with `args = [\"demo\", \"--allow-origin\", \"http://...\"]`."
                ));
            }
            Err(Failure::Unreachable(why)) => failures.push(format!("{url}: {why}")),
        }
    }
    sorry(&format!(
        "The page could not be fetched. {}. Check the address and try again.",
        failures.join("; ")
    ))
}

/// Fetches one page, redirects and all.
fn fetch(mut url: Url, reach: &Reach, deadline: Instant) -> Result<(Url, u16, Page), Failure> {
    for _ in 0..=MOST_REDIRECTS {
        reach.permit(&url)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Unreachable(format!("not done within {} seconds", BUDGET.as_secs())));
        }
        let response = agent(&url, reach, left)?
            .get(url.as_str())
            .header("accept", "text/html, text/*;q=0.8, */*;q=0.1")
            .call()?;
        let status = response.status();
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        match location {
            Some(location) if status.is_redirection() => {
                url = url
                    .join(location)
                    .map_err(|_| Failure::Unreachable(format!("bad redirect to {location:?}")))?;
                url = target::page(url.as_str()).unwrap_or(url);
            }
            _ if status.is_client_error() || status.is_server_error() => {
                return Err(Failure::Unreachable(format!("the site answered {status}")));
            }
            _ => return Ok((url.clone(), status.as_u16(), read(response, &url)?)),
        }
    }
    Err(Failure::Unreachable(format!("more than {MOST_REDIRECTS} redirects")))
}

/// An agent for one hop: nothing is kept between hops, neither connections nor verdicts.
fn agent(url: &Url, reach: &Reach, left: Duration) -> Result<Agent, Failure> {
    let config = Agent::config_builder()
        .timeout_global(Some(left))
        .timeout_connect(Some(CONNECT_BUDGET))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("spawnling-demo/", env!("CARGO_PKG_VERSION")));
    if reach.allows(url) {
        return Ok(config.proxy(None).build().new_agent());
    }
    let uri: Uri =
        url.as_str().parse().map_err(|_| Failure::Unreachable("not a valid address".to_owned()))?;
    match Proxy::try_from_env().filter(|proxy| !proxy.is_no_proxy(&uri)) {
        None => Ok(Agent::with_parts(config.proxy(None).build(), DefaultConnector::default(), PublicOnly)),
        Some(proxy) => {
            // The proxy will resolve. What resolves here as well must be public; what does not is the proxy's to know.
            let port = url.port_or_known_default().unwrap_or(80);
            let host = url.host_str().unwrap_or_default();
            let here: Vec<SocketAddr> = (host, port).to_socket_addrs().into_iter().flatten().collect();
            judge(host, &here)?;
            Ok(config.proxy(Some(proxy)).build().new_agent())
        }
    }
}

fn read(mut response: Response<Body>, base: &Url) -> Result<Page, Failure> {
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or("text/html").to_ascii_lowercase();
    let is_html = kind.contains("html");
    if !is_html && !kind.starts_with("text/") && !kind.contains("json") && !kind.contains("xml") {
        return Err(Failure::Unreachable(format!("it is {kind}, which cannot be shown as text")));
    }
    let bytes = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec()?;
    let source = if kind.contains("8859-1") || kind.contains("windows-1252") {
        bytes.iter().copied().map(char::from).collect()
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    };
    if is_html { parsed(source, base.clone()) } else { Ok(page::from_text(&source)) }
}

/// Parses in a thread of its own, for a page of nothing but nested elements costs the square of its length. A thread
/// that is given up ends with the process, which ends with the call.
fn parsed(source: String, base: Url) -> Result<Page, Failure> {
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || tell.send(page::from_html(&source, &base)));
    told.recv_timeout(PARSE_BUDGET)
        .map_err(|_| Failure::Unreachable("the page is too intricate to read".to_owned()))
}

fn shown(address: &Url, status: u16, page: &Page) -> Value {
    let title = if page.title.is_empty() { "(none)" } else { &page.title };
    let mut text = format!("Title: {title}\nAddress: {address} (HTTP {status})\n\n{}\n", page.text);
    if !page.links.is_empty() {
        text.push_str("\nLinks:\n");
    }
    for (index, link) in page.links.iter().enumerate() {
        let _ = writeln!(text, "{}. {} <{}>", index + 1, link.text, link.url); // a String takes everything
    }
    if page.truncated {
        text.push_str("\n(The page is longer than what is shown.)\n");
    }
    text.push('\n');
    text.push_str(NOTE);
    json!({
        "content": [{"type": "text", "text": text}],
        "structuredContent": {
            "url": address.as_str(), "status": status, "title": page.title, "text": page.text, "links": page.links,
            "truncated": page.truncated, "note": NOTE,
        },
        "isError": false,
    })
}

fn sorry(sentence: &str) -> Value {
    json!({"content": [{"type": "text", "text": format!("{sentence}\n\n{SHORT_NOTE}")}], "isError": true})
}

const SHORT_NOTE: &str = "This is Spawnling's text-mode stand-in, not a browser: it only fetches the page that a task \
                          names. Set MCP_BROWSER_USE_DIR to use a real browser agent.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_inner_address_among_public_ones_refuses_the_name() {
        let public: SocketAddr = "93.184.215.14:80".parse().unwrap();
        let inner: SocketAddr = "10.0.0.1:80".parse().unwrap();
        assert!(judge("two.example", &[public]).is_ok());
        let refused = Failure::from(judge("two.example", &[public, inner]).unwrap_err());
        assert!(
            matches!(refused, Failure::Refused(why) if why.contains("two.example") && why.contains("10.0.0.1"))
        );
    }

    #[test]
    fn an_allowed_origin_allows_itself_and_nothing_beside_it() {
        let reach = Reach::new(&["http://127.0.0.1:5001".to_owned(), "nonsense".to_owned()], false);
        for (address, allowed) in [
            ("http://127.0.0.1:5001/any/path?q", true),
            ("http://127.0.0.1:5002/", false),
            ("https://127.0.0.1:5001/", false),
            ("http://[::1]:5001/", false),
            ("http://10.1.2.3/", false),
            ("http://93.184.215.14/", true),
            ("ftp://93.184.215.14/", false),
        ] {
            assert_eq!(reach.permit(&Url::parse(address).unwrap()).is_ok(), allowed, "{address}");
        }
    }

    #[test]
    fn a_task_that_cannot_be_done_says_what_to_do() {
        for (task, expected) in [
            ("say hello", "names no web page"),
            ("read file:///etc/passwd", "file://"),
            (
                "http://127.1/",
                "configure this server with `args = [\"demo\", \"--allow-origin\", \"http://...\"]`",
            ),
        ] {
            let task = Task { task: task.to_owned(), add_infos: None };
            let result = run(&task, &Reach::default(), &mut |_| {});
            assert_eq!(result["isError"], true);
            assert!(result["content"][0]["text"].as_str().unwrap().contains(expected), "{result}");
        }
    }
}
