//! Finding and killing every descendant of this process, and nobody else.
//!
//! Descendants are stopped before any is killed, and looked for until a look finds nobody new: whoever is stopped can
//! start nobody. A number that was read may have been given to another process meanwhile, so each is held by a pidfd
//! before every signal and its parent looked at again behind it (`pidfd_open(2)`): what the pidfd holds is then one of ours.

use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::child::proc;

/// Sends every descendant SIGKILL, all of them stopped before. Who has died is still to be reaped. Where `/proc` is not that
/// of our own PID namespace its numbers mean others, and nobody is touched; nor is anybody where that could not be found out.
pub(super) fn kill_descendants() {
    if !matches!(proc::is_ours(), Ok(true)) {
        return;
    }
    let mut stopped: HashSet<i32> = HashSet::new();
    let own = getpid().as_raw_nonzero().get();
    loop {
        let (mut new, mut seen) = (Vec::new(), HashSet::new());
        let mut parents = vec![own];
        parents.extend(&stopped);
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if !stopped.contains(&child) && seen.insert(child) {
                    new.push(child);
                    parents.push(child);
                }
            }
        }
        let before = stopped.len();
        for pid in new {
            if signal(pid, Signal::STOP, own, &stopped) {
                stopped.insert(pid);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    for pid in &stopped {
        signal(*pid, Signal::KILL, own, &stopped);
    }
}

/// Signals one of ours, and says whether it is one. It is held for that long only: there may be more of them than we may have
/// descriptors, and while any is left out it starts others.
fn signal(pid: i32, signal: Signal, own: i32, stopped: &HashSet<i32>) -> bool {
    let Some(holder) = hold(pid) else { return false };
    // Not ours any more unless its parent is: itself, or one that was stopped, or one that has just been seen.
    let ours = |parent: i32| parent == own || stopped.contains(&parent) || is_ours(parent, own);
    if !parent_of(pid).is_some_and(ours) {
        return false;
    }
    // EPERM: a program of another user. It is tried again until it leaves by itself.
    let _ = pidfd_send_signal(&holder, signal);
    true
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
pub(in crate::child) fn children(pid: i32) -> Vec<i32> {
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
