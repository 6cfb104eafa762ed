//! The only place that starts a process.
//!
//! Everything here keeps the standard library on its `posix_spawn` path, which does not copy our page tables: an
//! absolute program, a cleared environment, a process group of its own, a working directory. Nothing but 0, 1 and 2
//! is inherited: every descriptor that we open is closed on exec, and those that we inherited were marked so at start.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_process_stream::ProcessChunkStream;

use super::program::{self, ProgramError};
use super::spec::Spec;

/// Why no process was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// There is nothing to run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its scratch directory could not be made.
    #[error("cannot make a scratch directory")]
    Scratch(#[source] io::Error),
    /// Its working directory is not there.
    #[error("the working directory {} does not exist", path.display())]
    Directory { path: PathBuf },
    /// The file names an interpreter, in its first line or its header, that is not there.
    #[error("the interpreter that {} asks for does not exist", path.display())]
    Interpreter { path: PathBuf },
    /// The kernel refused.
    #[error("cannot execute {}", path.display())]
    Exec { path: PathBuf, source: io::Error },
    /// The kernel gave the process but not the means to watch it.
    #[error("cannot watch the process")]
    Watch(#[source] io::Error),
}

/// A process that was just started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    /// Its stderr and its exit.
    pub(super) rest: ProcessChunkStream,
    /// A write end of its stderr in our own hands: while it is open stderr has no end, so that `rest` does not come
    /// to its last item, for which it reaps the process, before we have killed what is left of the tree.
    pub(super) hold: OwnedFd,
}

/// Marks every descriptor but 0, 1 and 2 that we inherited as closed on exec, so that no child inherits it from us.
pub(super) fn keep_descriptors_to_ourselves() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Starts what `spec` says, in `scratch` unless it has a working directory of its own.
pub(super) fn start(spec: &Spec, scratch: &Path) -> Result<Started, SpawnError> {
    let path = program::find(&spec.program, &spec.env)?;
    let directory = spec.cwd.as_deref().unwrap_or(scratch);
    let (stderr, hold, mut child) = launch(spec, &path, directory, scratch).map_err(|source| {
        // `posix_spawn` does not say which step failed; ENOENT can mean three things.
        match source.kind() {
            io::ErrorKind::NotFound if !directory.is_dir() => {
                SpawnError::Directory { path: directory.to_owned() }
            }
            io::ErrorKind::NotFound if path.exists() => SpawnError::Interpreter { path: path.clone() },
            _ => SpawnError::Exec { path: path.clone(), source },
        }
    })?;
    let (Some(pid), Some(stdin), Some(stdout)) = (child.id(), child.stdin.take(), child.stdout.take()) else {
        return Err(SpawnError::Watch(io::Error::other("the process has no pipes")));
    };
    child.stderr = Some(ChildStderr::from_std(stderr.into()).map_err(SpawnError::Watch)?);
    Ok(Started { pid, stdin, stdout, rest: child.into(), hold })
}

fn launch(spec: &Spec, path: &Path, dir: &Path, scratch: &Path) -> io::Result<(OwnedFd, OwnedFd, Child)> {
    let (stderr, theirs) = io::pipe()?;
    let hold = theirs.try_clone()?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(path);
    command
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env("TMPDIR", scratch)
        .env("PWD", dir)
        .current_dir(dir)
        .process_group(0)
        // For the moment between the start and the first owner only; from then on the tree is what is killed.
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(theirs);
    Ok((stderr.into(), hold.into(), command.spawn()?))
}
