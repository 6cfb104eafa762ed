//! A view of its own on the file system: nobody else's temporary files, nobody else's sockets.
//!
//! ```text
//!   /tmp  /var/tmp  /dev/shm     empty, in memory, gone with the last process of the tree
//!   /run                         the same: the sockets of the session bus, of containers' daemons and the like are
//!                                ways out of any sandbox, and Landlock does not look at connect(2) before its ABI 9
//!   what was named below these   put back: scratch directory, program, working directory, `read` and `write`
//! ```
//!
//! A process without root makes itself a user namespace first, in which it stays who it is (`user_namespaces(7)`). The
//! IPC namespace keeps System V shared memory apart, and has it vanish with the tree.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, move_mount,
    open_tree,
};

use super::{Means, Obstacle};
use crate::child::spec::sandbox::{Place, Sandbox};

/// What is covered, and the mode of what covers it.
const COVERED: [(&str, &str); 4] =
    [("/tmp", SHARED), ("/var/tmp", SHARED), ("/dev/shm", SHARED), ("/run", "0755")];

/// The mode of a directory that everybody may write to.
const SHARED: &str = "1777";

/// What stays of `/run`: without it no name is resolved, and on some systems no program found.
const KEPT: [&str; 6] = [
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
    "/run/nscd",
    "/run/current-system",
    "/run/opengl-driver",
];

/// Enters new namespaces; without the right to, by way of a user namespace, once.
pub(super) fn enter(flags: CloneFlags) -> Result<(), Obstacle> {
    match nix::sched::unshare(flags) {
        Err(Errno::EPERM) => {}
        other => return other.map_err(Obstacle::step("unshare(2)")),
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let refused = Obstacle::UserNamespace;
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).map_err(|error| refused(error.into()))?;
    // Without `deny` no group may be mapped (user_namespaces(7)).
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1", uid = uid.as_raw())),
        ("/proc/self/gid_map", format!("{gid} {gid} 1", gid = gid.as_raw())),
    ];
    for (file, text) in maps {
        fs::write(file, text).map_err(refused)?;
    }
    nix::sched::unshare(flags).map_err(|error| refused(error.into()))
}

/// Puts empty directories over those that everybody shares; says by what means, and which of them may be filled.
pub(super) fn private_tmp(sandbox: &Sandbox, scratch: &Path) -> Result<(String, Vec<PathBuf>), Obstacle> {
    let cwd = std::env::current_dir().map_err(Obstacle::step("the working directory"))?;
    let places = in_sight(sandbox, scratch, &cwd);
    enter(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
    keep_to_ourselves()?;
    let mut covered: Vec<(PathBuf, &str)> =
        COVERED.into_iter().filter_map(|(path, mode)| Some((fs::canonicalize(path).ok()?, mode))).collect();
    // A directory that was itself named stays shared.
    covered.retain(|(path, _)| path.is_dir() && !named(sandbox, path));
    covered.dedup_by(|a, b| a.0 == b.0);
    let kept = hold(&places, &covered)?;
    for (path, mode) in &covered {
        cover(path, &format!("mode={mode}"))?;
    }
    // Whoever it becomes must get through to them.
    let mask = rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    for (path, (tree, is_dir)) in kept {
        put_back(&path, &tree, is_dir).map_err(|source| Obstacle::Path { path, source })?;
    }
    rustix::process::umask(mask);
    return_to(&cwd)?;
    let names: Vec<String> = covered.iter().map(|(path, _)| path.display().to_string()).collect();
    let means = format!("a mount namespace: its own {}", names.join(", "));
    let open = covered.into_iter().filter(|(_, mode)| *mode == SHARED).map(|(path, _)| path);
    Ok((means, open.collect()))
}

/// Whether somebody has asked for this very directory.
fn named(sandbox: &Sandbox, path: &Path) -> bool {
    files(sandbox)
        .any(|place| place.required && fs::canonicalize(place.path()).is_ok_and(|real| real == path))
}

fn files(sandbox: &Sandbox) -> impl Iterator<Item = &Place> {
    sandbox.files.iter().flat_map(|files| files.read.iter().flatten().chain(&files.write))
}

/// Puts an empty file system of `size` bytes over the scratch directory.
pub(super) fn bound_scratch(scratch: &Path, size: u64) -> Means {
    let cwd = std::env::current_dir().map_err(Obstacle::step("the working directory"))?;
    enter(CloneFlags::CLONE_NEWNS)?;
    keep_to_ourselves()?;
    cover(scratch, &format!("mode=0700,size={size}"))?;
    return_to(&cwd)?;
    Ok("a file system in memory".to_owned())
}

/// What happens to our mounts is our own business.
fn keep_to_ourselves() -> Result<(), Obstacle> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Obstacle::step("private mounts"))
}

fn cover(path: &Path, options: &str) -> Result<(), Obstacle> {
    let options = CString::new(options).expect("written here, without a NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("spawnling", path, "tmpfs", flags, options.as_c_str())
        .map_err(|error| Obstacle::Path { path: path.to_owned(), source: error.into() })
}

/// The same directory as before, by its path: the one that we still stand in may have been covered, and from there
/// `..` would lead out of what was put over it.
fn return_to(cwd: &Path) -> Result<(), Obstacle> {
    std::env::set_current_dir(cwd).map_err(|source| Obstacle::Path { path: cwd.to_owned(), source })
}

/// Every path that must not be covered, without symbolic links, each before what is below it.
fn in_sight(sandbox: &Sandbox, scratch: &Path, cwd: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = [scratch, cwd]
        .into_iter()
        .chain(KEPT.into_iter().map(Path::new))
        .chain(sandbox.in_sight.iter().map(Path::new))
        .chain(files(sandbox).map(Place::path))
        .filter_map(|path| fs::canonicalize(path).ok())
        .collect();
    places.sort();
    places.dedup();
    places
}

type Held = (PathBuf, (OwnedFd, bool));

/// Takes hold of what lies below the directories that are about to be covered.
fn hold(places: &[PathBuf], covered: &[(PathBuf, &str)]) -> Result<Vec<Held>, Obstacle> {
    let mut kept: Vec<Held> = Vec::new();
    for path in places {
        let below = covered.iter().any(|(cover, _)| path.starts_with(cover));
        if !below || kept.iter().any(|(held, _)| path.starts_with(held)) {
            continue;
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, path, flags)
            .map_err(|error| Obstacle::Path { path: path.clone(), source: error.into() })?;
        kept.push((path.clone(), (tree, path.is_dir())));
    }
    Ok(kept)
}

fn put_back(path: &Path, tree: &OwnedFd, is_dir: bool) -> io::Result<()> {
    if is_dir {
        fs::create_dir_all(path)?;
    } else {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, "")?;
    }
    Ok(move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
