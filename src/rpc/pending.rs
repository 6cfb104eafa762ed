//! Questions awaiting answers; one that is dropped unanswered says so.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::message::Reply;

/// Whom to tell when an answer comes, by the number of the question.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    closed: bool,
    /// Somebody did not wait for an answer that may still come.
    forgotten: bool,
}

impl Pending {
    /// A place for the answer to question `id`. After [`Pending::close`] it is one that nothing will ever come to,
    /// and that says so at once.
    pub(crate) fn expect(&self, id: u64) -> oneshot::Receiver<Reply> {
        let (tell, told) = oneshot::channel();
        let mut table = self.lock();
        if !table.closed {
            table.waiting.insert(id, tell);
        }
        told
    }

    /// Hands an answer to whoever asked. `false`: nobody waits for it, now or any more.
    pub(crate) fn settle(&self, id: u64, reply: Reply) -> bool {
        let waiting = self.lock().waiting.remove(&id);
        waiting.is_some_and(|tell| tell.send(reply).is_ok())
    }

    /// Hands an answer that does not say to what to the only one who can have asked. `false`: there may be more than one.
    pub(crate) fn settle_only(&self, reply: Reply) -> bool {
        let mut table = self.lock();
        if table.forgotten || table.waiting.len() != 1 {
            return false;
        }
        let only = table.waiting.drain().next();
        only.is_some_and(|(_, tell)| tell.send(reply).is_ok())
    }

    /// Nobody waits for this answer any more.
    pub(crate) fn forget(&self, id: u64) {
        let mut table = self.lock();
        table.forgotten |= table.waiting.remove(&id).is_some();
    }

    /// No answer will come any more: everybody who waits is told, and so is everybody who asks from now on.
    pub(crate) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        table.waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while holding it; even then the table would be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Malformed;
    use super::*;

    const fn malformed() -> Reply {
        Reply::Malformed(Malformed::Members)
    }

    #[tokio::test]
    async fn an_answer_finds_its_question_once() {
        let pending = Pending::default();
        let told = pending.expect(1);
        assert!(!pending.settle(2, malformed()));
        assert!(pending.settle(1, malformed()));
        assert!(!pending.settle(1, malformed()));
        assert!(told.await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_to_nobody_knows_what_is_for_the_only_one_who_can_have_asked() {
        let pending = Pending::default();
        assert!(!pending.settle_only(malformed()));
        let only = pending.expect(1);
        assert!(pending.settle_only(malformed()));
        assert!(only.await.is_ok());
        let (_one, _other) = (pending.expect(2), pending.expect(3));
        assert!(!pending.settle_only(malformed()));
        pending.forget(2);
        assert!(!pending.settle_only(malformed()), "it may be the late answer to what was forgotten");
    }

    #[tokio::test]
    async fn a_question_without_hope_says_so() {
        let pending = Pending::default();
        let before = pending.expect(1);
        pending.close();
        assert!(before.await.is_err());
        assert!(pending.expect(2).await.is_err());
    }
}
