//! One time budget, made once per call, spent by every step; and the reasons for which a call ends early.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The moment at which something must be over, and the budget that it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    budget: Duration,
}

impl Deadline {
    /// Now and `budget`.
    pub(crate) fn within(budget: Duration) -> Self {
        // A budget beyond what the clock can count is as good as a year.
        let now = Instant::now();
        let at = now.checked_add(budget).unwrap_or(now + Duration::from_hours(365 * 24));
        Self { at, budget }
    }

    /// The whole budget.
    pub(crate) const fn budget(self) -> Duration {
        self.budget
    }

    /// The sooner of this one and `budget` from now.
    pub(crate) fn at_most(self, budget: Duration) -> Self {
        let other = Self::within(budget);
        if other.at < self.at { other } else { self }
    }

    /// Returns when the moment has come.
    pub(crate) async fn passed(self) {
        tokio::time::sleep_until(self.at.into()).await;
    }
}

/// Why a call ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nobody waits for the answer any more.
    CallerGone,
    /// Its time ran out.
    DeadlineExceeded,
    /// The gateway stops, and its patience is at an end. (A drain alone cancels nothing.)
    Stopped,
}

impl Reason {
    /// Whether what it has ended might have gone well.
    pub(crate) const fn is_not_its_fault(self) -> bool {
        matches!(self, Self::CallerGone | Self::Stopped)
    }

    /// The name in receipts and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CallerGone => "caller-gone",
            Self::DeadlineExceeded => "deadline",
            Self::Stopped => "stopped",
        }
    }
}

/// Everything that can end one call early: its caller, its deadline, a forced stop.
#[derive(Debug, Clone)]
pub(crate) struct EarlyEnd {
    caller: CancellationToken,
    stop: CancellationToken,
    deadline: Deadline,
}

impl EarlyEnd {
    /// `caller` is cancelled by its leaving, `stop` by the gateway's last resort.
    pub(crate) const fn new(caller: CancellationToken, stop: CancellationToken, deadline: Deadline) -> Self {
        Self { caller, stop, deadline }
    }

    /// The call's own deadline.
    pub(crate) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The same, with at most `budget` from now on.
    pub(crate) fn within(&self, budget: Duration) -> Self {
        Self { deadline: self.deadline.at_most(budget), ..self.clone() }
    }

    /// Returns with the reason as soon as there is one; with several, the one that decides the answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn happened(&self) -> Reason {
        tokio::select! {
            biased;
            () = self.caller.cancelled() => Reason::CallerGone,
            () = self.stop.cancelled() => Reason::Stopped,
            () = self.deadline.passed() => Reason::DeadlineExceeded,
        }
    }

    /// Does `work` unless the end comes first. Work that is ready at once is done all the same.
    ///
    /// # Cancel safety
    ///
    /// As `work`, which is dropped when the end comes first.
    pub(crate) async fn before<F: Future>(&self, work: F) -> Result<F::Output, Reason> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            reason = self.happened() => Err(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn early_end(budget: Duration) -> (EarlyEnd, CancellationToken, CancellationToken) {
        let (caller, stop) = (CancellationToken::new(), CancellationToken::new());
        (EarlyEnd::new(caller.clone(), stop.clone(), Deadline::within(budget)), caller, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_what_nobody_else_does() {
        let (end, _caller, _stop) = early_end(Duration::from_secs(5));
        let before = tokio::time::Instant::now();
        assert_eq!(end.happened().await, Reason::DeadlineExceeded);
        assert!(before.elapsed() >= Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_left_wins_over_a_stop() {
        let (end, caller, stop) = early_end(Duration::from_secs(5));
        stop.cancel();
        caller.cancel();
        assert_eq!(end.happened().await, Reason::CallerGone);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_ready_is_done_even_at_the_end() {
        let (end, caller, _stop) = early_end(Duration::from_secs(5));
        caller.cancel();
        assert_eq!(end.before(async { 7 }).await, Ok(7));
        assert_eq!(end.before(std::future::pending::<()>()).await, Err(Reason::CallerGone));
    }

    #[test]
    fn the_sooner_of_two_deadlines_counts() {
        let long = Deadline::within(Duration::from_mins(1));
        assert_eq!(long.at_most(Duration::from_secs(1)).budget(), Duration::from_secs(1));
        assert_eq!(long.at_most(Duration::from_mins(10)).budget(), Duration::from_mins(1));
        assert_eq!(Deadline::within(Duration::MAX).budget(), Duration::MAX);
    }
}
