//! The charts of a report, as SVG: latency distribution, latency against callers, phases, processor time, memory.
//!
//! A target has one colour in all charts; above each chart, where it covers no line, stands what its colours mean, so that
//! a chart can be shown alone. Latencies are
//! on a logarithmic scale, as the floor and a slow starter are orders of magnitude apart; bars begin at zero.

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::plan::Load;
use super::report::{Line, Report};
use super::stats::{PHASES, count};
use super::table::{load_name, short};

/// Told apart by people who are colour-blind, too (Okabe and Ito, but a yellow that is seen on white); greys last.
const COLOURS: [RGBColor; 10] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(120, 94, 40),
    RGBColor(40, 40, 40),
    RGBColor(200, 190, 30),
    RGBColor(150, 150, 150),
];

const SIZE: (u32, u32) = (860, 380);
const TEXT: (&str, u32) = ("sans-serif", 14);

/// One picture.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// Of its file, without the ending.
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) svg: String,
}

/// All charts that there are figures for.
pub(super) fn charts(report: &Report) -> Result<Vec<Chart>> {
    let calm = report.calmest();
    let load = calm.first().map(|line| load_name(line.load)).unwrap_or_default();
    let mut all = Vec::new();
    if let Some(svg) = distribution(report, &calm)? {
        all.push(Chart { name: "distribution", title: format!("Latency distribution, {load}"), svg });
    }
    if let Some(svg) = by_callers(report)? {
        all.push(Chart { name: "callers", title: "Median latency by number of callers".into(), svg });
    }
    all.extend(bar_charts(report, &calm, &load)?);
    Ok(all)
}

/// What is best seen as parts of a whole: of one load; memory, of the whole run.
fn bar_charts(report: &Report, calm: &[&Line], load: &str) -> Result<Vec<Chart>> {
    let mut all = Vec::new();
    let phases = rows(calm, |line| {
        let of =
            |name: &str| line.summary.phases_ms.iter().find(|(phase, _)| *phase == name).map(|phase| phase.1);
        PHASES
            .iter()
            .any(|name| of(name).is_some())
            .then(|| PHASES.map(|name| of(name).unwrap_or_default()).to_vec())
    });
    let cpu = rows(calm, |line| {
        let own = line.summary.gateway_cpu_ms_per_call?;
        Some(vec![own, (line.summary.cpu_ms_per_call? - own).max(0.0)])
    });
    // A load finds in memory what the loads before it have left there, so what one alone needs is not known.
    let memory = rows(&fullest(report), |line| {
        let own = line.summary.gateway_memory_bytes?;
        let tree = line.summary.memory_bytes?.saturating_sub(own);
        Some(vec![count(own) / 1_048_576.0, count(tree) / 1_048_576.0])
    });
    for (name, title, unit, parts, rows) in [
        (
            "phases",
            format!("Where the time of a call goes, {load}"),
            "milliseconds, mean of each phase",
            &PHASES[..],
            phases,
        ),
        (
            "cpu",
            format!("Processor time per call, {load}"),
            "milliseconds per call",
            &["the process itself", "all below it"],
            cpu,
        ),
        (
            "memory",
            "Most memory in use in the whole run, of all loads".into(),
            "MiB, shared pages counted once",
            &["the process itself", "all below it"],
            memory,
        ),
    ] {
        if let Some(svg) = bars(unit, parts, &rows)? {
            all.push(Chart { name, title, svg });
        }
    }
    Ok(all)
}

/// Of each target the line under which it took most memory.
fn fullest(report: &Report) -> Vec<&Line> {
    let of = |name| report.lines.iter().filter(move |line| line.target == name);
    let most = |name| of(name).max_by_key(|line| line.summary.memory_bytes);
    report.targets().into_iter().filter_map(most).collect()
}

/// The colour of the target, or part, at a place.
const fn colour(place: usize) -> RGBColor {
    COLOURS[place % COLOURS.len()]
}

/// Where each name of a legend stands, and how high all of them are: in lines, each as full as it can be. How wide a
/// name is depends on the fonts of whoever looks at it; this is more than common ones need.
fn spread_out(names: &[&str], left: i32) -> (Vec<(i32, i32)>, u32) {
    const LINE: i32 = 22;
    let (mut across, mut down, mut places) = (left, 10, Vec::new());
    for name in names {
        let width = 34 + 8 * i32::try_from(name.chars().count()).unwrap_or(i32::MAX / 16);
        if across > left && across + width > SIZE.0.cast_signed() {
            (across, down) = (left, down + LINE);
        }
        places.push((across, down));
        across += width;
    }
    (places, (down + LINE).unsigned_abs())
}

fn legend(area: &DrawingArea<SVGBackend<'_>, Shift>, entries: &[(usize, &str)], left: i32) -> Result<u32> {
    let names: Vec<&str> = entries.iter().map(|entry| entry.1).collect();
    let (places, height) = spread_out(&names, left);
    let text = TEXT.into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Top));
    for ((place, name), (across, down)) in entries.iter().zip(places) {
        let field = [(across, down), (across + 12, down + 12)];
        area.draw(&Rectangle::new(field, colour(*place).filled()))?;
        area.draw(&Text::new((*name).to_owned(), (across + 18, down), text.clone()))?;
    }
    Ok(height)
}

type Row = (String, Vec<f64>);

fn rows(lines: &[&Line], figures: impl Fn(&Line) -> Option<Vec<f64>>) -> Vec<Row> {
    lines.iter().filter_map(|line| Some((line.target.clone(), figures(line)?))).collect()
}

/// A line per target: its colour's place, its name, and its points.
type Series<'a> = Vec<(usize, &'a str, Vec<(f64, f64)>)>;

fn distribution(report: &Report, calm: &[&Line]) -> Result<Option<String>> {
    // Each nine is as wide as the one before: 50 % at 0.3, 90 % at 1, 99 % at 2.
    let place = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let series = series(report, |name| {
        let line = calm.iter().find(|line| line.target == name)?;
        let shape = &line.summary.latency_ms.as_ref()?.distribution;
        Some(shape.iter().filter(|point| point.0 < 100.0).map(|point| (place(point.0), point.1)).collect())
    });
    let ticks = [(place(50.0), "50"), (place(90.0), "90"), (place(99.0), "99"), (place(99.9), "99.9")];
    let ticks: Vec<_> = ticks.map(|(at, text)| (at, text.to_owned())).into();
    lines(&series, "percentile of calls", "latency, milliseconds", &ticks)
}

fn by_callers(report: &Report) -> Result<Option<String>> {
    let point = |line: &Line| match (line.load, &line.summary.latency_ms) {
        (Load::Closed { callers }, Some(latency)) => Some((f64::from(callers).log2(), latency.p50.median)),
        _ => None,
    };
    let series = series(report, |name| {
        let of = report.lines.iter().filter(|line| line.target == name).filter_map(point);
        let mut points: Vec<_> = of.collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        (points.len() > 1).then_some(points)
    });
    let mut ticks: Vec<(f64, String)> = series
        .iter()
        .flat_map(|(_, _, points)| points)
        .map(|point| (point.0, format!("{:.0}", point.0.exp2())))
        .collect();
    ticks.sort_by(|one, other| one.0.total_cmp(&other.0));
    ticks.dedup_by(|one, other| one.1 == other.1);
    lines(&series, "callers at once", "median latency, milliseconds", &ticks)
}

fn series(report: &Report, points: impl Fn(&str) -> Option<Vec<(f64, f64)>>) -> Series<'_> {
    let targets = report.targets().into_iter().enumerate();
    targets.filter_map(|(place, name)| Some((place, name, points(name)?))).collect()
}

/// Lines over a logarithmic height.
fn lines(series: &Series<'_>, across: &str, up: &str, ticks: &[(f64, String)]) -> Result<Option<String>> {
    let points = || series.iter().flat_map(|(_, _, points)| points);
    let bound = |pick: fn(f64, f64) -> f64, of: fn(&(f64, f64)) -> f64| points().map(of).reduce(pick);
    let (Some(left), Some(right), Some(low), Some(high)) = (
        bound(f64::min, |point| point.0),
        bound(f64::max, |point| point.0),
        bound(f64::min, |point| point.1),
        bound(f64::max, |point| point.1),
    ) else {
        return Ok(None);
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let names: Vec<_> = series.iter().map(|(place, name, _)| (*place, *name)).collect();
        let top = legend(&area, &names, 94)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(18)
            .margin_top(top)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(
                left..right.max(left + 0.1),
                (low.max(1e-4) * 0.7..high.max(1e-4) * 1.4).log_scale(),
            )?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_labels(0)
            .y_labels(6)
            .y_label_formatter(&|ms| plain(*ms))
            .x_desc(across)
            .y_desc(up)
            .label_style(TEXT)
            .axis_desc_style(TEXT)
            .draw()?;
        // Ticks where the figures are, which are not where even steps would be.
        let style = TEXT.into_font().color(&BLACK.mix(0.8)).pos(Pos::new(HPos::Center, VPos::Top));
        for (at, text) in ticks.iter().filter(|tick| (left..=right).contains(&tick.0)) {
            let (x, y) = chart.backend_coord(&(*at, low.max(1e-4) * 0.7));
            area.draw(&Text::new(text.clone(), (x, y + 7), style.clone()))?;
            area.draw(&PathElement::new(vec![(x, y), (x, y + 5)], BLACK.mix(0.6)))?;
        }
        for (place, _, points) in series {
            let colour = colour(*place);
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// One bar for each row, of as many parts as it has figures.
fn bars(unit: &str, parts: &[&str], rows: &[Row]) -> Result<Option<String>> {
    let total = |row: &Row| row.1.iter().sum::<f64>();
    let Some(longest) = rows.iter().map(total).reduce(f64::max).filter(|longest| *longest > 0.0) else {
        return Ok(None);
    };
    let height = 96 + 34 * u32::try_from(rows.len())?;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let parts: Vec<_> = parts.iter().copied().enumerate().collect();
        let top = legend(&area, &parts, 164)?;
        let bottom = count(rows.len() as u64);
        // Upside down, so that the first row is on top; room at the right for the figures.
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .margin_top(top)
            .x_label_area_size(48)
            .y_label_area_size(150)
            .build_cartesian_2d(0.0..longest * 1.12, bottom..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.12))
            .x_labels(6)
            .x_label_formatter(&|figure| plain(*figure))
            .x_desc(unit)
            .label_style(TEXT)
            .axis_desc_style(TEXT)
            .draw()?;
        for (place, row) in rows.iter().enumerate() {
            let (top, low) = (count(place as u64) + 0.18, count(place as u64) + 0.82);
            let mut from = 0.0;
            for (part, figure) in row.1.iter().enumerate() {
                let field = [(from, top), (from + figure, low)];
                chart.draw_series([Rectangle::new(field, colour(part).filled())])?;
                from += figure;
            }
            let (zero, middle) = chart.backend_coord(&(0.0, count(place as u64) + 0.5));
            let (end, _) = chart.backend_coord(&(from, 0.0));
            let text = |side| TEXT.into_font().color(&BLACK).pos(Pos::new(side, VPos::Center));
            area.draw(&Text::new(row.0.clone(), (zero - 8, middle), text(HPos::Right)))?;
            area.draw(&Text::new(short(total(row)), (end + 6, middle), text(HPos::Left)))?;
        }
        area.present()?;
    }
    Ok(Some(svg))
}

/// A round number, as it is on an axis.
fn plain(number: f64) -> String {
    let text = short(number);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::report::tests::about;
    use crate::bench::stats::{Round, Sample, summary};

    fn report(rounds: &[Round]) -> Report {
        let about = about();
        let line = |callers| Line {
            target: "fresh".into(),
            load: Load::Closed { callers },
            summary: summary(rounds, false),
        };
        Report { about, lines: vec![line(1), line(8)], refused: Vec::new() }
    }

    #[test]
    fn there_is_a_chart_for_everything_that_was_measured_and_it_says_its_unit() {
        let sample = |ms| Sample {
            latency: Duration::from_millis(ms),
            phases: [Some(0.1), Some(1.0), None, Some(2.0)],
            ..Sample::default()
        };
        let round = Round {
            samples: (1..50).map(sample).collect(),
            took: Duration::from_secs(1),
            cpu_ms: Some((100.0, 300.0)),
            memory: Some((1 << 20, 3 << 20)),
            ..Round::default()
        };
        let charts = charts(&report(&[round])).expect("they can be drawn");
        let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(names, ["distribution", "callers", "phases", "cpu", "memory"]);
        for (chart, unit) in
            charts.iter().zip(["percentile", "callers at once", "milliseconds", "per call", "MiB"])
        {
            assert!(chart.svg.starts_with("<svg") && chart.svg.contains(unit), "{}", chart.svg);
        }
        assert!(charts[4].svg.contains("fresh") && charts[4].svg.contains("3.00"), "{}", charts[4].svg);
    }

    #[test]
    fn memory_is_that_of_the_whole_run_whatever_the_load() {
        let round = |mib: u64| Round { memory: Some((1 << 20, mib << 20)), ..Round::default() };
        let line = |callers, mib| Line {
            target: "pooled".into(),
            load: Load::Closed { callers },
            summary: summary(&[round(mib)], false),
        };
        let report = Report { about: about(), lines: vec![line(1, 3), line(32, 7)], refused: Vec::new() };
        let charts = charts(&report).expect("they can be drawn");
        let memory = charts.iter().find(|chart| chart.name == "memory").expect("memory was seen");
        assert!(memory.svg.contains("7.00") && memory.title.contains("whole run"), "{memory:?}");
    }

    #[test]
    fn a_legend_takes_as_many_lines_as_its_names_need() {
        let (places, height) = spread_out(&["fresh", "shared"], 94);
        assert_eq!((places[0], places[1].1), ((94, 10), 10));
        assert!(places[1].0 > places[0].0);
        let (many, higher) = spread_out(&["as long a name as they come"; 10], 94);
        assert!(higher > height && many.iter().all(|place| place.0 < SIZE.0.cast_signed()), "{many:?}");
    }

    #[test]
    fn numbers_on_an_axis_have_no_zeros_behind() {
        assert_eq!([0.0, 0.1, 2.5, 10.0, 100.0].map(plain), ["0", "0.1", "2.5", "10", "100"]);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(charts(&report(&[])).expect("nothing can go wrong").is_empty());
    }
}
