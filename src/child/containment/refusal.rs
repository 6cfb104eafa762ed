//! Why a containment cannot be had here: the host does not allow it, or has too little of something just now.
//!
//! The difference matters to `auto`: what the host does not allow it will not allow later either, and the next weaker
//! containment is the best that there is. What passes is no reason to be content with less for as long as the gateway lives.

use std::io;

use super::super::cgroup::CgroupError;
use super::super::keeper::KeeperError;
use super::super::shim::words::Step;
use super::{Containment, REHEARSAL};
use crate::exchange::Shortage;
use crate::exchange::fault::chain;

/// Why a containment cannot be had here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error("cannot start a warden")]
    Warden(#[source] io::Error),
    #[error("cannot make the gateway opaque to its user's other processes")]
    Opaque(#[source] io::Error),
    #[error("cannot find out what /proc shows")]
    Unknown(#[source] io::Error),
    #[error("/proc is that of another PID namespace: nobody's descendants can be found in it")]
    Foreign,
    #[error("a process that hides could not be found and ended: /proc does not show it (`hidepid`, perhaps)")]
    Hidden,
    #[error("a process could not be found and ended in {REHEARSAL:?}")]
    Lingers,
    #[error("a process did not start in {REHEARSAL:?}")]
    Late,
}

/// The containment that was asked for cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainmentError {
    /// Not on this host.
    #[error("this host does not allow the containment {wanted}: {why}")]
    Refused { wanted: &'static str, why: String },
    /// Nobody knows yet: it could not be tried.
    #[error("the containment {wanted} could not be tried out: {why}; {}", short.remedy())]
    Untried { wanted: &'static str, why: String, short: Shortage },
}

impl Refusal {
    /// What there was too little of, if this is sure to pass with that.
    ///
    /// For want of descriptors or memory no system call here fails for good. EAGAIN says that there are too many processes only
    /// where one was to be made (`fork(2)`), and all that is above the group needs one more than a server does. From `mkdir(2)` in
    /// a cgroup it means that no more cgroups are allowed there (`cgroups(7)`, `cgroup.max.descendants`), which is as lasting as a
    /// permission. A limit on namespaces is ENOSPC (`clone(2)`), a filter of system calls says EPERM or ENOSYS.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        let short = Shortage::behind(self)?;
        (short != Shortage::Processes || self.is_of_a_birth()).then_some(short)
    }

    /// Whether a process was to be made.
    const fn is_of_a_birth(&self) -> bool {
        match self {
            Self::Warden(_) | Self::Keeper(KeeperError::Hire(_)) => true,
            Self::Keeper(KeeperError::Refused { step, .. }) => {
                matches!(step, Step::Birth | Step::Namespace | Step::Exec)
            }
            Self::Cgroup(_)
            | Self::Keeper(KeeperError::Lost(_))
            | Self::Opaque(_)
            | Self::Unknown(_)
            | Self::Foreign
            | Self::Hidden
            | Self::Lingers
            | Self::Late => false,
        }
    }

    /// The same to whoever wanted this containment.
    pub(super) fn of(self, wanted: Containment) -> ContainmentError {
        let (wanted, why) = (wanted.name(), chain(&self));
        match self.shortage() {
            Some(short) => ContainmentError::Untried { wanted, why, short },
            None => ContainmentError::Refused { wanted, why },
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn refused(step: Step, errno: Errno) -> Refusal {
        KeeperError::Refused { step, source: errno.into() }.into()
    }

    #[test]
    fn what_passes_is_told_from_what_the_host_does_not_allow() {
        let made =
            |errno: Errno| Refusal::from(CgroupError::Make { below: "/here".into(), source: errno.into() });
        let joined = |errno: Errno| Refusal::from(CgroupError::Join(errno.into()));
        let hired = |errno: Errno| Refusal::from(KeeperError::Hire(errno.into()));
        let short = [
            (Refusal::from(CgroupError::Unknown(Errno::MFILE.into())), Shortage::Descriptors),
            (made(Errno::NFILE), Shortage::Descriptors),
            (made(Errno::NOMEM), Shortage::Memory),
            (joined(Errno::MFILE), Shortage::Descriptors),
            (hired(Errno::AGAIN), Shortage::Processes),
            (Refusal::Warden(Errno::AGAIN.into()), Shortage::Processes),
            (Refusal::Unknown(Errno::MFILE.into()), Shortage::Descriptors),
            (refused(Step::Birth, Errno::AGAIN), Shortage::Processes),
            (refused(Step::Namespace, Errno::AGAIN), Shortage::Processes),
            (refused(Step::Exec, Errno::NOMEM), Shortage::Memory),
            (refused(Step::Setup, Errno::NFILE), Shortage::Descriptors),
        ];
        for (refusal, expected) in short {
            assert_eq!(refusal.shortage(), Some(expected), "{refusal:?}");
        }
        let lasting = [
            // `cgroup.max.descendants`
            made(Errno::AGAIN),
            joined(Errno::AGAIN),
            made(Errno::ACCESS),
            CgroupError::NoHierarchy.into(),
            refused(Step::Namespace, Errno::NOSPC),
            refused(Step::Namespace, Errno::PERM),
            refused(Step::Setup, Errno::AGAIN),
            KeeperError::Lost(Errno::AGAIN.into()).into(),
            Refusal::Unknown(Errno::NOENT.into()),
            Refusal::Foreign,
            Refusal::Late,
        ];
        for refusal in lasting {
            assert_eq!(refusal.shortage(), None, "{refusal:?}");
        }
    }

    #[test]
    fn whoever_could_try_nothing_is_told_what_there_is_too_little_of() {
        let told = Refusal::Warden(Errno::MFILE.into()).of(Containment::Cgroup).to_string();
        assert!(
            told.starts_with("the containment cgroup could not be tried out: cannot start a warden: "),
            "{told}"
        );
        assert!(
            told.contains("Too many open files") && told.ends_with(Shortage::Descriptors.remedy()),
            "{told}"
        );
        let told = Refusal::Foreign.of(Containment::Subreaper).to_string();
        assert!(told.starts_with("this host does not allow the containment subreaper: /proc is"), "{told}");
    }
}
