//! Which system calls: a filter (`seccomp(2)`) that answers EPERM to those with which a tool does harm and no work.
//!
//! It is a list of what is refused, not of what is allowed: nobody knows everything that any MCP server calls. So it
//! narrows the ways to attack the kernel and the neighbours, and the files and the network are confined by other means.
//! A call by the 32-bit entry ends the process: by its numbers the filter would judge the wrong calls.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::{Means, Obstacle};
use crate::child::spec::sandbox::Syscalls;

/// When a system call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Unless namespaces of its own are allowed.
    NoNamespaces,
}

/// Every refused system call with the reason.
const REFUSED: [(libc::c_long, When, &str); 50] = [
    // Other processes.
    (libc::SYS_ptrace, When::Always, "reads and steers other processes"),
    (libc::SYS_process_vm_readv, When::Always, "reads the memory of other processes"),
    (libc::SYS_process_vm_writev, When::Always, "writes the memory of other processes"),
    (libc::SYS_pidfd_getfd, When::Always, "takes descriptors out of other processes"),
    (libc::SYS_kcmp, When::Always, "tells which kernel objects processes share"),
    // The kernel's own machinery, again and again the way to become root.
    (libc::SYS_bpf, When::Always, "loads programs into the kernel"),
    (libc::SYS_perf_event_open, When::Always, "observes the whole machine"),
    (libc::SYS_userfaultfd, When::Always, "stops the kernel in the middle of a copy"),
    (libc::SYS_io_uring_setup, When::Always, "makes system calls that no filter sees"),
    (libc::SYS_io_uring_enter, When::Always, "makes system calls that no filter sees"),
    (libc::SYS_io_uring_register, When::Always, "makes system calls that no filter sees"),
    // Keyrings are shared by everything that runs as the same user.
    (libc::SYS_add_key, When::Always, "writes keyrings, which no namespace separates"),
    (libc::SYS_request_key, When::Always, "reads keyrings, which no namespace separates"),
    (libc::SYS_keyctl, When::Always, "reads keyrings, which no namespace separates"),
    // Mounts: what is hidden could be uncovered.
    (libc::SYS_mount, When::Always, "changes the view of the file system"),
    (libc::SYS_umount2, When::Always, "uncovers what is hidden"),
    (libc::SYS_pivot_root, When::Always, "changes the view of the file system"),
    (libc::SYS_open_tree, When::Always, "changes the view of the file system"),
    (libc::SYS_move_mount, When::Always, "changes the view of the file system"),
    (libc::SYS_fsopen, When::Always, "makes file systems"),
    (libc::SYS_fsconfig, When::Always, "makes file systems"),
    (libc::SYS_fsmount, When::Always, "makes file systems"),
    (libc::SYS_fspick, When::Always, "changes mounted file systems"),
    (libc::SYS_mount_setattr, When::Always, "changes the view of the file system"),
    (libc::SYS_open_by_handle_at, When::Always, "opens files past every directory above them"),
    (libc::SYS_name_to_handle_at, When::Always, "makes the handles for that"),
    (libc::SYS_fanotify_init, When::Always, "watches whole file systems"),
    (libc::SYS_quotactl, When::Always, "sets quotas"),
    (libc::SYS_quotactl_fd, When::Always, "sets quotas"),
    // Namespaces: each opens more of the kernel to whoever is root in it.
    (libc::SYS_unshare, When::NoNamespaces, "makes namespaces"),
    (libc::SYS_setns, When::NoNamespaces, "enters namespaces"),
    (libc::SYS_chroot, When::NoNamespaces, "changes the view of the file system"),
    // The machine.
    (libc::SYS_kexec_load, When::Always, "starts another kernel"),
    (libc::SYS_reboot, When::Always, "stops the machine"),
    (libc::SYS_swapon, When::Always, "administers the machine"),
    (libc::SYS_swapoff, When::Always, "administers the machine"),
    (libc::SYS_init_module, When::Always, "loads kernel modules"),
    (libc::SYS_finit_module, When::Always, "loads kernel modules"),
    (libc::SYS_delete_module, When::Always, "unloads kernel modules"),
    (libc::SYS_acct, When::Always, "administers the machine"),
    (libc::SYS_syslog, When::Always, "reads the kernel's log, and with it its addresses"),
    (libc::SYS_settimeofday, When::Always, "sets the clock"),
    (libc::SYS_clock_settime, When::Always, "sets the clock"),
    (libc::SYS_sethostname, When::Always, "administers the machine"),
    (libc::SYS_setdomainname, When::Always, "administers the machine"),
    (libc::SYS_vhangup, When::Always, "takes the terminal away"),
    (libc::SYS_lookup_dcookie, When::Always, "serves profilers of the whole machine"),
    (libc::SYS_nfsservctl, When::Always, "serves no kernel any more"),
    (libc::SYS_mbind, When::Always, "moves memory between nodes"),
    (libc::SYS_migrate_pages, When::Always, "moves memory of other processes"),
];

/// Refused on one kind of processor only, where they exist.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [(libc::c_long, &str); 3] = [
    (libc::SYS_kexec_file_load, "starts another kernel"),
    (libc::SYS_iopl, "speaks to devices directly"),
    (libc::SYS_ioperm, "speaks to devices directly"),
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [(libc::c_long, &str); 0] = [];

/// Requests of `ioctl(2)` that put words into somebody else's terminal (`TIOCSTI(2const)`, `TIOCLINUX(2const)`).
const TERMINAL: [u64; 2] = [0x5412, 0x541c];

/// Flags of `clone(2)` that make a namespace.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWTIME,
];

/// On x86-64 the x32 ABI has the numbers of the others with this bit set, and calls of its own from 512 on
/// (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const X32_CALLS: std::ops::RangeInclusive<libc::c_long> = 512..=547;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refuses dangerous calls from here on.
pub(super) fn restrict(allowed: Syscalls) -> Means {
    let namespaces = allowed == Syscalls::SafeAndNamespaces;
    let mut rules = Rules::new();
    let always = REFUSED.iter().filter(|(_, when, _)| !(namespaces && *when == When::NoNamespaces));
    for number in always.map(|(number, ..)| *number).chain(REFUSED_HERE.iter().map(|(number, _)| *number)) {
        rules.insert(number, Vec::new());
    }
    let terminal = |request| when(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request);
    rules.insert(libc::SYS_ioctl, TERMINAL.into_iter().map(terminal).collect::<Result<_, _>>()?);
    if !namespaces {
        let one = |flag: libc::c_int| {
            let flag = u64::from(flag.unsigned_abs());
            when(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)
        };
        rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(one).collect::<Result<_, _>>()?);
    }
    install(with_twins(rules), libc::EPERM)?;
    if !namespaces {
        // Its flags lie in memory, where no filter can look. Told that there is no such call, C libraries use clone(2).
        install(with_twins(Rules::from([(libc::SYS_clone3, Vec::new())])), libc::ENOSYS)?;
    }
    Ok(format!("a filter that refuses {} system calls", REFUSED.len() + REFUSED_HERE.len()))
}

/// Refuses every socket but those of the machine itself. `io_uring(7)` could make one past the filter.
pub(super) fn refuse_sockets() -> Result<(), Obstacle> {
    let other = |family: libc::c_int| {
        let family = u64::from(family.unsigned_abs());
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family).map_err(backend)
    };
    // Netlink is how a program learns that it has no network.
    let rule = SeccompRule::new(vec![other(libc::AF_UNIX)?, other(libc::AF_NETLINK)?]).map_err(backend)?;
    let rules = Rules::from([(libc::SYS_socket, vec![rule]), (libc::SYS_io_uring_setup, Vec::new())]);
    install(with_twins(rules), libc::EACCES)
}

/// Refuses to truncate a file that was not opened for writing, as Landlock does from its ABI 3 on with those that may not be
/// written (`landlock(7)`). Whoever opens one for writing was asked for the right to that, and `ftruncate(2)` needs such a one.
pub(super) fn refuse_truncation() -> Result<(), Obstacle> {
    // A mode of 3 is one for neither reading nor writing (`open(2)`, NOTES).
    let mask = u64::from((libc::O_ACCMODE | libc::O_TRUNC).unsigned_abs());
    let neither = |argument| {
        let modes =
            [libc::O_RDONLY, libc::O_ACCMODE].map(|mode| u64::from((mode | libc::O_TRUNC).unsigned_abs()));
        let rules =
            modes.map(|flags| when(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), flags));
        rules.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let mut rules = Rules::from([
        (libc::SYS_truncate, Vec::new()),
        (libc::SYS_openat, neither(2)?),
        (libc::SYS_open_by_handle_at, neither(2)?),
        // It could open files past the filter.
        (libc::SYS_io_uring_setup, Vec::new()),
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, neither(1)?);
    install(with_twins(rules), libc::EACCES)?;
    // Its flags lie in memory, where no filter can look. Told that there is no such call, programs use openat(2).
    install(with_twins(Rules::from([(libc::SYS_openat2, Vec::new())])), libc::ENOSYS)
}

fn when(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, Obstacle> {
    let condition = SeccompCondition::new(argument, length, operator, value).map_err(backend)?;
    Ok(SeccompRule::new(vec![condition]).map_err(backend)?)
}

fn backend(error: BackendError) -> Error {
    Error::Backend(error)
}

/// The same rules for the other set of numbers by which the same calls can be made.
#[cfg(target_arch = "x86_64")]
fn with_twins(mut rules: Rules) -> Rules {
    let twins: Vec<_> = rules.iter().map(|(number, rules)| (number | X32, rules.clone())).collect();
    rules.extend(twins);
    // Among these are ptrace, kexec_load and process_vm_readv; nothing but x32 programs has a use for them.
    rules.extend(X32_CALLS.map(|number| (number | X32, Vec::new())));
    rules
}
#[cfg(not(target_arch = "x86_64"))]
fn with_twins(rules: Rules) -> Rules {
    rules
}

fn install(rules: Rules, errno: libc::c_int) -> Result<(), Obstacle> {
    let target: TargetArch = std::env::consts::ARCH.try_into().map_err(backend)?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, target).map_err(backend)?;
    let program: BpfProgram = filter.try_into().map_err(backend)?;
    Ok(seccompiler::apply_filter(&program)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::{self, File};

    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat, openat2};
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn every_refused_call_is_listed_once_and_with_a_reason() {
        let numbers: BTreeSet<_> = REFUSED.iter().map(|(number, ..)| number).collect();
        assert_eq!(numbers.len(), REFUSED.len());
        assert!(REFUSED.iter().all(|(_, _, why)| why.len() > 10));
    }

    /// A filter is a thread's, and of whoever it starts.
    #[test]
    fn nothing_is_truncated_that_was_not_opened_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        let tried = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            refuse_truncation().unwrap();
            for mode in [OFlags::RDONLY, OFlags::RWMODE] {
                let flags = mode | OFlags::TRUNC | OFlags::CLOEXEC;
                // On x86-64 the first of these is a system call of its own.
                for opened in [open(&file, flags, Mode::empty()), openat(CWD, &file, flags, Mode::empty())] {
                    assert_eq!(opened.unwrap_err(), Errno::ACCESS, "{flags:?}");
                }
            }
            let opened = openat2(CWD, &file, OFlags::TRUNC, Mode::empty(), ResolveFlags::empty());
            assert_eq!(opened.unwrap_err(), Errno::NOSYS);
            // truncate(2), for which no library here has a safe function.
            let script = "exit(truncate($ARGV[0], 0) ? 0 : 40 + $!)";
            #[expect(clippy::disallowed_methods, reason = "it is waited for right here")]
            let perl = std::process::Command::new("perl").args(["-e", script]).arg(&file).status();
            if let Ok(status) = perl {
                assert_eq!(status.code(), Some(40 + libc::EACCES));
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), "precious");

            // As nearly every program does it.
            let opened = File::create(&file).unwrap();
            opened.set_len(5).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().len(), 5);
        });
        tried.join().unwrap();
    }
}
