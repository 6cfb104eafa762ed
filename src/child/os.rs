//! What only the kernel's own interface can do, behind a safe function.
//!
//! Everything else about processes goes through the standard library, rustix and nix, which are safe to call. The one
//! function here needs a promise that no library can make for us, so the only unsafe code of the crate lies in the file
//! below, with its argument ([decision](../../docs/decisions/unsafe-code.md)).

use std::ffi::CStr;
use std::io;

use nix::libc;

mod linux;

pub(super) use linux::{Born, fork};

/// What this process is called in lists of processes and in the words of a service manager: started from
/// `/proc/self/exe` it would be `exe` (`PR_SET_NAME(2const)`). Not the gateway's name, so that `pkill spawnling` means the
/// gateway, and whoever outlives it does its work.
pub(super) fn go_by(name: &CStr) {
    let _ = rustix::thread::set_name(name);
}

/// What a person can do about a namespace that the kernel refuses, to be put behind what was refused; empty: nobody knows.
pub(super) fn why_no_namespace(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // `user_namespaces(7)`, `namespaces(7)`: the limits of `/proc/sys/user`.
        Some(libc::ENOSPC) => " (no more are allowed: `user.max_user_namespaces` and the like)",
        // Debian's and Ubuntu's own switches, and the filters of containers. AppArmor lets a user namespace be made, and
        // takes the rights in it away: the first file of its maps cannot be opened (EACCES), or not written (EPERM).
        Some(libc::EPERM | libc::EACCES) => {
            " (not allowed to this user: `kernel.unprivileged_userns_clone`, \
             `kernel.apparmor_restrict_unprivileged_userns`, or the container's filter of system calls)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_make_no_namespace_is_told_which_setting_that_is() {
        let why = |errno| why_no_namespace(&io::Error::from_raw_os_error(errno));
        assert!(why(libc::ENOSPC).contains("user.max_user_namespaces"));
        for errno in [libc::EPERM, libc::EACCES] {
            assert!(why(errno).contains("kernel.unprivileged_userns_clone"));
            assert!(why(errno).contains("kernel.apparmor_restrict_unprivileged_userns"));
        }
        assert_eq!(why(libc::EINVAL), "");
    }

    #[test]
    fn a_process_goes_by_the_name_that_it_was_given() {
        // A name is a thread's; the first one's is the process's.
        let named = std::thread::spawn(|| {
            go_by(c"warden");
            std::fs::read_to_string("/proc/thread-self/comm")
        });
        assert_eq!(named.join().unwrap().unwrap(), "warden\n");
    }
}
