//! Its private directory: made for one tree, swept only in exchange for the proof that the tree is gone.
//!
//! All of a gateway's scratch directories lie in one directory of its own, readable by its user alone. Paths are kept
//! short: a socket's path may have 107 bytes (`unix(7)`), and servers make sockets in `TMPDIR`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::tree::Gone;

/// The directory of one gateway, removed with it.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    path: PathBuf,
    next: AtomicU64,
}

impl ScratchRoot {
    /// Makes one below `base`.
    pub(crate) fn create(base: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("spawnling-").rand_bytes(8).permissions(fs::Permissions::from_mode(0o700));
        let path = builder.tempdir_in(base)?.keep();
        Ok(Self { path: path.canonicalize()?, next: AtomicU64::new(0) })
    }

    /// A new, empty directory for one tree.
    pub(crate) fn allot(&self) -> io::Result<Scratch> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&path) {
            // A cleaner of old files may have taken the root while the gateway idled.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                builder.recursive(true).create(&path)?;
            }
            other => other?,
        }
        Ok(Scratch { path })
    }
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        // Empty unless a tree's files could not be removed; then what is left stays for whoever looks for it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// The directory of one tree: its working directory and its `TMPDIR`.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and all that is in it. Most trees leave it empty, which costs one system call; the rest is done
    /// away from the runtime's threads.
    pub(crate) async fn sweep(self, _proof: &Gone) {
        if fs::remove_dir(&self.path).is_ok() {
            return;
        }
        let path = self.path;
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
}

/// Removes a tree of files. Whoever lacks root's power needs to write to a directory to empty it, so modes are
/// restored if they stand in the way.
fn remove_whatever_it_takes(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
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
    fn a_root_that_was_taken_away_is_made_anew() {
        let base = tempfile::tempdir().unwrap();
        let root = ScratchRoot::create(base.path()).unwrap();
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir(&root.path).unwrap();
        let scratch = root.allot().unwrap();
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&root.path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
