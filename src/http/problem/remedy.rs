//! What to do about one failed call: its kind says, unless more is known. Pure.

use super::{Kind, Sees, kind_of};
use crate::exchange::{CallError, LastWords, Phase};

/// What to do, in one sentence without its end.
pub(super) const fn remedy(error: &CallError, sees: Sees) -> &'static str {
    let kind = kind_of(error);
    match error {
        CallError::DeadlineExceeded { phase, .. } => of_phase(*phase),
        CallError::SpawnFailed { .. } if matches!(sees, Sees::Little) => ASK,
        CallError::OpenFailed { words, .. }
        | CallError::ServerCrashed { words, .. }
        | CallError::ProtocolViolation { words, .. } => match sees {
            Sees::Little => ASK,
            Sees::Everything => after(words, kind),
        },
        CallError::Overloaded { .. }
        | CallError::QuotaExceeded { .. }
        | CallError::ShuttingDown { .. }
        | CallError::CallerGone { .. }
        | CallError::SpawnFailed { .. }
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

/// To those who are not shown what the server said.
const ASK: &str = "Ask the operator of the gateway, and name the call id";

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
        Phase::Queue => "Raise `limits.concurrent` of the server, or allow the call more time to wait",
        Phase::Spawn | Phase::Open => {
            "Check that the command is an MCP server on stdio; if it only starts slowly, raise `open_deadline` of the server, and `Spawnling-Timeout` where that is shorter"
        }
        Phase::Call => {
            "Allow it more time (`deadline` of the server caps what `Spawnling-Timeout` may ask for), or ask for less at once"
        }
    }
}
