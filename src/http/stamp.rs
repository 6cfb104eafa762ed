//! What every answer to a call tells beside its content: whose it is, where its time went, how the process ended. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::json::Pieces;
use super::problem::ExitShown;
use crate::exchange::{Answer, CallId, Exit, Receipt, Times};

const CALL_ID: HeaderName = HeaderName::from_static("spawnling-call-id");
const RECEIPT: HeaderName = HeaderName::from_static("spawnling-receipt");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The facts about one call.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    id: CallId,
    times: Times,
    receipt: Option<Receipt>,
}

impl Stamp {
    /// Taken from an answer; the receipt is moved out of it.
    pub(super) fn of(answer: &mut Answer) -> Self {
        Self { id: answer.id, times: answer.times, receipt: answer.receipt.take() }
    }

    /// The name of the call.
    pub(super) const fn id(&self) -> CallId {
        self.id
    }

    /// Into the headers of an answer.
    pub(super) fn put_on(&self, headers: &mut HeaderMap) {
        put_id(self.id, headers);
        put(headers, SERVER_TIMING, &server_timing(&self.times));
        if let Some(receipt) = &self.receipt {
            put(headers, RECEIPT, &dictionary(receipt));
        }
    }

    /// Where the time went, as JSON: milliseconds by phase.
    pub(super) fn timing(&self) -> Pieces {
        let reached = phases(&self.times).into_iter();
        Pieces::object(reached.filter_map(|(phase, time)| Some((phase, Pieces::of(&milliseconds(time?))))))
    }

    /// How the process ended, as JSON, if that was waited for.
    pub(super) fn receipt(&self) -> Option<Pieces> {
        let receipt = self.receipt.as_ref()?;
        Some(Pieces::of(&ReceiptShown {
            pid: receipt.pid,
            exit: ExitShown::of(receipt.exit, receipt.cause),
            rung: receipt.rung.name(),
            killed: receipt.killed,
            cpu_ms: receipt.cpu.map(|cpu| milliseconds(cpu.value)),
            cpu_source: receipt.cpu.map(|cpu| cpu.source),
            peak_memory_bytes: receipt.peak_memory.map(|peak| peak.value),
            peak_memory_source: receipt.peak_memory.map(|peak| peak.source),
            containment: receipt.containment,
            end_ms: milliseconds(receipt.end),
        }))
    }
}

/// The name of a call into the headers of an answer whose other facts come later.
pub(super) fn put_id(id: CallId, headers: &mut HeaderMap) {
    put(headers, CALL_ID, &id.to_string());
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if value.is_empty() {
        return;
    }
    let value = HeaderValue::from_str(value).expect("made of ASCII letters, digits and punctuation");
    headers.insert(name, value);
}

#[derive(Serialize)]
struct ReceiptShown {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<ExitShown>,
    rung: &'static str,
    killed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_memory_source: Option<&'static str>,
    containment: &'static str,
    end_ms: f64,
}

const fn phases(times: &Times) -> [(&'static str, Option<Duration>); 4] {
    [("queue", times.queue), ("spawn", times.spawn), ("open", times.open), ("call", times.call)]
}

/// `queue;dur=0.012, spawn;dur=1.3`: the phases that were reached (W3C Server Timing).
fn server_timing(times: &Times) -> String {
    let reached = phases(times).into_iter().filter_map(|(phase, time)| Some((phase, time?)));
    let entries: Vec<_> =
        reached.map(|(phase, time)| format!("{phase};dur={:.3}", milliseconds(time))).collect();
    entries.join(", ")
}

/// A dictionary of RFC 9651, its decimals with three places; where a figure was read is a parameter of it:
/// `pid=7, exit-code=0, rung=eof, killed=0, cpu-ms=20.000;source="proc_pid_stat", containment=group, end-ms=1.200`.
fn dictionary(receipt: &Receipt) -> String {
    let mut text = format!("pid={}", receipt.pid);
    let exit = match receipt.exit {
        Some(Exit::Code(code)) => format!(", exit-code={code}"),
        Some(Exit::Signal(number)) => format!(", exit-signal={number}"),
        None => String::new(),
    };
    text.push_str(&exit);
    let mut add = |key: &str, value: &dyn std::fmt::Display| {
        write!(text, ", {key}={value}").expect("a String takes everything");
    };
    if let Some(cause) = receipt.cause {
        add("cause", &cause.name());
    }
    add("rung", &receipt.rung.name());
    add("killed", &receipt.killed);
    if let Some(cpu) = receipt.cpu {
        add("cpu-ms", &format_args!("{:.3};source=\"{}\"", milliseconds(cpu.value), cpu.source));
    }
    if let Some(peak) = receipt.peak_memory {
        add("peak-memory-bytes", &format_args!("{};source=\"{}\"", peak.value, peak.source));
    }
    add("containment", &receipt.containment);
    add("end-ms", &format_args!("{:.3}", milliseconds(receipt.end)));
    text
}

/// To the microsecond; more digits would be noise, and RFC 9651 allows three places.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Cause, Measured, Rung};

    fn stamp() -> Stamp {
        Stamp {
            id: CallId::from_bits(0xab),
            times: Times {
                queue: Some(Duration::ZERO),
                spawn: Some(Duration::from_micros(1_234)),
                open: None,
                call: None,
            },
            receipt: Some(Receipt {
                pid: 7,
                exit: Some(Exit::Signal(9)),
                cause: Some(Cause::Memory),
                rung: Rung::Kill,
                killed: 2,
                cpu: Some(Measured { value: Duration::from_millis(12), source: "cgroup cpu.stat" }),
                peak_memory: Some(Measured { value: 4096, source: "memory.peak" }),
                containment: "group",
                end: Duration::from_nanos(190_499),
            }),
        }
    }

    #[test]
    fn the_headers_tell_the_id_the_phases_reached_and_the_end() {
        let mut headers = HeaderMap::new();
        stamp().put_on(&mut headers);
        assert_eq!(headers[CALL_ID], "000000000000000000000000000000ab");
        assert_eq!(headers[SERVER_TIMING], "queue;dur=0.000, spawn;dur=1.234");
        assert_eq!(
            headers[RECEIPT],
            "pid=7, exit-signal=9, cause=memory, rung=kill, killed=2, cpu-ms=12.000;source=\"cgroup cpu.stat\", \
             peak-memory-bytes=4096;source=\"memory.peak\", containment=group, end-ms=0.190"
        );
    }

    #[test]
    fn the_same_is_told_as_json() {
        assert_eq!(stamp().timing().text(), r#"{"queue":0.0,"spawn":1.234}"#);
        assert_eq!(
            stamp().receipt().unwrap().text(),
            concat!(
                r#"{"pid":7,"exit":{"signal":9,"name":"SIGKILL","cause":"memory"},"rung":"kill","killed":2,"#,
                r#""cpu_ms":12.0,"cpu_source":"cgroup cpu.stat","peak_memory_bytes":4096,"#,
                r#""peak_memory_source":"memory.peak","containment":"group","end_ms":0.19}"#
            )
        );
    }

    #[test]
    fn a_call_that_reached_nothing_has_an_id_only() {
        let mut headers = HeaderMap::new();
        Stamp { times: Times::default(), receipt: None, ..stamp() }.put_on(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
