//! What the host has run out of where a process could not be started, and what it does not run at all. Pure.

use std::error::Error;
use std::io;

/// `errno(3)`; these are the same on every architecture (`asm-generic/errno-base.h`).
const ENOEXEC: i32 = 8;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Process numbers, or the right to more of them (`fork(2)`, EAGAIN).
    Processes,
    /// Memory (`fork(2)`, ENOMEM).
    Memory,
    /// File descriptors, of us or of everybody (`pipe(2)`, EMFILE and ENFILE).
    Descriptors,
}

impl Shortage {
    /// The one that an error, or one of its causes, speaks of.
    pub(crate) fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        errno(error).and_then(Self::of)
    }

    const fn of(errno: i32) -> Option<Self> {
        match errno {
            EAGAIN => Some(Self::Processes),
            ENOMEM => Some(Self::Memory),
            EMFILE | ENFILE => Some(Self::Descriptors),
            _ => None,
        }
    }

    /// What can be done about it, in one sentence without its end.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Processes => {
                "`TasksMax=` of the service, `pids.max` of the container, `ulimit -u` or `kernel.pid_max` may be reached: \
                 ask again in a moment, let fewer calls run at once (`concurrent`), or raise it"
            }
            Self::Memory => {
                "`concurrent` bounds how many servers there are at once: lower it, or give the machine more memory; there \
                 was not enough to start a process"
            }
            Self::Descriptors => {
                "`LimitNOFILE=` of the service, or `ulimit -n`, is reached: raise it, or let fewer calls run at once \
                 (`concurrent`)"
            }
        }
    }
}

/// What can be done about a file that the system does not run (`execve(2)`, ENOEXEC), in one sentence without its end.
pub(crate) const FOREIGN_FORMAT: &str = "`#!` and the path of its interpreter must be the first line of a script; a program must \
    be built for this machine";

/// Whether an error, or one of its causes, says that a file is of no format that the system runs.
pub(crate) fn is_foreign_format(error: &(dyn Error + 'static)) -> bool {
    errno(error) == Some(ENOEXEC)
}

/// The first number of the system's in an error and its causes.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error whose cause is that.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_is_missing_is_found_behind_other_words() {
        let behind = |errno| Shortage::behind(&Outer(io::Error::from_raw_os_error(errno)));
        assert_eq!(behind(EAGAIN), Some(Shortage::Processes));
        assert_eq!(behind(ENOMEM), Some(Shortage::Memory));
        assert_eq!(behind(EMFILE), Some(Shortage::Descriptors));
        assert_eq!(behind(ENFILE), Some(Shortage::Descriptors));
        assert_eq!(behind(13), None);
        assert_eq!(Shortage::behind(&Outer(io::Error::other("nobody knows"))), None);
    }

    #[test]
    fn a_file_that_no_system_runs_is_no_shortage() {
        let error = |errno| Outer(io::Error::from_raw_os_error(errno));
        assert!(is_foreign_format(&error(ENOEXEC)) && !is_foreign_format(&error(EAGAIN)));
        assert_eq!(Shortage::behind(&error(ENOEXEC)), None);
    }
}
