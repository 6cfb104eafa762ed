//! The life of a kept tree: started, watched, ended as a whole, counted.
//!
//! Both kinds of keeper adopt what loses its parent, so that whoever has no child left has no descendant left: that
//! `wait(2)` finds nobody is the proof, and nothing is said before.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, wait, waitid};
use signal_hook::consts::{SIGCHLD, SIGKILL, SIGXCPU};

use super::control::Control;
use super::start;
use super::walk;
use super::words::{Count, Ended, KILL, Orders, Report, Step, TERM};
use crate::child::proc;

/// How long a kill may take before whoever is left is looked for again, in nanoseconds; twice as long each time, up to the
/// second: somebody who cannot be killed (another user's, by a set-user-ID program) is waited for, not run after.
const AGAIN: (i64, i64) = (5_000_000, 500_000_000);

/// What a keeper can reach of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its descendants, which it has to look for.
    Descendants,
    /// Everybody in its namespace but itself.
    Namespace,
}

/// Starts a tree, and returns when nothing of it is left.
///
/// # Errors
///
/// Nobody listens any more; the tree is gone all the same.
pub(super) fn keep(control: &Control, orders: &Orders, given: Given, reach: Reach) -> io::Result<()> {
    let before = Spent::so_far();
    let children = Children::watch()?;
    let leader = match start(orders, given, reach) {
        Ok(leader) => leader,
        Err((step, error)) => return control.tell(&Report::failed(step, &error)),
    };
    let told = control.tell(&Report::Started(leader.as_raw_nonzero().get()));
    let mut tree = Tree { leader, ended: None, killed: 0, out_of_time: false };
    let listened = told.and_then(|()| tree.watch(control, &children));
    let early = tree.ended;
    // Whoever cannot be told any more has a tree that goes all the same; that is the point.
    let told = early.map_or(Ok(()), |ended| tree.tell_of(ended, control));
    tree.end(reach, &children);
    listened.and(told)?;
    if let (None, Some(ended)) = (early, tree.ended) {
        tree.tell_of(ended, control)?;
    }
    control.tell(&Report::Counted(Spent::so_far().since(&before, tree.killed)))
}

/// Ends what a keeper that is dead has left to us, its parent; returns when nothing of it is left.
pub(super) fn end_orphans_of(keeper: Pid) -> io::Result<()> {
    let children = Children::watch()?;
    Tree { leader: keeper, ended: None, killed: 0, out_of_time: false }.end(Reach::Descendants, &children);
    Ok(())
}

/// How many descriptors are the tree's own.
pub(super) const STDIO: usize = 3;

/// The descriptors that came with orders: those of the tree, then the doors of its cgroup, if it has one (`cgroup.rs`).
pub(super) struct Given {
    descriptors: Vec<OwnedFd>,
    /// Whoever has them is in that cgroup.
    inside: bool,
}

impl Given {
    pub(super) const fn new(descriptors: Vec<OwnedFd>, inside: bool) -> Self {
        Self { descriptors, inside }
    }
}

/// Starts the program of a tree in its cgroup.
fn start(orders: &Orders, given: Given, reach: Reach) -> Result<Pid, start::Failed> {
    let missing = || (Step::Orders, io::Error::from(io::ErrorKind::InvalidInput));
    let mut descriptors = given.descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(missing);
    let stdio = [next()?, next()?, next()?];
    let doors: Vec<File> = descriptors.map(File::from).collect();
    if doors.len() != orders.cgroups {
        return Err(missing());
    }
    match (doors.as_slice(), reach) {
        ([], _) => start::leader(orders, stdio),
        ([_, _, _], Reach::Namespace) if given.inside => start::leader(orders, stdio),
        // An init stays in there: it is of the tree.
        ([_, enter, _], Reach::Namespace) => {
            join(enter)?;
            start::leader(orders, stdio)
        }
        ([cgroup, enter, leave], Reach::Descendants) => {
            match start::leader_in(orders, stdio, cgroup, enter) {
                Ok(started) => started,
                Err(stdio) => start_between(enter, leave, orders, stdio),
            }
        }
        ([enter, leave], Reach::Descendants) => start_between(enter, leave, orders, stdio),
        _ => Err(missing()),
    }
}

/// Starts it between joining its cgroup and leaving that again, lest the keeper be killed with its tree.
fn start_between(
    enter: &File,
    leave: &File,
    orders: &Orders,
    stdio: [OwnedFd; STDIO],
) -> Result<Pid, start::Failed> {
    join(enter)?;
    let started = start::leader(orders, stdio);
    join(leave)?;
    started
}

/// Joins a cgroup: whom it starts from then on is born there, so that nobody of a tree was ever anywhere else.
fn join(door: &File) -> Result<(), start::Failed> {
    start::join(door).map_err(|error| (Step::Join, error))
}

/// Tells when a child has died, or was stopped.
pub(super) struct Children {
    bell: UnixStream,
    hook: signal_hook::SigId,
}

impl Children {
    pub(super) fn watch() -> io::Result<Self> {
        let (bell, rope) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Self { bell, hook: signal_hook::low_level::pipe::register(SIGCHLD, rope)? })
    }

    pub(super) fn silence(&self) {
        let mut heard = [0; 64];
        while (&self.bell).read(&mut heard).is_ok_and(|length| length == heard.len()) {}
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.hook);
    }
}

/// A tree that was started.
struct Tree {
    leader: Pid,
    /// Set once its leader is dead.
    ended: Option<Ended>,
    /// How many beside it have died of SIGKILL by our doing.
    killed: u32,
    /// Somebody beside it has died of SIGXCPU; or the leader was killed for not heeding that.
    out_of_time: bool,
}

/// What the reaping of whoever is dead has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Somebody,
    Nobody,
}

impl Tree {
    /// Passes orders on and buries orphans until the leader has exited, or the tree is to end. The leader stays a zombie:
    /// its number, and with it that of its group, can mean nobody else.
    fn watch(&mut self, control: &Control, children: &Children) -> io::Result<()> {
        loop {
            let mut fallen = 0;
            if wait_for(Some(control), children, None)? {
                children.silence();
                fallen = self.bury(Some(self.leader)).1;
                if self.ended.is_some() {
                    // Nobody has been told of that yet, so as a rule nobody was killed for it.
                    fallen += self.bury(None).1;
                }
            }
            // A kill is ordered before it is done to anybody (`tree.rs`): if these have died of one, its order is there.
            if self.heed(control)? {
                self.killed += fallen;
                return Ok(());
            }
            if self.ended.is_some() {
                return Ok(());
            }
        }
    }

    /// Tells of the leader's end, and before it of what may explain that.
    fn tell_of(&self, ended: Ended, control: &Control) -> io::Result<()> {
        if self.out_of_time {
            control.tell(&Report::OutOfTime)?;
        }
        control.tell(&Report::Exited(ended))
    }

    /// Carries out the orders that are there, and says whether the tree is to end.
    fn heed(&self, control: &Control) -> io::Result<bool> {
        loop {
            match control.order() {
                Ok(Some(TERM)) if self.ended.is_none() => drop(kill_process_group(self.leader, Signal::TERM)),
                Ok(Some(KILL) | None) => return Ok(true),
                // It was for a leader that is dead by now; nothing else is said, for both sides are one program.
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Kills and reaps until there is nobody.
    fn end(&mut self, reach: Reach, children: &Children) {
        // Whoever has died of anything else is buried by now: these were killed with their cgroup. As a rule there is nobody.
        let (mut left, fallen) = self.bury(None);
        self.killed += fallen;
        let (mut pause, longest) = AGAIN;
        while left == Left::Somebody {
            match reach {
                Reach::Descendants => walk::kill_descendants(),
                // All whom we may signal, but for ourselves (`kill(2)`).
                Reach::Namespace => {
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL);
                }
            }
            // Nothing is lost if this fails: it only waits.
            let _ = wait_for(None, children, Some(&Timespec { tv_sec: 0, tv_nsec: pause }));
            pause = (pause * 2).min(longest);
            children.silence();
            let (still, fallen) = self.bury(None);
            left = still;
            self.killed += fallen;
        }
    }

    /// Reaps the dead, and says how many beside the leader were killed by SIGKILL. A leader that is to be kept stays a zombie.
    ///
    /// Not by nix, which takes an end by a real-time signal for an error.
    fn bury(&mut self, but: Option<Pid>) -> (Left, u32) {
        let mut fallen = 0;
        loop {
            if let Some(leader) = but
                && let Some(ended) = peek(leader)
            {
                self.ended = Some(ended);
                self.out_of_time |= ended == Ended::Signal(SIGKILL) && proc::was_out_of_time(leader);
                return (Left::Somebody, fallen);
            }
            match wait(WaitOptions::NOHANG) {
                // It may have died since it was looked at. Nobody is told to leave any more once it has.
                Ok(Some((pid, status))) if pid == self.leader => {
                    self.ended = ended(status.exit_status(), status.terminating_signal());
                }
                Ok(Some((_, status))) => {
                    fallen += u32::from(status.terminating_signal() == Some(SIGKILL));
                    self.out_of_time |= status.terminating_signal() == Some(SIGXCPU);
                }
                // The only error that is the proof (`wait(2)`).
                Err(Errno::CHILD) => return (Left::Nobody, fallen),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return (Left::Somebody, fallen),
            }
        }
    }
}

/// How a child has ended, if it has, without reaping it.
fn peek(child: Pid) -> Option<Ended> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(child), options).ok()??;
    ended(status.exit_status(), status.terminating_signal())
}

fn ended(code: Option<i32>, signal: Option<i32>) -> Option<Ended> {
    code.map(Ended::Code).or(signal.map(Ended::Signal))
}

/// Waits for an order or a death, and says whether it may be a death.
fn wait_for(control: Option<&Control>, children: &Children, at_most: Option<&Timespec>) -> io::Result<bool> {
    let mut watched = vec![PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN)];
    watched.extend(control.map(|control| PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)));
    match poll(&mut watched, at_most) {
        // A signal: its handler has rung the bell, if it was a death.
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(!watched[0].revents().is_empty()),
    }
}

/// What the children of this process that were waited for have used (`getrusage(2)`, `RUSAGE_CHILDREN`).
struct Spent {
    cpu_us: u64,
    largest_kib: u64,
}

impl Spent {
    fn so_far() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else {
            return Self { cpu_us: 0, largest_kib: 0 };
        };
        let micros = |time: nix::sys::time::TimeVal| {
            time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
        };
        Self {
            cpu_us: micros(usage.user_time()) + micros(usage.system_time()),
            largest_kib: usage.max_rss().unsigned_abs(),
        }
    }

    fn since(&self, before: &Self, killed: u32) -> Count {
        Count {
            killed,
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            // The kernel keeps the largest of all times: of this tree it is known only if no tree before was larger.
            largest_kib: if self.largest_kib > before.largest_kib { self.largest_kib } else { 0 },
        }
    }
}
