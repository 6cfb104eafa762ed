//! What `/proc` tells, as the machine's owner would look.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// The living processes that have this `NAME=value` in their environment.
pub(crate) fn with(variable: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    all().into_iter().filter(has).filter(|pid| alive(*pid)).collect()
}

/// The living processes that were started with words that contain this text.
pub(crate) fn mentioning(text: &str) -> Vec<u32> {
    all().into_iter().filter(|pid| command_line(*pid).contains(text) && alive(*pid)).collect()
}

/// The helpers below a process: of a gateway the guards of its keepers, which stay for the next tree; of a guard its
/// keeper; of a keeper the init of its tree, if that has one.
pub(crate) fn keepers_of(gateway: u32) -> Vec<u32> {
    let is_keeper = |pid: &u32| {
        state(*pid).is_some_and(|(_, ppid)| ppid == gateway) && command_line(*pid).trim() == "spawnling shim"
    };
    all().into_iter().filter(is_keeper).collect()
}

/// The parent of a process.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    state(pid).map(|(_, parent)| parent)
}

/// The session of a process. Not by `getsid(2)`: where the leader is outside of our PID namespace that is 0, as here, which the
/// library takes for a defect.
pub(crate) fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// The number by which a process knows itself, in its own PID namespace (`proc_pid_status(5)`, `NSpid`).
pub(crate) fn own_number(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    numbers.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(pid)
}

/// The zombies whose parent this is.
pub(crate) fn zombies_of(parent: u32) -> Vec<u32> {
    let is_zombie = |pid: &u32| state(*pid).is_some_and(|(state, ppid)| state == 'Z' && ppid == parent);
    all().into_iter().filter(is_zombie).collect()
}

/// Whether there is such a process, and it is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X' | 'x'))
}

/// Whether each thread of a process sleeps, and keeps sleeping.
pub(crate) fn is_at_rest(pid: u32) -> bool {
    let threads = || {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let switches = |entry: fs::DirEntry| {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let field = |name: &str| Some(status.lines().find(|line| line.starts_with(name))?.to_owned());
            field("State:\tS")?;
            field("voluntary_ctxt_switches:")
        };
        entries.flatten().map(switches).collect::<Option<Vec<_>>>()
    };
    let before = threads();
    before.is_some() && before == threads()
}

/// Kills a process that a test has left behind on purpose.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends a process a signal.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have gone by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process runs this program, and is not about to.
pub(crate) fn runs(pid: u32, program: &str) -> bool {
    command_line(pid).split(' ').next().is_some_and(|path| path.rsplit('/').next() == Some(program))
}

/// What a process was started with.
pub(crate) fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// State and parent, from `/proc/PID/stat`.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
