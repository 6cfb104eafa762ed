//! Where this gateway may make cgroups with controllers of version 1 (`cgroups(7)`), found by trying.
//!
//! ```text
//!   <where the gateway itself is>/spawnling-<random>/      one per controller and gateway, locked while it lives
//!                                 0/ 1/ 2/ ...             one per tree
//! ```
//!
//! On a host with version 2 alone the controllers are in the tree's own cgroup, which is the containment's to make.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// A controller that enforces one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name for it.
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// How often a directory is made that somebody else sweeps at once.
const TRIES: u32 = 8;

/// How the names of our directories begin.
const PREFIX: &str = "spawnling-";

/// All hierarchies in which this gateway has a directory.
#[derive(Debug)]
pub(in crate::child) struct Controllers {
    roots: Vec<(Controller, Result<Root, String>)>,
    next: AtomicU64,
    /// Directories that could not be removed yet.
    left: Mutex<Vec<PathBuf>>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Tells other gateways that somebody lives here.
    _lock: File,
}

impl Controllers {
    /// Looks for them, makes a directory in each, and sweeps those of gateways that have died.
    pub(super) fn find() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let root = |controller: Controller| {
            let dir = own_dir(controller.name(), &mounts, &own)
                .ok_or_else(|| format!("no cgroup of ours has the controller `{}`", controller.name()))?;
            sweep(&dir);
            Root::make(&dir).map_err(|error| format!("cannot make a cgroup in {}: {error}", dir.display()))
        };
        let roots = Controller::ALL.map(|controller| (controller, root(controller)));
        Self { roots: roots.into(), next: AtomicU64::new(0), left: Mutex::default() }
    }

    /// A new directory for one tree; or why there is none.
    pub(super) fn make(&self, controller: Controller) -> Result<PathBuf, String> {
        let found = self.roots.iter().find(|(known, _)| *known == controller);
        let root = found
            .map(|(_, root)| root.as_ref())
            .expect("all of them were looked for")
            .map_err(Clone::clone)?;
        let path = root.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path).map_err(|error| format!("cannot make a cgroup: {error}"))?;
        Ok(path)
    }

    /// Removes a directory, now or when the kernel is done with it.
    pub(super) fn remove(&self, path: PathBuf) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(path);
        left.retain(|path| fs::remove_dir(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound));
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        for (_, root) in &self.roots {
            if let Ok(root) = root {
                empty(&root.path);
            }
        }
    }
}

impl Root {
    /// Between its making and its locking it looks like one of a dead gateway, and somebody may sweep it.
    fn make(dir: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let random = getrandom::u64().map_err(io::Error::other)?;
            let path = dir.join(format!("{PREFIX}{random:016x}"));
            fs::create_dir(&path)?;
            let locked = File::open(&path).and_then(|lock| {
                flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
                Ok(lock)
            });
            if let Some(lock) = locked.ok().filter(|_| path.is_dir()) {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::Error::other("it was swept again and again"))
    }
}

/// Removes what gateways left that are dead: whose lock is free, and in whose cgroups nobody lives.
fn sweep(dir: &Path) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let free = File::open(entry.path())
            .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free {
            empty(&entry.path());
        }
    }
}

/// Removes a directory and those in it, as far as the kernel lets them go.
fn empty(root: &Path) {
    let inner = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(root);
}

/// Where this process is in the hierarchy of a controller of version 1, out of `/proc/self/mountinfo`
/// (`proc_pid_mountinfo(5)`) and `/proc/self/cgroup` (`cgroups(7)`).
fn own_dir(controller: &str, mounts: &str, own: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next().filter(|controllers| has(controllers))?;
        parts.next()
    })?;
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (mut before, mut after) = (before.split(' ').skip(3), after.split(' '));
        let mounted = (before.next()?, before.next()?);
        (after.next()? == "cgroup" && has(after.nth(1)?)).then_some(mounted)
    })?;
    // In a container the hierarchy may be mounted from where the container begins.
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
impl Controllers {
    /// A host that has none.
    pub(super) fn none() -> Self {
        let roots = Controller::ALL.map(|controller| (controller, Err("there is none".to_owned())));
        Self { roots: roots.into(), next: AtomicU64::new(0), left: Mutex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn our_own_place_is_found_wherever_the_hierarchy_is_mounted_from() {
        let own = "9:pids:/\n4:memory:/docker/x/y\n1:cpu,cpuacct:/a:b\n0::/z\n";
        let dir = |controller| own_dir(controller, MOUNTS, own);
        assert_eq!(dir("memory"), Some("/sys/fs/cgroup/memory/y".into()));
        assert_eq!(dir("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/a:b".into()));
        assert_eq!(dir("pids"), None);
        assert_eq!(own_dir("memory", MOUNTS, "4:memory:/elsewhere\n"), None);
        assert_eq!(own_dir("memory", MOUNTS, "0::/\n"), None);
    }
}
