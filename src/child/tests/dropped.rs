//! Futures that are dropped at every point at which they can be: after their first poll, after their second, and so on until
//! they come to their end. Whatever the point, a seat comes back once, and only when nothing of its tree is alive; and
//! each tree that lost its owner is counted, once.
//!
//! These are real processes, in every containment that can be had here, so that what is polled is all that will ever be.

use super::cradle::{Cradle, EVERY, Outcome, polled};
use super::*;

/// More polls than any of them needs.
const MOST: usize = 10_000;

/// Has a child of its own, in another session where that is held, and heeds neither the end of its stdin nor a signal.
fn stubborn(containment: Containment) -> &'static str {
    match containment {
        Containment::Group => "trap '' TERM; sleep 100 & echo ready; while :; do sleep 1; done",
        _ => "trap '' TERM; setsid sleep 100 & echo ready; while :; do sleep 1; done",
    }
}

async fn spawn(cradle: &Cradle, script: &str, teardown: Teardown) -> Result<Born, SpawnError> {
    let spec = cradle.spec(Path::new("/bin/sh"), &["-c", script], teardown);
    Child::spawn(&spec, &cradle.nursery, cradle.seat()).await
}

async fn spawn_dropped_at_every_poll(containment: Containment) {
    for most in 1..MOST {
        let Some(cradle) = Cradle::new(containment) else { return };
        let born = polled(most, spawn(&cradle, stubborn(containment), Teardown::Kill)).await;
        if let Some(born) = born {
            stop(born.unwrap(), &Ladder::new(Teardown::Kill)).await;
            assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 0 });
            return;
        }
        // Once there is a tree it keeps its seat until it is dead.
        assert_eq!(cradle.so_far(), Outcome { returned: 0, rescued: 1 }, "after {most} polls");
        assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 1 }, "after {most} polls");
    }
    panic!("it does not end");
}

async fn stop_dropped_at_every_poll(containment: Containment, teardown: Teardown) {
    for most in 1..MOST {
        let Some(cradle) = Cradle::new(containment) else { return };
        let mut born = spawn(&cradle, stubborn(containment), teardown).await.unwrap();
        until_ready(&mut born).await;
        let remains = polled(most, stop(born, &Ladder::new(teardown))).await;
        if let Some(remains) = remains {
            assert_eq!(cradle.so_far(), Outcome { returned: 0, rescued: 0 });
            drop(remains);
            assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 0 });
            return;
        }
        assert_eq!(cradle.so_far(), Outcome { returned: 0, rescued: 1 }, "after {most} polls");
        assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued: 1 }, "after {most} polls");
    }
    panic!("it does not end");
}

#[tokio::test]
async fn a_birth_that_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        spawn_dropped_at_every_poll(containment).await;
    }
}

#[tokio::test]
async fn a_kill_that_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        stop_dropped_at_every_poll(containment, Teardown::Kill).await;
    }
}

#[tokio::test]
async fn a_ladder_that_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        stop_dropped_at_every_poll(containment, hasty()).await;
    }
}

#[tokio::test]
async fn a_birth_that_fails_and_is_dropped_at_any_point_leaves_nothing() {
    for containment in EVERY {
        for most in 1..MOST {
            let Some(cradle) = Cradle::new(containment) else { break };
            // It is a file, but nothing that can be executed.
            let spec = cradle.spec(Path::new("/etc/passwd"), &[], Teardown::Kill);
            let spec = Spec { cwd: Some("/dev/null".into()), ..spec };
            let tried = polled(most, Child::spawn(&spec, &cradle.nursery, cradle.seat())).await;
            let through = tried.is_some();
            assert!(tried.is_none_or(|tried| tried.is_err()));
            let rescued = cradle.so_far().rescued;
            assert_eq!(cradle.leave().await, Outcome { returned: 1, rescued });
            if through {
                break;
            }
        }
    }
}
