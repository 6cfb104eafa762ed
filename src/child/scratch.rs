//! Its private directory: made for one tree, swept only in exchange for the proof that the tree is gone.
//!
//! All of a gateway's scratch directories lie in one directory of its own, readable by its user alone. Paths are kept
//! short: a socket's path may have 107 bytes (`unix(7)`), and servers make sockets in `TMPDIR`.
//!
//! Making a directory on a disk's file system costs a good part of what starting a small server costs. So whoever
//! sweeps one leaves a new, empty one ready for a call to come, at a time when nobody waits for it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::tree::Gone;

/// How often a directory is tried again into which somebody still writes, and after which pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// How many empty directories wait at most.
const MOST_READY: usize = 16;

/// The directory of one gateway, removed with it.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    path: PathBuf,
    next: AtomicU64,
    ready: Mutex<Vec<PathBuf>>,
}

impl ScratchRoot {
    /// Makes one below `base`.
    pub(crate) fn create(base: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("spawnling-").rand_bytes(8).permissions(fs::Permissions::from_mode(0o700));
        let path = builder.tempdir_in(base)?.keep();
        Ok(Self { path: path.canonicalize()?, next: AtomicU64::new(0), ready: Mutex::default() })
    }

    /// A new, empty directory for one tree.
    pub(super) fn allot(self: &Arc<Self>) -> io::Result<Scratch> {
        let root = Arc::clone(self);
        let ready = self.ready().pop();
        // A cleaner of old files may have taken it while the gateway idled.
        match ready.filter(|path| path.is_dir()) {
            Some(path) => Ok(Scratch { path, root }),
            None => Ok(Scratch { path: self.make()?, root }),
        }
    }

    /// Leaves a directory ready, unless enough of them are.
    fn replenish(&self) {
        if self.ready().len() < MOST_READY
            && let Ok(path) = self.make()
        {
            self.ready().push(path);
        }
    }

    fn make(&self) -> io::Result<PathBuf> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&path) {
            // The same cleaner may have taken the root.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                builder.recursive(true).create(&path)?;
            }
            other => other?,
        }
        Ok(path)
    }

    fn ready(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        // Nothing panics while holding it; even then the list would be whole.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        for path in self.ready().drain(..) {
            let _ = fs::remove_dir(path);
        }
        // Empty unless a tree's files could not be removed; then what is left stays for whoever looks for it.
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
        self.root.replenish();
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
    fn a_root_that_was_taken_away_is_made_anew() {
        let base = tempfile::tempdir().unwrap();
        let root = Arc::new(ScratchRoot::create(base.path()).unwrap());
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
        root.replenish();
        fs::remove_dir_all(&root.path).unwrap();
        let scratch = root.allot().unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
