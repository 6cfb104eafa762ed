//! The figures as a table for a terminal. Pure.

use super::plan::Load;
use super::report::Line;
use super::stats::Spread;

const HEADS: [&str; 10] = [
    "target",
    "load",
    "p50 ms",
    "low-high",
    "p90 ms",
    "p99 ms",
    "calls/s",
    "seat ms",
    "CPU ms/call",
    "errors",
];

/// One table for all loads, one line for each target under each load.
pub(super) fn table(lines: &[Line]) -> String {
    let mut rows = vec![HEADS.map(ToOwned::to_owned)];
    let mut load = None;
    for line in lines {
        if load.is_some() && load != Some(line.load) {
            rows.push(Default::default());
        }
        load = Some(line.load);
        rows.push(row(line));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let written = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    written.collect()
}

fn row(line: &Line) -> [String; 10] {
    let summary = &line.summary;
    let latency = summary.latency_ms.as_ref();
    let figure = |spread: Option<Spread>| spread.map_or_else(dash, |spread| short(spread.median));
    let number = |number: Option<f64>| number.map_or_else(dash, short);
    let p50 = latency.map(|latency| latency.p50);
    [
        line.target.clone(),
        load_name(line.load),
        figure(p50),
        p50.map_or_else(dash, |p50| format!("{}-{}", short(p50.low), short(p50.high))),
        figure(latency.map(|latency| latency.p90)),
        figure(latency.map(|latency| latency.p99)),
        figure(summary.rate_per_s),
        number(summary.seat_ms),
        number(summary.cpu_ms_per_call),
        summary.errors.to_string(),
    ]
}

/// `8 callers`, `50/s`.
pub(super) fn load_name(load: Load) -> String {
    match load {
        Load::Closed { callers: 1 } => "1 caller".to_owned(),
        Load::Closed { callers } => format!("{callers} callers"),
        Load::Open { rate } => format!("{rate}/s"),
    }
}

/// Three digits that count, no exponent.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    if size >= 99.95 {
        format!("{number:.0}")
    } else if size >= 9.995 {
        format!("{number:.1}")
    } else if size >= 0.9995 {
        format!("{number:.2}")
    } else {
        format!("{number:.3}")
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::stats::{Round, Sample, summary};

    #[test]
    fn numbers_have_three_digits_that_count() {
        let all = [0.01234, 0.99951, 9.994, 9.996, 99.96, 12345.6].map(short);
        assert_eq!(all, ["0.012", "1.00", "9.99", "10.0", "100", "12346"]);
    }

    #[test]
    fn a_table_has_a_line_for_each_target_and_load_and_says_what_is_not_known() {
        let sample = Sample { latency: Duration::from_millis(2), ..Sample::default() };
        let good = Round { samples: vec![sample], took: Duration::from_millis(10), ..Round::default() };
        let line = |target: &str, load, rounds: &[Round]| Line {
            target: target.into(),
            load,
            summary: summary(rounds),
        };
        let lines = [
            line("fresh", Load::Closed { callers: 8 }, &[good]),
            line("bare", Load::Open { rate: 50.0 }, &[]),
        ];
        let text = table(&lines);
        let found: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            found[1],
            ["fresh", "8", "callers", "2.00", "2.00-2.00", "2.00", "2.00", "100", "-", "-", "0"]
        );
        assert!(found[2].is_empty());
        assert_eq!(found[3], ["bare", "50/s", "-", "-", "-", "-", "-", "-", "-", "0"]);
    }
}
