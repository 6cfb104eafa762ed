//! What to do about one failed call: its kind says, unless more is known. Pure.

use super::{Kind, Sees, kind_of};
use crate::exchange::{CallError, Cause, FOREIGN_FORMAT, LastWords, Phase, Shortage, is_foreign_format};

/// What to do, in one sentence without its end.
pub(super) fn remedy(error: &CallError, sees: Sees) -> &'static str {
    let kind = kind_of(error);
    if matches!(sees, Sees::Little) {
        if is_the_operators(error) {
            return ASK;
        }
    } else if let Some(cause) = met(error) {
        return cause.remedy();
    }
    match error {
        CallError::DeadlineExceeded { phase: Phase::Open, words, .. } if shown(words, sees) => {
            "`noise` shows what it printed on stdout, where only MCP messages may stand: check that the command is an MCP server on stdio; if it only starts slowly, raise `open_deadline` of the server"
        }
        CallError::DeadlineExceeded { phase: Phase::Call, words, .. } if shown(words, sees) => {
            "`noise` shows what it printed on stdout, where only MCP messages may stand, its answer perhaps among it; if the tool only takes long, allow it more time with `Spawnling-Timeout`, or `deadline` of the server"
        }
        CallError::DeadlineExceeded { phase, .. } => of_phase(*phase),
        // The server's own refusal may be about a prompt or a resource as well.
        CallError::InvalidArguments { violations, .. } if violations.is_empty() => {
            "Compare them with what `GET /v1/servers/{server}/tools`, or `/prompts`, says of them"
        }
        CallError::NoLongerModern { .. } => {
            "What was remembered of it is dropped: ask again, and the next call begins with a handshake"
        }
        CallError::SpawnFailed { source, .. } if is_foreign_format(&**source) => FOREIGN_FORMAT,
        CallError::SpawnFailed { source, .. } => {
            Shortage::behind(&**source).map_or(kind.facts().remedy, Shortage::remedy)
        }
        CallError::OutputTooLarge { phase: Phase::Open, .. } => {
            "It had not opened yet: check that the command is an MCP server on stdio; if it is one, raise `limits.output` of the server"
        }
        // It has opened, so it is an MCP server: no word of that.
        CallError::ServerCrashed { words, phase: Phase::Call } if is_silent(words) => {
            "It wrote nothing to stderr; try other arguments, and run the server by hand"
        }
        CallError::ProtocolViolation { words, phase: Phase::Call, .. } if is_silent(words) => {
            "It wrote nothing to stderr; run the server by hand, and tell its author"
        }
        CallError::ServerError { words, .. }
            if !words.stderr_tail.is_empty() && matches!(sees, Sees::Everything) =>
        {
            "`stderr_tail` shows what it wrote to stderr last; or look up the error in the server's own documentation"
        }
        CallError::OpenFailed { words, .. }
        | CallError::ServerCrashed { words, .. }
        | CallError::ProtocolViolation { words, .. } => after(words, kind),
        CallError::Overloaded { .. }
        | CallError::QuotaExceeded { .. }
        | CallError::ShuttingDown { .. }
        | CallError::CallerGone { .. }
        | CallError::ServerError { .. }
        | CallError::OutputTooLarge { .. }
        | CallError::UnknownTool { .. }
        | CallError::UnknownResource { .. }
        | CallError::UnknownPrompt { .. }
        | CallError::NotOffered { .. }
        | CallError::InvalidArguments { .. }
        | CallError::InputRequired { .. }
        | CallError::CapabilityRequired { .. }
        | CallError::ToolError { .. }
        | CallError::Internal { .. } => kind.facts().remedy,
    }
}

/// Whether a look at what the server left behind, or at its settings, is all that helps.
const fn is_the_operators(error: &CallError) -> bool {
    matches!(
        error,
        CallError::SpawnFailed { .. }
            | CallError::OpenFailed { .. }
            | CallError::ServerCrashed { .. }
            | CallError::ProtocolViolation { .. }
            | CallError::OutputTooLarge { phase: Phase::Open, .. }
    )
}

/// The limit by which it failed, if it is known to have met one.
const fn met(error: &CallError) -> Option<Cause> {
    match error {
        CallError::OpenFailed { words, .. }
        | CallError::ServerCrashed { words, .. }
        | CallError::ProtocolViolation { words, .. } => words.cause,
        _ => None,
    }
}

/// To those who are not shown what the server said.
const ASK: &str = "Ask the operator of the gateway, and name the call id";

/// Whether there is stray output, and the caller is shown it.
const fn shown(words: &LastWords, sees: Sees) -> bool {
    !words.noise.is_empty() && matches!(sees, Sees::Everything)
}

const fn is_silent(words: &LastWords) -> bool {
    words.stderr_tail.is_empty() && words.noise.is_empty()
}

/// Points only to what is there to be read.
const fn after(words: &LastWords, kind: Kind) -> &'static str {
    match (words.stderr_tail.is_empty(), words.noise.is_empty(), kind) {
        (_, false, Kind::ProtocolViolation) | (false, _, Kind::OpenFailed | Kind::ServerCrashed) => {
            kind.facts().remedy
        }
        (true, false, _) => {
            "It wrote nothing to stderr; `noise` shows what it printed on stdout, where only MCP messages may stand"
        }
        (false, _, _) => {
            "Read its last words in `stderr_tail`; check that the command is an MCP server on stdio"
        }
        (true, true, _) => {
            "It wrote nothing to stderr; run the command by hand, and check that it is an MCP server on stdio"
        }
    }
}

const fn of_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Queue => {
            "Raise `limits.concurrent` of the server, or `concurrent` of the gateway where that is less than its servers need together; or allow the call more time to wait"
        }
        Phase::Spawn | Phase::Open => {
            "Check that the command is an MCP server on stdio; if it only starts slowly, raise `open_deadline` of the server, and `Spawnling-Timeout` where that is shorter"
        }
        Phase::Call => {
            "Allow it more time (`deadline` of the server caps what `Spawnling-Timeout` may ask for), or ask for less at once"
        }
    }
}
