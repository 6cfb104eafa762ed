//! The receipt of a call in the log: one event, written when nothing of it is alive.
//!
//! Failures that are not the caller's own are worth a warning, and our own an error; everything else is for whoever
//! asks for it (`SPAWNLING_LOG=spawnling::call=debug`). What is not known is left out.

use std::time::Duration;

use crate::exchange::{Exit, Fault, Phase, Process, Record};

/// Writes the record of a call that is over; `story` has the words of its failure.
pub(super) fn write(record: &Record, story: Option<&str>) {
    let (Some(told), process) = (record.told(), record.process()) else { return };
    let end = process.and_then(Process::end);
    let failure = told.failure;
    let exit = end.and_then(|end| end.exit);
    let cpu = end.and_then(|end| end.cpu);
    let peak = end.and_then(|end| end.peak_memory);
    // The level of an event is a constant of its place in the code (`tracing`), so there is one for each.
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                server = &*record.server,
                principal = record.principal.name(),
                call = %record.id,
                trace_id = record.trace.map(tracing::field::display),
                outcome = told.outcome(),
                fault = failure.map(|failure| failure.fault.name()),
                phase = failure.and_then(|failure| failure.phase).map(Phase::name),
                ended_early = failure.and_then(|failure| failure.early).map(|reason| reason.name()),
                error = story,
                began = %record.began,
                duration_ms = record.lasted().map(milliseconds),
                queue_ms = told.times.queue.map(milliseconds),
                spawn_ms = told.times.spawn.map(milliseconds),
                open_ms = told.times.open.map(milliseconds),
                call_ms = told.times.call.map(milliseconds),
                pid = process.map(Process::pid),
                calls = process.and_then(Process::calls),
                exit_code = exit.and_then(code),
                exit_signal = exit.and_then(signal),
                cause = end.and_then(|end| end.cause).map(|cause| cause.name()),
                rung = end.map(|end| end.rung.name()),
                killed = end.map(|end| end.killed),
                cpu_ms = cpu.map(|cpu| milliseconds(cpu.value)),
                cpu_source = cpu.map(|cpu| cpu.source),
                peak_memory_bytes = peak.map(|peak| peak.value),
                peak_memory_source = peak.map(|peak| peak.source),
                containment = process.map(Process::containment),
                end_ms = end.map(|end| milliseconds(end.end)),
                "call ended"
            )
        };
    }
    match failure.map(|failure| failure.fault) {
        None | Some(Fault::Caller) => event!(debug),
        Some(Fault::Overload | Fault::Deadline | Fault::Server) => event!(warn),
        Some(Fault::Ours) => event!(error),
    }
}

const fn code(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(_) => None,
    }
}

const fn signal(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Signal(signal) => Some(signal),
        Exit::Code(_) => None,
    }
}

/// To the microsecond; more digits would be noise.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
