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
mod tests {
    use std::cell::RefCell;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::auth::{Gate, Token};
    use crate::deadline::Deadline;

    mod interleavings;

    fn end() -> EarlyEnd {
        let never = CancellationToken::new;
        EarlyEnd::new(never(), never(), Deadline::within(Duration::from_secs(100)))
    }

    /// No bound on starts.
    fn any() -> Starts {
        Starts::new(usize::MAX)
    }

    fn door(concurrent: usize, queue: usize, house: usize) -> Admission {
        let limits = Limits { concurrent, queue, queue_timeout: Duration::from_secs(5) };
        Admission::new(limits, House::new(house, any()), OfServer::default())
    }

    async fn enter(door: &Admission, end: &EarlyEnd) -> Result<Entered<()>, CallError> {
        door.enter(&Principal::anonymous(), std::future::pending(), end).await
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_may_start_at_once_start_while_processors_are_idle() {
        let account = tempfile::NamedTempFile::new().unwrap();
        let says = |idle: &str| std::fs::write(account.path(), format!("9.00 {idle}\n")).unwrap();
        says("0.00");
        let limits = Limits { concurrent: 9, queue: 9, queue_timeout: Duration::from_secs(5) };
        let idleness = Idleness::of(account.path().to_owned(), 2);
        let house = House::new(9, Starts::new(1)).or_idle(Some(idleness));
        let (door, end) = (Admission::new(limits, house, OfServer::default()), end());
        let _first = enter(&door, &end).await.unwrap();
        let soon = Duration::from_millis(150);
        let second = tokio::time::timeout(soon, enter(&door, &end)).await;
        assert!(second.is_err(), "nothing idles");
        let third = tokio::join!(enter(&door, &end), async {
            tokio::time::sleep(soon).await;
            says("5.00");
        });
        assert!(matches!(third, (Ok(Entered::Seat(..)), ())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_with_a_seat_of_its_own_needs_no_other() {
        let door = door(1, 1, 10);
        let spare = door.spare_seats();
        let standby = spare.take().unwrap();
        assert!(spare.take().is_none());
        assert!(matches!(
            door.enter(&Principal::anonymous(), async { 7 }, &end()).await,
            Ok(Entered::Seated(7))
        ));
        assert_eq!(door.demand.waiting(), 0);
        drop(standby);
        assert!(matches!(
            door.enter(&Principal::anonymous(), async { 7 }, &end()).await,
            Ok(Entered::Seat(..))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_that_somebody_waits_for_is_not_spare() {
        let (house, end) = (House::new(2, any()), end());
        let limits = Limits { concurrent: 2, queue: 5, queue_timeout: Duration::from_secs(5) };
        let [one, other] = [(); 2].map(|()| Admission::new(limits, house.clone(), OfServer::default()));
        let spare = one.spare_seats();
        let seats = [spare.take().unwrap(), spare.take().unwrap()];
        let mut waiting = std::pin::pin!(enter(&other, &end));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        assert_eq!(seats[0].wanted_by_others().unwrap().waiting(), 1);
        drop(seats);
        assert!(spare.take().is_none(), "somebody who waits has not come yet");
        assert!(waiting.await.is_ok());
        assert!(spare.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_seat_is_free_again_when_it_is_dropped_and_not_before() {
        let door = door(1, 1, 10);
        let end = end();
        let seat = enter(&door, &end).await.unwrap();
        let mut second = std::pin::pin!(enter(&door, &end));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(matches!(enter(&door, &end).await, Err(CallError::Overloaded { .. })));
        drop(seat);
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_house_bounds_what_the_doors_let_in() {
        let door = door(5, 1, 1);
        let end = end();
        let _seat = enter(&door, &end).await.unwrap();
        assert!(matches!(enter(&door, &end).await, Err(CallError::Overloaded { .. })));
        // Whoever gave up holds neither a seat nor a place.
        assert_eq!((door.seats.available_permits(), door.demand.waiting()), (4, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_the_queue_leaves_a_place() {
        let door = door(1, 1, 1);
        let (caller, never) = (CancellationToken::new(), CancellationToken::new());
        let _seat = enter(&door, &end()).await.unwrap();
        let leaving = EarlyEnd::new(caller.clone(), never, Deadline::within(Duration::from_secs(1)));
        let mut waiting = std::pin::pin!(enter(&door, &leaving));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        caller.cancel();
        assert!(matches!(waiting.await, Err(CallError::CallerGone { phase: Phase::Queue })));
        assert_eq!(door.demand.waiting(), 0);
    }

    /// Principals of these names.
    fn named(names: &[&str]) -> Vec<Principal> {
        let value = |name: &str| format!("token-of-{name}");
        let gate = Gate::new(names.iter().map(|name| Token::plain(name, &value(name))));
        names.iter().map(|name| gate.identify(Some(&value(name))).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn of_256_callers_at_16_seats_each_principal_gets_as_much_as_any_other() {
        let door = door(16, 256, 64);
        let (end, all) = (end(), named(&["a", "b", "c", "d"]));
        let served = RefCell::new(Vec::new());
        // Of one principal come 244 calls, and before those of the others.
        let calls = (0..256).map(|number| if number < 244 { 0 } else { 1 + number % 3 }).map(|who| {
            let (door, end, all, served) = (&door, &end, &all, &served);
            async move {
                let seat = door.enter(&all[who], std::future::pending::<()>(), end).await.unwrap();
                served.borrow_mut().push(who);
                tokio::time::sleep(Duration::from_millis(100)).await;
                drop(seat);
            }
        });
        futures_util::future::join_all(calls).await;
        let served = served.into_inner();
        assert_eq!(served.len(), 256);
        // Sixteen seats are taken before anybody else comes, and whoever was called by then is next.
        let last_of_the_others = served.iter().rposition(|who| *who != 0).unwrap();
        assert!(last_of_the_others <= 16 + 1 + 4 * 4, "{served:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_house_serves_principals_in_turn_whatever_their_doors() {
        let (house, end, all) = (House::new(1, any()), end(), named(&["a", "b"]));
        let limits = Limits { concurrent: 8, queue: 64, queue_timeout: Duration::from_secs(5) };
        let doors = [(); 4].map(|()| Admission::new(limits, house.clone(), OfServer::default()));
        let seat = enter(&doors[0], &end).await.unwrap();
        let served = RefCell::new(Vec::new());
        // One asks at three doors, the other at the fourth, last of all.
        let calls =
            (0..12).map(|number| (usize::from(number >= 9), number % 3 + 3 * usize::from(number >= 9)));
        let calls = calls.map(|(who, at)| {
            let (door, end, all, served) = (&doors[at.min(3)], &end, &all, &served);
            async move {
                let seat = door.enter(&all[who], std::future::pending::<()>(), end).await.unwrap();
                served.borrow_mut().push(who);
                tokio::task::yield_now().await;
                drop(seat);
            }
        });
        let release = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(seat);
        };
        futures_util::future::join(futures_util::future::join_all(calls), release).await;
        assert_eq!(served.into_inner(), [0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_memory_is_short_nobody_comes_in_and_what_waits_for_a_call_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory");
        let account = |share: &str| {
            std::fs::write(&file, format!("some avg10={share} avg60=0.00 avg300=0.00 total=0\n")).unwrap();
        };
        account("0.00");
        let (house, end) = (House::new(4, any()), end());
        let limits = Limits { concurrent: 4, queue: 4, queue_timeout: Duration::from_secs(5) };
        let door = Admission::new(limits, house.clone(), OfServer::default());
        let standbys = [(); 2].map(|()| door.spare_seats().take().unwrap());
        let wanted = standbys[0].wanted_by_others().unwrap();
        let mut holding = std::pin::pin!(house.hold_back(Pressure::of_file(&file, 10)));
        let a_while = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        let mut pass = async |seconds| {
            tokio::select! {
                () = holding.as_mut() => unreachable!("it never ends"),
                () = a_while(seconds) => {}
            }
        };
        pass(1).await;
        assert_eq!(wanted.waiting(), 0);
        assert!(enter(&door, &end).await.is_ok());
        account("10.01");
        pass(1).await;
        assert!(wanted.waiting() >= standbys.len() && door.spare_seats().take().is_none());
        let mut late = std::pin::pin!(enter(&door, &end));
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        pass(6).await;
        assert!(matches!(late.await, Err(CallError::Overloaded { waited: Some(_), .. })));
        let mut waiting = std::pin::pin!(enter(&door, &end));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        // It has to be well below before it counts as enough.
        account("6.00");
        pass(1).await;
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        account("5.00");
        pass(1).await;
        assert!(matches!(
            futures_util::poll!(waiting.as_mut()),
            std::task::Poll::Ready(Ok(Entered::Seat(..)))
        ));
        assert_eq!(wanted.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_one_has_filled_has_room_for_another() {
        let door = door(1, 3, 1);
        let (end, all) = (end(), named(&["a", "b"]));
        let _seat = enter(&door, &end).await.unwrap();
        let wait = |who: usize| Box::pin(door.enter(&all[who], std::future::pending::<()>(), &end));
        let mut waiting = [wait(0), wait(0), wait(0)];
        for call in &mut waiting {
            assert!(futures_util::poll!(call.as_mut()).is_pending());
        }
        assert!(matches!(wait(0).await, Err(CallError::Overloaded { waited: None, .. })));
        let mut other = wait(1);
        assert!(futures_util::poll!(other.as_mut()).is_pending());
        let [_, _, sent_away] = waiting;
        assert!(matches!(sent_away.await, Err(CallError::Overloaded { waited: None, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn the_advice_when_to_retry_is_about_calls_and_not_about_what_outlives_them() {
        let door = door(1, 1, 1);
        let seat = enter(&door, &end()).await.unwrap();
        // A server that serves one call after the other, for hours.
        for _ in 0..20 {
            let holding = door.holding();
            tokio::time::sleep(Duration::from_secs(8)).await;
            drop(holding);
        }
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        drop(seat);
        assert!((6..=10).contains(&door.when_one_of(1).as_secs()), "{:?}", door.when_one_of(1));
    }

    #[test]
    fn those_who_are_turned_away_together_are_spread() {
        let advice = |jitter| retry_after(9, Duration::from_secs(4), 1, jitter).as_secs();
        assert_eq!((advice(75), advice(125)), (30, 50));
        assert!((0..100).all(|_| (75..=125).contains(&jitter())));
    }

    #[test]
    fn the_advice_when_to_retry_is_whole_seconds_from_1_to_60() {
        let cases = [(0, 0, 1, 1), (0, 2500, 1, 3), (3, 1000, 2, 2), (100, 10_000, 1, 60), (1, 100, 0, 1)];
        for (waiting, average, seats, expected) in cases {
            let advice = retry_after(waiting, Duration::from_millis(average), seats, 100);
            assert_eq!(advice.as_secs(), expected, "{waiting} {average} {seats}");
        }
    }
}
