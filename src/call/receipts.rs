//! What is known of the calls that are, and of the last ones that were.
//!
//! ```text
//!   open -> Running -- told --> Ending -- end --> Ended -- so many calls later --> forgotten
//! ```
//!
//! Calls that go on are bounded by the doors that let them in; of those that are over the last so many are kept. A
//! record holds no words of anybody, so each is of one small size.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use crate::exchange::{CallId, Moment, Principal, Process, Record, Stage, Told, TraceContext};

/// The records of all servers' calls.
#[derive(Debug)]
pub(crate) struct Receipts {
    /// How many of those that are over are kept; 0: nothing is kept at all.
    most: usize,
    book: Mutex<Book>,
    /// Another one is over.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Book {
    running: HashMap<CallId, Record>,
    /// Those that are over, the oldest first. In a row, for there are many of them, and a table has room to spare.
    over: VecDeque<Record>,
    /// The number of each of these, counted from the first that ever was over; and that of the oldest.
    numbers: HashMap<CallId, u64>,
    oldest: u64,
}

impl Book {
    fn find(&self, id: CallId) -> Option<&Record> {
        let over = || self.over.get(usize::try_from(self.numbers.get(&id)? - self.oldest).ok()?);
        self.running.get(&id).or_else(over)
    }

    /// Puts down one that is over, and forgets the oldest if there would be more than `most`.
    fn close(&mut self, record: Record, most: usize) {
        self.running.remove(&record.id);
        if self.over.len() >= most
            && let Some(oldest) = self.over.pop_front()
        {
            self.numbers.remove(&oldest.id);
            self.oldest += 1;
        }
        self.numbers.insert(record.id, self.oldest + self.over.len() as u64);
        self.over.push_back(record);
    }
}

impl Receipts {
    /// Keeps the last `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, book: Mutex::default(), ended: Notify::new() }
    }

    /// What is known of a call by now. `None`: nothing, or nothing that `asker` may know; which of the two is not told.
    pub(crate) fn find(&self, id: CallId, asker: &Principal) -> Option<Record> {
        self.lock().find(id).filter(|record| record.principal == *asker).cloned()
    }

    /// The same, once the call is over.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn find_ended(&self, id: CallId, asker: &Principal) -> Option<Record> {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            let record = self.find(id, asker)?;
            if matches!(record.stage, Stage::Ended { .. }) {
                return Some(record);
            }
            ended.await;
        }
    }

    /// Begins the record of a call.
    pub(super) fn open(
        self: &Arc<Self>,
        id: CallId,
        principal: Principal,
        server: &Arc<str>,
        trace: Option<&TraceContext>,
    ) -> Entry {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (server, began) = (Arc::clone(server), Moment::since_epoch(since_epoch));
        let trace = trace.map(TraceContext::trace_id);
        let record = Record { id, principal, server, trace, began, stage: Stage::Running };
        let entry = Entry { receipts: Arc::clone(self), record, since: Instant::now() };
        entry.write();
        entry
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // Nothing panics while holding it; even then the book would be whole.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record of a call that goes on, in the hands of its task. Dropped before its end, which only a defect does, it is
/// forgotten.
#[derive(Debug)]
pub(super) struct Entry {
    receipts: Arc<Receipts>,
    record: Record,
    since: Instant,
}

impl Entry {
    /// The answer is known.
    pub(super) fn told(&mut self, told: Told) {
        self.record.stage = Stage::Ending(told);
        self.write();
    }

    /// Nothing of the call is alive any more. `process`: what became of the one it had, if any.
    pub(super) fn end(mut self, told: Told, process: Option<Process>) -> Record {
        self.record.stage = Stage::Ended { told, lasted: self.since.elapsed(), process };
        self.write();
        self.receipts.ended.notify_waiters();
        self.record.clone()
    }

    fn write(&self) {
        let most = self.receipts.most;
        if most == 0 {
            return;
        }
        let record = self.record.clone();
        let mut book = self.receipts.lock();
        if matches!(record.stage, Stage::Ended { .. }) {
            book.close(record, most);
        } else {
            book.running.insert(record.id, record);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !matches!(self.record.stage, Stage::Ended { .. }) {
            self.receipts.lock().running.remove(&self.record.id);
            self.receipts.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Origin, Times};

    const TOLD: Told = Told {
        failure: None,
        times: Times { queue: None, spawn: None, open: None, call: None, origin: Origin::New },
    };

    fn open(receipts: &Arc<Receipts>, number: u128) -> Entry {
        receipts.open(CallId::from_bits(number), Principal::anonymous(), &"s".into(), None)
    }

    fn stage(receipts: &Receipts, number: u128) -> Option<&'static str> {
        let record = receipts.find(CallId::from_bits(number), &Principal::anonymous())?;
        Some(record.stage.name())
    }

    #[test]
    fn a_call_is_known_from_its_beginning_to_its_end_and_beyond() {
        let receipts = Arc::new(Receipts::new(10));
        let mut entry = open(&receipts, 1);
        assert_eq!(stage(&receipts, 1), Some("running"));
        entry.told(TOLD);
        assert_eq!(stage(&receipts, 1), Some("ending"));
        entry.end(TOLD, None);
        assert_eq!((stage(&receipts, 1), stage(&receipts, 2)), (Some("ended"), None));
    }

    #[test]
    fn only_the_last_are_kept_of_those_that_are_over_and_all_that_go_on() {
        let receipts = Arc::new(Receipts::new(2));
        let known = |number| stage(&receipts, number).is_some();
        let long = open(&receipts, 0);
        for number in 1..=100 {
            open(&receipts, number).end(TOLD, None);
        }
        assert_eq!([0, 98, 99, 100].map(known), [true, false, true, true]);
        long.end(TOLD, None);
        assert_eq!([0, 99, 100].map(known), [true, false, true]);
        let book = receipts.lock();
        assert_eq!((book.running.len(), book.over.len(), book.numbers.len()), (0, 2, 2));
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_wanted() {
        let receipts = Arc::new(Receipts::new(0));
        let entry = open(&receipts, 1);
        assert_eq!(stage(&receipts, 1), None);
        entry.end(TOLD, None);
        let book = receipts.lock();
        assert!(book.running.is_empty() && book.over.is_empty() && book.numbers.is_empty());
    }

    #[test]
    fn a_call_that_was_lost_is_forgotten() {
        let receipts = Arc::new(Receipts::new(10));
        drop(open(&receipts, 1));
        assert_eq!(stage(&receipts, 1), None);
    }

    #[tokio::test]
    async fn whoever_waits_for_an_end_is_told_of_it() {
        let receipts = Arc::new(Receipts::new(10));
        let who = Principal::anonymous();
        let wait = |number| receipts.find_ended(CallId::from_bits(number), &who);
        let (first, second, lost) = (open(&receipts, 1), open(&receipts, 2), open(&receipts, 3));
        let (mut one, mut three) = (std::pin::pin!(wait(1)), std::pin::pin!(wait(3)));
        assert!(futures_util::poll!(one.as_mut()).is_pending());
        assert!(futures_util::poll!(three.as_mut()).is_pending());
        second.end(TOLD, None);
        assert!(futures_util::poll!(one.as_mut()).is_pending());
        first.end(TOLD, None);
        assert_eq!(one.await.map(|record| record.stage.name()), Some("ended"));
        drop(lost);
        assert!(three.await.is_none());
    }
}
