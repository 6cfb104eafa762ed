//! The process that confines itself, by which is also found out what can be confined here at all.
//!
//! ```text
//!   spawnling confine --sandbox JSON --scratch DIR [--join FILE]... -- PROGRAM ARGS     becomes PROGRAM
//!   spawnling confine --sandbox JSON --scratch DIR --probe                              says how, and is gone
//! ```
//!
//! What works is found by trying, in a process that is thrown away: versions and settings of a kernel do not tell what
//! a container, a security module or a missing right will refuse.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::child::limits;
use crate::child::spawn::US;
use crate::child::spec::sandbox::Sandbox;
use crate::exchange::Enforcement;
use crate::exchange::fault::chain;

/// What a shell says of a command that was found and could not be run.
const NOT_RUN: u8 = 126;

/// Why it is not known what can be enforced, or known that it cannot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// No process could be started to try in.
    #[error("cannot try it out")]
    Start(#[source] io::Error),
    /// It was tried, and this is what came of it.
    #[error("{0}")]
    Refused(String),
    /// What it said cannot be understood.
    #[error("trying it out came to nothing")]
    Unclear(#[source] serde_json::Error),
}

/// The words of the hidden subcommand.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfineArgs {
    #[arg(long)]
    sandbox: String,
    #[arg(long)]
    scratch: PathBuf,
    /// `tasks` of a cgroup of version 1 to join; may be given again
    #[arg(long)]
    join: Vec<OsString>,
    #[arg(long)]
    probe: bool,
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Confines this process and has it become the command; returns only if that failed, or if it was a trial.
pub(crate) fn become_confined(args: &ConfineArgs) -> ExitCode {
    let told = match confined(args) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(why) => why,
    };
    let _ = writeln!(io::stderr(), "{told}");
    ExitCode::from(NOT_RUN)
}

fn confined(args: &ConfineArgs) -> Result<(), String> {
    let sandbox: Sandbox = serde_json::from_str(&args.sandbox).map_err(|error| chain(&error))?;
    limits::join(&args.join).map_err(|error| format!("cannot join a cgroup: {error}"))?;
    let enforced = super::confine(&sandbox, &args.scratch).map_err(|error| chain(&error))?;
    if args.probe {
        let line = serde_json::to_string(&enforced).map_err(|error| chain(&error))?;
        return writeln!(io::stdout(), "{line}").map_err(|error| chain(&error));
    }
    let Some((program, words)) = args.command.split_first() else {
        return Err("there is nothing to run".to_owned());
    };
    #[expect(clippy::disallowed_methods, reason = "it starts no process: this one becomes another")]
    let error = Command::new(program).args(words).exec();
    Err(format!("cannot execute {}: {error}", Path::new(program).display()))
}

/// The words before a program's own that have it started in `sandbox`.
pub(in crate::child) fn wrap(
    sandbox: &Sandbox,
    scratch: &Path,
    doors: &[OsString],
) -> io::Result<Vec<OsString>> {
    let line = serde_json::to_string(sandbox)?;
    let mut words: Vec<OsString> =
        vec!["confine".into(), "--sandbox".into(), line.into(), "--scratch".into(), scratch.into()];
    words.extend(doors.iter().flat_map(|door| ["--join".into(), door.clone()]));
    Ok(words)
}

/// Tries `sandbox` out on a process that is thrown away, with `scratch` as its scratch directory.
pub(in crate::child) fn probe(sandbox: &Sandbox, scratch: &Path) -> Result<Vec<Enforcement>, ProbeError> {
    #[expect(clippy::disallowed_methods, reason = "it is waited for right here")]
    let said = Command::new(US)
        .args(wrap(sandbox, scratch, &[]).map_err(ProbeError::Start)?)
        .arg("--probe")
        .env_clear()
        .current_dir(scratch)
        .stdin(Stdio::null())
        .output()
        .map_err(ProbeError::Start)?;
    if !said.status.success() {
        return Err(ProbeError::Refused(String::from_utf8_lossy(&said.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&said.stdout).map_err(ProbeError::Unclear)
}
