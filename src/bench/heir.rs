//! The process that ends what a run has left, if the run is killed.
//!
//! ```text
//!   run ==pipe==> heir      the number of whatever the run starts, a line each; its end means that the run has gone
//! ```
//!
//! Gateways do not notice that nobody measures them any more, and would stay for ever. So the heir knows each process by a
//! descriptor (`pidfd_open(2)`), as numbers are used again; it asks them to end, gives them the time that the run would have
//! given, kills what is left of their trees, and removes the run's directory. Bare servers that serve one call it does
//! not know: their stdin ends with the run.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::target::{AFTERWARDS, GRACE, pid_of};
use super::usage;

/// The word that makes this program an heir.
pub(crate) const WORD: &str = "bench-heir";

/// The heir itself: waits until the run has gone, and clears away what that has left, with the directory in `args`.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let ([dir], false) = (args, io::stdin().is_terminal()) else {
        eprintln!("spawnling: `spawnling bench` starts its heir itself; there is nothing to do for one here");
        return ExitCode::from(2);
    };
    let told = io::stdin().lines().map_while(Result::ok);
    let started: Vec<Known> = told.filter_map(|line| line.parse().ok()).filter_map(Known::of).collect();
    let living = started.iter().filter(|known| !known.has_ended());
    // Whatever lives below them, before it loses its parent; in all of them that is not ended by its parent.
    let below: Vec<Known> = living.flat_map(|known| usage::below(known.pid)).filter_map(Known::of).collect();
    end(&started, Signal::TERM, GRACE);
    end(&started, Signal::KILL, GRACE);
    wait(&below, AFTERWARDS);
    end(&below, Signal::KILL, GRACE);
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// A process, whatever becomes of its number.
struct Known {
    pid: u32,
    descriptor: OwnedFd,
}

impl Known {
    /// Nothing if it has gone.
    fn of(pid: u32) -> Option<Self> {
        let descriptor = pidfd_open(pid_of(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, descriptor })
    }

    fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    /// A descriptor of a process can be read once that has ended (`pidfd_open(2)`).
    fn ends_within(&self, time: Duration) -> bool {
        let time = Timespec::try_from(time).expect("no more than seconds");
        poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&time)) == Ok(1)
    }
}

fn end(all: &[Known], signal: Signal, time: Duration) {
    for known in all.iter().filter(|known| !known.has_ended()) {
        // It may have gone by itself.
        let _ = pidfd_send_signal(&known.descriptor, signal);
    }
    wait(all, time);
}

/// Until all have ended, or the time is over.
fn wait(all: &[Known], time: Duration) {
    let until = Instant::now() + time;
    for known in all {
        known.ends_within(until.saturating_duration_since(Instant::now()));
    }
}

/// The run's side.
#[derive(Debug)]
pub(super) struct Heir(Child);

impl Heir {
    #[expect(clippy::disallowed_methods, reason = "the bench starts its processes itself")]
    pub(super) fn appoint(dir: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        // A group of its own: what is sent to all of ours may be what ends us.
        command.arg(WORD).arg(dir).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().context("cannot start what would end all if we are killed")?))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Has it end this process, too.
    pub(super) fn entrust(&mut self, pid: u32) -> Result<()> {
        let stdin = self.0.stdin.as_mut().context("it is piped")?;
        writeln!(stdin, "{pid}").context("nobody would end it if we are killed")
    }

    /// There is nothing left to be ended.
    pub(super) fn dismiss(mut self) {
        // It may have been ended by somebody.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
