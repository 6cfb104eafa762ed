//! One server's settings, out of either format: what to start, and how it is dealt with.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::complaint::Place;
use super::env::{Environment, matches};
use super::headers::header_env;
use super::schema::is_key_of_server;
use super::strategy::strategy;
use super::table::Table;
use super::tree::Value;
use super::value::{self, Parsed};
use super::{OnDisconnect, Server, Validate, plain_spec};
use crate::auth::Secret;
use crate::child::spec::sandbox::Wish;
use crate::child::spec::{self, Home, Spec, Teardown};
use crate::exchange::HeaderVariable;
use crate::mcp::era::Protocol;

/// Keys of the design that are still to come.
const NOT_YET: [&str; 1] = ["containment"];

/// A secret of fewer bytes is not hidden: it would be found everywhere.
const SHORTEST: usize = 8;

/// What other clients call the key of a server that is reached over the network.
const URLS: [&str; 3] = ["url", "serverUrl", "httpUrl"];
/// What other clients call the type of a server that is started.
const STDIO: [&str; 2] = ["stdio", "local"];

pub(super) const PROTOCOLS: &[(&str, Protocol)] =
    &[("auto", Protocol::Auto), ("legacy", Protocol::Legacy), ("modern", Protocol::Modern)];
pub(super) const ON_DISCONNECT: &[(&str, OnDisconnect)] =
    &[("cancel", OnDisconnect::Cancel), ("finish", OnDisconnect::Finish)];
pub(super) const VALIDATE: &[(&str, Validate)] =
    &[("enforce", Validate::Enforce), ("warn", Validate::Warn), ("off", Validate::Off)];
pub(super) const HOMES: &[(&str, Home)] = &[("real", Home::Real), ("scratch", Home::Scratch)];
/// Whether it is asked to leave before it is killed.
pub(super) const TEARDOWNS: &[(&str, bool)] = &[("ladder", true), ("kill", false)];

/// What a file's settings are read against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// The gateway's own environment.
    pub(super) environment: &'a Environment,
    /// The directory that relative paths start from.
    pub(super) base: &'a Path,
}

impl Around<'_> {
    /// A command as it will be started: a bare name stays one, anything else becomes absolute.
    pub(super) fn program(self, command: impl Into<PathBuf>) -> PathBuf {
        let command = command.into();
        let bare = !command.as_os_str().as_encoded_bytes().contains(&b'/');
        if bare { command } else { self.base.join(command) }
    }

    /// A path; `~` is the home directory of the gateway.
    pub(super) fn path(self, text: &str) -> Parsed<PathBuf> {
        let home = self.environment.get("HOME").map(Path::new);
        match text.strip_prefix('~') {
            Some("") => home.map(Path::to_owned),
            Some(below) if below.starts_with('/') => home.map(|home| home.join(&below[1..])),
            _ => return Ok(self.base.join(text)),
        }
        .ok_or_else(|| format!("{text:?} needs HOME, which is not set"))
    }
}

/// A server whose keys all stand in one table.
pub(super) fn ours(name: &str, mut table: Table<'_>, around: Around<'_>) -> Server {
    let known = table.secrets(0).len();
    let (spec, set) = launch(&mut table, around);
    let mut server = Server::new(name, spec);
    let given = settings(&mut table, &mut server, around);
    surround(&table, &mut server, &given, (known, set), around);
    table.finish();
    server
}

/// A server as other clients write it, our own keys apart under `spawnling`; `None`: it is passed over. It goes by the
/// name that `name` gives it.
pub(super) fn foreign(
    mut table: Table<'_>,
    around: Around<'_>,
    name: impl FnOnce(&Table<'_>) -> String,
) -> Option<Server> {
    if !table.has("command") && URLS.iter().any(|key| table.has(key)) {
        table.pass_over("it is reached by a url, and only commands can be started");
        return None;
    }
    let kind = table.get("type", value::text).unwrap_or_else(|| "stdio".to_owned());
    if !STDIO.contains(&kind.as_str()) {
        table.pass_over(&format!("its type is {kind:?}, and only \"stdio\" can be started"));
        return None;
    }
    if table.get("disabled", value::flag) == Some(true) {
        table.pass_over("it is disabled");
        return None;
    }
    let known = table.secrets(0).len();
    let (spec, set) = launch(&mut table, around);
    let mut server = Server { key: table.path().to_owned(), ..Server::new(&name(&table), spec) };
    let mut given = Given::default();
    if let Some(mut own) = table.table("spawnling") {
        given = settings(&mut own, &mut server, around);
        own.finish();
    }
    surround(&table, &mut server, &given, (known, set), around);
    table.finish_foreign(is_key_of_server);
    Some(server)
}

/// What to start, and the variables that are set for it.
fn launch(table: &mut Table<'_>, around: Around<'_>) -> (Spec, Vec<(String, Option<String>)>) {
    if !table.has("command") {
        table.complain("has no `command`");
    }
    let command = table.get("command", command).unwrap_or_default();
    let args = table.each("args", value::literal).unwrap_or_default();
    let cwd = table.get("cwd", value::literal);
    let set = table.table("env").map(|mut env| env.values(variable)).unwrap_or_default();
    let spec = Spec {
        args: args.into_iter().map(|(_, arg)| arg.into()).collect(),
        cwd: cwd.map(|dir| around.base.join(dir)),
        ..plain_spec(around.program(command))
    };
    (spec, set)
}

fn command(value: &Value) -> Parsed<String> {
    let command = value::literal(value)?;
    if command.is_empty() {
        return Err("must not be empty".to_owned());
    }
    // No shell takes it apart, so this would be looked for as one odd name.
    if command.contains(char::is_whitespace) && !command.contains('/') {
        return Err("is the program alone: the words after it belong into `args`".to_owned());
    }
    Ok(command)
}

fn variable(name: &str, value: &Value) -> Parsed<Option<String>> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("no variable can have this name".to_owned());
    }
    value::variable(value)
}

/// How the server is dealt with; returns what is said of variables that are given to it.
fn settings(table: &mut Table<'_>, server: &mut Server, around: Around<'_>) -> Given {
    server.strategy = strategy(table);
    server.header_env = header_env(table, server.strategy);
    set(&mut server.protocol, table.get("protocol", value::choice(PROTOCOLS)));
    set(&mut server.deadline, table.get("deadline", value::positive_duration));
    set(&mut server.open_deadline, table.get("open_deadline", value::positive_duration));
    set(&mut server.on_disconnect, table.get("on_disconnect", value::choice(ON_DISCONNECT)));
    set(&mut server.validate, table.get("validate", value::choice(VALIDATE)));
    set(&mut server.list_ttl, table.get("list_ttl", value::duration));
    set(&mut server.required, required(table, &server.header_env));
    set(&mut server.spec.home, table.get("home", value::choice(HOMES)));
    server.spec.teardown = teardown(table);
    if let Some(limits) = table.table("limits") {
        self::limits(limits, server);
    }
    server.spec.wish = table.table("sandbox").map(|sandbox| super::sandbox::sandbox(sandbox, around));
    table.refuse(&NOT_YET, "is not there yet");
    given(table, around)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn required(table: &mut Table<'_>, header_env: &[HeaderVariable]) -> Option<bool> {
    let (place, required) = table.get_placed("required", value::flag)?;
    if required && !header_env.is_empty() {
        let what = "whether it starts may depend on what a caller brings (`header_env`), and `GET /readyz` brings nothing: \
                    the gateway might never be ready. Leave one of them out";
        table.complain_at(place, "required", what);
    }
    Some(required)
}

fn teardown(table: &mut Table<'_>) -> Teardown {
    let ladder = table.get("teardown", value::choice(TEARDOWNS)).unwrap_or(true);
    let eof_grace = table.get_placed("eof_grace", value::duration);
    let term_grace = table.get_placed("term_grace", value::duration);
    if ladder {
        let mut teardown = Teardown::default();
        if let Teardown::Ladder { eof, term } = &mut teardown {
            set(eof, eof_grace.map(|(_, grace)| grace));
            set(term, term_grace.map(|(_, grace)| grace));
        }
        return teardown;
    }
    for (key, grace) in [("eof_grace", eof_grace), ("term_grace", term_grace)] {
        if let Some((place, _)) = grace {
            table.complain_at(place, key, "no grace is given with teardown = \"kill\"");
        }
    }
    Teardown::Kill
}

fn limits(mut table: Table<'_>, server: &mut Server) {
    let limits = &mut server.limits;
    set(&mut limits.concurrent, table.get("concurrent", value::positive_count));
    set(&mut limits.queue, table.get("queue", value::count));
    set(&mut limits.queue_timeout, table.get("queue_timeout", value::duration));
    set(&mut limits.output, table.get("output", value::positive_size));
    set(&mut limits.stderr, table.get("stderr", value::size));
    server.spec.stderr_limit = limits.stderr;
    server.spec.limits = spec::limits::Limits {
        memory: table.get("memory", value::positive_size).map(|bytes| bytes as u64),
        processes: table.get("processes", value::positive_count).map(|count| count as u64),
        cpu: table.get("cpu", value::share),
        cpu_time: table.get("cpu_time", value::whole_seconds),
        open_files: table.get("open_files", value::positive_count).map(|count| count as u64),
        file_size: table.get("file_size", value::size).map(|bytes| bytes as u64),
        scratch: table.get("scratch", value::positive_size).map(|bytes| bytes as u64),
    };
    table.finish();
}

/// What is said of variables that a server is given, each with its place.
#[derive(Debug, Default)]
struct Given {
    /// Patterns of those that are passed on to it.
    pass: Vec<(Place, String)>,
    /// The same; and their values are shown to nobody, wherever they come from.
    secret: Vec<(Place, String)>,
}

fn given(table: &mut Table<'_>, around: Around<'_>) -> Given {
    let pass = table.each("pass_env", value::pattern).unwrap_or_default();
    for (place, name) in &pass {
        if !name.contains('*') && !around.environment.has(name) {
            table.notice_at(*place, "pass_env", format!("the variable {name} is not set"));
        }
    }
    Given { pass, secret: table.each("secret_env", value::pattern).unwrap_or_default() }
}

/// Variables that are set, and how many secrets were known before they were read.
type Set = (usize, Vec<(String, Option<String>)>);

/// Gives a server its environment, and says what of all that it is given is secret.
fn surround(table: &Table<'_>, server: &mut Server, given: &Given, (known, set): Set, around: Around<'_>) {
    let patterns: Vec<String> =
        given.pass.iter().chain(&given.secret).map(|(_, pattern)| pattern.clone()).collect();
    for HeaderVariable { variable, .. } in &server.header_env {
        if set.iter().any(|(name, _)| **name == **variable) {
            table.complain(format!("`env` sets {variable}, which `header_env` takes from a header"));
        }
    }
    if let Some(wish) = &mut server.spec.wish {
        let of_header = |name: &str| server.header_env.iter().any(|own| *own.variable == *name);
        let is_set = |name: &str| set.iter().any(|(set, _)| set == name) || of_header(name);
        let said = |name: &&str| is_set(name) || patterns.iter().any(|pattern| pattern == name);
        wish.said = Wish::IDENTITY.into_iter().filter(said).collect();
    }
    server.spec.env = match server.spec.home {
        Home::Real => around.environment.for_server(&patterns, set),
        Home::Scratch => {
            if set.iter().any(|(name, _)| name == "HOME") {
                table.complain("`env` says what HOME is, and so does home = \"scratch\"");
            }
            around.environment.without_home(&patterns).for_server(&patterns, set)
        }
    };
    // Whoever brings no credentials must not be given the gateway's own.
    server.spec.env.retain(|(name, _)| server.header_env.iter().all(|own| *name != *own.variable));
    server.secrets = table.secrets(known);
    for (place, pattern) in &given.secret {
        let secret = |name: &OsStr| matches(pattern, name);
        for (name, value) in server.spec.env.iter().filter(|(name, _)| secret(name)) {
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            if !value.is_empty() && value.len() < SHORTEST {
                let what = format!("{name} is shorter than {SHORTEST} bytes, and not hidden");
                table.notice_at(*place, "secret_env", what);
            }
            table.hide_variable(&name);
            server.secrets.push(Secret::new(&value));
        }
    }
}
