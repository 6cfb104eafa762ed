//! Tasks that somebody owns: begun at once, and waited for on the way out.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Has somebody do it, beside whatever else is done.
type Begin = dyn Fn(BoxFuture<'static, ()>) + Send + Sync;

/// The tasks of one owner. Clones are the same tasks.
#[derive(Clone)]
pub(crate) struct Tasks {
    begin: Arc<Begin>,
    alive: TaskTracker,
}

impl Tasks {
    /// None yet; the runtime that this is called in will run them.
    pub(crate) fn here() -> Self {
        let runtime = Handle::current();
        Self::run_by(move |work| drop(runtime.spawn(work)))
    }

    /// None yet; `begin` sees to it that each is polled.
    pub(crate) fn run_by(begin: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self { begin: Arc::new(begin), alive: TaskTracker::new() }
    }

    /// None yet, run like these: for another owner.
    pub(crate) fn apart(&self) -> Self {
        Self { begin: Arc::clone(&self.begin), alive: TaskTracker::new() }
    }

    /// Begins one.
    pub(crate) fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        (self.begin)(self.alive.track_future(work).boxed());
    }

    /// Returns when all have come to their end, those included that others of them begin meanwhile.
    pub(crate) async fn done(&self) {
        self.alive.close();
        self.alive.wait().await;
    }
}
