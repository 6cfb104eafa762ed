//! Tells when a file has become another. docs/decisions/reload.md says why by looking, and not by being told.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often they are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What shows that a file is another: device, inode, size, and when it was changed; `None`: there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Files that are looked at.
pub(super) struct Watch {
    files: Vec<PathBuf>,
    /// As they were when they were last read.
    known: Vec<Stamp>,
    /// As they were at the last look.
    last: Vec<Stamp>,
}

impl Watch {
    /// Watches these, as they are now.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let known: Vec<Stamp> = files.iter().map(|file| stamp(file)).collect();
        Self { files, last: known.clone(), known }
    }

    /// Returns when any of them is another than it was, and has stayed so from one look to the next: whoever writes it
    /// may not be done. Never, if there are none.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing but the time since the last look.
    pub(super) async fn changed(&mut self) {
        if self.files.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let files = self.files.clone();
            // A file system of the network may take its time.
            let looked = tokio::task::spawn_blocking(move || files.iter().map(|file| stamp(file)).collect());
            let Ok(now) = looked.await else { continue };
            if self.sees(now) {
                return;
            }
        }
    }

    fn sees(&mut self, now: Vec<Stamp>) -> bool {
        let settled = now == self.last;
        self.last.clone_from(&now);
        if !settled || now == self.known {
            return false;
        }
        self.known = now;
        true
    }
}

fn stamp(file: &Path) -> Stamp {
    // Through links: what a secret of Kubernetes is mounted as is a link to one that is exchanged.
    let meta = file.metadata().ok()?;
    Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled_and_once_only() {
        let one = |size| vec![Some((1, 1, size, 0, 0))];
        let mut watch = Watch { files: Vec::new(), known: one(1), last: one(1) };
        let looks = [
            (one(1), false),
            (one(2), false),
            (one(3), false),
            (one(3), true),
            (one(3), false),
            (vec![None], false),
            (one(3), false),
            (vec![None], false),
            (vec![None], true),
        ];
        for (index, (now, expected)) in looks.into_iter().enumerate() {
            assert_eq!(watch.sees(now), expected, "look {index}");
        }
    }

    #[test]
    fn a_file_is_another_when_its_content_or_the_link_to_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert_eq!(stamp(&path("link")), None);
        fs::write(path("a"), "a").unwrap();
        fs::write(path("b"), "a").unwrap();
        std::os::unix::fs::symlink(path("a"), path("link")).unwrap();
        let first = stamp(&path("link"));
        fs::remove_file(path("link")).unwrap();
        std::os::unix::fs::symlink(path("b"), path("link")).unwrap();
        let second = stamp(&path("link"));
        assert_ne!(first, second);
        fs::write(path("b"), "longer").unwrap();
        assert_ne!(second, stamp(&path("link")));
    }
}
