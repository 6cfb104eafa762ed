//! One list of one server: kept while it is fresh, and used longer when only the last known schema is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::Schema;
use crate::exchange::fault::Violation;
use crate::exchange::{Listed, RawJson};

/// A place for one list.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    kept: Mutex<Option<Arc<Kept>>>,
    /// Held by whoever is asking the server: everybody else waits for that answer.
    pub(super) asking: Arc<tokio::sync::Mutex<()>>,
}

/// A list as it was learned.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) listed: Arc<Listed>,
    pub(super) learned: Instant,
    fresh_for: Duration,
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
    pub(super) fn put(&self, listed: &Arc<Listed>, ttl: Duration) -> Arc<Kept> {
        let kept = Arc::new(Kept {
            listed: Arc::clone(listed),
            learned: Instant::now(),
            fresh_for: listed.ttl.unwrap_or(ttl),
            tools: OnceLock::new(),
        });
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&kept));
        kept
    }
}

impl Kept {
    /// Whether it may be shown without asking again.
    pub(super) fn is_fresh(&self) -> bool {
        self.learned.elapsed() < self.fresh_for
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

    fn kept(items: &[&str], ttl: Option<Duration>) -> Arc<Kept> {
        let raw = |text: &&str| RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let listed = Arc::new(Listed { items: items.iter().map(raw).collect(), ttl });
        Shelf::default().put(&listed, Duration::from_mins(1))
    }

    #[test]
    fn a_list_is_as_fresh_as_the_server_says_or_else_as_configured() {
        assert!(kept(&[], None).is_fresh());
        assert!(kept(&[], Some(Duration::from_secs(9))).is_fresh());
        assert!(!kept(&[], Some(Duration::ZERO)).is_fresh());
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
