//! How a keeper starts the program of its tree.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::Pid;

use super::words::{Orders, Step};

/// What could not be done, and the kernel's reason.
pub(super) type Failed = (Step, io::Error);

/// Starts it, and returns its process id once it executes its program, in its own process group. It is to be waited for
/// by whoever keeps the tree, with all the rest of it.
pub(super) fn leader(orders: &Orders, stdio: [OwnedFd; 3]) -> Result<Pid, Failed> {
    let [stdin, stdout, stderr] = stdio;
    #[expect(clippy::disallowed_methods, reason = "a keeper starts for the gateway, by its orders")]
    let started = Command::new(&orders.program)
        .args(&orders.args)
        .env_clear()
        .envs(orders.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&orders.cwd)
        .process_group(0)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr))
        .spawn();
    started.map(|process| Pid::from_child(&process)).map_err(|error| (Step::Exec, error))
}
