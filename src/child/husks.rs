//! Empty directories that are removed at once, their blocks given back to the disk later.
//!
//! What takes long when a directory goes is not its name but its blocks: on ext4 without a journal, mounted with `discard`,
//! the disk is told of them and waited for. The kernel does that when nobody has the directory open any more, as with
//! files (`unlink(2)`). So it is opened, removed, and closed by another thread. Once removed it is gone for everybody: it has no
//! path, and in it nothing can be made (`ENOENT`, `mkdir(2)`), whoever has it open or stands in it.
//!
//! To wake that thread for each of them would cost as much again: it takes all that have come within a moment.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, open, unlinkat};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many there are at most, those included that are being closed.
const MOST: usize = 64;
/// How long more are waited for before they are closed.
const MOMENT: Duration = Duration::from_millis(20);

/// Directories that are removed and not yet closed.
#[derive(Debug)]
pub(super) struct Husks {
    room: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    husks: Vec<Husk>,
    /// Somebody closes them, and looks for more before it ends.
    closing: bool,
}

/// One of them. Closed before its place is free.
#[derive(Debug)]
struct Husk {
    _directory: OwnedFd,
    _place: OwnedSemaphorePermit,
}

impl Default for Husks {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Husks {
    fn new(most: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(most)), waiting: Arc::default() }
    }

    /// Removes the empty directory at `path`, without waiting for the disk.
    ///
    /// # Errors
    ///
    /// It stays: it is not empty, or cannot be removed for another reason; or so many are being closed that the disk has
    /// to be waited for (`EAGAIN`).
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| io::ErrorKind::WouldBlock)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty())?;
        unlinkat(CWD, path, AtFlags::REMOVEDIR)?;
        let mut waiting = lock(&self.waiting);
        waiting.husks.push(Husk { _directory: directory, _place: place });
        if !waiting.closing {
            let theirs = Arc::clone(&self.waiting);
            // Nobody waits for it: what there was to be seen of them is gone.
            waiting.closing = std::thread::Builder::new().spawn(move || close(&theirs)).is_ok();
            if !waiting.closing {
                // There is no thread to be had: the disk is waited for.
                waiting.husks.clear();
            }
        }
        Ok(())
    }
}

/// Closes until none is left. This thread is ours to sleep in.
fn close(waiting: &Mutex<Waiting>) {
    loop {
        std::thread::sleep(MOMENT);
        let mut locked = lock(waiting);
        let all = std::mem::take(&mut locked.husks);
        locked.closing = !all.is_empty();
        drop(locked);
        if all.is_empty() {
            return;
        }
        drop(all);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Nothing panics while holding it; even then the list would be whole.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkdirat;
    use rustix::io::Errno;

    use super::*;

    #[tokio::test]
    async fn what_was_removed_is_gone_even_for_those_who_stand_in_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("it");
        fs::create_dir(&path).unwrap();
        let inside = fs::File::open(&path).unwrap();
        Husks::default().remove(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(mkdirat(&inside, "more", Mode::RWXU), Err(Errno::NOENT));
    }

    #[tokio::test]
    async fn what_is_full_or_a_link_stays_and_takes_no_place() {
        let base = tempfile::tempdir().unwrap();
        let (full, link) = (base.path().join("full"), base.path().join("link"));
        fs::create_dir_all(full.join("more")).unwrap();
        std::os::unix::fs::symlink(&full, &link).unwrap();
        let husks = Husks::new(1);
        for path in [&full, &link] {
            husks.remove(path).unwrap_err();
        }
        assert!(full.join("more").exists() && link.exists());
        assert_eq!(husks.room.available_permits(), 1);
    }

    #[tokio::test]
    async fn all_are_closed_and_where_there_is_no_place_nothing_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| base.path().join(name));
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        let husks = Husks::new(2);
        for path in &paths[..2] {
            husks.remove(path).unwrap();
        }
        // Both places come back only when both are closed.
        let all = husks.room.acquire_many(2).await.unwrap();
        assert_eq!(husks.remove(&paths[2]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(paths[2].exists());
        drop(all);
        husks.remove(&paths[2]).unwrap();
        drop(husks.room.acquire_many(2).await.unwrap());
        assert!(husks.waiting.lock().unwrap().husks.is_empty());
    }
}
