//! What a problem says in words: what happened, with its causes, once. Pure.

use serde::Serialize;

use super::{Sees, kind_of};
use crate::exchange::fault::chain;
use crate::exchange::{CallError, Cause, Exit, LastWords};
use crate::http::text;

/// How much of a tool's own words is quoted in the detail; all of them are in `result`.
const QUOTED: usize = 2_000;

/// What happened, in one sentence without its end: the error, its causes, how the process ended.
pub(super) fn describe(error: &CallError, sees: Sees) -> String {
    match error {
        CallError::SpawnFailed { .. } | CallError::ProtocolViolation { .. } | CallError::Internal { .. }
            if sees == Sees::Little =>
        {
            kind_of(error).facts().title.to_owned()
        }
        CallError::OpenFailed { words, .. } if sees == Sees::Little => with_exit(error.to_string(), words),
        CallError::DeadlineExceeded { words, .. }
        | CallError::OpenFailed { words, .. }
        | CallError::NoLongerModern { words }
        | CallError::ServerCrashed { words, .. }
        | CallError::ProtocolViolation { words, .. }
        | CallError::OutputTooLarge { words, .. } => with_exit(chain(error), words),
        CallError::InvalidArguments { violations, .. } => {
            let text = chain(error);
            // The first may be quoted in the message already.
            let untold = violations.iter().filter(|violation| !text.contains(&violation.message));
            let places = untold.map(|violation| match &*violation.pointer {
                "" => format!("; {}", violation.message),
                pointer => format!("; {} at {pointer}", violation.message),
            });
            let places: String = places.take(3).collect();
            text + &places
        }
        CallError::UnknownTool { meant: Some(meant), .. } => {
            format!("{}; did you mean {meant:?}?", chain(error))
        }
        CallError::ToolError { result } => match text::of_tool(result) {
            Some(words) if !words.trim().is_empty() => format!("{error}: {}", shortened(words.trim())),
            Some(_) | None => error.to_string(),
        },
        CallError::Overloaded { .. }
        | CallError::QuotaExceeded { .. }
        | CallError::ShuttingDown { .. }
        | CallError::CallerGone { .. }
        | CallError::SpawnFailed { .. }
        | CallError::ServerError { .. }
        | CallError::UnknownTool { meant: None, .. }
        | CallError::UnknownResource { .. }
        | CallError::UnknownPrompt { .. }
        | CallError::NotOffered { .. }
        | CallError::InputRequired { .. }
        | CallError::CapabilityRequired { .. }
        | CallError::Internal { .. } => chain(error),
    }
}

fn with_exit(text: String, words: &LastWords) -> String {
    let exit = words.exit.map(|exit| format!("it {}", exit.words()));
    let cause = words.cause.map(|cause| format!("it {}", cause.words()));
    let told: Vec<_> = exit.into_iter().chain(cause).collect();
    if told.is_empty() { text } else { format!("{text} ({})", told.join("; ")) }
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(QUOTED);
    format!("{}{}", &text[..end], if end < text.len() { " ..." } else { "" })
}

/// As a sentence begins, and without its end.
pub(super) fn capitalised(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// How a process ended, and the limit that it met: `{"code":1}`, `{"signal":9,"name":"SIGKILL","cause":"memory"}`. The
/// cause alone: it was refused something and lived on.
#[derive(Serialize, Default)]
pub(in crate::http) struct ExitShown {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
}

impl ExitShown {
    /// `None`: there is nothing to tell.
    pub(in crate::http) fn of(exit: Option<Exit>, cause: Option<Cause>) -> Option<Self> {
        let shown = Self { cause: cause.map(Cause::name), ..Self::default() };
        match exit {
            Some(Exit::Code(code)) => Some(Self { code: Some(code), ..shown }),
            Some(Exit::Signal(signal)) => {
                let name = exit.and_then(Exit::signal_name);
                Some(Self { signal: Some(signal), name, ..shown })
            }
            None => cause.map(|_| shown),
        }
    }
}
