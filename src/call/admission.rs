//! How many lives at once, who waits, who is turned away.
//!
//! A seat is the right to have one tree alive. There are so many per server, and so many overall; whoever finds none
//! waits in a line, which is bounded in length and in time. Principals are served in turn, the calls of one in the order
//! in which they came: at the door of a server, and again for the house, where all doors meet. A seat is free again when
//! it is dropped, which the tree that has it does not do before it is dead.
//!
//! ```text
//!   the line of the door -- its turn --> a seat of the server -- the line of the house -- its turn --> a seat of the house
//!                                   '--> or a server that has its seat: so does whoever waits for the house
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

mod idleness;
mod line;
mod pressure;

use crate::auth::Principal;
use crate::deadline::{EarlyEnd, Reason};
use crate::exchange::{CallError, Demand, LastWords, Phase, Seat, SpareSeats, Start, Starts};
use crate::telemetry::metrics::{InFlight, OfServer};
use line::{Line, SentAway};

pub(crate) use idleness::Idleness;
pub(crate) use pressure::{NoAccount, Pressure};

/// The bounds of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Trees alive at once.
    pub(crate) concurrent: usize,
    /// Calls waiting for a seat.
    pub(crate) queue: usize,
    /// How long each may wait.
    pub(crate) queue_timeout: Duration,
}

/// The seats of all servers together.
#[derive(Debug, Clone)]
pub(crate) struct House {
    size: usize,
    seats: Arc<Semaphore>,
    /// Those who have a seat at a door and none in the house.
    demand: Demand,
    line: Line,
    /// Those who have a seat, and none of the starts.
    starters: Line,
    starts: Starts,
    /// What lets more of them start than that.
    idleness: Option<Idleness>,
}

impl House {
    /// `concurrent` trees alive at once, whosever they are, and no more than `starts` says on their way.
    pub(crate) fn new(concurrent: usize, starts: Starts) -> Self {
        let (seats, demand) = (Arc::new(Semaphore::new(concurrent)), Demand::default());
        let (line, starters) = (Line::default(), Line::default());
        Self { size: concurrent, seats, demand, line, starters, starts, idleness: None }
    }

    /// The same, but more may start while processors have nothing to do.
    pub(crate) fn or_idle(self, idleness: Option<Idleness>) -> Self {
        Self { idleness, ..self }
    }

    /// The next start, for whoever is first in the line of those who wait for one.
    async fn next_start(&self) -> Start {
        let idle = async {
            match &self.idleness {
                Some(idleness) => idleness.room().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            start = self.starts.next() => start,
            () = idle => Start::beyond(),
        }
    }
}

impl House {
    /// Lets nobody in while the machine is short of memory, and has every server given up that waits for a call. Those
    /// who are in stay. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping it lets in whoever waits.
    pub(crate) async fn hold_back(self, pressure: Pressure) {
        loop {
            pressure.until(true).await;
            tracing::warn!(most_percent = pressure.most(), "short of memory: no further call gets a seat");
            // It takes the turn and keeps it; and wants, for nobody, every seat that is only kept ready.
            let mut turn = self.line.cut_in();
            let wanting: Vec<_> = (0..self.size).map(|_| self.demand.join()).collect();
            let held = async {
                let _ = turn.turn().await;
                pressure.until(false).await;
            };
            held.await;
            drop((wanting, turn));
            tracing::info!("enough memory again");
        }
    }
}

/// The door of one server.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    limits: Limits,
    house: House,
    seats: Arc<Semaphore>,
    /// Those who wait, for this door or behind it for the house.
    demand: Demand,
    line: Line,
    /// A moving average of how long calls hold what they came in with, in microseconds.
    held: Arc<AtomicU64>,
    figures: OfServer,
}

/// How a call came in.
#[derive(Debug)]
pub(crate) enum Entered<T> {
    /// With a seat for a server that is to be started now.
    Seat(Seat, Start),
    /// With a server that has its seat.
    Seated(T),
}

/// A taken seat; dropped, it is free.
struct Taken {
    _own: OwnedSemaphorePermit,
    _house: OwnedSemaphorePermit,
    _counted: InFlight,
}

/// A call that is in; dropped, what it had is there for the next one: a seat, or a server that is kept.
#[derive(Debug)]
pub(super) struct Holding {
    since: Instant,
    held: Arc<AtomicU64>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let now = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        // One part in eight is new. A lost update under contention is as good as none.
        let before = self.held.load(Ordering::Relaxed);
        let average = if before == 0 { now } else { before - before / 8 + now / 8 };
        self.held.store(average, Ordering::Relaxed);
    }
}

impl Admission {
    /// The door of a server with these bounds, in a house with bounds of its own.
    pub(crate) fn new(limits: Limits, house: House, figures: OfServer) -> Self {
        let seats = Arc::new(Semaphore::new(limits.concurrent));
        figures.seats(limits.concurrent);
        let (demand, line, held) = (Demand::default(), Line::default(), Arc::default());
        Self { limits, house, seats, demand, line, held, figures }
    }

    /// What is counted here.
    pub(crate) const fn figures(&self) -> &OfServer {
        &self.figures
    }

    /// Whether whoever comes now is turned away.
    pub(crate) fn is_full(&self) -> bool {
        let free = self.seats.available_permits().min(self.house.seats.available_permits());
        free == 0 && self.demand.waiting() >= self.limits.queue
    }

    /// A call has come in, with whatever: for as long as this is held, it keeps that from others.
    pub(super) fn holding(&self) -> Holding {
        Holding { since: Instant::now(), held: Arc::clone(&self.held) }
    }

    /// The seats that nobody waits for, here or in the house.
    pub(crate) fn spare_seats(&self) -> SpareSeats {
        let door = self.clone();
        SpareSeats::new(move || door.try_enter())
    }

    /// A seat, at once or after a wait, and a start for it; or, if that comes first after neither was free, a server that
    /// has a seat. Only the wait for the seat has a bound of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place in the queue.
    pub(crate) async fn enter<T>(
        &self,
        who: &Principal,
        seated: impl Future<Output = T>,
        end: &EarlyEnd,
    ) -> Result<Entered<T>, CallError> {
        let mut seated = std::pin::pin!(seated);
        let seat = match self.try_enter() {
            Some(seat) => seat,
            None => match self.queue(who, seated.as_mut(), end).await? {
                Either::Left(server) => return Ok(Entered::Seated(server)),
                Either::Right(seat) => seat,
            },
        };
        if let Some(start) = self.house.starts.at_once() {
            return Ok(Entered::Seat(seat, start));
        }
        let start = async {
            let _counted = self.house.starts.demand().join();
            let mut place = self.house.starters.join(who);
            // Nobody is sent away from there.
            let _ = place.turn().await;
            self.house.next_start().await
        };
        let either = async {
            tokio::select! {
                biased;
                server = seated => Entered::Seated(server),
                start = start => Entered::Seat(seat, start),
            }
        };
        end.before(either).await.map_err(|reason| early(reason, end))
    }

    /// A seat after a wait, or a server that has one.
    async fn queue<T>(
        &self,
        who: &Principal,
        seated: Pin<&mut impl Future<Output = T>>,
        end: &EarlyEnd,
    ) -> Result<Either<T, Seat>, CallError> {
        let (counted, ahead) = self.demand.join();
        if ahead >= self.limits.queue && !self.line.make_room(who) {
            return Err(self.full(None));
        }
        let _waiting = self.figures.waiting();
        let late = || self.full(Some(self.limits.queue_timeout));
        let waited = self.bounded(self.wait(who, seated), end, late).await;
        drop(counted);
        waited?.map_err(|SentAway| self.full(None))
    }

    /// What `wait` gives, within the time that a place in the queue has; or else `late`.
    pub(crate) async fn bounded<T>(
        &self,
        wait: impl Future<Output = T>,
        end: &EarlyEnd,
        late: impl FnOnce() -> CallError,
    ) -> Result<T, CallError> {
        match end.before(tokio::time::timeout(self.limits.queue_timeout, wait)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_elapsed)) => Err(late()),
            Err(reason) => Err(early(reason, end)),
        }
    }

    /// When one of so many calls should be over.
    pub(crate) fn when_one_of(&self, share: usize) -> Duration {
        retry_after(0, Duration::from_micros(self.held.load(Ordering::Relaxed)), share, jitter())
    }

    /// A seat that is free now, and that nobody waits for, here or in the house.
    fn try_enter(&self) -> Option<Seat> {
        if self.demand.waiting() + self.house.demand.waiting() > 0 {
            return None;
        }
        let own = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let house = Arc::clone(&self.house.seats).try_acquire_owned().ok()?;
        Some(self.seat(own, house))
    }

    /// Waits in both lines, and meanwhile for a server that has its seat.
    async fn wait<T>(
        &self,
        who: &Principal,
        mut seated: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Either<T, Seat>, SentAway> {
        let mut place = self.line.join(who);
        place.turn().await?;
        let own = tokio::select! {
            biased;
            server = seated.as_mut() => return Ok(Either::Left(server)),
            own = taken(&self.seats) => own,
        };
        // Whoever is next here need not wait for the house to have room.
        drop(place);
        let in_house = async {
            let _counted = self.house.demand.join();
            let mut place = self.house.line.join(who);
            place.turn().await?;
            Ok(taken(&self.house.seats).await)
        };
        tokio::select! {
            biased;
            server = seated => Ok(Either::Left(server)),
            house = in_house => Ok(Either::Right(self.seat(own, house?))),
        }
    }

    fn seat(&self, own: OwnedSemaphorePermit, house: OwnedSemaphorePermit) -> Seat {
        let wanted = vec![self.demand.clone(), self.house.demand.clone()];
        let counted = self.figures.taken();
        Seat::new(Taken { _own: own, _house: house, _counted: counted }, wanted)
    }

    fn full(&self, waited: Option<Duration>) -> CallError {
        let average = Duration::from_micros(self.held.load(Ordering::Relaxed));
        let waiting = self.demand.waiting().min(self.limits.queue);
        let retry_after = retry_after(waiting, average, self.limits.concurrent, jitter());
        CallError::Overloaded { retry_after, waited }
    }
}

/// A quarter more or less, in percent, so that those who were turned away together do not come back together.
fn jitter() -> u128 {
    75 + u128::from(getrandom::u32().unwrap_or(25) % 51)
}

/// When there should be a seat: those who wait, and the one who asks, each for the average time of a call, as many at
/// once as there are seats, times `jitter` percent; between 1 and 60 s, in whole seconds.
fn retry_after(waiting: usize, average: Duration, seats: usize, jitter: u128) -> Duration {
    let seats = u128::try_from(seats.max(1)).unwrap_or(1);
    let ahead = u128::try_from(waiting).unwrap_or(u128::MAX).saturating_add(1);
    let time = ahead.saturating_mul(average.as_millis()).saturating_mul(jitter) / 100;
    let seconds = time.div_ceil(seats * 1000).clamp(1, 60);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(60))
}

async fn taken(seats: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(seats).acquire_owned().await.expect("nobody closes the semaphore")
}

fn early(reason: Reason, end: &EarlyEnd) -> CallError {
    let phase = Phase::Queue;
    match reason {
        Reason::CallerGone => CallError::CallerGone { phase },
        Reason::Stopped => CallError::ShuttingDown { phase },
        Reason::DeadlineExceeded => {
            let after = end.deadline().budget();
            CallError::DeadlineExceeded { phase, after, words: Box::new(LastWords::default()) }
        }
    }
}

#[cfg(test)]
mod tests;
