//! A cgroup for each tree (`cgroups(7)`, version 2): in it before exec, killed as a whole, removed when it is empty.
//!
//! ```text
//! <our own cgroup>/
//!   spawnling-5f0c...            one root per gateway, locked with flock(2) for as long as the gateway lives
//!     keepers                    the processes between us and the trees
//!     0  1  2 ...                one leaf per tree, some made ahead
//!   spawnling-5f0c....gateway    the gateway itself, where trees have controllers (quarters.rs)
//! ```
//!
//! Nothing leaves its cgroup by `setsid(2)`, `setpgid(2)` or a double fork. `cgroup.kill` reaches every member at once,
//! forks in flight included, and `rmdir(2)` succeeds only when no member is alive: its success is the proof of death.
//!
//! A root whose lock nobody holds belongs to a gateway that is dead; whoever starts next to it ends what is in it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

mod place;
mod quarters;
mod rush;

use super::proc;
use super::raze::{Contents, raze};
use super::stock::Stock;
use super::tree::Gone;
use crate::aside::aside;
pub(super) use quarters::{ADVICE, Quarters, undo_for_the_dead};
use rush::Rush;

/// How long a root of a dead gateway is tried to be ended at start. What does not die of SIGKILL in that time hangs in the
/// kernel.
const SWEEPING: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);
/// Where a cgroup with the controller tells the most memory that it had at once; since Linux 5.19.
const PEAK: &str = "memory.peak";
/// The leaf of the keepers.
const KEEPERS: &str = "keepers";
/// What the names of roots begin with; sixteen hexadecimal digits follow.
const PREFIX: &str = "spawnling-";

/// Why there are no cgroups to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// Whether there are any.
    #[error("cannot find out where the gateway's own cgroup is")]
    Unknown(#[source] io::Error),
    /// No hierarchy of version 2 is mounted, or we are not in it.
    #[error("no cgroup v2 hierarchy is mounted here")]
    NoHierarchy,
    /// We may not make one.
    #[error("cannot make a cgroup below {}", below.display())]
    Make { below: PathBuf, source: io::Error },
    /// A kernel before 5.14.
    #[error("the kernel has no cgroup.kill")]
    NoKill,
    /// A process could not be put into one.
    #[error("cannot start a process in a cgroup")]
    Join(#[source] io::Error),
}

/// The cgroup of one gateway, removed with it.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    /// Where keepers are while they are in no leaf.
    keepers: PathBuf,
    leaves: Stock,
    rush: Rush,
    /// Whether its leaves tell their peak of memory, once somebody has asked.
    tells_peak: OnceLock<bool>,
    /// Undone when nobody needs it any more: the wardens outlive the root.
    quarters: Arc<Quarters>,
    /// Locked. Closed on exec, so that nobody else can hold the lock.
    _lock: File,
}

impl Root {
    /// Makes one below our own cgroup. The cgroups of trees get the controllers `wanted`, as far as that can be.
    pub(crate) fn create(wanted: &[&'static str]) -> Result<Self, CgroupError> {
        let own = place::own().map_err(CgroupError::Unknown)?.ok_or(CgroupError::NoHierarchy)?;
        let make = |source| CgroupError::Make { below: own.clone(), source };
        loop {
            let id = getrandom::u64().map_err(|error| make(io::Error::other(error)))?;
            let path = own.join(format!("{PREFIX}{id:016x}"));
            fs::create_dir(&path).map_err(make)?;
            let lock = File::open(&path)
                .and_then(|dir| Ok(flock(&dir, FlockOperation::LockExclusive).map(|()| dir)?));
            // Before it was locked, another gateway at its start could take it for that of a dead one and remove it.
            if !path.exists() {
                continue;
            }
            let keepers = path.join(KEEPERS);
            let lock = lock.and_then(|lock| fs::create_dir(&keepers).map(|()| lock));
            let lock = lock.inspect_err(|_| drop(fs::remove_dir(&path))).map_err(make)?;
            let kills = path.join("cgroup.kill").exists();
            let quarters = Arc::new(Quarters::settle(&path, if kills { wanted } else { &[] }, 0));
            let (leaves, rush) = (Stock::new(&path), Rush::default());
            let tells_peak = OnceLock::new();
            let root = Self { leaves, rush, tells_peak, path, keepers, quarters, _lock: lock };
            return if kills { Ok(root) } else { Err(CgroupError::NoKill) };
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was done so that trees have controllers.
    pub(super) fn quarters(&self) -> &Arc<Quarters> {
        &self.quarters
    }

    /// A new, empty cgroup for one tree.
    pub(super) fn leaf(self: &Arc<Self>) -> io::Result<Leaf> {
        let path = self.leaves.take().map_or_else(|| self.leaves.make(|path| fs::create_dir(path)), Ok)?;
        Ok(Leaf { path, root: Arc::clone(self) })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.leaves.clear();
        let _ = fs::remove_dir(&self.keepers);
        // Empty unless a tree could not be killed; then it stays for whoever starts next.
        let _ = fs::remove_dir(&self.path);
    }
}

/// How the first process of a tree comes into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It is born there.
    Birth,
    /// It is, or its keeper joins for so long as it starts it: whatever is quicker now.
    Quickest,
}

/// The cgroup of one tree.
#[derive(Debug)]
pub(super) struct Leaf {
    path: PathBuf,
    root: Arc<Root>,
}

impl Leaf {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, if its first process is to be born in it; the file by which a process joins; and the one by which it
    /// leaves, for where its keeper may be.
    pub(super) fn doors(&self, entrance: Entrance) -> io::Result<Vec<File>> {
        let door = |path: &Path| OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        let mut doors = Vec::with_capacity(3);
        if entrance == Entrance::Birth || !self.root.rush.is_on(Instant::now()) {
            doors.push(File::open(&self.path)?);
        }
        doors.extend([door(&self.path)?, door(&self.root.keepers)?]);
        Ok(doors)
    }

    /// Kills every member, forks in flight included.
    pub(super) fn kill(&self) {
        // It fails only where there is nothing to kill: the file was there at the start.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Whether a process is a member, and in no sub-group.
    pub(super) fn holds(&self, pid: u32) -> io::Result<bool> {
        let listed = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(listed.lines().any(|line| line.parse() == Ok(pid)))
    }

    /// Removes the sub-groups that its members made for themselves, as far as nobody is alive in them, and says who is alive.
    /// That is done away from the runtime's threads: there may be as many of them as the members liked.
    pub(super) async fn clear(&self) -> Vec<i32> {
        if !is_parent(&self.path) {
            open_up(&self.path);
            return listed(&self.path);
        }
        let path = self.path.clone();
        let cleared = move || {
            let _ = raze(&path, Contents::Cgroups);
            members(&path)
        };
        aside(cleared).await
    }

    /// The most memory that one of its members has had resident, of those that are alive and in no sub-group. Nobody is
    /// looked at where [`Self::peak_memory`] will tell that of all.
    pub(super) fn largest_member(&self) -> Option<u64> {
        // By the controllers that the root hands on, and by the kernel: one leaf is like another.
        if *self.root.tells_peak.get_or_init(|| self.path.join(PEAK).exists()) {
            return None;
        }
        listed(&self.path).into_iter().filter_map(proc::peak_memory).max()
    }

    /// The most memory that it had at once: `memory.peak`, where it has the controller.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        fs::read_to_string(self.path.join(PEAK)).ok()?.trim().parse().ok()
    }

    /// What its members have used, dead ones included: `usage_usec` of `cpu.stat`, which needs no controller.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.path.join("cpu.stat")).ok()?;
        let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        Some(Duration::from_micros(usage.trim().parse().ok()?))
    }

    /// Removes it, if no member is alive and it has no sub-group.
    ///
    /// # Errors
    ///
    /// The leaf itself, while somebody is.
    pub(super) fn remove(self, proof: impl FnOnce() -> Gone) -> Result<Gone, Self> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self),
            _ => {
                self.root.leaves.replenish(|path| fs::create_dir(path));
                Ok(proof())
            }
        }
    }
}

/// Whether there are sub-groups in one: they count among its links, two of which are its own (`inode(7)`).
pub(super) fn is_parent(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.nlink() > 2)
}

/// The members of one and of its sub-groups that are alive.
fn members(path: &Path) -> Vec<i32> {
    let mut members = Vec::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(path) = waiting.pop() {
        members.extend(listed(&path));
        waiting.extend(below(&path));
    }
    members
}

/// The members of one that are alive.
fn listed(path: &Path) -> Vec<i32> {
    let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // 0: a member that has no number in our PID namespace.
    listed.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

/// Gives us back what its members may have taken away, the right to look into one: it is ours, or we could not have made it.
fn open_up(path: &Path) {
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
}

/// The sub-groups of one.
pub(super) fn below(path: &Path) -> Vec<PathBuf> {
    open_up(path);
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Removes a cgroup in which nobody is alive, with its sub-groups.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    // EBUSY stands for members and for sub-groups alike.
    match fs::remove_dir(path).or_else(|_| raze(path, Contents::Cgroups)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Kills everybody in the cgroup of a dead gateway again and again until it could be removed, or for so long. Blocks.
pub(super) fn end(path: &Path, patience: Option<Duration>) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let _ = fs::write(path.join("cgroup.kill"), "1");
        match remove(path) {
            Err(error) if patience.is_some_and(|patience| began.elapsed() > patience) => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
            Ok(()) => return Ok(()),
        }
    }
}

/// Ends what gateways that are dead have left below our own cgroup, where there are cgroups. Blocks for as long as that takes.
pub(super) fn sweep() {
    match place::own() {
        Ok(Some(own)) => sweep_dead(&own),
        Ok(None) => {}
        Err(error) => {
            tracing::error!(%error, "cannot find out whether dead gateways have left something in cgroups");
        }
    }
}

/// Ends what gateways that are dead have left below `own`. The lock of a living one is held.
fn sweep_dead(own: &Path) {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    for path in below(own).into_iter().filter(|path| is_root(&name(path))) {
        let Ok(directory) = File::open(&path) else { continue };
        if flock(&directory, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        match end(&path, Some(SWEEPING)) {
            Ok(()) => tracing::warn!(cgroup = %path.display(), "ended what a dead gateway had left"),
            Err(error) => {
                tracing::error!(cgroup = %path.display(), %error, "cannot end what a dead gateway has left");
            }
        }
    }
    for path in below(own) {
        // Made after its root. One in which somebody is cannot be removed.
        if name(&path)
            .strip_suffix(quarters::SUFFIX)
            .is_some_and(|root| is_root(root) && !own.join(root).exists())
        {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Whether this is how a gateway calls its cgroup.
pub(super) fn is_root(name: &str) -> bool {
    let id = name.strip_prefix(PREFIX);
    id.is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that stands for a root, without controllers.
    fn root(path: &Path) -> Arc<Root> {
        Arc::new(Root {
            path: path.to_owned(),
            keepers: path.join(KEEPERS),
            leaves: Stock::new(path),
            rush: Rush::default(),
            tells_peak: OnceLock::new(),
            quarters: Arc::new(Quarters::settle(path, &[], 0)),
            _lock: File::open(path).unwrap(),
        })
    }

    #[test]
    fn members_are_looked_at_only_where_their_cgroup_does_not_tell_their_peak() {
        for tells in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let leaf = root(dir.path()).leaf().unwrap();
            fs::write(leaf.path().join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
            if tells {
                fs::write(leaf.path().join(PEAK), "4096\n").unwrap();
            }
            assert_eq!(leaf.largest_member().is_none(), tells);
            assert_eq!(leaf.peak_memory(), tells.then_some(4096));
        }
    }
}
