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
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::child::cgroup::{below, is_root, remove};

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
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// How often a directory is made that somebody else sweeps at once.
const TRIES: u32 = 8;

/// How long those whom a dead gateway has left may take to die.
const SWEEPING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);

/// How the names of our directories begin.
const PREFIX: &str = "spawnling-";

/// All hierarchies in which this gateway has a directory.
#[derive(Debug)]
pub(in crate::child) struct Controllers {
    roots: Vec<(Controller, Result<Root, Missing>)>,
    next: AtomicU64,
    /// Directories that could not be removed yet.
    left: Mutex<Vec<PathBuf>>,
}

/// Why there is no cgroup of version 1 with a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nobody has mounted it, or it shows nothing of ours.
    Hierarchy,
    /// It could not be made.
    Refused(String),
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Tells other gateways that somebody lives here.
    _lock: File,
}

impl Controllers {
    /// Looks for them, and makes a directory in each.
    pub(super) fn find() -> Self {
        let own = match own_dirs() {
            Ok(own) => own,
            Err(error) => {
                let why = Missing::Refused(format!("cannot find out where the gateway is: {error}"));
                return Self::without(&why);
            }
        };
        let root = |(controller, dir): (Controller, Option<PathBuf>)| {
            let made = dir.ok_or(Missing::Hierarchy).and_then(|dir| {
                let refused =
                    |error| Missing::Refused(format!("cannot make a cgroup in {}: {error}", dir.display()));
                Root::make(&dir).map_err(refused)
            });
            (controller, made)
        };
        Self { roots: own.map(root).into(), next: AtomicU64::new(0), left: Mutex::default() }
    }

    /// There are none, for this reason.
    fn without(why: &Missing) -> Self {
        let roots = Controller::ALL.map(|controller| (controller, Err(why.clone())));
        Self { roots: roots.into(), next: AtomicU64::new(0), left: Mutex::default() }
    }

    /// A new directory for one tree; or why there is none.
    pub(super) fn make(&self, controller: Controller) -> Result<PathBuf, Missing> {
        let found = self.roots.iter().find(|(known, _)| *known == controller);
        let root = found
            .map(|(_, root)| root.as_ref())
            .expect("all of them were looked for")
            .map_err(Clone::clone)?;
        let path = root.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path).map_err(|error| Missing::Refused(format!("cannot make a cgroup: {error}")))?;
        Ok(path)
    }

    /// Removes a directory, now or when the kernel is done with it.
    pub(super) fn remove(&self, path: PathBuf) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.push(path);
        left.retain(|path| remove(path).is_err());
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        for (_, root) in &self.roots {
            if let Ok(root) = root {
                // Empty, unless a tree could not be killed; then it stays for whoever starts next.
                let _ = remove(&root.path);
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
            match locked {
                Ok(lock) if path.is_dir() => return Ok(Self { path, _lock: lock }),
                // Somebody holds the lock to sweep it, or has swept it.
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotFound) => {
                }
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("it was swept again and again"))
    }
}

/// Ends and removes what gateways that are dead have left: whose lock is free. Those in it have lost whoever would have
/// ended them. Blocks for as long as they take to die.
pub(in crate::child) fn sweep_dead() {
    let own = match own_dirs() {
        Ok(own) => own,
        Err(error) => {
            let why = "cannot find out whether dead gateways have left something in cgroups of version 1";
            return tracing::error!(%error, "{why}");
        }
    };
    for dir in own.into_iter().filter_map(|(_, dir)| dir) {
        let left = below(&dir).into_iter().filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            is_root(name)
        });
        for path in left {
            // Held until it is removed, so that nobody else does the same.
            let Ok(lock) = File::open(&path) else { continue };
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            match end(&path) {
                Ok(()) => tracing::warn!(cgroup = %path.display(), "removed what a dead gateway had left"),
                Err(error) => {
                    tracing::error!(cgroup = %path.display(), %error, "cannot end what a dead gateway has left");
                }
            }
        }
    }
}

/// Kills everybody in a cgroup until it could be removed, or for so long.
fn end(path: &Path) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match remove(path) {
            Err(error) if began.elapsed() > SWEEPING => return Err(error),
            Err(_) => kill_members(path),
            Ok(()) => return Ok(()),
        }
        thread::sleep(PAUSE);
    }
}

/// Version 1 has no `cgroup.kill`: what forks meanwhile is killed the next time.
fn kill_members(path: &Path) {
    let members = || fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let parsed =
        |text: &str| text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect::<Vec<_>>();
    let held = parsed(&members())
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)));
    let held: Vec<_> = held.collect();
    // Whoever is listed still is the one that is held: its number was not given to another meanwhile.
    let still = parsed(&members());
    for (_, process) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    for inner in below(path) {
        kill_members(&inner);
    }
}

/// Where this process is in the hierarchy of each controller.
///
/// # Errors
///
/// Nobody knows: it could not be read.
fn own_dirs() -> io::Result<[(Controller, Option<PathBuf>); 3]> {
    let read = |file| match fs::read_to_string(file) {
        // A kernel without cgroups.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    };
    let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    Ok(Controller::ALL.map(|controller| (controller, own_dir(controller.name(), &mounts, &own))))
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
        Self::without(&Missing::Hierarchy)
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
