//! Why a call failed, and whose fault that is. Pure.
//!
//! The status of an answer, the level of a log line and the label of a metric follow from [`CallError::fault`], once;
//! which words a caller gets is decided in `http/problem.rs`, nowhere else.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, Exit, RawJson, Shortage};
use crate::deadline::Reason;

/// An error and its causes in one line; a cause that the text before it already quotes is not said twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// The longest line about one failure, in bytes.
const LONGEST_STORY: usize = 2048;

/// How far a call had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a seat.
    Queue,
    /// Starting the process.
    Spawn,
    /// Shaking hands with it.
    Open,
    /// Asking it.
    Call,
}

impl Phase {
    /// The name in problems, logs and `Server-Timing`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Spawn => "spawn",
            Self::Open => "open",
            Self::Call => "call",
        }
    }
}

/// Who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The caller: what was asked cannot be done as asked.
    Caller,
    /// The server's program or its configuration.
    Server,
    /// Nobody: too much at once, or stopping. Later it may work.
    Overload,
    /// Time ran out; whose fault that is cannot be told.
    Deadline,
    /// Spawnling's own.
    Ours,
}

impl Fault {
    /// The name in problems, receipts and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Server => "server",
            Self::Overload => "overload",
            Self::Deadline => "deadline",
            Self::Ours => "gateway",
        }
    }
}

/// What a server left behind that helps to understand its failure.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastWords {
    /// How it ended, if it had ended.
    pub(crate) exit: Option<Exit>,
    /// The limit that it met, if one is known.
    pub(crate) cause: Option<Cause>,
    /// The end of what it wrote to stderr; invalid UTF-8 replaced.
    pub(crate) stderr_tail: String,
    /// The first lines on stdout that were no protocol messages, shortened.
    pub(crate) noise: Vec<String>,
}

/// One place where arguments break the tool's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// A JSON pointer (RFC 6901) into the arguments.
    pub(crate) pointer: String,
    /// What is wrong there.
    pub(crate) message: String,
}

fn full(waited: Option<Duration>) -> String {
    waited.map_or("the queue is full".to_owned(), |waited| format!("none became free within {waited:?}"))
}

/// One that has not exited has closed its stdout, and can say nothing more.
const fn ended(words: &LastWords) -> &'static str {
    if words.exit.is_some() { "ended" } else { "closed its stdout" }
}

/// Why a call, or one step of it, failed. A clone is for another call that failed by the same cause.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// No seat, and no place left in the queue (`waited`: none), or no seat in time.
    #[error("every seat is taken, and {}", full(*waited))]
    Overloaded { retry_after: Duration, waited: Option<Duration> },
    /// As many calls of this principal are in as it may have.
    #[error("as many calls of {principal} are in as may be at once: {share}")]
    QuotaExceeded { principal: String, share: usize, retry_after: Duration },
    /// The gateway is stopping.
    #[error("the gateway is shutting down")]
    ShuttingDown { phase: Phase },
    /// The call's time ran out.
    #[error("time ran out after {after:?} in phase {}", phase.name())]
    DeadlineExceeded { phase: Phase, after: Duration, words: Box<LastWords> },
    /// Nobody waits for the answer any more.
    #[error("the caller left in phase {}", phase.name())]
    CallerGone { phase: Phase },
    /// The process could not be started.
    #[error("cannot start {}", program.display())]
    SpawnFailed { program: PathBuf, source: Arc<dyn Error + Send + Sync> },
    /// It started, but the handshake failed.
    #[error("the server did not open")]
    OpenFailed { source: Arc<dyn Error + Send + Sync>, words: Box<LastWords> },
    /// It was asked without a handshake, as it could be before, and does not speak that revision any more.
    #[error("the server no longer speaks the protocol revision that it did")]
    NoLongerModern { words: Box<LastWords> },
    /// It ended, or closed its stdout, before it had answered.
    #[error("the server {} in phase {} without an answer", ended(words), phase.name())]
    ServerCrashed { phase: Phase, words: Box<LastWords> },
    /// It said something that the protocol does not allow and that cannot be skipped.
    #[error("the server broke the protocol: {what}")]
    ProtocolViolation { phase: Phase, what: String, words: Box<LastWords> },
    /// It answered with a JSON-RPC error of no more specific kind.
    #[error("the server answered with error {code}: {message}")]
    ServerError { code: i64, message: String, data: Option<RawJson>, words: Box<LastWords> },
    /// One of its messages, or a list, was larger than is allowed.
    #[error("the server wrote more than {limit} bytes")]
    OutputTooLarge { phase: Phase, limit: usize, words: Box<LastWords> },
    /// There is no such tool. `meant`: the one that probably was, as far as it is known and may be called.
    #[error("there is no tool {name:?}")]
    UnknownTool { name: String, meant: Option<String> },
    /// There is no such resource.
    #[error("there is no resource {uri:?}")]
    UnknownResource { uri: String },
    /// There is no such prompt.
    #[error("there is no prompt {name:?}")]
    UnknownPrompt { name: String },
    /// The server lacks the capability (-32601).
    #[error("the server does not offer {what}")]
    NotOffered { what: String },
    /// The arguments break the schema (`violations`), or the server refused them (-32602: no violations).
    #[error("the arguments are not what the server expects: {message}")]
    InvalidArguments { message: String, violations: Vec<Violation> },
    /// A modern server asks back before it can answer; the whole `input_required` result.
    #[error("the server asks for more input")]
    InputRequired { result: RawJson },
    /// A modern server cannot go on without a client capability (-32021); its `data`.
    #[error("the server needs a capability that this client does not have: {message}")]
    CapabilityRequired { message: String, data: Option<RawJson> },
    /// The tool ran and said `isError: true`; the whole result.
    #[error("the tool reported an error")]
    ToolError { result: RawJson },
    /// A defect of ours.
    #[error("internal error: {what}")]
    Internal { what: String },
}

impl CallError {
    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            // The program may be as it should be: nothing can be started here at the moment.
            Self::SpawnFailed { source, .. } if Shortage::behind(&**source).is_some() => Fault::Overload,
            Self::Overloaded { .. } | Self::ShuttingDown { .. } => Fault::Overload,
            Self::DeadlineExceeded { .. } => Fault::Deadline,
            Self::SpawnFailed { .. }
            | Self::OpenFailed { .. }
            | Self::NoLongerModern { .. }
            | Self::ServerCrashed { .. }
            | Self::ProtocolViolation { .. }
            | Self::ServerError { .. }
            | Self::OutputTooLarge { .. } => Fault::Server,
            Self::QuotaExceeded { .. }
            | Self::CallerGone { .. }
            | Self::UnknownTool { .. }
            | Self::UnknownResource { .. }
            | Self::UnknownPrompt { .. }
            | Self::NotOffered { .. }
            | Self::InvalidArguments { .. }
            | Self::InputRequired { .. }
            | Self::CapabilityRequired { .. }
            | Self::ToolError { .. } => Fault::Caller,
            Self::Internal { .. } => Fault::Ours,
        }
    }

    /// The name of the problem that it is, wherever it is told.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Overloaded { .. } => "overloaded",
            Self::QuotaExceeded { .. } => "quota-exceeded",
            Self::ShuttingDown { .. } => "shutting-down",
            Self::DeadlineExceeded { .. } => "deadline-exceeded",
            Self::CallerGone { .. } => "caller-gone",
            Self::SpawnFailed { .. } => "spawn-failed",
            Self::OpenFailed { .. } | Self::NoLongerModern { .. } => "open-failed",
            Self::ServerCrashed { .. } => "server-crashed",
            Self::ProtocolViolation { .. } => "protocol-violation",
            Self::ServerError { .. } => "server-error",
            Self::OutputTooLarge { .. } => "output-too-large",
            Self::UnknownTool { .. } => "unknown-tool",
            Self::UnknownResource { .. } => "unknown-resource",
            Self::UnknownPrompt { .. } => "unknown-prompt",
            Self::NotOffered { .. } => "not-offered",
            Self::InvalidArguments { .. } => "invalid-arguments",
            Self::InputRequired { .. } => "input-required",
            Self::CapabilityRequired { .. } => "capability-required",
            Self::ToolError { .. } => "tool-error",
            Self::Internal { .. } => "internal-error",
        }
    }

    /// How far the call had come, where that is not plain from the kind of failure.
    pub(crate) const fn phase(&self) -> Option<Phase> {
        match self {
            Self::Overloaded { .. } | Self::QuotaExceeded { .. } => Some(Phase::Queue),
            Self::SpawnFailed { .. } => Some(Phase::Spawn),
            Self::OpenFailed { .. } | Self::NoLongerModern { .. } => Some(Phase::Open),
            Self::ShuttingDown { phase }
            | Self::DeadlineExceeded { phase, .. }
            | Self::CallerGone { phase }
            | Self::ServerCrashed { phase, .. }
            | Self::ProtocolViolation { phase, .. }
            | Self::OutputTooLarge { phase, .. } => Some(*phase),
            Self::ServerError { .. }
            | Self::InputRequired { .. }
            | Self::CapabilityRequired { .. }
            | Self::ToolError { .. } => Some(Phase::Call),
            Self::UnknownTool { .. }
            | Self::UnknownResource { .. }
            | Self::UnknownPrompt { .. }
            | Self::NotOffered { .. }
            | Self::InvalidArguments { .. }
            | Self::Internal { .. } => None,
        }
    }

    /// Why the call ended before its time, if it did.
    pub(crate) const fn early(&self) -> Option<Reason> {
        match self {
            Self::CallerGone { .. } => Some(Reason::CallerGone),
            Self::DeadlineExceeded { .. } => Some(Reason::DeadlineExceeded),
            Self::ShuttingDown { .. } => Some(Reason::Stopped),
            _ => None,
        }
    }

    /// What the server left behind, if the failure is of a kind that leaves something.
    pub(crate) const fn words(&self) -> Option<&LastWords> {
        match self {
            Self::DeadlineExceeded { words, .. }
            | Self::OpenFailed { words, .. }
            | Self::NoLongerModern { words }
            | Self::ServerCrashed { words, .. }
            | Self::ProtocolViolation { words, .. }
            | Self::ServerError { words, .. }
            | Self::OutputTooLarge { words, .. } => Some(words),
            _ => None,
        }
    }

    /// The same with what the server has left behind, if the failure is of a kind that leaves something.
    pub(crate) fn with_words(mut self, left: Box<LastWords>) -> Self {
        match &mut self {
            Self::DeadlineExceeded { words, .. }
            | Self::OpenFailed { words, .. }
            | Self::NoLongerModern { words }
            | Self::ServerCrashed { words, .. }
            | Self::ProtocolViolation { words, .. }
            | Self::ServerError { words, .. }
            | Self::OutputTooLarge { words, .. } => *words = left,
            _ => {}
        }
        self
    }

    /// The whole story in one line, for the log: the error, its causes, how the server ended and what it said last.
    pub(crate) fn story(&self) -> String {
        let mut story = chain(self);
        story.truncate(story.floor_char_boundary(LONGEST_STORY));
        let Some(words) = self.words() else { return story };
        let exit = words.exit.map(|exit| format!("; it {}", exit.words())).unwrap_or_default();
        let cause = words.cause.map(|cause| format!("; it {}", cause.words())).unwrap_or_default();
        let last = words.stderr_tail.lines().rfind(|line| !line.trim().is_empty());
        let last = last.map(|line| format!("; its last words: {line}")).unwrap_or_default();
        let mut story = story + &exit + &cause + &last;
        // A server's own sentence may be as long as its longest message.
        story.truncate(story.floor_char_boundary(LONGEST_STORY));
        story
    }

    /// Whether it is about what the server said, which need not be the end of the conversation; a message that was too long
    /// is.
    pub(crate) const fn is_about_words(&self) -> bool {
        matches!(self, Self::ProtocolViolation { .. })
    }

    /// Whether the conversation can go on after it: the server answered, and merely not as hoped.
    pub(crate) const fn is_an_answer(&self) -> bool {
        matches!(
            self,
            Self::ServerError { .. }
                | Self::UnknownTool { .. }
                | Self::UnknownResource { .. }
                | Self::UnknownPrompt { .. }
                | Self::NotOffered { .. }
                | Self::InvalidArguments { .. }
                | Self::InputRequired { .. }
                | Self::CapabilityRequired { .. }
                | Self::ToolError { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_of_a_failure_has_its_cause_its_end_and_its_last_words() {
        let words = LastWords {
            exit: Some(Exit::Code(3)),
            cause: None,
            stderr_tail: "first\nno such table\n\n".to_owned(),
            noise: Vec::new(),
        };
        let source = Arc::new(std::io::Error::other("it ended"));
        let error = CallError::OpenFailed { source, words: Box::new(words) };
        let story = "the server did not open: it ended; it exited with code 3; its last words: no such table";
        assert_eq!(error.story(), story);
        let words =
            LastWords { exit: Some(Exit::Signal(24)), cause: Some(Cause::Cpu), ..LastWords::default() };
        let error = CallError::ServerCrashed { phase: Phase::Call, words: Box::new(words) };
        let story = "the server ended in phase call without an answer; it was ended by SIGXCPU; it reached its limit of \
                     processor time";
        assert_eq!(error.story(), story);
        assert_eq!(
            CallError::UnknownTool { name: "x".to_owned(), meant: None }.story(),
            "there is no tool \"x\""
        );
    }

    #[test]
    fn whoever_waited_in_vain_is_not_told_of_a_full_queue() {
        let error =
            |waited| CallError::Overloaded { retry_after: Duration::from_secs(1), waited }.to_string();
        assert_eq!(error(None), "every seat is taken, and the queue is full");
        assert_eq!(
            error(Some(Duration::from_secs(1))),
            "every seat is taken, and none became free within 1s"
        );
    }
}
