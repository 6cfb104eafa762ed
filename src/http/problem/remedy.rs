//! What to do about one failed call: its kind says, unless more is known. Pure.

use super::kind_of;
use crate::exchange::{CallError, Phase};

/// What to do, in one sentence without its end.
pub(super) const fn remedy(error: &CallError) -> &'static str {
    let usual = kind_of(error).facts().remedy;
    match error {
        CallError::DeadlineExceeded { phase, .. } => of_phase(*phase),
        CallError::Overloaded { .. }
        | CallError::ShuttingDown { .. }
        | CallError::CallerGone { .. }
        | CallError::SpawnFailed { .. }
        | CallError::OpenFailed { .. }
        | CallError::ServerCrashed { .. }
        | CallError::ProtocolViolation { .. }
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
        | CallError::Internal { .. } => usual,
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
