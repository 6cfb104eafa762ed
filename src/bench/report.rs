//! The figures of a run as one value, for JSON and for everything that is drawn. Pure.

use serde::Serialize;

use super::plan::Load;
use super::stats::Summary;

/// A whole run.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) about: About,
    pub(super) lines: Vec<Line>,
    /// Strategies that were not measured, each with the gateway's reason.
    pub(super) refused: Vec<(String, String)>,
}

/// What was run where.
#[derive(Debug, Clone, Serialize)]
pub(super) struct About {
    pub(super) version: &'static str,
    pub(super) cpus: usize,
    pub(super) kernel: String,
    pub(super) server: String,
    pub(super) tool: String,
    pub(super) rounds: u32,
    /// Of one load in one round.
    pub(super) time_ms: f64,
    pub(super) seats: u32,
    /// How to repeat it.
    pub(super) command: String,
}

/// One target under one load.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) target: String,
    pub(super) load: Load,
    pub(super) summary: Summary,
}

#[derive(Serialize)]
struct LineShown<'a> {
    target: &'a str,
    load: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    callers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Report {
    /// `{"about":{...},"results":[{"target","load","callers"|"rate",...}],"refused":[{"strategy","reason"}]}`
    pub(super) fn json(&self) -> String {
        let lines: Vec<LineShown<'_>> = self.lines.iter().map(LineShown::of).collect();
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|(strategy, reason)| serde_json::json!({ "strategy": strategy, "reason": reason }))
            .collect();
        let whole = serde_json::json!({ "about": self.about, "results": lines, "refused": refused });
        serde_json::to_string_pretty(&whole).expect("numbers and texts are always JSON")
    }

    /// The names of the targets, in the order of the first load.
    pub(super) fn targets(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !names.contains(&line.target.as_str()) {
                names.push(&line.target);
            }
        }
        names
    }

    /// The lines of closed loads with the fewest callers: a single one, unless none was asked for.
    pub(super) fn calmest(&self) -> Vec<&Line> {
        let callers =
            |line: &Line| if let Load::Closed { callers } = line.load { Some(callers) } else { None };
        let fewest = self.lines.iter().filter_map(callers).min();
        self.lines.iter().filter(|line| fewest.is_some() && callers(line) == fewest).collect()
    }
}

impl<'a> LineShown<'a> {
    fn of(line: &'a Line) -> Self {
        let (load, callers, rate) = match line.load {
            Load::Closed { callers } => ("closed", Some(callers), None),
            Load::Open { rate } => ("open", None, Some(rate)),
        };
        Self { target: &line.target, load, callers, rate, summary: &line.summary }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::stats::summary;

    /// A run of which nothing is told.
    pub(in crate::bench) fn about() -> About {
        About {
            version: "0",
            cpus: 2,
            kernel: String::new(),
            server: String::new(),
            tool: String::new(),
            rounds: 1,
            time_ms: 1.0,
            seats: 1,
            command: String::new(),
        }
    }

    #[test]
    fn the_calmest_load_is_that_of_the_fewest_callers() {
        let line = |target: &str, load| Line { target: target.into(), load, summary: summary(&[], false) };
        let loads = [Load::Closed { callers: 8 }, Load::Closed { callers: 1 }, Load::Open { rate: 1.0 }];
        let about = about();
        let lines = loads.iter().flat_map(|load| ["a", "b"].map(|name| line(name, *load))).collect();
        let report = Report { about, lines, refused: vec![("pooled".into(), "not yet".into())] };
        assert_eq!(report.targets(), ["a", "b"]);
        let calm: Vec<_> = report.calmest().iter().map(|line| (line.target.as_str(), line.load)).collect();
        assert_eq!(calm, [("a", loads[1]), ("b", loads[1])]);
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("it is JSON");
        assert_eq!(json["results"][4]["rate"], 1.0);
        assert_eq!(json["refused"][0]["strategy"], "pooled");
    }
}
