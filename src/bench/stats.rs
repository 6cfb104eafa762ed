//! From single calls to the figures of a report. Pure.
//!
//! Each round is summed up by itself; what is reported is the median over the rounds, with the lowest and the highest
//! beside it, so that noise is seen and not averaged away. Times are in milliseconds, rates in calls per second.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The phases of a call that `Server-Timing` tells of, in their order.
pub(super) const PHASES: [&str; 4] = ["queue", "spawn", "open", "call"];

/// The percentiles that a distribution is drawn by.
const SHAPE: [f64; 12] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.9, 100.0];

/// One answered call.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// From when it was due, or begun, until its answer was read.
    pub(super) latency: Duration,
    /// How long a process was kept for it alone, where the caller itself saw the end of it.
    pub(super) seat: Option<Duration>,
    /// Milliseconds of each phase.
    pub(super) phases: [Option<f64>; 4],
    /// Whether a process that was started before had been waiting for it.
    pub(super) standby: bool,
}

/// What one round of one load brought.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    pub(super) samples: Vec<Sample>,
    /// How many calls each caller had answered, under a closed load.
    pub(super) by_caller: Vec<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// From the first call until everything was cleared away.
    pub(super) took: Duration,
    /// Milliseconds for which seats were taken, by the receipts that were read.
    pub(super) seats: Vec<f64>,
    /// Processor milliseconds of the target itself, and of it with all its descendants.
    pub(super) cpu_ms: Option<(f64, f64)>,
    /// Most bytes of memory seen: of the target itself, and of it with all its descendants.
    pub(super) memory: Option<(u64, u64)>,
}

impl Round {
    /// Whether any call met a process that was started before.
    pub(super) fn has_standby(&self) -> bool {
        self.samples.iter().any(|sample| sample.standby)
    }
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Latency {
    pub(super) p50: Spread,
    pub(super) p90: Spread,
    pub(super) p99: Spread,
    pub(super) max: f64,
    /// Percentile and milliseconds, over all rounds together.
    pub(super) distribution: Vec<(f64, f64)>,
}

/// All that is reported of one target under one load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) calls: u64,
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
    /// Nothing where no call was answered.
    pub(super) latency_ms: Option<Latency>,
    pub(super) rate_per_s: Option<Spread>,
    /// Calls of the caller that had fewest answered, over the mean of all callers: 1 is perfectly fair.
    pub(super) least_served: Option<Spread>,
    /// Mean milliseconds of each phase, in the order of [`PHASES`]; of those that any call told of. Means, for they add up
    /// to the mean time of a call in the gateway; medians do not, where some calls found a process ready and some none.
    pub(super) phases_ms: Vec<(&'static str, f64)>,
    /// The share of calls for which a process stood ready; nothing where none is started ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) standby_hits: Option<f64>,
    pub(super) seat_ms: Option<f64>,
    pub(super) gateway_cpu_ms_per_call: Option<f64>,
    pub(super) cpu_ms_per_call: Option<f64>,
    /// Most that was seen while this load ran, in all rounds. What other loads of the run have left running is in it.
    pub(super) gateway_memory_bytes: Option<u64>,
    /// The same with everything below it.
    pub(super) memory_bytes: Option<u64>,
    /// With everything below it, before any call. Not known from the rounds.
    pub(super) idle_memory_bytes: Option<u64>,
}

/// Sums up the rounds of one target under one load. `ahead`: whether it starts processes before they are asked for.
pub(super) fn summary(rounds: &[Round], ahead: bool) -> Summary {
    let answered = || rounds.iter().filter(|round| !round.samples.is_empty());
    let samples = || rounds.iter().flat_map(|round| &round.samples);
    let calls = samples().count() as u64;
    let rates = answered().map(|round| count(round.samples.len() as u64) / round.took.as_secs_f64());
    // A call that found a process ready tells of no start: that one took no time, or the few that did would stand for all.
    let timed = || samples().filter(|sample| sample.phases.iter().any(Option::is_some));
    let told =
        PHASES.iter().enumerate().filter(|(place, _)| timed().any(|sample| sample.phases[*place].is_some()));
    let phases = told.filter_map(|(place, name)| {
        Some((*name, mean(timed().map(|sample| sample.phases[place].unwrap_or_default()))?))
    });
    let seen = samples().filter_map(|sample| sample.seat).map(milliseconds);
    let per_call = |pick: fn((f64, f64)) -> f64| {
        median(answered().filter_map(|round| Some(pick(round.cpu_ms?) / count(round.samples.len() as u64))))
    };
    let standbys = mean(samples().map(|sample| f64::from(u8::from(sample.standby))));
    Summary {
        calls,
        errors: rounds.iter().map(|round| round.errors).sum(),
        first_error: rounds.iter().find_map(|round| round.first_error.clone()),
        latency_ms: latency(rounds),
        rate_per_s: spread(rates),
        least_served: spread(rounds.iter().filter_map(|round| least_served(&round.by_caller))),
        phases_ms: phases.collect(),
        standby_hits: standbys.filter(|_| ahead),
        seat_ms: median(rounds.iter().flat_map(|round| round.seats.iter().copied()).chain(seen)),
        gateway_cpu_ms_per_call: per_call(|(own, _)| own),
        cpu_ms_per_call: per_call(|(_, tree)| tree),
        gateway_memory_bytes: rounds.iter().filter_map(|round| Some(round.memory?.0)).max(),
        memory_bytes: rounds.iter().filter_map(|round| Some(round.memory?.1)).max(),
        idle_memory_bytes: None,
    }
}

/// Says nothing where there was nobody to be unfair to.
fn least_served(by_caller: &[u64]) -> Option<f64> {
    let all = by_caller.iter().sum::<u64>();
    let least = *by_caller.iter().min().filter(|_| by_caller.len() > 1 && all > 0)?;
    Some(count(least) * count(by_caller.len() as u64) / count(all))
}

fn latency(rounds: &[Round]) -> Option<Latency> {
    let each: Vec<Histogram<u64>> =
        rounds.iter().map(|round| histogram(&round.samples)).filter(|times| !times.is_empty()).collect();
    let mut all = histogram(&[]);
    for times in &each {
        all.add(times).expect("both grow as needed");
    }
    let over = |percentile: f64| spread(each.iter().map(|times| at(times, percentile)));
    Some(Latency {
        p50: over(50.0)?,
        p90: over(90.0)?,
        p99: over(99.0)?,
        max: at(&all, 100.0),
        distribution: SHAPE.iter().map(|percentile| (*percentile, at(&all, *percentile))).collect(),
    })
}

/// Nanoseconds, to three digits.
fn histogram(samples: &[Sample]) -> Histogram<u64> {
    let mut times = Histogram::new(3).expect("three digits are allowed");
    for sample in samples {
        let nanoseconds = u64::try_from(sample.latency.as_nanos()).unwrap_or(u64::MAX);
        times.record(nanoseconds).expect("it grows as needed");
    }
    times
}

fn at(times: &Histogram<u64>, percentile: f64) -> f64 {
    count(times.value_at_percentile(percentile)) / 1e6
}

fn spread(figures: impl Iterator<Item = f64>) -> Option<Spread> {
    let figures: Vec<f64> = figures.collect();
    Some(Spread {
        median: median(figures.iter().copied())?,
        low: figures.iter().copied().reduce(f64::min)?,
        high: figures.iter().copied().reduce(f64::max)?,
    })
}

/// The middle one, or the mean of the middle two.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = figures[(figures.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

fn mean(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, many) = figures.fold((0.0, 0), |(sum, many), figure| (sum + figure, many + 1));
    (many > 0).then(|| sum / count(many))
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(latencies: &[u64], took: u64) -> Round {
        let sample = |ms: &u64| Sample { latency: Duration::from_millis(*ms), ..Sample::default() };
        Round {
            samples: latencies.iter().map(sample).collect(),
            took: Duration::from_millis(took),
            ..Round::default()
        }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= right.abs() * 0.002
    }

    #[test]
    fn a_figure_is_the_median_over_the_rounds_with_its_spread() {
        let rounds = [round(&[1, 1, 1], 1000), round(&[9, 9], 1000), round(&[2, 2, 2, 2], 1000)];
        let summary = summary(&rounds, false);
        let p50 = summary.latency_ms.expect("there are calls").p50;
        assert!(near(p50.median, 2.0) && near(p50.low, 1.0) && near(p50.high, 9.0), "{p50:?}");
        let rate = summary.rate_per_s.expect("there are calls");
        assert_eq!((rate.median, rate.low, rate.high), (3.0, 2.0, 4.0));
        assert_eq!(summary.calls, 9);
    }

    #[test]
    fn percentiles_are_those_of_one_round_and_the_shape_that_of_all() {
        let hundred: Vec<u64> = (1..=100).collect();
        let latency = summary(&[round(&hundred, 1)], false).latency_ms.expect("there are calls");
        assert!(near(latency.p50.median, 50.0) && near(latency.p90.median, 90.0), "{latency:?}");
        assert!(near(latency.p99.median, 99.0) && near(latency.max, 100.0), "{latency:?}");
        assert_eq!(latency.distribution.len(), SHAPE.len());
        assert!(latency.distribution.is_sorted_by(|one, next| one.1 <= next.1));
    }

    #[test]
    fn without_an_answer_there_are_no_figures() {
        let failed =
            Round { errors: 2, first_error: Some("no".into()), cpu_ms: Some((1.0, 1.0)), ..round(&[], 5) };
        let summary = summary(&[failed], true);
        assert!(summary.latency_ms.is_none() && summary.rate_per_s.is_none());
        assert_eq!((summary.errors, summary.first_error.as_deref()), (2, Some("no")));
        assert_eq!((summary.cpu_ms_per_call, summary.standby_hits), (None, None));
    }

    #[test]
    fn processor_time_is_shared_among_the_calls_of_its_round() {
        let with = |calls: &[u64], cpu| Round { cpu_ms: Some(cpu), ..round(calls, 1) };
        let rounds = [with(&[1, 1], (2.0, 8.0)), with(&[1], (3.0, 9.0)), with(&[1], (2.0, 5.0))];
        let summary = summary(&rounds, false);
        assert_eq!(summary.gateway_cpu_ms_per_call, Some(2.0));
        assert_eq!(summary.cpu_ms_per_call, Some(5.0));
    }

    #[test]
    fn who_has_fewest_calls_is_compared_with_the_mean() {
        let least = |by_caller: &[u64]| {
            let round = Round { by_caller: by_caller.to_vec(), ..round(&[1], 1) };
            summary(&[round], false).least_served.map(|share| share.median)
        };
        assert_eq!(least(&[4, 4, 4]), Some(1.0));
        assert_eq!(least(&[2, 6, 4]), Some(0.5));
        assert_eq!([least(&[3]), least(&[]), least(&[0, 0])], [None; 3]);
    }

    #[test]
    fn phases_seats_and_standbys_are_taken_from_the_calls() {
        let mut one = round(&[1, 1], 1);
        one.samples[0].phases = [None, Some(4.0), None, Some(1.0)];
        one.samples[1].phases = [None, Some(6.0), None, None];
        one.samples[0].standby = true;
        one.samples[0].seat = Some(Duration::from_millis(7));
        let rounds = [Round { seats: vec![9.0], ..one }];
        let summary = super::summary(&rounds, true);
        assert_eq!(
            summary.phases_ms,
            [("spawn", 5.0), ("call", 0.5)],
            "one call took no time for the other phase"
        );
        assert_eq!((summary.standby_hits, summary.seat_ms), (Some(0.5), Some(8.0)));
        assert_eq!(super::summary(&rounds, false).standby_hits, None, "nothing is started ahead");
    }

    #[test]
    fn phases_add_up_to_what_a_call_takes_in_the_mean() {
        // One call of three had to wait for a start: in the median there is none, nor is there its time.
        let mut mixed = round(&[1, 1, 10], 1);
        for (sample, spawn) in mixed.samples.iter_mut().zip([0.0, 0.0, 9.0]) {
            sample.phases = [None, Some(spawn), None, Some(1.0)];
        }
        assert_eq!(summary(&[mixed], true).phases_ms, [("spawn", 3.0), ("call", 1.0)]);
    }
}
