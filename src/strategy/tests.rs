//! A call's use of a server that is dropped at every point at which it can be: while it waits for a server, while one is
//! started for it, while it asks, while it gives the server back. Whatever the point, nothing is left, a seat comes back once and
//! only when nothing of its tree is alive, and a tree that lost its owner is counted, once.
//!
//! These are real servers, in every containment that can be had here. What is dropped here nobody drops in the program: a call
//! lives in a task of its own (`call.rs`), which is what keeps the counter at zero.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Fresh, Lease, Pooled, Prewarmed, Reuse, Shelf, Standby, Strategy};
use crate::auth::{Gate, Token};
use crate::child::Containment;
use crate::child::spec::Teardown;
use crate::child::tests::cradle::{Cradle, EVERY, Outcome, program};
use crate::deadline::{Deadline, EarlyEnd};
use crate::exchange::{Ask, Origin, Principal, Seat, SpareSeats, Starts};
use crate::instance::{Making, Server};
use crate::mcp::Verdicts;
use crate::mcp::era::Protocol;
use crate::tasks::Tasks;

mod interleavings;

/// More polls than any call needs.
const MOST: usize = 10_000;
/// Longer than any test may take.
const LONG: Duration = Duration::from_mins(5);

/// A server with a child of its own, in a session of its own where that is held.
fn server(cradle: &Cradle, program: &Path, containment: Containment) -> Arc<Server> {
    let fault = if containment == Containment::Group { "child" } else { "setsid-child" };
    let spec = cradle.spec(program, &["demo", "--faults", "--fault", fault], Teardown::Kill);
    let making = Making {
        name: "demo".into(),
        spec,
        protocol: Protocol::Legacy,
        open_deadline: LONG,
        output: 1 << 20,
    };
    Arc::new(Server::new(making, cradle.nursery.clone(), Arc::new(Verdicts::new(None))))
}

fn no_end() -> EarlyEnd {
    EarlyEnd::new(CancellationToken::new(), CancellationToken::new(), Deadline::within(LONG))
}

/// When a future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Right after a poll.
    AtOnce,
    /// When it was woken for another: what it has waited for is there, and nobody has looked.
    Woken,
}

/// Polls `work` so many times at most, and drops it then. `None`: it was dropped.
async fn polled<F: Future>(most: usize, when: When, work: F) -> Option<F::Output> {
    let (mut work, mut polls) = (Box::pin(work), 0);
    std::future::poll_fn(move |context| {
        if polls >= most {
            return Poll::Ready(None);
        }
        polls += 1;
        match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if polls >= most && when == When::AtOnce => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A whole use: a server from the shelf or from the seat, one question, the end. Says where it came from, and as soon as
/// it is there that it has a lease.
async fn used(strategy: &dyn Strategy, seat: Option<Seat>, leased: &Cell<bool>) -> Origin {
    let end = no_end();
    let mut lease = match (strategy.shelf(), seat) {
        (_, Some(seat)) => strategy.lease(seat, &end).await.ok().expect("it can be started"),
        (Some(shelf), None) => match shelf.take().await {
            Some(lease) => lease,
            None => shelf.next(&Principal::anonymous()).await,
        },
        (None, None) => panic!("there is nothing to be had"),
    };
    leased.set(true);
    let origin = lease.times().origin;
    lease.ask(&Ask::Ping, None, None, &end).await.expect("it is answered");
    lease.end().await;
    origin
}

/// Each seat comes back, once; and at most one tree lost its owner, none if the use came to its end.
fn assert_clean(outcome: &Outcome, finished: bool, containment: Containment, most: usize) {
    let context = format!("{}, dropped after {most} polls: {outcome:?}", containment.name());
    assert_eq!(outcome.returned, 1, "{context}");
    assert!(outcome.rescued <= u64::from(!finished), "{context}");
}

async fn fresh_dropped_at_every_poll(containment: Containment, when: When) {
    let Some(program) = program() else { return };
    for most in 1..MOST {
        let Some(cradle) = Cradle::new(containment) else { return };
        let strategy = Fresh::new(server(&cradle, &program, containment), Tasks::here());
        let finished = polled(most, when, used(&strategy, Some(cradle.seat()), &Cell::default())).await;
        let finished = finished.is_some();
        // Nothing of it waits for anybody: either its seat is back, or its tree is in the hands of the reaper.
        let so_far = cradle.so_far();
        assert!(so_far.returned == 1 || so_far.rescued == 1, "after {most} polls: {so_far:?}");
        strategy.drain().await;
        drop(strategy);
        assert_clean(&cradle.leave().await, finished, containment, most);
        if finished {
            return;
        }
    }
    panic!("it does not end");
}

/// What a call waits for when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// The standby is not up yet, and the call waits in the queue for it.
    Before,
    /// The standby waits.
    After,
}

/// Returns when a server waits for a call.
async fn until_ready(shelf: &Shelf) {
    while shelf.ready() == 0 {
        tokio::task::yield_now().await;
    }
}

async fn prewarmed_dropped_at_every_poll(containment: Containment, when: When, begun: Begun) {
    let Some(program) = program() else { return };
    for most in 1..MOST {
        let Some(cradle) = Cradle::new(containment) else { return };
        let seats = Arc::new(Mutex::new(vec![cradle.seat()]));
        let seats = SpareSeats::new(move || seats.lock().unwrap().pop());
        let terms = Standby { min: 1, max: 1, max_age: LONG };
        let server = server(&cradle, &program, containment);
        let strategy = Prewarmed::new(server, terms, seats, Starts::new(1), Tasks::here());
        strategy.open();
        if begun == Begun::After {
            until_ready(strategy.shelf().unwrap()).await;
        }
        let leased = Cell::default();
        let origin = polled(most, when, used(&strategy, None, &leased)).await;
        assert!(origin.is_none_or(|origin| origin == Origin::Standby));
        if !leased.get() {
            // It did not have a server yet, and so costs none: the next call gets it.
            assert_eq!(cradle.so_far(), Outcome { returned: 0, rescued: 0 }, "after {most} polls");
            assert_eq!(used(&strategy, None, &leased).await, Origin::Standby, "after {most} polls");
            assert_eq!(cradle.so_far(), Outcome { returned: 1, rescued: 0 }, "after {most} polls");
        }
        strategy.drain().await;
        drop(strategy);
        assert_clean(&cradle.leave().await, origin.is_some(), containment, most);
        if origin.is_some() {
            return;
        }
    }
    panic!("it does not end");
}

#[tokio::test]
async fn a_use_of_a_fresh_server_that_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        fresh_dropped_at_every_poll(containment, When::AtOnce).await;
        fresh_dropped_at_every_poll(containment, When::Woken).await;
    }
}

#[tokio::test]
async fn a_use_of_a_standby_that_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        prewarmed_dropped_at_every_poll(containment, When::AtOnce, Begun::After).await;
        prewarmed_dropped_at_every_poll(containment, When::Woken, Begun::After).await;
    }
}

#[tokio::test]
async fn a_call_that_waits_for_a_standby_and_is_dropped_at_any_point_leaves_it_to_the_next() {
    for containment in EVERY {
        prewarmed_dropped_at_every_poll(containment, When::AtOnce, Begun::Before).await;
        prewarmed_dropped_at_every_poll(containment, When::Woken, Begun::Before).await;
    }
}

#[tokio::test]
async fn principals_who_wait_for_a_server_that_is_used_again_take_turns() {
    let (Some(program), Some(cradle)) = (program(), Cradle::new(Containment::Group)) else { return };
    let gate = Gate::new(["a", "b"].map(|name| Token::plain(name, &format!("token-of-{name}"))));
    let all = ["a", "b"].map(|name| gate.identify(Some(&format!("token-of-{name}"))).unwrap());
    let terms = Reuse { uses: 100, max_age: LONG, idle: LONG };
    let strategy = Pooled::new(server(&cradle, &program, Containment::Group), terms, Tasks::here());
    let Ok(first) = strategy.lease(cradle.seat(), &no_end()).await else { panic!("it can be started") };
    let (shelf, served) = (strategy.shelf().unwrap(), RefCell::new(Vec::new()));
    let give_back = |lease: Lease| assert!(lease.give_back().is_ok());
    let calls = [0, 0, 0, 1].map(|who| {
        let (served, all) = (&served, &all);
        async move {
            let lease = shelf.next(&all[who]).await;
            served.borrow_mut().push(who);
            give_back(lease);
        }
    });
    futures_util::future::join(futures_util::future::join_all(calls), async { give_back(first) }).await;
    assert_eq!(served.into_inner(), [0, 1, 0, 0]);
    strategy.drain().await;
    drop(strategy);
    assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 0 });
}
