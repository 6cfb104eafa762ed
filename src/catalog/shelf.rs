//! One list of one server: kept while it is fresh, and used longer when only the last known schema is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::Schema;
use crate::exchange::fault::Violation;
use crate::exchange::{Answer, CallError, Fault, Listed, Phase, RawJson};

/// A place for one list.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    kept: Mutex<Option<Arc<Kept>>>,
    /// Held by whoever is asking the server: everybody else waits for that answer.
    pub(super) asking: Arc<tokio::sync::Mutex<InVain>>,
}

/// Why whoever asked last did so in vain, if that holds for those as well who have waited for it.
#[derive(Debug, Default)]
pub(super) struct InVain(Option<(Instant, CallError)>);

impl InVain {
    /// The failure of an asking that went on after `arrived`.
    pub(super) fn since(&self, arrived: Instant) -> Option<CallError> {
        let InVain(Some((when, error))) = self else { return None };
        (*when > arrived).then(|| error.clone())
    }

    /// Keeps in mind how an asking ended. What is about that one caller (its own time, its share, that it left) holds for
    /// nobody else; a start takes `open_deadline` at most, whoever asks.
    pub(super) fn learn(&mut self, answer: &Answer, open_deadline: Duration) {
        let error = answer.failure.as_ref().or_else(|| answer.steps.first()?.as_ref().err());
        let holds_for_all = |error: &&CallError| match error {
            CallError::DeadlineExceeded { phase: Phase::Open, after, .. } => *after == open_deadline,
            CallError::DeadlineExceeded { .. } => false,
            error => error.is_an_answer() || error.fault() == Fault::Server,
        };
        self.0 = error.filter(holds_for_all).map(|error| (Instant::now(), error.clone()));
    }
}

/// A list as it was learned.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) listed: Arc<Listed>,
    pub(super) learned: Instant,
    fresh_for: Duration,
    /// What `Calls::list_revision` was before it was asked for.
    revision: u64,
    tools: OnceLock<HashMap<String, Tool>>,
}

/// What a tool's arguments are checked against.
#[derive(Debug)]
struct Tool {
    input: Option<RawJson>,
    compiled: OnceLock<Option<Schema>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolFields<'a> {
    name: String,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
}

/// What a list of tools says of one call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Fine,
    /// There is no such tool.
    Unknown,
    /// Its arguments break the schema.
    Invalid(Vec<Violation>),
}

impl Shelf {
    /// The list that was learned last, fresh or not.
    pub(super) fn kept(&self) -> Option<Arc<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a list there that was just learned. A server that does not say how long it stays fresh is given `ttl`.
    pub(super) fn put(&self, listed: &Arc<Listed>, ttl: Duration, revision: u64) -> Arc<Kept> {
        let kept = Arc::new(Kept {
            listed: Arc::clone(listed),
            learned: Instant::now(),
            fresh_for: listed.ttl.unwrap_or(ttl),
            revision,
            tools: OnceLock::new(),
        });
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&kept));
        kept
    }
}

impl Kept {
    /// Whether it may be shown without asking again, now that its list has this revision.
    pub(super) fn is_fresh(&self, revision: u64) -> bool {
        self.learned.elapsed() < self.fresh_for && self.revision == revision
    }

    /// What it says of a call.
    pub(super) fn judge(&self, name: &str, arguments: Option<&RawJson>) -> Verdict {
        let Some(tool) = self.tools().get(name) else { return Verdict::Unknown };
        let empty = RawJson::empty_object();
        let violations = tool.schema(name).map(|schema| schema.violations(arguments.unwrap_or(&empty)));
        match violations {
            Some(violations) if !violations.is_empty() => Verdict::Invalid(violations),
            _ => Verdict::Fine,
        }
    }

    /// The names of the tools.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tools().keys().map(String::as_str)
    }

    fn tools(&self) -> &HashMap<String, Tool> {
        self.tools.get_or_init(|| {
            let tool = |item: &RawJson| {
                let fields: ToolFields<'_> = item.read().ok()?;
                let input = fields.input_schema.map(RawJson::of);
                Some((fields.name, Tool { input, compiled: OnceLock::new() }))
            };
            self.listed.items.iter().filter_map(tool).collect()
        })
    }
}

impl Tool {
    /// Compiled when it is first needed, once. A broken schema is a warning, never a refusal.
    fn schema(&self, tool: &str) -> Option<&Schema> {
        let compile = || match Schema::compile(self.input.as_ref()?) {
            Ok(schema) => Some(schema),
            Err(error) => {
                tracing::warn!(tool, %error, "a tool's input schema cannot be used; its arguments are not checked");
                None
            }
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::exchange::{CallId, Times};

    fn kept(items: &[&str], ttl: Option<Duration>) -> Arc<Kept> {
        let raw = |text: &&str| RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let listed = Arc::new(Listed { items: items.iter().map(raw).collect(), ttl });
        Shelf::default().put(&listed, Duration::from_mins(1), 1)
    }

    #[test]
    fn a_list_is_as_fresh_as_the_server_says_or_else_as_configured() {
        assert!(kept(&[], None).is_fresh(1));
        assert!(kept(&[], Some(Duration::from_secs(9))).is_fresh(1));
        assert!(!kept(&[], Some(Duration::ZERO)).is_fresh(1));
        assert!(!kept(&[], None).is_fresh(2), "the server has said that it is another one");
    }

    #[test]
    fn only_what_is_no_matter_of_one_caller_is_told_to_those_who_waited() {
        let (arrived, open_deadline) = (Instant::now(), Duration::from_secs(30));
        let learned = |failure: CallError| {
            let answer = Answer::refused(CallId::from_bits(1), failure, Times::default());
            let mut asking = InVain::default();
            asking.learn(&answer, open_deadline);
            assert!(asking.since(Instant::now()).is_none(), "whoever comes later asks anew");
            asking.since(arrived).is_some()
        };
        let late = |phase, after| CallError::DeadlineExceeded { phase, after, words: Box::default() };
        assert!(learned(late(Phase::Open, open_deadline)));
        assert!(learned(CallError::NotOffered { what: "tools/list".to_owned() }));
        assert!(learned(CallError::OutputTooLarge { phase: Phase::Call, limit: 1, words: Box::default() }));
        assert!(!learned(late(Phase::Open, Duration::from_secs(1))));
        assert!(!learned(late(Phase::Queue, open_deadline)) && !learned(late(Phase::Call, open_deadline)));
        assert!(!learned(CallError::CallerGone { phase: Phase::Open }));
        assert!(!learned(CallError::ShuttingDown { phase: Phase::Open }));
    }

    #[test]
    fn a_broken_schema_refuses_nothing() {
        let kept = kept(&[r#"{"name":"a","inputSchema":{"type":"nothing"}}"#, r#"{"name":"b"}"#, "3"], None);
        assert!(matches!(kept.judge("a", None), Verdict::Fine));
        assert!(matches!(kept.judge("b", None), Verdict::Fine));
        assert!(matches!(kept.judge("c", None), Verdict::Unknown));
    }

    #[test]
    fn absent_arguments_are_checked_as_an_empty_object() {
        let kept = kept(&[r#"{"name":"a","inputSchema":{"type":"object","required":["x"]}}"#], None);
        let Verdict::Invalid(violations) = kept.judge("a", None) else { panic!("x is missing") };
        assert!(violations[0].message.contains('x'));
    }
}
