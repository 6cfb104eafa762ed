//! Its private directory: made for one tree, swept only in exchange for the proof that the tree is gone.
//!
//! All of a gateway's scratch directories lie in one directory of its own, readable by its user alone. Paths are kept
//! short: a socket's path may have 107 bytes (`unix(7)`), and servers make sockets in `TMPDIR`.
//!
//! The root holds a file that is locked with `flock(2)` while the gateway lives. A root whose lock nobody holds belongs to
//! a gateway that is dead; whoever starts beside it removes it.
//!
//! Making a directory on a disk's file system costs a good part of what starting a small server costs, and so does removing
//! one. So whoever sweeps one leaves a new, empty one ready for a call to come, at a time when nobody waits for it. And one
//! that nobody has touched is given to the next tree as it is, where the proof is that nobody can be left in it. Any other
//! that is empty is removed at once, and the disk told of it by another thread (`husks.rs`).

use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::time::{ClockId, clock_gettime};

use super::husks::Husks;
use super::raze::{Contents, raze};
use super::stock::Stock;
use super::tree::Gone;
use crate::aside::aside;

/// How often a directory is tried again into which somebody still writes, and after which pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// What the names of roots begin with, and how many letters and digits follow.
const PREFIX: (&str, usize) = ("spawnling-", 8);
/// The file systems whose clock is our kernel's (`statfs(2)`): ext4, XFS, Btrfs, tmpfs, overlayfs.
const OF_OUR_TIME: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630];
/// The locked file in a root. Only what has it is one.
const LOCK: &str = ".lock";

/// The directory of one gateway, removed with it.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    path: PathBuf,
    directories: Stock,
    husks: Husks,
    /// Whether it is on a file system that we know: a local one, on which changes can be known by their time.
    known: bool,
    /// Locked. Closed on exec, so that nobody else can hold the lock.
    _lock: File,
}

impl ScratchRoot {
    /// Makes one below `base`.
    pub(crate) fn create(base: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX.0).rand_bytes(PREFIX.1).permissions(fs::Permissions::from_mode(0o700));
        loop {
            let path = builder.tempdir_in(base)?.keep();
            // Whoever can open it can hold the lock, and other users may come as far as here (`let_through`).
            let lock = File::options().write(true).create_new(true).mode(0o600).open(path.join(LOCK));
            let lock = lock.and_then(|file| Ok(flock(&file, FlockOperation::LockExclusive).map(|()| file)?));
            let lock = match lock {
                Ok(lock) if path.join(LOCK).exists() => lock,
                // Before it was locked, another gateway at its start could take it for that of a dead one and remove it.
                Ok(_) => {
                    let _ = fs::remove_dir(&path);
                    continue;
                }
                // Without a descriptor, for example, the next one could not be locked either.
                Err(error) => {
                    let _ = fs::remove_file(path.join(LOCK));
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            };
            let path = path.canonicalize()?;
            let known = statfs(&path).is_ok_and(|found| OF_OUR_TIME.contains(&found.f_type));
            let (directories, husks) = (Stock::new(&path), Husks::default());
            return Ok(Self { path, directories, husks, known, _lock: lock });
        }
    }

    /// Removes the directories of dead gateways beside it. Not before what they may have left alive was ended: that could
    /// still be writing.
    pub(super) fn sweep_beside(&self) {
        if let Some(base) = self.path.parent() {
            sweep_dead(base);
        }
    }

    /// A new, empty directory for one tree.
    pub(super) fn allot(self: &Arc<Self>) -> io::Result<Scratch> {
        // A cleaner of old files may have taken it while the gateway idled.
        let ready = self.directories.take().and_then(|path| Some((Mark::of(&path)?, path)));
        let (mark, path) = match ready {
            Some((mark, path)) => (Some(mark), path),
            None => (None, self.directories.make(make)?),
        };
        let mark = mark.filter(|mark| self.known && mark.tells());
        Ok(Scratch { path, root: Arc::clone(self), mark })
    }

    /// A directory to try something in, gone when dropped.
    pub(super) fn trial(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("trial-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&self.path)
    }

    /// Lets other users through to the directories below, whose names tell nothing; each stays its owner's alone.
    pub(super) fn let_through(&self) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o711))
    }
}

/// Makes one, for its owner alone.
fn make(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    match builder.create(path) {
        // A cleaner of old files may have taken the root.
        Err(error) if error.kind() == io::ErrorKind::NotFound => builder.recursive(true).create(path),
        other => other,
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        self.directories.clear();
        // Unless a tree's files could not be removed. Then all stays, the file by which the next start knows it too.
        if fs::read_dir(&self.path).is_ok_and(|entries| entries.count() == 1) {
            let _ = fs::remove_file(self.path.join(LOCK));
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// What shows that nobody has touched a directory: it is itself, and the moment of its last change is what it was. That
/// moves with every entry that is made or removed, and with every change of mode, owner or attribute (`inode(7)`), and
/// nobody can set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, i64),
}

impl Mark {
    /// Of the directory at `path`, if there is one.
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok().filter(Metadata::is_dir)?;
        Some(Self { device: meta.dev(), inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()) })
    }

    /// Whether a change from now on would show. The file system's clock stands still for some milliseconds at a time; this
    /// one must have moved on since.
    fn tells(&self) -> bool {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let (seconds, nanoseconds) = self.changed;
        // Where it counts in whole seconds, as ext4 with small inodes does.
        let coarse = if nanoseconds % 1_000_000 == 0 { 2 } else { 0 };
        (seconds + coarse, nanoseconds) < (now.tv_sec, now.tv_nsec)
    }
}

/// The directory of one tree: its working directory and its `TMPDIR`.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    root: Arc<ScratchRoot>,
    /// As it was when it was allotted, if that would show a change.
    mark: Option<Mark>,
}

impl Scratch {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and all that is in it, unless nobody has touched it and nobody can be left in it. Whatever may take
    /// time is done away from the runtime's threads: to remove what is not empty, what lies on a file system that may
    /// be far away, and what is one too many for the disk.
    pub(super) async fn sweep(self, proof: &Gone) {
        let Self { path, root, mark } = self;
        let all_gone = proof.is_of_everybody();
        let untouched = all_gone && mark.is_some() && Mark::of(&path) == mark;
        if untouched && root.directories.take_back(&path) {
            return;
        }
        if root.known && root.husks.remove(&path).is_ok() {
            root.directories.replenish(make);
            return;
        }
        let shown = path.clone();
        let swept = aside(move || {
            let swept = fs::remove_dir(&path).or_else(|_| remove_whatever_it_takes(&path));
            root.directories.replenish(make);
            swept
        });
        if let Err(error) = swept.await {
            tracing::error!(path = %shown.display(), %error, "cannot remove a scratch directory");
        }
    }
}

/// Removes a tree of files. A process that escaped may still be writing, but not for ever, perhaps.
fn remove_whatever_it_takes(path: &Path) -> io::Result<()> {
    let mut tries = 0..TRIES;
    loop {
        match raze(path, Contents::Files) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries.next().is_some() => {
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// Removes what gateways that are dead have left below `base`, if it is our own user's. The lock of a living one is held.
fn sweep_dead(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_root = name
            .strip_prefix(PREFIX.0)
            .is_some_and(|id| id.len() == PREFIX.1 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        // In a directory for everybody, somebody else's name could lead anywhere.
        let is_ours = path
            .symlink_metadata()
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
        if !(is_root && is_ours) {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        match remove_whatever_it_takes(&path) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "removed the files that a dead gateway had left");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot remove what a dead gateway has left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_gateway_left_is_removed_and_a_living_one_keeps_what_it_has() {
        let base = tempfile::tempdir().unwrap();
        let living = ScratchRoot::create(base.path()).unwrap();
        let lock = living.path.join(LOCK);
        assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o600, "others could hold it");
        let file = living.path.join("file");
        fs::write(&file, "").unwrap();
        let dead = base.path().join("spawnling-0aA1bB2c");
        fs::create_dir_all(dead.join("0/full")).unwrap();
        // Without the file it is somebody's own directory, however it is called.
        let other = base.path().join("spawnling-notes123");
        fs::create_dir(&other).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let next = ScratchRoot::create(base.path()).unwrap();
        next.sweep_beside();
        assert!(!dead.exists() && other.exists() && file.exists() && next.path.exists());
        fs::remove_file(file).unwrap();
        drop((living, next));
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_locked_is_an_error_and_is_not_left() {
        let top = tempfile::tempdir().unwrap();
        // So deep that there is a path to a directory in it, and none to a file in that (`PATH_MAX`).
        let mut base = top.path().canonicalize().unwrap();
        let length = |path: &Path| path.as_os_str().len();
        let deepest = 4095 - 1 - PREFIX.0.len() - PREFIX.1;
        while length(&base) < deepest {
            base.push("d".repeat((deepest - length(&base) - 1).min(200)));
        }
        fs::create_dir_all(&base).unwrap();
        assert_eq!(ScratchRoot::create(&base).unwrap_err().kind(), io::ErrorKind::InvalidFilename);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    }

    #[test]
    fn gateways_that_start_at_the_same_moment_take_nothing_from_each_other() {
        let base = tempfile::tempdir().unwrap();
        let dead = base.path().join("spawnling-0aA1bB2c");
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..50 {
                        let root = ScratchRoot::create(base.path()).unwrap();
                        let file = root.path.join("file");
                        fs::write(&file, "").unwrap();
                        root.sweep_beside();
                        assert!(root.path.join(LOCK).exists());
                        fs::remove_file(file).unwrap();
                        // The next one is to have something to sweep.
                        if fs::create_dir(&dead).is_ok() {
                            let _ = fs::write(dead.join(LOCK), "");
                        }
                    }
                });
            }
        });
        ScratchRoot::create(base.path()).unwrap().sweep_beside();
        let left: Vec<_> = fs::read_dir(base.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        // One that its maker had not locked in time, perhaps.
        assert!(left.iter().all(|path| *path == dead && !path.join(LOCK).exists()), "{left:?}");
    }

    #[test]
    fn a_directory_into_which_somebody_still_writes_is_removed_when_they_stop() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir(&top).unwrap();
        let (writing, (begun, begins)) = (top.clone(), std::sync::mpsc::channel());
        let writer = std::thread::spawn(move || {
            // For a while, or until the directory itself is gone.
            for number in 0..1_500 {
                if fs::create_dir(writing.join(number.to_string())).is_err() {
                    return;
                }
                if number == 100 {
                    begun.send(()).unwrap();
                }
            }
        });
        begins.recv().unwrap();
        remove_whatever_it_takes(&top).unwrap();
        assert!(!top.exists());
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn no_tree_gets_the_directory_of_another_and_nothing_is_left() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        let first = root.allot().unwrap();
        let path = first.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        first.sweep(&Gone::never_born()).await;
        let second = root.allot().unwrap();
        assert!(!path.exists() && second.path() != path);
        assert_eq!(fs::read_dir(second.path()).unwrap().count(), 0);
        second.sweep(&Gone::never_born()).await;
        drop(root);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    /// Allots until a directory came that was made long enough ago for a change to show.
    async fn allot_marked(root: &Arc<ScratchRoot>) -> Scratch {
        loop {
            let scratch = root.allot().unwrap();
            if scratch.mark.is_some() {
                return scratch;
            }
            scratch.sweep(&Gone::never_born()).await;
        }
    }

    #[tokio::test]
    async fn a_directory_that_nobody_has_touched_is_given_to_the_next_tree() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        let first = allot_marked(&root).await;
        let path = first.path().to_owned();
        first.sweep(&Gone::never_born()).await;
        assert_eq!(root.allot().unwrap().path(), path);
    }

    #[tokio::test]
    async fn a_directory_that_somebody_has_touched_is_not_though_it_looks_like_new() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        let touches: [fn(&Path); 3] = [
            |path| {
                fs::write(path.join("file"), "").unwrap();
                fs::remove_file(path.join("file")).unwrap();
            },
            |path| {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
            },
            |path| {
                // Beside the old one, so that it cannot get its number.
                fs::create_dir(path.with_extension("new")).unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
        ];
        for touch in touches {
            let scratch = allot_marked(&root).await;
            let path = scratch.path().to_owned();
            touch(&path);
            scratch.sweep(&Gone::never_born()).await;
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_could_not_be_removed_is_left_to_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        let left = root.allot().unwrap().path().to_owned();
        drop(root);
        assert!(left.exists());
        ScratchRoot::create(base.path()).unwrap().sweep_beside();
        assert!(!left.exists());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_root_that_was_taken_away_is_made_anew() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
        root.directories.replenish(make);
        fs::remove_dir_all(&root.path).unwrap();
        let scratch = root.allot().unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
