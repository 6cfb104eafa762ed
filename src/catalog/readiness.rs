//! Whether a server that the gateway cannot do without can be started. What is not known is found out: by a call that asks
//! nothing, within the same bounds as any other, one at a time and not too often.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::{Catalog, plain};
use crate::deadline::Deadline;
use crate::exchange::{Answer, CallId, Caller, Credentials, LastStart, Principal, Reply};

/// The shortest pause between two starts that only find out whether there can be any.
const AGAIN: Duration = Duration::from_secs(5);

/// A start that only finds out whether there can be any.
#[derive(Debug)]
pub(super) struct Trial {
    began: Instant,
    answer: Option<oneshot::Receiver<Answer>>,
}

impl Trial {
    fn goes_on(&mut self) -> bool {
        self.answer.as_mut().is_some_and(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)))
    }
}

impl Catalog {
    /// What keeps the gateway from being ready, if something does: the last start of a server that is required failed, or
    /// none has succeeded yet. It is tried again then, now and then, by a call of the name that `id` gives.
    pub(crate) fn not_ready(&self, id: impl FnOnce() -> Option<CallId>) -> Option<LastStart> {
        let last = self.calls.about().last_start;
        if !self.settings.required || last == LastStart::Good {
            return None;
        }
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = tried.as_mut().is_some_and(|last| last.goes_on() || last.began.elapsed() < AGAIN);
        if !too_soon && let Some(id) = id() {
            let (deadline, reply) = (Deadline::within(self.deadline()), Reply::WhenKnown);
            let nobody = Caller {
                id,
                principal: Principal::anonymous(),
                deadline,
                reply,
                credentials: Credentials::default(),
                trace: None,
            };
            let answer = self.calls.try_out(plain(nobody, Vec::new()));
            *tried = Some(Trial { began: Instant::now(), answer });
        }
        Some(last)
    }

    /// Whether whoever calls it now is turned away.
    pub(crate) fn is_full(&self) -> bool {
        self.calls.is_full()
    }
}
