//! The right to have one tree alive, and how much it is wanted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The right to have one tree alive. It travels inside the tree's value, and is handed back by being dropped, which
/// nobody does before the proof of death.
pub(crate) struct Seat {
    _permit: Box<dyn Send + Sync>,
    wanted: Vec<Demand>,
}

impl Seat {
    /// A seat which is free again when `permit` is dropped, and which may be wanted in any of these queues.
    pub(crate) fn new(permit: impl Send + Sync + 'static, wanted: Vec<Demand>) -> Self {
        Self { _permit: Box::new(permit), wanted }
    }

    /// The queue of all servers together: whoever waits there can be served by no instance of this one's.
    pub(crate) fn wanted_by_others(&self) -> Option<Demand> {
        self.wanted.last().cloned()
    }

    /// The queues in which somebody may wait for it, that of all servers last: for whoever uses it for less than a call.
    pub(crate) fn wanted(&self) -> Vec<Demand> {
        self.wanted.clone()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seat")
    }
}

/// Where a seat is had for what no caller has asked for: one that is free, and that nobody waits for.
#[derive(Clone)]
pub(crate) struct SpareSeats(Arc<dyn Fn() -> Option<Seat> + Send + Sync>);

impl SpareSeats {
    /// Those that `take` gives.
    pub(crate) fn new(take: impl Fn() -> Option<Seat> + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// One of them, if there is one now.
    pub(crate) fn take(&self) -> Option<Seat> {
        (self.0)()
    }
}

/// How many wait in one queue. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    waiting: AtomicUsize,
    rose: Notify,
}

impl Demand {
    /// Takes a place in the queue, and says how many are ahead.
    pub(crate) fn join(&self) -> (Place, usize) {
        let ahead = self.0.waiting.fetch_add(1, Ordering::SeqCst);
        self.0.rose.notify_waiters();
        (Place(self.clone()), ahead)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    /// Returns as soon as somebody waits.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn rises(&self) {
        self.asks_for(|waiting| (waiting > 0).then_some(())).await;
    }

    /// Returns what `answer` gives to the number of those who wait, as soon as it gives something. It is asked again
    /// whenever another one comes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn asks_for<T>(&self, answer: impl Fn(usize) -> Option<T>) -> T {
        loop {
            // Whoever comes from here on is not missed: such a future is told of all that come after it was made.
            let rose = self.0.rose.notified();
            if let Some(answer) = answer(self.waiting()) {
                return answer;
            }
            rose.await;
        }
    }
}

/// A place in a queue; dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Place(Demand);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn demand_rises_with_the_first_who_waits_and_falls_with_the_last() {
        let demand = Demand::default();
        let mut rises = Box::pin(demand.rises());
        assert!(futures_util::poll!(rises.as_mut()).is_pending());
        let (first, ahead) = demand.join();
        assert_eq!((ahead, demand.join().1), (0, 1));
        rises.await;
        drop(first);
        assert_eq!(demand.waiting(), 0);
    }
}
