//! THE LIFE OF ONE CALL: admitted, leased, asked, answered, ended.
//!
//! Each call lives in a task of its own, which is tracked and waited for on the way out. Whoever asks waits for the
//! answer only; losing interest hangs up the call and never skips its end.
//!
//! ```text
//!   Calls::run ---- spawns ----> life:  1 admitted  2 leased  3 asked
//!     waits for the answer  <----------------------------------- 4 answered
//!     (the caller is done here)         5 ended: killed, reaped, swept; then the seat is free
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) mod admission;
mod at_once;
mod figures;
mod log;
mod receipts;
pub(crate) mod shares;
mod spans;

pub(crate) use receipts::Receipts;

use crate::auth::Mask;
use crate::deadline::EarlyEnd;
use crate::exchange::{
    About, Answer, CallError, Failed, ListKind, OnError, Outcome, Phase, Principal, Process, Record, Reply,
    Request, Step, Times, Told, TraceContext,
};
use crate::strategy::{Lease, Strategy};
use crate::tasks::Tasks;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::traces::Traces;
use admission::{Admission, Entered};
use at_once::at_once;
use receipts::Entry;
use shares::{Asking, Life, Shares};
use spans::CallSpan;

/// What becomes of a call whose caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnDisconnect {
    /// It is cancelled.
    Cancel,
    /// It goes on to its end, for nobody.
    Finish,
}

/// The calls of one server.
pub(crate) struct Calls {
    parts: Arc<Parts>,
    receipts: Arc<Receipts>,
    lives: Tasks,
    draining: AtomicBool,
    mask: Mask,
    traces: Traces,
    /// The last resort: ends every call, with an answer.
    stop: CancellationToken,
    on_disconnect: OnDisconnect,
}

/// What the calls of all servers have in common.
#[derive(Clone)]
pub(crate) struct Common {
    /// Where they are put down.
    pub(crate) receipts: Arc<Receipts>,
    /// How many each principal has in.
    pub(crate) shares: Arc<Shares>,
    /// What none of them may tell.
    pub(crate) mask: Mask,
    /// Who follows their traces.
    pub(crate) traces: Traces,
    /// What runs them.
    pub(crate) tasks: Tasks,
}

struct Parts {
    server: Arc<str>,
    shares: Arc<Shares>,
    admission: Admission,
    strategy: Box<dyn Strategy>,
}

impl Parts {
    /// Tells of a call that is over.
    fn over(&self, record: &Record, story: Option<&str>, span: Option<CallSpan>) {
        log::write(record, story);
        if let Some(span) = span {
            span.end(record, self.strategy.about().strategy);
        }
        figures::count(record, &*self.strategy, self.admission.figures());
    }
}

impl Calls {
    /// Calls to `server`, let in by `admission`, served by `strategy`.
    pub(crate) fn new(
        server: Arc<str>,
        admission: Admission,
        strategy: Box<dyn Strategy>,
        on_disconnect: OnDisconnect,
        common: Common,
    ) -> Self {
        let Common { receipts, shares, mask, traces, tasks } = common;
        let parts = Arc::new(Parts { server, shares, admission, strategy });
        let (lives, stop) = (tasks.apart(), CancellationToken::new());
        Self { parts, receipts, lives, draining: AtomicBool::new(false), mask, traces, stop, on_disconnect }
    }

    /// What can be told without starting anything.
    pub(crate) fn about(&self) -> About {
        self.parts.strategy.about()
    }

    /// A number that is another one once a server that is kept has said that it lists something else now.
    pub(crate) fn list_revision(&self, kind: ListKind) -> u64 {
        self.parts.strategy.list_revision(kind)
    }

    /// Makes one call in a task of its own, and waits for the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future hangs up. The task still ends its server, and `drain` still waits for the task.
    pub(crate) async fn run(&self, request: Request) -> Answer {
        let id = request.id;
        if self.draining.load(Ordering::Relaxed) {
            let refusal = CallError::ShuttingDown { phase: Phase::Queue };
            return self.spared(
                Answer::refused(id, refusal, Times::default()),
                &request.principal,
                request.trace.as_ref(),
            );
        }
        let admission = &self.parts.admission;
        let asking = match self.parts.shares.ask(&request.principal, |share| admission.when_one_of(share)) {
            Ok(asking) => asking,
            Err(refusal) => {
                return self.spared(
                    Answer::refused(id, refusal, Times::default()),
                    &request.principal,
                    request.trace.as_ref(),
                );
            }
        };
        let caller = CancellationToken::new();
        let told = self.begin(request, asking, caller.clone());
        let interest: Option<DropGuard> = match self.on_disconnect {
            OnDisconnect::Cancel => Some(caller.drop_guard()),
            OnDisconnect::Finish => None,
        };
        let answer = told.await;
        // From here on the caller's leaving is no reason any more.
        let _ = interest.map(DropGuard::disarm);
        answer.unwrap_or_else(|_| {
            let what = "a call ended without an answer".to_owned();
            Answer::refused(id, CallError::Internal { what }, Times::default())
        })
    }

    /// Makes one call for nobody: it goes on to its end, within the same bounds as any other. `None`: not now.
    pub(crate) fn try_out(&self, request: Request) -> Option<oneshot::Receiver<Answer>> {
        if self.draining.load(Ordering::Relaxed) {
            return None;
        }
        let admission = &self.parts.admission;
        let asking = self.parts.shares.ask(&request.principal, |share| admission.when_one_of(share)).ok()?;
        Some(self.begin(request, asking, CancellationToken::new()))
    }

    fn begin(
        &self,
        request: Request,
        asking: Asking,
        caller: CancellationToken,
    ) -> oneshot::Receiver<Answer> {
        let end = EarlyEnd::new(caller, self.stop.clone(), request.deadline);
        let (way, told) = oneshot::channel();
        let span = CallSpan::begin(&self.traces, request.trace.as_ref());
        let trace = span.as_ref().map(CallSpan::context).or(request.trace.as_ref());
        let principal = request.principal.clone();
        let entry = self.receipts.open(request.id, principal, &self.parts.server, trace);
        let mask = if request.credentials.is_empty() {
            self.mask.clone()
        } else {
            self.mask.and(request.credentials.iter().map(|(_, secret)| secret))
        };
        let running = self.parts.admission.figures().running();
        let (reply, on_error) = (request.reply, request.on_error);
        let teller = Teller { way, reply, on_error, entry, asking, mask, span, _running: running };
        let life = Box::pin(life(Arc::clone(&self.parts), request, end, teller));
        self.lives.begin(at_once(life));
        told
    }

    /// Whether whoever calls now is turned away.
    pub(crate) fn is_full(&self) -> bool {
        self.parts.admission.is_full()
    }

    /// Says how many servers stand by to whoever counts.
    pub(crate) fn count_standbys(&self) {
        if let Some(standbys) = self.about().standbys {
            self.parts.admission.figures().standing_by(standbys.ready);
        }
    }

    /// Puts down a call that needed no life of its own: answered from memory, or refused at once.
    pub(crate) fn spared(
        &self,
        answer: Answer,
        principal: &Principal,
        trace: Option<&TraceContext>,
    ) -> Answer {
        let answer = answer.masked(&self.mask);
        let span = CallSpan::begin(&self.traces, trace);
        let trace = span.as_ref().map(CallSpan::context).or(trace);
        let entry = self.receipts.open(answer.id, principal.clone(), &self.parts.server, trace);
        let (told, story) = in_short(&answer, OnError::Stop);
        self.parts.over(&entry.end(told, None), story.as_deref(), span);
        answer
    }

    /// Servers may be started from now on before anybody calls.
    pub(crate) fn open(&self) {
        self.parts.strategy.open();
    }

    /// Starts no process from now on but for a call.
    pub(crate) fn by_call_only(&self) {
        self.parts.strategy.close();
    }

    /// Lets no further call in; those that are in live on.
    pub(crate) fn close(&self) {
        self.by_call_only();
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends every call that is still alive, with an answer to its caller.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when every call has ended and nothing is alive that the strategy keeps. Call `close` first.
    pub(crate) async fn drain(&self) {
        self.lives.done().await;
        self.parts.strategy.drain().await;
    }
}

/// The way back to whoever asked, who may have left; and the call's record.
struct Teller {
    way: oneshot::Sender<Answer>,
    reply: Reply,
    on_error: OnError,
    entry: Entry,
    /// Its place in the principal's share, up to its answer.
    asking: Asking,
    mask: Mask,
    span: Option<CallSpan>,
    /// Dropped when nothing of the call is alive.
    _running: InFlight,
}

impl Teller {
    /// 4. and 5. Answered, and ended; or ended and then answered, for a caller who wants the receipt.
    async fn finish(self, parts: &Parts, answer: Answer, ended: impl Future<Output = Option<Process>>) {
        let Self { way, reply, on_error, mut entry, asking, mask, span, _running } = self;
        let mut answer = answer.masked(&mask);
        let (told, story) = in_short(&answer, on_error);
        entry.told(told);
        // Nobody there any more is no failure: their leaving has ended the call, or they asked it to be finished.
        match reply {
            Reply::WhenKnown => {
                // Whoever asks one after the other is not to be too early with the next.
                drop(asking);
                let _ = way.send(answer);
                // Whoever waits for the answer goes first: they may be next on this very thread.
                tokio::task::yield_now().await;
                parts.over(&entry.end(told, ended.await), story.as_deref(), span);
            }
            Reply::WhenDead => {
                let record = entry.end(told, ended.await);
                parts.over(&record, story.as_deref(), span);
                answer.receipt = Some(Box::new(record));
                drop(asking);
                let _ = way.send(answer);
            }
        }
    }
}

/// One call, from the door to the proof of death.
async fn life(parts: Arc<Parts>, request: Request, end: EarlyEnd, teller: Teller) {
    let mut times = Times::default();
    match admit(&parts, &request.principal, &end, &mut times).await {
        // Apart from it: who waits at the door has no need yet of the room for all that comes after.
        Ok((entered, life)) => {
            Box::pin(served(&parts, request, &end, teller, (entered, life, times))).await;
        }
        Err(full) => {
            let refused = Answer::refused(request.id, full, times);
            teller.finish(&parts, refused, async { None }).await;
        }
    }
}

/// The same from its seat on, which like its place in the principal's share is held to the end: a tree that is being ended
/// counts, too.
async fn served(
    parts: &Parts,
    request: Request,
    end: &EarlyEnd,
    mut teller: Teller,
    (entered, _life, mut times): (Entered<Lease>, Life, Times),
) {
    let (id, queue) = (request.id, times.queue);
    let holding = parts.admission.holding();
    let leased = match entered {
        Entered::Seated(lease) => Ok(lease),
        Entered::Seat(seat, start) => {
            let leased = if request.credentials.is_empty() {
                parts.strategy.lease(seat, end)
            } else {
                parts.strategy.lease_with(seat, &request.credentials, end)
            };
            start.during(leased).await
        }
    };
    let mut lease = match leased {
        Ok(lease) => lease,
        Err(failed) => {
            let (error, times, failed) = failed.into_parts();
            let times = Times { queue, ..times };
            let ended = async {
                let ended = failed.end().await;
                drop(holding);
                Some(ended?.into())
            };
            return teller.finish(parts, Answer::refused(id, error, times), ended).await;
        }
    };
    if let Some(events) = &request.events {
        events.leased();
    }
    times = Times { queue, ..lease.times() };
    let answer = ask(&mut lease, request, end, times, teller.span.as_mut()).await;
    // Before the answer: whoever has it may ask again at once, and finds what is kept.
    let given_back = lease.give_back();
    let ended = async {
        let process = match given_back {
            Ok(kept) => Process::Kept(kept),
            Err(lease) => lease.end().await,
        };
        drop(holding);
        Some(process)
    };
    teller.finish(parts, answer, ended).await;
}

/// 1. Admitted, or turned away. A server that waits for its call has a seat: such a call needs none of its own.
async fn admit(
    parts: &Parts,
    principal: &Principal,
    end: &EarlyEnd,
    times: &mut Times,
) -> Result<(Entered<Lease>, Life), CallError> {
    let began = Instant::now();
    let entered = async {
        // Within the share already, so that nothing but the ends of earlier trees can be in the way.
        let life = {
            let late = || shares::refusal(principal, |share| parts.admission.when_one_of(share));
            parts.admission.bounded(parts.shares.life(principal), end, late).await?
        };
        let shelf = parts.strategy.shelf();
        let ready = match shelf {
            Some(shelf) => shelf.take().await,
            None => None,
        };
        let entered = match (ready, shelf) {
            (Some(lease), _) => Ok(Entered::Seated(lease)),
            (None, Some(shelf)) => parts.admission.enter(principal, shelf.next(principal), end).await,
            (None, None) => parts.admission.enter(principal, std::future::pending(), end).await,
        };
        Ok((entered?, life))
    };
    let entered = entered.await;
    times.queue = Some(began.elapsed());
    entered
}

/// 3. Every step in order, as far as it goes.
async fn ask(
    lease: &mut Lease,
    request: Request,
    end: &EarlyEnd,
    mut times: Times,
    mut span: Option<&mut CallSpan>,
) -> Answer {
    let began = Instant::now();
    let mut answer = Answer::begun(request.id, times);
    if request.steps.is_empty() {
        answer.failure = lease.introduce(end).await.err();
        answer.noise = lease.noise().to_vec();
    }
    for Step { ask, gate } in request.steps {
        let learning = gate.is_some();
        let asking = span.as_ref().and_then(|span| span.step());
        let trace = asking.as_ref().map(|asking| &asking.context).or(request.trace.as_ref());
        let outcome = lease.ask(&ask, trace, request.events.as_ref(), end).await;
        if let (Some(span), Some(asking)) = (&mut span, asking) {
            span.asked(asking, &ask, &outcome);
        }
        if let (Ok(Outcome::Listed(listed)), Some(gate)) = (&outcome, gate)
            && let Err(refused) = gate.pass(listed, lease.introduction())
        {
            answer.failure = Some(refused);
            break;
        }
        match outcome {
            Err(error) if !(error.is_an_answer() || learning && error.is_about_words()) => {
                answer.failure = Some(error);
                break;
            }
            failed @ Err(_) => {
                answer.steps.push(failed);
                // What could not be learned stands in nobody's way: the server itself will judge. If nothing can be asked
                // of it any more, the next step says so.
                if request.on_error == OnError::Stop && !learning {
                    break;
                }
            }
            good => answer.steps.push(good),
        }
    }
    times.call = Some(began.elapsed());
    answer.times = times;
    answer.introduction = Some(Arc::clone(lease.introduction()));
    answer
}

/// The answer in one word, for the record; and the words of its failure, for the log.
fn in_short(answer: &Answer, on_error: OnError) -> (Told, Option<String>) {
    // Where the steps after a failed one are asked all the same, it is the caller who judges.
    let last = answer.steps.last().filter(|_| on_error == OnError::Stop);
    let failure = answer.failure.as_ref().or_else(|| last?.as_ref().err());
    let told = Told { failure: failure.map(Failed::from), times: answer.times };
    (told, failure.map(CallError::story))
}

#[cfg(test)]
mod tests {
    use super::*;

    mod interleavings;
}
