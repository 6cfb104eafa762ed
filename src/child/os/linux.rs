//! Linux: a fork into new namespaces, or into a cgroup.

#![expect(unsafe_code, reason = "clone3(2); its argument stands beside it")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::process::Pid;

/// Who comes out of [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) enum Born {
    /// The one that called, told the id of the other.
    Parent(Pid),
    /// The new one.
    Child,
}

/// `CLONE_INTO_CGROUP` (`clone(2)`): the library has it cut off to the bits of an `int`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Splits this process in two (`clone(2)` without a new stack, which is `fork(2)`); the new one lies in the new namespaces
/// that `namespaces` asks for (`CLONE_NEW*`, 0 for none), and from its first moment in the cgroup of version 2 whose
/// directory `cgroup` is, if one is given.
///
/// # Errors
///
/// What `clone(2)` and `clone3(2)` give, which some containers do not allow (`ENOSYS`); and without having
/// tried `EBUSY`, if this process has more than one thread, or what has kept us from counting them.
pub(in crate::child) fn fork(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Born> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    let none: libc::c_long = 0;
    let (into, size) = (arguments(namespaces, cgroup), size_of::<libc::clone_args>());
    // SAFETY: no stack, no thread-local storage and no id pointers are given, and no memory is shared, so that the new
    // process goes on with a copy of everything, as after `fork(2)`. What makes that dangerous is another thread that held
    // a lock when it was left behind; there is none, as was just seen, and nobody but this thread could start one.
    // What `clone3(2)` reads lives until it returns, and is as long as it is told.
    let pid = unsafe {
        match &into {
            None => libc::syscall(libc::SYS_clone, flags, none, none, none, none),
            Some(into) => libc::syscall(libc::SYS_clone3, std::ptr::from_ref(into), size),
        }
    };
    match i32::try_from(pid).map(|pid| (pid, Pid::from_raw(pid.max(0)))) {
        Ok((0, _)) => Ok(Born::Child),
        Ok((_, Some(pid))) => Ok(Born::Parent(pid)),
        Ok((_, None)) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// What `clone3(2)` is to be told; `clone(2)` has no room for a cgroup.
fn arguments(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> Option<libc::clone_args> {
    let cgroup = u64::from(cgroup?.as_raw_fd().cast_unsigned());
    Some(libc::clone_args {
        flags: u64::from(namespaces.cast_unsigned()) | INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    })
}
