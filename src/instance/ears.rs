//! What is done with what a server says unasked: its questions are answered, its events handed on, its noise kept.

use std::sync::Arc;

use super::hub::Routes;
use crate::exchange::{Event, Events, RawJson};
use crate::mcp;
use crate::rpc::Listener;

/// How many stray lines are remembered, and how much of each.
const NOISE: (usize, usize) = (5, 200);
/// What is said before a line that may look like a good one. (Behind it, it would hide from the mask that the line was cut
/// short.)
const UNFINISHED: &str = "(no newline at its end, so no message) ";

/// What is done with what a server says unasked.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Where progress and log messages go, while somebody listens.
    pub(super) events: Option<Events>,
    /// The number of the line that the progress of this call goes by: what comes by another is an earlier call's.
    pub(super) line: u64,
    /// Where they go, while many may listen.
    pub(super) routes: Option<Arc<Routes>>,
    /// The first stray lines.
    pub(super) noise: Vec<String>,
    /// Nobody asks it anything now, though somebody has: a stray line may be of that call, and would be shown to the next.
    pub(super) between_calls: bool,
    /// There was such a line.
    pub(super) babbled: bool,
}

impl Ears {
    /// A server that is used again may go on to tell of what it has answered. That is no other caller's business. (Whose a
    /// log message is, it does not say.)
    fn is_of_an_earlier_call(&self, event: &Event) -> bool {
        let Event::Progress(params) = event else { return false };
        mcp::line_of(params).is_some_and(|line| line != self.line)
    }

    fn keep(&mut self, remark: &str, line: &[u8]) {
        self.babbled |= self.between_calls;
        let (most, longest) = NOISE;
        if self.noise.len() < most {
            let shown = String::from_utf8_lossy(&line[..line.len().min(longest)]);
            self.noise.push(format!("{remark}{}", shown.trim_end()));
        }
    }
}

impl Listener for Ears {
    fn request(&mut self, method: &str) -> Result<RawJson, (i64, &'static str)> {
        mcp::types::answer(method)
    }

    fn notification(&mut self, method: &str, params: Option<RawJson>) {
        if let Some(routes) = &self.routes {
            routes.revisions.changed(mcp::types::changed_lists(method));
        }
        if self.events.is_none() && self.routes.is_none() {
            return;
        }
        let Some(event) = mcp::types::event(method, params) else { return };
        if let Some(routes) = &self.routes {
            routes.deliver(event);
        } else if let Some(events) = &self.events
            && !self.is_of_an_earlier_call(&event)
        {
            events.push(event);
        }
    }

    fn noise(&mut self, line: &[u8]) {
        self.keep("", line);
    }

    fn unfinished(&mut self, line: &[u8]) {
        self.keep(UNFINISHED, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_an_earlier_call_is_not_told_to_a_later_one() {
        let events = Events::default();
        let mut ears = Ears { events: Some(events.clone()), line: 1, ..Ears::default() };
        let mut told = |token: &str| {
            let params = format!(r#"{{"progressToken":{token},"progress":1}}"#);
            ears.notification("notifications/progress", RawJson::parse(params.into()).ok());
            events.try_next().is_some()
        };
        assert!(!told("1") && !told("131073"));
        // Some servers make a text of it.
        assert!(told("65537") && told("\"65537\"") && !told("\"1\""));
        // What is no token of ours at all is passed on as before.
        assert!(told("\"mine\""));
    }
}
