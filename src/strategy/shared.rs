//! One server for many calls at once: started by the first that comes, attended to by a task of its own, started again
//! when it has died.
//!
//! ```text
//!   first call -> starting --> up: every call a line --> over: it died, or nobody needs it --> dead, proved
//!                   |  whoever comes waits for the same start     |  whoever comes starts the next
//!                   '--> failed: whoever waits is told            '--> whoever was not even asked yet goes there too
//! ```
//!
//! Only one is current. One that let a caller wait in vain and gives no sign of life is current no more: the calls that it
//! has may end, and it ends with the last of them, while others go to the next. A start that fails is not tried again at
//! once, and those who come meanwhile are told why. What a call needs to be let in, and what the tree needs, are two
//! things: docs/decisions/seats-of-shared-instances.md.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, SetOnce};
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::{Exclusive, Fresh, Lease, Strategy};
use crate::deadline::{Deadline, EarlyEnd, Reason};
use crate::exchange::{
    About, Ask, CallError, Demand, Events, Instances, Introduction, Kept, ListKind, Origin, Outcome, Phase,
    Process, Receipt, Seat, Start, Times, TraceContext,
};
use crate::instance::{HalfBorn, Hub, Line, Overheard, Revisions, Server, Stillborn, Unanswered};
use crate::tasks::Tasks;

/// Longer than any start, of which each step has a bound of its own.
const START: Duration = Duration::from_hours(1);

/// The way to a seat for a tree, and to the right to start it, at once or after a wait in the queues of the house.
pub(crate) type TreeDoor =
    Arc<dyn Fn(EarlyEnd) -> BoxFuture<'static, Result<(Seat, Start), CallError>> + Send + Sync>;

/// The strategy `shared`.
pub(crate) struct Shared(Arc<Common>);

struct Common {
    fresh: Fresh,
    open_deadline: Duration,
    containment: &'static str,
    door: TreeDoor,
    revisions: Arc<Revisions>,
    current: Mutex<Current>,
    alive: Arc<AtomicUsize>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// The one that calls go to, and what became of those before.
struct Current {
    run: Option<Arc<Run>>,
    pace: Pace,
    /// Why the last start failed, until one has not.
    failed: Option<CallError>,
}

/// One server, from its start to its end.
struct Run {
    up: SetOnce<Result<Arc<Hub>, CallError>>,
    overheard: Overheard,
    ended: SetOnce<Option<Receipt>>,
    users: Mutex<Users>,
    /// A user has left, or it is current no more.
    changed: Notify,
    calls: AtomicU64,
    /// Questions that it answered.
    answered: AtomicU64,
}

#[derive(Debug, Default)]
struct Users {
    count: usize,
    /// No further call comes to it.
    closed: bool,
}

impl Users {
    /// Whether it waits for a call.
    const fn is_idle(&self) -> bool {
        self.count == 0 && !self.closed
    }
}

/// A call's use of a shared server.
pub(crate) struct Use {
    common: Arc<Common>,
    seat: Seat,
    run: Arc<Run>,
    /// `None`: it was given back.
    user: Option<User>,
    line: Line,
    times: Times,
    /// Something was asked, so that another server would not do any more.
    asked: bool,
}

/// One of those who need a server; dropped, it is not.
struct User(Arc<Run>);

impl Shared {
    /// One instance of `server`, whose tree has a seat behind `door`.
    pub(crate) fn new(server: Arc<Server>, door: TreeDoor, tasks: Tasks) -> Self {
        let stop = CancellationToken::new();
        let (open_deadline, containment) = (server.open_deadline(), server.containment().name());
        let current = Mutex::new(Current { run: None, pace: Pace::new(Instant::now()), failed: None });
        let fresh = Fresh::new(server, tasks.clone());
        let (alive, revisions) = (Arc::default(), Arc::default());
        Self(Arc::new(Common {
            fresh,
            open_deadline,
            containment,
            door,
            revisions,
            current,
            alive,
            tasks,
            stop,
        }))
    }
}

impl Strategy for Shared {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn about(&self) -> About {
        let current = self.0.current();
        let up = current.run.as_ref().filter(|run| run.up.get().is_some_and(Result::is_ok));
        let idle = up.is_some_and(|run| run.users().is_idle());
        let instances = Instances { alive: self.0.alive.load(Ordering::Relaxed), idle: usize::from(idle) };
        About { strategy: self.name(), instances: Some(instances), ..self.0.fresh.about() }
    }

    fn lease<'a>(&'a self, seat: Seat, end: &'a EarlyEnd) -> BoxFuture<'a, Result<Lease, Box<HalfBorn>>> {
        async move { Ok(Lease::Shared(Box::new(Common::join(&self.0, seat, end).await?))) }.boxed()
    }

    fn list_revision(&self, kind: ListKind) -> u64 {
        self.0.revisions.of(kind)
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

impl Common {
    /// A line to a server that is up: to the one that there is, or to one that is started now.
    async fn join(self: &Arc<Self>, seat: Seat, end: &EarlyEnd) -> Result<Use, Box<HalfBorn>> {
        let began = Instant::now();
        let times = |open: Duration| Times { open: Some(open), origin: Origin::Shared, ..Times::default() };
        let mut known = None;
        let joining = async {
            loop {
                let user = self.enter()?;
                let run = Arc::clone(&user.0);
                known = Some(Arc::clone(&run));
                let hub = run.up.wait().await.as_ref().map_err(CallError::clone)?;
                if hub.is_responsive().await {
                    return Ok((user, hub.line()));
                }
                tracing::warn!("a shared server gives no sign of life: calls go to another one");
                run.close();
            }
        };
        let joined = match end.before(joining).await {
            Ok(joined) => joined,
            Err(reason) => Err(early(reason, end, known.as_deref())),
        };
        match joined {
            Ok((user, line)) => {
                let (common, run, times) = (Arc::clone(self), Arc::clone(&user.0), times(began.elapsed()));
                run.calls.fetch_add(1, Ordering::Relaxed);
                Ok(Use { common, seat, run, user: Some(user), line, times, asked: false })
            }
            Err(error) => {
                // The end of a start that failed is waited for by whoever wants a receipt.
                let ended = async move {
                    let run = known.filter(|run| run.up.get().is_some_and(Result::is_err))?;
                    let receipt = run.ended.wait().await.clone();
                    drop(seat);
                    receipt
                };
                Err(Box::new(HalfBorn::new(
                    error,
                    times(began.elapsed()),
                    Stillborn::elsewhere(ended.boxed()),
                )))
            }
        }
    }

    /// A use of the current server, be it up or starting; where there is none, one is started.
    fn enter(self: &Arc<Self>) -> Result<User, CallError> {
        let mut current = self.current();
        if let Some(user) = current.run.as_ref().and_then(User::of) {
            return Ok(user);
        }
        let wait = current.pace.wait(Instant::now());
        if let Some(error) = &current.failed
            && !wait.is_zero()
        {
            return Err(error.clone());
        }
        let run = Arc::new(Run::new());
        let user = User::of(&run).expect("it was made right here, and nobody has closed it");
        current.run = Some(Arc::clone(&run));
        self.tasks.begin(Arc::clone(self).live(run, wait));
        Ok(user)
    }

    /// The life of one server: its only owner.
    async fn live(self: Arc<Self>, run: Arc<Run>, wait: Duration) {
        let mut lease = match self.start(&run, wait).await {
            Ok(lease) => lease,
            Err((error, stillborn)) => {
                self.failed(&run, error);
                let receipt = stillborn.end().await;
                // Nobody else says it.
                let _ = run.ended.set(receipt);
                return;
            }
        };
        self.alive.fetch_add(1, Ordering::Relaxed);
        let hub = lease.instance.hub(&self.revisions);
        self.current().failed = None;
        let _ = run.up.set(Ok(Arc::clone(&hub)));
        let wanted = lease.wanted.clone();
        let died = tokio::select! {
            error = lease.instance.attend_many(&hub) => Some(error),
            () = run.is_over(&self.stop, wanted.as_ref()) => None,
        };
        run.close();
        self.learn(&run, died);
        let process = lease.dismiss().await;
        self.alive.fetch_sub(1, Ordering::Relaxed);
        let _ = run.ended.set(process.end().cloned());
    }

    /// A server that has shown that it is up, `wait` from now.
    async fn start(&self, run: &Run, wait: Duration) -> Result<Box<Exclusive>, (CallError, Stillborn)> {
        let give_up = CancellationToken::new();
        let end = EarlyEnd::new(give_up.clone(), CancellationToken::new(), Deadline::within(START));
        let starting = async {
            // The clock counts in whole milliseconds, so that no time at all would take one.
            if !wait.is_zero() {
                let waited = end.before(tokio::time::sleep(wait)).await;
                waited.map_err(|reason| (early(reason, &end, Some(run)), Stillborn::nothing()))?;
            }
            let entered = (self.door)(end.clone()).await;
            let (seat, start) = entered.map_err(|error| (error, Stillborn::nothing()))?;
            let started = start.during(self.fresh.start_overheard(seat, &run.overheard, &end)).await;
            let mut lease = started.map_err(|failed| {
                let (error, _, stillborn) = failed.into_parts();
                (error, stillborn)
            })?;
            // One that is asked without a handshake has said nothing so far, and its era may be a guess: that must not be
            // found out in the midst of many calls.
            match lease.instance.introduce(&end.within(self.open_deadline)).await {
                Ok(()) => Ok(lease),
                Err(error) => {
                    let end = async move { lease.dismiss().await.end().cloned() };
                    Err((error, Stillborn::elsewhere(end.boxed())))
                }
            }
        };
        let mut starting = std::pin::pin!(starting);
        tokio::select! {
            biased;
            started = starting.as_mut() => started,
            () = run.is_over(&self.stop, None) => {
                give_up.cancel();
                starting.await
            }
        }
    }

    /// One that died without a single answer was started in vain. If that goes on, it is no better than one that cannot
    /// be started.
    fn learn(&self, run: &Run, died: Option<CallError>) {
        let mut current = self.current();
        if run.answered.load(Ordering::Relaxed) > 0 {
            current.pace.served();
        }
        let Some(error) = died else { return };
        tracing::warn!(error = error.story(), "a shared server has died");
        if run.answered.load(Ordering::Relaxed) == 0 {
            let again = current.pace.failures() > 0;
            current.pace.failed(Instant::now());
            current.failed = again.then_some(error);
        }
    }

    fn failed(&self, run: &Run, error: CallError) {
        {
            let mut current = self.current();
            // That the house is full, or that nobody needed it, says nothing about the server.
            let its_own = !error.early().is_some_and(Reason::is_not_its_fault);
            if its_own && error.phase() != Some(Phase::Queue) {
                current.pace.failed(Instant::now());
                current.failed = Some(error.clone());
                tracing::warn!(error = error.story(), "a shared server could not be started");
            }
        }
        run.close();
        let _ = run.up.set(Err(error));
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while holding it; even then it would be whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a call that ended before its server was there, which is the one of `run`, if any.
fn early(reason: Reason, end: &EarlyEnd, run: Option<&Run>) -> CallError {
    let phase = Phase::Open;
    match reason {
        Reason::CallerGone => CallError::CallerGone { phase },
        Reason::Stopped => CallError::ShuttingDown { phase },
        Reason::DeadlineExceeded => {
            let words = run.map(|run| Box::new(run.overheard.words_so_far())).unwrap_or_default();
            CallError::DeadlineExceeded { phase, after: end.deadline().budget(), words }
        }
    }
}

impl Run {
    fn new() -> Self {
        Self {
            up: SetOnce::new(),
            overheard: Overheard::default(),
            ended: SetOnce::new(),
            users: Mutex::default(),
            changed: Notify::new(),
            calls: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // Nothing panics while holding it; even then it would be whole.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No further call comes to it.
    fn close(&self) {
        self.users().closed = true;
        self.changed.notify_one();
    }

    /// Returns when nobody uses it, and it is current no more, or nothing is to be kept, or others want its seat. Then no
    /// further call comes to it.
    async fn is_over(&self, stop: &CancellationToken, wanted: Option<&Demand>) {
        loop {
            {
                let mut users = self.users();
                let others = wanted.is_some_and(|wanted| wanted.waiting() > 0);
                if users.count == 0 && (users.closed || stop.is_cancelled() || others) {
                    users.closed = true;
                    return;
                }
            }
            let (idle, stopped) = (self.users().count == 0, stop.is_cancelled());
            let rises = async {
                match wanted {
                    Some(wanted) if idle => wanted.rises().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = stop.cancelled(), if !stopped => {}
                () = rises => {}
            }
        }
    }
}

impl User {
    fn of(run: &Arc<Run>) -> Option<Self> {
        let mut users = run.users();
        (!users.closed).then(|| {
            users.count += 1;
            Self(Arc::clone(run))
        })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.users().count -= 1;
        self.0.changed.notify_one();
    }
}

impl Use {
    pub(super) const fn times(&self) -> Times {
        self.times
    }

    pub(super) fn introduction(&self) -> &Arc<Introduction> {
        self.line.introduction()
    }

    pub(super) async fn ask(
        &mut self,
        ask: &Ask,
        trace: Option<&TraceContext>,
        events: Option<&Events>,
        end: &EarlyEnd,
    ) -> Result<Outcome, CallError> {
        loop {
            let error = match self.line.ask(ask, trace, events, end).await {
                Ok(outcome) => {
                    self.was_answered();
                    return Ok(outcome);
                }
                Err(Unanswered::Failed(error)) => {
                    if error.is_an_answer() {
                        self.was_answered();
                    }
                    return Err(error);
                }
                Err(Unanswered::Unsaid(error)) => error,
            };
            // The steps of one call are put to one server.
            if self.asked {
                return Err(error);
            }
            self.move_on(end).await?;
        }
    }

    fn was_answered(&mut self) {
        self.asked = true;
        self.run.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// To the next server: nothing was said to this one.
    async fn move_on(&mut self, end: &EarlyEnd) -> Result<(), CallError> {
        let entered = self.common.enter()?;
        let joining = async {
            let hub = entered.0.up.wait().await.as_ref().map_err(CallError::clone)?;
            Ok(hub.line())
        };
        self.line = match end.before(joining).await {
            Ok(line) => line?,
            Err(reason) => return Err(early(reason, end, Some(&entered.0))),
        };
        self.run = Arc::clone(&entered.0);
        self.run.calls.fetch_add(1, Ordering::Relaxed);
        self.user = Some(entered);
        Ok(())
    }

    /// Gives it back. One that ends now is waited for.
    pub(super) fn give_back(mut self: Box<Self>) -> Result<Kept, Box<Self>> {
        self.user = None;
        let ends = {
            let users = self.run.users();
            users.count == 0 && (users.closed || self.common.stop.is_cancelled())
        };
        if ends || self.line.is_over() {
            return Err(self);
        }
        let (calls, containment) = (self.run.calls.load(Ordering::Relaxed), self.common.containment);
        Ok(Kept { pid: self.line.pid(), calls, containment })
    }

    /// Returns when it is dead. Its end is that of all calls that had it.
    pub(super) async fn end(self: Box<Self>) -> Process {
        let Self { seat, run, user, line, common, .. } = *self;
        drop(user);
        let ended = run.ended.wait().await.clone();
        drop(seat);
        let calls = run.calls.load(Ordering::Relaxed);
        let kept = || Kept { pid: line.pid(), calls, containment: common.containment };
        ended.map_or_else(|| Process::Kept(kept()), |receipt| Process::Ended { receipt, calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::tests::doll::{Dolls, Temper, Use as Used};
    use crate::instance::Making;
    use crate::mcp::Verdicts;
    use crate::mcp::era::Protocol;

    #[tokio::test(start_paused = true)]
    async fn a_start_that_waits_for_its_time_is_given_up_as_soon_as_nobody_needs_it() {
        let making = Making {
            name: "doll".into(),
            spec: Dolls::spec(),
            protocol: Protocol::Legacy,
            open_deadline: START,
            output: 1 << 16,
        };
        let dolls = Dolls::new((Used::AtOnce, Temper::Good), 0, &Arc::default());
        let server = Arc::new(Server::new(making, dolls, Arc::new(Verdicts::new(None))));
        let door: TreeDoor = Arc::new(|_| unreachable!("it is not time yet"));
        let shared = Shared::new(server, door, Tasks::here());
        shared.close();
        let started = shared.0.start(&Run::new(), START / 2).await;
        assert!(started.is_err_and(|(error, _)| matches!(error, CallError::CallerGone { .. })));
    }
}
