//! `[[tokens]]`: who may ask, and for what.
//!
//! A token's value stands in the file, in a file of its own or in a variable; it is read here, once, and shown by nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::Server;
use super::complaint::{Ledger, Place};
use super::expand::LARGEST_FILE;
use super::server::Around;
use super::stamp::content;
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use crate::auth::{LONGEST, Secret, Token};
use crate::exchange::nearest;

/// Shorter ones could be guessed, and would not be hidden where they turn up.
const SHORTEST: usize = 8;

/// A token, and where the servers that it names stand.
#[derive(Debug)]
pub(super) struct WrittenToken {
    pub(super) token: Token,
    servers: Vec<(Place, String)>,
}

/// Reads all of them.
pub(super) fn tokens(table: &mut Table<'_>, around: Around<'_>) -> Vec<WrittenToken> {
    // It would look as if somebody were asked for one.
    if table.peek("tokens").is_some_and(|value| matches!(value, Value::List(tokens) if tokens.is_empty())) {
        table.refuse(&["tokens"], "names no token: leave it out if nobody is to be asked for one");
    }
    let mut written: Vec<WrittenToken> = Vec::new();
    for table in table.list_of_tables("tokens") {
        if let Some(token) = token(table, around, &written) {
            written.push(token);
        }
    }
    written
}

/// The tokens as they count, each server that they name being one.
pub(super) fn checked(written: Vec<WrittenToken>, servers: &[Server], ledger: &Ledger) -> Vec<Token> {
    for (place, name) in written.iter().flat_map(|written| &written.servers) {
        if !servers.iter().any(|server| server.name == *name) {
            let names = servers.iter().map(|server| server.name.as_str());
            let hint = nearest(name, names).map(|name| format!("; did you mean `{name}`?"));
            let what = format!("no server is called {name:?}{}", hint.unwrap_or_default());
            ledger.complain(*place, "tokens.servers", what);
        }
    }
    written.into_iter().map(|written| written.token).collect()
}

/// The next one behind these.
fn token(mut table: Table<'_>, around: Around<'_>, before: &[WrittenToken]) -> Option<WrittenToken> {
    let known = |name: &str| before.iter().any(|known| &*known.token.name == name);
    if !table.has("name") {
        table.complain("has no `name`");
    }
    let name = table.get("name", name).filter(|name| {
        if known(name) {
            table.complain(format!("another token is called {name:?}, too"));
        }
        !known(name)
    });
    let value = self::value(&mut table, around);
    // Nobody could say which of them is shown, and they may allow different things.
    for WrittenToken { token: same, .. } in
        before.iter().filter(|known| value.as_ref() == Some(&known.token.value))
    {
        table.complain(format!("has the same value as {:?}", same.name));
    }
    let servers = table.each("servers", value::text);
    let tools = table.each("tools", value::text);
    let (concurrent, diagnostics) =
        (table.get("concurrent", value::positive_count), table.get("diagnostics", value::flag));
    table.finish();
    let names = |list: &Vec<(Place, String)>| list.iter().map(|(_, name)| name.as_str().into()).collect();
    let token = Token {
        name: name?,
        value: value?,
        servers: servers.as_ref().map(names),
        tools: tools.as_ref().map(names),
        concurrent,
        diagnostics: diagnostics.unwrap_or(false),
    };
    Some(WrittenToken { token, servers: servers.unwrap_or_default() })
}

fn name(value: &Value) -> Parsed<Arc<str>> {
    let name = value::text(value)?;
    if let Some(what) = value::wrong_server_name(&name) {
        return Err(what.replace("server", "token"));
    }
    if name == "anonymous" {
        return Err("is what whoever has no token is called".to_owned());
    }
    Ok(name.into())
}

/// From one of three places.
fn value(table: &mut Table<'_>, around: Around<'_>) -> Option<Secret> {
    const KEYS: [&str; 3] = ["value", "value_file", "value_env"];
    if KEYS.iter().filter(|key| table.has(key)).count() != 1 {
        table.complain("needs one of `value`, `value_file` and `value_env`");
    }
    let inline = table.get("value", |value| good(&value::literal(value)?));
    let file = table.get_placed("value_file", |value| Ok(around.base.join(value::literal(value)?)));
    let file = file.and_then(|(place, path)| {
        table.depends_on(path.clone());
        let text = content(&path, LARGEST_FILE).map_err(|error| error.to_string());
        let text = text.and_then(|text| String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned()));
        let text = text.map_err(|why| format!("{} cannot be read: {why}", path.display()));
        let token = text.and_then(|text| good(&text));
        let token = token.map_err(|what| table.complain_at(place, "value_file", what)).ok()?;
        if path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) {
            let path = path.display();
            let what = format!("{path} may be read by everybody on this machine: `chmod o-r {path}`");
            table.notice_at(place, "value_file", what);
        }
        Some(token)
    });
    let variable = table.get("value_env", |value| {
        let name = value::text(value)?;
        let text = around.environment.get(&name).and_then(|text| text.to_str());
        good(text.ok_or_else(|| format!("the variable {name} is not set"))?)
    });
    inline.or(file).or(variable)
}

/// A value that can be sent in a header; what surrounds it in a file does not count.
fn good(text: &str) -> Parsed<Secret> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds what cannot be sent in a header: only visible ASCII, no spaces".to_owned());
    }
    match text.len() {
        0..SHORTEST => Err(format!("is shorter than {SHORTEST} characters, so it could be guessed")),
        SHORTEST..=LONGEST => Ok(Secret::new(text)),
        _ => Err(format!("is longer than {LONGEST} characters")),
    }
}
