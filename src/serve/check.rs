//! One look at every server: does it start, what holds it, and if it does not start, what might mend that.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::diagnosis::{self, Patient};
use super::edge;
use super::once::{Given, OnceError, explain, whoever, with_rooms};
use crate::catalog::Catalog;
use crate::child::{ProgramError, SpawnError};
use crate::config;
use crate::exchange::fault::chain;
use crate::exchange::{Answer, Bounds, CallError, Enforcement};

/// How far the lines below a server's name are moved to the right.
const INDENT: &str = "\n    ";

/// Starts every server once, and tells how that went, after a look at the files for TLS. An error if any did not start, or
/// these cannot be used.
pub(crate) fn check(given: Given<'_>) -> Result<(), OnceError> {
    let without_tls = check_tls(given.0)?;
    with_rooms(given, async |rooms| {
        let mut failed = Vec::new();
        for (server, catalog) in &rooms.servers {
            let answer = catalog.introduce(whoever(catalog)).await;
            writeln!(io::stdout(), "{}", show_start(server, catalog, &answer))?;
            if answer.failure.is_some() {
                failed.push(catalog.name().to_string());
            }
        }
        for refused in &rooms.refused {
            writeln!(io::stdout(), "{}: FAILED: {}", refused.server, chain(refused))?;
            failed.push(refused.server.clone());
        }
        let (some, all) = (failed.len(), rooms.servers.len() + rooms.refused.len());
        let servers = (some > 0).then(|| format!("{some} of {all} did not start: {}", failed.join(", ")));
        let wrong: Vec<String> =
            without_tls.then(|| "TLS cannot be set up".to_owned()).into_iter().chain(servers).collect();
        if wrong.is_empty() { Ok(()) } else { Err(OnceError::Failed(wrong.join("; "))) }
    })
}

/// Opens the files for TLS, if there are to be any, and says what is wrong with them. Whether that keeps the gateway from
/// starting.
fn check_tls(config: &config::Config) -> io::Result<bool> {
    let story = match edge::certificates(config) {
        Ok(None) => return Ok(false),
        Ok(Some(certificates)) => {
            let doubts = certificates.doubts().iter().map(|doubt| format!("{INDENT}warning: {doubt}"));
            Ok(format!("tls: ok{}", doubts.collect::<String>()))
        }
        Err(error) => Err(format!("tls: FAILED: {}{INDENT}try: {}", chain(&error), error.remedy())),
    };
    writeln!(io::stdout(), "{}", story.as_ref().unwrap_or_else(|story| story))?;
    Ok(story.is_err())
}

/// What to try where a server failed, a line each, each with an end of line before it; empty: nobody knows.
pub(super) fn advise(server: &config::Server, error: &CallError) -> String {
    let programs = error_of_program(error).map(programs_in).unwrap_or_default();
    let patient = Patient { env: &server.spec.env, open_deadline: server.open_deadline, programs: &programs };
    diagnosis::advice(error, &patient).iter().fold(String::new(), |mut text, advice| {
        let _ = write!(text, "\ntry: {advice}");
        text
    })
}

/// The directories in which a program was not found.
fn error_of_program(error: &CallError) -> Option<&[PathBuf]> {
    let CallError::SpawnFailed { source, .. } = error else { return None };
    let source: &(dyn std::error::Error + 'static) = &**source;
    match source.downcast_ref()? {
        SpawnError::Program(ProgramError::NotFound { looked_in, .. }) => Some(looked_in),
        _ => None,
    }
}

fn programs_in(dirs: &[PathBuf]) -> Vec<String> {
    let files = dirs.iter().filter_map(|dir| dir.read_dir().ok()).flatten().flatten();
    let names: BTreeSet<String> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.into_iter().collect()
}

/// How one server's start went.
fn show_start(server: &config::Server, catalog: &Catalog, answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Info {
        name: String,
        version: String,
    }
    let name = catalog.name();
    if let Some(error) = &answer.failure {
        let story = explain(error) + &advise(server, error);
        return format!("{name}: FAILED: {}", story.replace('\n', INDENT));
    }
    let ms = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let said = answer.introduction.clone().unwrap_or_default();
    let info = said.server_info.as_ref().and_then(|info| info.read::<Info>().ok());
    let info = info.map_or("no name".to_owned(), |info| format!("{} {}", info.name, info.version));
    let summary = catalog.summary();
    let about = &summary.about;
    let (spawn, open) = (ms(answer.times.spawn), ms(answer.times.open));
    let stray = answer.noise.first().map(|line| format!("{INDENT}warning: {}", diagnosis::stray(line)));
    format!(
        "{name}: ok: {info}, protocol {}, spawned in {spawn:.1} ms, opened in {open:.1} ms, strategy {}, containment {}{}{}",
        said.protocol_version,
        about.strategy,
        about.containment,
        show_bounds(&summary.bounds),
        stray.unwrap_or_default()
    )
}

/// A line for everything that the kernel was asked for.
fn show_bounds(bounds: &Bounds) -> String {
    let line = |Enforcement { what, enforced, how }: &Enforcement, of: &str, value: &str| {
        let verdict = if *enforced { "enforced by" } else { "NOT ENFORCED:" };
        format!("\n    {of} {what}{value}: {verdict} {how}")
    };
    let limits = bounds.limits.iter();
    let limits = limits
        .map(|limit| line(&limit.enforcement, "limit", &format!(" ({} {})", limit.member, limit.value)));
    let sandbox = bounds.sandbox.iter().map(|part| line(part, "sandbox", ""));
    limits.chain(sandbox).collect()
}
