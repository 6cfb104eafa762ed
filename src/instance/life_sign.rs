//! What tells a server that hangs over its start from one whose tool takes long.
//!
//! A handshake that is not answered in time shows the first. A server that is asked without one, as modern servers are,
//! gives no such sign: its first answer is the tool's, and a tool may take as long as the call has. But a server that is
//! up has read its stdin, and what it has not read can be counted in the pipe. Why it is not asked instead:
//! docs/decisions/a-hung-start-has-read-nothing.md.

use std::pin::pin;

use super::{Body, BrokenOff};
use crate::child::Stdin;
use crate::deadline::{EarlyEnd, Reason};

impl Body {
    /// Like [`Self::converse`]. A server that was opened without a handshake may not even have started: one that hangs
    /// over that must not cost the whole time of the call, and one whose tool takes long must not be cut short.
    pub(super) async fn converse_as_it_starts<T>(
        &mut self,
        work: impl Future<Output = T>,
        end: &EarlyEnd,
    ) -> Result<T, BrokenOff> {
        if self.is_up() {
            return self.converse(work, end).await;
        }
        let mut work = pin!(work);
        let (after, lesson) = (self.server.open_deadline, self.lesson);
        match self.converse(work.as_mut(), &end.within(after)).await {
            Err(BrokenOff::Early(Reason::DeadlineExceeded)) if self.is_up() => {
                self.lesson = lesson;
                self.converse(work, end).await
            }
            Err(BrokenOff::Early(Reason::DeadlineExceeded)) => {
                Err(BrokenOff::NotUp { after: after.min(end.deadline().budget()) })
            }
            conversed => conversed,
        }
    }

    /// Whether the server has come up: it has said something, or has begun to read what it was told. For what a server
    /// has not read yet is still in the pipe to it, and can be counted there, at no cost to the conversation.
    fn is_up(&self) -> bool {
        let unread = || self.wire.writer().and_then(Stdin::unread);
        self.wire.heard() || unread().is_none_or(|unread| unread < self.wire.said())
    }
}
