//! Signal, kill, reap and count the whole tree; the only source of [`Gone`].
//!
//! The order of death: watch the leader's exit through a pidfd without reaping it (`pidfd_open(2)`); kill all the rest
//! while the leader is still a zombie, so that its id, and with it the id of its group, cannot mean anybody else; only
//! then reap. The proof is not "we sent SIGKILL" but that nothing alive is found afterwards.
//!
//! ```text
//!   alive --exit--> zombie --kill the rest--> --reap--> --nobody left?--> Gone
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, pidfd_send_signal,
    test_kill_process_group, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_process_stream::ProcessChunkStream;

use super::proc;
use crate::exchange::Exit;

/// How long a killed process may take to be gone before that is worth a line.
const DYING: Duration = Duration::from_secs(2);

/// The proof that nothing of a tree is alive.
#[derive(Debug)]
pub(crate) struct Gone(());

impl Gone {
    /// Nothing of a tree that was never started is alive.
    pub(super) const fn never_born() -> Self {
        Self(())
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
    Gone(())
}

/// What makes a tree killable as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containment {
    /// Its process group: what leaves it by `setsid(2)` or `setpgid(2)` is not found again.
    Group,
}

impl Containment {
    /// The name in listings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
        }
    }
}

/// A process and all that it started, as far as its containment holds them.
#[derive(Debug)]
pub(super) struct Tree {
    leader: Pid,
    /// Readable from the moment at which the leader is a zombie, and ever after.
    exit: AsyncFd<OwnedFd>,
    containment: Containment,
}

impl Tree {
    /// Watches the tree of a leader that nobody has waited for yet: its id still means it.
    pub(super) fn watch(pid: u32, containment: Containment) -> io::Result<Self> {
        let leader = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(leader, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe for types that lie about their descriptor; OwnedFd does not"
        )]
        let exit = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self { leader, exit, containment })
    }

    /// What holds it together.
    pub(super) const fn containment(&self) -> Containment {
        self.containment
    }

    /// The leader's id.
    pub(super) fn pid(&self) -> u32 {
        self.leader.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns when the leader is dead, without reaping it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn leader_exits(&self) {
        // An error here would mean that the runtime is going away; the exit is then looked for, not waited for.
        let _ = self.exit.readable().await;
    }

    /// How the leader ended, if it has, without reaping it (`waitid(2)`, `WNOWAIT`).
    pub(super) fn leader_exit(&self) -> Option<Exit> {
        use std::os::fd::AsFd;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.exit.get_ref().as_fd()), options).ok()??;
        if let Some(code) = status.exit_status() {
            return Some(Exit::Code(code));
        }
        status.terminating_signal().map(Exit::Signal)
    }

    /// Processor time of the leader and of those it waited for; readable while it is a zombie.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        proc::stat(self.leader)?.cpu
    }

    /// Asks everybody in the tree to leave. The leader must not have been reaped.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Kills everybody in the tree. The leader must not have been reaped.
    ///
    /// A signal to a group reaches all its members at once: a fork either happens before and is hit, or does not
    /// happen (`fork(2)` restarts when a signal is pending), so once is enough.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        match self.containment {
            Containment::Group => {
                // EPERM: a member that changed its user is out of our reach; `gone` will say so by not returning.
                let _ = kill_process_group(self.leader, signal);
                // The leader itself may have moved to another group of its session (`setpgid(2)`).
                let _ = pidfd_send_signal(self.exit.get_ref(), signal);
            }
        }
    }

    /// Waits until nobody is left, after the kill and after the leader was reaped, and says how many were seen that
    /// had outlived the leader. Does not return while anybody lives: not even when it is nobody whom we may signal
    /// (a set-user-ID program), which is said once.
    pub(super) async fn gone(self) -> (Gone, u32) {
        let began = Instant::now();
        let (mut pause, mut seen, mut silent) = (Duration::from_micros(50), 0, true);
        loop {
            // While the group has members its id cannot be given to another process (`setpgid(2)`), so this asks
            // about nobody else; if the id is free and reused at once, the answer merely comes a little later.
            // EPERM would mean that there is somebody.
            if test_kill_process_group(self.leader) == Err(Errno::SRCH) {
                return (Gone(()), seen);
            }
            let alive = proc::living_members(self.leader);
            if matches!(alive, Ok(0)) {
                // Dead, but not yet waited for by whoever adopted them: no process any more.
                return (Gone(()), seen);
            }
            seen = seen.max(alive.as_ref().map_or(0, |alive| *alive));
            if silent && began.elapsed() > DYING {
                tracing::error!(
                    pid = self.pid(),
                    seen,
                    "processes of a tree outlive their kill; its seat stays taken"
                );
                silent = false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
