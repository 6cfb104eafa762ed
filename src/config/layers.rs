//! The layers, put upon one another: whoever speaks first counts, and everybody is heard for mistakes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::browser::{self, Availability, Browser};
use super::complaint::{Complaints, Ledger, Place};
use super::edge;
use super::file::{self, Written, WrittenBrowser};
use super::routes;
use super::server::Around;
use super::stamp::{Stamped, content};
use super::{BODY_LIMIT, Choice, Config, Exposure, LISTEN, Server, Sources, plain_spec, tokens, value};
use crate::auth::{Secret, Token};
use crate::exchange::nearest;
use crate::http::listen::address::Address;

/// The file that is read without being named.
const USUAL_FILE: &str = "spawnling.toml";

/// The largest file that is taken for a configuration, in bytes.
const LARGEST_FILE: u64 = 4 << 20;

/// By this variable a gateway without a file learns its names, too.
const HOSTS_VARIABLE: &str = "SPAWNLING_HOSTS";

/// By this variable the containment is chosen where no flag says it.
const CONTAINMENT_VARIABLE: &str = "SPAWNLING_CONTAINMENT";

/// What the servers come from.
enum Origin {
    /// The words behind `--`.
    Command,
    /// This file, as it was named.
    File(PathBuf),
    /// This very program.
    Embedded,
}

/// What the original system's variable, [`browser::DIR_VARIABLE`], has brought.
enum RealBrowser {
    /// It is not set, or it does not count.
    NotAsked,
    /// It is set, and the file defines the server itself.
    InFile,
    /// A server that needs this.
    Added(Availability),
}

/// Reads the configuration.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(crate) fn load(sources: &Sources) -> Result<Config, Complaints> {
    let origin = origin(sources);
    let (mut written, ledger) = match &origin {
        Origin::Command => (from_command(sources), Ledger::default()),
        Origin::File(name) => from_file(name, sources),
        Origin::Embedded => (Written::default(), Ledger::default()),
    };
    if matches!(origin, Origin::Command) && sources.config.is_some() {
        ledger.complain(
            Place::Named("--config"),
            "",
            "a command behind `--` takes the place of a file: give one",
        );
    }
    let embedded =
        if matches!(origin, Origin::Embedded) { add_embedded(&mut written, sources) } else { Vec::new() };
    let real = match origin {
        Origin::Command => {
            if sources.surroundings.environment.get(browser::DIR_VARIABLE).is_some() {
                let what = "does not count beside a command behind `--`, and the original API is off";
                ledger.notice(Place::Named(browser::DIR_VARIABLE), "", what);
            }
            RealBrowser::NotAsked
        }
        Origin::File(_) | Origin::Embedded => add_real_browser(&mut written, sources, &ledger),
    };
    // A file that could not be read has none either, and has said so.
    if written.servers.is_empty() && ledger.is_clean() {
        complain_of_no_server(&ledger);
    }
    let browser = browser(&written, &embedded, real, &ledger);
    let tokens = tokens::checked(std::mem::take(&mut written.tokens), &written.servers, &ledger);
    let routes = routes::checked(written.routes, &written.servers, browser.is_some(), &ledger);
    let config = Config {
        listen: listen(written.listen, sources, (!tokens.is_empty(), &ledger)),
        exposure: sources.exposure,
        edge: written.edge,
        concurrent: written.concurrent.unwrap_or(64),
        starts: written.starts,
        memory_pressure: written.memory_pressure,
        drain: drain(written.drain, sources, &ledger),
        otlp: otlp(written.otlp, sources, &ledger),
        containment: containment(written.containment, sources, &ledger),
        body_limit: written.body_limit.unwrap_or(BODY_LIMIT),
        receipts: written.receipts.unwrap_or(1000),
        metrics: written.metrics.unwrap_or_default(),
        hosts: hosts(written.hosts, sources, &ledger),
        secrets: secrets(&tokens, &written.servers, &ledger),
        tokens,
        default_server: default_server(&written.servers),
        servers: written.servers,
        browser,
        routes,
        cache_dir: sources.surroundings.environment.cache_dir(&sources.surroundings.dir),
        notices: Vec::new(),
        embedded,
        files: ledger.files(),
        origins: ledger.origins(),
    };
    let notices = ledger.close()?;
    Ok(Config { notices, ..config })
}

fn complain_of_no_server(ledger: &Ledger) {
    let what =
        "no server is configured: in TOML each is a table `[servers.NAME]`, in JSON a member of `mcpServers`";
    ledger.complain(Place::WholeFile, "servers", what);
    ledger.complain_of_passed_over();
}

fn origin(sources: &Sources) -> Origin {
    if !sources.command.is_empty() {
        return Origin::Command;
    }
    let named = sources.config.clone();
    let named = named.or_else(|| sources.surroundings.environment.get("SPAWNLING_CONFIG").map(PathBuf::from));
    if let Some(name) = named {
        return Origin::File(name);
    }
    // One that is there but out of our sight is to be complained of, not passed over.
    match sources.surroundings.absolute(USUAL_FILE).try_exists() {
        Ok(false) => Origin::Embedded,
        Ok(true) | Err(_) => Origin::File(USUAL_FILE.into()),
    }
}

fn from_command(sources: &Sources) -> Written {
    let surroundings = &sources.surroundings;
    let around = Around { environment: &surroundings.environment, base: &surroundings.dir };
    let mut words = sources.command.iter().cloned();
    let mut spec = plain_spec(around.program(words.next().unwrap_or_default()));
    spec.args = words.collect();
    spec.env = around.environment.for_server(&[], Vec::new());
    Written { servers: vec![Server::new("default", spec)], ..Written::default() }
}

fn from_file(name: &Path, sources: &Sources) -> (Written, Ledger) {
    let path = sources.surroundings.absolute(name);
    let shown = name.display().to_string();
    let file = Stamped::before_reading(path.clone());
    let text = content(&path, LARGEST_FILE).map_err(|error| format!("cannot be read: {error}"));
    let text = text.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
    let text = match text {
        Ok(text) => text.strip_prefix('\u{feff}').map(ToOwned::to_owned).unwrap_or(text),
        Err(what) => {
            let ledger = Ledger::of_file(shown, String::new());
            ledger.complain(Place::WholeFile, "", what);
            return (Written::default(), ledger);
        }
    };
    let ledger = Ledger::of_file(shown, text.clone());
    ledger.keep(Vec::new(), vec![file]);
    let base = path.parent().unwrap_or(&sources.surroundings.dir);
    let around = Around { environment: &sources.surroundings.environment, base };
    let written = file::read(name, &text, around, &ledger);
    (written, ledger)
}

/// Adds the servers that are part of this program; returns their names.
fn add_embedded(written: &mut Written, sources: &Sources) -> Vec<String> {
    let surroundings = &sources.surroundings;
    let mut names = vec!["demo"];
    if surroundings.environment.get(browser::DIR_VARIABLE).is_none() {
        names.push(browser::SERVER);
    }
    for name in &names {
        let mut spec = plain_spec(surroundings.program.clone());
        spec.args = vec!["demo".into()];
        spec.env = surroundings.environment.for_server(&[], Vec::new());
        written.servers.push(Server::new(name, spec));
    }
    names.into_iter().map(ToOwned::to_owned).collect()
}

/// The original system's variable puts its server beside the configured ones, unless one of these has its name.
fn add_real_browser(written: &mut Written, sources: &Sources, ledger: &Ledger) -> RealBrowser {
    let surroundings = &sources.surroundings;
    let Some(dir) = surroundings.environment.get(browser::DIR_VARIABLE) else {
        return RealBrowser::NotAsked;
    };
    if written.servers.iter().any(|server| server.name == browser::SERVER) {
        return RealBrowser::InFile;
    }
    let dir = surroundings.absolute(dir);
    if !dir.is_dir() {
        let what = format!("{} is no directory, so `{}` cannot start", dir.display(), browser::SERVER);
        ledger.notice(Place::Named(browser::DIR_VARIABLE), "", what);
    }
    let (server, available) = browser::real(&dir, &surroundings.environment);
    written.servers.push(server);
    RealBrowser::Added(available)
}

/// What the original API runs.
fn browser(written: &Written, embedded: &[String], real: RealBrowser, ledger: &Ledger) -> Option<Browser> {
    let usual = WrittenBrowser {
        place: Place::WholeFile,
        server: browser::SERVER.to_owned(),
        tool: browser::TOOL.to_owned(),
    };
    let on_by_itself = !matches!(real, RealBrowser::NotAsked) || !embedded.is_empty();
    let asked = written.browser.as_ref().or(on_by_itself.then_some(&usual))?;
    let Some(server) = written.servers.iter().find(|server| server.name == asked.server) else {
        let names = written.servers.iter().map(|server| server.name.as_str());
        let hint = nearest(&asked.server, names).map(|name| format!("; did you mean `{name}`?"));
        let what = format!("no server is called {:?}{}", asked.server, hint.unwrap_or_default());
        ledger.complain(asked.place, "browser_agent.server", what);
        return None;
    };
    let available = match real {
        RealBrowser::Added(available) if server.name == browser::SERVER => available,
        _ if embedded.contains(&server.name) => Availability::Embedded,
        _ => Availability::of_program(&server.spec),
    };
    Some(Browser { server: asked.server.clone(), tool: asked.tool.clone(), available })
}

fn default_server(servers: &[Server]) -> Option<String> {
    let only = if let [only] = servers { Some(only) } else { None };
    only.or_else(|| servers.iter().find(|server| server.name == "default")).map(|server| server.name.clone())
}

/// Whatever must not be shown.
fn secrets(tokens: &[Token], servers: &[Server], ledger: &Ledger) -> Vec<Secret> {
    let of_servers = servers.iter().flat_map(|server| server.secrets.iter().cloned());
    tokens.iter().map(|token| token.value.clone()).chain(of_servers).chain(ledger.secrets(0)).collect()
}

/// `asked`: whether a token is asked for.
fn listen(
    written: Option<Vec<(Place, Address)>>,
    sources: &Sources,
    (asked, ledger): (bool, &Ledger),
) -> Vec<Address> {
    let parse = |name: &'static str, text: &str| {
        let address = edge::address(text, &sources.surroundings.dir)
            .map_err(|what| ledger.complain(Place::Named(name), "", what));
        Some((Place::Named(name), address.ok()?))
    };
    let variable = sources.surroundings.environment.get("SPAWNLING_LISTEN").map(|text| {
        let text = text.to_string_lossy().into_owned();
        text.split(',').filter_map(|text| parse("SPAWNLING_LISTEN", text.trim())).collect()
    });
    let flags: Vec<_> = sources.listen.iter().filter_map(|text| parse("--listen", text)).collect();
    let flags = (!sources.listen.is_empty()).then_some(flags);
    let chosen = flags.or(variable).or(written).unwrap_or_else(|| vec![(Place::WholeFile, LISTEN)]);
    if let Some((place @ Place::Named(_), _)) = chosen.first() {
        ledger.count(*place, "listen", false);
    }
    for (place, address) in chosen.iter().filter(|(_, address)| !asked && !address.is_local()) {
        let what = format!("{address} can be reached from other machines, and nobody is asked for a token");
        let key = if matches!(place, Place::At(_)) { "listen" } else { "" };
        match sources.exposure {
            Exposure::Moot => {}
            Exposure::Accepted => ledger.notice(*place, key, what),
            Exposure::Refused => {
                ledger.complain(
                    *place,
                    key,
                    format!("{what}: add `[[tokens]]`, or give --insecure if that is what you want"),
                );
            }
        }
    }
    chosen.into_iter().map(|(_, address)| address).collect()
}

fn hosts(written: Vec<String>, sources: &Sources, ledger: &Ledger) -> Vec<String> {
    let Some(text) = sources.surroundings.environment.get(HOSTS_VARIABLE) else {
        return written;
    };
    ledger.count(Place::Named(HOSTS_VARIABLE), "hosts", false);
    let parse = |text: &str| {
        value::host_text(text).map_err(|what| ledger.complain(Place::Named(HOSTS_VARIABLE), "", what)).ok()
    };
    text.to_string_lossy().split(',').filter_map(|text| parse(text.trim())).collect()
}

/// Flag, variable, file.
fn containment(written: Option<Choice>, sources: &Sources, ledger: &Ledger) -> Choice {
    let variable = sources.surroundings.environment.get(CONTAINMENT_VARIABLE);
    let variable = variable.map(|text| text.to_string_lossy().into_owned());
    let said = [("--containment", sources.containment.clone()), (CONTAINMENT_VARIABLE, variable)];
    let said = said.into_iter().find_map(|(place, text)| Some((place, text?)));
    let parsed = said.and_then(|(place, text)| {
        ledger.count(Place::Named(place), "containment", false);
        value::containment_text(&text).map_err(|what| ledger.complain(Place::Named(place), "", what)).ok()
    });
    parsed.or(written).unwrap_or_default()
}

fn otlp(written: Option<String>, sources: &Sources, ledger: &Ledger) -> Option<String> {
    let flag = sources.otlp.as_deref().and_then(|text| {
        let place = Place::Named("--otlp-endpoint");
        ledger.count(place, "otlp", false);
        value::collector_text(text).map_err(|what| ledger.complain(place, "", what)).ok()
    });
    flag.or(written)
}

fn drain(written: Option<Duration>, sources: &Sources, ledger: &Ledger) -> Duration {
    let flag = sources.drain.as_deref().and_then(|text| {
        ledger.count(Place::Named("--drain"), "drain", false);
        value::duration_text(text).map_err(|what| ledger.complain(Place::Named("--drain"), "", what)).ok()
    });
    flag.or(written).unwrap_or(Duration::from_secs(30))
}
