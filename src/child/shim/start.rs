//! How a keeper starts the program of its tree.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, NulError, OsString};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, chdir, setpgid, waitid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

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
    let Ok(words) = Words::of(orders) else { return Err(stdio) };
    match os::fork(0, Some(cgroup)) {
        Err(_) => Err(stdio),
        Ok(Born::Child) => {
            let Err(errno) = words.execute(&stdio);
            let _ = (&teller).write_all(&errno.to_ne_bytes());
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

/// What `execve(2)` takes.
struct Words {
    program: CString,
    directory: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Words {
    /// # Errors
    ///
    /// A NUL byte. The gateway gives no such orders.
    fn of(orders: &Orders) -> Result<Self, NulError> {
        let text = |text: &OsString| CString::new(text.as_bytes());
        let program = text(&orders.program)?;
        let args = std::iter::once(Ok(program.clone()))
            .chain(orders.args.iter().map(text))
            .collect::<Result<_, _>>()?;
        // Of two of a name the later one counts, as with the standard library.
        let env: BTreeMap<_, _> = orders.env.iter().map(|(name, value)| (name, value)).collect();
        let pair = |(name, value): (&OsString, &OsString)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let env = env.into_iter().map(pair).collect::<Result<_, _>>()?;
        Ok(Self { program, directory: text(&orders.cwd)?, args, env })
    }

    /// Becomes the program, or says by its number why not. Not by the standard library, whose `exec` gives what the kernel
    /// cannot execute to a shell (`execvp(3)`), as its `spawn` does not.
    fn execute(&self, [stdin, stdout, stderr]: &[OwnedFd; 3]) -> Result<Infallible, i32> {
        let prepared = dup2_stdin(stdin)
            .and_then(|()| dup2_stdout(stdout))
            .and_then(|()| dup2_stderr(stderr))
            .and_then(|()| chdir(&*self.directory))
            .and_then(|()| setpgid(None, None));
        prepared.map_err(rustix::io::Errno::raw_os_error)?;
        nix::unistd::execve(&self.program, &self.args, &self.env).map_err(|errno| errno as i32)
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
