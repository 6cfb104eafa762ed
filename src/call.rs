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
use tokio_util::task::TaskTracker;

pub(crate) mod admission;

use crate::deadline::EarlyEnd;
use crate::exchange::{
    About, Answer, CallError, CallId, Fault, OnError, Outcome, Phase, Receipt, Reply, Request, Seat, Step,
    Times,
};
use crate::strategy::{Lease, Strategy};
use admission::Admission;

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
    lives: TaskTracker,
    draining: AtomicBool,
    /// The last resort: ends every call, with an answer.
    stop: CancellationToken,
    on_disconnect: OnDisconnect,
}

struct Parts {
    server: Arc<str>,
    admission: Admission,
    strategy: Box<dyn Strategy>,
}

impl Calls {
    /// Calls to `server`, let in by `admission`, served by `strategy`.
    pub(crate) fn new(
        server: Arc<str>,
        admission: Admission,
        strategy: Box<dyn Strategy>,
        on_disconnect: OnDisconnect,
    ) -> Self {
        let parts = Arc::new(Parts { server, admission, strategy });
        let (lives, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { parts, lives, draining: AtomicBool::new(false), stop, on_disconnect }
    }

    /// What can be told without starting anything.
    pub(crate) fn about(&self) -> About {
        self.parts.strategy.about()
    }

    /// Makes one call in a task of its own, and waits for the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future hangs up. The task still ends its server, and `drain` still waits for the task.
    pub(crate) async fn run(&self, request: Request) -> Answer {
        let id = request.id;
        if self.draining.load(Ordering::Relaxed) {
            return Answer::refused(id, CallError::ShuttingDown { phase: Phase::Queue }, Times::default());
        }
        let caller = CancellationToken::new();
        let end = EarlyEnd::new(caller.clone(), self.stop.clone(), request.deadline);
        let interest: Option<DropGuard> = match self.on_disconnect {
            OnDisconnect::Cancel => Some(caller.drop_guard()),
            OnDisconnect::Finish => None,
        };
        let (tell, told) = oneshot::channel();
        self.lives.spawn(life(Arc::clone(&self.parts), request, end, Tell(tell)));
        let answer = told.await;
        // From here on the caller's leaving is no reason any more.
        let _ = interest.map(DropGuard::disarm);
        answer.unwrap_or_else(|_| {
            let what = "a call ended without an answer".to_owned();
            Answer::refused(id, CallError::Internal { what }, Times::default())
        })
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
        self.lives.close();
        self.lives.wait().await;
        self.parts.strategy.drain().await;
    }
}

/// The way back to whoever asked. They may have left.
struct Tell(oneshot::Sender<Answer>);

impl Tell {
    fn answer(self, answer: Answer) {
        // Nobody there any more is no failure: their leaving has ended the call, or they asked it to be finished.
        let _ = self.0.send(answer);
    }
}

/// One call, from the door to the proof of death.
async fn life(parts: Arc<Parts>, request: Request, end: EarlyEnd, tell: Tell) {
    let mut times = Times::default();
    let entered = admit(&parts, &end, &mut times).await;
    let seat = match entered {
        Ok(seat) => seat,
        Err(full) => return tell.answer(Answer::refused(request.id, full, times)),
    };
    let queue = times.queue;
    let mut lease = match parts.strategy.lease(seat, &end).await {
        Ok(lease) => lease,
        Err(failed) => {
            let (id, reply) = (request.id, request.reply);
            let (error, times, failed) = failed.into_parts();
            let times = Times { queue, ..times };
            log(&parts.server, id, Some(&error));
            return finish(tell, reply, Answer::refused(id, error, times), failed.end()).await;
        }
    };
    if let Some(events) = &request.events {
        events.leased();
    }
    times = Times { queue, ..lease.times() };
    let (id, reply) = (request.id, request.reply);
    let answer = ask(&mut lease, request, &end, times).await;
    log(&parts.server, id, answer.failure.as_ref().or_else(|| answer.steps.last()?.as_ref().err()));
    finish(tell, reply, answer, async { Some(lease.end().await) }).await;
}

/// 1. Admitted, or turned away.
async fn admit(parts: &Parts, end: &EarlyEnd, times: &mut Times) -> Result<Seat, CallError> {
    let began = Instant::now();
    let seat = parts.admission.enter(end).await;
    times.queue = Some(began.elapsed());
    seat
}

/// 3. Every step in order, as far as it goes.
async fn ask(lease: &mut Lease, request: Request, end: &EarlyEnd, mut times: Times) -> Answer {
    let began = Instant::now();
    let mut answer = Answer::begun(request.id, times);
    if request.steps.is_empty() {
        answer.failure = lease.introduce(end).await.err();
    }
    for Step { ask, gate } in request.steps {
        let learning = gate.is_some();
        let outcome = lease.ask(&ask, request.events.as_ref(), end).await;
        if let (Ok(Outcome::Listed(listed)), Some(gate)) = (&outcome, gate)
            && let Err(refused) = gate.pass(listed)
        {
            answer.failure = Some(refused);
            break;
        }
        match outcome {
            Err(error) if !error.is_an_answer() => {
                answer.failure = Some(error);
                break;
            }
            failed @ Err(_) => {
                answer.steps.push(failed);
                // What could not be learned stands in nobody's way: the server itself will judge.
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

/// 4. and 5. Answered, and ended; or ended and then answered, for a caller who wants the receipt.
async fn finish(tell: Tell, reply: Reply, mut answer: Answer, ended: impl Future<Output = Option<Receipt>>) {
    match reply {
        Reply::WhenKnown => {
            let id = answer.id;
            tell.answer(answer);
            // Whoever waits for the answer goes first: they may be next on this very thread.
            tokio::task::yield_now().await;
            let receipt = ended.await;
            tracing::debug!(call = %id, ?receipt, "ended");
        }
        Reply::WhenDead => {
            answer.receipt = ended.await;
            tell.answer(answer);
        }
    }
}

/// Failures that are not the caller's own are worth a line.
fn log(server: &str, id: CallId, error: Option<&CallError>) {
    let Some(error) = error else { return };
    match error.fault() {
        Fault::Caller => tracing::debug!(server, call = %id, error = error.story(), "call failed"),
        Fault::Overload | Fault::Deadline | Fault::Server => {
            tracing::warn!(server, call = %id, error = error.story(), "call failed");
        }
        Fault::Ours => tracing::error!(server, call = %id, error = error.story(), "call failed"),
    }
}
