//! One request to one response.
//!
//! ```text
//!   edge (Host, Origin, Sec-Fetch-Site) -> who asks -> route -> terms and Accept -> the whole body -> what they may
//!   -> dialect -> response
//! ```
//!
//! The order is the protection: nothing is read for a foreign page, and nothing is asked of a server before the
//! caller's body is complete, for only then does the connection notice that the caller left. A call lives in the
//! future of its response, or in the body of its event stream, and nowhere else: dropping either hangs up.
//!
//! What is deliberately absent: any knowledge of processes, and any second place that chooses a status for a failure
//! (`problem.rs` is the one).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, VIA, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use tokio_util::sync::CancellationToken;

use crate::auth::{Gate, Mask};
use crate::catalog::{Catalog, Receipts};
use crate::exchange::{Ask, CallId, Principal, Reply};
use crate::telemetry::metrics::Metrics;

mod accept;
mod admin;
mod authority;
mod body;
mod budget;
mod edge;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
mod legacy;
pub(crate) mod listen;
mod live;
mod openapi;
mod own;
mod page;
mod problem;
mod receipt;
mod rest;
pub(crate) mod route;
mod sse;
mod stamp;
mod terms;
mod text;

pub(crate) use admin::MetricsFor;
pub(crate) use body::Body;
pub(crate) use budget::Budget;
pub(crate) use legacy::BrowserApi;
pub(crate) use live::Live;
pub(crate) use own::{OwnRoute, Response as RouteResponse};

use accept::Media;
use budget::Charge;
use edge::{Edge, Reached};
use problem::{Problem, Refusal, Sees};
use rest::{Asker, Shape};
use route::{Browser, Post, Route};
use terms::Terms;

/// What can be configured here.
#[derive(Clone)]
pub(crate) struct Config {
    /// How many bytes the body of a request may have.
    pub(crate) body_limit: usize,
    /// How long a body may take to arrive.
    pub(crate) body_timeout: Duration,
    /// How long the head of a request may take to arrive, and how long a connection may idle.
    pub(crate) header_timeout: Duration,
    /// How long a reader may take nothing of an answer before it is given up.
    pub(crate) write_timeout: Duration,
    /// How many connections are served at once; further ones wait to be accepted.
    pub(crate) max_connections: usize,
    /// What the bodies of requests and answers that are on their way may hold together.
    pub(crate) budget: Budget,
    /// Names, beside those of loopback, under which the gateway may be addressed.
    pub(crate) hosts: Vec<String>,
    /// The original API, if it is on.
    pub(crate) browser: Option<BrowserApi>,
    /// Routes of one's own; none of them is a path of ours.
    pub(crate) routes: Vec<OwnRoute>,
    /// Who is let in.
    pub(crate) gate: Gate,
    /// What no answer of ours may show.
    pub(crate) mask: Mask,
    /// The server that counts where none is named.
    pub(crate) default_server: Option<Arc<str>>,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// To whom that is shown.
    pub(crate) metrics_for: MetricsFor,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_limit: 4 << 20,
            body_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_mins(1),
            max_connections: 1024,
            budget: Budget::default(),
            hosts: Vec::new(),
            browser: None,
            routes: Vec::new(),
            gate: Gate::default(),
            mask: Mask::default(),
            default_server: None,
            metrics: Metrics::default(),
            metrics_for: MetricsFor::default(),
        }
    }
}

/// The two ends of a connection, and the listener that it came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    /// Of a network.
    Tcp {
        /// The address that is listened on; it may stand for every one of the machine.
        bound: SocketAddr,
        /// The address that was connected to.
        local: SocketAddr,
        /// The caller's.
        peer: SocketAddr,
    },
    /// Both on this machine, and none has an address.
    Unix,
}

impl Ends {
    /// Whether the caller sits on this machine.
    fn is_near(&self) -> bool {
        match self {
            Self::Tcp { peer, .. } => peer.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }

    /// By what the caller may address us.
    fn reached(&self) -> Reached {
        match self {
            Self::Tcp { bound, local, .. } => Reached::At([local.ip(), bound.ip()]),
            Self::Unix => Reached::ByFile,
        }
    }
}

/// Everything that a request can reach.
pub(crate) struct Service {
    config: Config,
    edge: Edge,
    servers: Vec<Arc<Catalog>>,
    receipts: Arc<Receipts>,
    draining: CancellationToken,
}

impl Service {
    /// `draining`: once cancelled, the gateway says that it is not ready; nothing else changes here.
    pub(crate) fn new(
        config: Config,
        servers: Vec<Arc<Catalog>>,
        receipts: Arc<Receipts>,
        draining: CancellationToken,
    ) -> Self {
        Self { edge: Edge::new(&config.hosts), config, servers, receipts, draining }
    }

    /// Answers one request.
    ///
    /// # Cancel safety
    ///
    /// Dropping this hangs up on whatever the request had started. So does dropping the body of the response.
    pub(crate) async fn answer<B>(&self, ends: Ends, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        let (mut head, body) = request.into_parts();
        let charge = self.config.budget.open();
        head.extensions.insert(charge.clone());
        let method = head.method.clone();
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| head.uri.path().to_owned());
        let mut response = match self.respond(ends, head, body).await {
            Ok(response) => response,
            Err(problem) => problem.masked(&self.config.mask).into_response(),
        };
        response.body_mut().charge(charge);
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if method == Method::HEAD {
            if let Some(length) = response.body().len() {
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            *response.body_mut() = Body::empty();
        }
        self.config.metrics.answered(response.status().as_u16());
        if let Some(path) = path {
            tracing::debug!(%method, path, status = response.status().as_u16());
        }
        response
    }

    /// The head is not kept while a call waits: its names and values lie in the buffer that the connection reads into, which
    /// can be used again once nobody has a part of it.
    async fn respond<B>(&self, ends: Ends, head: Parts, body: B) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        self.edge.check(&head, ends.reached())?;
        body::check_transfer_coding(&head.headers)?;
        let found = route::find(&head.method, head.uri.path(), self.config.browser.is_some());
        let in_envelope = |problem: Problem| legacy::failure(&problem.masked(&self.config.mask));
        if let Some(own) = self.config.routes.iter().find(|own| own.path == head.uri.path()) {
            return match (own.response, self.own(ends, head, body, own).await) {
                (RouteResponse::Envelope, Err(problem)) => Ok(in_envelope(problem)),
                (_, told) => told,
            };
        }
        let who = match (self.identify(&head.headers), &found) {
            (Ok(who), _) => who,
            (Err(_), Ok(route)) if route.is_open() => return self.open(ends, &head, body, &found?).await,
            (Err(refusal), Ok(Route::Browser(_))) => return Ok(in_envelope(refusal.into())),
            // Whoever is not let in does not learn what there is.
            (Err(refusal), _) => return Err(refusal.into()),
        };
        let visitor = Visitor { sees: sees(ends, &head.headers, &who), who };
        let route = found?;
        check_query(&head, &route)?;
        match route {
            Route::Post { server, post } => self.post(head, body, (&server, post), visitor).await,
            Route::Browser(Browser::Agent) => {
                Ok(self.browser_agent(head, body, visitor).await.unwrap_or_else(in_envelope))
            }
            route => {
                // Nothing in it counts, but the connection sees its caller leave only behind it.
                body::read(body, self.limits(&head)).await?;
                if let Route::Admin(admin) = &route {
                    return self.admin(&head, admin, admin::Visit::of(ends, &head, Some(&visitor.who)));
                }
                self.get(&head, route, visitor).await
            }
        }
    }

    fn identify(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        self.config.gate.identify(edge::credential(headers)?).map_err(Refusal::Unauthenticated)
    }

    /// What is answered to somebody who has no token.
    async fn open<B>(
        &self,
        ends: Ends,
        head: &Parts,
        body: B,
        route: &Route,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        check_query(head, route)?;
        body::read(body, self.limits(head)).await?;
        match route {
            Route::Admin(admin) => self.admin(head, admin, admin::Visit::of(ends, head, None)),
            Route::Browser(Browser::Health) => Ok(legacy::health(self.browser(head)?)),
            _ => Err(unknown(head).into()),
        }
    }

    /// The routes that need no body.
    async fn get(&self, head: &Parts, route: Route, visitor: Visitor) -> Result<Response<Body>, Problem> {
        let Visitor { who, sees } = visitor;
        let json = || accept::choose(&head.headers, &[Media::Json]);
        match route {
            Route::OpenApi => {
                json()?;
                let (refresh, terms) = (openapi::asks_to_refresh(head.uri.query())?, Terms::of(head)?);
                self.openapi(Asker { who, terms, sees, headers: &head.headers }, refresh).await
            }
            Route::Servers => {
                json()?;
                Ok(rest::servers(&self.servers, self.config.default_server.as_deref(), &who))
            }
            Route::Server { server } => {
                json()?;
                let terms = Terms::of(head)?;
                rest::server(self.server(&server, &who)?, Asker { who, terms, sees, headers: &head.headers })
                    .await
            }
            Route::List { server, kind } => {
                json()?;
                let (terms, catalog) = (Terms::of(head)?, self.server(&server, &who)?);
                authority::check(&who, &Ask::List(kind))?;
                rest::list(catalog, kind, Asker { who, terms, sees, headers: &head.headers }).await
            }
            Route::Call { id } => {
                json()?;
                self.call(&id, Terms::of(head)?, &who).await
            }
            Route::Browser(Browser::Health) => Ok(legacy::health(self.browser(head)?)),
            Route::Browser(Browser::Disconnect) => {
                let allowed = Self::may_use_agent(self.browser(head)?, &who);
                Ok(allowed.map_or_else(|no| legacy::failure(&no.into()), |()| legacy::disconnect()))
            }
            Route::Admin(_) | Route::Post { .. } | Route::Browser(Browser::Agent) => {
                Err(unknown(head).into())
            }
        }
    }

    async fn post<B>(
        &self,
        head: Parts,
        body: B,
        (server, post): (&str, Post),
        visitor: Visitor,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        let Visitor { who, sees } = visitor;
        let catalog = self.server(server, &who)?;
        let media = accept::choose(&head.headers, rest::offered(&post))?;
        let terms = Terms::of(&head)?;
        let body = body::read_json(&head.headers, body, self.limits(&head)).await?;
        let steps = rest::read_steps(post.clone(), body)?;
        for step in &steps.steps {
            authority::check(&who, &step.ask)?;
        }
        let shape = Shape::of(&post, &steps, &who);
        let request = Asker { who, terms, sees, headers: &head.headers }.request(steps, catalog)?;
        drop(head);
        rest::call(Arc::clone(catalog), request, shape, media, sees).await
    }

    /// A route of one's own. It is what its tool is, under another path, and asks for the same authority.
    async fn own<B>(
        &self,
        ends: Ends,
        head: Parts,
        body: B,
        own: &OwnRoute,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        let who = self.identify(&head.headers)?;
        let sees = sees(ends, &head.headers, &who);
        if head.method != Method::POST {
            return Err(Refusal::MethodNotAllowed { method: head.method.to_string(), allow: "POST" }.into());
        }
        let catalog = self.server(&own.server, &who)?;
        authority::check_tool(&who, &own.tool)?;
        let post = Post::Tool { name: own.tool.clone() };
        let media = match own.response {
            RouteResponse::Result => Some(accept::choose(&head.headers, rest::offered(&post))?),
            RouteResponse::Envelope => None,
        };
        let terms = Terms::of(&head)?;
        let body = body::read_json(&head.headers, body, self.limits(&head)).await?;
        let steps = rest::read_steps(post.clone(), own.arguments(body))?;
        let shape = Shape::of(&post, &steps, &who);
        let request = Asker { who, terms, sees, headers: &head.headers }.request(steps, catalog)?;
        drop(head);
        match media {
            Some(media) => rest::call(Arc::clone(catalog), request, shape, media, sees).await,
            None => legacy::enveloped(catalog, request, sees).await,
        }
    }

    async fn browser_agent<B>(
        &self,
        head: Parts,
        body: B,
        visitor: Visitor,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Send,
    {
        let api = self.browser(&head)?;
        let Visitor { who, sees } = visitor;
        let (terms, body) =
            (Terms::of(&head)?, body::read_json(&head.headers, body, self.limits(&head)).await?);
        Self::may_use_agent(api, &who)?;
        let catalog = self.server(&api.server, &who)?;
        let steps = legacy::asked(&api.tool, &body)?;
        let request = Asker { who, terms, sees, headers: &head.headers }.request(steps, catalog)?;
        drop(head);
        legacy::enveloped(catalog, request, sees).await
    }

    /// The receipt of a call, as far as it goes; or, if that is wanted, when it is complete.
    async fn call(&self, id: &str, terms: Terms, asker: &Principal) -> Result<Response<Body>, Problem> {
        let unknown = || Refusal::UnknownCall { id: id.to_owned() };
        let call = CallId::parse(id).ok_or_else(unknown)?;
        let ended = async {
            match terms.reply {
                Reply::WhenKnown => None,
                Reply::WhenDead => self.receipts.find_ended(call, asker).await,
            }
        };
        let ended = tokio::time::timeout(terms.budget(LONGEST_WAIT), ended).await;
        let record = ended.ok().flatten().or_else(|| self.receipts.find(call, asker)).ok_or_else(unknown)?;
        Ok(rest::good(receipt::of_call(&record), Media::Json))
    }

    /// A server that may be used. Of others is not told whether they are there.
    fn server(&self, name: &str, who: &Principal) -> Result<&Arc<Catalog>, Refusal> {
        authority::check_server(who, name)?;
        self.servers.iter().find(|catalog| &**catalog.name() == name).ok_or_else(|| Refusal::UnknownServer {
            name: name.to_owned(),
            known: self.names().filter(|name| who.may_use(name)).map(Into::into).collect(),
        })
    }

    /// The original API asks for the same authority as the tool behind it.
    fn may_use_agent(api: &BrowserApi, who: &Principal) -> Result<(), Refusal> {
        authority::check_server(who, &api.server)?;
        authority::check_tool(who, &api.tool)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|catalog| &**catalog.name())
    }

    fn browser(&self, head: &Parts) -> Result<&BrowserApi, Refusal> {
        self.config.browser.as_ref().ok_or_else(|| unknown(head))
    }

    /// `head`: of the request whose body it is. What is read is charged to it.
    fn limits(&self, head: &Parts) -> body::Limits {
        let charge = head.extensions.get::<Charge>().cloned().unwrap_or_default();
        body::Limits { bytes: self.config.body_limit, time: self.config.body_timeout, charge }
    }
}

/// How long the end of a call is waited for, for whoever asks for its receipt.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What proxies add to a request that they pass on.
const FORWARDED: [HeaderName; 4] = [
    http::header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    VIA,
    HeaderName::from_static("x-real-ip"),
];

/// Who asks, and what they may see.
struct Visitor {
    who: Principal,
    sees: Sees,
}

/// What may be shown is for the principal to say. A remote caller is not near, nor is one for whom a proxy of this machine
/// asks. Whoever adds such a header by himself only sees less.
fn sees(ends: Ends, headers: &HeaderMap, who: &Principal) -> Sees {
    if who.sees_the_machine(is_near(ends, headers)) { Sees::Everything } else { Sees::Little }
}

/// Whether whoever asks is on this machine.
fn is_near(ends: Ends, headers: &HeaderMap) -> bool {
    let passed_on = FORWARDED.iter().any(|name| headers.contains_key(name));
    ends.is_near() && !passed_on
}

fn check_query(head: &Parts, route: &Route) -> Result<(), Refusal> {
    route.parameters().map_or(Ok(()), |known| terms::check_query(head.uri.query(), known))
}

fn unknown(head: &Parts) -> Refusal {
    Refusal::UnknownRoute { method: head.method.to_string(), path: head.uri.path().to_owned() }
}

#[cfg(test)]
mod tests;
