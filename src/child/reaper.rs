//! Where a tree goes when its owner was dropped; counted, for it should be none.
//!
//! The plan is that every owner ends its tree and waits for it. When one does not, because of a defect or because the
//! runtime dropped its task, the tree is killed on the spot and the rest of its end is handed over here, with its seat and
//! its scratch directory in it: it is reaped and swept like any other, from wherever its owner left off.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::telemetry::metrics::Count;

/// What is left to be done for a tree that was killed, its seat given back included: it comes to its end when nothing of the tree
/// is alive.
type Rest = BoxFuture<'static, ()>;

/// Takes over trees whose owner was dropped. Clones hand over to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    hand_over: UnboundedSender<Rest>,
    rescued: Count,
}

/// The side that ends them; its owner runs it beside everything else.
pub(crate) struct Rescue(UnboundedReceiver<Rest>);

/// A reaper, which counts by `rescued`, and its other side.
pub(crate) fn reaper(rescued: Count) -> (Reaper, Rescue) {
    let (hand_over, taken_over) = unbounded_channel();
    (Reaper { hand_over, rescued }, Rescue(taken_over))
}

impl Reaper {
    /// Takes over a tree that was just killed.
    pub(super) fn take_over(&self, rest: Rest) {
        self.rescued.one_more();
        tracing::error!("a process tree lost its owner and was killed");
        // Fails only when the gateway itself is past its end; the tree is dying all the same.
        let _ = self.hand_over.send(rest);
    }

    /// How many trees had to be taken over so far. Tests require zero.
    pub(crate) fn rescued(&self) -> u64 {
        self.rescued.get()
    }
}

impl Rescue {
    /// Ends what is handed over until nobody is left who could hand over anything. None waits for another, which may take for
    /// ever to die.
    pub(crate) async fn run(mut self) {
        let mut dying = FuturesUnordered::new();
        loop {
            tokio::select! {
                rest = self.0.recv() => match rest {
                    // One that panics, by a defect, takes nobody else's end with it.
                    Some(rest) => dying.push(AssertUnwindSafe(rest).catch_unwind().map(drop)),
                    None => break,
                },
                Some(()) = dying.next() => {}
            }
        }
        while let Some(()) = dying.next().await {}
    }
}

/// The end of a tree, from its first kill to the proof. Whoever drops it on the way leaves the rest of the way, with the seat,
/// to the reaper.
pub(super) struct Ending<T: Send + 'static> {
    /// Taken when it is done.
    work: Option<BoxFuture<'static, T>>,
    reaper: Reaper,
}

impl<T: Send> Ending<T> {
    /// Does `work`, which is all that is left to be done for a tree.
    pub(super) fn of(work: impl Future<Output = T> + Send + 'static, reaper: &Reaper) -> Self {
        Self { work: Some(work.boxed()), reaper: reaper.clone() }
    }
}

impl<T: Send> Future for Ending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Out of reach while it runs: what has panicked cannot be gone on with, and is not handed over.
        let mut work = self.work.take().expect("nobody polls it once it is done");
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Ending<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.reaper.take_over(work.map(drop).boxed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_that_panics_is_not_gone_on_with() {
        let (reaper, rescue) = reaper(Count::default());
        let ended = AssertUnwindSafe(Ending::of(async { panic!("a defect") }, &reaper)).catch_unwind().await;
        assert!(ended.is_err());
        assert_eq!(reaper.rescued(), 0);
        drop(reaper);
        rescue.run().await;
    }

    #[tokio::test]
    async fn an_end_that_panics_keeps_no_other_from_being_done() {
        let (reaper, rescue) = reaper(Count::default());
        let (tell, told) = tokio::sync::oneshot::channel();
        reaper.take_over(async { panic!("a defect") }.boxed());
        reaper.take_over(async move { tell.send(()).expect("somebody waits") }.boxed());
        drop(reaper);
        rescue.run().await;
        told.await.unwrap();
    }
}
