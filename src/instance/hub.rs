//! One server that many calls ask at once: each by a line of its own, while one task attends to the process.
//!
//! ```text
//!   Line::ask -- id and progress token of its own --+-> outbox -> Instance::attend_many -> stdin
//!   Line::ask ---------------------------------------'
//!   Line::ask <- answer, by id <--------- attend_many <- stdout
//!   Events    <- progress, by token <---'  (log messages belong to no request: to everybody who listens)
//! ```
//!
//! A call that ends early tells the server (`notifications/cancelled`); its late answer goes nowhere, and nobody else
//! notices. When the server ends, everybody who waits is told of it with the same words; whoever was not even asked yet
//! can turn to another one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

use super::{Instance, Lesson};
use crate::child::{Offspring, Tail};
use crate::deadline::{Deadline, EarlyEnd, Reason};
use crate::exchange::{
    Ask, CallError, Event, Events, Introduction, LastWords, ListKind, Outcome, Phase, TraceContext,
};
use crate::mcp::{self, AskError, Session, Telling};

/// How long a server that let somebody wait in vain may take to give any sign of life, before others go elsewhere.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// What the calls of one server share.
#[derive(Debug)]
pub(crate) struct Hub {
    pid: u32,
    session: Session,
    limit: usize,
    routes: Arc<Routes>,
    /// What it has written to stderr last.
    stderr: Tail,
    lines: AtomicU64,
    /// Somebody waited in vain, and the server has given no sign of life since.
    doubt: AtomicBool,
    /// What came of asking for such a sign; one at a time does.
    lost: tokio::sync::Mutex<bool>,
    /// Why no answer will come any more.
    over: SetOnce<CallError>,
}

/// Who listens, by the number of the line; and what the server says of its lists.
#[derive(Debug)]
pub(super) struct Routes {
    listening: Mutex<HashMap<u64, Events>>,
    pub(super) revisions: Arc<Revisions>,
}

/// How often shared instances of one server have said that one of its lists is another by now: they live on, so that what
/// was listed before counts no more. (A process for one call lists what it has at its start.)
#[derive(Debug, Default)]
pub(crate) struct Revisions([AtomicU64; 4]);

/// One call's way to the server.
#[derive(Debug)]
pub(crate) struct Line {
    hub: Arc<Hub>,
    session: Session,
    number: u64,
}

/// What a server has written to stderr since it was started, for those who wait until it is up.
#[derive(Debug, Default)]
pub(crate) struct Overheard(SetOnce<Tail>);

/// Why a question has no outcome.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The question failed, or has failed the call.
    Failed(CallError),
    /// The server ended before any of it was said: another may be asked.
    Unsaid(CallError),
}

impl Instance {
    /// Makes it one for many calls. It must be attended to from now on: [`Self::attend_many`].
    pub(crate) fn hub(&mut self, revisions: &Arc<Revisions>) -> Arc<Hub> {
        revisions.begin_anew();
        let routes = Arc::new(Routes { listening: Mutex::default(), revisions: Arc::clone(revisions) });
        self.body.ears.routes = Some(Arc::clone(&routes));
        Arc::new(Hub {
            pid: self.pid(),
            session: self.session.clone(),
            limit: self.body.wire.limit(),
            routes,
            stderr: self.body.child.stderr(),
            lines: AtomicU64::new(0),
            doubt: AtomicBool::new(false),
            lost: tokio::sync::Mutex::default(),
            over: SetOnce::new(),
        })
    }

    /// Reads, writes, drains stderr and watches for the exit, until no answer can come any more; everybody who waits for
    /// one is told.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(crate) async fn attend_many(&mut self, hub: &Hub) -> CallError {
        let heard = self.body.hear().await;
        self.body.lesson = Lesson::Ignore;
        self.body.wire.give_up();
        let error = match heard {
            Ok(()) => CallError::ServerCrashed { phase: Phase::Call, words: self.body.last_words().await },
            Err(broken_off) => self.body.broken_off(broken_off, Phase::Call, &never()).await,
        };
        // Nobody else says it.
        let _ = hub.over.set(error.clone());
        error
    }
}

/// An end that does not come.
fn never() -> EarlyEnd {
    EarlyEnd::new(CancellationToken::new(), CancellationToken::new(), Deadline::within(Duration::MAX))
}

impl Hub {
    /// A line for one call.
    pub(crate) fn line(self: &Arc<Self>) -> Line {
        let number = self.lines.fetch_add(1, Ordering::Relaxed);
        Line { hub: Arc::clone(self), session: self.session.line(number), number }
    }

    /// Whether the server can be expected to answer. One that let somebody wait in vain is asked for a sign of life: it
    /// may be stuck in what nobody waits for any more.
    pub(crate) async fn is_responsive(self: &Arc<Self>) -> bool {
        if !self.doubt.load(Ordering::SeqCst) {
            return true;
        }
        let mut lost = self.lost.lock().await;
        if *lost || !self.doubt.load(Ordering::SeqCst) {
            return !*lost;
        }
        let mut line = self.line();
        let asked = line.session.ask(&Ask::Ping, None, Telling::Unwanted, self.limit);
        // A refusal is a sign of life too.
        let alive = tokio::time::timeout(SIGN_OF_LIFE, asked).await.is_ok();
        if alive {
            self.doubt.store(false, Ordering::SeqCst);
        }
        *lost = !alive;
        alive
    }

    /// The error of a call that ended early.
    fn early(&self, reason: Reason, end: &EarlyEnd) -> CallError {
        let phase = Phase::Call;
        match reason {
            Reason::CallerGone => CallError::CallerGone { phase },
            Reason::Stopped => CallError::ShuttingDown { phase },
            Reason::DeadlineExceeded => {
                let after = end.deadline().budget();
                CallError::DeadlineExceeded { phase, after, words: Box::new(self.words_so_far()) }
            }
        }
    }

    /// What the server has complained about so far, to whomever of its callers it was about: it does not say. It lives, so
    /// there is no exit.
    fn words_so_far(&self) -> LastWords {
        LastWords { stderr_tail: self.stderr.text(), ..LastWords::default() }
    }
}

impl Revisions {
    /// The number of this list.
    pub(crate) fn of(&self, kind: ListKind) -> u64 {
        self.0[kind as usize].load(Ordering::SeqCst)
    }

    /// These are others by now.
    pub(super) fn changed(&self, kinds: &[ListKind]) {
        for kind in kinds {
            self.0[*kind as usize].fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Another process has come: what an earlier one has changed is as it was.
    fn begin_anew(&self) {
        for revision in self.0.iter().filter(|revision| revision.load(Ordering::SeqCst) > 0) {
            revision.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Overheard {
    /// It is this child's stderr that is heard.
    pub(super) fn is_of(&self, child: &dyn Offspring) {
        // A second child would be another server's.
        let _ = self.0.set(child.stderr());
    }

    /// The end of it so far; of a server that was not started yet, nothing.
    pub(crate) fn words_so_far(&self) -> LastWords {
        let stderr_tail = self.0.get().map(Tail::text).unwrap_or_default();
        LastWords { stderr_tail, ..LastWords::default() }
    }
}

impl Line {
    /// The process id of the server's leader.
    pub(crate) fn pid(&self) -> u32 {
        self.hub.pid
    }

    /// Whether no answer will come any more.
    pub(crate) fn is_over(&self) -> bool {
        self.hub.over.initialized()
    }

    /// What the server said of itself so far.
    pub(crate) fn introduction(&self) -> &Arc<Introduction> {
        self.session.introduction()
    }

    /// Puts one question to the server, and waits for the outcome or for the end of the call.
    pub(crate) async fn ask(
        &mut self,
        ask: &Ask,
        trace: Option<&TraceContext>,
        events: Option<&Events>,
        end: &EarlyEnd,
    ) -> Result<Outcome, Unanswered> {
        if let Some(reason) = end.happened().now_or_never() {
            return Err(Unanswered::Failed(self.hub.early(reason, end)));
        }
        let telling = if events.is_some() { Telling::Wanted } else { Telling::Unwanted };
        let _listening = events.map(|events| Listening::new(&self.hub.routes, self.number, events));
        let hub = &self.hub;
        let asked = async {
            let error = match self.session.ask(ask, trace, telling, hub.limit).await {
                Ok(outcome) => return Ok(outcome),
                Err(AskError::HungUp { said }) => {
                    let error = hub.over.wait().await.clone();
                    return Err(if said { Unanswered::Failed(error) } else { Unanswered::Unsaid(error) });
                }
                Err(error) => super::unanswered(error, Box::new(hub.words_so_far())),
            };
            Err(Unanswered::Failed(error))
        };
        match end.before(asked).await {
            Ok(asked) => asked,
            Err(reason) => {
                hub.doubt.store(true, Ordering::SeqCst);
                Err(Unanswered::Failed(hub.early(reason, end)))
            }
        }
    }
}

/// A caller who listens; dropped, it does not.
struct Listening {
    routes: Arc<Routes>,
    number: u64,
}

impl Listening {
    fn new(routes: &Arc<Routes>, number: u64, events: &Events) -> Self {
        routes.lock().insert(number, events.clone());
        Self { routes: Arc::clone(routes), number }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.number);
    }
}

impl Routes {
    /// Progress to whoever asked for it; what is logged to everybody who listens, for it does not say whom it concerns.
    pub(super) fn deliver(&self, event: Event) {
        let listening = self.lock();
        match &event {
            Event::Progress(params) => {
                if let Some(events) = mcp::line_of(params).and_then(|number| listening.get(&number)) {
                    events.push(event);
                }
            }
            Event::Log(_) => listening.values().for_each(|events| events.push(event.clone())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Events>> {
        // Nothing panics while holding it; even then it would be whole.
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
