//! How many servers should stand by, and when the next may be started. Pure.
//!
//! Calls come at some rate and a start takes some time: as many as come within a start must stand by or be on their way,
//! and as many again, since they do not come evenly.

use std::time::{Duration, Instant};

/// How fast the past is forgotten: after this time it counts for a third.
const MEMORY: Duration = Duration::from_secs(10);
/// The wait after a first failure, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What was seen of calls and starts so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Calls per second, as of `at`.
    rate: f64,
    at: Instant,
    /// How long a start takes, in seconds: a moving average; 0: not known.
    start: f64,
    failures: u32,
    retry_at: Instant,
}

impl Pace {
    /// Nothing was seen yet.
    pub(super) const fn new(now: Instant) -> Self {
        Self { rate: 0.0, at: now, start: 0.0, failures: 0, retry_at: now }
    }

    /// So many calls came.
    pub(super) fn asked(&mut self, calls: u32, now: Instant) {
        self.rate = self.rate(now) + f64::from(calls) / MEMORY.as_secs_f64();
        self.at = now;
    }

    /// A start took so long.
    pub(super) fn started(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.start = if self.start > 0.0 { self.start * 0.75 + took * 0.25 } else { took };
    }

    /// A start failed, or what was started did not last.
    pub(super) fn failed(&mut self, now: Instant) {
        let (first, most) = BACKOFF;
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + wait;
    }

    /// What was started ahead was of use.
    pub(super) const fn served(&mut self) {
        self.failures = 0;
    }

    /// Failures since something was of use.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait with the next start.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.failures == 0 { Duration::ZERO } else { self.retry_at.saturating_duration_since(now) }
    }

    /// How long ago the wait after the last failure was over.
    pub(super) fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.retry_at)
    }

    /// How many should stand by, or be on their way.
    pub(super) fn target(&self, now: Instant, min: usize, max: usize) -> usize {
        let wish = (self.rate(now) * self.start * 2.0).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "neither negative nor large: clamped right here"
        )]
        let wish = wish.clamp(0.0, 1e6) as usize;
        wish.clamp(min, max)
    }

    fn rate(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.rate * (-passed / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls at an even rate for half a minute.
    fn busy(pace: &mut Pace, from: Instant, per_second: u32) -> Instant {
        let mut now = from;
        for _ in 0..30 * per_second {
            now += Duration::from_secs(1) / per_second;
            pace.asked(1, now);
        }
        now
    }

    #[test]
    fn as_many_stand_by_as_rate_and_start_ask_for_and_fewer_when_it_is_quiet_again() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        assert_eq!(pace.target(began, 1, 8), 1);
        pace.started(Duration::from_millis(500));
        let now = busy(&mut pace, began, 4);
        // 4 calls per second, half a second each: two on their way, and as many again.
        assert_eq!(pace.target(now, 1, 8), 4);
        assert_eq!(pace.target(now, 1, 3), 3);
        assert_eq!(pace.target(now + Duration::from_secs(10), 1, 8), 1);
        assert_eq!(pace.target(now + Duration::from_mins(1), 0, 8), 0);
    }

    #[test]
    fn a_quick_starter_needs_few_and_a_slow_one_many() {
        let began = Instant::now();
        for (start, expected) in [(5, 1), (100, 4), (2000, 16)] {
            let mut pace = Pace::new(began);
            pace.started(Duration::from_millis(start));
            let now = busy(&mut pace, began, 20);
            assert_eq!(pace.target(now, 1, 16), expected, "{start} ms");
        }
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often_until_it_is_of_use() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let waits: Vec<_> = (0..9)
            .map(|_| {
                pace.failed(now);
                pace.wait(now).as_millis()
            })
            .collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(pace.wait(now + Duration::from_secs(29)), Duration::from_secs(1));
        pace.served();
        assert_eq!((pace.wait(now), pace.failures()), (Duration::ZERO, 0));
    }
}
