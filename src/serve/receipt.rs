//! The receipt of a call for a person: a line for each thing that is known, in plain words. Pure.

use std::time::Duration;

use crate::exchange::{Exit, Kept, Process, Receipt, Record, Rung, Told};

/// How wide the names of the lines are.
const NAMES: usize = 18;

/// The lines, the last one without its end.
pub(super) fn show(record: &Record) -> String {
    let mut lines = vec![
        ("call", record.id.to_string()),
        ("server", record.server.to_string()),
        ("began", record.began.to_string()),
    ];
    if let Some(told) = record.told() {
        answered(told, &mut lines);
    }
    match record.process() {
        Some(Process::Ended { receipt, .. }) => ended(receipt, &mut lines),
        Some(Process::Kept(Kept { pid, .. })) => lines.push(("process", format!("{pid}, which is kept"))),
        None => lines.push(("process", "none was started".to_owned())),
    }
    if let Some(lasted) = record.lasted() {
        lines.push(("all in all", milliseconds(lasted)));
    }
    let shown: Vec<_> = lines.into_iter().map(|(name, value)| format!("{name:<NAMES$} {value}")).collect();
    shown.join("\n")
}

fn answered(told: &Told, lines: &mut Vec<(&str, String)>) {
    lines.push(("outcome", told.outcome().to_owned()));
    if let Some(failure) = told.failure {
        lines.push(("whose fault", failure.fault.name().to_owned()));
        lines.extend(failure.phase.map(|phase| ("failed in phase", phase.name().to_owned())));
        lines.extend(failure.early.map(|reason| ("ended early", reason.name().to_owned())));
    }
    let times = told.times;
    let phases = [
        ("waited for a seat", times.queue),
        ("started in", times.spawn),
        ("opened in", times.open),
        ("answered in", times.call),
    ];
    lines.extend(phases.into_iter().filter_map(|(name, time)| Some((name, milliseconds(time?)))));
}

fn ended(process: &Receipt, lines: &mut Vec<(&str, String)>) {
    let exit = match (process.exit, process.exit.and_then(Exit::signal_name)) {
        (Some(Exit::Code(code)), _) => format!("code {code}"),
        (Some(Exit::Signal(signal)), Some(name)) => format!("signal {signal} ({name})"),
        (Some(Exit::Signal(signal)), None) => format!("signal {signal}"),
        (None, _) => "unknown".to_owned(),
    };
    let rung = match process.rung {
        Rung::Already => "it had ended by itself",
        Rung::Eof => "it left when its stdin was closed",
        Rung::Term => "it left on SIGTERM",
        Rung::Kill => "it was killed",
    };
    let unknown = || "unknown".to_owned();
    let cpu = process.cpu.map(|cpu| format!("{} ({})", milliseconds(cpu.value), cpu.source));
    let peak = process.peak_memory.map(|peak| format!("{} KiB ({})", peak.value.div_ceil(1024), peak.source));
    lines.push(("process id", process.pid.to_string()));
    lines.push(("exit", exit));
    lines.extend(process.cause.map(|cause| ("cause", format!("it {}", cause.words()))));
    lines.push(("its end", format!("{rung}, within {}", milliseconds(process.end))));
    lines.push(("killed beside it", process.killed.to_string()));
    lines.push(("processor time", cpu.unwrap_or_else(unknown)));
    lines.push(("peak memory", peak.unwrap_or_else(unknown)));
    lines.push(("containment", process.containment.to_owned()));
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{
        CallError, CallId, Cause, Failed, Measured, Moment, Phase, Principal, Stage, Times,
    };

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

    #[test]
    fn everything_that_is_known_has_a_line_of_its_own() {
        let times = Times { queue: Some(Duration::from_micros(30)), ..Times::default() };
        let process = Receipt {
            pid: 7,
            exit: Some(Exit::Signal(9)),
            cause: Some(Cause::Memory),
            rung: Rung::Already,
            killed: 2,
            cpu: None,
            peak_memory: Some(Measured { value: 4097, source: "memory.peak" }),
            containment: "cgroup",
            end: Duration::from_micros(190),
        };
        let failure = Failed::from(&CallError::ShuttingDown { phase: Phase::Call });
        let told = Told { failure: Some(failure), times };
        let ended = Stage::Ended { told, lasted: Duration::from_millis(9), process: Some(process.into()) };
        assert_eq!(
            show(&record(ended)),
            "call               000000000000000000000000000000ab\n\
             server             demo\n\
             began              2026-11-22T19:42:37.123Z\n\
             outcome            shutting-down\n\
             whose fault        overload\n\
             failed in phase    call\n\
             ended early        stopped\n\
             waited for a seat  0.0 ms\n\
             process id         7\n\
             exit               signal 9 (SIGKILL)\n\
             cause              it reached its limit of memory\n\
             its end            it had ended by itself, within 0.2 ms\n\
             killed beside it   2\n\
             processor time     unknown\n\
             peak memory        5 KiB (memory.peak)\n\
             containment        cgroup\n\
             all in all         9.0 ms"
        );
    }

    #[test]
    fn a_call_without_a_process_says_so() {
        let told = Told { failure: None, times: Times::default() };
        let ended = Stage::Ended { told, lasted: Duration::ZERO, process: None };
        assert!(show(&record(ended)).contains("\nprocess            none was started\n"));
    }
}
