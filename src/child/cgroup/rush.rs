//! Whether trees come so quickly one after the other that joining their cgroups is cheap.
//!
//! A process that joins a cgroup holds up every fork and exit of the machine for the moment. The kernel makes those pay
//! nothing for that as long as nobody joins, and lets the first who does wait instead, 10 to 20 ms, until all processors have
//! noticed; those who follow at once wait no more (`cgroup_threadgroup_rwsem`, a `percpu_rw_semaphore`; the mount option
//! `favordynmods` of `cgroups(7)`, version 2, is about it). To be born in a cgroup (`clone3(2)`) needs none of this, but a
//! fork, which costs more than `posix_spawn(3)`. So in a rush one joins; otherwise one is born there,
//! or, where that fails, forked, and joins by itself (`shim/start.rs`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How soon the next must come. The kernel forgets that somebody has joined after one grace period of RCU, which is some
/// ticks of its clock.
const SOON: Duration = Duration::from_millis(3);
/// How many in a row make a rush: the first to join in it pays for all who follow.
const ROW: u32 = 32;

/// How many have come in quick succession, and when the last one did.
#[derive(Debug, Default)]
pub(super) struct Rush(Mutex<Row>);

#[derive(Debug, Default)]
struct Row {
    length: u32,
    /// The last one came late. Once is no end yet: it may have waited for the first who joined.
    late: bool,
    last: Option<Instant>,
}

impl Rush {
    /// Another comes now: whether they are in a rush.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        // Nothing panics while holding it.
        let mut row = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = row.last.is_some_and(|last| now.saturating_duration_since(last) < SOON);
        let goes_on = soon || (row.length >= ROW && !row.late);
        *row = Row {
            length: if goes_on { row.length.saturating_add(u32::from(soon)) } else { 0 },
            late: !soon,
            last: Some(now),
        };
        row.length >= ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_in_quick_succession_are_a_rush_and_pauses_end_it() {
        let rush = Rush::default();
        let mut now = Instant::now();
        let mut next = |pause: Duration| {
            now += pause;
            rush.is_on(now)
        };
        let quick: Vec<bool> = (0..=ROW + 5).map(|_| next(SOON / 2)).collect();
        let begun = quick.iter().position(|on| *on);
        assert_eq!(begun, Some(ROW as usize));
        assert!(quick[ROW as usize..].iter().all(|on| *on));
        assert!(next(SOON) && next(SOON / 2), "the first who joins makes the next one late");
        assert!(next(SOON) && !next(SOON) && !next(SOON / 2));
    }
}
