//! Method and path to [`Route`], a closed enum. Pure.
//!
//! A path is cut into segments as it came and each segment is decoded afterwards, so that the name of a tool may hold
//! a `/` (written `%2F`).

use std::sync::LazyLock;

use http::Method;
use matchit::{Params, Router};
use percent_encoding::percent_decode_str;

use super::problem::Refusal;
use crate::exchange::ListKind;

/// Everything that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// About the gateway itself.
    Admin(Admin),
    /// What can be asked for, as `OpenAPI`.
    OpenApi,
    /// All configured servers.
    Servers,
    /// One of them.
    Server { server: String },
    /// What one of them lists.
    List { server: String, kind: ListKind },
    /// Something to be asked of one of them.
    Post { server: String, post: Post },
    /// The receipt of a call.
    Call { id: String },
    /// The original API.
    Browser(Browser),
}

impl Route {
    /// Whether it is answered without a token: what supervisors, balancers and people who have none need.
    pub(super) const fn is_open(&self) -> bool {
        match self {
            Self::Admin(_) | Self::Browser(Browser::Health) => true,
            Self::OpenApi
            | Self::Servers
            | Self::Server { .. }
            | Self::List { .. }
            | Self::Post { .. }
            | Self::Call { .. }
            | Self::Browser(Browser::Agent | Browser::Disconnect) => false,
        }
    }
}

impl Route {
    /// The parameters that its query may have; `None`: any, for nothing is read there that could be misspelt, or those who have
    /// always called it may have some of their own.
    pub(super) const fn parameters(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Admin(Admin::Ready) => Some(&["full"]),
            Self::OpenApi => Some(&["refresh", "timeout"]),
            Self::Servers => Some(&[]),
            Self::Server { .. } | Self::List { .. } | Self::Post { .. } | Self::Call { .. } => {
                Some(&["timeout"])
            }
            Self::Admin(_) | Self::Browser(_) => None,
        }
    }
}

/// Questions about the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admin {
    Front,
    Asset { name: String },
    Alive,
    Ready,
    Metrics,
    Problem { name: String },
}

/// Questions to a server, their details in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Post {
    Tool { name: String },
    Resource,
    Prompt { name: String },
    Calls,
}

/// The three routes of the original API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Browser {
    Agent,
    Health,
    Disconnect,
}

/// Where a path leads, its names not yet read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Front,
    Asset,
    Alive,
    Ready,
    Metrics,
    OpenApi,
    Problem,
    Servers,
    Server,
    List(ListKind),
    Tool,
    Resource,
    Prompt,
    Calls,
    Call,
    Browser(Browser),
}

pub(super) const PLACES: [(&str, Place); 22] = [
    ("/", Place::Front),
    ("/assets/{name}", Place::Asset),
    ("/healthz", Place::Alive),
    ("/readyz", Place::Ready),
    ("/metrics", Place::Metrics),
    ("/openapi.json", Place::OpenApi),
    ("/problems/{name}", Place::Problem),
    ("/v1/servers", Place::Servers),
    ("/v1/servers/{server}", Place::Server),
    ("/v1/servers/{server}/tools", Place::List(ListKind::Tools)),
    ("/v1/servers/{server}/resources", Place::List(ListKind::Resources)),
    ("/v1/servers/{server}/resource-templates", Place::List(ListKind::ResourceTemplates)),
    ("/v1/servers/{server}/prompts", Place::List(ListKind::Prompts)),
    ("/v1/servers/{server}/tools/{name}", Place::Tool),
    ("/v1/servers/{server}/resources/read", Place::Resource),
    ("/v1/servers/{server}/prompts/{name}", Place::Prompt),
    ("/v1/servers/{server}/calls", Place::Calls),
    ("/v1/calls/{id}", Place::Call),
    ("/api/browser-agent", Place::Browser(Browser::Agent)),
    ("/api/health", Place::Browser(Browser::Health)),
    ("/health", Place::Browser(Browser::Health)),
    ("/api/disconnect", Place::Browser(Browser::Disconnect)),
];

static ROUTER: LazyLock<Router<Place>> = LazyLock::new(|| {
    let mut router = Router::new();
    for (path, place) in PLACES {
        router.insert(path, place).expect("the paths above are well formed and distinct");
    }
    router
});

/// Where a request leads. `browser`: whether the original API is on; if not, its paths do not exist.
pub(super) fn find(method: &Method, path: &str, browser: bool) -> Result<Route, Refusal> {
    let unknown = || Refusal::UnknownRoute { method: method.to_string(), path: path.to_owned() };
    let found = ROUTER.at(path).map_err(|_| unknown())?;
    if matches!(found.value, Place::Browser(_)) && !browser {
        return Err(unknown());
    }
    let place = *found.value;
    let (right, allow) = match place {
        Place::Tool
        | Place::Resource
        | Place::Prompt
        | Place::Calls
        | Place::Browser(Browser::Agent | Browser::Disconnect) => (*method == Method::POST, "POST"),
        Place::Front
        | Place::Asset
        | Place::OpenApi
        | Place::Alive
        | Place::Ready
        | Place::Metrics
        | Place::Problem
        | Place::Servers
        | Place::Server
        | Place::List(_)
        | Place::Call
        | Place::Browser(Browser::Health) => (matches!(*method, Method::GET | Method::HEAD), "GET, HEAD"),
    };
    if !right {
        return Err(Refusal::MethodNotAllowed { method: method.to_string(), allow });
    }
    arrive(place, &found.params)
}

/// Whether a path belongs to the gateway itself, by now or by what is promised of it. `browser`: whether the original API
/// is on.
pub(crate) fn is_taken(path: &str, browser: bool) -> bool {
    const PROMISED: [&str; 4] = ["/mcp", "/assets", "/v1", "/problems"];
    let below = ["/mcp/", "/assets/", "/v1/", "/problems/"];
    match ROUTER.at(path) {
        Ok(found) => !matches!(found.value, Place::Browser(_)) || browser,
        Err(_) => PROMISED.contains(&path) || below.iter().any(|prefix| path.starts_with(prefix)),
    }
}

fn arrive(place: Place, params: &Params<'_, '_>) -> Result<Route, Refusal> {
    let server = || decoded(params, "server");
    let name = || decoded(params, "name");
    Ok(match place {
        Place::Front => Route::Admin(Admin::Front),
        Place::Asset => Route::Admin(Admin::Asset { name: name()? }),
        Place::OpenApi => Route::OpenApi,
        Place::Alive => Route::Admin(Admin::Alive),
        Place::Ready => Route::Admin(Admin::Ready),
        Place::Metrics => Route::Admin(Admin::Metrics),
        Place::Problem => Route::Admin(Admin::Problem { name: name()? }),
        Place::Servers => Route::Servers,
        Place::Server => Route::Server { server: server()? },
        Place::List(kind) => Route::List { server: server()?, kind },
        Place::Tool => Route::Post { server: server()?, post: Post::Tool { name: name()? } },
        Place::Resource => Route::Post { server: server()?, post: Post::Resource },
        Place::Prompt => Route::Post { server: server()?, post: Post::Prompt { name: name()? } },
        Place::Calls => Route::Post { server: server()?, post: Post::Calls },
        Place::Call => Route::Call { id: decoded(params, "id")? },
        Place::Browser(browser) => Route::Browser(browser),
    })
}

fn decoded(params: &Params<'_, '_>, which: &str) -> Result<String, Refusal> {
    let raw = params.get(which).unwrap_or_default();
    match percent_decode_str(raw).decode_utf8() {
        Ok(name) => Ok(name.into_owned()),
        Err(_) => Err(Refusal::malformed(format!("the name {raw:?} in the path is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Route {
        find(&Method::GET, path, true).unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
    }

    fn post(path: &str) -> Route {
        find(&Method::POST, path, true).unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
    }

    fn to(server: &str, post: Post) -> Route {
        Route::Post { server: server.into(), post }
    }

    #[test]
    fn every_documented_path_leads_somewhere() {
        let list = |kind| Route::List { server: "a".into(), kind };
        for (path, route) in [
            ("/", Route::Admin(Admin::Front)),
            ("/assets/a", Route::Admin(Admin::Asset { name: "a".into() })),
            ("/openapi.json", Route::OpenApi),
            ("/healthz", Route::Admin(Admin::Alive)),
            ("/readyz", Route::Admin(Admin::Ready)),
            ("/metrics", Route::Admin(Admin::Metrics)),
            ("/problems/tool-error", Route::Admin(Admin::Problem { name: "tool-error".into() })),
            ("/v1/servers", Route::Servers),
            ("/v1/servers/a%20b", Route::Server { server: "a b".into() }),
            ("/v1/servers/a/tools", list(ListKind::Tools)),
            ("/v1/servers/a/resources", list(ListKind::Resources)),
            ("/v1/servers/a/resource-templates", list(ListKind::ResourceTemplates)),
            ("/v1/servers/a/prompts", list(ListKind::Prompts)),
            ("/v1/calls/0f", Route::Call { id: "0f".into() }),
            ("/api/health", Route::Browser(Browser::Health)),
            ("/health", Route::Browser(Browser::Health)),
        ] {
            assert_eq!(get(path), route, "{path}");
            assert_eq!(find(&Method::HEAD, path, true).unwrap(), route, "{path}");
        }
        for (path, route) in [
            ("/v1/servers/a/tools/t", to("a", Post::Tool { name: "t".into() })),
            ("/v1/servers/a/resources/read", to("a", Post::Resource)),
            ("/v1/servers/a/prompts/p", to("a", Post::Prompt { name: "p".into() })),
            ("/v1/servers/a/calls", to("a", Post::Calls)),
            ("/api/browser-agent", Route::Browser(Browser::Agent)),
            ("/api/disconnect", Route::Browser(Browser::Disconnect)),
        ] {
            assert_eq!(post(path), route, "{path}");
        }
    }

    #[test]
    fn a_name_is_decoded_after_the_path_was_cut() {
        for (raw, name) in [("a%2Fb", "a/b"), ("%C3%A9", "é"), ("..", ".."), ("a+b", "a+b"), ("%257B", "%7B")]
        {
            let route = post(&format!("/v1/servers/s/tools/{raw}"));
            assert_eq!(route, to("s", Post::Tool { name: name.into() }));
        }
        let broken = find(&Method::POST, "/v1/servers/s/tools/%ff", true);
        assert!(matches!(broken, Err(Refusal::Malformed(_))));
    }

    #[test]
    fn another_path_is_unknown() {
        for path in [
            "/x",
            "/v1",
            "/v1/calls",
            "/v1/calls/",
            "/v1/servers/",
            "/v1/servers/a/tools/",
            "/v1/servers/a/tools/t/u",
            "",
            "*",
        ] {
            assert!(matches!(find(&Method::GET, path, true), Err(Refusal::UnknownRoute { .. })), "{path}");
        }
    }

    #[test]
    fn another_method_is_told_which_ones_there_are() {
        for (method, path, allowed) in [
            (Method::GET, "/v1/servers/a/calls", "POST"),
            (Method::POST, "/v1/servers", "GET, HEAD"),
            (Method::DELETE, "/v1/calls/0f", "GET, HEAD"),
            (Method::DELETE, "/healthz", "GET, HEAD"),
            (Method::OPTIONS, "/api/browser-agent", "POST"),
        ] {
            let Err(Refusal::MethodNotAllowed { allow, .. }) = find(&method, path, true) else {
                panic!("{method} {path}")
            };
            assert_eq!(allow, allowed, "{method} {path}");
        }
    }

    #[test]
    fn a_path_of_the_gateway_itself_is_taken() {
        for path in ["/", "/healthz", "/v1", "/v1/x/y", "/mcp", "/mcp/a", "/metrics", "/problems/x"] {
            assert!(is_taken(path, false), "{path}");
        }
        for path in ["/agent", "/v2", "/mcpx", "/healthz/x", "/api/task"] {
            assert!(!is_taken(path, true), "{path}");
        }
        assert!(is_taken("/api/browser-agent", true) && !is_taken("/api/browser-agent", false));
    }

    #[test]
    fn the_original_api_does_not_exist_unless_it_is_on() {
        for path in ["/api/browser-agent", "/api/health", "/health", "/api/disconnect"] {
            assert!(matches!(find(&Method::GET, path, false), Err(Refusal::UnknownRoute { .. })), "{path}");
        }
    }
}
