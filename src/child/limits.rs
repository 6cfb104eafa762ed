//! How much of the machine a tree may use, told to the kernel; and which limit it met.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod cage;
mod controllers;

pub(super) use cage::Cage;
use controllers::Controllers;
pub(super) use controllers::sweep_dead;

use super::spec::limits::{Limits, Rlimits};
use crate::exchange::{Cause, Enforcement, Exit};

/// The tree's own cgroup of version 2.
pub(super) struct Own<'a> {
    /// `None`: it has none.
    pub(super) leaf: Option<&'a Path>,
    /// Processes of ours that live in it.
    pub(super) ours: u64,
    /// Why it does not have a controller.
    pub(super) without: &'a dyn Fn(&str) -> String,
}

/// Where the trees of one gateway are limited. Nothing is looked for before somebody asks.
#[derive(Debug, Default)]
pub(super) struct Cages(OnceLock<Arc<Controllers>>);

impl Cages {
    /// What `limits` need for one tree, if they need anything, and what of them is enforced.
    pub(super) fn cage(&self, limits: &Limits, own: &Own<'_>) -> (Option<Cage>, Vec<Enforcement>) {
        if limits.controllers().is_empty() {
            return (None, Vec::new());
        }
        let controllers = self.0.get_or_init(|| Arc::new(Controllers::find()));
        let (cage, done) = Cage::make(limits, controllers, own);
        (Some(cage), done)
    }
}

/// Limits this process, and what it becomes and starts (`setrlimit(2)`); says what of it is enforced.
pub(super) fn carry(limits: &Rlimits) -> Vec<Enforcement> {
    let all = [
        ("cpu_time", Resource::Cpu, limits.cpu_time),
        ("open_files", Resource::Nofile, limits.open_files),
        ("file_size", Resource::Fsize, limits.file_size),
    ];
    all.into_iter().filter_map(|(what, resource, limit)| Some(one(what, resource, limit?))).collect()
}

fn one(what: &str, resource: Resource, limit: u64) -> Enforcement {
    let hard = getrlimit(resource).maximum;
    if let Some(hard) = hard.filter(|hard| *hard < limit) {
        // The smaller one is in force already.
        return Enforcement::by(what, format!("a limit of {hard} that was there before"));
    }
    // One second more before the process is killed: at the first it is told by SIGXCPU, which says what happened.
    let last = if resource == Resource::Cpu { limit.saturating_add(1) } else { limit };
    let last = hard.map_or(last, |hard| hard.min(last));
    match setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(last) }) {
        Ok(()) => Enforcement::by(what, "setrlimit(2), for each process"),
        Err(error) => Enforcement::missing(what, format!("setrlimit(2): {error}")),
    }
}

/// No process from here on leaves a core dump: it would hold what its memory held, and lie where nobody sweeps.
pub(super) fn no_core_dumps() {
    // Lowering a limit is never refused.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// What is known of processor time that was used up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    /// There is a limit of it.
    pub(super) limited: bool,
    /// Somebody is known to have met it, though the leader's end does not say so.
    pub(super) met: bool,
}

/// The limit that a tree met whose leader ended so. By the exit code a leader that waits for another process passes on that
/// one's death by a signal, as shells do (POSIX shell, "Exit Status for Commands"; 128 and its number).
pub(super) fn cause(exit: Option<Exit>, time: Time, cage: Option<&Cage>) -> Option<Cause> {
    let passed_on = time.limited && exit == Some(Exit::Code(128 + libc::SIGXCPU));
    let met = exit == Some(Exit::Signal(libc::SIGXCPU)) || passed_on || time.met;
    met.then_some(Cause::Cpu).or_else(|| cage?.cause())
}

/// Has this process, which has one thread, and what it becomes and starts, join the cgroups behind these doors
/// (`cgroups(7)`: `0` is who writes).
pub(super) fn join(doors: &[std::ffi::OsString]) -> std::io::Result<()> {
    doors.iter().try_for_each(|door| std::fs::write(door, "0"))
}
