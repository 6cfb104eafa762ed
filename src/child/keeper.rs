//! The gateway's end of a keeper: the process between us and a tree that is kept by a subreaper or in a namespace.
//!
//! ```text
//!   Keepers --hire--> Keeper --orders--> Kept --Exited--> --Counted--> --Gone--> back to the Keepers
//!                                          |--- Forsaken: the keeper was killed ---> --Gone--> dropped
//!                                          '--- its guard died with it ---> what is known of it is killed
//! ```
//!
//! What keepers and their guards do is in `shim.rs`. A keeper whose last report was `Gone` keeps nothing and is hired again,
//! unless it was `Forsaken`: then it was its guard that said so, its last word.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, send, sendmsg, shutdown};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use tokio::io::{AsyncBufReadExt as _, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::MissedTickBehavior;

use super::shim::words::{Count, KILL, MOST_DESCRIPTORS, Orders, Report, Step, TERM};
use super::tree::{Containment, dead};
use super::{shim, spawn};
use crate::exchange::Exit;

/// How many keepers wait for the next tree at most.
const MOST_IDLE: usize = 16;
/// How long a keeper may take to leave once the control channel is closed.
const LEAVING: Duration = Duration::from_secs(2);
/// How long a keeper may say nothing of a tree that it ends before it is taken for stopped.
const STOPPED: Duration = Duration::from_secs(2);

/// How often those who keep nothing are looked at.
const ROUND: Duration = Duration::from_secs(1);

/// Why a tree was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// There is no keeper to be had.
    #[error("cannot start a keeper")]
    Hire(#[source] io::Error),
    /// The keeper is gone, or speaks another language.
    #[error("lost the keeper")]
    Lost(#[source] io::Error),
    /// The kernel refused.
    #[error("the keeper failed at {}{}", step.words(), step.advice(source))]
    Refused { step: Step, source: io::Error },
}

/// All keepers that keep nothing at the moment.
#[derive(Debug)]
pub(super) struct Keepers {
    /// The program that becomes one when it is told so.
    program: PathBuf,
    idle: Mutex<Vec<Keeper>>,
}

impl Default for Keepers {
    fn default() -> Self {
        Self::of(spawn::US.into())
    }
}

/// One process that keeps trees, one at a time.
#[derive(Debug)]
struct Keeper {
    process: Child,
    control: BufReader<UnixStream>,
    /// Whether it has a part of its orders, or all.
    ordered: bool,
    /// What the socket had no room for yet of its orders.
    unsent: Vec<u8>,
    /// What was read of a report so far.
    line: Vec<u8>,
}

impl Keepers {
    /// Keepers that are run by this program: ours, wherever it lies.
    pub(super) fn of(program: PathBuf) -> Self {
        Self { program, idle: Mutex::default() }
    }

    /// A keeper that keeps nothing: one that has waited, or a new one.
    fn hire(&self) -> io::Result<Keeper> {
        loop {
            let waiting = self.idle().pop();
            let Some(mut keeper) = waiting else { return Keeper::start(&self.program) };
            if keeper.is_fit() {
                return Ok(keeper);
            }
            // It keeps nothing, and the runtime reaps it.
            let _ = keeper.process.start_kill();
        }
    }

    fn take_back(&self, keeper: Keeper) {
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            idle.push(keeper);
        }
        // One too many ends as its control channel closes, and the runtime reaps it.
    }

    /// Lets all go that keep nothing, and waits until they have gone.
    pub(super) async fn dismiss(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for keeper in idle {
            keeper.dismiss().await;
        }
    }

    /// Reaps whoever dies while it keeps nothing, within [`ROUND`]: the next tree may be long in coming, or take another.
    /// Comes to no end.
    pub(super) async fn bury_the_dead(&self) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let unfit: Vec<Keeper> = self.idle().extract_if(.., |keeper| !keeper.is_fit()).collect();
            for mut keeper in unfit {
                let _ = keeper.process.kill().await;
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Keeper>> {
        // Nothing panics while holding it; even then the list would be whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    fn start(program: &Path) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let process = spawn::another_of_us(program, &[shim::WORD.into()], theirs.into())?;
        let control = BufReader::new(UnixStream::from_std(ours)?);
        Ok(Self { process, control, ordered: false, unsent: Vec::new(), line: Vec::new() })
    }

    /// Whether it can take orders: it lives, and nobody has stopped it (`waitid(2)`; nothing is reaped, and what is told once
    /// is told again).
    fn is_fit(&self) -> bool {
        let changed =
            WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), changed), Ok(None)))
    }

    /// A child of ours, and not reaped: the number is its own.
    fn pid(&self) -> Option<Pid> {
        self.process.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    }

    async fn dismiss(self) {
        self.wake();
        let Self { mut process, control, .. } = self;
        drop(control);
        if tokio::time::timeout(LEAVING, process.wait()).await.is_err() {
            let _ = process.kill().await;
        }
    }

    /// Sends orders, the descriptors with the first byte (`unix(7)`, `SCM_RIGHTS`); and no more than there is room for, since
    /// nobody may be there to read.
    async fn order(&mut self, orders: &Orders, given: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = orders.to_bytes();
        let socket = self.control.get_mut();
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
                let mut rights = SendAncillaryBuffer::new(&mut space);
                if !rights.push(SendAncillaryMessage::ScmRights(given)) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                Ok(sendmsg(&*socket, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL)?)
            })
            .await?;
        bytes.drain(..sent);
        (self.ordered, self.unsent) = (true, bytes);
        Ok(())
    }

    /// Whether it can have started anybody: only who has heard all of its orders does.
    fn may_have_started(&self) -> bool {
        self.ordered && self.unsent.is_empty()
    }

    /// Sends the rest of its orders.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    async fn order_the_rest(&mut self) -> io::Result<()> {
        let socket = self.control.get_ref();
        while !self.unsent.is_empty() {
            socket.writable().await?;
            match socket.try_write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its next report, once it has all of its orders.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    async fn report(&mut self) -> io::Result<Report> {
        self.order_the_rest().await?;
        self.control.read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let report = serde_json::from_slice(&self.line).map_err(io::Error::other);
        self.line.clear();
        report
    }

    /// Lets it go on, if somebody of the same user has stopped it.
    fn wake(&self) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Says one byte. There is room for it: nobody says more than a few to one tree.
    fn say(&self, byte: u8) {
        // Whoever is not there any more is found out by what is read.
        let _ = send(self.control.get_ref(), &[byte], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

/// A tree that a keeper keeps, or is about to start.
#[derive(Debug)]
pub(super) struct Kept {
    keeper: Keeper,
    home: Arc<Keepers>,
    containment: Containment,
    /// The leader, or the init of its namespace.
    pid: Option<Pid>,
    /// Holds the namespace's init, so that its number cannot come to mean another.
    init: Option<OwnedFd>,
    started: Option<Instant>,
    refused: Option<(Step, i32)>,
    exit: Option<Exit>,
    out_of_time: bool,
    count: Option<Count>,
    /// The keeper was killed. Its guard ends what it kept.
    forsaken: bool,
    over: Over,
}

/// What the keeper's last report leaves to wait for.
#[derive(Debug)]
enum Over {
    /// More reports.
    NotYet,
    /// Nothing: the tree is gone.
    Gone,
    /// The keeper died, or talks nonsense: what it kept must be looked for.
    Lost(io::Error),
}

impl Kept {
    /// A keeper that has no orders yet.
    pub(super) fn new(home: &Arc<Keepers>, containment: Containment) -> Result<Self, KeeperError> {
        let mut keeper = home.hire().map_err(KeeperError::Hire)?;
        keeper.ordered = false;
        Ok(Self {
            keeper,
            home: Arc::clone(home),
            containment,
            pid: None,
            init: None,
            started: None,
            refused: None,
            exit: None,
            out_of_time: false,
            count: None,
            forsaken: false,
            over: Over::NotYet,
        })
    }

    /// Gives the orders, as far as there is room for them; the rest goes while reports are waited for. That the program runs is
    /// told later.
    pub(super) async fn order(
        &mut self,
        orders: &Orders,
        given: &[BorrowedFd<'_>],
    ) -> Result<(), KeeperError> {
        // Whoever has heard half of its orders, or none, waits for the rest: it is of no use any more, and tells nothing.
        self.over = Over::Lost(io::ErrorKind::Interrupted.into());
        self.keeper.order(orders, given).await.map_err(KeeperError::Lost)?;
        self.over = Over::NotYet;
        Ok(())
    }

    /// Returns when its program runs, with the moment at which that was known; or does not and will not.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn started(&mut self) -> Result<Instant, KeeperError> {
        loop {
            if let Some((step, errno)) = self.refused {
                return Err(KeeperError::Refused { step, source: io::Error::from_raw_os_error(errno) });
            }
            if let Some(started) = self.started
                && (self.init.is_some() || !self.containment.has_namespace())
            {
                return Ok(started);
            }
            match (&self.over, self.started) {
                (Over::NotYet, _) if self.forsaken => {
                    return Err(KeeperError::Lost(io::ErrorKind::UnexpectedEof.into()));
                }
                (Over::NotYet, _) => self.listen().await,
                // It was over before its init could be held, and there is nothing to be held any more.
                (Over::Gone, Some(started)) => return Ok(started),
                (Over::Gone, None) => return Err(KeeperError::Lost(io::ErrorKind::UnexpectedEof.into())),
                (Over::Lost(error), _) => return Err(KeeperError::Lost(error.kind().into())),
            }
        }
    }

    /// Takes in one report.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    async fn listen(&mut self) {
        match self.keeper.report().await {
            Ok(Report::Born(pid)) => {
                self.pid = number(pid);
                match self.pid.map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK)) {
                    Some(Ok(init)) => self.init = Some(init),
                    // The keeper has reaped it, and there is nothing to hold.
                    Some(Err(Errno::SRCH)) | None => {}
                    // It lives, but nobody could make sure of its death.
                    Some(Err(error)) => self.refused = Some((Step::Namespace, error.raw_os_error())),
                }
            }
            Ok(Report::Started(pid)) => {
                self.started = Some(Instant::now());
                // From within a namespace the number means nothing here.
                if !self.containment.has_namespace() {
                    self.pid = number(pid);
                }
            }
            Ok(Report::Failed { step, errno }) => self.refused = Some((step, errno)),
            Ok(Report::OutOfTime) => self.out_of_time = true,
            // Of a namespace's init that is killed this is said once more, and means no more than that.
            Ok(Report::Exited(ended)) => self.exit = self.exit.or(Some(ended.into())),
            Ok(Report::Counted(count)) => self.count = Some(count),
            Ok(Report::Forsaken) => self.forsaken = true,
            Ok(Report::Gone) => self.over = Over::Gone,
            Err(error) => self.over = Over::Lost(error),
        }
    }

    /// The leader's process id, or that of its namespace's init; 0 before there is one.
    pub(super) fn pid(&self) -> u32 {
        self.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The process that was started for it, above the keeper.
    #[cfg(test)]
    pub(super) fn guard(&self) -> u32 {
        self.keeper.process.id().expect("it was not waited for")
    }

    /// What holds the tree together.
    pub(super) const fn containment(&self) -> Containment {
        self.containment
    }

    /// Returns when the leader is dead, or nobody is left who could tell.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn leader_exits(&mut self) {
        while self.exit.is_none() && !self.forsaken && matches!(self.over, Over::NotYet) {
            self.listen().await;
        }
    }

    /// How the leader ended, if it has and that is known.
    pub(super) fn leader_exit(&mut self) -> Option<Exit> {
        let _ = self.leader_exits().now_or_never();
        self.exit
    }

    /// Whether somebody is known to have used up the processor time that each may use, though the leader's end does not say so.
    pub(super) const fn is_out_of_time(&self) -> bool {
        self.out_of_time
    }

    /// Whether the keeper has said by now that the tree is gone.
    pub(super) fn is_over(&mut self) -> bool {
        while matches!(self.over, Over::NotYet) && self.listen().now_or_never().is_some() {}
        matches!(self.over, Over::Gone)
    }

    /// Asks everybody in the leader's group to leave.
    pub(super) fn terminate(&self) {
        // In the midst of its orders it would be taken for a part of them.
        if self.keeper.unsent.is_empty() {
            self.keeper.say(TERM);
        }
    }

    /// Kills everybody.
    pub(super) fn kill(&mut self) {
        if self.keeper.unsent.is_empty() {
            self.keeper.say(KILL);
            self.keeper.wake();
        } else {
            // Whoever has not heard all of its orders has started nobody, and shall not hear them.
            let _ = shutdown(self.keeper.control.get_ref(), Shutdown::Write);
            let _ = self.keeper.process.start_kill();
        }
    }

    /// Kills the init, without leaving it a word: for one that cannot run, in a frozen cgroup for example. It takes
    /// everybody with it. A keeper that was stopped goes on.
    pub(super) fn force(&self) {
        self.keeper.wake();
        if let Some(init) = &self.init {
            let _ = pidfd_send_signal(init, Signal::KILL);
        }
    }

    /// Waits until nobody is left, after the kill, and lets the keeper go. A tree whose keeper was killed is ended by the
    /// keeper's guard; one whose guard was killed too, from here, as far as it can be reached.
    ///
    /// # Errors
    ///
    /// Both are gone, and of what was kept no more than the process group could be killed.
    pub(super) async fn gone(mut self) -> Result<Option<Count>, Unproved> {
        while matches!(self.over, Over::NotYet) {
            // It may have been stopped after it was told to kill; a second time, too.
            if tokio::time::timeout(STOPPED, self.listen()).await.is_err() {
                self.force();
            }
        }
        let Self { keeper, home, pid, init, count, over, containment, forsaken, .. } = self;
        let shown = pid.map(|pid| pid.as_raw_nonzero().get());
        let Over::Lost(error) = over else {
            if forsaken {
                tracing::error!(pid = shown, "lost a keeper; what it kept was ended");
                keeper.dismiss().await;
            } else {
                home.take_back(keeper);
            }
            return Ok(count);
        };
        tracing::error!(pid = shown, %error, "lost a keeper and its guard; ending what it kept");
        let nobody = !keeper.may_have_started();
        // The end of the control channel also ends an init whose keeper was killed.
        keeper.dismiss().await;
        match (init, pid) {
            (Some(init), _) => {
                let _ = pidfd_send_signal(&init, Signal::KILL);
                dead(&init).await;
                Ok(count)
            }
            (None, None) if nobody => Ok(count),
            (None, pid) => {
                if let Some(pid) = pid.filter(|_| !containment.has_namespace()) {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
                Err(Unproved(pid))
            }
        }
    }
}

/// The group of this leader was killed, if it was told who that is, but whoever has left it may live on.
#[derive(Debug)]
pub(super) struct Unproved(pub(super) Option<Pid>);

fn number(pid: i32) -> Option<Pid> {
    Pid::from_raw(pid.max(0))
}
