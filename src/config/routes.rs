//! Routes of one's own: which paths may be had, and which tool answers there.

use super::Server;
use super::complaint::{Ledger, Place};
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use crate::exchange::nearest;
use crate::http::route::is_taken;

/// One path, and what answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The whole path, as it stands in a request.
    pub(crate) path: String,
    /// A configured server.
    pub(crate) server: String,
    /// Its tool.
    pub(crate) tool: String,
    /// Each argument with the JSON pointer to it in the body; `None`: the body is the arguments.
    pub(crate) arguments: Option<Vec<(String, String)>>,
    /// What the answer looks like.
    pub(crate) response: Response,
}

/// What an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Response {
    /// The tool's result, or a problem.
    #[default]
    Result,
    /// `{"success":...}`, as in the original API.
    Envelope,
}

pub(super) const RESPONSES: &[(&str, Response)] =
    &[("result", Response::Result), ("envelope", Response::Envelope)];

/// A route, and where its path and its server were said.
#[derive(Debug)]
pub(super) struct Written {
    key: String,
    path: Place,
    server: Place,
    route: Route,
}

/// Reads one of them; `None`: something of it is missing or wrong, and that was said.
pub(super) fn route(mut table: Table<'_>) -> Option<Written> {
    for key in ["path", "server", "tool"] {
        if !table.has(key) {
            table.complain(format!("has no `{key}`"));
        }
    }
    let key = table.path().to_owned();
    let path = table.get_placed("path", path);
    let server = table.get_placed("server", value::text);
    let tool = table.get("tool", value::text);
    let arguments = table.table("arguments").map(|mut arguments| arguments.values(|_, at| pointer(at)));
    let response = table.get("response", value::choice(RESPONSES)).unwrap_or_default();
    table.finish();
    let ((path_at, path), (server_at, server)) = (path?, server?);
    let route = Route { path, server, tool: tool?, arguments, response };
    Some(Written { key, path: path_at, server: server_at, route })
}

/// Those that can be had beside each other, these servers, and the original API if it is on.
pub(super) fn checked(
    written: Vec<Written>,
    servers: &[Server],
    original: bool,
    ledger: &Ledger,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::with_capacity(written.len());
    for Written { key, path, server, route } in written {
        if is_taken(&route.path, original) {
            let what = format!("{:?} is a path of the gateway itself", route.path);
            ledger.complain(path, &format!("{key}.path"), what);
        }
        if routes.iter().any(|known| known.path == route.path) {
            ledger.complain(path, &format!("{key}.path"), format!("{:?} has a route already", route.path));
        }
        if !servers.iter().any(|known| known.name == route.server) {
            let names = servers.iter().map(|known| known.name.as_str());
            let hint = nearest(&route.server, names).map(|name| format!("; did you mean `{name}`?"));
            let what = format!("no server is called {:?}{}", route.server, hint.unwrap_or_default());
            ledger.complain(server, &format!("{key}.server"), what);
        }
        routes.push(route);
    }
    routes
}

/// A path as it stands in a request (RFC 3986, section 3.3), without what clients take out of it before they ask.
fn path(value: &Value) -> Parsed<String> {
    let path = value::text(value)?;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    if !path.starts_with('/') || !path.bytes().all(letter) || dots {
        return Err(format!(
            "{path:?} is no path: write /api/task, without a query, and other letters as %XX"
        ));
    }
    Ok(path)
}

/// A JSON pointer (RFC 6901).
fn pointer(value: &Value) -> Parsed<String> {
    let pointer = value::text(value)?;
    let escaped = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if escaped && (pointer.is_empty() || pointer.starts_with('/')) {
        return Ok(pointer);
    }
    Err(format!("{pointer:?} is no JSON pointer: write /task, or /task/0/name"))
}
