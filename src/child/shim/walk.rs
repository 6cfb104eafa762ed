//! Finding and killing every descendant of this process, and nobody else.
//!
//! Descendants are stopped before any is killed, and looked for until a look finds nobody new: whoever is stopped can
//! start nobody. A number that was read may have been given to another process meanwhile, so each is held by a pidfd
//! first and its parent looked at again behind it (`pidfd_open(2)`): what the pidfd holds is then one of ours.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::child::proc;

/// Sends every descendant SIGKILL, all of them stopped before. Who has died is still to be reaped. Where `/proc` is not that
/// of our own PID namespace its numbers mean others, and nobody is touched.
pub(super) fn kill_descendants() {
    if !proc::is_ours() {
        return;
    }
    let mut held: HashMap<i32, OwnedFd> = HashMap::new();
    let own = getpid().as_raw_nonzero().get();
    loop {
        let mut new = Vec::new();
        let mut parents = vec![own];
        parents.extend(held.keys());
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if !held.contains_key(&child) && !new.contains(&child) {
                    new.push(child);
                    parents.push(child);
                }
            }
        }
        let mut found = false;
        for pid in new {
            let Some(holder) = hold(pid) else { continue };
            // Not ours any more unless its parent is: itself, or one that is held, or one that has just been seen.
            match parent_of(pid) {
                Some(parent) if parent == own || held.contains_key(&parent) || is_ours(parent, own) => {}
                _ => continue,
            }
            let _ = pidfd_send_signal(&holder, Signal::STOP);
            held.insert(pid, holder);
            found = true;
        }
        if !found {
            break;
        }
    }
    for holder in held.values() {
        // EPERM: a program of another user. It is tried again until it leaves by itself.
        let _ = pidfd_send_signal(holder, Signal::KILL);
    }
}

fn hold(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Whether the line of parents leads to us.
fn is_ours(mut pid: i32, own: i32) -> bool {
    // A line is as long as the tree is deep; a loop cannot be, but numbers may be reused while they are read.
    for _ in 0..4096 {
        match parent_of(pid) {
            Some(parent) if parent == own => return true,
            Some(parent) if parent > 1 => pid = parent,
            _ => return false,
        }
    }
    false
}

/// The parent of a process (`proc_pid_stat(5)`). Its state is not asked for: a process whose first thread has ended looks
/// like a zombie, and lives on in its other threads.
fn parent_of(pid: i32) -> Option<i32> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The children of a process, as all its threads have them (`proc_pid_task(5)`; `proc_tid_children(5)` warns that some may
/// be left out while they are not stopped, which is why we look again).
fn children(pid: i32) -> Vec<i32> {
    if !fs::exists("/proc/thread-self/children").unwrap_or(false) {
        return scanned(pid);
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let text: String = lists.collect();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The same where the kernel was built without those lists: by looking at everybody.
fn scanned(pid: i32) -> Vec<i32> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(pid)).collect()
}
