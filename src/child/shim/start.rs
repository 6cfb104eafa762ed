//! How a keeper starts the program of its tree.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::super::os::{self, Born};
use super::words::{Orders, Step};

/// What could not be done, and the kernel's reason.
pub(super) type Failed = (Step, io::Error);

/// Starts it, and returns its process id once it executes its program, in its own process group.
pub(super) fn leader(orders: &Orders, stdio: [OwnedFd; 3], doors: &[File]) -> Result<Pid, Failed> {
    let command = command(orders, stdio);
    if doors.is_empty() { spawn(command) } else { fork(command, doors) }
}

fn command(orders: &Orders, stdio: [OwnedFd; 3]) -> Command {
    let [stdin, stdout, stderr] = stdio;
    #[expect(clippy::disallowed_methods, reason = "a keeper starts for the gateway, by its orders")]
    let mut command = Command::new(&orders.program);
    command
        .args(&orders.args)
        .env_clear()
        .envs(orders.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&orders.cwd)
        .process_group(0)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    command
}

/// The fast way, which copies nothing of us.
fn spawn(mut command: Command) -> Result<Pid, Failed> {
    let process = command.spawn().map_err(|error| (Step::Exec, error))?;
    // Waited for by whoever keeps the tree, with all the rest of it.
    Ok(Pid::from_child(&process))
}

/// The way for what must be done between fork and exec.
fn fork(mut command: Command, doors: &[File]) -> Result<Pid, Failed> {
    let failed = |error| (Step::Exec, error);
    // Closed on exec: its end without a byte means that the program runs.
    let (mut told, tell) = io::pipe().map_err(failed)?;
    match os::fork(0).map_err(failed)? {
        Born::Child => {
            drop(told);
            let (step, error) = match join(doors) {
                Ok(()) => (Step::Exec, command.exec()),
                Err(error) => (Step::Join, error),
            };
            let errno = error.raw_os_error().unwrap_or(0);
            // The parent takes whatever it gets for a failure.
            let _ = serde_json::to_writer(&tell, &(step, errno));
            process::exit(127)
        }
        Born::Parent(pid) => {
            drop((tell, command));
            let mut text = String::new();
            told.read_to_string(&mut text).map_err(failed)?;
            if text.is_empty() {
                return Ok(pid);
            }
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            let (step, errno) = serde_json::from_str(&text).unwrap_or((Step::Exec, 0));
            Err((step, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// Joins every cgroup whose door is open.
pub(super) fn join(doors: &[File]) -> io::Result<()> {
    doors.iter().try_for_each(|mut door| door.write_all(b"0"))
}
