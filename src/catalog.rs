//! What each server offers. (Signatures only, for now.)

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::exchange::{Answer, CallId, Introduction, ListKind, Request};

/// One server, as the dialects see it.
#[derive(Debug)]
pub(crate) struct Catalog {
    name: Arc<str>,
}

/// What can be told of a server without asking it.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The configured name.
    pub(crate) name: Arc<str>,
    /// `fresh`
    pub(crate) strategy: &'static str,
    /// `auto`, `legacy` or `modern`, as configured.
    pub(crate) protocol: &'static str,
    /// The era that it was found to speak, if that is known by now.
    pub(crate) era: Option<&'static str>,
    /// What makes its trees killable as a whole: `group`.
    pub(crate) containment: &'static str,
    /// Seats, queue, times and sizes that are enforced.
    pub(crate) limits: LimitsInForce,
    /// What it said of itself when it was last opened.
    pub(crate) introduction: Option<Arc<Introduction>>,
}

/// The limits of one server, all of them enforced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitsInForce {
    pub(crate) concurrent: usize,
    pub(crate) queue: usize,
    pub(crate) queue_timeout: std::time::Duration,
    pub(crate) deadline: std::time::Duration,
    pub(crate) open_deadline: std::time::Duration,
    /// bytes of one message
    pub(crate) output: usize,
    /// bytes of stderr kept
    pub(crate) stderr: usize,
}

impl Catalog {
    /// Its configured name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What can be told without asking it.
    pub(crate) fn summary(&self) -> Summary {
        todo!()
    }

    /// The configured budget of a whole call; a caller may ask for less, not for more.
    pub(crate) fn deadline(&self) -> std::time::Duration {
        todo!()
    }

    /// Makes one call, its tool arguments checked against the last known schema. Dropping the future hangs up.
    pub(crate) async fn call(&self, _request: Request) -> Answer {
        todo!()
    }

    /// One list, all pages: from memory while it is fresh, else asked of the server, once for all who wait.
    /// The answer has one step: `Outcome::Listed`.
    pub(crate) async fn list(&self, _id: CallId, _kind: ListKind, _deadline: Deadline) -> Answer {
        todo!()
    }

    /// What the server says of itself; asked of it when it is not known. The answer has no steps.
    pub(crate) async fn introduce(&self, _id: CallId, _deadline: Deadline) -> Answer {
        todo!()
    }
}
