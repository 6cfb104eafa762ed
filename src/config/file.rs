//! One configuration file, of either format.
//!
//! ```text
//!   spawnling.toml    listen = [...]                      {"mcpServers": {          mcp.json
//!                     [servers.time]                         "time": {
//!                     command = "uvx"                           "command": "uvx",
//!                     deadline = "30s"                          "spawnling": {"deadline": "30s"}}},
//!                                                            "spawnling": {"listen": [...]}}
//! ```
//!
//! TOML is ours alone, so a key that we do not know is a mistake. JSON is shared with other clients: theirs are
//! passed over with a notice, and only under `spawnling` do ours stand, by the same rules.

use std::path::Path;
use std::time::Duration;

use super::browser;
use super::complaint::{Ledger, Place};
use super::edge::{self, Edge};
use super::routes;
use super::schema::is_key_of_gateway;
use super::server::{self, Around};
use super::table::Table;
use super::tokens::{self, WrittenToken};
use super::tree::{self, Value};
use super::value;
use super::{BODY_LIMIT, Choice, MetricsFor, Server};
use crate::http::listen::address::Address;

/// What a file says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) listen: Option<Vec<(Place, Address)>>,
    pub(super) edge: Edge,
    pub(super) concurrent: Option<usize>,
    pub(super) starts: Option<usize>,
    pub(super) memory_pressure: Option<u32>,
    pub(super) receipts: Option<usize>,
    pub(super) metrics: Option<MetricsFor>,
    pub(super) drain: Option<Duration>,
    pub(super) otlp: Option<String>,
    pub(super) containment: Option<Choice>,
    pub(super) body_limit: Option<usize>,
    pub(super) hosts: Vec<String>,
    pub(super) servers: Vec<Server>,
    pub(super) browser: Option<WrittenBrowser>,
    pub(super) tokens: Vec<WrittenToken>,
    pub(super) routes: Vec<routes::Written>,
}

/// What a file says of the original API.
#[derive(Debug)]
pub(super) struct WrittenBrowser {
    pub(super) place: Place,
    pub(super) server: String,
    pub(super) tool: String,
}

/// Reads `text`, the content of the file `name`.
pub(super) fn read(name: &Path, text: &str, around: Around<'_>, ledger: &Ledger) -> Written {
    if is_json(name, text) {
        tree::from_json(text, ledger)
            .map(|entries| json(Table::of_file(&entries, ledger, around), around))
            .unwrap_or_default()
    } else {
        tree::from_toml(text, ledger)
            .map(|entries| toml(Table::of_file(&entries, ledger, around), around))
            .unwrap_or_default()
    }
}

/// By its extension; else by its first character, which in TOML is never a brace or a slash.
fn is_json(name: &Path, text: &str) -> bool {
    match name.extension().and_then(|extension| extension.to_str()) {
        Some("json" | "jsonc") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with(['{', '/']),
    }
}

fn toml(mut table: Table<'_>, around: Around<'_>) -> Written {
    let mut written = settings(&mut table, around);
    if let Some(mut servers) = table.table("servers") {
        for (name, server) in servers.tables() {
            check_name(name, &server);
            written.servers.push(server::ours(name, server, around));
        }
    }
    table.refuse(&["mcpServers"], "is the key of a JSON file; in TOML it is `servers`");
    table.finish();
    written
}

fn json(mut table: Table<'_>, around: Around<'_>) -> Written {
    let mut written = Written::default();
    if let Some(mut own) = table.table("spawnling") {
        written = settings(&mut own, around);
        own.finish();
    }
    // The second one is what VS Code calls it.
    let mut known = Vec::new();
    for key in ["mcpServers", "servers"] {
        for (name, server) in table.table(key).map(|mut servers| servers.tables()).unwrap_or_default() {
            let named = |server: &Table<'_>| usable_name(name, server, &mut known);
            written.servers.extend(server::foreign(server, around, named));
        }
    }
    table.finish_foreign(is_key_of_gateway);
    written
}

/// The name that a server goes by which other clients call `name`: they take any, and ours stand in paths and headers.
/// `known`: the servers before it, by our names and by theirs.
fn usable_name<'t>(name: &'t str, server: &Table<'_>, known: &mut Vec<(String, &'t str)>) -> String {
    let usable = match value::wrong_server_name(name) {
        Some(wrong) => {
            let derived = value::derived_server_name(name);
            match &derived {
                Some(derived) => server.notice(format!("goes by the name {derived:?}: {wrong}")),
                None => server.complain(wrong),
            }
            derived.unwrap_or_else(|| name.to_owned())
        }
        None => name.to_owned(),
    };
    match known.iter().find(|(taken, _)| *taken == usable) {
        Some((_, other)) if *other == name => {
            server.complain("a server of this name stands under `mcpServers`, too");
        }
        Some((_, other)) => {
            server.complain(format!(
                "{name:?} and {other:?} would both go by the name {usable:?}: rename one of them"
            ));
        }
        None => known.push((usable.clone(), name)),
    }
    usable
}

fn check_name(name: &str, server: &Table<'_>) {
    if let Some(what) = value::wrong_server_name(name) {
        server.complain(what);
    }
}

fn settings(table: &mut Table<'_>, around: Around<'_>) -> Written {
    table.refuse(&["insecure"], "is never read from a file: give the flag --insecure");
    let body_limit = table.get("body_limit", value::positive_size);
    Written {
        listen: listen(table, around),
        edge: edge::edge(table, body_limit.unwrap_or(BODY_LIMIT), around),
        concurrent: table.get("concurrent", value::positive_count),
        starts: table.get("starts", value::positive_count),
        memory_pressure: table.get("memory_pressure", value::percentage),
        drain: table.get("drain", value::duration),
        otlp: table.get("otlp", value::collector),
        containment: table.get("containment", value::containment),
        body_limit,
        hosts: table
            .each("hosts", value::host)
            .unwrap_or_default()
            .into_iter()
            .map(|(_, host)| host)
            .collect(),
        receipts: table.get("receipts", value::count),
        metrics: table.get("metrics", value::choice(MetricsFor::ALL)),
        servers: Vec::new(),
        browser: table.table("browser_agent").map(browser_agent),
        tokens: tokens::tokens(table, around),
        routes: table.list_of_tables("routes").into_iter().filter_map(routes::route).collect(),
    }
}

/// A list, or the one address that would be in it.
fn listen(table: &mut Table<'_>, around: Around<'_>) -> Option<Vec<(Place, Address)>> {
    let address = |value: &Value| edge::address(&value::text(value)?, around.base);
    if let Some(Value::Text(_)) = table.peek("listen") {
        return table.get_placed("listen", address).map(|address| vec![address]);
    }
    // A list of which no entry is good has brought complaints of its own.
    let none = |value: &Value| matches!(value, Value::List(items) if items.is_empty());
    if table.peek("listen").is_some_and(none) {
        table.refuse(&["listen"], "must name at least one address");
    }
    table.each("listen", address)
}

fn browser_agent(mut table: Table<'_>) -> WrittenBrowser {
    let usual = (table.place(), browser::SERVER.to_owned());
    let (place, server) = table.get_placed("server", value::text).unwrap_or(usual);
    let written = WrittenBrowser {
        place,
        server,
        tool: table.get("tool", value::text).unwrap_or_else(|| browser::TOOL.to_owned()),
    };
    table.finish();
    written
}
