//! The configuration as it was understood: TOML, with where each value came from behind it. Secrets are three dots, and
//! so is whatever the gateway's environment holds that need not be shown.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::env;
use super::routes::{RESPONSES, Route};
use super::sandbox::PRESETS;
use super::server::{HOMES, ON_DISCONNECT, PROTOCOLS, VALIDATE};
use super::table::path_to;
use super::{Browser, Choice, Config, MetricsFor, Server, StrategyKind};
use crate::auth::Token;
use crate::child::spec::Teardown;
use crate::child::spec::sandbox::{Account, Network, Wish};
use crate::exchange::HeaderVariable;

/// What stands for a value that is not shown.
const HIDDEN: &str = "\"...\"";
/// Variables whose values say nothing that is not known of the machine.
const SHOWN: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LC_*", "TZ"];

/// What is being written.
struct Page<'c> {
    config: &'c Config,
    text: String,
    /// What the keys of the current table are called in the file: there are two formats.
    paths: Vec<String>,
}

impl Config {
    /// The whole of it.
    pub(crate) fn show(&self) -> String {
        let text = "# The configuration as it was understood, and where each value came from\n";
        let paths = vec![String::new(), "spawnling".to_owned()];
        let mut page = Page { config: self, text: text.to_owned(), paths };
        page.gateway();
        for server in &self.servers {
            page.server(server);
        }
        if let Some(Browser { server, tool, .. }) = &self.browser {
            page.table("browser_agent", &["browser_agent", "spawnling.browser_agent"]);
            page.set("server", quoted(server));
            page.set("tool", quoted(tool));
        }
        for (index, token) in self.tokens.iter().enumerate() {
            page.token(index, token);
        }
        for (index, route) in self.routes.iter().enumerate() {
            page.route(index, route);
        }
        page.text
    }
}

impl Page<'_> {
    fn table(&mut self, name: &str, paths: &[&str]) {
        self.paths = paths.iter().map(ToString::to_string).collect();
        let _ = writeln!(self.text, "\n[{name}]");
    }

    /// One key. Its path may be dotted.
    fn set(&mut self, key: &str, value: impl Into<String>) {
        let under = |path: &String| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let origin = self.paths.iter().find_map(|path| self.config.origins.get(&under(path)));
        let value = match origin {
            Some(origin) if origin.secret => HIDDEN.to_owned(),
            _ => value.into(),
        };
        let place = origin.map_or("default", |origin| origin.place.as_str());
        let _ = writeln!(self.text, "{:<40} # {place}", format!("{key} = {value}"));
    }

    fn gateway(&mut self) {
        let config = self.config;
        self.set("listen", list(config.listen.iter().map(ToString::to_string)));
        self.set("concurrent", config.concurrent.to_string());
        if let Some(starts) = config.starts {
            self.set("starts", starts.to_string());
        }
        if let Some(percent) = config.memory_pressure {
            self.set("memory_pressure", quoted(&format!("{percent}%")));
        }
        let containment = Choice::ALL.iter().find(|(_, choice)| *choice == config.containment);
        self.set("containment", quoted(containment.map_or("auto", |(name, _)| name)));
        self.set("drain", duration(config.drain));
        if let Some(otlp) = &config.otlp {
            self.set("otlp", quoted(otlp.strip_suffix("/v1/traces").unwrap_or(otlp)));
        }
        self.set("body_limit", size(config.body_limit as u64));
        self.set("hosts", list(config.hosts.iter().cloned()));
        self.set("receipts", config.receipts.to_string());
        self.set("metrics", word(MetricsFor::ALL, config.metrics));
        let edge = &config.edge;
        self.set("max_connections", edge.max_connections.to_string());
        self.set("header_timeout", duration(edge.header_timeout));
        self.set("body_timeout", duration(edge.body_timeout));
        self.set("write_timeout", duration(edge.write_timeout));
        self.set("in_flight", size(edge.in_flight as u64));
        self.set("socket_mode", quoted(&format!("{:04o}", edge.socket_mode)));
        if let Some(tls) = &edge.tls {
            let set = |page: &mut Self, key, path: &Path| page.set(key, quoted(&path.to_string_lossy()));
            self.table("tls", &["tls", "spawnling.tls"]);
            set(self, "cert", &tls.cert);
            set(self, "key", &tls.key);
            if let Some(authorities) = &tls.client_ca {
                set(self, "client_ca", authorities);
            }
        }
    }

    fn server(&mut self, server: &Server) {
        let path = server.key.clone();
        self.table(&path_to("servers", &server.name), &[&path, &format!("{path}.spawnling")]);
        let spec = &server.spec;
        self.set("command", quoted(&spec.program.to_string_lossy()));
        let secret = |key: String| self.config.origins.get(&key).is_some_and(|origin| origin.secret);
        let args = spec.args.iter().enumerate().map(|(index, arg)| {
            let hidden = secret(format!("{path}.args[{index}]"));
            if hidden { "...".to_owned() } else { arg.to_string_lossy().into_owned() }
        });
        let args = list(args);
        self.set("args", args);
        if let Some(cwd) = &spec.cwd {
            self.set("cwd", quoted(&cwd.to_string_lossy()));
        }
        self.settings(server);
        self.limits(server);
        if let Some(wish) = &spec.wish {
            self.sandbox(wish);
        }
        self.environment(server, &path);
    }

    fn settings(&mut self, server: &Server) {
        match server.strategy {
            StrategyKind::Fresh => self.set("strategy", quoted("fresh")),
            StrategyKind::Prewarmed(standby) => {
                self.set("strategy", quoted("prewarmed"));
                self.set("standby.min", standby.min.to_string());
                self.set("standby.max", standby.max.to_string());
                self.set("standby.max_age", duration(standby.max_age));
            }
            StrategyKind::Pooled(pool) => {
                self.set("strategy", quoted("pooled"));
                self.set("pool.uses", pool.uses.to_string());
                self.set("pool.max_age", duration(pool.max_age));
                self.set("pool.idle", duration(pool.idle));
            }
            StrategyKind::Shared => self.set("strategy", quoted("shared")),
        }
        for HeaderVariable { header, variable } in &server.header_env {
            self.set(&path_to("header_env", header), quoted(variable));
        }
        self.set("home", word(HOMES, server.spec.home));
        self.set("protocol", word(PROTOCOLS, server.protocol));
        self.set("deadline", duration(server.deadline));
        self.set("open_deadline", duration(server.open_deadline));
        self.set("on_disconnect", word(ON_DISCONNECT, server.on_disconnect));
        self.set("validate", word(VALIDATE, server.validate));
        self.set("list_ttl", duration(server.list_ttl));
        self.set("required", server.required.to_string());
        match server.spec.teardown {
            Teardown::Ladder { eof, term } => {
                self.set("teardown", quoted("ladder"));
                self.set("eof_grace", duration(eof));
                self.set("term_grace", duration(term));
            }
            Teardown::Kill => self.set("teardown", quoted("kill")),
        }
    }

    fn limits(&mut self, server: &Server) {
        let limits = &server.limits;
        self.set("limits.concurrent", limits.concurrent.to_string());
        self.set("limits.queue", limits.queue.to_string());
        self.set("limits.queue_timeout", duration(limits.queue_timeout));
        self.set("limits.output", size(limits.output as u64));
        self.set("limits.stderr", size(limits.stderr as u64));
        let limits = &server.spec.limits;
        // A processor's share in hundredths is a tenth of its quota in milliseconds.
        let cpu = limits.cpu.map(|share| format!("\"{}%\"", share.quota() / 1000));
        let kernel = [
            ("limits.memory", limits.memory.map(size)),
            ("limits.processes", limits.processes.map(|count| count.to_string())),
            ("limits.cpu", cpu),
            ("limits.cpu_time", limits.cpu_time.map(duration)),
            ("limits.open_files", limits.open_files.map(|count| count.to_string())),
            ("limits.file_size", limits.file_size.map(size)),
            ("limits.scratch", limits.scratch.map(size)),
        ];
        for (key, value) in kernel {
            if let Some(value) = value {
                self.set(key, value);
            }
        }
    }

    fn sandbox(&mut self, wish: &Wish) {
        let presets = wish.presets.iter().map(|preset| {
            PRESETS.iter().find(|(_, known)| known == preset).map_or("?", |(name, _)| name).to_owned()
        });
        self.set("sandbox.preset", list(presets));
        for (key, paths) in [("sandbox.read", &wish.read), ("sandbox.write", &wish.write)] {
            if let Some(paths) = paths {
                self.set(key, list(paths.iter().map(|path| path.to_string_lossy().into_owned())));
            }
        }
        self.set("sandbox.network", (wish.network == Network::Shared).to_string());
        self.set("sandbox.no_new_privs", wish.no_new_privs.to_string());
        for (key, flag) in [("sandbox.seccomp", wish.seccomp), ("sandbox.private_tmp", wish.private_tmp)] {
            self.set(key, flag.unwrap_or(!wish.presets.is_empty()).to_string());
        }
        match &wish.user {
            Some(Account::Name(name)) => self.set("sandbox.user", quoted(name)),
            Some(Account::Id(id)) => self.set("sandbox.user", id.to_string()),
            None => {}
        }
        self.set("sandbox.best_effort", wish.best_effort.to_string());
    }

    fn token(&mut self, index: usize, token: &Token) {
        self.paths = vec![format!("tokens[{index}]"), format!("spawnling.tokens[{index}]")];
        self.text.push_str("\n[[tokens]]\n");
        self.set("name", quoted(&token.name));
        let said = |key: &&str| {
            self.paths.iter().any(|path| self.config.origins.contains_key(&format!("{path}.{key}")))
        };
        let key = ["value_file", "value_env"].into_iter().find(said).unwrap_or("value");
        self.set(key, HIDDEN);
        for (key, names) in [("servers", &token.servers), ("tools", &token.tools)] {
            if let Some(names) = names {
                self.set(key, list(names.iter().map(ToString::to_string)));
            }
        }
        if let Some(share) = token.concurrent {
            self.set("concurrent", share.to_string());
        }
        self.set("diagnostics", token.diagnostics.to_string());
    }

    fn route(&mut self, index: usize, route: &Route) {
        self.paths = vec![format!("routes[{index}]"), format!("spawnling.routes[{index}]")];
        self.text.push_str("\n[[routes]]\n");
        self.set("path", quoted(&route.path));
        self.set("server", quoted(&route.server));
        self.set("tool", quoted(&route.tool));
        for (name, pointer) in route.arguments.iter().flatten() {
            self.set(&path_to("arguments", name), quoted(pointer));
        }
        self.set("response", word(RESPONSES, route.response));
    }

    /// The whole environment that it gets.
    fn environment(&mut self, server: &Server, path: &str) {
        for (name, value) in &server.spec.env {
            let name = name.to_string_lossy();
            let origin = self.config.origins.get(&path_to(&format!("{path}.env"), &name));
            let open =
                origin.is_some() || SHOWN.iter().any(|shown| env::matches(shown, name.as_ref().as_ref()));
            let hidden = env::is_telltale(&name) || !open || origin.is_some_and(|origin| origin.secret);
            let place = origin.map_or("the gateway's environment", |origin| origin.place.as_str());
            let value = if hidden { HIDDEN.to_owned() } else { quoted(&value.to_string_lossy()) };
            let key = path_to("env", &name);
            let _ = writeln!(self.text, "{:<40} # {place}", format!("{key} = {value}"));
        }
    }
}

/// So that it is read as it is meant.
fn quoted(text: &str) -> String {
    toml::Value::from(text.replace("${", "$${")).to_string()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quoted(&item)).collect::<Vec<_>>().join(", "))
}

fn word<T: Copy + PartialEq>(words: &[(&str, T)], meaning: T) -> String {
    quoted(words.iter().find(|(_, known)| *known == meaning).map_or("?", |(word, _)| word))
}

/// In the largest unit in which it is whole.
fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let whole = units.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("\"{millis}ms\""), |(name, unit)| format!("\"{}{name}\"", millis / unit))
}

fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| bytes.to_string(), |(name, shift)| format!("\"{}{name}\"", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::super::value;
    use super::*;

    #[test]
    fn times_and_sizes_are_written_as_they_are_read() {
        for text in ["\"1500ms\"", "\"30s\"", "\"2m\"", "\"1h\"", "\"0ms\"", "\"90m\""] {
            assert_eq!(duration(value::duration_text(text.trim_matches('"')).expect("good")), text);
        }
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1 << 10, "\"1KiB\""), (3 << 20, "\"3MiB\""), (5 << 30, "\"5GiB\"")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
