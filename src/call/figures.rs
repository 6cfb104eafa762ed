//! A call that is over, as it is counted.

use crate::exchange::{Fault, Origin, Process, Record};
use crate::strategy::Strategy;
use crate::telemetry::metrics::{Ended, OfServer};

/// Counts the call of this record, which is over.
pub(super) fn count(record: &Record, strategy: &dyn Strategy, figures: &OfServer) {
    let Some(told) = record.told() else { return };
    let times = told.times;
    let kept = match times.origin {
        Origin::Standby => Some("hit"),
        Origin::Pooled | Origin::Shared => Some("reused"),
        Origin::New => strategy.shelf().and(times.spawn).map(|_| "miss"),
    };
    figures.ended(&Ended {
        strategy: strategy.name(),
        outcome: told.outcome(),
        fault: told.failure.map(|failure| failure.fault).map_or("", Fault::name),
        phases: [("queue", times.queue), ("spawn", times.spawn), ("open", times.open), ("call", times.call)],
        kept,
        end: record.process().and_then(Process::end).map(|process| (process.rung.name(), process.end)),
    });
}
