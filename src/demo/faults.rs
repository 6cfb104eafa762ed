//! Faults to order, for tests of whoever runs this server: the ones that a flag switches on.
//!
//! Each is a way in which real servers misbehave while starting, speaking or ending. None happens unless asked for by
//! `--fault KIND[=VALUE]`. Processes that are left behind on purpose end by themselves after `LONGEST`.
//! Those that one call orders are in `fault_tool`.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use serde_json::json;

use super::wire::{Output, complain};

/// How long anything lasts that is meant to outlive its welcome.
pub(super) const LONGEST: Duration = Duration::from_mins(5);

/// One fault, with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    CrashBeforeOpen(i32),
    /// Without a code: by SIGABRT.
    CrashDuringOpen(Option<i32>),
    HangOpen,
    HangOpenIgnoringTerm,
    IgnoreEof,
    IgnoreTerm,
    GarbageAtStart,
    NonUtf8AtStart,
    BomAndCrlf,
    StderrFlood(u64),
    NotificationAtStart,
    AnswerAndExit,
    SlowStart(u64),
    Batch,
    AskClient,
    WrongIds,
    RefuseFirstModern,
    PageSize(usize),
    RepeatCursor,
    BrokenSchema,
    Child,
    SetsidChild,
    DaemonChild,
    ReadOnlyScratch,
}

/// How they are called.
const KINDS: [&str; 24] = [
    "crash-before-open",
    "crash-during-open",
    "stderr-flood",
    "slow-start",
    "page-size",
    "hang-open",
    "hang-open-ignoring-term",
    "ignore-eof",
    "ignore-term",
    "garbage-at-start",
    "non-utf8-at-start",
    "bom-and-crlf",
    "notification-at-start",
    "answer-and-exit",
    "batch",
    "ask-client",
    "wrong-ids",
    "refuse-first-modern",
    "repeat-cursor",
    "broken-schema",
    "child",
    "setsid-child",
    "daemon-child",
    "read-only-scratch",
];

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let (kind, value) = text.split_once('=').map_or((text, None), |(kind, value)| (kind, Some(value)));
        let fault = match (kind, value) {
            ("crash-before-open", _) => Fault::CrashBeforeOpen(number(value, Some(1))?),
            ("crash-during-open", None) => Fault::CrashDuringOpen(None),
            ("crash-during-open", _) => Fault::CrashDuringOpen(Some(number(value, None)?)),
            ("stderr-flood", _) => Fault::StderrFlood(number(value, Some(1 << 20))?),
            ("slow-start", _) => Fault::SlowStart(number(value, None)?),
            ("page-size", _) => Fault::PageSize(number::<usize>(value, None)?.max(1)),
            (_, Some(_)) => return Err(format!("fault {kind:?} is unknown or takes no value")),
            ("hang-open", _) => Fault::HangOpen,
            ("hang-open-ignoring-term", _) => Fault::HangOpenIgnoringTerm,
            ("ignore-eof", _) => Fault::IgnoreEof,
            ("ignore-term", _) => Fault::IgnoreTerm,
            ("garbage-at-start", _) => Fault::GarbageAtStart,
            ("non-utf8-at-start", _) => Fault::NonUtf8AtStart,
            ("bom-and-crlf", _) => Fault::BomAndCrlf,
            ("notification-at-start", _) => Fault::NotificationAtStart,
            ("answer-and-exit", _) => Fault::AnswerAndExit,
            ("batch", _) => Fault::Batch,
            ("ask-client", _) => Fault::AskClient,
            ("wrong-ids", _) => Fault::WrongIds,
            ("refuse-first-modern", _) => Fault::RefuseFirstModern,
            ("repeat-cursor", _) => Fault::RepeatCursor,
            ("broken-schema", _) => Fault::BrokenSchema,
            ("child", _) => Fault::Child,
            ("setsid-child", _) => Fault::SetsidChild,
            ("daemon-child", _) => Fault::DaemonChild,
            ("read-only-scratch", _) => Fault::ReadOnlyScratch,
            _ => return Err(format!("unknown fault {kind:?}; there are: {}", KINDS.join(", "))),
        };
        Ok(fault)
    }
}

fn number<T: FromStr>(value: Option<&str>, default: Option<T>) -> Result<T, String> {
    match value {
        Some(text) => text.parse().map_err(|_| format!("{text:?} is not a number that fits")),
        None => default.ok_or_else(|| "this fault needs a value: KIND=NUMBER".to_owned()),
    }
}

/// The faults of this process.
#[derive(Debug, Clone)]
pub(super) struct Faults(Arc<[Fault]>);

impl Faults {
    pub(super) fn new(all: &[Fault]) -> Faults {
        Faults(all.into())
    }

    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.0.contains(fault)
    }

    pub(super) fn page_size(&self) -> Option<usize> {
        self.0.iter().find_map(|fault| if let Fault::PageSize(size) = fault { Some(*size) } else { None })
    }

    /// Whether the process outlives the end of its input.
    pub(super) fn stays(&self) -> bool {
        [Fault::IgnoreEof, Fault::IgnoreTerm, Fault::HangOpenIgnoringTerm].iter().any(|fault| self.has(fault))
    }

    fn ignores_term(&self) -> bool {
        self.has(&Fault::IgnoreTerm) || self.has(&Fault::HangOpenIgnoringTerm)
    }

    /// Does what is to be done before the first message is read, in a fixed order.
    pub(super) fn at_start(&self, output: &Output) {
        if self.ignores_term() {
            ignore_term();
        }
        for fault in self.0.iter() {
            begin(fault, output);
        }
        if self.has(&Fault::HangOpen) || self.has(&Fault::HangOpenIgnoringTerm) {
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink()); // an error ends the input like its end does
            if self.stays() {
                overstay();
            }
            process::exit(0);
        }
    }

    /// Crashes over the first message, if that is ordered.
    pub(super) fn at_first_message(&self) {
        for fault in self.0.iter() {
            match fault {
                Fault::CrashDuringOpen(Some(code)) => process::exit(*code),
                Fault::CrashDuringOpen(None) => abort(),
                _ => {}
            }
        }
    }
}

/// Lives on after the end of input.
pub(super) fn overstay() {
    thread::sleep(LONGEST);
}

fn begin(fault: &Fault, output: &Output) {
    match fault {
        Fault::CrashBeforeOpen(code) => {
            complain("cannot start: the configuration of the demo is on fire");
            process::exit(*code);
        }
        Fault::SlowStart(millis) => {
            let until = Instant::now() + Duration::from_millis(*millis);
            while Instant::now() < until {
                std::hint::spin_loop(); // busy on purpose: interpreters that start slowly burn a core
            }
        }
        Fault::StderrFlood(bytes) => flood_stderr(*bytes),
        Fault::GarbageAtStart => {
            output.line("Welcome to the demo server v1.0!");
            output.line("[INFO] listening on stdio");
            output.line("{\"almost\": json}");
        }
        Fault::NonUtf8AtStart => output.bytes(b"caf\xe9 \xff\xfe ready", true),
        Fault::NotificationAtStart => output.notification("notifications/tools/list_changed", &json!({})),
        Fault::Child | Fault::SetsidChild | Fault::DaemonChild => match leave_behind(fault) {
            Ok(pid) => complain(&format!("left process {pid} behind")),
            Err(error) => complain(&format!("cannot leave a process behind: {error}")),
        },
        Fault::ReadOnlyScratch => match lock_scratch() {
            Ok(path) => complain(&format!("made {} read-only", path.display())),
            Err(error) => complain(&format!("cannot make a read-only tree: {error}")),
        },
        _ => {}
    }
}

/// Writes that many bytes of lines to stderr.
pub(super) fn flood_stderr(bytes: u64) {
    let line = format!("{}\n", "complaint ".repeat(10));
    let mut stderr = io::BufWriter::with_capacity(1 << 16, io::stderr());
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let part = &line.as_bytes()[..left.min(line.len())];
        if stderr.write_all(part).is_err() {
            return; // a closed stderr is the client's choice
        }
        left -= part.len();
    }
}

/// Ends this process by SIGABRT, without a core file.
pub(super) fn abort() -> ! {
    forbid_cores();
    process::abort()
}

/// Keeps a deliberate crash from writing a core file into somebody's directory.
pub(super) fn forbid_cores() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }); // cores are only untidy
}

/// Makes SIGTERM be ignored from here on.
///
/// Safe Rust cannot set a disposition, but an ignored signal stays ignored across `exec`: a shell ignores it and then
/// becomes this program again, under the same pid.
fn ignore_term() {
    let Some(false) = term_is_ignored() else { return };
    let again = env::current_exe().map(|program| {
        let mut shell = command("sh");
        shell.args(["-c", "trap '' TERM; exec \"$@\"", "sh"]).arg(program).args(env::args_os().skip(1));
        shell.exec()
    });
    let (Ok(error) | Err(error)) = again;
    complain(&format!("cannot ignore SIGTERM: {error}"));
}

/// Whether SIGTERM is ignored already; `None` where the kernel does not tell.
fn term_is_ignored() -> Option<bool> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask & (1 << (15 - 1)) != 0) // SIGTERM is 15, and signal n is bit n - 1
}

/// Stops speaking for good but lives on until its input ends: becomes a program whose stdout is closed.
pub(super) fn close_stdout() {
    let error = command("sh").args(["-c", "exec >&-; exec cat >/dev/null"]).exec();
    complain(&format!("cannot close stdout: {error}"));
}

/// Hangs for good, under the same pid and with the pipes open, whatever is closed and whatever signal asks.
pub(super) fn hang_ignoring_all() {
    let script = format!("trap '' TERM INT HUP; exec sleep {}", LONGEST.as_secs());
    let error = command("sh").args(["-c", &script]).exec();
    complain(&format!("cannot hang: {error}"));
}

/// Starts a process that nobody waits for, and returns its id. It holds the output pipes open.
pub(super) fn leave_behind(fault: &Fault) -> io::Result<u32> {
    let seconds = LONGEST.as_secs().to_string();
    match fault {
        Fault::SetsidChild => {
            Ok(command("setsid").args(["sleep", &seconds]).stdin(Stdio::null()).spawn()?.id())
        }
        Fault::DaemonChild => {
            // Orphaned and in its own session. Its stdout is our stderr, because ours carries the id to this process.
            let script = format!("sleep {seconds} >&2 & echo $!");
            let output = command("setsid")
                .args(["sh", "-c", &script])
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().map_err(io::Error::other)
        }
        _ => Ok(command("sleep").arg(seconds).spawn()?.id()),
    }
}

/// Makes a tree without any write permission in the temporary directory, which a naive removal trips over.
fn lock_scratch() -> io::Result<PathBuf> {
    let root = env::temp_dir().join("locked");
    let inner = root.join("inner");
    fs::create_dir_all(&inner)?;
    fs::write(inner.join("file"), "cannot be removed until its directory is writable\n")?;
    for directory in [&inner, &root] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o555))?;
    }
    Ok(root)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a faulty server starts processes of its own; that is its purpose here"
)]
fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_with_their_values() {
        for (text, expected) in [
            ("crash-before-open", Fault::CrashBeforeOpen(1)),
            ("crash-before-open=7", Fault::CrashBeforeOpen(7)),
            ("crash-during-open", Fault::CrashDuringOpen(None)),
            ("crash-during-open=3", Fault::CrashDuringOpen(Some(3))),
            ("stderr-flood", Fault::StderrFlood(1 << 20)),
            ("slow-start=250", Fault::SlowStart(250)),
            ("page-size=0", Fault::PageSize(1)),
            ("setsid-child", Fault::SetsidChild),
        ] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "nonsense", "slow-start", "slow-start=x", "hang-open=1", "page-size"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_fault_that_is_named_is_one() {
        for kind in KINDS {
            let plain = kind.parse::<Fault>();
            assert!(plain.is_ok() || format!("{kind}=1").parse::<Fault>().is_ok(), "{kind}");
        }
        let told = "nope".parse::<Fault>().expect_err("none of them");
        assert!(told.contains("ignore-term"), "{told}");
    }
}
