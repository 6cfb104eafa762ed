//! What is measured, and in which order. Pure.
//!
//! ```text
//! round 1:  load A on target 1, 2, 3   load B on target 1, 2, 3
//! round 2:  load A on target 2, 3, 1   load B on target 2, 3, 1      so that noise, and whoever came before, hit all alike
//! ```

use std::time::Duration;

/// How calls arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Load {
    /// So many callers, each asking again as soon as it has its answer.
    Closed { callers: u32 },
    /// So many calls per second, whether or not the earlier ones are answered.
    Open { rate: f64 },
}

/// One measurement of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    /// Its place among the targets.
    pub(super) target: usize,
    /// Its place among the loads.
    pub(super) load: usize,
}

/// The loads of a run: the closed ones first.
pub(super) fn loads(callers: &[u32], rates: &[f64]) -> Vec<Load> {
    let closed = callers.iter().map(|callers| Load::Closed { callers: *callers });
    closed.chain(rates.iter().map(|rate| Load::Open { rate: *rate })).collect()
}

/// Every cell of a run in its order: all targets under one load before the next load, each round beginning with
/// another target.
pub(super) fn cells(rounds: u32, loads: usize, targets: usize) -> Vec<Cell> {
    let turn = |round: usize, place: usize| (round + place) % targets.max(1);
    let round = |round: usize| {
        (0..loads)
            .flat_map(move |load| (0..targets).map(move |place| Cell { target: turn(round, place), load }))
    };
    (0..rounds as usize).flat_map(round).collect()
}

/// When the calls of an open load are due, counted from its start: evenly spread, at least one.
pub(super) fn schedule(rate: f64, time: Duration) -> Vec<Duration> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of calls that fit into the time"
    )]
    let calls = ((rate * time.as_secs_f64()).floor() as u32).max(1);
    (0..calls).map(|call| Duration::from_secs_f64(f64::from(call) / rate)).collect()
}

/// About how long it takes to measure everything, where a lone call to each of the targets takes so long. Each caller
/// finishes the call that it is in, and on so few processors slow calls of many callers take turns.
pub(super) fn estimate(
    loads: &[Load],
    rounds: u32,
    time: Duration,
    alone: &[Duration],
    cpus: u32,
) -> Duration {
    let turns = |calls: u32, alone: Duration| alone.max(alone * calls / cpus.max(1));
    let cell = |load: &Load, alone: Duration| match *load {
        Load::Closed { callers } => time + turns(callers, alone),
        Load::Open { rate } => {
            let calls = u32::try_from(schedule(rate, time).len()).unwrap_or(u32::MAX);
            time.max(turns(calls, alone)) + alone
        }
    };
    let round: Duration = alone.iter().flat_map(|alone| loads.iter().map(|load| cell(load, *alone))).sum();
    round * rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_measures_everything_and_begins_with_another_target() {
        let order: Vec<_> = cells(2, 2, 3).iter().map(|cell| (cell.load, cell.target)).collect();
        let first = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        let second = [(0, 1), (0, 2), (0, 0), (1, 1), (1, 2), (1, 0)];
        assert_eq!(order, [first, second].concat());
        assert!(cells(3, 2, 0).is_empty());
    }

    #[test]
    fn slow_calls_of_many_callers_make_a_run_longer_than_its_time() {
        let ms = Duration::from_millis;
        let loads = loads(&[1, 32], &[50.0]);
        assert_eq!(estimate(&loads, 3, ms(400), &[ms(0); 6], 2), ms(3 * 3 * 6 * 400));
        let slow = ms(400 + 100) + ms(400 + 16 * 100) + ms(20 / 2 * 100 + 100);
        assert_eq!(estimate(&loads, 3, ms(400), &[ms(100)], 2), 3 * slow);
        assert_eq!(estimate(&loads, 3, ms(400), &[], 2), ms(0));
    }

    #[test]
    fn closed_loads_come_before_open_ones() {
        let expected = [Load::Closed { callers: 1 }, Load::Closed { callers: 8 }, Load::Open { rate: 50.0 }];
        assert_eq!(loads(&[1, 8], &[50.0]), expected);
    }

    #[test]
    fn an_open_load_is_spread_evenly_and_never_empty() {
        let ms = Duration::from_millis;
        assert_eq!(schedule(10.0, ms(300)), [ms(0), ms(100), ms(200)]);
        assert_eq!(schedule(0.5, ms(300)), [ms(0)]);
    }
}
