//! The only place that starts a process.
//!
//! Everything here keeps the standard library on its `posix_spawn` path, which does not copy our page tables: an
//! absolute program, a cleared environment, a process group of its own, a working directory. Nothing but 0, 1 and 2
//! is inherited: every descriptor that we open is closed on exec, and those that we inherited were marked so at start.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use signal_hook::consts::SIGPIPE;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio_process_stream::ProcessChunkStream;

use super::program::ProgramError;
use super::sandbox;
use super::shim::words::{Keeping, Orders};
use super::spec::{Home, Spec};
use super::stdin::Stdin;

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
    /// A limit that could be enforced when the gateway started cannot any more.
    #[error("the limit `{what}` cannot be enforced: {why}")]
    Limit { what: String, why: String },
    /// The kernel refused.
    #[error("cannot execute {}", path.display())]
    Exec { path: PathBuf, source: io::Error },
    /// The kernel gave the process but not the means to watch it.
    #[error("cannot watch the process")]
    Watch(#[source] io::Error),
    /// It could not be put where nothing of it can escape.
    #[error("cannot contain the process")]
    Contain(#[source] io::Error),
    /// Neither could its keeper.
    #[error("cannot have the process kept")]
    Keep(#[source] super::keeper::KeeperError),
}

/// The file that we were started from, whatever lies under its name by now (`proc_pid_exe(5)`).
pub(super) const US: &str = "/proc/self/exe";

/// A process that was just started.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) stdin: Stdin,
    pub(super) stdout: ChildStdout,
    /// Its stderr and its exit.
    pub(super) rest: ProcessChunkStream,
    /// A write end of its stderr in our own hands, to be kept until it was reaped.
    pub(super) hold: OwnedFd,
}

/// The pipes to a process that somebody else starts.
pub(super) struct Pipes {
    pub(super) stdin: Stdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    /// Its descriptors 0, 1 and 2.
    pub(super) theirs: [OwnedFd; 3],
}

/// No child inherits a descriptor or an ignored signal that we have inherited. To be called before anybody is started: a
/// keeper or a warden would hold them, and keepers pass on what they hold.
pub(super) fn keep_what_we_inherited() {
    keep_descriptors_to_ourselves();
    keep_ignored_signals_to_ourselves();
}

/// Marks every descriptor but 0, 1 and 2 that we inherited as closed on exec, so that no child inherits it from us.
fn keep_descriptors_to_ourselves() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Has no child start with a signal ignored because whoever started us ignored it: what is ignored stays so across an
/// exec, what is handled does not (`signal(7)`). A handler that does nothing leaves it ignored for ourselves. To ignore
/// SIGCHLD is more than that (`wait(2)`, NOTES): the kernel would not keep our dead children until they are waited for;
/// their ends could not be told, and their numbers could mean others while we still use them.
fn keep_ignored_signals_to_ourselves() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for signal in ignored(&status).filter(|signal| *signal != SIGPIPE) {
        // Some the library leaves alone: faults of our own, and those that nobody can ignore. SIGPIPE is
        // the standard library's, which ignores it in us, and sees to our children.
        if !signal_hook::consts::FORBIDDEN.contains(&signal) {
            let _ = signal_hook::flag::register(signal, Arc::default());
        }
    }
}

/// The signals in the mask `SigIgn` (`proc_pid_status(5)`), of which bit 0 is signal 1.
fn ignored(status: &str) -> impl Iterator<Item = i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    (1..=64).filter(move |signal| mask >> (signal - 1) & 1 == 1)
}

/// The working directory of what `spec` says.
fn directory<'a>(spec: &'a Spec, scratch: &'a Path) -> &'a Path {
    spec.cwd.as_deref().unwrap_or(scratch)
}

/// Starts what `spec` says, whose program is at `path`, in `scratch` unless it has a working directory of its own.
///
/// Behind the `doors` are further cgroups that it is to be born in.
pub(super) fn start(
    spec: &Spec,
    path: &Path,
    scratch: &Path,
    doors: &[OsString],
) -> Result<Started, SpawnError> {
    let directory = directory(spec, scratch);
    let Launched { stdin, stderr, hold, mut child } =
        launch(spec, path, scratch, doors).map_err(|source| refused(path, directory, source))?;
    let (Some(pid), Some(stdout)) = (child.id(), child.stdout.take()) else {
        return Err(SpawnError::Watch(io::Error::other("the process has no pipes")));
    };
    child.stderr = Some(stderr);
    Ok(Started { pid, stdin, stdout, rest: child.into(), hold })
}

/// Says what the kernel's refusal means: it does not tell which step failed, and ENOENT can mean three things.
pub(super) fn refused(path: &Path, directory: &Path, source: io::Error) -> SpawnError {
    match source.kind() {
        io::ErrorKind::NotFound if !directory.is_dir() => {
            SpawnError::Directory { path: directory.to_owned() }
        }
        io::ErrorKind::NotFound if path.exists() => SpawnError::Interpreter { path: path.to_owned() },
        _ => SpawnError::Exec { path: path.to_owned(), source },
    }
}

/// A process, and the ends of its pipes that the runtime did not make.
struct Launched {
    stdin: Stdin,
    stderr: ChildStderr,
    hold: OwnedFd,
    child: Child,
}

fn launch(spec: &Spec, path: &Path, scratch: &Path, doors: &[OsString]) -> io::Result<Launched> {
    let directory = directory(spec, scratch);
    let ((zero, stdin), (stderr, theirs)) = (io::pipe()?, io::pipe()?);
    // Whatever can fail does so before there is anybody who would have to be ended.
    let stdin = Stdin::new(stdin.into())?;
    let stderr = ChildStderr::from_std(OwnedFd::from(stderr).into())?;
    let hold = theirs.try_clone()?;
    let (program, args) = executed(spec, path, scratch, doors)?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(environment(spec, scratch))
        .current_dir(directory)
        .process_group(0)
        // For the moment between the start and the first owner only; from then on the tree is what is killed.
        .kill_on_drop(true)
        .stdin(zero)
        .stdout(Stdio::piped())
        .stderr(theirs);
    Ok(Launched { stdin, stderr, hold: hold.into(), child: command.spawn()? })
}

/// What is executed: the program itself, or a process that confines itself first and then becomes it.
fn executed(
    spec: &Spec,
    path: &Path,
    scratch: &Path,
    doors: &[OsString],
) -> io::Result<(PathBuf, Vec<OsString>)> {
    if spec.sandbox.is_empty() && doors.is_empty() {
        return Ok((path.to_owned(), spec.args.clone()));
    }
    let mut args = sandbox::wrap(&spec.sandbox, scratch, doors)?;
    args.extend(["--".into(), path.into()]);
    args.extend(spec.args.iter().cloned());
    Ok((US.into(), args))
}

/// A variable's name and value.
type Variable<'a> = (Cow<'a, OsStr>, Cow<'a, OsStr>);

fn environment<'a>(spec: &'a Spec, scratch: &'a Path) -> impl Iterator<Item = Variable<'a>> {
    let given = spec.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    let directory = directory(spec, scratch);
    let home = (spec.home == Home::Scratch).then_some(("HOME", scratch));
    let ours = [("TMPDIR", scratch), ("PWD", directory)].into_iter().chain(home);
    let given = given.chain(ours.map(|(name, path)| (OsStr::new(name), path.as_os_str())));
    let given = given.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
    let who = spec.sandbox.user.iter().flat_map(|user| &user.env);
    let who = who.map(|(name, value)| {
        let value = if value.is_empty() { scratch.as_os_str() } else { value };
        (Cow::Borrowed(OsStr::new(name)), Cow::Borrowed(value))
    });
    let led = spec.sandbox.env.iter().map(|variable| {
        (Cow::Borrowed(OsStr::new(&variable.name)), Cow::Owned(variable.value(scratch).into()))
    });
    given.chain(who).chain(led)
}

/// The orders by which a keeper starts what `spec` says, whose program is at `path`.
pub(super) fn orders(
    (spec, path): (&Spec, &Path),
    scratch: &Path,
    keeping: Keeping,
    cgroups: usize,
    doors: &[OsString],
) -> Result<Orders, SpawnError> {
    let (program, args) = executed(spec, path, scratch, doors).map_err(SpawnError::Contain)?;
    let env: Vec<(OsString, OsString)> =
        environment(spec, scratch).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let texts = args.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
    if texts.into_iter().any(|text| text.as_encoded_bytes().contains(&0)) {
        // Between us and a keeper it ends a text, as it does for the kernel (`execve(2)`).
        let source =
            io::Error::new(io::ErrorKind::InvalidInput, "an argument or a variable holds a NUL byte");
        return Err(SpawnError::Exec { path: path.to_owned(), source });
    }
    Ok(Orders { keeping, cgroups, program: program.into(), args, env, cwd: directory(spec, scratch).into() })
}

/// The pipes to what a keeper will start.
pub(super) fn pipes() -> io::Result<Pipes> {
    let ((zero, stdin), (stdout, one), (stderr, two)) = (io::pipe()?, io::pipe()?, io::pipe()?);
    Ok(Pipes {
        stdin: Stdin::new(stdin.into())?,
        stdout: ChildStdout::from_std(OwnedFd::from(stdout).into())?,
        stderr: ChildStderr::from_std(OwnedFd::from(stderr).into())?,
        theirs: [zero.into(), one.into(), two.into()],
    })
}

/// Starts another of this very program, with `stdin` and nothing else of ours: as a keeper or as a warden. Dropped, it is
/// not killed: it ends by itself when its stdin does, and not before its work is done.
///
/// It has a process group of its own from before its exec on. So a signal to the gateway's group spares it; and should it be
/// stopped before it can ask to be woken at the gateway's death, that death leaves its group an orphan with a stopped member,
/// to which the kernel sends SIGHUP and SIGCONT (`_exit(2)`, POSIX): it goes. An orphan is a group of which nobody has a
/// parent elsewhere in the session; so that does not happen where the one that adopts it is in the gateway's own session.
pub(super) fn another_of_us(program: &Path, args: &[OsString], stdin: OwnedFd) -> io::Result<Child> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut us = Command::new(program);
    us.arg0("spawnling")
        .args(args)
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    us.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_a_mask() {
        let of = |status: &str| ignored(status).collect::<Vec<_>>();
        assert_eq!(of("SigBlk:\tffff\nSigIgn:\t0000000000011001\nSigCgt:\tffff\n"), [1, 13, 17]);
        assert_eq!(of("SigIgn:\t8000000000000000\n"), [64]);
        assert!(of("").is_empty() && of("SigIgn:\tnonsense\n").is_empty());
    }
}
