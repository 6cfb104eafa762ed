//! The receipt of a whole call: what is known of it, more the further it has come. Pure.
//!
//! ```text
//!   Running --answered--> Ending --nothing of it is alive--> Ended
//! ```
//!
//! It holds no words, neither the caller's nor the server's: what may be shown to whom is no question here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::{CallError, CallId, Fault, Phase, Principal, Process, Times, TraceId};
use crate::deadline::Reason;

/// What is known of one call.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The name of the call.
    pub(crate) id: CallId,
    /// Who asked; nobody else is shown this.
    pub(crate) principal: Principal,
    /// The server that it was meant for.
    pub(crate) server: Arc<str>,
    /// The trace that it belongs to, if its caller named one.
    pub(crate) trace: Option<TraceId>,
    /// When it came in.
    pub(crate) began: Moment,
    /// How far it has come.
    pub(crate) stage: Stage,
}

/// How far a call has come.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// It waits, or works.
    Running,
    /// Its answer is known, and its tree is being ended.
    Ending(Told),
    /// Nothing of it is alive, but what is kept for others.
    Ended {
        /// What it was answered with.
        told: Told,
        /// From its beginning to the proof of death, or until its process was free for others.
        lasted: Duration,
        /// What became of its process; `None`: it had none.
        process: Option<Process>,
    },
}

/// What a call was answered with, in one word, and where its time went until then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// `None`: it went well.
    pub(crate) failure: Option<Failed>,
    /// Where the time went.
    pub(crate) times: Times,
}

/// A failure without its words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    /// The name of the problem.
    pub(crate) name: &'static str,
    /// Whose it is.
    pub(crate) fault: Fault,
    /// How far the call had come.
    pub(crate) phase: Option<Phase>,
    /// Why it ended before its time, if it did.
    pub(crate) early: Option<Reason>,
}

impl Record {
    /// What it was answered with, if it was.
    pub(crate) const fn told(&self) -> Option<&Told> {
        match &self.stage {
            Stage::Running => None,
            Stage::Ending(told) | Stage::Ended { told, .. } => Some(told),
        }
    }

    /// What became of its process, if it had one and is over.
    pub(crate) const fn process(&self) -> Option<&Process> {
        match &self.stage {
            Stage::Running | Stage::Ending(_) => None,
            Stage::Ended { process, .. } => process.as_ref(),
        }
    }

    /// From its beginning to the proof of death, if it is over.
    pub(crate) const fn lasted(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Running | Stage::Ending(_) => None,
            Stage::Ended { lasted, .. } => Some(*lasted),
        }
    }
}

impl Stage {
    /// The name in receipts.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ending(_) => "ending",
            Self::Ended { .. } => "ended",
        }
    }
}

impl Told {
    /// The name of the problem, or `ok`.
    pub(crate) fn outcome(&self) -> &'static str {
        self.failure.map_or("ok", |failure| failure.name)
    }
}

impl From<&CallError> for Failed {
    fn from(error: &CallError) -> Self {
        Self { name: error.name(), fault: error.fault(), phase: error.phase(), early: error.early() }
    }
}

/// A moment by the clock on the wall, shown as RFC 3339 in UTC, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// So long after the beginning of 1970.
    pub(crate) const fn since_epoch(time: Duration) -> Self {
        Self(time)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_utc_to_the_millisecond() {
        // What `date --utc --date=@1795376557` says.
        let moment = Moment::since_epoch(Duration::from_micros(1_795_376_557_123_456));
        assert_eq!(moment.to_string(), "2026-11-22T19:42:37.123Z");
        assert_eq!(Moment::since_epoch(Duration::ZERO).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_call_is_found_by_all_its_digits_only() {
        let id = CallId::from_bits(0xab);
        assert_eq!(CallId::parse(&id.to_string()), Some(id));
        for wrong in ["ab", &format!("+{:031x}", 0xab), &format!("{id}0"), ""] {
            assert_eq!(CallId::parse(wrong), None, "{wrong}");
        }
    }
}
