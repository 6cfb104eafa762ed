//! Who a process is, and what it may do beyond that.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{Means, Obstacle};
use crate::child::spec::sandbox::User;

/// What a server that runs as root keeps: power over files and over its own processes. Without the rest it cannot load
/// modules, mount, trace, set clocks, listen to the network or reboot (`capabilities(7)`).
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// `execve(2)` grants nothing any more: no set-user-ID, no file capabilities. And root gives up what no tool needs: with
/// `CAP_PERFMON`, for example, it would read other processes past Landlock (`may_access_mm` in `kernel/fork.c`).
pub(super) fn no_new_privs() -> Means {
    let dropped = drop_capabilities()?;
    set_no_new_privs(true).map_err(Obstacle::step("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    Ok(if dropped { "prctl(2), with few of root's capabilities" } else { "prctl(2)" }.to_owned())
}

/// Becomes somebody else, to whom the scratch directory is given. The process has one thread, so the thread's
/// identity is the process's (`setuid(2)`, "C library/kernel differences").
pub(super) fn become_user(user: &User, scratch: &Path) -> Means {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let owned = chownat(CWD, scratch, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    owned.map_err(Obstacle::step("giving the scratch directory away needs root"))?;
    set_thread_groups(&[]).map_err(Obstacle::step("setgroups(2) needs root"))?;
    set_thread_res_gid(gid, gid, gid).map_err(Obstacle::step("setresgid(2) needs root"))?;
    set_thread_res_uid(uid, uid, uid).map_err(Obstacle::step("setresuid(2) needs root"))?;
    // Out of reach of its user a working directory is of no use.
    let reach = rustix::fs::access(scratch, rustix::fs::Access::WRITE_OK);
    reach.map_err(|error| Obstacle::Path { path: scratch.to_owned(), source: error.into() })?;
    Ok(format!("user {}, group {}, no other groups", user.uid, user.gid))
}

/// Gives up every capability that is not in [`KEPT`], now and after `execve(2)`; whether there was any.
fn drop_capabilities() -> Result<bool, Obstacle> {
    let held = capabilities(None).map_err(Obstacle::step("capget(2)"))?;
    if held.permitted.is_empty() {
        // Nor can it get any: no_new_privs is set next.
        return Ok(false);
    }
    // A capability of a kernel younger than this list is dropped like the others.
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        let there = capability_is_in_bounding_set(capability).unwrap_or(false);
        if there && !KEPT.contains(capability) {
            remove_capability_from_bounding_set(capability)
                .map_err(Obstacle::step("prctl(PR_CAPBSET_DROP)"))?;
        }
    }
    clear_ambient_capability_set().map_err(Obstacle::step("prctl(PR_CAP_AMBIENT)"))?;
    let kept = held.permitted.intersection(KEPT);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(Obstacle::step("capset(2)"))?;
    Ok(true)
}
