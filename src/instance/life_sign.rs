//! What tells a server that hangs over its start, or has stopped listening, from one whose tool takes long.
//!
//! A handshake that is not answered in time shows the first. A server that is asked without one, as modern servers are,
//! gives no such sign: its first answer is the tool's, and a tool may take as long as the call has. But a server that is
//! up has read its stdin, and what it has not read can be counted in the pipe. Why it is not asked instead:
//! docs/decisions/a-hung-start-has-read-nothing.md. Likewise one that has closed its stdin may work on what it has read
//! to the end, and will never answer what it has not.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Body, BrokenOff, Wire};
use crate::child::{Intake, Output};
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
        let unread = || self.wire.writer().and_then(|stdin| stdin.unread());
        self.wire.heard() || unread().is_none_or(|unread| unread < self.wire.said())
    }
}

/// How long an answer is waited for before the server's end of its stdin is watched: most calls are over by then, and need
/// not pay for it.
const IN_A_WHILE: Duration = Duration::from_millis(100);

/// Tells of a server that has closed its stdin while a question is still in the pipe.
pub(super) struct Watch {
    /// What is waited for: that some time passes, that nobody reads any more, or nothing.
    next: BoxFuture<'static, ()>,
    watched: bool,
}

impl Watch {
    /// One that has seen nothing yet.
    pub(super) fn new() -> Self {
        Self { next: tokio::time::sleep(IN_A_WHILE).boxed(), watched: false }
    }

    /// Returns when [`Self::finds_it_deaf`] is to be asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn due(&mut self) {
        self.next.as_mut().await;
    }

    /// Looks whether a question will never be read; if not, [`Self::due`] says when to look again. One that has read all
    /// that it was asked may close its stdin and work on; what it is asked after that cannot be said, which is noticed by
    /// whoever says it.
    pub(super) fn finds_it_deaf(&mut self, wire: &Wire<Box<dyn Output>, Box<dyn Intake>>) -> bool {
        self.next = std::future::pending().boxed();
        let Some(stdin) = wire.writer() else { return false };
        if self.watched {
            return stdin.has_no_reader() && stdin.unread().is_some_and(|unread| wire.is_unheard(unread));
        }
        self.watched = true;
        if let Ok(no_reader) = stdin.no_reader() {
            self.next = no_reader;
        }
        false
    }
}
