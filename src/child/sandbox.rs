//! A process confines itself: what it may see and touch from here on, it and everything that it starts.
//!
//! [`confine`] runs in a process of its own that has one thread, right before that process becomes the server. What it
//! does cannot be undone. The order matters:
//!
//! ```text
//!   limits         setrlimit(2)
//!   private tmp    mount namespace (and, without root, a user namespace)    needs CAP_SYS_ADMIN over the namespace
//!   scratch size   a file system of that size over the scratch directory    the same
//!   network        network namespace; else a filter on socket(2)            the same
//!   user           groups, group, user                                      needs root, and ends being it
//!   no new privs   root's capabilities; exec(2) gives nothing away          all the above is over with it
//!   files          Landlock; opens the paths in the view made above         needs no new privs
//!   seccomp        the filter                                               needs no new privs
//! ```
//!
//! Manual pages: `landlock(7)`, `seccomp(2)`, `user_namespaces(7)`, `mount_namespaces(7)`, `network_namespaces(7)`,
//! `capabilities(7)`, `prctl(2)`.

use std::io;
use std::path::{Path, PathBuf};

mod files;
mod namespaces;
mod network;
mod privileges;
mod probe;
mod resolve;
mod surroundings;
mod syscalls;

pub(crate) use probe::ProbeError;
pub(crate) use probe::{ConfineArgs, become_confined};
pub(super) use probe::{probe, wrap};
pub(crate) use resolve::ResolveError;
pub(super) use resolve::resolve;

use super::limits;
use super::os::why_no_namespace;
use super::spec::sandbox::{Network, Place, Sandbox, Syscalls};
use crate::exchange::Enforcement;

/// A part of a sandbox; shown as its key in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Part {
    #[error("private_tmp")]
    PrivateTmp,
    #[error("scratch")]
    Scratch,
    #[error("network")]
    Network,
    #[error("user")]
    User,
    #[error("no_new_privs")]
    NoNewPrivs,
    #[error("files")]
    Files,
    #[error("seccomp")]
    Seccomp,
}

/// Why a process is not confined as it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("`{part}` cannot be enforced here")]
pub(crate) struct ConfineError {
    part: Part,
    source: Obstacle,
}

/// What stood in the way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    /// The kernel refused one step.
    #[error("{step}")]
    Step { step: &'static str, source: io::Error },
    /// The kernel refused the right to make the other ones, or made one without rights.
    #[error("a user namespace{}", why_no_namespace(.0))]
    UserNamespace(#[source] io::Error),
    /// A path that was named is not there, or out of reach.
    #[error("{}", path.display())]
    Path { path: PathBuf, source: io::Error },
    /// Landlock is absent, or too old.
    #[error("Landlock, of its ABI 2 or newer (Linux 5.19)")]
    Landlock(#[from] landlock::RulesetError),
    /// Landlock was compiled in, but not enabled.
    #[error("this kernel has Landlock switched off")]
    LandlockOff,
    /// The filter could not be made or installed.
    #[error("the filter of system calls")]
    Seccomp(#[from] seccompiler::Error),
}

impl Obstacle {
    fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Step { step, source: source.into() }
    }
}

/// By what means a part is enforced.
type Means = Result<String, Obstacle>;

/// Confines this process for good, and says what of it is enforced, and by what.
///
/// `scratch` stays writable whatever is asked for. The working directory stays what it was, by its path.
///
/// # Errors
///
/// What cannot be enforced, unless `best_effort` is asked for; the process may be confined in part by then, and must
/// not become anything.
pub(super) fn confine(sandbox: &Sandbox, scratch: &Path) -> Result<Vec<Enforcement>, ConfineError> {
    let mut done = Progress { best_effort: sandbox.best_effort, parts: limits::carry(&sandbox.rlimits) };
    // What is nobody else's may be written.
    let mut own = vec![Place::required(scratch)];
    if sandbox.private_tmp {
        let means = namespaces::private_tmp(sandbox, scratch).map(|(means, directories)| {
            own.extend(directories.into_iter().map(Place::required));
            means
        });
        done.note(Part::PrivateTmp, means)?;
    }
    if let Some(size) = sandbox.scratch_size {
        // A limit that cannot be had is reported, not refused: `limits` is no sandbox.
        done.report(Part::Scratch, namespaces::bound_scratch(scratch, size));
    }
    if sandbox.network == Network::None {
        done.note(Part::Network, network::leave())?;
    }
    if let Some(user) = &sandbox.user {
        done.note(Part::User, privileges::become_user(user, scratch))?;
    }
    let needed = sandbox.files.is_some() || sandbox.syscalls != Syscalls::All;
    if sandbox.no_new_privs || needed {
        done.note(Part::NoNewPrivs, privileges::no_new_privs())?;
    }
    if let Some(files) = &sandbox.files {
        match files::restrict(files, &own, sandbox.best_effort) {
            Ok((means, absent)) => {
                done.note(Part::Files, Ok(means))?;
                done.parts.extend(absent);
            }
            Err(obstacle) => done.note(Part::Files, Err(obstacle))?,
        }
    }
    if sandbox.syscalls != Syscalls::All {
        done.note(Part::Seccomp, syscalls::restrict(sandbox.syscalls))?;
    }
    Ok(done.parts)
}

/// What has been done so far.
struct Progress {
    best_effort: bool,
    parts: Vec<Enforcement>,
}

impl Progress {
    fn note(&mut self, part: Part, means: Means) -> Result<(), ConfineError> {
        match means {
            Err(source) if !self.best_effort => return Err(ConfineError { part, source }),
            means => self.report(part, means),
        }
        Ok(())
    }

    fn report(&mut self, part: Part, means: Means) {
        let what = part.to_string();
        self.parts.push(match means {
            Ok(means) => Enforcement::by(&what, means),
            Err(obstacle) => Enforcement::missing(&what, crate::exchange::fault::chain(&obstacle)),
        });
    }
}
