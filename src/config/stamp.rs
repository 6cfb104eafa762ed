//! Files as they are read: never more than is wanted, and with what shows that one is another than it was.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file as it was at one time: device, inode, size, and when it was changed; `None`: there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// As it is now.
    pub(crate) fn of(file: &Path) -> Self {
        // Through links: what a secret of Kubernetes is mounted as is a link to one that is exchanged.
        let meta = file.metadata().ok();
        Self(meta.map(|meta| (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())))
    }
}

/// A file that was read, and what it was before that: what was read is this or newer, so that a change during the reading
/// is one that came after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamped {
    /// Absolute.
    pub(crate) path: PathBuf,
    /// Before it was read.
    pub(crate) stamp: Stamp,
}

impl Stamped {
    /// A file that is about to be read.
    pub(crate) fn before_reading(path: PathBuf) -> Self {
        Self { stamp: Stamp::of(&path), path }
    }
}

/// What a file holds.
///
/// # Errors
///
/// Those of reading; and it may not be longer than `most` bytes, of which there may be no end (`/dev/zero`).
pub(super) fn content(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    if read as u64 > most {
        return Err(io::Error::other(format!("it is longer than {} KiB", most >> 10)));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_another_when_its_content_or_the_link_to_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let link = |to: &str| std::os::unix::fs::symlink(path(to), path("link")).expect("linked");
        assert_eq!(Stamp::of(&path("link")), Stamp(None));
        fs::write(path("a"), "a").expect("written");
        fs::write(path("b"), "a").expect("written");
        link("a");
        let first = Stamp::of(&path("link"));
        fs::remove_file(path("link")).expect("removed");
        link("b");
        let second = Stamp::of(&path("link"));
        assert_ne!(first, second);
        fs::write(path("b"), "longer").expect("written");
        assert_ne!(second, Stamp::of(&path("link")));
    }
}
