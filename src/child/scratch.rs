//! Its private directory: made for one tree, swept only in exchange for the proof that the tree is gone.
//!
//! All of a gateway's scratch directories lie in one directory of its own, readable by its user alone. Paths are kept
//! short: a socket's path may have 107 bytes (`unix(7)`), and servers make sockets in `TMPDIR`.
//!
//! The root holds a file that is locked with `flock(2)` while the gateway lives. A root whose lock nobody holds belongs to
//! a gateway that is dead; whoever starts beside it removes it.
//!
//! Making a directory on a disk's file system costs a good part of what starting a small server costs. So whoever
//! sweeps one leaves a new, empty one ready for a call to come, at a time when nobody waits for it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::stock::Stock;
use super::tree::Gone;

/// How often a directory is tried again into which somebody still writes, and after which pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// What the names of roots begin with, and how many letters and digits follow.
const PREFIX: (&str, usize) = ("spawnling-", 8);
/// The locked file in a root. Only what has it is one.
const LOCK: &str = ".lock";

/// The directory of one gateway, removed with it.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    path: PathBuf,
    directories: Stock,
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
            let lock = File::create_new(path.join(LOCK))
                .and_then(|file| Ok(flock(&file, FlockOperation::LockExclusive).map(|()| file)?));
            // Before it was locked, another gateway at its start could take it for that of a dead one and remove it.
            if !path.join(LOCK).exists() {
                let _ = fs::remove_dir_all(&path);
                continue;
            }
            let path = path.canonicalize()?;
            return Ok(Self { directories: Stock::new(&path), path, _lock: lock? });
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
        let root = Arc::clone(self);
        let ready = self.directories.take();
        // A cleaner of old files may have taken it while the gateway idled.
        match ready.filter(|path| path.is_dir()) {
            Some(path) => Ok(Scratch { path, root }),
            None => Ok(Scratch { path: self.directories.make(make)?, root }),
        }
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

/// The directory of one tree: its working directory and its `TMPDIR`.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    root: Arc<ScratchRoot>,
}

impl Scratch {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and all that is in it. Most trees leave it empty, which costs one system call; the rest is done
    /// away from the runtime's threads.
    pub(super) async fn sweep(self, _proof: &Gone) {
        if fs::remove_dir(&self.path).is_err() {
            remove_away(self.path).await;
        }
        self.root.directories.replenish(make);
    }
}

/// Removes what is not empty on a thread that may block.
async fn remove_away(path: PathBuf) {
    let shown = path.clone();
    let swept = tokio::task::spawn_blocking(move || remove_whatever_it_takes(&path)).await;
    match swept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(path = %shown.display(), %error, "cannot remove a scratch directory");
        }
        Err(error) => {
            tracing::error!(path = %shown.display(), %error, "sweeping a scratch directory failed");
        }
    }
}

/// Removes a tree of files. Whoever lacks root's power needs to write to a directory to empty it, so modes are
/// restored if they stand in the way; and a process that escaped may still be writing, but not for ever, perhaps.
fn remove_whatever_it_takes(path: &Path) -> io::Result<()> {
    let mut tries = 0..TRIES;
    loop {
        let removed = match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_directories(path)?;
                fs::remove_dir_all(path)
            }
            other => other,
        };
        match removed {
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

/// Gives every directory below, and `path` itself, its owner's rights back. Follows no symbolic link.
fn open_directories(path: &Path) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_gateway_left_is_removed_and_a_living_one_keeps_what_it_has() {
        let base = tempfile::tempdir().unwrap();
        let living = ScratchRoot::create(base.path()).unwrap();
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
    fn read_only_directories_are_removed_too() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink("/", top.join("a/link")).unwrap();
        fs::set_permissions(top.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        open_directories(&top).unwrap();
        remove_whatever_it_takes(&top).unwrap();
        assert!(!top.exists());
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
