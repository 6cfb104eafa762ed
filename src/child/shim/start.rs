//! How a keeper starts the program of its tree.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, NulError, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, chdir, setpgid, waitid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::super::os::{self, Born};
use super::words::{Orders, Step};

/// What a process that does not become its program has failed at, as it tells its keeper.
const EXEC: u8 = 0;
const JOIN: u8 = 1;

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
/// Where it cannot be born there, whatever the reason (as a rule a filter of system calls that does not know
/// `clone3(2)`), it joins behind the open `cgroup.procs`, before it executes anything. A keeper that joined to start it
/// would count in there (`pids.max`).
///
/// # Errors
///
/// The descriptors: nobody can be forked like that here.
pub(super) fn leader_in(
    orders: &Orders,
    stdio: [OwnedFd; 3],
    cgroup: &File,
    enter: &File,
) -> Result<Result<Pid, Failed>, [OwnedFd; 3]> {
    // Closed by the exec: its end without a word is the news that the program runs.
    let Ok((mut news, teller)) = io::pipe() else { return Err(stdio) };
    let Ok(words) = Words::of(orders) else { return Err(stdio) };
    let born = os::fork(0, Some(cgroup.as_fd())).map(|born| (born, None));
    match born.or_else(|_| Ok::<_, io::Error>((os::fork(0, None)?, Some(enter)))) {
        Err(_) => Err(stdio),
        Ok((Born::Child, door)) => {
            let (step, errno) = if let Err(error) = door.map_or(Ok(()), join) {
                (JOIN, error.raw_os_error().unwrap_or_default())
            } else {
                let Err(errno) = words.execute(&stdio);
                (EXEC, errno)
            };
            let [a, b, c, d] = errno.to_ne_bytes();
            let _ = (&teller).write_all(&[step, a, b, c, d]);
            process::exit(1)
        }
        Ok((Born::Parent(leader), _)) => {
            drop((teller, stdio));
            let mut word = [0; 5];
            if news.read_exact(&mut word).is_err() {
                return Ok(Ok(leader));
            }
            while matches!(waitid(WaitId::Pid(leader), WaitIdOptions::EXITED), Err(Errno::INTR)) {}
            let [step, errno @ ..] = word;
            let step = if step == JOIN { Step::Join } else { Step::Exec };
            Ok(Err((step, io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))))
        }
    }
}

/// Joins the cgroup behind its open `cgroup.procs` (`cgroups(7)`: a process that writes `0` moves itself).
pub(super) fn join(mut door: &File) -> io::Result<()> {
    door.write_all(b"0")
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
