//! A new server for every call, started before it was asked for: never used before, used once, ended with its call.
//!
//! One task tends the standbys: as many as calls come while one starts (`pace.rs`), between two bounds. It starts them
//! beside the calls' way, a few at once, in seats that nobody waits for; a call that finds none ready is served as under
//! `fresh`. A server that cannot be started is tried less and less often.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::shelf::{Kept, Shelf, Turn};
use super::{Exclusive, Fresh, Lease, Strategy};
use crate::deadline::{Deadline, EarlyEnd, Reason};
use crate::exchange::{About, CallError, Origin, Seat, SpareSeats, Standbys, StartAhead, Starts};
use crate::instance::{HalfBorn, Server};
use crate::tasks::Tasks;

/// How often is looked again for a seat, or for standbys that are not needed any more.
const AGAIN: Duration = Duration::from_millis(250);
/// A standby that has lasted so long was not started in vain.
const LASTED: Duration = Duration::from_secs(5);

/// How many stand by, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standby {
    /// So many even if nobody calls.
    pub(crate) min: usize,
    /// Never more.
    pub(crate) max: usize,
    /// None older than this is used.
    pub(crate) max_age: Duration,
}

/// The strategy `prewarmed`.
pub(crate) struct Prewarmed(Arc<Ward>);

struct Ward {
    fresh: Fresh,
    server: Arc<Server>,
    terms: Standby,
    shelf: Arc<Shelf>,
    seats: SpareSeats,
    /// Room for starts, over all servers.
    starts: Starts,
    starting: AtomicUsize,
    pace: Mutex<Pace>,
    tended: AtomicBool,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Prewarmed {
    /// Standbys of `server`, in `seats`, started only where `starts` has room.
    pub(crate) fn new(
        server: Arc<Server>,
        terms: Standby,
        seats: SpareSeats,
        starts: Starts,
        tasks: Tasks,
    ) -> Self {
        let stop = CancellationToken::new();
        let shelf = Arc::new(Shelf::new(Turn::OldestFirst, tasks.clone(), stop.clone()));
        let fresh = Fresh::new(Arc::clone(&server), tasks.clone());
        let (starting, tended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let pace = Mutex::new(Pace::new(Instant::now()));
        Self(Arc::new(Ward {
            fresh,
            server,
            terms,
            shelf,
            seats,
            starts,
            starting,
            pace,
            tended,
            tasks,
            stop,
        }))
    }
}

impl Strategy for Prewarmed {
    fn name(&self) -> &'static str {
        "prewarmed"
    }

    fn about(&self) -> About {
        let Ward { fresh, terms, shelf, starting, .. } = &*self.0;
        let pace = *self.0.pace();
        let wait = pace.wait(Instant::now());
        let standbys = Standbys {
            min: terms.min,
            max: terms.max,
            ready: shelf.ready(),
            starting: starting.load(Ordering::Relaxed),
            failures: pace.failures(),
            retry_in: (wait > Duration::ZERO).then_some(wait),
        };
        About { strategy: self.name(), standbys: Some(standbys), ..fresh.about() }
    }

    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        self.0.fresh.lease(seat, end)
    }

    fn shelf(&self) -> Option<&Arc<Shelf>> {
        Some(&self.0.shelf)
    }

    fn open(&self) {
        if !self.0.tended.swap(true, Ordering::Relaxed) {
            let ward = Arc::clone(&self.0);
            self.0.tasks.begin(ward.tend());
        }
    }

    fn close(&self) {
        self.0.stop.cancel();
        self.0.fresh.close();
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        async {
            self.close();
            self.0.tasks.done().await;
        }
        .boxed()
    }
}

impl Ward {
    /// Keeps as many as are needed, until it is told to stop.
    async fn tend(self: Arc<Self>) {
        loop {
            let again = self.look_after();
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.shelf.changes() => {}
                () = tokio::time::sleep(again) => {}
            }
        }
    }

    /// Starts what is missing, lets go what is too much; says when to look again at the latest.
    fn look_after(self: &Arc<Self>) -> Duration {
        let (now, Standby { min, max, .. }) = (Instant::now(), self.terms);
        let (target, wait, failing) = {
            let (mut pace, news) = (self.pace(), self.shelf.news());
            pace.asked(news.asked, now);
            if news.taken > 0 || (self.shelf.ready() > 0 && pace.quiet(now) > LASTED) {
                pace.served();
            }
            if news.spoiled > 0 {
                pace.failed(now);
            }
            (pace.target(now, min, max), pace.wait(now), pace.failures() > 0)
        };
        let (ready, mut starting) = (self.shelf.ready(), self.starting.load(Ordering::SeqCst));
        self.shelf.let_go(ready.saturating_sub(target));
        if !wait.is_zero() {
            return wait;
        }
        // One that fails is tried once at a time.
        while ready + starting < target && !(failing && starting > 0) {
            let Some(start) = self.starts.ahead() else { return AGAIN };
            let Some(seat) = self.seats.take() else { return AGAIN };
            starting = self.starting.fetch_add(1, Ordering::SeqCst) + 1;
            self.tasks.begin(Arc::clone(self).start(seat, start));
        }
        if ready + starting == min { LASTED } else { AGAIN }
    }

    /// Starts one, unless others want its seat meanwhile.
    async fn start(self: Arc<Self>, seat: Seat, start: StartAhead) {
        let (began, wanted) = (Instant::now(), seat.wanted_by_others());
        let give_up = CancellationToken::new();
        // The start and, of a server without handshake, the introduction: each has that long.
        let enough = Deadline::within(self.server.open_deadline().saturating_mul(2));
        let end = EarlyEnd::new(give_up.clone(), self.stop.clone(), enough);
        let mut opening = std::pin::pin!(self.bring_up(seat, &end));
        let opened = tokio::select! {
            biased;
            opened = opening.as_mut() => opened,
            giving = self.shelf.wanted(wanted.as_ref()) => {
                give_up.cancel();
                let opened = opening.await;
                drop(giving);
                opened
            }
        };
        drop(start);
        match opened {
            Ok(lease) => {
                self.pace().started(began.elapsed());
                let until = Instant::now() + self.terms.max_age;
                self.shelf.keep(Kept { lease, until });
            }
            Err(error) if error.early().is_some_and(Reason::is_not_its_fault) => {}
            Err(error) => {
                self.pace().failed(Instant::now());
                tracing::warn!(error = error.story(), "a server could not be started ahead");
            }
        }
        self.starting.fetch_sub(1, Ordering::SeqCst);
        self.shelf.change();
    }

    /// A server that has shown that it is up. One that has not is dead when this returns.
    async fn bring_up(&self, seat: Seat, end: &EarlyEnd) -> Result<Box<Exclusive>, CallError> {
        let mut lease = match self.fresh.start(seat, end).await {
            Ok(lease) => lease,
            Err(failed) => {
                let (error, _, stillborn) = failed.into_parts();
                stillborn.end().await;
                return Err(error);
            }
        };
        // One that is asked without a handshake has said nothing so far, and may be far from ready.
        if let Err(error) = lease.introduce(&end.within(self.server.open_deadline())).await {
            lease.dismiss().await;
            return Err(error);
        }
        lease.origin = Origin::Standby;
        Ok(lease)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // Nothing panics while holding it; even then it would be whole.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
