//! THE LIFE OF ONE SERVER: a process joined to a conversation. The only file where child, rpc and mcp meet.
//!
//! ```text
//!   scratch, spawn -> connect -> open --+--> ask, ask, ... -> close stdin, wait, terminate, kill, reap, sweep
//!                                       +--> HalfBorn -----> the same end
//! ```
//!
//! Everything runs in its owner's task: while a question is asked, that task also writes, reads, drains stderr and
//! watches for the exit, for the caller's leaving and for the deadline.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

mod doubt;
mod ears;
mod half_born;
mod hub;
mod idle;
mod life_sign;
mod probe;

pub(crate) use half_born::{HalfBorn, Stillborn};
pub(crate) use hub::{Hub, Line, Overheard, Revisions, Unanswered};
pub(crate) use probe::probe;

use crate::child::spec::Spec;
use crate::child::{
    Birthplace, Containment, Intake, Ladder, Lesson, Newborn, Offspring, Output, Program, Remains, SpawnError,
};
use crate::deadline::{EarlyEnd, Reason};
use crate::exchange::{
    Ask, CallError, Credentials, Events, Introduction, LastWords, Outcome, Phase, Receipt, Seat, Times,
    TraceContext,
};
use crate::mcp::era::{Era, Protocol};
use crate::mcp::{self, AskError, OpenError, Session, Telling, VerdictKey, Verdicts};
use crate::rpc::{self, Closed, FrameError, Peer, Wire};
use ears::Ears;
use life_sign::Watch;

/// How long what a dead server had still written is read, and how long the exit of one that went silent is waited
/// for. A grandchild may hold the pipes open for ever.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// One configured server: what all its instances have in common.
#[derive(Debug)]
pub(crate) struct Server {
    name: Arc<str>,
    spec: Spec,
    /// What its command is, in short.
    command: VerdictKey,
    protocol: Protocol,
    open_deadline: Duration,
    output: usize,
    ladder: Ladder,
    /// How long the last handshake took, in milliseconds.
    opening: AtomicU64,
    /// Where they are born.
    nursery: Box<dyn Birthplace>,
    verdicts: Arc<Verdicts>,
}

/// What a [`Server`] is made of.
#[derive(Debug)]
pub(crate) struct Making {
    /// What it is called, in logs.
    pub(crate) name: Arc<str>,
    /// What to run.
    pub(crate) spec: Spec,
    /// What is known of its era by configuration.
    pub(crate) protocol: Protocol,
    /// How long the start and the handshake may take.
    pub(crate) open_deadline: Duration,
    /// The longest message that it may write, in bytes.
    pub(crate) output: usize,
}

impl Server {
    /// A server whose instances are born in `nursery`; what its era is found to be is kept in `verdicts`.
    pub(crate) fn new(making: Making, nursery: impl Birthplace + 'static, verdicts: Arc<Verdicts>) -> Self {
        let Making { name, spec, protocol, open_deadline, output } = making;
        let ladder = Ladder::new(spec.teardown);
        let command = VerdictKey::of(&(&spec.program, &spec.args, &spec.env, spec.home, &spec.cwd));
        let (opening, nursery) = (AtomicU64::new(0), Box::new(nursery));
        Self { name, spec, command, protocol, open_deadline, output, ladder, opening, nursery, verdicts }
    }

    /// The era that is known by now.
    pub(crate) fn era(&self) -> Option<Era> {
        match self.protocol {
            Protocol::Legacy => Some(Era::Legacy),
            Protocol::Modern => Some(Era::Modern),
            Protocol::Auto => self.verdicts.get(self.verdict_key_by_now()),
        }
    }

    /// Whether its era is unknown, or known for so long that a sibling should find it out anew.
    pub(crate) fn era_is_open(&self) -> bool {
        self.protocol == Protocol::Auto && self.verdicts.is_open(self.verdict_key_by_now())
    }

    /// How long the start and the handshake may take.
    pub(crate) const fn open_deadline(&self) -> Duration {
        self.open_deadline
    }

    /// What makes its trees killable as a whole.
    pub(crate) fn containment(&self) -> Containment {
        self.nursery.containment()
    }

    /// What to run for a call that brings these variables.
    fn spec_with(&self, credentials: &Credentials) -> Cow<'_, Spec> {
        if credentials.is_empty() {
            return Cow::Borrowed(&self.spec);
        }
        let mut spec = self.spec.clone();
        spec.env.retain(|(name, _)| credentials.iter().all(|(own, _)| name != own));
        spec.env.extend(credentials.iter().map(|(name, value)| (name.into(), value.reveal().into())));
        Cow::Owned(spec)
    }

    /// A verdict stands for this program, started like this, as it is installed.
    fn verdict_key(&self, program: Option<&Program>) -> VerdictKey {
        VerdictKey::of(&(self.command, program.and_then(|program| program.modified)))
    }

    fn verdict_key_by_now(&self) -> VerdictKey {
        self.verdict_key(crate::child::find_program(&self.spec).ok().as_ref())
    }
}

/// A process and the line to it, opened or not.
#[derive(Debug)]
struct Body {
    server: Arc<Server>,
    child: Box<dyn Offspring>,
    peer: Peer,
    wire: Wire<Box<dyn Output>, Box<dyn Intake>>,
    ears: Ears,
    lesson: Lesson,
    /// What a verdict on this very program goes by.
    key: VerdictKey,
}

/// A process together with its opened conversation.
#[derive(Debug)]
pub(crate) struct Instance {
    body: Body,
    session: Session,
    began: Instant,
    times: Times,
    /// The era is a guess that nobody has tested against the alternative.
    untested: bool,
}

/// Why a conversation was broken off.
#[derive(Debug)]
enum BrokenOff {
    Early(Reason),
    /// A message longer than is allowed, or a pipe that cannot be read.
    Unreadable(FrameError),
    /// The process has exited, and its stdout, held by another, stays open and silent.
    Exited,
    /// It closed its stdin before it had read the question, and has nothing to say to that.
    Deaf,
    /// Asked without a handshake, it has not come up in the time that it has for that.
    NotUp {
        after: Duration,
    },
}

impl Instance {
    /// Starts a process, with these variables beside its own, and opens a conversation with it. The seat belongs to the
    /// tree from now on.
    pub(crate) async fn start(
        server: &Arc<Server>,
        credentials: &Credentials,
        seat: Seat,
        overheard: &Overheard,
        end: &EarlyEnd,
    ) -> Result<Self, Box<HalfBorn>> {
        let began = Instant::now();
        let failed = |source: SpawnError, body: Option<Body>| {
            let program = server.spec.program.clone();
            let error = CallError::SpawnFailed { program, source: Arc::new(source) };
            let times = Times { spawn: Some(began.elapsed()), ..Times::default() };
            Box::new(HalfBorn::new(error, times, body.map_or_else(Stillborn::nothing, Stillborn::here)))
        };
        let born = server.nursery.bear(&server.spec_with(credentials), seat).await;
        let born = born.map_err(|source| failed(source, None))?;
        let mut body = Body::new(server, born);
        overheard.is_of(&*body.child);
        let opened = body.open(&end.within(server.open_deadline)).await;
        // Whoever has answered was started, and this returns at once; whoever has not may never have been.
        let started = match tokio::time::timeout(LAST_WORDS, body.child.started()).await {
            Ok(Ok(started)) => started,
            Ok(Err(source)) => return Err(failed(source, Some(body))),
            Err(_) => began,
        };
        let took = started.elapsed();
        let times = Times { spawn: Some(started - began), open: Some(took), ..Times::default() };
        match opened {
            Ok((session, untested)) => {
                server.opening.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                Ok(Self { body, session, began, times, untested })
            }
            Err(error) => Err(Box::new(HalfBorn::new(error, times, Stillborn::here(body)))),
        }
    }

    /// Where the time of its start went.
    pub(crate) const fn times(&self) -> Times {
        self.times
    }

    /// What the server said of itself so far.
    pub(crate) fn introduction(&self) -> &Arc<Introduction> {
        self.session.introduction()
    }

    /// The first lines that it has written to stdout and that are no messages.
    pub(crate) fn noise(&self) -> &[String] {
        &self.body.ears.noise
    }

    /// Puts one question to it, and waits for the outcome or for the end of the call.
    pub(crate) async fn ask(
        &mut self,
        ask: &Ask,
        trace: Option<&TraceContext>,
        events: Option<&Events>,
        end: &EarlyEnd,
    ) -> Result<Outcome, CallError> {
        let telling = if events.is_some() { Telling::Wanted } else { Telling::Unwanted };
        self.body.ears.events = events.cloned();
        let limit = self.body.wire.limit();
        let before = self.belief();
        let asked = self.body.converse_as_it_starts(self.session.ask(ask, trace, telling, limit), end).await;
        self.body.ears.events = None;
        match self.hold_against(before, asked, end).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(AskError::Answered(error))) if error.words().is_none() => Err(error),
            Ok(Err(error)) => {
                let words = match error {
                    AskError::HungUp { .. } => self.body.last_words().await,
                    _ => self.body.words_of_the_living().await,
                };
                Err(unanswered(error, words))
            }
            Err(broken_off) => Err(self.body.broken_off(broken_off, Phase::Call, end).await),
        }
    }

    /// Has the server say what it is, if it has not when it was opened.
    pub(crate) async fn introduce(&mut self, end: &EarlyEnd) -> Result<(), CallError> {
        let before = self.belief();
        let introduced = self.body.converse_as_it_starts(self.session.introduce(), end).await;
        let refused = matches!(introduced, Ok(Err(_)));
        self.hold_introduction_against(before, refused || self.gave_nothing(&introduced));
        self.body.open_outcome(introduced, end).await
    }

    /// Ends it: returns when nothing of its tree is left. `Some` seat: the server's era is still a guess, and whoever
    /// wants to know can use the seat for a [`probe()`].
    pub(crate) async fn end(self) -> (Receipt, Option<Seat>) {
        let untested = self.untested;
        let Remains { receipt, seat } = self.body.end().await;
        (receipt, untested.then_some(seat))
    }
}

/// The failure of a question that has no outcome, with what the server has left behind.
fn unanswered(error: AskError, words: Box<LastWords>) -> CallError {
    let phase = Phase::Call;
    match error {
        AskError::HungUp { .. } => CallError::ServerCrashed { phase, words },
        AskError::Answered(error) => error.with_words(words),
        AskError::Unreadable(what) => CallError::ProtocolViolation { phase, what: what.to_string(), words },
        AskError::TooLarge { limit } => CallError::OutputTooLarge { phase, limit, words },
    }
}

impl Body {
    fn new(server: &Arc<Server>, born: Newborn) -> Self {
        let (peer, wire) = rpc::connect(born.stdout, born.stdin, server.output);
        let key = server.verdict_key(Some(&born.program));
        let (server, child) = (Arc::clone(server), born.child);
        Self { server, child, peer, wire, ears: Ears::default(), lesson: Lesson::Learn, key }
    }

    /// Shakes hands, and keeps what was learned by it. The flag: the era was guessed and may be tested.
    async fn open(&mut self, end: &EarlyEnd) -> Result<(Session, bool), CallError> {
        let remembered = self.server.verdicts.get(self.key);
        let (peer, protocol) = (self.peer.clone(), self.server.protocol);
        let opened = self.converse(mcp::open(&peer, protocol, remembered), end).await;
        let session = self.open_outcome(opened, end).await?;
        let guessed = protocol == Protocol::Auto && self.server.verdicts.is_open(self.key);
        if protocol == Protocol::Auto && session.era() == Era::Modern && remembered != Some(Era::Modern) {
            self.server.verdicts.record(self.key, Era::Modern);
        }
        let untested = guessed && session.era() == Era::Legacy;
        Ok((session, untested))
    }

    async fn open_outcome<T>(
        &mut self,
        outcome: Result<Result<T, OpenError>, BrokenOff>,
        end: &EarlyEnd,
    ) -> Result<T, CallError> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                let words = match source {
                    OpenError::HungUp => self.last_words().await,
                    _ => self.words_of_the_living().await,
                };
                Err(CallError::OpenFailed { source: Arc::new(source), words })
            }
            Err(BrokenOff::Exited) => {
                let words = self.last_words().await;
                Err(CallError::OpenFailed { source: Arc::new(OpenError::HungUp), words })
            }
            Err(BrokenOff::Deaf) => {
                let words = self.words_of_the_living().await;
                Err(CallError::OpenFailed { source: Arc::new(OpenError::Deaf), words })
            }
            Err(broken_off) => Err(self.broken_off(broken_off, Phase::Open, end).await),
        }
    }

    /// Does `work`, a conversation, and all that must go on meanwhile.
    async fn converse<T>(&mut self, work: impl Future<Output = T>, end: &EarlyEnd) -> Result<T, BrokenOff> {
        // Nothing is asked once the call is over: what is put into the outbox would still be written on the way out.
        let over = end.happened().now_or_never().map(BrokenOff::Early);
        let broken_off = match over {
            Some(over) => over,
            None => match self.attend_to(work, end).await {
                Ok(done) => return Ok(done),
                Err(broken_off) => broken_off,
            },
        };
        self.lesson = Lesson::Ignore;
        Err(broken_off)
    }

    async fn attend_to<T>(&mut self, work: impl Future<Output = T>, end: &EarlyEnd) -> Result<T, BrokenOff> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = work.as_mut() => Ok(done),
            reason = end.happened() => Err(BrokenOff::Early(reason)),
            // Whoever waits for an answer was told, or has it.
            heard = self.hear() => match heard {
                Ok(()) => Ok(work.await),
                Err(broken_off) => Err(broken_off),
            },
        }
    }

    /// Reads, writes, drains stderr and watches for the exit, until no answer can come any more: the server has closed
    /// its stdout, or the error says what became of it.
    async fn hear(&mut self) -> Result<(), BrokenOff> {
        let Self { child, wire, ears, .. } = self;
        let mut watch = Watch::new();
        let over = loop {
            // None of them comes first always: a flood on one pipe must not hide the other, nor the exit.
            tokio::select! {
                closed = wire.run(ears) => match closed {
                    Closed::Eof => return Ok(()),
                    Closed::Broken(error) => return Err(BrokenOff::Unreadable(error)),
                    Closed::Deaf => break BrokenOff::Deaf,
                },
                () = child.attend() => break BrokenOff::Exited,
                () = watch.due() => {}
            }
            if watch.finds_it_deaf(wire) {
                break BrokenOff::Deaf;
            }
        };
        // A server may answer and exit at once, or stop listening: what it wrote is still in the pipe.
        match tokio::time::timeout(LAST_WORDS, wire.hear_out(ears)).await {
            Ok(Closed::Eof) => Ok(()),
            Ok(Closed::Broken(error)) => Err(BrokenOff::Unreadable(error)),
            Ok(Closed::Deaf) => Err(BrokenOff::Deaf),
            Err(_elapsed) => Err(over),
        }
    }

    /// The error of a conversation that was broken off.
    async fn broken_off(&mut self, broken_off: BrokenOff, phase: Phase, end: &EarlyEnd) -> CallError {
        match broken_off {
            BrokenOff::Early(Reason::CallerGone) => CallError::CallerGone { phase },
            BrokenOff::Early(Reason::Stopped) => CallError::ShuttingDown { phase },
            BrokenOff::Early(Reason::DeadlineExceeded) => {
                // It may still live; what it complained about so far is all there is.
                let after = end.deadline().budget();
                CallError::DeadlineExceeded { phase, after, words: Box::new(self.words_so_far()) }
            }
            BrokenOff::Unreadable(FrameError::TooLong { limit }) => {
                CallError::OutputTooLarge { phase, limit, words: self.words_of_the_living().await }
            }
            BrokenOff::Unreadable(error @ FrameError::Read(_)) => {
                let words = self.words_of_the_living().await;
                CallError::ProtocolViolation { phase, what: error.to_string(), words }
            }
            BrokenOff::Exited => CallError::ServerCrashed { phase, words: self.last_words().await },
            BrokenOff::Deaf => {
                let words = self.words_of_the_living().await;
                if words.exit.is_some() {
                    return CallError::ServerCrashed { phase, words };
                }
                let what = "it closed its stdin before it had read what it was asked".to_owned();
                CallError::ProtocolViolation { phase, what, words }
            }
            BrokenOff::NotUp { after } => {
                let words = Box::new(self.words_so_far());
                CallError::DeadlineExceeded { phase: Phase::Open, after, words }
            }
        }
    }

    /// What a server that failed left behind. Its exit is waited for, but not for long.
    async fn last_words(&mut self) -> Box<LastWords> {
        self.lesson = Lesson::Ignore;
        let _ = tokio::time::timeout(LAST_WORDS, self.child.attend()).await;
        self.child.drain_stderr().await;
        Box::new(self.words_so_far())
    }

    /// What a server has left behind so far that went wrong but did not end: no exit is to be waited for.
    async fn words_of_the_living(&mut self) -> Box<LastWords> {
        self.lesson = Lesson::Ignore;
        self.child.drain_stderr().await;
        Box::new(self.words_so_far())
    }

    fn words_so_far(&mut self) -> LastWords {
        let (exit, cause, stderr_tail) = self.child.last_words();
        LastWords { exit, cause, stderr_tail, noise: self.ears.noise.clone() }
    }

    async fn end(self) -> Remains {
        let server = Arc::clone(&self.server);
        self.end_by(&server.ladder).await
    }

    async fn end_by(self, ladder: &Ladder) -> Remains {
        let Self { child, wire, mut ears, lesson, .. } = self;
        let goodbye = async {
            let strays = wire.leave(&mut ears).await;
            if strays > 0 {
                tracing::debug!(strays, "a server answered what nobody had asked");
            }
        };
        child.stop(ladder, lesson, goodbye.boxed()).await
    }
}
