//! Process 1 of a tree's own PID namespace (`pid_namespaces(7)`).
//!
//! It adopts every orphan of the namespace, and when it exits the kernel kills whoever is left there. It dies with its
//! keeper, and with the gateway.

use std::fs;
use std::io;
use std::process;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    DumpableBehavior, Signal, getegid, geteuid, set_dumpable_behavior, set_parent_process_death_signal,
};

use super::control::Control;
use super::keep::{self, Given, Reach};
use super::words::{Keeping, Orders, Power, Report, Step};

/// Who we are outside of any user namespace of our own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    user: u32,
    group: u32,
}

impl Identity {
    /// Ours. To be asked before a user namespace is entered: inside, we are nobody until the maps are written.
    pub(super) fn ours() -> Self {
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }
    }
}

/// Lives the life of an init, and never returns.
pub(super) fn run(control: &Control, orders: &Orders, given: Given, identity: Identity) -> ! {
    let done = match set_up(orders.keeping, identity) {
        Ok(()) => keep::keep(control, orders, given, Reach::Namespace),
        Err(error) => control.tell(&Report::failed(Step::Setup, &error)),
    };
    // Whoever is left in here ends with us; the keeper sees it, and says so.
    process::exit(i32::from(done.is_err()))
}

fn set_up(keeping: Keeping, identity: Identity) -> io::Result<()> {
    // The keeper has one thread, so that its death is what is meant here, and not that of some thread
    // (`PR_SET_PDEATHSIG(2const)`).
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if keeping == Keeping::Namespace(Power::UserNamespace) {
        // `user_namespaces(7)`: without privilege groups cannot be set afterwards, and each map has one line.
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{0} {0} 1", identity.user))?;
        fs::write("/proc/self/gid_map", format!("{0} {0} 1", identity.group))?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Nothing that is mounted here may show outside (`mount_namespaces(7)`).
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // The tree's own view of itself: a process finds itself under its own number, and no others. Where a container hides
    // parts of /proc the kernel refuses (`user_namespaces(7)`, mount restrictions); the tree then sees the numbers of
    // the namespace above, and can use none of them.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None);
    Ok(())
}
