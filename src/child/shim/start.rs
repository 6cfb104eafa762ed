//! How a keeper starts the program of its tree.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::super::os::{self, Born};
use super::words::{Orders, Step};

/// What could not be done, and the kernel's reason.
pub(super) type Failed = (Step, io::Error);

/// Starts it, and returns its process id once it executes its program, in its own process group. It is to be waited for
/// by whoever keeps the tree, with all the rest of it.
pub(super) fn leader(orders: &Orders, stdio: [OwnedFd; 3]) -> Result<Pid, Failed> {
    let started = command(orders, stdio).spawn();
    started.map(|process| Pid::from_child(&process)).map_err(|error| (Step::Exec, error))
}

/// The same, but it is born in the cgroup whose directory is given. Why, and when not: `cgroup/rush.rs`.
///
/// # Errors
///
/// The descriptors: nobody can be born in a cgroup here (`clone3(2)`).
pub(super) fn leader_in(
    orders: &Orders,
    stdio: [OwnedFd; 3],
    cgroup: BorrowedFd<'_>,
) -> Result<Result<Pid, Failed>, [OwnedFd; 3]> {
    // Closed by the exec: its end without a word is the news that the program runs.
    let Ok((mut news, teller)) = io::pipe() else { return Err(stdio) };
    match os::fork(0, Some(cgroup)) {
        Err(_) => Err(stdio),
        Ok(Born::Child) => {
            let error = command(orders, stdio).exec();
            let _ = (&teller).write_all(&error.raw_os_error().unwrap_or(libc::EINVAL).to_ne_bytes());
            process::exit(1)
        }
        Ok(Born::Parent(leader)) => {
            drop((teller, stdio));
            let mut word = [0; size_of::<i32>()];
            if news.read_exact(&mut word).is_err() {
                return Ok(Ok(leader));
            }
            while matches!(waitid(WaitId::Pid(leader), WaitIdOptions::EXITED), Err(Errno::INTR)) {}
            Ok(Err((Step::Exec, io::Error::from_raw_os_error(i32::from_ne_bytes(word)))))
        }
    }
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
