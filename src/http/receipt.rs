//! A receipt as a header and as JSON. Pure.
//!
//! The header `Spawnling-Receipt` and the member `receipt` of a stream's last event tell what became of the process,
//! and that alone, since what goes with them tells the rest; `GET /v1/calls/{id}` tells everything.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::json::Pieces;
use super::problem::ExitShown;
use crate::deadline::Reason;
use crate::exchange::{Exit, Kept, Phase, Process, Receipt, Record, Times};

#[derive(Serialize)]
struct ProcessShown {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
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

#[derive(Serialize)]
struct KeptShown {
    pid: u32,
    kept: bool,
    calls: u64,
    containment: &'static str,
}

/// What became of a process, as JSON.
pub(super) fn of_process(process: &Process) -> Pieces {
    let receipt = match process {
        Process::Ended { receipt, .. } => receipt,
        Process::Kept(Kept { pid, calls, containment }) => {
            return Pieces::of(&KeptShown { pid: *pid, kept: true, calls: *calls, containment });
        }
    };
    Pieces::of(&ProcessShown {
        calls: process.calls(),
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
    })
}

/// All that is known of a call, as JSON; what is not known, or not known yet, is left out.
pub(super) fn of_call(record: &Record) -> Pieces {
    let mut members = vec![
        ("call", Pieces::of(&record.id.to_string())),
        ("server", Pieces::of(&*record.server)),
        ("state", Pieces::of(record.stage.name())),
        ("began", Pieces::of(&record.began.to_string())),
    ];
    if let Some(told) = record.told() {
        members.push(("outcome", Pieces::of(told.outcome())));
        if let Some(failure) = told.failure {
            members.push(("fault", Pieces::of(failure.fault.name())));
            let words =
                [("phase", failure.phase.map(Phase::name)), ("ended_early", failure.early.map(Reason::name))];
            members.extend(words.into_iter().filter_map(|(name, word)| Some((name, Pieces::of(word?)))));
        }
        members.push(("timing", timing(&told.times)));
    }
    if let Some(lasted) = record.lasted() {
        members.push(("duration_ms", Pieces::of(&milliseconds(lasted))));
    }
    if let Some(process) = record.process() {
        members.push(("process", of_process(process)));
    }
    Pieces::object(members)
}

/// The same as a dictionary of RFC 9651, its decimals with three places; where a figure was read is a parameter of it:
/// `pid=7, exit-code=0, rung=eof, killed=0, cpu-ms=20.000;source="proc_pid_stat", containment=group, end-ms=1.200`; or
/// `pid=7, kept, calls=3, containment=group`.
pub(super) fn dictionary(process: &Process) -> String {
    match process {
        Process::Ended { receipt, .. } => ended(receipt, process.calls()),
        Process::Kept(Kept { pid, calls, containment }) => {
            format!("pid={pid}, kept, calls={calls}, containment={containment}")
        }
    }
}

fn ended(receipt: &Receipt, calls: Option<u64>) -> String {
    let mut text = format!("pid={}", receipt.pid);
    let mut add = |key: &str, value: &dyn std::fmt::Display| {
        write!(text, ", {key}={value}").expect("a String takes everything");
    };
    if let Some(calls) = calls {
        add("calls", &calls);
    }
    match receipt.exit {
        Some(Exit::Code(code)) => add("exit-code", &code),
        Some(Exit::Signal(number)) => add("exit-signal", &number),
        None => {}
    }
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

/// Where the time went, as JSON: milliseconds by phase; and `desc`, if the server was there already.
pub(super) fn timing(times: &Times) -> Pieces {
    let reached = phases(times).into_iter();
    let reached = reached.filter_map(|(phase, time)| Some((phase, Pieces::of(&milliseconds(time?)))));
    let origin = times.origin.name().map(|name| ("desc", Pieces::of(name)));
    Pieces::object(reached.chain(origin))
}

/// The phases of a call, each with its time if it was reached.
pub(super) const fn phases(times: &Times) -> [(&'static str, Option<Duration>); 4] {
    [("queue", times.queue), ("spawn", times.spawn), ("open", times.open), ("call", times.call)]
}

/// To the microsecond; more digits would be noise, and RFC 9651 allows three places.
#[expect(clippy::cast_precision_loss, reason = "they fit for three centuries")]
pub(super) fn milliseconds(time: Duration) -> f64 {
    microseconds(time) as f64 / 1e3
}

/// The same in whole numbers, half of one rounded up.
pub(super) fn microseconds(time: Duration) -> u64 {
    time.as_secs() * 1_000_000 + u64::from((time.subsec_nanos() + 500) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        CallError, CallId, Cause, Failed, LastWords, Measured, Moment, Principal, Rung, Stage, Told,
    };

    fn killed() -> Receipt {
        Receipt {
            pid: 7,
            exit: Some(Exit::Signal(9)),
            cause: Some(Cause::Memory),
            rung: Rung::Kill,
            killed: 2,
            cpu: Some(Measured { value: Duration::from_millis(12), source: "cgroup cpu.stat" }),
            peak_memory: Some(Measured { value: 4096, source: "memory.peak" }),
            containment: "group",
            end: Duration::from_nanos(190_499),
        }
    }

    fn plain() -> Receipt {
        let exit = Some(Exit::Code(0));
        Receipt { exit, cause: None, cpu: None, peak_memory: None, rung: Rung::Eof, killed: 0, ..killed() }
    }

    fn record(stage: Stage) -> Record {
        Record {
            id: CallId::from_bits(0xab),
            principal: Principal::anonymous(),
            server: "demo".into(),
            trace: None,
            began: Moment::since_epoch(Duration::from_millis(1_795_376_557_123)),
            stage,
        }
    }

    fn told(failure: Option<&CallError>) -> Told {
        let times =
            Times { queue: Some(Duration::ZERO), call: Some(Duration::from_millis(5)), ..Times::default() };
        Told { failure: failure.map(Failed::from), times }
    }

    #[test]
    fn the_header_has_what_is_known_and_nothing_else() {
        assert_eq!(
            dictionary(&killed().into()),
            "pid=7, exit-signal=9, cause=memory, rung=kill, killed=2, cpu-ms=12.000;source=\"cgroup cpu.stat\", \
             peak-memory-bytes=4096;source=\"memory.peak\", containment=group, end-ms=0.190"
        );
        assert_eq!(
            dictionary(&plain().into()),
            "pid=7, exit-code=0, rung=eof, killed=0, containment=group, end-ms=0.190"
        );
        let reused = dictionary(&Process::Ended { receipt: plain(), calls: 3 });
        assert!(reused.starts_with("pid=7, calls=3, exit-code=0, "), "{reused}");
    }

    #[test]
    fn of_a_process_that_lives_on_no_end_is_told() {
        let kept = Process::Kept(Kept { pid: 7, calls: 3, containment: "group" });
        assert_eq!(dictionary(&kept), "pid=7, kept, calls=3, containment=group");
        assert_eq!(of_process(&kept).text(), r#"{"pid":7,"kept":true,"calls":3,"containment":"group"}"#);
    }

    #[test]
    fn the_same_is_told_as_json() {
        assert_eq!(
            of_process(&killed().into()).text(),
            concat!(
                r#"{"pid":7,"exit":{"signal":9,"name":"SIGKILL","cause":"memory"},"rung":"kill","killed":2,"#,
                r#""cpu_ms":12.0,"cpu_source":"cgroup cpu.stat","peak_memory_bytes":4096,"#,
                r#""peak_memory_source":"memory.peak","containment":"group","end_ms":0.19}"#
            )
        );
    }

    #[test]
    fn a_call_tells_more_the_further_it_has_come() {
        let begun = r#"{"call":"000000000000000000000000000000ab","server":"demo","state""#;
        let running = of_call(&record(Stage::Running)).text();
        assert_eq!(running, format!(r#"{begun}:"running","began":"2026-11-22T19:42:37.123Z"}}"#));
        let ending = of_call(&record(Stage::Ending(told(None)))).text();
        let known = r#""began":"2026-11-22T19:42:37.123Z","outcome":"ok","timing":{"queue":0.0,"call":5.0}"#;
        assert_eq!(ending, format!(r#"{begun}:"ending",{known}}}"#));
        let lasted = Duration::from_millis(9);
        let ended = Stage::Ended { told: told(None), lasted, process: Some(plain().into()) };
        let process =
            r#"{"pid":7,"exit":{"code":0},"rung":"eof","killed":0,"containment":"group","end_ms":0.19}"#;
        assert_eq!(
            of_call(&record(ended)).text(),
            format!(r#"{begun}:"ended",{known},"duration_ms":9.0,"process":{process}}}"#)
        );
    }

    #[test]
    fn a_call_that_failed_says_whose_fault_it_was_and_why_it_ended_early() {
        let words = Box::<LastWords>::default();
        let late = CallError::DeadlineExceeded { phase: Phase::Open, after: Duration::from_secs(1), words };
        let full = CallError::Overloaded { retry_after: Duration::from_secs(1), waited: None };
        let none = CallError::UnknownTool { name: "x".into(), meant: None };
        for (error, expected) in [
            (
                late,
                r#""outcome":"deadline-exceeded","fault":"deadline","phase":"open","ended_early":"deadline","timing""#,
            ),
            (full, r#""outcome":"overloaded","fault":"overload","phase":"queue","timing""#),
            (none, r#""outcome":"unknown-tool","fault":"caller","timing""#),
        ] {
            let text = of_call(&record(Stage::Ending(told(Some(&error))))).text();
            assert!(text.contains(expected), "{text}");
        }
    }
}
