//! What is known after the end of a tree, and where each figure was read. Pure.

use std::time::Duration;

/// How a process ended, as `waitid(2)` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It called `exit` with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// As a sentence about the process goes on: `it ...`.
    pub(crate) fn words(self) -> String {
        match (self, self.signal_name()) {
            (Self::Code(code), _) => format!("exited with code {code}"),
            (Self::Signal(_), Some(name)) => format!("was ended by {name}"),
            (Self::Signal(number), None) => format!("was ended by signal {number}"),
        }
    }

    /// The name of the signal that ended it, if that has one number on every system that we are built for (`signal(7)`).
    pub(crate) const fn signal_name(self) -> Option<&'static str> {
        let Self::Signal(number) = self else { return None };
        Some(match number {
            1 => "SIGHUP",
            2 => "SIGINT",
            3 => "SIGQUIT",
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            8 => "SIGFPE",
            9 => "SIGKILL",
            11 => "SIGSEGV",
            13 => "SIGPIPE",
            14 => "SIGALRM",
            15 => "SIGTERM",
            24 => "SIGXCPU",
            25 => "SIGXFSZ",
            _ => return None,
        })
    }
}

/// Why the kernel ended a tree's processes, or refused them something: what tells a limit from a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It used as much memory as it may.
    Memory,
    /// It had as many processes as it may.
    Processes,
    /// It used as much processor time as it may.
    Cpu,
}

impl Cause {
    /// The name in problems, receipts and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Cpu => "cpu",
        }
    }

    /// The same as a sentence about the server goes on: `it ...`.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Memory => "reached its limit of memory",
            Self::Processes => "reached its limit of processes",
            Self::Cpu => "reached its limit of processor time",
        }
    }

    /// What can be done about it, in one sentence without its end.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Memory => "`limits.memory` of the server was reached: raise it, or ask for less at once",
            Self::Processes => {
                "`limits.processes` of the server was reached: raise it, or ask for less at once"
            }
            Self::Cpu => "`limits.cpu_time` of the server was reached: raise it, or ask for less at once",
        }
    }
}

/// A figure, and where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Measured<T> {
    /// The figure.
    pub(crate) value: T,
    /// The kernel's name for it, such as `proc_pid_stat`, `cpu.stat` or `memory.peak`; docs/http-api.md has all of them. Printable
    /// ASCII without quotes, for it is told in a header.
    pub(crate) source: &'static str,
}

/// The rung of the ladder that ended a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rung {
    /// It had ended by itself before it was asked to.
    Already,
    /// It left when its stdin was closed.
    Eof,
    /// It left on SIGTERM.
    Term,
    /// It had to be killed.
    Kill,
}

impl Rung {
    /// The name in receipts and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Already => "already",
            Self::Eof => "eof",
            Self::Term => "term",
            Self::Kill => "kill",
        }
    }
}

/// What is known, after a call, of the process that it had.
#[derive(Debug, Clone)]
pub(crate) enum Process {
    /// Its tree was ended, and was of use to so many calls.
    Ended { receipt: Receipt, calls: u64 },
    /// It lives on for other calls: there is no end of it to be told.
    Kept(Kept),
}

/// A process that outlives a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// Its leader's process id.
    pub(crate) pid: u32,
    /// How many calls it has had by then.
    pub(crate) calls: u64,
    /// What makes its tree killable as a whole.
    pub(crate) containment: &'static str,
}

impl Process {
    /// The end of its tree, if that has come.
    pub(crate) const fn end(&self) -> Option<&Receipt> {
        match self {
            Self::Ended { receipt, .. } => Some(receipt),
            Self::Kept(_) => None,
        }
    }

    /// The leader's process id.
    pub(crate) const fn pid(&self) -> u32 {
        match self {
            Self::Ended { receipt, .. } => receipt.pid,
            Self::Kept(kept) => kept.pid,
        }
    }

    /// How many calls it has had, where others than this one could have had it.
    pub(crate) const fn calls(&self) -> Option<u64> {
        match self {
            Self::Ended { calls: 0 | 1, .. } => None,
            Self::Ended { calls, .. } | Self::Kept(Kept { calls, .. }) => Some(*calls),
        }
    }

    /// What makes, or made, its tree killable as a whole.
    pub(crate) const fn containment(&self) -> &'static str {
        match self {
            Self::Ended { receipt, .. } => receipt.containment,
            Self::Kept(kept) => kept.containment,
        }
    }
}

impl From<Receipt> for Process {
    /// A process that was for one call alone.
    fn from(receipt: Receipt) -> Self {
        Self::Ended { receipt, calls: 1 }
    }
}

/// What is known after the end of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    /// The leader's process id, now free again.
    pub(crate) pid: u32,
    /// How the leader ended; `None`: the kernel would not say.
    pub(crate) exit: Option<Exit>,
    /// The limit that ended it, or that refused it something; `None`: none is known to have.
    pub(crate) cause: Option<Cause>,
    /// Which rung of the ladder it took.
    pub(crate) rung: Rung,
    /// Processes of the tree beside the leader that outlived it and were killed, as far as they were seen.
    pub(crate) killed: u32,
    /// User and system time; of how much of the tree depends on the source.
    pub(crate) cpu: Option<Measured<Duration>>,
    /// The most memory that the tree had at once, in bytes.
    pub(crate) peak_memory: Option<Measured<u64>>,
    /// What made the tree killable as a whole: `group`.
    pub(crate) containment: &'static str,
    /// From the decision to end the tree to the proof of its death.
    pub(crate) end: Duration,
}
