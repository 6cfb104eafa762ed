//! What each server offers: lists and schemas, learned by a call, kept while fresh; checks arguments.
//!
//! No process is spent on a call that cannot succeed, and none is spent only to find that out: arguments are checked
//! against the last known list, and while none is known the call itself learns it, inside its own process, before the
//! tool is asked. A refusal that rests on a list which is no longer fresh is never given: the call learns anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

mod cost;
mod readiness;
mod schema;
mod shelf;

use crate::call::Calls;
pub(crate) use crate::call::Receipts;
use crate::deadline::Deadline;
use crate::exchange::fault::Violation;
use crate::exchange::{
    About, Answer, Ask, Bounds, CallError, CallId, Caller, Gate, HeaderVariable, Introduction, LastWords,
    ListKind, Listed, OnError, Outcome, Phase, Principal, RawJson, Request, Step, Times, TraceContext,
    nearest,
};
use shelf::{InVain, Kept, Shelf, Verdict};

/// What is done with arguments that break the tool's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validate {
    /// They are refused.
    Enforce,
    /// They are sent, and that is logged.
    Warn,
    /// They are not looked at.
    Off,
}

/// What of a server's configuration concerns its catalog.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Whether arguments are checked.
    pub(crate) validate: Validate,
    /// How long a list stays fresh if the server does not say.
    pub(crate) list_ttl: Duration,
    /// `auto`, `legacy` or `modern`.
    pub(crate) protocol: &'static str,
    /// The headers of a request that are given to the call's process, as variables.
    pub(crate) header_env: Arc<[HeaderVariable]>,
    /// The limits to be shown.
    pub(crate) limits: LimitsInForce,
    /// What the kernel was asked for, and what became of it.
    pub(crate) bounds: Arc<Bounds>,
    /// Whether the gateway is not ready while it cannot be started.
    pub(crate) required: bool,
}

/// The limits of one server that the gateway itself sees to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitsInForce {
    pub(crate) concurrent: usize,
    pub(crate) queue: usize,
    pub(crate) queue_timeout: Duration,
    /// The whole call.
    pub(crate) deadline: Duration,
    /// Its start and its handshake.
    pub(crate) open_deadline: Duration,
    /// Bytes of one message.
    pub(crate) output: usize,
    /// Bytes of stderr kept.
    pub(crate) stderr: usize,
}

/// What can be told of a server without asking it.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    /// The configured name.
    pub(crate) name: Arc<str>,
    /// Strategy, era and containment.
    pub(crate) about: About,
    /// `auto`, `legacy` or `modern`, as configured.
    pub(crate) protocol: &'static str,
    /// What is enforced here.
    pub(crate) limits: LimitsInForce,
    /// What the kernel was asked for.
    pub(crate) bounds: Arc<Bounds>,
    /// What it said of itself when it was last opened.
    pub(crate) introduction: Option<Arc<Introduction>>,
}

/// One server, as the dialects see it.
pub(crate) struct Catalog {
    name: Arc<str>,
    calls: Calls,
    settings: Settings,
    shelves: Arc<[Shelf; 4]>,
    introduction: Mutex<Option<Arc<Introduction>>>,
    introducing: tokio::sync::Mutex<InVain>,
    tried: Mutex<Option<readiness::Trial>>,
}

/// A tool step, as far as it can be checked.
type Checked = (usize, String, Option<RawJson>);

impl Catalog {
    /// A catalog of the server behind `calls`.
    pub(crate) fn new(name: Arc<str>, calls: Calls, settings: Settings) -> Self {
        let (shelves, introduction) = (Arc::default(), Mutex::default());
        let (introducing, tried) = (tokio::sync::Mutex::default(), Mutex::default());
        Self { name, calls, settings, shelves, introduction, introducing, tried }
    }

    /// Its configured name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What can be told without asking it.
    pub(crate) fn summary(&self) -> Summary {
        Summary {
            name: Arc::clone(&self.name),
            about: self.calls.about(),
            protocol: self.settings.protocol,
            limits: self.settings.limits,
            bounds: Arc::clone(&self.settings.bounds),
            introduction: self.introduction(),
        }
    }

    /// The configured budget of a whole call; a caller may ask for less, not for more.
    pub(crate) const fn deadline(&self) -> Duration {
        self.settings.limits.deadline
    }

    /// The headers of a request that its process is given.
    pub(crate) fn header_env(&self) -> &[HeaderVariable] {
        &self.settings.header_env
    }

    /// The calls behind it, for whoever stops them.
    pub(crate) const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Makes one call, its tool arguments checked against the last known schema. Dropping the future hangs up.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let tools = checkable(&request.steps);
        if self.settings.validate == Validate::Off || tools.is_empty() {
            return self.run(request).await;
        }
        if !request.credentials.is_empty() {
            return self.learn_and_run(request, tools, None).await;
        }
        let shelf = self.shelf(ListKind::Tools);
        let Some(kept) = shelf.kept() else {
            return self.learn_and_run(request, tools, None).await;
        };
        let known = self.introduction();
        let judged =
            |kept: &Kept| judge(kept, &tools, &request.principal, self.settings.validate, known.as_deref());
        let Err(refusal) = judged(&kept) else {
            return self.run(request).await;
        };
        if kept.is_fresh(self.calls.list_revision(ListKind::Tools)) {
            return self.refused(request.id, refusal, &request.principal, request.trace.as_ref());
        }
        // The list is old: before anybody is refused it is learned anew, once for all who wait for it.
        let arrived = Instant::now();
        let asking = match self.turn(shelf, request.deadline).await {
            Ok(asking) => asking,
            Err(late) => return self.refused(request.id, late, &request.principal, request.trace.as_ref()),
        };
        match shelf.kept().filter(|kept| kept.learned > arrived) {
            Some(kept) => match judged(&kept) {
                Ok(()) => self.run(request).await,
                Err(refusal) => self.refused(request.id, refusal, &request.principal, request.trace.as_ref()),
            },
            None => self.learn_and_run(request, tools, Some(asking)).await,
        }
    }

    /// One list, all pages: from memory while it is fresh, else asked of the server, once for all who wait. The answer
    /// has one step: [`Outcome::Listed`]; and a receipt, if one was asked for and a process was.
    ///
    /// Whoever brings credentials may be shown another list than others: theirs is asked for each time, and kept by nobody.
    pub(crate) async fn list(&self, who: Caller, kind: ListKind) -> Answer {
        if !who.credentials.is_empty() {
            return self.run(plain(who, vec![Ask::List(kind).into()])).await;
        }
        let (shelf, revision) = (self.shelf(kind), self.calls.list_revision(kind));
        if let Some(kept) = shelf.kept().filter(|kept| kept.is_fresh(revision)) {
            return self.remembered(&who, &kept);
        }
        let arrived = Instant::now();
        let mut asking = match self.turn(shelf, who.deadline).await {
            Ok(asking) => asking,
            Err(late) => return self.refused(who.id, late, &who.principal, who.trace.as_ref()),
        };
        // Whoever was asking meanwhile has asked for us too, however short its answer stays fresh.
        if let Some(kept) = shelf.kept().filter(|kept| kept.learned > arrived) {
            return self.remembered(&who, &kept);
        }
        if let Some(failure) = asking.since(arrived) {
            return self.refused(who.id, failure, &who.principal, who.trace.as_ref());
        }
        let answer = self.run(plain(who, vec![Ask::List(kind).into()])).await;
        asking.learn(&answer, self.settings.limits.open_deadline);
        if let [Ok(Outcome::Listed(listed))] = &*answer.steps {
            shelf.put(listed, self.settings.list_ttl, revision);
        }
        answer
    }

    /// A list as it was learned last, fresh or not; nothing is asked.
    pub(crate) fn known(&self, kind: ListKind) -> Option<Arc<Listed>> {
        self.shelf(kind).kept().map(|kept| Arc::clone(&kept.listed))
    }

    /// What the server says of itself; asked of it when that is not known. The answer has no steps.
    pub(crate) async fn introduce(&self, who: Caller) -> Answer {
        if !who.credentials.is_empty() {
            return self.run(plain(who, Vec::new())).await;
        }
        if let Some(known) = self.introduced(&who) {
            return known;
        }
        let arrived = Instant::now();
        let mut introducing = tokio::select! {
            turn = self.introducing.lock() => turn,
            () = who.deadline.passed() => {
                return self.refused(who.id, late(who.deadline), &who.principal, who.trace.as_ref());
            }
        };
        if let Some(known) = self.introduced(&who) {
            return known;
        }
        if let Some(failure) = introducing.since(arrived) {
            return self.refused(who.id, failure, &who.principal, who.trace.as_ref());
        }
        let answer = self.run(plain(who, Vec::new())).await;
        introducing.learn(&answer, self.settings.limits.open_deadline);
        answer
    }

    /// A call that learns the tools first, in its own process, and goes on only if its arguments fit them.
    async fn learn_and_run(
        &self,
        mut request: Request,
        tools: Vec<Checked>,
        asking: Option<OwnedMutexGuard<InVain>>,
    ) -> Answer {
        // What is learned with a caller's credentials is that caller's alone.
        let shelves = if request.credentials.is_empty() { Arc::clone(&self.shelves) } else { Arc::default() };
        let (settings, who) = (self.settings.clone(), request.principal.clone());
        let revision = self.calls.list_revision(ListKind::Tools);
        let gate = Gate::new(move |listed, introduction| {
            let kept = shelves[ListKind::Tools as usize].put(listed, settings.list_ttl, revision);
            drop(asking);
            judge(&kept, &tools, &who, settings.validate, Some(introduction))
        });
        request.steps.insert(0, Step { ask: Ask::List(ListKind::Tools), gate: Some(gate) });
        let mut answer = self.run(request).await;
        if !answer.steps.is_empty() {
            drop(answer.steps.remove(0));
        }
        answer
    }

    async fn run(&self, request: Request) -> Answer {
        let keeps = request.credentials.is_empty();
        let answer = self.calls.run(request).await;
        if let Some(said) = answer.introduction.as_ref().filter(|_| keeps) {
            let mut known = self.introduction.lock().unwrap_or_else(PoisonError::into_inner);
            // A modern server that was not discovered has said less than what may be known already.
            if said.capabilities.is_some() || known.is_none() {
                *known = Some(Arc::clone(said));
            }
        }
        answer
    }

    /// The answer to an introduction that took place already.
    fn introduced(&self, who: &Caller) -> Option<Answer> {
        let introduction = self.introduction().filter(|introduction| introduction.capabilities.is_some())?;
        let answer = Answer { introduction: Some(introduction), ..nothing(who.id) };
        Some(self.calls.spared(answer, &who.principal, who.trace.as_ref()))
    }

    fn refused(
        &self,
        id: CallId,
        refusal: CallError,
        who: &Principal,
        trace: Option<&TraceContext>,
    ) -> Answer {
        self.calls.spared(Answer::refused(id, refusal, Times::default()), who, trace)
    }

    fn remembered(&self, who: &Caller, kept: &Kept) -> Answer {
        let steps = vec![Ok(Outcome::Listed(Arc::clone(&kept.listed)))];
        self.calls.spared(Answer { steps, ..nothing(who.id) }, &who.principal, who.trace.as_ref())
    }

    fn introduction(&self) -> Option<Arc<Introduction>> {
        self.introduction.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn shelf(&self, kind: ListKind) -> &Shelf {
        &self.shelves[kind as usize]
    }

    async fn turn(&self, shelf: &Shelf, deadline: Deadline) -> Result<OwnedMutexGuard<InVain>, CallError> {
        tokio::select! {
            turn = Arc::clone(&shelf.asking).lock_owned() => Ok(turn),
            () = deadline.passed() => Err(late(deadline)),
        }
    }
}

/// The tool steps, with their places.
fn checkable(steps: &[Step]) -> Vec<Checked> {
    let tool = |(place, step): (usize, &Step)| match &step.ask {
        Ask::Tool { name, arguments, .. } => Some((place, name.clone(), arguments.clone())),
        _ => None,
    };
    steps.iter().enumerate().filter_map(tool).collect()
}

/// What a list says of all tool steps; the first refusal is the answer.
///
/// A tool that is not there yet may come by an earlier step, and in a process of its own call by nothing else: where the
/// server declares that, it is the one to judge when it is asked. But what is nearly the name of a tool that is there was
/// meant for that.
fn judge(
    kept: &Kept,
    tools: &[Checked],
    who: &Principal,
    validate: Validate,
    introduction: Option<&Introduction>,
) -> Result<(), CallError> {
    let may_come = introduction.is_some_and(Introduction::tools_may_change);
    for (place, name, arguments) in tools {
        let refusal = match kept.judge(name, arguments.as_ref()) {
            Verdict::Fine => continue,
            Verdict::Unknown => {
                let meant = nearest(name, kept.names().filter(|tool| who.may_call(tool)));
                if may_come && *place > 0 && meant.is_none() {
                    continue;
                }
                CallError::UnknownTool { name: name.clone(), meant: meant.map(ToOwned::to_owned) }
            }
            Verdict::Invalid(violations) => invalid(*place, name, violations),
        };
        if validate == Validate::Enforce {
            return Err(refusal);
        }
        tracing::warn!(tool = name, error = %refusal, "sent all the same, as configured");
    }
    Ok(())
}

fn invalid(place: usize, tool: &str, violations: Vec<Violation>) -> CallError {
    let message = match (place, &*violations) {
        (0, [first, ..]) if first.pointer.is_empty() => first.message.clone(),
        (0, [first, ..]) => format!("{} at {}", first.message, first.pointer),
        // Numbered as `failed_step` and the messages about a body number them: from zero.
        _ => format!("step {place} ({tool})"),
    };
    CallError::InvalidArguments { message, violations }
}

fn nothing(id: CallId) -> Answer {
    Answer::begun(id, Times::default())
}

fn plain(who: Caller, steps: Vec<Step>) -> Request {
    let Caller { id, principal, deadline, reply, credentials, trace } = who;
    let on_error = OnError::Stop;
    Request { id, principal, steps, on_error, deadline, events: None, reply, credentials, trace }
}

fn late(deadline: Deadline) -> CallError {
    let words = Box::new(LastWords::default());
    CallError::DeadlineExceeded { phase: Phase::Queue, after: deadline.budget(), words }
}
