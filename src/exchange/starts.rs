//! The right to start a server: so many at once, over all servers, for starts that are many only slow each other down.
//!
//! A call's own start comes first. It waits for other calls' starts alone; what is started ahead of any call gets what
//! these leave, and nothing while one of them waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Demand;

/// How long a start counts. Whatever takes longer waits for something else, or for ever, and must not keep others from
/// starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many may start at once. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Starts {
    limit: usize,
    /// How many of them, calls' included, leave room for one ahead of any call.
    limit_ahead: usize,
    calls: Arc<Semaphore>,
    ahead: Arc<AtomicUsize>,
    /// Calls that wait to start their server.
    demand: Demand,
}

/// A call's start; dropped, there may be another.
#[derive(Debug)]
pub(crate) struct Start(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

/// A start ahead of any call; dropped, there may be another.
#[derive(Debug)]
pub(crate) struct StartAhead(Arc<AtomicUsize>);

impl Starts {
    /// So many at once.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let (calls, ahead) = (Arc::new(Semaphore::new(limit)), Arc::default());
        Self { limit, limit_ahead: limit, calls, ahead, demand: Demand::default() }
    }

    /// The same, but nothing is started ahead of any call while `most` are starting.
    pub(crate) fn ahead_up_to(self, most: usize) -> Self {
        Self { limit_ahead: most.clamp(1, self.limit), ..self }
    }

    /// A call's start, if it may be now and no other call waits for one.
    pub(crate) fn at_once(&self) -> Option<Start> {
        if self.demand.waiting() > 0 {
            return None;
        }
        Arc::clone(&self.calls).try_acquire_owned().ok().map(Some).map(Start)
    }

    /// A call's start, as soon as it may be.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place among those who wait.
    pub(crate) async fn next(&self) -> Start {
        let permit = Arc::clone(&self.calls).acquire_owned();
        Start(Some(permit.await.expect("nobody closes the semaphore")))
    }

    /// Those who wait for a start: whoever does is to join.
    pub(crate) const fn demand(&self) -> &Demand {
        &self.demand
    }

    /// A start that no call has asked for, if there is room for it.
    pub(crate) fn ahead(&self) -> Option<StartAhead> {
        let of_calls = self.limit - self.calls.available_permits().min(self.limit);
        if self.demand.waiting() > 0 {
            return None;
        }
        let more = |ahead: usize| (of_calls + ahead < self.limit_ahead).then_some(ahead + 1);
        self.ahead.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(StartAhead(Arc::clone(&self.ahead)))
    }
}

impl Start {
    /// One more than may start at once, for which somebody else has found room.
    pub(crate) const fn beyond() -> Self {
        Self(None)
    }

    /// Counts as long as `start` takes, but not for ever.
    pub(crate) async fn during<T>(self, start: impl Future<Output = T>) -> T {
        let mut start = std::pin::pin!(start);
        if let Ok(done) = tokio::time::timeout(PATIENCE, start.as_mut()).await {
            return done;
        }
        drop(self);
        start.await
    }
}

impl Drop for StartAhead {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_comes_before_what_no_call_has_asked_for() {
        let starts = Starts::new(2);
        let (one, two) = (starts.ahead().unwrap(), starts.ahead().unwrap());
        assert!(starts.ahead().is_none());
        // Calls do not wait for those.
        let calls = [starts.at_once().unwrap(), starts.at_once().unwrap()];
        assert!(starts.at_once().is_none());
        drop((one, two));
        assert!(starts.ahead().is_none(), "calls take it all");
        drop(calls);
        let waits = starts.demand().join();
        assert!(starts.ahead().is_none() && starts.at_once().is_none(), "somebody waits");
        drop(waits);
        assert!(starts.ahead().is_some() && starts.at_once().is_some());
    }

    #[test]
    fn what_no_call_has_asked_for_leaves_processors_to_those_who_ask() {
        let starts = Starts::new(8).ahead_up_to(2);
        let call = starts.at_once().unwrap();
        let ahead = starts.ahead().unwrap();
        assert!(starts.ahead().is_none());
        let calls: Vec<_> = (0..7).map(|_| starts.at_once().unwrap()).collect();
        assert!(starts.at_once().is_none());
        drop((call, calls, ahead));
        assert!(starts.ahead().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_hangs_keeps_others_waiting_for_a_while_only() {
        let starts = Starts::new(1);
        let began = tokio::time::Instant::now();
        let mut hanging = Box::pin(starts.at_once().unwrap().during(std::future::pending::<()>()));
        let next = tokio::select! {
            () = hanging.as_mut() => unreachable!("it never ends"),
            next = starts.next() => next,
        };
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        // One that is over gives it back at once, however it went.
        let failed: Result<(), ()> = next.during(async { Err(()) }).await;
        assert!(failed.is_err() && starts.at_once().is_some());
    }
}
