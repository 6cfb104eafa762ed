//! Signal, kill, reap and count the whole tree; the only source of [`Gone`].
//!
//! A tree is a child of ours, held by its process group; or it is kept by a process between (`keeper.rs`), in a cgroup or
//! not. The order of death of our own: watch the leader's exit through a pidfd without reaping it
//! (`pidfd_open(2)`); kill all the rest while the leader is still a zombie, so that its id, and with it the id of its
//! group, cannot mean anybody else; only then reap. The proof is not "we sent SIGKILL" but that nothing alive is found
//! afterwards.
//!
//! ```text
//!   alive --exit--> zombie --kill the rest--> --reap--> --nobody left?--> Gone
//!
//!   nobody left:  group       no member of the group is alive
//!                 cgroup      rmdir(2) of its cgroup has succeeded
//!                 namespace   its init is dead: the kernel has reaped all the others before
//!                 subreaper   the keeper that adopted every orphan has no child left
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_process_stream::ProcessChunkStream;

use super::cgroup::Leaf;
use super::keeper::{Kept, Unproved};
use super::{proc, shim};
use crate::exchange::{Exit, Measured};

/// How long a killed process may take to be gone before that is worth a line.
const DYING: Duration = Duration::from_secs(2);
/// How long dying members of a cgroup are watched before they are looked for anew, and the pause between two looks at a
/// process that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How many processes of a tree are looked at before its end.
const MOST_LOOKED_AT: usize = 256;
/// How long an end that must come at any moment is asked for without a pause.
const SOON: Duration = Duration::from_millis(2);

/// The proof that nothing of a tree is alive, as far as its containment could hold it.
#[derive(Debug)]
pub(crate) struct Gone(Of);

/// Of whom something is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Everybody,
    /// Who has left the group of its own will may be alive.
    TheGroup,
}

impl Gone {
    /// Nothing of a tree that was never started is alive.
    pub(super) const fn never_born() -> Self {
        Self(Of::Everybody)
    }

    /// Whether nobody can have escaped, short of those who were helped from outside.
    pub(super) fn is_of_everybody(&self) -> bool {
        self.0 == Of::Everybody
    }
}

/// Ends a tree that was just born and that cannot be watched, for want of a descriptor: its group is killed and its
/// leader, a child of ours, waited for. So young, it has nobody else.
pub(super) async fn end_unwatched(pid: u32, mut rest: ProcessChunkStream) -> Gone {
    if let Some(leader) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(leader, Signal::KILL);
    }
    if let Some(process) = rest.child_mut() {
        let _ = process.wait().await;
    }
    Gone(Of::TheGroup)
}

/// What makes a tree killable as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containment {
    /// A PID namespace in a cgroup.
    Strict,
    /// A cgroup.
    Cgroup,
    /// A PID namespace with an init of ours.
    Namespace,
    /// A parent of ours that adopts every orphan.
    Subreaper,
    /// Its process group: what leaves it by `setsid(2)` or `setpgid(2)` is not found again.
    Group,
}

impl Containment {
    /// The name in listings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::Subreaper => "subreaper",
            Self::Group => "group",
        }
    }

    /// Whether it has a PID namespace of its own.
    pub(super) const fn has_namespace(self) -> bool {
        match self {
            Self::Strict | Self::Namespace => true,
            Self::Cgroup | Self::Subreaper | Self::Group => false,
        }
    }
}

/// A process and all that it started, as far as its containment holds them.
#[derive(Debug)]
pub(super) struct Tree {
    held: Held,
    leaf: Option<Leaf>,
}

/// By whom.
#[derive(Debug)]
enum Held {
    /// The leader is a child of ours.
    ByUs {
        leader: Pid,
        /// Readable from the moment at which the leader is a zombie, and ever after.
        exit: AsyncFd<OwnedFd>,
    },
    /// By a process between.
    ByKeeper(Box<Kept>),
}

/// What is known of a tree once it is gone.
#[derive(Debug, Default)]
pub(super) struct Toll {
    /// Processes beside the leader that were killed, as far as they were seen.
    pub(super) killed: u32,
    /// User and system time.
    pub(super) cpu: Option<Measured<Duration>>,
    /// In bytes.
    pub(super) peak_memory: Option<Measured<u64>>,
}

impl Tree {
    /// Watches the tree of a leader that nobody has waited for yet: its id still means it.
    pub(super) fn watch(pid: u32) -> io::Result<Self> {
        let leader = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let exit = watched(pidfd_open(leader, PidfdFlags::NONBLOCK)?)?;
        Ok(Self { held: Held::ByUs { leader, exit }, leaf: None })
    }

    /// A tree that a keeper keeps.
    pub(super) fn kept(kept: Kept, leaf: Option<Leaf>) -> Self {
        Self { held: Held::ByKeeper(Box::new(kept)), leaf }
    }

    /// The keeper's side of it, if it has one.
    pub(super) fn keeper(&mut self) -> Option<&mut Kept> {
        match &mut self.held {
            Held::ByKeeper(kept) => Some(kept),
            Held::ByUs { .. } => None,
        }
    }

    /// What holds it together.
    pub(super) fn containment(&self) -> Containment {
        match &self.held {
            Held::ByKeeper(kept) => kept.containment(),
            Held::ByUs { .. } => Containment::Group,
        }
    }

    /// The leader's id; that of its init, if it has a namespace.
    pub(super) fn pid(&self) -> u32 {
        match &self.held {
            Held::ByUs { leader, .. } => leader.as_raw_nonzero().get().unsigned_abs(),
            Held::ByKeeper(kept) => kept.pid(),
        }
    }

    /// Returns when the leader is dead, without reaping it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn leader_exits(&mut self) {
        match &mut self.held {
            // An error here would mean that the runtime is going away; the exit is then looked for, not waited for.
            Held::ByUs { exit, .. } => drop(exit.readable().await),
            Held::ByKeeper(kept) => kept.leader_exits().await,
        }
    }

    /// Returns when the leader is dead, after the kill. One that will not die is killed again, by all means that there are:
    /// for want of a descriptor the first kill may have failed, and an init may be in a frozen cgroup.
    pub(super) async fn leader_dies(&mut self) {
        while tokio::time::timeout(DYING, self.leader_exits()).await.is_err() {
            tracing::error!(pid = self.pid(), "the leader of a tree outlives its kill; killing it again");
            self.kill();
            match &self.held {
                Held::ByUs { leader, exit } => signal_group(*leader, exit, Signal::KILL),
                Held::ByKeeper(kept) => kept.force(),
            }
            if let Some(leaf) = &self.leaf {
                leaf.kill();
            }
        }
    }

    /// How the leader ended, if it has, without reaping it (`waitid(2)`, `WNOWAIT`).
    pub(super) fn leader_exit(&mut self) -> Option<Exit> {
        let exit = match &mut self.held {
            Held::ByUs { exit, .. } => exit,
            Held::ByKeeper(kept) => return kept.leader_exit(),
        };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(exit.get_ref().as_fd()), options).ok()??;
        if let Some(code) = status.exit_status() {
            return Some(Exit::Code(code));
        }
        status.terminating_signal().map(Exit::Signal)
    }

    /// Whether somebody is known to have used up the processor time that each may use, of whom the leader's end does not tell that:
    /// somebody beside it, or itself, which did not heed the signal. The leader, which ended so, must not have been reaped.
    pub(super) fn is_out_of_time(&self, exit: Option<Exit>) -> bool {
        match &self.held {
            Held::ByUs { leader, .. } => {
                exit == Some(Exit::Signal(Signal::KILL.as_raw())) && proc::was_out_of_time(*leader)
            }
            Held::ByKeeper(kept) => kept.is_out_of_time(),
        }
    }

    /// Asks everybody in the leader's group to leave. The leader must not have been reaped.
    pub(super) fn terminate(&self) {
        match &self.held {
            Held::ByUs { leader, exit } => signal_group(*leader, exit, Signal::TERM),
            Held::ByKeeper(kept) => kept.terminate(),
        }
    }

    /// Kills everybody in the tree. The leader must not have been reaped.
    ///
    /// A signal to a group reaches all its members at once, and so does the kill of a cgroup: a fork either happens
    /// before and is hit, or does not happen (`fork(2)` restarts when a signal is pending), so once is enough.
    pub(super) fn kill(&mut self) {
        // The keeper first: by an order that is there it knows whom it reaps for killed.
        match &mut self.held {
            Held::ByKeeper(kept) => kept.kill(),
            Held::ByUs { leader, exit } => signal_group(*leader, exit, Signal::KILL),
        }
        // An init kills everybody at once as well, and counts them; it would be killed with them here.
        if let Some(leaf) = self.leaf.as_ref().filter(|_| !self.containment().has_namespace()) {
            leaf.kill();
        }
    }

    /// Whether its keeper has said that nobody is left, as it has by the end of most calls: a kill would only wake it, and
    /// kill nobody.
    pub(super) fn is_known_to_be_gone(&mut self) -> bool {
        match &mut self.held {
            Held::ByUs { .. } => false,
            Held::ByKeeper(kept) => kept.is_over(),
        }
    }

    /// Processor time of a leader of ours and of those it waited for; readable while it is a zombie.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        match &self.held {
            Held::ByUs { leader, .. } => proc::stat(*leader)?.cpu,
            Held::ByKeeper(_) => None,
        }
    }

    /// The most memory that one process of the tree has had resident, of those that are alive; nothing where its keeper or its
    /// cgroup will know that of all. In a cgroup these are all of it; else the leader and its descendants, or in `group` the leader.
    pub(super) fn peak_memory(&self) -> Option<Measured<u64>> {
        let leader = self.pid().cast_signed();
        let value = match (&self.held, &self.leaf) {
            (Held::ByKeeper(kept), _) if kept.containment().has_namespace() => None,
            (_, Some(leaf)) => leaf.largest_member(),
            (Held::ByKeeper(_), None) => family(leader).into_iter().filter_map(proc::peak_memory).max(),
            (Held::ByUs { .. }, None) => proc::peak_memory(leader),
        }?;
        Some(Measured { value, source: "VmHWM, largest process alive at its end" })
    }

    /// Waits until nobody is left, after the kill and after a leader of ours was reaped. Does not return while anybody
    /// lives: not even when it is nobody whom we may signal (a set-user-ID program), which is said once.
    pub(super) async fn gone(self) -> (Gone, Toll) {
        let Self { held, leaf } = self;
        let mut toll = Toll::default();
        let unproved = match held {
            Held::ByUs { leader, .. } => Some(Some(leader)),
            Held::ByKeeper(kept) => match kept.gone().await {
                Ok(count) => {
                    if let Some(count) = count {
                        toll.take(count);
                    }
                    None
                }
                Err(Unproved(leader)) => Some(leader),
            },
        };
        match (leaf, unproved) {
            (Some(leaf), _) => {
                toll.cpu = leaf.cpu().map(|value| Measured { value, source: "cpu.stat" }).or(toll.cpu);
                let peak = leaf.peak_memory().map(|value| Measured { value, source: "memory.peak" });
                toll.peak_memory = peak.or(toll.peak_memory);
                (empty(leaf).await, toll)
            }
            // Nobody knows whom to look for.
            (None, Some(None)) => (Gone(Of::TheGroup), toll),
            (None, Some(Some(leader))) => {
                let (gone, seen) = group_gone(leader).await;
                toll.killed = seen;
                (gone, toll)
            }
            (None, None) => (Gone(Of::Everybody), toll),
        }
    }
}

impl Toll {
    fn take(&mut self, count: super::shim::words::Count) {
        self.killed = count.killed;
        self.cpu =
            Some(Measured { value: Duration::from_micros(count.cpu_us), source: "getrusage of all reaped" });
        self.peak_memory = (count.largest_kib > 0)
            .then_some(Measured { value: count.largest_kib * 1024, source: "getrusage, largest process" });
    }
}

/// A pidfd that tells the runtime when its process is dead.
pub(super) fn watched<T: AsRawFd + AsFd>(pidfd: T) -> io::Result<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that lie about their descriptor; those that lend it do not"
    )]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Waits until the process behind a pidfd is dead (`pidfd_open(2)`: readable from then on). Where the runtime cannot watch
/// it, for want of memory for example (`epoll_ctl(2)`), it is looked at now and then: only its death ends this.
pub(super) async fn dead(process: &OwnedFd) {
    if let Ok(watched) = watched(process.as_fd()) {
        let _ = watched.readable().await;
    }
    while !is_dead(process) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A process and its descendants, those that have lost their parent left out.
fn family(leader: i32) -> Vec<i32> {
    let (mut members, mut at) = (vec![leader], 0);
    while let Some(parent) = members.get(at).copied().filter(|_| at < MOST_LOOKED_AT) {
        members.extend(shim::children(parent));
        at += 1;
    }
    members
}

fn is_dead(process: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(process, PollFlags::IN)];
    // What cannot be asked says nothing.
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().contains(PollFlags::IN)
}

fn signal_group(leader: Pid, exit: &AsyncFd<OwnedFd>, signal: Signal) {
    // EPERM: a member that changed its user is out of our reach; `gone` will say so by not returning.
    let _ = kill_process_group(leader, signal);
    // The leader itself may have moved to another group of its session (`setpgid(2)`).
    let _ = pidfd_send_signal(exit.get_ref(), signal);
}

/// Nothing was started; its cgroup is removed all the same.
pub(super) async fn never_born(leaf: Option<Leaf>) -> Gone {
    match leaf {
        Some(leaf) => empty(leaf).await,
        None => Gone::never_born(),
    }
}

/// Waits until a cgroup could be removed, and says so once if that takes long.
pub(super) async fn empty(mut leaf: Leaf) -> Gone {
    let (began, mut silent) = (Instant::now(), true);
    loop {
        match leaf.remove(|| Gone(Of::Everybody)) {
            Ok(gone) => return gone,
            Err(occupied) => leaf = occupied,
        }
        // Again, for whoever joined between: only a process that may write there can.
        leaf.kill();
        let members = leaf.clear().await;
        if silent && began.elapsed() > DYING {
            tracing::error!(?members, "processes of a tree outlive their kill; its seat stays taken");
            silent = false;
        }
        let all = async {
            for member in members.into_iter().filter_map(Pid::from_raw) {
                if let Ok(member) = pidfd_open(member, PidfdFlags::NONBLOCK) {
                    dead(&member).await;
                }
            }
        };
        // Who is on the way out is not listed any more, but may be counted still.
        if tokio::time::timeout(LOOK_AGAIN, all).await.is_ok() {
            match began.elapsed() {
                young if young < SOON => tokio::task::yield_now().await,
                _ => tokio::time::sleep(SOON).await,
            }
        }
    }
}

/// Waits until a process group has no living member, and says how many were seen.
async fn group_gone(leader: Pid) -> (Gone, u32) {
    let began = Instant::now();
    let (mut pause, mut seen, mut silent) = (Duration::from_micros(50), 0, true);
    loop {
        // While the group has members its id cannot be given to another process (`setpgid(2)`), so this asks about
        // nobody else; if the id is free and reused at once, the answer merely comes a little later. EPERM would mean
        // that there is somebody.
        if test_kill_process_group(leader) == Err(Errno::SRCH) {
            return (Gone(Of::TheGroup), seen);
        }
        let alive = proc::living_members(leader);
        if matches!(alive, Ok(0)) {
            // Dead, but not yet waited for by whoever adopted them: no process any more.
            return (Gone(Of::TheGroup), seen);
        }
        seen = seen.max(alive.as_ref().map_or(0, |alive| *alive));
        if silent && began.elapsed() > DYING {
            let pid = leader.as_raw_nonzero();
            tracing::error!(pid, seen, "processes of a tree outlive their kill; its seat stays taken");
            silent = false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
