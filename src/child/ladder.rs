//! How a tree is asked to leave, and where to begin next time.
//!
//! Some servers ignore the end of their stdin, and each would cost a grace period each time. So the rung that was
//! needed last time is where the next end begins; but for every sixteenth, which begins one rung lower: what was needed
//! once, on a busy machine perhaps, need not be needed for ever. Only ends of healthy calls teach: a server that was
//! interrupted in the middle of its work may well need force that it does not need otherwise.

use std::sync::atomic::{AtomicU8, Ordering};

use super::spec::Teardown;
use crate::exchange::Rung;

/// Every how many ends one begins a rung lower than is remembered.
const GENTLY: u8 = 16;

/// The ladder of one configured server, with its memory.
#[derive(Debug)]
pub(crate) struct Ladder {
    teardown: Teardown,
    first: AtomicU8,
    ends: AtomicU8,
}

/// Whether an end may teach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// It was idle: what it needs now it will need again.
    Learn,
    /// It was interrupted.
    Ignore,
}

impl Ladder {
    /// A ladder that remembers nothing yet.
    pub(crate) const fn new(teardown: Teardown) -> Self {
        Self { teardown, first: AtomicU8::new(0), ends: AtomicU8::new(0) }
    }

    /// How trees are ended.
    pub(super) const fn teardown(&self) -> Teardown {
        self.teardown
    }

    /// The rung to begin with.
    pub(super) fn first(&self) -> Rung {
        let gently = self.ends.fetch_add(1, Ordering::Relaxed) % GENTLY == GENTLY - 1;
        match (self.teardown, self.first.load(Ordering::Relaxed).saturating_sub(u8::from(gently))) {
            (Teardown::Kill, _) | (_, 2) => Rung::Kill,
            (_, 1) => Rung::Term,
            _ => Rung::Eof,
        }
    }

    /// What was needed this time.
    pub(super) fn remember(&self, rung: Rung, lesson: Lesson) {
        let first = match (rung, lesson) {
            (Rung::Already, _) | (_, Lesson::Ignore) => return,
            (Rung::Eof, Lesson::Learn) => 0,
            (Rung::Term, Lesson::Learn) => 1,
            (Rung::Kill, Lesson::Learn) => 2,
        };
        self.first.store(first, Ordering::Relaxed);
    }
}

/// A goodbye that has been said does not end the wait for the exit.
pub(super) async fn goodbye_then_silence(goodbye: impl Future<Output = ()>) {
    goodbye.await;
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_that_was_needed_is_the_first_next_time() {
        let ladder = Ladder::new(Teardown::default());
        assert_eq!(ladder.first(), Rung::Eof);
        for rung in [Rung::Term, Rung::Kill, Rung::Eof] {
            ladder.remember(rung, Lesson::Learn);
            assert_eq!(ladder.first(), rung);
        }
    }

    #[test]
    fn now_and_then_less_is_tried() {
        let ladder = Ladder::new(Teardown::default());
        ladder.remember(Rung::Kill, Lesson::Learn);
        let rungs: Vec<Rung> = (0..32).map(|_| ladder.first()).collect();
        assert_eq!(rungs.iter().filter(|rung| **rung == Rung::Term).count(), 2);
        assert_eq!(Ladder::new(Teardown::Kill).first(), Rung::Kill);
    }

    #[test]
    fn an_interrupted_server_and_one_that_left_by_itself_teach_nothing() {
        let ladder = Ladder::new(Teardown::default());
        ladder.remember(Rung::Kill, Lesson::Ignore);
        ladder.remember(Rung::Already, Lesson::Learn);
        assert_eq!(ladder.first(), Rung::Eof);
        assert_eq!(Ladder::new(Teardown::Kill).first(), Rung::Kill);
    }
}
