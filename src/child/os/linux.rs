//! Linux: a fork into new namespaces.

#![expect(unsafe_code, reason = "clone(2); its argument stands beside it")]

use std::io;

use rustix::process::Pid;

/// Who comes out of [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::child) enum Born {
    /// The one that called, told the id of the other.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Splits this process in two (`clone(2)` without a new stack, which is `fork(2)`); the new one lies in the new namespaces
/// that `namespaces` asks for (`CLONE_NEW*`, 0 for none).
///
/// # Errors
///
/// What `clone(2)` gives; and `EBUSY`, without having tried, if this process has more than one thread.
pub(in crate::child) fn fork(namespaces: i32) -> io::Result<Born> {
    if std::fs::read_dir("/proc/self/task").map_or(2, Iterator::count) != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: no stack, no thread-local storage and no id pointers are given, and no memory is shared, so that the new
    // process goes on with a copy of everything, as after `fork(2)`. What makes that dangerous is another thread that held
    // a lock when it was left behind; there is none, as was just seen, and nobody but this thread could start one.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid).map(|pid| (pid, Pid::from_raw(pid.max(0)))) {
        Ok((0, _)) => Ok(Born::Child),
        Ok((_, Some(pid))) => Ok(Born::Parent(pid)),
        Ok((_, None)) | Err(_) => Err(io::Error::last_os_error()),
    }
}
