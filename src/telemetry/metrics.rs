//! Every metric, as typed handles: what is counted has a method, and what goes on has a guard.
//!
//! ```text
//!   Metrics --server("demo")--> OfServer    in the hands of call and its doors
//!           --children()-----> Level        what goes up and down: enter() gives a guard that leaves when it is dropped
//!           --rescued()------> Count        what only goes up
//!           --text()         ------>        everything, for Prometheus
//! ```
//!
//! Labels are names that were configured and words of ours, so their number is bounded; nothing that a caller or a server
//! wrote ever becomes one. A handle that belongs to nobody (`default()`) counts for nobody.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The kind of text that [`Metrics::text`] writes: <https://github.com/prometheus/OpenMetrics>, version 1.0.0.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper bounds of the buckets of times, in seconds: from a standby's call to the longest that people wait.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Something that only grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Counter);

impl Count {
    /// One more.
    pub(crate) fn one_more(&self) {
        self.0.inc();
    }

    /// How many by now.
    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How many of something there are at the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Level(Gauge);

impl Level {
    /// One more, until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlight {
        self.0.inc();
        InFlight(self.0.clone())
    }
}

/// One of those that there are at the moment.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByServer {
    server: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    server: Arc<str>,
    strategy: &'static str,
    outcome: &'static str,
    fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPhase {
    server: Arc<str>,
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRung {
    server: Arc<str>,
    rung: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLuck {
    server: Arc<str>,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFate {
    result: &'static str,
}

/// Spans that were to be handed to a collector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans(Family<ByFate, Counter>);

impl Spans {
    /// So many more that were `sent`, `failed` on the way, or were `dropped` before.
    pub(crate) fn count(&self, result: &'static str, number: usize) {
        self.0.get_or_create(&ByFate { result }).inc_by(number as u64);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    status: u16,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

fn times<L: Clone + Eq + Hash>() -> Times<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// All of them. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Families,
    seats_overall: Gauge,
    children: Level,
    connections: Level,
    responses: Family<ByStatus, Counter>,
    rescued: Count,
    wardens: Count,
    spans: Spans,
}

/// Those that each server has.
#[derive(Debug, Clone)]
struct Families {
    calls: Family<ByOutcome, Counter>,
    phases: Times<ByPhase>,
    ends: Times<ByRung>,
    standby: Family<ByLuck, Counter>,
    standing_by: Family<ByServer, Gauge>,
    running: Family<ByServer, Gauge>,
    seats: Family<ByServer, Gauge>,
    taken: Family<ByServer, Gauge>,
    queue: Family<ByServer, Gauge>,
    /// Who counts, by name.
    book: Arc<Mutex<HashMap<Arc<str>, Entry>>>,
}

/// What there is of one name.
#[derive(Debug, Default)]
struct Entry {
    /// How many servers have it: while one follows another there are two.
    holders: usize,
    /// What was counted of it so far, each once: a family does not tell.
    series: Vec<Labels>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Labels {
    Calls(ByOutcome),
    Phases(ByPhase),
    Ends(ByRung),
    Standby(ByLuck),
    StandingBy(ByServer),
}

impl Families {
    fn book(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that something is counted of a name; `false`: nothing is any more.
    fn note(&self, name: &Arc<str>, labels: Labels) -> bool {
        let mut book = self.book();
        let Some(entry) = book.get_mut(name) else { return false };
        if !entry.series.contains(&labels) {
            entry.series.push(labels);
        }
        true
    }

    fn remove(&self, labels: &Labels) {
        match labels {
            Labels::Calls(by) => self.calls.remove(by),
            Labels::Phases(by) => self.phases.remove(by),
            Labels::Ends(by) => self.ends.remove(by),
            Labels::Standby(by) => self.standby.remove(by),
            Labels::StandingBy(by) => self.standing_by.remove(by),
        };
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let families = Families {
            calls: Family::default(),
            phases: times(),
            ends: times(),
            standby: Family::default(),
            standing_by: Family::default(),
            running: Family::default(),
            seats: Family::default(),
            taken: Family::default(),
            queue: Family::default(),
            book: Arc::default(),
        };
        let mut inner = Inner {
            registry: Registry::with_prefix("spawnling"),
            families,
            seats_overall: Gauge::default(),
            children: Level::default(),
            connections: Level::default(),
            responses: Family::default(),
            rescued: Count::default(),
            wardens: Count::default(),
            spans: Spans::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }
}

impl Inner {
    /// The names and what they mean; docs/operations.md has the same, and a test compares them. The library adds `_total`
    /// to the names of counters.
    fn register(&mut self) {
        let Self { registry, families, .. } = self;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which Spawnling this is", build);
        let of = families.clone();
        registry.register("calls", "Calls that are over, by what became of them", of.calls);
        registry.register("calls_running", "Calls that are not over, those that wait included", of.running);
        let phases = "Seconds that a call spent in each phase";
        registry.register("phase_seconds", phases, of.phases);
        let ends = "Seconds from the decision to end a process tree to the proof of its death";
        registry.register("end_seconds", ends, of.ends);
        registry.register("seats", "Process trees that may be alive at once", of.seats);
        registry.register("seats_taken", "Seats that are taken", of.taken);
        registry.register("queue_length", "Calls that wait for a seat", of.queue);
        let standby = "Calls of servers that are kept at hand: one stood by (hit), was there (reused), or neither (miss)";
        registry.register("standby", standby, of.standby);
        registry.register("standbys_ready", "Servers that stand by", of.standing_by);
        let seats = "Process trees that may be alive at once, of all servers together";
        registry.register("seats_overall", seats, self.seats_overall.clone());
        registry.register("children_alive", "Process trees that are alive", self.children.0.clone());
        registry.register("connections", "Connections that are open", self.connections.0.clone());
        registry.register("http_responses", "Answers, by status", self.responses.clone());
        let rescued = "Process trees that lost their owner; more than 0 is a defect";
        registry.register("rescued", rescued, self.rescued.0.clone());
        registry.register("wardens_restarted", "Wardens that died and were replaced", self.wardens.0.clone());
        let spans = "Spans for the collector of traces, by what became of them";
        registry.register("spans", spans, self.spans.0.clone());
    }
}

impl Metrics {
    /// Those of one server, by its configured name, until it [leaves](Self::leaves). Servers of one name count together.
    pub(crate) fn server(&self, name: &Arc<str>) -> OfServer {
        let by = ByServer { server: Arc::clone(name) };
        let families = self.0.families.clone();
        let mut book = self.0.families.book();
        book.entry(Arc::clone(name)).or_default().holders += 1;
        let level = |family: &Family<ByServer, Gauge>| Level(family.get_or_create_owned(&by));
        OfServer {
            running: level(&families.running),
            seats: level(&families.seats),
            taken: level(&families.taken),
            queue: level(&families.queue),
            name: by.server,
            families,
        }
    }

    /// A server of this name is no more. What was counted of the last one of a name is gone with it: nothing of it will
    /// ever change again.
    pub(crate) fn leaves(&self, name: &Arc<str>) {
        let families = &self.0.families;
        let mut book = families.book();
        let Some(entry) = book.get_mut(name) else { return };
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        for labels in book.remove(name).into_iter().flat_map(|entry| entry.series) {
            families.remove(&labels);
        }
        let by = ByServer { server: Arc::clone(name) };
        for family in [&families.running, &families.seats, &families.taken, &families.queue] {
            family.remove(&by);
        }
    }

    /// So many trees may be alive at once, whosever they are.
    pub(crate) fn seats_overall(&self, seats: usize) {
        self.0.seats_overall.set(whole(seats));
    }

    /// Trees that are alive.
    pub(crate) fn children(&self) -> Level {
        self.0.children.clone()
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> Level {
        self.0.connections.clone()
    }

    /// Trees that lost their owner.
    pub(crate) fn rescued(&self) -> Count {
        self.0.rescued.clone()
    }

    /// Wardens that were replaced.
    pub(crate) fn wardens(&self) -> Count {
        self.0.wardens.clone()
    }

    /// Spans for a collector.
    pub(crate) fn spans(&self) -> Spans {
        self.0.spans.clone()
    }

    /// One more answer of this status.
    pub(crate) fn answered(&self, status: u16) {
        self.0.responses.get_or_create(&ByStatus { status }).inc();
    }

    /// Everything, in the format that [`CONTENT_TYPE`] names.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).expect("a text takes whatever is written to it");
        text
    }
}

/// Those of one server.
#[derive(Debug, Clone)]
pub(crate) struct OfServer {
    name: Arc<str>,
    families: Families,
    running: Level,
    seats: Level,
    taken: Level,
    queue: Level,
}

impl Default for OfServer {
    fn default() -> Self {
        Metrics::default().server(&"".into())
    }
}

/// What became of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Where its server came from.
    pub(crate) strategy: &'static str,
    /// `ok`, or the name of the problem.
    pub(crate) outcome: &'static str,
    /// Whose fault that was; nothing, if it went well.
    pub(crate) fault: &'static str,
    /// The phases that it came to, and how long each took.
    pub(crate) phases: [(&'static str, Option<Duration>); 4],
    /// `hit`: one stood by; `reused`: one that others have had; `miss`: neither was there. `None`: nobody looked.
    pub(crate) kept: Option<&'static str>,
    /// What it took to end its tree, and how long.
    pub(crate) end: Option<(&'static str, Duration)>,
}

impl OfServer {
    /// A call goes on.
    pub(crate) fn running(&self) -> InFlight {
        self.running.enter()
    }

    /// A call waits for a seat.
    pub(crate) fn waiting(&self) -> InFlight {
        self.queue.enter()
    }

    /// A seat is taken.
    pub(crate) fn taken(&self) -> InFlight {
        self.taken.enter()
    }

    /// There are so many seats.
    pub(crate) fn seats(&self, seats: usize) {
        self.seats.0.set(whole(seats));
    }

    /// So many servers stand by.
    pub(crate) fn standing_by(&self, ready: usize) {
        let by = ByServer { server: Arc::clone(&self.name) };
        self.count(&self.families.standing_by, &by, Labels::StandingBy, |gauge| {
            gauge.set(whole(ready));
        });
    }

    /// A call is over.
    pub(crate) fn ended(&self, ended: &Ended) {
        let Ended { strategy, outcome, fault, phases, kept, end } = *ended;
        let server = || Arc::clone(&self.name);
        let Families { calls, phases: times, ends, standby, .. } = &self.families;
        let by = ByOutcome { server: server(), strategy, outcome, fault };
        self.count(calls, &by, Labels::Calls, |counter| {
            counter.inc();
        });
        let seconds = |took: Duration| move |times: &Histogram| times.observe(took.as_secs_f64());
        for (phase, took) in phases {
            if let Some(took) = took {
                self.count(times, &ByPhase { server: server(), phase }, Labels::Phases, seconds(took));
            }
        }
        if let Some(result) = kept {
            self.count(standby, &ByLuck { server: server(), result }, Labels::Standby, |counter| {
                counter.inc();
            });
        }
        if let Some((rung, took)) = end {
            self.count(ends, &ByRung { server: server(), rung }, Labels::Ends, seconds(took));
        }
    }

    /// Counts, and the first time writes down what.
    fn count<L, M, C>(&self, family: &Family<L, M, C>, by: &L, labels: fn(L) -> Labels, how: impl FnOnce(&M))
    where
        L: Clone + Eq + Hash,
        C: MetricConstructor<M>,
    {
        if let Some(metric) = family.get(by) {
            return how(&metric);
        }
        if self.families.note(&self.name, labels(by.clone())) {
            how(&family.get_or_create(by));
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(kept: &'static str) -> Ended {
        let phases = [("queue", Some(Duration::ZERO)), ("spawn", None), ("open", None), ("call", None)];
        let end = Some(("eof", Duration::from_millis(3)));
        Ended { strategy: "fresh", outcome: "ok", fault: "", phases, kept: Some(kept), end }
    }

    #[test]
    fn what_goes_on_is_counted_until_its_guard_is_dropped() {
        let metrics = Metrics::default();
        let of = metrics.server(&"a".into());
        let (one, other) = (of.taken(), metrics.server(&"a".into()).taken());
        assert!(metrics.text().contains("spawnling_seats_taken{server=\"a\"} 2\n"), "{}", metrics.text());
        drop((one, other));
        assert!(metrics.text().contains("spawnling_seats_taken{server=\"a\"} 0\n"), "{}", metrics.text());
    }

    #[test]
    fn a_call_that_is_over_is_counted_with_all_that_is_known_of_it() {
        let metrics = Metrics::default();
        let of = metrics.server(&"a\"b".into());
        of.ended(&ended("hit"));
        of.ended(&ended("miss"));
        let text = metrics.text();
        for line in [
            r#"spawnling_calls_total{server="a\"b",strategy="fresh",outcome="ok",fault=""} 2"#,
            r#"spawnling_phase_seconds_count{server="a\"b",phase="queue"} 2"#,
            r#"spawnling_end_seconds_bucket{le="0.005",server="a\"b",rung="eof"} 2"#,
            r#"spawnling_end_seconds_bucket{le="0.0025",server="a\"b",rung="eof"} 0"#,
            r#"spawnling_standby_total{server="a\"b",result="hit"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("phase=\"spawn\"") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_last_server_of_a_name_takes_everything_that_was_counted_of_it_along() {
        let (metrics, name) = (Metrics::default(), Arc::from("a"));
        let (of, next) = (metrics.server(&name), metrics.server(&name));
        metrics.server(&"other".into()).ended(&ended("hit"));
        of.ended(&ended("hit"));
        of.standing_by(1);
        let count = || metrics.text().matches("server=\"a\"").count();
        let all = count();
        metrics.leaves(&name);
        assert_eq!(count(), all, "another one of that name counts still");
        next.ended(&ended("hit"));
        metrics.leaves(&name);
        assert_eq!(count(), 0, "{}", metrics.text());
        next.ended(&ended("hit"));
        next.standing_by(1);
        assert_eq!(count(), 0, "{}", metrics.text());
        assert!(metrics.text().contains("spawnling_calls_total{server=\"other\""));
        metrics.server(&name).ended(&ended("hit"));
        assert!(metrics.text().contains("spawnling_standby_total{server=\"a\",result=\"hit\"} 1\n"));
    }
}
