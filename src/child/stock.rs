//! Empty directories that were made ahead, at a time when nobody waited for them, numbered below one root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many wait at most.
const MOST_READY: usize = 16;

/// What is ready below one root. How a directory is made is its owner's to say.
#[derive(Debug)]
pub(super) struct Stock {
    root: PathBuf,
    next: AtomicU64,
    ready: Mutex<Vec<PathBuf>>,
}

impl Stock {
    /// Nothing is ready yet.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), next: AtomicU64::new(0), ready: Mutex::default() }
    }

    /// Takes one that is ready.
    pub(super) fn take(&self) -> Option<PathBuf> {
        self.ready().pop()
    }

    /// Makes a new one, by a path that no other has had.
    pub(super) fn make(&self, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
        let path = self.root.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        make(&path).map(|()| path)
    }

    /// Leaves a new one ready, unless enough of them are.
    pub(super) fn replenish(&self, make: impl FnOnce(&Path) -> io::Result<()>) {
        if self.ready().len() < MOST_READY
            && let Ok(path) = self.make(make)
        {
            self.ready().push(path);
        }
    }

    /// Takes back one that is as good as new; `false`: enough are ready.
    pub(super) fn take_back(&self, path: &Path) -> bool {
        let mut ready = self.ready();
        let room = ready.len() < MOST_READY;
        if room {
            ready.push(path.to_owned());
        }
        room
    }

    /// Removes those that are ready.
    pub(super) fn clear(&self) {
        for path in self.ready().drain(..) {
            let _ = fs::remove_dir(path);
        }
    }

    fn ready(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        // Nothing panics while holding it; even then the list would be whole.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
