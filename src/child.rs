//! A process tree that we own, from spawn to proof of death.
//!
//! [`Child::spawn`] starts it in a scratch directory of its own; whoever holds the [`Child`] owns the tree.
//! [`Child::attend`] must be polled while it lives: it drains stderr (an unread pipe blocks a server that complains a
//! lot) and tells of the exit. [`Child::stop`] takes it and is awaited: it walks the ladder, kills what is left of the
//! tree while the leader is still a zombie, reaps, proves that nothing is left, sweeps the scratch directory,
//! and only then gives the seat back. Dropping a `Child`, or `stop` on its way, is the safety net: the tree is killed at once and
//! the rest of its end is handed to the reaper, and that is counted.
//!
//! Nothing here knows that a child can speak.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

mod birthplace;
mod bounds;
mod cgroup;
mod containment;
mod husks;
mod keeper;
mod ladder;
mod limits;
mod living;
mod nursery;
mod os;
mod proc;
mod program;
mod raze;
mod reaper;
mod rest;
pub(crate) mod sandbox;
mod scratch;
pub(crate) mod shim;
mod spawn;
pub(crate) mod spec;
mod stderr;
mod stdin;
mod stock;
mod tree;
pub(crate) mod warden;

pub(crate) use birthplace::{Birthplace, Intake, Newborn, Offspring, Output};
pub(crate) use bounds::BoundsError;
pub(crate) use containment::ContainmentError;
pub(crate) use ladder::{Ladder, Lesson};
pub(crate) use nursery::Nursery;
pub(crate) use program::{Program, ProgramError};
pub(crate) use reaper::{Reaper, reaper};
pub(crate) use scratch::ScratchRoot;
pub(crate) use spawn::SpawnError;
pub(crate) use stderr::Tail;
pub(crate) use tree::{Containment, Gone};

use crate::exchange::{Cause, Exit, Measured, Receipt, Rung, Seat};
use crate::telemetry::metrics::InFlight;
use cgroup::Leaf;
use keeper::KeeperError;
use limits::Cage;
use reaper::Ending;
use rest::Rest;
use scratch::Scratch;
use shim::words::Step;
use spec::Spec;
use stdin::Stdin;
use tree::Tree;

/// How long the stderr of a server that has failed is read for its last words.
const DRAIN: Duration = Duration::from_millis(100);
/// How long a dead server's stderr must stay silent to have ended.
const QUIET: Duration = Duration::from_millis(5);

/// The file that would be run, if there is one.
pub(crate) fn find_program(spec: &Spec) -> Result<Program, ProgramError> {
    program::find(&spec.program, &spec.env)
}

/// A process tree that we own.
#[derive(Debug)]
pub(crate) struct Child {
    /// Taken by `stop`; `None` never outlives it.
    living: Option<Box<Living>>,
    reaper: Reaper,
    hurry: CancellationToken,
}

/// The tree with all that must not be given back before it is dead.
#[derive(Debug)]
struct Living {
    tree: Tree,
    birth: Birth,
    rest: Rest,
    stderr: Tail,
    /// Removed when nothing of the tree is left.
    cage: Option<Cage>,
    /// As it was when its end began, where nobody will tell afterwards.
    peak_memory: Option<Measured<u64>>,
    /// Whether the processor time of each process is limited.
    timed: bool,
    scratch: Scratch,
    seat: Seat,
    /// Dropped when nothing of the tree is left.
    counted: InFlight,
}

/// How we know that its program runs.
#[derive(Debug)]
enum Birth {
    /// We started it ourselves, and it did.
    Seen(Instant),
    /// A keeper will tell.
    Ordered { program: PathBuf, directory: PathBuf },
}

/// A child, what it runs, and the two pipes to speak with it.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) child: Child,
    /// The file that it was started from.
    pub(crate) program: Program,
    pub(crate) stdin: Stdin,
    pub(crate) stdout: ChildStdout,
}

/// What is left of a tree: what is known of its end, and its seat.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) receipt: Receipt,
    pub(crate) seat: Seat,
}

impl Child {
    /// Starts a process. If it cannot be started, nothing is left of the attempt and the seat is free again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the child, if there is one by then.
    pub(crate) async fn spawn(spec: &Spec, nursery: &Nursery, seat: Seat) -> Result<Born, SpawnError> {
        let program = find_program(spec)?;
        let scratch = nursery.scratch.allot().map_err(SpawnError::Scratch)?;
        let leaf = match nursery.means.cgroups.as_ref().map(cgroup::Root::leaf).transpose() {
            Ok(leaf) => leaf,
            Err(error) => {
                scratch.sweep(&Gone::never_born()).await;
                return Err(SpawnError::Contain(error));
            }
        };
        let (cage, limits) = nursery.cage(spec, leaf.as_ref());
        if let Some(missing) = limits.into_iter().find(|limit| !limit.enforced) {
            scratch.sweep(&tree::never_born(leaf).await).await;
            return Err(SpawnError::Limit { what: missing.what, why: missing.how });
        }
        let parts = Parts { nursery, scratch, cage, seat };
        match nursery.means.containment {
            Containment::Group => Self::bear(spec, program, parts).await,
            Containment::Cgroup | Containment::Namespace | Containment::Subreaper | Containment::Strict => {
                Self::have_borne(spec, program, leaf, parts).await
            }
        }
    }

    /// Starts a child of our own.
    async fn bear(spec: &Spec, program: Program, parts: Parts<'_>) -> Result<Born, SpawnError> {
        let started = match spawn::start(spec, &program.path, parts.scratch.path(), &parts.doors()) {
            Ok(started) => started,
            Err(error) => {
                parts.scratch.sweep(&Gone::never_born()).await;
                return Err(error);
            }
        };
        let tree = match Tree::watch(started.pid) {
            Ok(tree) => tree,
            Err(error) => {
                let Parts { nursery, scratch, cage, seat } = parts;
                let end = async move {
                    scratch.sweep(&tree::end_unwatched(started.pid, started.rest).await).await;
                    drop((cage, seat));
                };
                Ending::of(end, &nursery.reaper).await;
                return Err(SpawnError::Watch(error));
            }
        };
        let rest = Rest::Ours { stream: Box::new(started.rest), _hold: started.hold };
        let child = Self::new(spec, parts, tree, Birth::Seen(Instant::now()), rest);
        Ok(Born { child, program, stdin: started.stdin, stdout: started.stdout })
    }

    /// Has a keeper start a child.
    async fn have_borne(
        spec: &Spec,
        found: Program,
        leaf: Option<Leaf>,
        parts: Parts<'_>,
    ) -> Result<Born, SpawnError> {
        let means = &parts.nursery.means;
        let prepared = means.prepare((spec, &found.path), &parts.scratch, leaf.as_ref(), &parts.doors());
        let (orders, pipes, doors, kept) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                parts.scratch.sweep(&tree::never_born(leaf).await).await;
                return Err(error);
            }
        };
        let (tree, rest) = (Tree::kept(kept, leaf), Rest::Kept(pipes.stderr));
        let (program, directory) = (orders.program.clone().into(), orders.cwd.clone().into());
        let mut child = Self::new(spec, parts, tree, Birth::Ordered { program, directory }, rest);
        let mut given: Vec<BorrowedFd<'_>> = pipes.theirs.iter().map(OwnedFd::as_fd).collect();
        given.extend(doors.iter().map(std::os::fd::AsFd::as_fd));
        let kept = child.living_mut().tree.keeper().expect("it was just given one");
        if let Err(error) = kept.order(&orders, &given).await {
            child.finish().await;
            return Err(SpawnError::Keep(error));
        }
        Ok(Born { child, program: found, stdin: pipes.stdin, stdout: pipes.stdout })
    }

    /// Returns when its program runs, with the moment at which that was so; or does not and will not. A keeper's child can
    /// be written to before that is known: what is written waits in the pipe.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn started(&mut self) -> Result<Instant, SpawnError> {
        let Living { tree, birth, .. } = self.living_mut();
        let (program, directory) = match birth {
            Birth::Seen(at) => return Ok(*at),
            Birth::Ordered { program, directory } => (program, directory),
        };
        match tree.keeper().expect("who was ordered has a keeper").started().await {
            Ok(at) => Ok(at),
            Err(KeeperError::Refused { step: Step::Exec, source }) => {
                Err(spawn::refused(program, directory, source))
            }
            Err(error) => Err(SpawnError::Keep(error)),
        }
    }

    /// A tree that was just born, in the hands of its owner.
    fn new(spec: &Spec, parts: Parts<'_>, tree: Tree, birth: Birth, rest: Rest) -> Self {
        let Parts { nursery, scratch, cage, seat } = parts;
        let living = Living {
            tree,
            birth,
            rest,
            stderr: Tail::new(spec.stderr_limit),
            cage,
            peak_memory: None,
            timed: spec.limits.cpu_time.is_some(),
            scratch,
            seat,
            counted: nursery.alive.enter(),
        };
        Self { living: Some(Box::new(living)), reaper: nursery.reaper.clone(), hurry: nursery.hurry.clone() }
    }

    /// Keeps what it writes to stderr, and returns when its leader has exited. Must be polled while the child lives.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn attend(&mut self) {
        self.living_mut().attend().await;
    }

    /// Takes what its dead leader had written to stderr and nobody has read yet. What was written before an exit is in
    /// the pipe at the exit; a moment without more means that this was all.
    pub(crate) async fn drain_stderr(&mut self) {
        let Living { rest, stderr, .. } = self.living_mut();
        let all = async {
            while let Ok(Some(chunk)) = tokio::time::timeout(QUIET, rest.next()).await {
                stderr.push(&chunk);
            }
        };
        // Whoever is still there may go on complaining for ever.
        let _ = tokio::time::timeout(DRAIN, all).await;
    }

    /// Its leader's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.living().tree.pid()
    }

    /// Whether its leader has ended.
    pub(crate) fn has_exited(&mut self) -> bool {
        self.living_mut().tree.leader_exit().is_some()
    }

    /// How its leader ended, if it has, and the limit that it met, if one is known; with the end of its stderr, as read
    /// so far.
    pub(crate) fn last_words(&mut self) -> (Option<Exit>, Option<Cause>, String) {
        let living = self.living_mut();
        let exit = living.tree.leader_exit();
        (exit, living.cause(exit), living.stderr.text())
    }

    /// The end of its stderr, as it is read from now on too.
    pub(crate) fn stderr(&self) -> Tail {
        self.living().stderr.clone()
    }

    /// Ends the tree: returns when nothing of it is left.
    ///
    /// `goodbye` closes the child's stdin and reads its stdout to the end; it is polled on every rung, so that a child
    /// that still wants to say something is not blocked on its way out.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses the receipt. What is left to be done, down to the return of the seat, is the reaper's then.
    pub(crate) async fn stop(
        mut self,
        ladder: &Ladder,
        lesson: Lesson,
        goodbye: impl Future<Output = ()>,
    ) -> Remains {
        let began = Instant::now();
        let hurry = self.hurry.clone();
        let rung = match hurry.run_until_cancelled(self.living_mut().climb(ladder, goodbye)).await {
            Some(rung) => {
                ladder.remember(rung, lesson);
                rung
            }
            None => Rung::Kill,
        };
        let (mut receipt, seat) = self.finish().await;
        receipt.rung = rung;
        receipt.end = began.elapsed();
        Remains { receipt, seat }
    }

    /// Kills what is left of it, and returns when that is gone.
    async fn finish(mut self) -> (Receipt, Seat) {
        let living = self.living.take().expect("only what ends it takes it, and takes the child");
        Ending::of(living.finish(), &self.reaper).await
    }

    fn living(&self) -> &Living {
        self.living.as_ref().expect("only what ends it takes it, and takes the child")
    }

    fn living_mut(&mut self) -> &mut Living {
        self.living.as_mut().expect("only what ends it takes it, and takes the child")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut living) = self.living.take() {
            living.tree.kill();
            self.reaper.take_over(living.finish().map(drop).boxed());
        }
    }
}

/// What was prepared for one birth, and is the tree's from then on.
struct Parts<'a> {
    nursery: &'a Nursery,
    scratch: Scratch,
    cage: Option<Cage>,
    seat: Seat,
}

impl Parts<'_> {
    fn doors(&self) -> Vec<OsString> {
        self.cage.as_ref().map(Cage::doors).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
