//! Whether a server still speaks what was remembered of it, and what its caller is told if not.
//!
//! A server that is believed to be modern is asked without a handshake. An older one may refuse that in the words that it
//! has for bad arguments: so a refusal that is the first thing heard of it is its caller's fault only once the server has
//! shown that it is modern. That costs a round trip, after a refusal only.

use super::{Body, BrokenOff, Instance};
use crate::deadline::{EarlyEnd, Reason};
use crate::exchange::{CallError, Outcome};
use crate::mcp::era::Era;
use crate::mcp::{self, AskError};

/// What came of a question.
type Asked = Result<Result<Outcome, AskError>, BrokenOff>;

/// What was believed of a server before it was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Belief {
    era: Era,
    contradicted: bool,
    questioned: bool,
}

impl Instance {
    /// What is believed of its era by now.
    pub(super) fn belief(&self) -> Belief {
        Belief {
            era: self.session.era(),
            contradicted: self.session.contradicted(),
            questioned: self.session.questioned(),
        }
    }

    /// Drops a verdict that an answer speaks against. The outcome is as it was, unless it is a refusal by a server that
    /// was asked in an era which is not its own.
    pub(super) async fn hold_against(&mut self, before: Belief, asked: Asked, end: &EarlyEnd) -> Asked {
        let first = self.session.questioned() && !before.questioned;
        let fled = first && self.flees_the_question(end).await;
        let turned = self.session.era() != before.era;
        self.untested |= turned;
        let contradicted = self.session.contradicted() && !before.contradicted;
        let left = matches!(asked, Ok(Err(AskError::HungUp { .. })));
        if turned || contradicted {
            self.body.no_longer_modern();
        } else if fled || (self.session.unproven() && (left || self.gave_nothing(&asked))) {
            self.body.forget_era();
        }
        match asked {
            // One of another modern revision says so itself.
            Ok(Err(AskError::Answered(CallError::ServerError { code: -32022, .. }))) => asked,
            Ok(Err(AskError::Answered(refusal))) if contradicted && is_refusal(&refusal) => {
                let words = self.body.words_of_the_living().await;
                Ok(Err(AskError::Answered(CallError::NoLongerModern { words })))
            }
            asked => asked,
        }
    }

    /// Likewise, when it was asked what it is. `in_vain`: it has not said so.
    pub(super) fn hold_introduction_against(&mut self, before: Belief, in_vain: bool) {
        let turned = self.session.era() != before.era;
        self.untested |= turned;
        if turned {
            self.body.no_longer_modern();
        } else if self.session.unproven() && in_vain {
            self.body.forget_era();
        }
    }

    /// Whether a server that is believed to be modern gave nothing at all, as some older ones do at a first request
    /// that is not `initialize`. A call may run out of time for many a reason: only a silence longer than a whole start
    /// may take says anything.
    pub(super) fn gave_nothing<T>(&self, asked: &Result<T, BrokenOff>) -> bool {
        match asked {
            Err(BrokenOff::Exited | BrokenOff::Deaf) => true,
            Err(BrokenOff::Early(Reason::DeadlineExceeded)) => {
                self.began.elapsed() >= self.body.server.open_deadline
            }
            // One that has not read a byte yet does not mind what it would have read.
            Ok(_) | Err(BrokenOff::Early(_) | BrokenOff::Unreadable(_) | BrokenOff::NotUp { .. }) => false,
        }
    }

    /// A server that is believed to be modern has only refused what it was asked. Whether it speaks for the server's era
    /// as well is found out before its caller hears of it. Silence, on a busy machine for example, says nothing; nor does
    /// it if the call ends meanwhile. True: it has left, as some older ones do, and some that have had enough.
    async fn flees_the_question(&mut self, end: &EarlyEnd) -> bool {
        let asking = self.session.is_modern_after_all();
        let told = self.body.converse(asking, &end.within(mcp::RECONSIDER)).await;
        matches!(told, Ok(None) | Err(BrokenOff::Exited | BrokenOff::Deaf))
    }
}

impl Body {
    fn no_longer_modern(&self) {
        tracing::warn!(
            server = %self.server.name,
            "the server no longer speaks the protocol revision that was remembered of it; it is found out anew"
        );
        self.forget_era();
    }

    fn forget_era(&self) {
        self.server.verdicts.forget(self.key);
    }
}

/// Whether these are the server's words for what it does not take, by which it has done nothing.
const fn is_refusal(error: &CallError) -> bool {
    !matches!(error, CallError::ToolError { .. } | CallError::InputRequired { .. })
}
