//! One tree's cgroups with controllers: limits are written into them, the tree is born in them, and afterwards they tell
//! which limit it met.
//!
//! | limit     | version 2                          | version 1                                             |
//! | --------- | ---------------------------------- | ----------------------------------------------------- |
//! | memory    | `memory.max`, no swap, `memory.oom.group` | `memory.limit_in_bytes`, with swap `memory.memsw.limit_in_bytes` |
//! | processes | `pids.max`                         | the same                                              |
//! | cpu       | `cpu.max`                          | `cpu.cfs_quota_us`, `cpu.cfs_period_us`               |
//! | met       | `memory.events`, `pids.events`     | `memory.oom_control`, `pids.events`                   |
//! | peak      | `memory.peak`                      | `memory.max_usage_in_bytes`                           |
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst`, `cgroup-v1/pids.rst`,
//! `scheduler/sched-bwc.rst`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Own;
use super::controllers::{Controller, Controllers, Missing};
use crate::aside::aside;
use crate::child::cgroup::is_parent;
use crate::child::spec::limits::{Limits, PERIOD};
use crate::exchange::{Cause, Enforcement, Measured};

/// The two kinds of cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The cgroups of one tree, beside the one that may hold it together.
#[derive(Debug)]
pub(in crate::child) struct Cage {
    memory: Option<(Version, PathBuf)>,
    pids: Option<(Version, PathBuf)>,
    /// Made here, to be removed here.
    own: Vec<PathBuf>,
    controllers: Arc<Controllers>,
}

impl Cage {
    /// Makes what `limits` need, and says what of them is enforced. The tree's own cgroup is taken where it has the
    /// controller.
    pub(super) fn make(
        limits: &Limits,
        controllers: &Arc<Controllers>,
        own: &Own<'_>,
    ) -> (Self, Vec<Enforcement>) {
        let mut cage =
            Self { memory: None, pids: None, own: Vec::new(), controllers: Arc::clone(controllers) };
        let mut done = Vec::new();
        if let Some(bytes) = limits.memory {
            let made = cage.place(Controller::Memory, own, "memory.max");
            let made = made.and_then(|place| {
                limit_memory(&place, bytes).map(|means| (means, place)).map_err(|error| tell(&error))
            });
            cage.memory = note(&mut done, "memory", made);
        }
        if let Some(count) = limits.processes {
            let made = cage.place(Controller::Pids, own, "pids.max");
            let made = made.and_then(|place| {
                let ours = if place.0 == Version::V2 { own.ours } else { 0 };
                let written = write(&place.1, "pids.max", count.saturating_add(ours));
                written.map(|()| ("pids.max", place)).map_err(|error| tell(&error))
            });
            cage.pids = note(&mut done, "processes", made);
        }
        if let Some(share) = limits.cpu {
            let made = cage.place(Controller::Cpu, own, "cpu.max");
            let made = made.and_then(|place| {
                limit_cpu(&place, share.quota()).map(|means| (means, place)).map_err(|error| tell(&error))
            });
            note(&mut done, "cpu", made);
        }
        (cage, done)
    }

    fn place(
        &mut self,
        controller: Controller,
        own: &Own<'_>,
        file: &str,
    ) -> Result<(Version, PathBuf), String> {
        if let Some(leaf) = own.leaf.filter(|leaf| leaf.join(file).exists()) {
            return Ok((Version::V2, leaf.to_owned()));
        }
        let path = self.controllers.make(controller).map_err(|first| {
            match ((own.without)(controller.name()), first) {
                (second, Missing::Refused(first)) => format!("{second}; in version 1: {first}"),
                (second, Missing::Hierarchy) => second,
            }
        })?;
        self.own.push(path.clone());
        Ok((Version::V1, path))
    }

    /// The files by which a process of one thread joins, each by writing `0` to it. Not `cgroup.procs`: who moves nobody but
    /// its own thread need not hold up all the machine's forks (`cgroup/rush.rs`).
    pub(in crate::child) fn doors(&self) -> Vec<OsString> {
        self.own.iter().map(|path| path.join("tasks").into()).collect()
    }

    /// The limit that it met so far.
    pub(in crate::child) fn cause(&self) -> Option<Cause> {
        let met = |place: &Option<(Version, PathBuf)>, v2: (&str, &str), v1: (&str, &str)| {
            let (version, path) = place.as_ref()?;
            let (file, key) = if *version == Version::V2 { v2 } else { v1 };
            count(&path.join(file), key).filter(|count| *count > 0)
        };
        let memory = met(&self.memory, ("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill"));
        let pids = met(&self.pids, ("pids.events", "max"), ("pids.events", "max"));
        memory.map(|_| Cause::Memory).or(pids.map(|_| Cause::Processes))
    }

    /// Whether [`Self::peak_memory`] will tell of a cgroup that is not the tree's own.
    pub(in crate::child) const fn tells_peak_memory(&self) -> bool {
        matches!(self.memory, Some((Version::V1, _)))
    }

    /// Removes what was made here, when nobody is in it any more; away from the runtime's threads where members have made
    /// sub-groups, of which there may be as many as they liked.
    pub(in crate::child) async fn remove(self) {
        if self.own.iter().any(|path| is_parent(path)) {
            aside(move || drop(self)).await;
        }
    }

    /// The most memory that it had at once.
    pub(in crate::child) fn peak_memory(&self) -> Option<Measured<u64>> {
        let (version, path) = self.memory.as_ref()?;
        let source = match version {
            Version::V2 => "memory.peak",
            Version::V1 => "memory.max_usage_in_bytes",
        };
        let value = fs::read_to_string(path.join(source)).ok()?.trim().parse().ok()?;
        Some(Measured { value, source })
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Empty by now, unless somebody escaped from what holds the tree together.
        self.own.drain(..).for_each(|path| self.controllers.remove(path));
    }
}

type Made = Result<(&'static str, (Version, PathBuf)), String>;

fn note(done: &mut Vec<Enforcement>, what: &str, made: Made) -> Option<(Version, PathBuf)> {
    match made {
        Ok((means, place)) => {
            done.push(Enforcement::by(what, format!("{means} of a cgroup")));
            Some(place)
        }
        Err(why) => {
            done.push(Enforcement::missing(what, why));
            None
        }
    }
}

fn tell(error: &io::Error) -> String {
    format!("the kernel does not take it: {error}")
}

fn limit_memory((version, path): &(Version, PathBuf), bytes: u64) -> io::Result<&'static str> {
    // Memory that went to swap would be outside of the limit. Where there is no swap, or nobody counts it, it cannot.
    let optional = |file: &str, value: u64| match write(path, file, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    match version {
        Version::V2 => {
            write(path, "memory.max", bytes)?;
            optional("memory.swap.max", 0)?;
            // Half a tree is of no use to anybody.
            optional("memory.oom.group", 1)?;
            Ok("memory.max")
        }
        Version::V1 => {
            write(path, "memory.limit_in_bytes", bytes)?;
            optional("memory.memsw.limit_in_bytes", bytes)?;
            Ok("memory.limit_in_bytes")
        }
    }
}

fn limit_cpu((version, path): &(Version, PathBuf), quota: u64) -> io::Result<&'static str> {
    match version {
        Version::V2 => {
            write(path, "cpu.max", format!("{quota} {PERIOD}"))?;
            Ok("cpu.max")
        }
        Version::V1 => {
            write(path, "cpu.cfs_period_us", PERIOD)?;
            write(path, "cpu.cfs_quota_us", quota)?;
            Ok("cpu.cfs_quota_us")
        }
    }
}

/// The kernel makes these files; one that is not there must not be made.
fn write(dir: &Path, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).open(dir.join(file))?.write_all(format!("{value}").as_bytes())
}

/// The number behind `key` in a file of `key number` lines.
fn count(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::spec::limits::Share;

    /// A directory with these files, which stands for a cgroup of version 2.
    fn leaf(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        dir
    }

    const fn own(leaf: &Path) -> Own<'_> {
        Own { leaf: Some(leaf), ours: 0, without: &|name| format!("somebody lives where `{name}` would be") }
    }

    #[test]
    fn in_version_2_the_limits_stand_in_the_trees_own_cgroup() {
        let files = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"]
            .map(|file| (file, ""));
        let leaf = leaf(&files);
        let limits = Limits {
            memory: Some(1 << 20),
            processes: Some(7),
            cpu: Share::of_percent(150),
            ..Limits::default()
        };
        let (cage, done) = Cage::make(&limits, &Arc::new(Controllers::none()), &own(leaf.path()));
        assert!(done.iter().all(|done| done.enforced) && done.len() == 3, "{done:?}");
        assert!(cage.doors().is_empty());
        let said = |file| fs::read_to_string(leaf.path().join(file)).unwrap();
        assert_eq!(
            (said("memory.max"), said("memory.swap.max"), said("memory.oom.group")),
            ("1048576".into(), "0".into(), "1".into())
        );
        assert_eq!((said("pids.max"), said("cpu.max")), ("7".into(), "150000 100000".into()));
        assert_eq!((cage.cause(), cage.peak_memory()), (None, None));

        fs::write(leaf.path().join("pids.events"), "max 3\n").unwrap();
        assert_eq!(cage.cause(), Some(Cause::Processes));
        fs::write(leaf.path().join("memory.events"), "low 0\noom 1\noom_kill 1\noom_group_kill 1\n").unwrap();
        fs::write(leaf.path().join("memory.peak"), "1048576\n").unwrap();
        assert_eq!(cage.cause(), Some(Cause::Memory));
        assert_eq!(cage.peak_memory().map(|peak| (peak.value, peak.source)), Some((1 << 20, "memory.peak")));
    }

    #[test]
    fn what_is_ours_in_a_trees_cgroup_does_not_count_among_its_processes() {
        let leaf = leaf(&[("pids.max", "")]);
        let limits = Limits { processes: Some(1), ..Limits::default() };
        let own = Own { ours: 1, ..own(leaf.path()) };
        let (_cage, done) = Cage::make(&limits, &Arc::new(Controllers::none()), &own);
        assert!(done[0].enforced, "{done:?}");
        assert_eq!(fs::read_to_string(leaf.path().join("pids.max")).unwrap(), "2");
    }

    #[test]
    fn a_controller_that_is_not_there_is_said_to_be_missing() {
        let leaf = leaf(&[("pids.max", "")]);
        let limits = Limits { memory: Some(1 << 20), processes: Some(7), ..Limits::default() };
        let (_cage, done) = Cage::make(&limits, &Arc::new(Controllers::none()), &own(leaf.path()));
        let told: Vec<_> = done.iter().map(|done| (done.what.as_str(), done.enforced)).collect();
        assert_eq!(told, [("memory", false), ("processes", true)]);
        assert_eq!(done[0].how, "somebody lives where `memory` would be");
        assert!(!leaf.path().join("memory.max").exists());
    }
}
