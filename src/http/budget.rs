//! How many bytes of bodies and answers may be on their way at once, over all connections.
//!
//! ```text
//!   request --open()--> Charge --take(n)--> read on, or 503: the budget is used up
//!                          \--counted(bytes)--> an answer that counts until it was handed to the kernel
//! ```
//!
//! Nobody waits for room, so nobody can wait for each other. An answer is never refused: the work is done, and its bytes
//! are there. It may go beyond the limit, and then no further request is let in until there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Smaller parts of an answer are not counted one by one.
const SMALL: usize = 4096;

/// What is shared by all.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// What one request holds. Given back with its last handle.
#[derive(Debug, Clone)]
pub(super) struct Charge(Arc<Share>);

impl Budget {
    /// So many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// For one request, which holds nothing yet.
    pub(super) fn open(&self) -> Charge {
        Charge(Arc::new(Share { account: Arc::clone(&self.0), held: AtomicUsize::new(0) }))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(256 << 20)
    }
}

impl Default for Charge {
    /// A budget of its own.
    fn default() -> Self {
        Budget::default().open()
    }
}

impl Charge {
    /// Counts so many bytes more of a request; none: whether there is any room at all.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let Account { limit, used } = &*self.0.account;
        let add = |used: usize| used.checked_add(bytes).filter(|sum| sum <= limit);
        used.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map_err(|_full| Exhausted)?;
        self.0.held.fetch_add(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// The same bytes, a part of an answer: counted, and with them what the request holds, until nobody has them any more.
    pub(super) fn counted(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < SMALL {
            return bytes;
        }
        let share = Share { account: Arc::clone(&self.0.account), held: AtomicUsize::new(bytes.len()) };
        share.account.used.fetch_add(bytes.len(), Ordering::AcqRel);
        Bytes::from_owner(Counted { bytes, _share: share })
    }
}

/// Bytes of the account that somebody holds.
#[derive(Debug)]
struct Share {
    account: Arc<Account>,
    held: AtomicUsize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.used.fetch_sub(*self.held.get_mut(), Ordering::AcqRel);
    }
}

struct Counted {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(budget: &Budget) -> usize {
        budget.0.used.load(Ordering::Acquire)
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(10);
        let (one, other) = (budget.open(), budget.open());
        assert_eq!(one.take(6), Ok(()));
        assert_eq!(other.take(5), Err(Exhausted));
        assert_eq!(other.take(4), Ok(()));
        assert_eq!(other.take(0), Ok(()), "it is full, not beyond that");
        drop(one.clone());
        assert_eq!(used(&budget), 10);
        drop(one);
        assert_eq!(other.take(6), Ok(()));
        drop(other);
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn an_answer_is_never_refused_and_keeps_requests_out_while_it_is_there() {
        let budget = Budget::new(SMALL);
        let answer = budget.open().counted(Bytes::from(vec![1; 2 * SMALL]));
        assert_eq!(answer.len(), 2 * SMALL);
        assert_eq!(budget.open().take(0), Err(Exhausted));
        let part = answer.slice(1..5);
        drop(answer);
        assert_eq!(budget.open().take(0), Err(Exhausted), "a part of it is still held");
        drop(part);
        assert_eq!(used(&budget), 0);
        assert_eq!(budget.open().take(0), Ok(()));
    }
}
