//! How many calls each principal has in, where its token bounds that.
//!
//! Two things are counted. Calls that were not answered yet, those that wait for a seat included: whoever asks for one
//! more is refused at once (429). And lives: a tree is still being ended when its call was answered, so the next call of
//! the principal may have to wait for that, as for a seat; it is not refused, for its caller cannot know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Principal;
use crate::exchange::CallError;

/// The shares of all principals that have one, over all servers.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<HashMap<Principal, Share>>);

#[derive(Debug, Clone)]
struct Share {
    size: usize,
    asking: Arc<Semaphore>,
    lives: Arc<Semaphore>,
}

/// A call that was not answered yet; dropped, there may be another.
#[derive(Debug)]
pub(super) struct Asking(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

/// A call of which something may be alive; dropped, there may be another.
#[derive(Debug)]
pub(super) struct Life(#[expect(dead_code, reason = "held, not looked at")] Option<OwnedSemaphorePermit>);

/// What somebody is told who has too many calls in. `when`: how long one of so many takes to be over.
pub(super) fn refusal(principal: &Principal, when: impl Fn(usize) -> Duration) -> CallError {
    let share = principal.share().unwrap_or(usize::MAX);
    CallError::QuotaExceeded { principal: principal.name().to_owned(), share, retry_after: when(share) }
}

impl Shares {
    /// A call comes in. `when`: how long one of so many calls takes to be over.
    pub(super) fn ask(
        &self,
        principal: &Principal,
        when: impl Fn(usize) -> Duration,
    ) -> Result<Asking, CallError> {
        let Some(Share { asking, .. }) = self.of(principal) else { return Ok(Asking(None)) };
        let permit = asking.try_acquire_owned().map_err(|_| refusal(principal, when))?;
        Ok(Asking(Some(permit)))
    }

    /// A call that came in may begin to live.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place among those who wait.
    pub(super) async fn life(&self, principal: &Principal) -> Life {
        let Some(Share { lives, .. }) = self.of(principal) else { return Life(None) };
        Life(Some(lives.acquire_owned().await.expect("nobody closes the semaphore")))
    }

    fn of(&self, principal: &Principal) -> Option<Share> {
        let size = principal.share()?;
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || Share { size, asking: Arc::new(Semaphore::new(size)), lives: Arc::new(Semaphore::new(size)) };
        let share = shares.entry(principal.clone()).or_insert_with(new);
        // Another configuration: what is in by the old one is not counted by the new.
        if share.size != size {
            *share = new();
        }
        Some(share.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Gate, Token};

    fn principal(concurrent: Option<usize>) -> Principal {
        let token = Token { concurrent, ..Token::plain("a", "a-token-of-a") };
        Gate::new([token]).identify(Some("a-token-of-a")).unwrap()
    }

    fn soon(_: usize) -> Duration {
        Duration::from_secs(7)
    }

    #[test]
    fn one_more_than_the_share_is_refused_until_one_is_answered() {
        let (shares, who) = (Shares::default(), principal(Some(2)));
        let [one, _two] = [(); 2].map(|()| shares.ask(&who, soon).unwrap());
        let Err(CallError::QuotaExceeded { principal, share, retry_after }) = shares.ask(&who, soon) else {
            panic!("a third one came in")
        };
        assert_eq!((&*principal, share, retry_after.as_secs()), ("a", 2, 7));
        drop(one);
        assert!(shares.ask(&who, soon).is_ok());
    }

    #[tokio::test]
    async fn what_is_being_ended_keeps_the_next_from_living_but_not_from_asking() {
        let (shares, who) = (Shares::default(), principal(Some(1)));
        let asking = shares.ask(&who, soon).unwrap();
        let life = shares.life(&who).await;
        drop(asking);
        let _next = shares.ask(&who, soon).unwrap();
        let mut waiting = std::pin::pin!(shares.life(&who));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(life);
        waiting.await;
    }

    #[tokio::test]
    async fn who_has_no_share_is_not_counted() {
        let shares = Shares::default();
        for who in [principal(None), Principal::anonymous()] {
            let all: Vec<_> = (0..100).map(|_| shares.ask(&who, soon).unwrap()).collect();
            let _life = shares.life(&who).await;
            assert_eq!(all.len(), 100);
        }
    }

    #[test]
    fn a_new_share_counts_anew() {
        let shares = Shares::default();
        let _old = shares.ask(&principal(Some(1)), soon).unwrap();
        assert!(shares.ask(&principal(Some(1)), soon).is_err());
        assert!(shares.ask(&principal(Some(2)), soon).is_ok());
    }
}
