//! Where a tree goes when its owner was dropped; counted, for it should be none.
//!
//! The plan is that every owner ends its tree and waits for it. When one does not, because of a defect or because the
//! runtime dropped its task, the tree is killed on the spot and handed over here, with its seat and its scratch
//! directory, to be reaped and swept like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Living;

/// Takes over trees whose owner was dropped. Clones hand over to the same place.
#[derive(Debug, Clone)]
pub(crate) struct Reaper {
    hand_over: UnboundedSender<Box<Living>>,
    rescued: Arc<AtomicU64>,
}

/// The side that ends them; its owner runs it beside everything else.
#[derive(Debug)]
pub(crate) struct Rescue(UnboundedReceiver<Box<Living>>);

/// A reaper and its other side.
pub(crate) fn reaper() -> (Reaper, Rescue) {
    let (hand_over, taken_over) = unbounded_channel();
    (Reaper { hand_over, rescued: Arc::default() }, Rescue(taken_over))
}

impl Reaper {
    /// Takes over a tree that was just killed.
    pub(super) fn take_over(&self, living: Box<Living>) {
        self.rescued.fetch_add(1, Ordering::Relaxed);
        tracing::error!(pid = living.tree.pid(), "a process tree lost its owner and was killed");
        // Fails only when the gateway itself is past its end; the tree is dying all the same.
        let _ = self.hand_over.send(living);
    }

    /// How many trees had to be taken over so far. Tests require zero.
    pub(crate) fn rescued(&self) -> u64 {
        self.rescued.load(Ordering::Relaxed)
    }
}

impl Rescue {
    /// Ends what is handed over, one by one, until nobody is left who could hand over anything.
    pub(crate) async fn run(mut self) {
        while let Some(living) = self.0.recv().await {
            living.finish().await;
        }
    }
}
