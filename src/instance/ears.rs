//! What is done with what a server says unasked: its questions are answered, its events handed on, its noise kept.

use std::sync::Arc;

use super::hub::Routes;
use crate::exchange::{Events, RawJson};
use crate::mcp;
use crate::rpc::Listener;

/// How many stray lines are remembered, and how much of each.
const NOISE: (usize, usize) = (5, 200);

/// What is done with what a server says unasked.
#[derive(Debug, Default)]
pub(super) struct Ears {
    /// Where progress and log messages go, while somebody listens.
    pub(super) events: Option<Events>,
    /// Where they go, while many may listen.
    pub(super) routes: Option<Arc<Routes>>,
    /// The first stray lines.
    pub(super) noise: Vec<String>,
    /// Nobody asks it anything now, so that a stray line is more than a flaw of some answer.
    pub(super) unasked: bool,
    /// There was such a line.
    pub(super) babbled: bool,
}

impl Listener for Ears {
    fn request(&mut self, method: &str) -> Result<RawJson, (i64, &'static str)> {
        mcp::types::answer(method)
    }

    fn notification(&mut self, method: &str, params: Option<RawJson>) {
        if self.events.is_none() && self.routes.is_none() {
            return;
        }
        let Some(event) = mcp::types::event(method, params) else { return };
        if let Some(routes) = &self.routes {
            routes.deliver(event);
        } else if let Some(events) = &self.events {
            events.push(event);
        }
    }

    fn noise(&mut self, line: &[u8]) {
        self.babbled |= self.unasked;
        let (most, longest) = NOISE;
        if self.noise.len() < most {
            let shown = String::from_utf8_lossy(&line[..line.len().min(longest)]);
            self.noise.push(shown.trim_end().to_owned());
        }
    }
}
