//! Removing a directory with all that is in it, however deep that goes.
//!
//! What a server leaves may be nested deeper than a path is long (`PATH_MAX`), than there are descriptors to be had, than a
//! thread has stack. So the way down is remembered by names, and by neither descriptors nor calls; the way back is `..`, and
//! it is made sure that this leads to where we came from, for somebody who escaped may move directories meanwhile. And what
//! somebody has mounted in it is not entered: that is not the server's own, and may be anything of the machine's.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, chmod, fchmod, fstat, open, openat, openat2, unlinkat,
};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// How many directories are named at once, of those beside each other.
const AT_ONCE: usize = 1024;
/// How every directory is opened.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What there is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Files and directories.
    Files,
    /// Cgroups. The files in them are the kernel's, and go with them.
    Cgroups,
}

/// A directory that we went down from.
struct Level {
    /// Its device and its number.
    is: (u64, u64),
    inner: Inner,
    /// Where we went.
    into: CString,
}

/// The directories in a directory.
#[derive(Default)]
struct Inner {
    names: Vec<CString>,
    /// These are not all.
    more: bool,
}

/// Removes the directory at `path`.
///
/// # Errors
///
/// Among others: there is none (`NotFound`); something was made in it, or moved, meanwhile (`DirectoryNotEmpty`); a cgroup
/// has members (`ResourceBusy`); something is mounted in it (`CrossesDevices`).
pub(super) fn raze(path: &Path, contents: Contents) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    empty(enter(&parent, name)?, contents)?;
    Ok(unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
}

fn empty(top: OwnedFd, contents: Contents) -> Result<()> {
    let (mut here, mut above) = (top, Vec::new());
    let mut inner = clear(&here, contents)?;
    loop {
        if let Some(into) = inner.names.pop() {
            let next = match permitted(&here, || enter(&here, &*into)) {
                Err(Errno::NOENT) => continue,
                next => next?,
            };
            let (is, below) = (identity(&here)?, clear(&next, contents)?);
            above.push(Level { is, inner: std::mem::replace(&mut inner, below), into });
            here = next;
        } else if inner.more {
            inner = clear(&here, contents)?;
        } else {
            let Some(Level { is, inner: others, into }) = above.pop() else { return Ok(()) };
            let back = permitted(&here, || openat(&here, "..", OFlags::RDONLY | DIRECTORY, Mode::empty()))?;
            if identity(&back)? != is {
                return Err(Errno::NOTEMPTY);
            }
            match permitted(&back, || unlinkat(&back, &*into, AtFlags::REMOVEDIR)) {
                Ok(()) | Err(Errno::NOENT) => (here, inner) = (back, others),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Removes what is no directory, and names what is.
fn clear(here: &OwnedFd, contents: Contents) -> Result<Inner> {
    let mut inner = Inner::default();
    for entry in permitted(here, || Dir::read_from(here))? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // Not every file system tells the type at once.
        let is_directory = match (entry.file_type(), contents) {
            (FileType::Directory, _) => true,
            (_, Contents::Cgroups) => false,
            (_, Contents::Files) => match permitted(here, || unlinkat(here, name, AtFlags::empty())) {
                Ok(()) | Err(Errno::NOENT) => false,
                Err(Errno::ISDIR) => true,
                Err(error) => return Err(error),
            },
        };
        if is_directory {
            inner.names.push(name.to_owned());
        }
        if inner.names.len() == AT_ONCE {
            inner.more = true;
            break;
        }
    }
    Ok(inner)
}

/// Does what may be refused because whoever worked here has taken the right to it away. It is ours to give back.
fn permitted<T>(here: &OwnedFd, work: impl Fn() -> Result<T>) -> Result<T> {
    match work() {
        Err(Errno::ACCESS) => {
            fchmod(here, Mode::RWXU)?;
            work()
        }
        done => done,
    }
}

/// Opens a directory in another, if it is no mount point. One that may not be read is made readable.
fn enter<N: Arg + Copy>(within: &OwnedFd, name: N) -> Result<OwnedFd> {
    match open_in(within, name, OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            let closed = open_in(within, name, OFlags::PATH)?;
            // A descriptor of this kind is no good for fchmod(2), but it has a name (`proc_pid_fd(5)`).
            chmod(format!("/proc/self/fd/{}", closed.as_raw_fd()), Mode::RWXU)?;
            open_in(within, name, OFlags::RDONLY)
        }
        opened => opened,
    }
}

fn open_in<N: Arg + Copy>(within: &OwnedFd, name: N, how: OFlags) -> Result<OwnedFd> {
    match openat2(within, name, how | DIRECTORY, Mode::empty(), ResolveFlags::NO_XDEV) {
        // A kernel before 5.6, or a filter that is older. What is mounted from the same file system is not noticed then.
        Err(Errno::NOSYS | Errno::PERM) => {
            let opened = openat(within, name, how | DIRECTORY, Mode::empty())?;
            if identity(within)?.0 == identity(&opened)?.0 { Ok(opened) } else { Err(Errno::XDEV) }
        }
        opened => opened,
    }
}

fn identity(directory: impl AsFd) -> Result<(u64, u64)> {
    let found = fstat(directory)?;
    Ok((found.st_dev, found.st_ino))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::sched::{CloneFlags, unshare};
    use rustix::fs::mkdirat;
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

    use super::*;

    /// Makes so many directories of this name in one another: more, for example, than there are paths to.
    pub(in crate::child) fn nest(top: &Path, name: &str, depth: usize) {
        let mut here = open(top, OFlags::RDONLY | DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&here, name, Mode::RWXU).unwrap();
            here = openat(&here, name, OFlags::RDONLY | DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn what_is_deeper_than_a_path_is_long_and_a_stack_is_large_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        fs::create_dir(&top).unwrap();
        nest(&top, "d", 3_000);
        let razing = top.clone();
        let small = std::thread::Builder::new().stack_size(64 << 10);
        small.spawn(move || raze(&razing, Contents::Files).unwrap()).unwrap().join().unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn more_than_is_named_at_once_is_removed_and_nothing_beside_it() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        for number in 0..2 * AT_ONCE + 7 {
            fs::create_dir_all(top.join(format!("{number}/a"))).unwrap();
            fs::write(top.join(format!("{number}/a/file")), "").unwrap();
        }
        let kept = base.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        symlink(&kept, top.join("link")).unwrap();
        raze(&top, Contents::Files).unwrap();
        assert!(!top.exists() && kept.join("file").exists());
        assert_eq!(raze(&top, Contents::Files).unwrap_err().kind(), io::ErrorKind::NotFound);
        symlink(&kept, &top).unwrap();
        assert_eq!(raze(&top, Contents::Files).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(kept.join("file").exists());
    }

    #[test]
    fn what_may_not_be_read_or_changed_is_removed_too() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("top");
        for mode in [0o000, 0o100, 0o400, 0o500, 0o600] {
            let dir = top.join(format!("{mode:o}"));
            fs::create_dir_all(dir.join("a/b")).unwrap();
            fs::write(dir.join("file"), "").unwrap();
            for path in [&dir.join("a"), &dir] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        fs::set_permissions(&top, fs::Permissions::from_mode(0o000)).unwrap();
        raze(&top, Contents::Files).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn what_is_mounted_in_it_is_not_entered() {
        let base = tempfile::tempdir().unwrap();
        let [top, other] = ["top", "other"].map(|name| base.path().join(name));
        fs::create_dir_all(top.join("a/mounted")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "").unwrap();
        let (mounted, from) = (top.join("a/mounted"), other.clone());
        let razing = top.clone();
        // In a mount namespace of its own, which goes with the thread. Only root may.
        let razed = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).ok()?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind(&from, &mounted).unwrap();
            Some([raze(&razing, Contents::Files), raze(&mounted, Contents::Files)])
        });
        for razed in razed.join().unwrap().into_iter().flatten() {
            assert_eq!(razed.unwrap_err().kind(), io::ErrorKind::CrossesDevices);
        }
        assert!(other.join("file").exists());
        raze(&top, Contents::Files).unwrap();
    }
}
