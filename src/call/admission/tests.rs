//! Who comes in, in which order, and what a place is worth.

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
    assert!(matches!(door.enter(&Principal::anonymous(), async { 7 }, &end()).await, Ok(Entered::Seated(7))));
    assert_eq!(door.demand.waiting(), 0);
    drop(standby);
    assert!(matches!(door.enter(&Principal::anonymous(), async { 7 }, &end()).await, Ok(Entered::Seat(..))));
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
    let calls = (0..12).map(|number| (usize::from(number >= 9), number % 3 + 3 * usize::from(number >= 9)));
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
    assert!(matches!(futures_util::poll!(waiting.as_mut()), std::task::Poll::Ready(Ok(Entered::Seat(..)))));
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
