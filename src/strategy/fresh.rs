//! A new server for every call: spawned for it, ended with it, shared with nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Exclusive, Home, Lease, Strategy};
use crate::deadline::{Deadline, EarlyEnd, Reason};
use crate::exchange::{About, CallError, Credentials, LastStart, Process, Seat};
use crate::instance::{self, HalfBorn, Instance, Overheard, Server};
use crate::mcp::era::Era;
use crate::tasks::Tasks;

/// More than any probe takes; it has a bound of its own.
const PROBE_DEADLINE: Duration = Duration::from_mins(1);

/// The strategy `fresh`.
pub(crate) struct Fresh(Arc<Nest>);

struct Nest {
    server: Arc<Server>,
    /// Siblings that learn the server's era, one at a time; and whatever else an owner of this one begins.
    tasks: Tasks,
    probing: AtomicBool,
    stop: CancellationToken,
    last_start: Mutex<LastStart>,
}

impl Fresh {
    /// Fresh instances of `server`.
    pub(crate) fn new(server: Arc<Server>, tasks: Tasks) -> Self {
        let stop = CancellationToken::new();
        let (probing, last_start) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Nest { server, tasks, probing, stop, last_start }))
    }

    /// Starts one.
    pub(super) async fn start(&self, seat: Seat, end: &EarlyEnd) -> Result<Box<Exclusive>, Box<HalfBorn>> {
        self.start_overheard(seat, &Overheard::default(), end).await
    }

    /// The same, while others hear what it complains about.
    pub(super) async fn start_overheard(
        &self,
        seat: Seat,
        overheard: &Overheard,
        end: &EarlyEnd,
    ) -> Result<Box<Exclusive>, Box<HalfBorn>> {
        self.start_with(seat, &Credentials::default(), overheard, end).await
    }

    async fn start_with(
        &self,
        seat: Seat,
        credentials: &Credentials,
        overheard: &Overheard,
        end: &EarlyEnd,
    ) -> Result<Box<Exclusive>, Box<HalfBorn>> {
        let wanted = seat.wanted_by_others();
        let started = Instance::start(&self.0.server, credentials, seat, overheard, end).await;
        // How a start with a caller's credentials went says nothing of the others, nor may it be told to them.
        if credentials.is_empty() {
            self.0.remember(started.as_ref().map(drop).map_err(|failed| failed.error()));
        }
        let instance = started?;
        Ok(Box::new(Exclusive::new(instance, self.home(), wanted)))
    }

    /// Where instances are ended.
    pub(super) fn home(&self) -> Arc<dyn Home> {
        Arc::clone(&self.0) as Arc<dyn Home>
    }
}

impl Strategy for Fresh {
    fn name(&self) -> &'static str {
        "fresh"
    }

    fn about(&self) -> About {
        let server = &self.0.server;
        About {
            strategy: self.name(),
            era: server.era().map(Era::name),
            containment: server.containment().name(),
            standbys: None,
            instances: None,
            last_start: *self.0.last_start.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        async move { Ok(Lease::Exclusive(self.start(seat, end).await?)) }.boxed()
    }

    fn lease_with<'a>(
        &'a self,
        seat: Seat,
        credentials: &'a Credentials,
        end: &'a EarlyEnd,
    ) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        async move {
            let lease = self.start_with(seat, credentials, &Overheard::default(), end).await?;
            Ok(Lease::Exclusive(lease))
        }
        .boxed()
    }

    fn close(&self) {
        self.0.stop.cancel();
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        async {
            self.close();
            self.0.tasks.done().await;
        }
        .boxed()
    }
}

impl Home for Nest {
    fn end(self: Arc<Self>, lease: Box<Exclusive>) -> BoxFuture<'static, Process> {
        async move {
            let Exclusive { instance, calls, counted, giving, .. } = *lease;
            let (receipt, seat) = instance.end().await;
            drop((counted, giving));
            if let Some(seat) = seat {
                self.learn(seat);
            }
            Process::Ended { receipt, calls }
        }
        .boxed()
    }
}

impl Nest {
    /// Keeps in mind what became of a start, if that says anything of the server.
    fn remember(&self, started: Result<(), &CallError>) {
        let now = match started {
            Ok(()) => LastStart::Good,
            // A caller may have had less time than a start takes.
            Err(CallError::DeadlineExceeded { after, .. }) if *after < self.server.open_deadline() => return,
            Err(error) if error.early().is_some_and(Reason::is_not_its_fault) => return,
            Err(_) => LastStart::Failed,
        };
        *self.last_start.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Finds out the server's era in the seat of the call that has just ended: its caller has its answer, and no
    /// tree more than was admitted is alive.
    fn learn(self: Arc<Self>, seat: Seat) {
        let wanted = seat.wanted();
        let needless = !self.server.era_is_open() || wanted.iter().any(|demand| demand.waiting() > 0);
        if needless || self.stop.is_cancelled() || self.probing.swap(true, Ordering::Relaxed) {
            return;
        }
        let nest = Arc::clone(&self);
        self.tasks.begin(async move {
            let probing = Probing(&nest.probing);
            // A caller comes first: whoever waits for the seat gets it, and another call's end will do for this.
            let enough = CancellationToken::new();
            let end = EarlyEnd::new(enough.clone(), nest.stop.clone(), Deadline::within(PROBE_DEADLINE));
            let mut probe = std::pin::pin!(instance::probe(&nest.server, seat, &end));
            let rises = wanted.iter().map(|demand| Box::pin(demand.rises()));
            tokio::select! {
                () = probe.as_mut() => {}
                _ = futures_util::future::select_all(rises) => {
                    enough.cancel();
                    probe.await;
                }
            }
            drop(probing);
        });
    }
}

/// One sibling at a time; dropped, there may be another.
struct Probing<'a>(&'a AtomicBool);

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
