//! The re-executed first step: a keeper, a small copy of this program that starts a tree, holds it together, and ends it.
//!
//! ```text
//!   gateway ==control== guard ---> keeper ---> tree            subreaper: the keeper adopts what loses its parent
//!   gateway ==control== guard ---> keeper ---> init ---> tree  namespace: the init is process 1 of the tree's own PID
//!                                                              namespace
//! ```
//!
//! A keeper has one thread, no runtime, and nothing to do with what its tree says: it passes on the descriptors that it
//! was given. It is started with the control channel, a socket, as its standard input, and lives until that ends: then
//! the gateway has gone, in whatever way, and what the keeper keeps goes too. It serves one tree at a time, many times
//! over, since starting it costs more than what it does; no tree leaves anything in it behind. Above it is a guard
//! (`guard.rs`), the process that the gateway has started: it is there for the case that the keeper is killed.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setsid, waitid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

mod control;
mod guard;
mod init;
mod keep;
mod start;
mod walk;
pub(super) mod words;

pub(super) use walk::children;

use super::os::{self, Born};
use control::Control;
use words::{Ended, Keeping, Orders, Power, Report, Step};

/// The word that makes this program a keeper.
pub(crate) const WORD: &str = "shim";

/// Keeps trees until the gateway is gone.
pub(crate) fn run() -> ExitCode {
    if io::stdin().is_terminal() {
        eprintln!("spawnling: a gateway starts its keepers itself; there is nothing to do for one here");
        return ExitCode::from(2);
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // The end of the control channel is how a keeper ends.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let control = Control::from_stdin()?;
    os::go_by(c"keeper");
    outlive_a_stop()?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    match os::fork(0, None) {
        Ok(Born::Child) => {}
        Ok(Born::Parent(keeper)) => {
            guard::guard(&control, keeper);
            return Ok(());
        }
        Err(error) => return refuse(&control, &error),
    }
    // Neither is inherited (`fork(2)`).
    set_parent_process_death_signal(Some(Signal::CONT))?;
    set_child_subreaper(Some(rustix::process::getpid()))?;
    // Nobody of the same user may look into us or use us as a debugger would (`ptrace(2)`).
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // A session of its own, so that the kernel, where it shares processors out by sessions (`sched(7)`, autogroup), gives it as
    // much as it gives a tree that makes a session with every process it starts. Without one it works all the same.
    let _ = setsid();
    loop {
        let (orders, descriptors) = control.orders()?;
        tend(&control, &orders, descriptors)?;
        control.tell(&Report::Gone)?;
    }
}

/// Tells whoever wants a tree kept why there is no keeper.
fn refuse(control: &Control, error: &io::Error) -> io::Result<()> {
    let _tree = control.orders()?;
    control.tell(&Report::failed(Step::Birth, error))?;
    control.tell(&Report::Gone)
}

/// Ends by no signal that is meant to stop a service: a service manager signals everybody, and who goes first is the
/// gateway's to say. These are handlers, for they do not outlive an exec as blocked or ignored signals would (`signal(7)`).
/// Whoever was stopped goes on when the gateway dies, for then there is something to be done (`PR_SET_PDEATHSIG(2const)`; it
/// also comes when the thread ends that has started us, and does nothing then).
pub(super) fn outlive_a_stop() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::CONT))?;
    // The standard library has us ignore SIGPIPE, which would outlive an exec; with a handler a write still gives EPIPE.
    for signal in [SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// One tree, from its orders until nothing is left of it.
fn tend(control: &Control, orders: &Orders, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    match orders.keeping {
        Keeping::Subreaper => {
            keep::keep(control, orders, keep::Given::new(descriptors, false), keep::Reach::Descendants)
        }
        Keeping::Namespace(power) => {
            // The identity maps of a new user namespace are ours to write only while we may be looked into; whoever is born
            // meanwhile closes itself to that when they are written.
            if power == Power::UserNamespace {
                set_dumpable_behavior(DumpableBehavior::Dumpable)?;
            }
            let identity = init::Identity::ours();
            let mut doors = descriptors.iter().skip(keep::STDIO).map(OwnedFd::as_fd);
            let born = doors.next().and_then(|cgroup| os::fork(namespaces(power), Some(cgroup)).ok());
            let inside = born.is_some();
            // Where nobody can be born in a cgroup, the init joins it.
            let forked = born.map_or_else(|| os::fork(namespaces(power), None), Ok);
            if !matches!(forked, Ok(Born::Child)) {
                set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
            }
            match forked {
                Ok(Born::Child) => {
                    init::run(control, orders, keep::Given::new(descriptors, inside), identity)
                }
                Ok(Born::Parent(init)) => {
                    drop(descriptors);
                    control.tell(&Report::Born(init.as_raw_nonzero().get()))?;
                    watch_over(control, init);
                    reap(init, control)
                }
                Err(error) => control.tell(&Report::failed(Step::Namespace, &error)),
            }
        }
    }
}

/// A PID namespace, a mount namespace for its own view of `/proc`, and the user namespace that may give the right to both.
const fn namespaces(power: Power) -> i32 {
    let both = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    match power {
        Power::Own => both,
        Power::UserNamespace => both | libc::CLONE_NEWUSER,
    }
}

/// Returns when an init is dead. It ends by itself when the gateway is gone; one that somebody has stopped cannot, and is
/// killed (`poll(2)`: a hang-up is told unasked).
fn watch_over(control: &Control, init: Pid) {
    let Ok(holder) = pidfd_open(init, PidfdFlags::empty()) else { return };
    loop {
        let exit = PollFd::from_borrowed_fd(holder.as_fd(), PollFlags::IN);
        let mut watched = [exit, PollFd::from_borrowed_fd(control.as_fd(), PollFlags::empty())];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            // Whatever is amiss, `reap` waits as well.
            Err(_) => return,
            Ok(_) => {
                if watched[0].revents().is_empty() {
                    let _ = pidfd_send_signal(&holder, Signal::KILL);
                }
                return;
            }
        }
    }
}

/// Waits for an init. When it has exited nobody is left in its namespace: the kernel kills and reaps them all before
/// (`pid_namespaces(7)`). One that was killed, with its whole cgroup as it happens at the limit of memory, could not tell
/// how the leader ended, which was killed with it then.
fn reap(init: Pid, control: &Control) -> io::Result<()> {
    loop {
        match waitid(WaitId::Pid(init), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(status) => {
                let signal = status.and_then(|status| status.terminating_signal());
                return signal.map_or(Ok(()), |signal| control.tell(&Report::Exited(Ended::Signal(signal))));
            }
        }
    }
}
