//! One HTML page with the charts and all figures, in need of no other file. Pure.

use std::fmt::Write as _;

use super::plot::Chart;
use super::report::{Line, Report};
use super::stats::{Spread, count};
use super::table::{hits, load_name, short};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em;color:#222}\
    h1{margin-bottom:.2em}h2{margin:2em 0 .3em;font-size:1.15em}svg{max-width:860px;width:100%;height:auto}\
    .wide{overflow-x:auto}\
    table{border-collapse:collapse;font-size:.78em;white-space:nowrap}td,th{padding:.25em .4em;text-align:right;\
    border-bottom:1px solid #ddd}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}\
    tr.first td{border-top:2px solid #888}code{background:#f3f3f3;padding:.1em .3em;overflow-wrap:anywhere}";

const HEADS: [&str; 14] = [
    "target",
    "load",
    "calls",
    "errors",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "calls/s",
    "standby hits",
    "seat ms",
    "own CPU ms",
    "all CPU ms",
    "memory MiB",
    "least served",
];

/// The whole page.
pub(super) fn page(report: &Report, charts: &[Chart]) -> String {
    let about = &report.about;
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Spawnling: what a call costs</title>\
         <style>{STYLE}</style><h1>What a call costs</h1>\
         <p>Spawnling {} on {} processors, Linux {}. Tool <code>{}</code> of <code>{}</code>; {} interleaved rounds of \
         {} ms for each load, {} seats. Repeat it with <code>{}</code></p>",
        about.version,
        about.cpus,
        escaped(&about.kernel),
        escaped(&about.tool),
        escaped(&about.server),
        about.rounds,
        short(about.time_ms),
        about.seats,
        escaped(&about.command),
    );
    for Chart { title, svg, .. } in charts {
        let _ = write!(page, "<h2>{}</h2>{svg}", escaped(title));
    }
    page += "<h2>All figures</h2><p>Medians over the rounds, with the lowest and the highest in parentheses. <em>seat</em>: \
             how long a call kept its process, the end of it included. Processor time is per call: of the gateway \
             itself, and with everything below it. <em>memory</em>: most while the load ran, what earlier loads of the run \
             have left running included. <em>least served</em>: what the caller with the fewest answers had, as a part of \
             the mean. The phases in the chart are means, which add up.</p><div class=\"wide\"><table><tr>";
    page.extend(HEADS.map(|head| format!("<th>{head}</th>")));
    page += "</tr>";
    let mut load = None;
    for line in &report.lines {
        let class = if load == Some(line.load) { "" } else { " class=\"first\"" };
        load = Some(line.load);
        let _ = write!(page, "<tr{class}>");
        page.extend(row(line).map(|cell| format!("<td>{}</td>", escaped(&cell))));
        page += "</tr>";
    }
    page += "</table></div>";
    for (strategy, reason) in &report.refused {
        let _ = write!(page, "<p>Not measured: <b>{}</b>: {}</p>", escaped(strategy), escaped(reason));
    }
    page + "</html>\n"
}

fn row(line: &Line) -> [String; 14] {
    let summary = &line.summary;
    let latency = summary.latency_ms.as_ref();
    let spread = |spread: Option<Spread>| {
        spread.map_or_else(dash, |spread| {
            format!("{} ({}-{})", short(spread.median), short(spread.low), short(spread.high))
        })
    };
    let number = |number: Option<f64>| number.map_or_else(dash, short);
    let memory = summary.memory_bytes.map(|bytes| count(bytes) / 1_048_576.0);
    [
        line.target.clone(),
        load_name(line.load),
        summary.calls.to_string(),
        summary.errors.to_string(),
        spread(latency.map(|latency| latency.p50)),
        spread(latency.map(|latency| latency.p90)),
        spread(latency.map(|latency| latency.p99)),
        spread(summary.rate_per_s),
        hits(summary.standby_hits),
        number(summary.seat_ms),
        number(summary.gateway_cpu_ms_per_call),
        number(summary.cpu_ms_per_call),
        number(memory),
        summary.least_served.map_or_else(dash, |share| short(share.median)),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_written_is_text_on_the_page() {
        assert_eq!(escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
    }
}
