//! Servers that are alive and wait for a call: attended to, handed to whoever is next, given up when others
//! want their seats. Nobody else has them meanwhile.
//!
//! ```text
//!   keep -> somebody waits: theirs
//!        -> nobody: its sitter attends to it until it is   taken, and fit: handed over
//!                                                          taken, and unfit, dead, too old, let go, its seat wanted,
//!                                                          the shelf closed: ended
//! ```
//!
//! Each server is in the hands of one task, its sitter's, until it is in the hands of a call. What was on its way to a
//! caller who has left comes back. Nothing here starts a server.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Exclusive, Lease};
use crate::exchange::{Demand, Principal, Turns};
use crate::tasks::Tasks;

/// Which of those that wait is handed out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The one that has waited longest: all are used before they are too old.
    OldestFirst,
    /// The one that came last: those that are not needed wait on, until they have waited too long.
    YoungestFirst,
}

/// The servers that wait for a call.
pub(crate) struct Shelf {
    turn: Turn,
    rows: Mutex<Rows>,
    /// Seats that are being given up, but are not free yet.
    giving: Arc<AtomicUsize>,
    sitters: Tasks,
    stop: CancellationToken,
    /// Something was asked for, taken, or lost.
    changed: Notify,
}

#[derive(Default)]
struct Rows {
    /// Those that can be had, the next one first.
    ready: VecDeque<Ready>,
    /// Those who wait for the next one.
    callers: Turns<oneshot::Sender<Kept>>,
    numbers: u64,
    news: News,
}

/// What has happened since it was last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Calls that came.
    pub(super) asked: u32,
    /// Servers that were handed to a call.
    pub(super) taken: u32,
    /// Servers that ended, or became unfit, while they waited.
    pub(super) spoiled: u32,
}

/// A server that can be had, as its sitter can be asked for it.
struct Ready {
    number: u64,
    ask: oneshot::Sender<oneshot::Sender<Kept>>,
}

/// A server with what it is kept by.
pub(super) struct Kept {
    pub(super) lease: Box<Exclusive>,
    /// When it is too old, or has waited too long.
    pub(super) until: Instant,
}

/// Why a server waits no longer.
enum Over {
    Taken(oneshot::Sender<Kept>),
    Spoiled(&'static str),
    /// Too old, let go, or the shelf is closed.
    LetGo,
    Wanted(Giving),
}

/// A seat that is being given up.
pub(super) struct Giving(Arc<AtomicUsize>);

impl Drop for Giving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server that may be on its way to a caller. Dropped, it goes back.
struct Claim<'a> {
    shelf: &'a Arc<Shelf>,
    answer: oneshot::Receiver<Kept>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(kept) = self.answer.try_recv() {
            self.shelf.keep(kept);
        }
    }
}

impl Shelf {
    /// An empty one, whose sitters are among `sitters`; it closes with `stop`.
    pub(super) fn new(turn: Turn, sitters: Tasks, stop: CancellationToken) -> Self {
        Self { turn, rows: Mutex::default(), giving: Arc::default(), sitters, stop, changed: Notify::new() }
    }

    /// A server that waits, if there is one that is fit. This is the question of a new call.
    ///
    /// # Cancel safety
    ///
    /// A server that was on its way goes back.
    pub(crate) async fn take(self: &Arc<Self>) -> Option<Lease> {
        {
            let mut rows = self.rows();
            rows.news.asked = rows.news.asked.saturating_add(1);
        }
        self.changed.notify_one();
        self.take_ready().await
    }

    /// The next server that can be had; principals who wait get them in turn.
    ///
    /// # Cancel safety
    ///
    /// It gives up the place in the queue; a server that was on its way goes back.
    pub(crate) async fn next(self: &Arc<Self>, who: &Principal) -> Lease {
        loop {
            if let Some(lease) = self.take_ready().await {
                return lease;
            }
            let (way, answer) = oneshot::channel();
            {
                let mut rows = self.rows();
                if !rows.ready.is_empty() {
                    continue;
                }
                rows.callers.retain(|caller| !caller.is_closed());
                rows.callers.push(who, way);
            }
            if let Some(lease) = self.claimed(answer).await {
                return lease;
            }
        }
    }

    async fn take_ready(self: &Arc<Self>) -> Option<Lease> {
        loop {
            let ready = self.rows().ready.pop_front()?;
            let (way, answer) = oneshot::channel();
            if ready.ask.send(way).is_ok()
                && let Some(lease) = self.claimed(answer).await
            {
                return Some(lease);
            }
        }
    }

    async fn claimed(self: &Arc<Self>, answer: oneshot::Receiver<Kept>) -> Option<Lease> {
        let mut claim = Claim { shelf: self, answer };
        let kept = (&mut claim.answer).await.ok()?;
        {
            let mut rows = self.rows();
            rows.news.taken = rows.news.taken.saturating_add(1);
        }
        self.changed.notify_one();
        Some(Lease::Exclusive(kept.lease))
    }

    /// Takes in a server that nobody uses.
    pub(super) fn keep(self: &Arc<Self>, mut kept: Kept) {
        let mut rows = self.rows();
        while let Some(caller) = rows.callers.pop() {
            match caller.send(kept) {
                Ok(()) => return,
                Err(back) => kept = back,
            }
        }
        let (ask, asked) = oneshot::channel();
        let number = rows.numbers;
        rows.numbers += 1;
        match self.turn {
            Turn::OldestFirst => rows.ready.push_back(Ready { number, ask }),
            Turn::YoungestFirst => rows.ready.push_front(Ready { number, ask }),
        }
        drop(rows);
        let shelf = Arc::clone(self);
        self.sitters.begin(async move { shelf.sit(kept, number, asked).await });
    }

    /// How many can be had.
    pub(super) fn ready(&self) -> usize {
        self.rows().ready.len()
    }

    /// Whether somebody waits for one.
    pub(super) fn is_waited_for(&self) -> bool {
        self.rows().callers.iter().any(|caller| !caller.is_closed())
    }

    /// Lets go those that would be handed out next.
    pub(super) fn let_go(&self, count: usize) {
        let mut rows = self.rows();
        let count = count.min(rows.ready.len());
        // Whoever cannot be asked any more is ended by its sitter.
        rows.ready.drain(..count);
    }

    /// What has happened since this was last asked.
    pub(super) fn news(&self) -> News {
        std::mem::take(&mut self.rows().news)
    }

    /// Returns when something has changed, be it long ago.
    pub(super) async fn changes(&self) {
        self.changed.notified().await;
    }

    /// Says that something has changed.
    pub(super) fn change(&self) {
        self.changed.notify_one();
    }

    /// Returns as soon as a seat should be given up for those who wait: no more of them than do.
    pub(super) async fn wanted(&self, demand: Option<&Demand>) -> Giving {
        let Some(demand) = demand else { return std::future::pending().await };
        demand.asks_for(|waiting| self.give(waiting)).await
    }

    /// The same, if it should be given up at once.
    pub(super) fn try_give(&self, demand: &Demand) -> Option<Giving> {
        self.give(demand.waiting())
    }

    fn give(&self, waiting: usize) -> Option<Giving> {
        let more = |giving: usize| (giving < waiting).then_some(giving + 1);
        self.giving.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Giving(Arc::clone(&self.giving)))
    }

    async fn sit(
        self: Arc<Self>,
        mut kept: Kept,
        number: u64,
        asked: oneshot::Receiver<oneshot::Sender<Kept>>,
    ) {
        let over = tokio::select! {
            biased;
            asked = asked => asked.map_or(Over::LetGo, Over::Taken),
            () = self.stop.cancelled() => Over::LetGo,
            why = kept.lease.instance.wait_unasked() => Over::Spoiled(why),
            () = tokio::time::sleep_until(kept.until.into()) => Over::LetGo,
            giving = self.wanted(kept.lease.wanted.as_ref()) => Over::Wanted(giving),
        };
        // Whoever takes it from the row meanwhile learns that it is not to be had any more.
        self.rows().ready.retain(|ready| ready.number != number);
        self.changed.notify_one();
        match over {
            Over::LetGo => {
                kept.lease.dismiss().await;
            }
            Over::Wanted(giving) => {
                kept.lease.dismiss().await;
                drop(giving);
            }
            Over::Spoiled(why) => self.spoiled(kept.lease, why).await,
            Over::Taken(way) => match kept.lease.instance.unfit() {
                Some(why) => {
                    // The caller need not wait for its end.
                    drop(way);
                    self.spoiled(kept.lease, why).await;
                }
                None => {
                    if let Err(kept) = way.send(kept) {
                        self.keep(kept);
                    }
                }
            },
        }
    }

    async fn spoiled(&self, lease: Box<Exclusive>, why: &'static str) {
        {
            let mut rows = self.rows();
            rows.news.spoiled = rows.news.spoiled.saturating_add(1);
        }
        self.changed.notify_one();
        tracing::warn!(why, "a server became unfit while it waited for a call");
        lease.dismiss().await;
        self.changed.notify_one();
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Nothing panics while holding it; even then the rows would be whole.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
