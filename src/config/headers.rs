//! Headers of a request that become variables of its call's process.

use super::StrategyKind;
use super::env::matches;
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use crate::exchange::HeaderVariable;

/// Headers that mean something to us, or to the connection: nobody's credentials for a server. `name-*`: all of a kind.
const RESERVED: [&str; 19] = [
    "host",
    "authorization",
    "x-api-key",
    "cookie",
    "origin",
    "referer",
    "connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-*",
    "accept*",
    "sec-*",
    "proxy-*",
    "spawnling-*",
    "traceparent",
    "tracestate",
];

/// Variables that decide what is run, and where: no caller may.
const DECISIVE: [&str; 14] = [
    "PATH", "HOME", "SHELL", "ENV", "BASH_ENV", "IFS", "TMPDIR", "PWD", "LD_*", "NODE_*", "PYTHON*", "RUBY*",
    "PERL5*", "JAVA_*",
];

/// Those of the server that `table` is about.
pub(super) fn header_env(table: &mut Table<'_>, strategy: StrategyKind) -> Vec<HeaderVariable> {
    let Some(mut inner) = table.table("header_env") else { return Vec::new() };
    let place = inner.place();
    let mut found: Vec<HeaderVariable> = Vec::new();
    for (header, variable) in inner.values(variable) {
        let header = header.to_ascii_lowercase();
        if found.iter().any(|other| *other.header == *header || *other.variable == *variable) {
            table.complain_at(place, "header_env", format!("{header:?} or {variable} stands there twice"));
        }
        found.push(HeaderVariable { header: header.into(), variable: variable.into() });
    }
    let why = match strategy {
        StrategyKind::Fresh => return found,
        StrategyKind::Prewarmed(_) => {
            "a process that is started before the call cannot have what the call brings"
        }
        StrategyKind::Pooled(_) | StrategyKind::Shared => {
            "a process that is used for many calls would show one caller's credentials to others"
        }
    };
    table.complain_at(place, "header_env", format!("{why}: it needs strategy = \"fresh\""));
    found
}

fn variable(header: &str, value: &Value) -> Parsed<String> {
    // RFC 9110, section 5.6.2: a token.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.is_empty() || !header.bytes().all(token) {
        return Err("no header can have this name".to_owned());
    }
    let lower = header.to_ascii_lowercase();
    if RESERVED.iter().any(|pattern| matches(pattern, lower.as_ref())) {
        return Err("this header has a meaning of its own: take another, such as `X-...-Token`".to_owned());
    }
    let name = value::literal(value)?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.as_bytes()[0].is_ascii_digit() || !name.bytes().all(word) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    if DECISIVE.iter().any(|pattern| matches(pattern, name.as_ref())) {
        return Err(format!("{name} decides what is run, which no caller may"));
    }
    Ok(name)
}
