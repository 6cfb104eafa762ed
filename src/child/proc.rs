//! What `/proc` tells of processes (`proc_pid_stat(5)`).

use std::fs;
use std::io::{self, Read as _};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

/// By how much the processor time that is told may fall short of what a limit is compared with: that is taken in samples, one for
/// each tick of the kernel's clock, and this is not.
const COARSE: Duration = Duration::from_millis(500);

/// The part of `/proc/PID/stat` that we look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Neither a zombie nor dead.
    pub(super) alive: bool,
    /// Its process group.
    pub(super) group: i32,
    /// User and system time, its waited-for children's included.
    pub(super) cpu: Option<Duration>,
    /// Its own alone.
    own_cpu: Option<Duration>,
}

/// Whether its numbers are those by which we know processes: it was mounted in our own PID namespace. One of a namespace
/// above knows us by more than one number, and any other does not know us (`proc_pid_status(5)`, `NSpid`).
///
/// # Errors
///
/// Nobody knows: it could not be read, for want of a descriptor for example.
pub(super) fn is_ours() -> io::Result<bool> {
    match fs::read_to_string("/proc/self/status") {
        // It does not know us, or is not there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        status => Ok(has_one_number(&status?)),
    }
}

fn has_one_number(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    // A kernel that does not say it has no such namespaces.
    numbers.is_none_or(|numbers| numbers.split_whitespace().count() == 1)
}

/// Whether it leaves out processes that we may not look into, as it is mounted (`proc(5)`, `hidepid`).
fn hides(mounts: &str) -> bool {
    // The last one that was mounted there is what we see: mount point, then type and options after the hyphen.
    let seen = mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = seen.and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2)).unwrap_or_default();
    let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    hidden.is_some_and(|hidden| !matches!(hidden, "0" | "off"))
}

/// The most memory that a process had resident so far, in bytes (`proc_pid_status(5)`, `VmHWM`). `None`: it is dead, and be it
/// a zombie; or it cannot be told by its number here.
pub(super) fn peak_memory(pid: i32) -> Option<u64> {
    // What could not be read is not remembered.
    static OURS: OnceLock<bool> = OnceLock::new();
    let ours = OURS.get().copied().or_else(|| is_ours().ok().map(|ours| *OURS.get_or_init(|| ours)))?;
    let status = ours.then(|| fs::read_to_string(format!("/proc/{pid}/status")))?.ok()?;
    peak(&status)
}

fn peak(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether it shows this process, which is not yet waited for. An error says nothing about that.
pub(super) fn shows(pid: u32) -> io::Result<bool> {
    match Pid::from_raw(pid.cast_signed()).map_or(Ok(None), read) {
        // `hidepid=1`: there is a directory, into which we may not look.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        read => Ok(read?.is_some()),
    }
}

/// Whether a process that was killed, and is not waited for yet, had used up the processor time that it may use. Who does not heed
/// the SIGXCPU that says so, as no program in Go does, is killed by the kernel a second later (`setrlimit(2)`, `RLIMIT_CPU`), and
/// the signal that it has died of does not tell why.
pub(super) fn was_out_of_time(pid: Pid) -> bool {
    let limits = || fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).ok();
    let last = || most_cpu(&limits()?);
    let spent = || stat(pid)?.own_cpu;
    matches!(is_ours(), Ok(true)) && last().zip(spent()).is_some_and(|(last, spent)| spent + COARSE >= last)
}

/// The hard limit of processor time (`proc_pid_limits(5)`); `None`: there is none. The soft one moves on by a second each time that
/// it is met.
fn most_cpu(limits: &str) -> Option<Duration> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max cpu time"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_secs)
}

/// Reads about one process; `None`: there is none, or it cannot be read.
pub(super) fn stat(pid: Pid) -> Option<Stat> {
    read(pid).ok()?
}

/// Reads about one process; `None`: there is none.
fn read(pid: Pid) -> io::Result<Option<Stat>> {
    // The kernel writes the line anew for each read, so one read must take it whole; it has some 300 bytes.
    let mut text = [0; 1024];
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    match fs::File::open(path).and_then(|mut file| file.read(&mut text)) {
        Ok(length) => Ok(parse(&String::from_utf8_lossy(&text[..length]))),
        // It ended before it was opened, or between that and the read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How many processes of a group are alive. An error, for want of a descriptor for example, says nothing about them; nor does
/// a `/proc` that does not show everybody.
pub(super) fn living_members(group: Pid) -> io::Result<u32> {
    if !is_ours()? || hides(&fs::read_to_string("/proc/self/mountinfo")?) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let group = group.as_raw_nonzero().get();
    let mut living = 0;
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Some(stat) = read(pid)?
        {
            living += u32::from(stat.alive && stat.group == group);
        }
    }
    Ok(living)
}

fn parse(text: &str) -> Option<Stat> {
    // The name stands in parentheses and may itself hold any character, parentheses too: the last one closes it.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let (state, _parent, group) = (fields.next()?, fields.next()?, fields.next()?);
    // utime, stime, cutime, cstime: fields 14 to 17 of which the group is the fifth.
    let mut ticks = fields.skip(8).map(|field| field.parse::<u64>().ok());
    let own = ticks.next()?? + ticks.next()??;
    let all = own + ticks.next()?? + ticks.next()??;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Some(Stat {
        alive: !matches!(state, "Z" | "X" | "x"),
        group: group.parse().ok()?,
        cpu: Duration::from_secs(all).checked_div(per_second),
        own_cpu: Duration::from_secs(own).checked_div(per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proc_of_another_namespace_or_that_hides_somebody_is_known() {
        assert!(has_one_number("Pid:\t7\nNSpid:\t7\nNSpgid:\t7 9\n"));
        assert!(!has_one_number("Pid:\t7\nNSpid:\t70\t7\n") && has_one_number("Pid:\t7\n"));
        let mounted = |options| {
            hides(&format!(
                "1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / /proc rw,nosuid shared:3 - proc proc {options}\n\
                 3 2 0:3 / /proc/sys rw - proc proc rw\n"
            ))
        };
        assert!(mounted("rw,gid=4,hidepid=invisible") && mounted("rw,hidepid=2"));
        assert!(!mounted("rw") && !mounted("rw,hidepid=off") && !hides(""));
    }

    #[test]
    fn a_peak_is_in_bytes_and_the_dead_have_none() {
        assert_eq!(peak("VmPeak:\t  9 kB\nVmHWM:\t    1024 kB\nVmRSS:\t 3 kB\n"), Some(1 << 20));
        assert_eq!((peak("State:\tZ (zombie)\n"), peak("VmHWM:\tmuch\n")), (None, None));
        assert!(peak_memory(std::process::id().cast_signed()).is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_limit_of_processor_time_is_in_seconds_and_may_be_none() {
        let line =
            |hard| format!("Limit   Soft Limit  Hard Limit  Units\nMax cpu time   1   {hard}   seconds\n");
        assert_eq!(most_cpu(&line("3")), Some(Duration::from_secs(3)));
        assert_eq!((most_cpu(&line("unlimited")), most_cpu("")), (None, None));
    }

    #[test]
    fn a_name_full_of_parentheses_confuses_nobody() {
        let rest = "1 42 42 0 -1 4194560 1 0 0 0 100 50 25 25 20 0 1 0 7";
        let stat = parse(&format!("77 (a) Z (b)) S {rest}")).unwrap();
        assert_eq!((stat.alive, stat.group), (true, 42));
        let per_second = rustix::param::clock_ticks_per_second();
        let seconds = |ticks| Some(Duration::from_secs(ticks) / u32::try_from(per_second).unwrap());
        assert_eq!((stat.cpu, stat.own_cpu), (seconds(200), seconds(150)));
        assert!(!parse(&format!("77 (a) Z {rest}")).unwrap().alive);
        assert_eq!(parse("77 (a"), None);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a stranger to look at, which the test itself kills and reaps"
    )]
    fn a_leader_is_alone_in_its_new_group_until_it_has_died() {
        use std::os::unix::process::CommandExt as _;

        // Not our own group: its leader may live outside of our PID namespace, where it has no number.
        let mut leader = std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let group = Pid::from_child(&leader);
        assert_eq!(living_members(group).unwrap(), 1);
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert_eq!(living_members(group).unwrap(), 0);
    }
}
