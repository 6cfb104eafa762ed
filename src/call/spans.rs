//! What a call tells whoever follows its trace: a span of its own, with one below it for each part.
//!
//! ```text
//!   the caller's span <- call <- queue, spawn, open, each step <- whatever the server makes of the step, end
//! ```
//!
//! Nothing is made unless spans are wanted, nor for a caller who says that the trace is not recorded.

use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime};

use crate::exchange::{Ask, CallError, Outcome, Process, Record, TraceContext};
use crate::mcp::types::method;
use crate::telemetry::traces::{KeyValue, Span, SpanKind, Traces};

/// The most bytes of what a caller wrote that are told.
const LONGEST: usize = 256;

/// The span of a call that goes on.
pub(super) struct CallSpan {
    traces: Traces,
    /// What is a child of it.
    context: TraceContext,
    /// The caller's span, if there is one.
    parent: Option<NonZeroU64>,
    began: SystemTime,
    since: Instant,
    steps: Vec<Asked>,
}

/// One step on its way.
pub(super) struct Asking {
    /// What the server is told.
    pub(super) context: TraceContext,
    at: Duration,
}

struct Asked {
    asking: Asking,
    lasted: Duration,
    method: &'static str,
    /// The attribute, and what it says of what was asked for.
    target: Option<(&'static str, String)>,
    failure: Option<&'static str>,
}

impl CallSpan {
    /// Begins the span of a call; `None`: nobody wants it.
    pub(super) fn begin(traces: &Traces, caller: Option<&TraceContext>) -> Option<Self> {
        if !traces.are_wanted() || caller.is_some_and(|caller| !caller.is_sampled()) {
            return None;
        }
        let id = new_id()?;
        let context = match caller {
            Some(caller) => caller.at(id),
            None => TraceContext::begin((new_id()?, new_id()?), id),
        };
        let (traces, parent) = (traces.clone(), caller.map(TraceContext::parent));
        Some(Self {
            traces,
            context,
            parent,
            began: SystemTime::now(),
            since: Instant::now(),
            steps: Vec::new(),
        })
    }

    /// The trace, with this span as the parent of what comes.
    pub(super) const fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Begins a step; `None`: without a span of its own.
    pub(super) fn step(&self) -> Option<Asking> {
        Some(Asking { context: self.context.at(new_id()?), at: self.since.elapsed() })
    }

    /// The step is over.
    pub(super) fn asked(&mut self, asking: Asking, ask: &Ask, outcome: &Result<Outcome, CallError>) {
        let lasted = self.since.elapsed().saturating_sub(asking.at);
        let target =
            target(ask).map(|(key, name)| (key, name[..name.floor_char_boundary(LONGEST)].to_owned()));
        let failure = outcome.as_ref().err().map(CallError::name);
        self.steps.push(Asked { asking, lasted, method: method(ask), target, failure });
    }

    /// Hands over all of it. `record` is that of the call, which is over; `strategy`: where its server came from.
    pub(super) fn end(self, record: &Record, strategy: &'static str) {
        let Some(told) = record.told() else { return };
        let whole = self.since.elapsed();
        let times = told.times;
        let mut at = Duration::ZERO;
        for (name, lasted) in [("queue", times.queue), ("spawn", times.spawn), ("open", times.open)] {
            let Some(lasted) = lasted else { continue };
            self.part(name, (at, lasted), new_id());
            at += lasted;
        }
        for step in &self.steps {
            self.step_span(step);
        }
        let process = record.process();
        if let Some(lasted) = process.and_then(Process::end).map(|end| end.end) {
            self.part("end", (whole.saturating_sub(lasted), lasted), new_id());
        }
        let mut attributes = vec![
            KeyValue::new("rpc.system", "jsonrpc"),
            KeyValue::new("spawnling.server", record.server.to_string()),
            KeyValue::new("spawnling.strategy", strategy),
            KeyValue::new("spawnling.call.id", record.id.to_string()),
            KeyValue::new("spawnling.principal", record.principal.name().to_owned()),
        ];
        attributes.extend(told.failure.map(|failed| KeyValue::new("spawnling.fault", failed.fault.name())));
        attributes.extend(process.map(|process| KeyValue::new("process.pid", i64::from(process.pid()))));
        let own = self.context.parent();
        let span = Span {
            parent: self.parent.map_or(0, NonZeroU64::get),
            is_remote: self.parent.is_some(),
            kind: SpanKind::Server,
            attributes,
            failure: told.failure.map(|failed| failed.name),
            ..self.span(format!("call {}", record.server), (Duration::ZERO, whole), own)
        };
        self.traces.hand_over(span);
    }

    fn step_span(&self, step: &Asked) {
        let name = match &step.target {
            Some((_, target)) => format!("{} {target}", step.method),
            None => step.method.to_owned(),
        };
        let mut attributes = vec![
            KeyValue::new("rpc.system", "jsonrpc"),
            KeyValue::new("mcp.method.name", step.method),
            KeyValue::new("network.transport", "pipe"),
        ];
        attributes.extend(step.target.as_ref().map(|(key, target)| KeyValue::new(*key, target.clone())));
        let time = (step.asking.at, step.lasted);
        let span = self.span(name, time, step.asking.context.parent());
        self.traces.hand_over(Span { kind: SpanKind::Client, attributes, failure: step.failure, ..span });
    }

    fn part(&self, name: &str, time: (Duration, Duration), id: Option<NonZeroU64>) {
        if let Some(id) = id {
            self.traces.hand_over(self.span(name.to_owned(), time, id));
        }
    }

    /// A span below this one, `time` after its beginning and so long.
    fn span(&self, name: String, (at, lasted): (Duration, Duration), id: NonZeroU64) -> Span {
        Span {
            trace: self.context.trace_id().bits(),
            id: id.get(),
            parent: self.context.parent().get(),
            is_remote: false,
            kind: SpanKind::Internal,
            name,
            began: self.began + at,
            ended: self.began + at + lasted,
            attributes: Vec::new(),
            failure: None,
        }
    }
}

/// What was asked for, under the name that the conventions of OpenTelemetry have for it.
fn target(ask: &Ask) -> Option<(&'static str, &str)> {
    match ask {
        Ask::Tool { name, .. } => Some(("gen_ai.tool.name", name)),
        Ask::Prompt { name, .. } => Some(("gen_ai.prompt.name", name)),
        // An address may hold what nobody else is to see.
        Ask::Resource { .. } | Ask::List(_) | Ask::Complete { .. } | Ask::Ping => None,
    }
}

/// Random; `None`: there are no random numbers to be had, and no span.
fn new_id() -> Option<NonZeroU64> {
    getrandom::u64().ok().and_then(NonZeroU64::new)
}
