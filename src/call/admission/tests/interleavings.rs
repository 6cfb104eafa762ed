//! Many callers of three principals at two doors of one house, entering, waiting, leaving and running out of time in orders that a scheduler
//! chooses: it is `shuttle`, and the doors are the real ones, tokio's semaphores and all.
//!
//! Those semaphores need no runtime, only somebody who polls; here that is shuttle, which picks who goes next at every
//! await. A seat that was lost would leave somebody waiting for ever, which shuttle reports as a deadlock. The clock is
//! tokio's, paused, and set forward by a task among the others, so that a deadline can fall anywhere. What happens within one
//! poll is not interleaved: docs/decisions/drops-and-interleavings.md.

use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use shuttle::future as tasks;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use super::*;

const CALLERS: usize = 8;
const ROUNDS: usize = 2_000;
/// Seats at each door, and in the house.
const AT_A_DOOR: usize = 2;
const IN_THE_HOUSE: usize = 3;
/// Servers that start at once.
const STARTING: usize = 2;

/// Trees alive at each door.
type Alive = Arc<[AtomicUsize; 2]>;

/// Servers that start.
type Started = Arc<AtomicUsize>;

/// One caller: enters, has a tree for a while, and gives its seat up when that is dead. How it fares is chance.
async fn call(door: Arc<Admission>, (alive, started): (Alive, Started), (at, who): (usize, Principal)) {
    let (caller, never) = (CancellationToken::new(), CancellationToken::new());
    let budget = Duration::from_secs(if thread_rng().gen_bool(0.3) { 1 } else { 1_000_000 });
    let end = EarlyEnd::new(caller.clone(), never, Deadline::within(budget));
    let (leaves, dropped) = (thread_rng().gen_bool(0.3), thread_rng().gen_bool(0.2));
    let leaving = tasks::spawn(async move {
        tasks::yield_now().await;
        if leaves {
            caller.cancel();
        }
    });
    let mut enter = Box::pin(door.enter(&who, std::future::pending::<()>(), &end));
    let entered = if dropped {
        // Whoever is dropped while waiting may have been given a seat in the same moment.
        let first = futures_util::poll!(enter.as_mut());
        tasks::yield_now().await;
        match first {
            Poll::Ready(entered) => Some(entered),
            Poll::Pending => None,
        }
    } else {
        Some(enter.as_mut().await)
    };
    drop(enter);
    if let Some(Ok(seat)) = entered {
        let here = alive[at].fetch_add(1, Ordering::SeqCst) + 1;
        let everywhere: usize = alive.iter().map(|door| door.load(Ordering::SeqCst)).sum();
        assert!(here <= AT_A_DOOR && everywhere <= IN_THE_HOUSE, "{here} of {everywhere}");
        let Entered::Seat(seat, start) = seat else { unreachable!("no server has a seat of its own") };
        let starting = started.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(starting <= STARTING, "{starting} start at once");
        tasks::yield_now().await;
        started.fetch_sub(1, Ordering::SeqCst);
        drop(start);
        for _ in 0..thread_rng().gen_range(0..4) {
            tasks::yield_now().await;
        }
        alive[at].fetch_sub(1, Ordering::SeqCst);
        drop(seat);
    }
    leaving.await.unwrap();
}

fn one_day() {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let within = clock.enter();
    let house = House::new(IN_THE_HOUSE, Starts::new(STARTING));
    let limits = Limits { concurrent: AT_A_DOOR, queue: 3, queue_timeout: Duration::from_secs(5) };
    let doors = [(); 2].map(|()| Arc::new(Admission::new(limits, house.clone(), OfServer::default())));
    let (alive, started) = (Alive::default(), Started::default());
    let principals = named(&["a", "b", "c"]);
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| ((number % 2, principals[number % 3].clone()), Arc::clone(&doors[number % 2])))
        .map(|(from, door)| tasks::spawn(call(door, (Arc::clone(&alive), Arc::clone(&started)), from)))
        .collect();
    // Past the short deadlines only, or past the patience of a queue as well.
    let jump = Duration::from_secs(if thread_rng().gen_bool(0.5) { 3 } else { 10 });
    shuttle::thread::yield_now();
    clock.block_on(tokio::time::advance(jump));
    for caller in callers {
        tasks::block_on(caller).unwrap();
    }
    for door in &doors {
        assert_eq!((door.seats.available_permits(), door.demand.waiting()), (AT_A_DOOR, 0));
        assert!(door.line.is_empty(), "somebody who left is still in the line");
    }
    assert_eq!((house.seats.available_permits(), house.demand.waiting()), (IN_THE_HOUSE, 0));
    assert!(house.line.is_empty(), "somebody who left is still in the line");
    assert!(house.starters.is_empty() && house.starts.at_once().is_some(), "a start was lost");
    drop(within);
}

fn every_day(scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    // What tokio does when its clock is set takes more than shuttle gives by itself.
    config.stack_size = 0x4_0000;
    shuttle::Runner::new(scheduler, config).run(one_day);
}

#[test]
fn no_order_of_callers_loses_a_seat_or_gives_one_too_many() {
    every_day(RandomScheduler::new(ROUNDS));
}

#[test]
fn no_order_of_few_surprises_does_either() {
    every_day(PctScheduler::new(3, ROUNDS));
}
