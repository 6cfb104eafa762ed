//! Servers that are used again: checked out by one call at a time, and given back if nothing went wrong.
//!
//! A call takes the server that was given back last, so that those which nobody needs grow idle and are let go; where
//! none waits it is served as under `fresh`, in a seat of its own. So a pool has at most as many servers as its server
//! has seats. One that was given back is ended instead of kept if its call was broken off (by its deadline, its caller,
//! a crash, a breach of the protocol), if it has had as many calls or lived as long as it may, or if it has said what
//! nobody asked for. One that waits is looked at again when it is handed out, and gives up its seat to whoever needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::shelf::{Kept, Shelf, Turn};
use super::{Exclusive, Fresh, Home, Lease, Strategy};
use crate::deadline::EarlyEnd;
use crate::exchange::{self, About, Instances, Origin, Process, Seat};
use crate::instance::{HalfBorn, Server};
use crate::tasks::Tasks;

/// How much use is made of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reuse {
    /// So many calls at most.
    pub(crate) uses: u64,
    /// None is given to a call when it is older.
    pub(crate) max_age: Duration,
    /// So long does one wait for a call.
    pub(crate) idle: Duration,
}

/// The strategy `pooled`.
pub(crate) struct Pooled(Arc<Pool>);

struct Pool {
    fresh: Fresh,
    terms: Reuse,
    shelf: Arc<Shelf>,
    /// Those that are alive, whether they wait or work.
    alive: Arc<AtomicUsize>,
    /// The last one that others waited for was handed on to a caller of ours: the next is not.
    owing: AtomicBool,
    /// How this server's instances are told of.
    containment: &'static str,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Pooled {
    /// Instances of `server`, used on these terms.
    pub(crate) fn new(server: Arc<Server>, terms: Reuse, tasks: Tasks) -> Self {
        let stop = CancellationToken::new();
        let shelf = Arc::new(Shelf::new(Turn::YoungestFirst, tasks.clone(), stop.clone()));
        let containment = server.containment().name();
        let (alive, owing) = (Arc::default(), AtomicBool::new(false));
        let fresh = Fresh::new(server, tasks.clone());
        Self(Arc::new(Pool { fresh, terms, shelf, alive, owing, containment, tasks, stop }))
    }
}

impl Strategy for Pooled {
    fn name(&self) -> &'static str {
        "pooled"
    }

    fn about(&self) -> About {
        let Pool { fresh, shelf, alive, .. } = &*self.0;
        let instances = Instances { alive: alive.load(Ordering::Relaxed), idle: shelf.ready() };
        About { strategy: self.name(), instances: Some(instances), ..fresh.about() }
    }

    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        async move {
            let pool = &self.0;
            let mut lease = pool.fresh.start(seat, end).await?;
            lease.home = Arc::clone(pool) as Arc<dyn Home>;
            pool.alive.fetch_add(1, Ordering::Relaxed);
            lease.counted = Some(Counted(Arc::clone(&pool.alive)));
            Ok(Lease::Exclusive(lease))
        }
        .boxed()
    }

    fn shelf(&self) -> Option<&Arc<Shelf>> {
        Some(&self.0.shelf)
    }

    fn close(&self) {
        self.0.stop.cancel();
        self.0.fresh.close();
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        async {
            self.close();
            self.0.tasks.done().await;
        }
        .boxed()
    }
}

impl Home for Pool {
    fn keep(self: Arc<Self>, mut lease: Box<Exclusive>) -> Result<exchange::Kept, Box<Exclusive>> {
        if !self.may_keep(&mut lease) {
            return Err(lease);
        }
        lease.giving = self.owes(&lease);
        if lease.giving.is_some() {
            return Err(lease);
        }
        let (pid, calls, now) = (lease.instance.pid(), lease.calls, Instant::now());
        let until = (now + self.terms.idle).min(lease.born + self.terms.max_age);
        lease.origin = Origin::Pooled;
        lease.calls += 1;
        self.shelf.keep(Kept { lease, until });
        Ok(exchange::Kept { pid, calls, containment: self.containment })
    }

    fn end(self: Arc<Self>, lease: Box<Exclusive>) -> BoxFuture<'static, Process> {
        self.fresh.home().end(lease)
    }
}

impl Pool {
    /// Whether another call may have it.
    fn may_keep(&self, lease: &mut Exclusive) -> bool {
        let worn = lease.calls >= self.terms.uses || lease.born.elapsed() >= self.terms.max_age;
        if lease.broken_off || worn || self.stop.is_cancelled() {
            return false;
        }
        let unfit = lease.instance.unfit_for_others();
        if let Some(why) = unfit {
            tracing::debug!(why, "a server is not used again");
        }
        unfit.is_none()
    }

    /// Callers of ours who wait for a server get every second one, at most, that others want the seat of: else a pool
    /// that is always asked for would never leave them any.
    fn owes(&self, lease: &Exclusive) -> Option<super::shelf::Giving> {
        if !self.shelf.is_waited_for() {
            return None;
        }
        let giving = self.shelf.try_give(lease.wanted.as_ref()?)?;
        self.owing.fetch_xor(true, Ordering::Relaxed).then_some(giving)
    }
}

/// One of those that are alive; dropped, it is not.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
