//! The figures as a table for a terminal. Pure.

use super::plan::Load;
use super::report::Line;
use super::stats::{Spread, count};

/// Right of the target's name. All of them fit a line of 100 signs or so.
const HEADS: [&str; 10] =
    ["p50 ms", "low-high", "p90 ms", "p99 ms", "calls/s", "hits", "seat ms", "CPU own/all", "MiB", "errors"];

/// Where some heads stand.
const HITS: usize = 5;
const ERRORS: usize = 9;

const NOTE: &str = "\
CPU: milliseconds per call, of the gateway itself and with all below it. MiB:
most memory during the load, what earlier loads have left running included.
";

/// A part for each load, with one line for each target; columns of which nothing is known are left out.
pub(super) fn table(lines: &[Line]) -> String {
    let hits = lines.iter().any(|line| line.summary.standby_hits.is_some());
    let errors = lines.iter().any(|line| line.summary.errors > 0);
    let is_shown = |column: &usize| (*column != HITS || hits) && (*column != ERRORS || errors);
    let shown: Vec<usize> = (0..HEADS.len()).filter(is_shown).collect();
    let mut rows: Vec<(String, [String; 10])> = Vec::new();
    let mut load = None;
    for line in lines {
        if load != Some(line.load) {
            if load.is_some() {
                rows.push(Default::default());
            }
            rows.push((load_name(line.load), HEADS.map(ToOwned::to_owned)));
        }
        load = Some(line.load);
        rows.push((line.target.clone(), row(line)));
    }
    let size = |text: &String| text.chars().count();
    let name = rows.iter().map(|row| size(&row.0)).max().unwrap_or_default();
    let width = |column: usize| rows.iter().map(|row| size(&row.1[column])).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let written = rows.iter().map(|(target, cells)| {
        let cells =
            shown.iter().map(|&column| format!("  {:>width$}", cells[column], width = widths[column]));
        format!("{target:<name$}{}", cells.collect::<String>()).trim_end().to_owned() + "\n"
    });
    written.collect::<String>() + "\n" + NOTE
}

fn row(line: &Line) -> [String; 10] {
    let summary = &line.summary;
    let latency = summary.latency_ms.as_ref();
    let figure = |spread: Option<Spread>| spread.map_or_else(dash, |spread| short(spread.median));
    let p50 = latency.map(|latency| latency.p50);
    let processor = summary.gateway_cpu_ms_per_call.zip(summary.cpu_ms_per_call);
    [
        figure(p50),
        p50.map_or_else(dash, |p50| format!("{}-{}", short(p50.low), short(p50.high))),
        figure(latency.map(|latency| latency.p90)),
        figure(latency.map(|latency| latency.p99)),
        figure(summary.rate_per_s),
        hits(summary.standby_hits),
        summary.seat_ms.map_or_else(dash, short),
        processor.map_or_else(dash, |(own, all)| format!("{}/{}", short(own), short(all))),
        summary.memory_bytes.map_or_else(dash, |bytes| short(count(bytes) / 1_048_576.0)),
        summary.errors.to_string(),
    ]
}

/// For how many calls a process stood ready.
pub(super) fn hits(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.0} %", share * 100.0))
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

    fn line(target: &str, load: Load, rounds: &[Round]) -> Line {
        Line { target: target.into(), load, summary: summary(rounds, target == "prewarmed") }
    }

    fn cells(text: &str) -> Vec<Vec<&str>> {
        text.lines().map(|line| line.split_whitespace().collect()).collect()
    }

    fn good() -> Round {
        Round {
            samples: vec![Sample { latency: Duration::from_millis(2), standby: true, ..Sample::default() }],
            took: Duration::from_millis(10),
            cpu_ms: Some((1.0, 3.0)),
            memory: Some((1 << 20, 5 << 20)),
            ..Round::default()
        }
    }

    #[test]
    fn a_table_has_a_part_for_each_load_and_says_what_is_not_known() {
        let (eight, steady) = (Load::Closed { callers: 8 }, Load::Open { rate: 50.0 });
        let failed = Round { errors: 4, ..Round::default() };
        let lines = [
            line("prewarmed", eight, &[good()]),
            line("fresh", eight, &[good()]),
            line("bare", steady, &[failed]),
        ];
        let text = table(&lines);
        let found = cells(&text);
        let heads = "p50 ms low-high p90 ms p99 ms calls/s hits seat ms CPU own/all MiB errors";
        assert_eq!(found[0].join(" "), format!("8 callers {heads}"));
        assert_eq!(
            found[1].join(" "),
            "prewarmed 2.00 2.00-2.00 2.00 2.00 100 100 % - 1.00/3.00 5.00 0",
            "{text}"
        );
        assert_eq!(found[2].join(" "), "fresh 2.00 2.00-2.00 2.00 2.00 100 - - 1.00/3.00 5.00 0");
        assert!(found[3].is_empty());
        assert_eq!(found[4].join(" "), format!("50/s {heads}"));
        assert_eq!(found[5].join(" "), "bare - - - - - - - - - 4");
    }

    #[test]
    fn what_nothing_is_to_be_said_of_takes_no_room() {
        let text = table(&[line("fresh", Load::Closed { callers: 1 }, &[good()])]);
        assert!(!text.contains("hits") && !text.contains("errors"), "{text}");
    }

    #[test]
    fn a_table_of_long_figures_fits_a_terminal() {
        let slow = Sample { latency: Duration::from_millis(12_345), standby: true, ..Sample::default() };
        let slow = Round {
            samples: vec![slow; 1000],
            errors: 100_000,
            seats: vec![12_345.0],
            cpu_ms: Some((100_000.0, 2_000_000.0)),
            memory: Some((1 << 30, 1 << 33)),
            ..good()
        };
        let lines = ["bare, one per call", "prewarmed"]
            .map(|target| line(target, Load::Closed { callers: 1024 }, std::slice::from_ref(&slow)));
        let text = table(&lines);
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }
}
