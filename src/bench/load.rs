//! Puts one load on one target, and waits until all of it is answered and cleared away.
//!
//! ```text
//! closed:  caller --ask--> answer --ask--> answer ...    until the time is over; each finishes what it has begun
//! open:    clock --due--> a free caller, or a new one    the latency counts from when the call was due, whether or
//!                                                        not anybody was free: no coordinated omission
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::bare::{Bare, Live};
use super::client::{self, Endpoint};
use super::plan::{Load, schedule};
use super::stats::{Round, Sample};
use super::usage::{self, Usage};

/// How many calls of an open load are under way at once; those beyond wait, and their waiting counts.
const MOST_UNDER_WAY: usize = 256;

/// After a call that failed, so that a target that refuses everything is not asked at full speed.
const BREATH: Duration = Duration::from_millis(10);

/// How often memory is looked at: each look reads all of `/proc`.
const GLANCE: Duration = Duration::from_millis(200);

/// How many receipts of one round are read for the time that seats were taken.
const RECEIPTS: usize = 40;

/// How long is waited for trees to be proved dead.
const SETTLING: Duration = Duration::from_secs(10);

/// Whom calls are put to.
#[derive(Clone)]
pub(super) enum Subject {
    Http { endpoint: Arc<Endpoint>, receipts: bool },
    Spawn(Arc<Bare>),
    Live(Arc<Live>),
}

/// Whose use of the machine is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Watched {
    /// A process and everything below it.
    Tree(u32),
    /// This process and what it has waited for.
    Ourselves,
    /// It runs elsewhere.
    Nobody,
}

impl Watched {
    fn look(self) -> Usage {
        match self {
            Self::Tree(pid) => usage::of_tree(pid),
            Self::Ourselves => usage::of_ourselves(),
            Self::Nobody => Usage::default(),
        }
    }

    /// Bytes, of it alone and with everything below it.
    pub(super) fn memory(self) -> (u64, u64) {
        if let Self::Tree(pid) = self { usage::memory_of_tree(pid) } else { (0, 0) }
    }
}

enum Caller {
    Http(client::Caller),
    Spawn(Arc<Bare>),
    Live(Arc<Live>),
}

impl Caller {
    fn new(subject: &Subject) -> Self {
        match subject {
            Subject::Http { endpoint, .. } => Self::Http(client::Caller::new(Arc::clone(endpoint))),
            Subject::Spawn(bare) => Self::Spawn(Arc::clone(bare)),
            Subject::Live(live) => Self::Live(Arc::clone(live)),
        }
    }

    async fn call(&mut self, from: Instant) -> Result<Sample> {
        match self {
            Self::Http(caller) => caller.call(from).await,
            Self::Spawn(bare) => bare.call_once(from).await,
            Self::Live(live) => live.call(from).await,
        }
    }

    fn last_call(&mut self) -> Option<String> {
        if let Self::Http(caller) = self { caller.last_call.take() } else { None }
    }
}

/// What the callers have so far.
#[derive(Default)]
struct Tally {
    samples: Vec<Sample>,
    errors: u64,
    first_error: Option<String>,
    /// Ids of calls whose receipts can be asked for.
    calls: Vec<String>,
    /// How many calls each caller had answered, where there is a fixed number of callers.
    by_caller: Vec<u64>,
}

impl Tally {
    async fn take(&mut self, caller: &mut Caller, from: Instant) {
        match caller.call(from).await {
            Ok(sample) => self.samples.push(sample),
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| format!("{error:#}"));
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.calls.extend(other.calls);
        self.by_caller.extend(other.by_caller);
    }
}

/// One round of one load on one target.
///
/// # Cancel safety
///
/// Dropping this hangs up every call that is under way.
pub(super) async fn round(subject: &Subject, watched: Watched, load: Load, time: Duration) -> Round {
    let memory = Arc::new(Mutex::new(watched.memory()));
    let before = watched.look();
    let mut glances = JoinSet::new();
    glances.spawn(glance(watched, Arc::clone(&memory)));
    let start = Instant::now();
    let tally = match load {
        Load::Closed { callers } => closed(subject, callers, start + time).await,
        Load::Open { rate } => open(subject, rate, time).await,
    };
    let seats = seats(subject, &tally.calls).await;
    let took = start.elapsed();
    glances.shutdown().await;
    let after = watched.look();
    note(&memory, watched.memory());
    let peak = *memory.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = !matches!(watched, Watched::Nobody);
    Round {
        samples: tally.samples,
        by_caller: tally.by_caller,
        errors: tally.errors,
        first_error: tally.first_error,
        took,
        seats,
        cpu_ms: is_known.then(|| (after.own_ms - before.own_ms, (after.tree_ms - before.tree_ms).max(0.0))),
        memory: (peak.1 > 0).then_some(peak),
    }
}

async fn closed(subject: &Subject, callers: u32, until: Instant) -> Tally {
    let mut all = JoinSet::new();
    for _ in 0..callers {
        let mut caller = Caller::new(subject);
        all.spawn(async move {
            let mut tally = Tally::default();
            loop {
                tally.take(&mut caller, Instant::now()).await;
                if let Some(call) = caller.last_call() {
                    // The last ones: a gateway forgets the first of many thousands.
                    tally.calls.drain(..tally.calls.len().saturating_sub(RECEIPTS - 1));
                    tally.calls.push(call);
                }
                if Instant::now() >= until {
                    tally.by_caller.push(tally.samples.len() as u64);
                    return tally;
                }
            }
        });
    }
    gather(all).await
}

async fn open(subject: &Subject, rate: f64, time: Duration) -> Tally {
    let under_way = Arc::new(Semaphore::new(MOST_UNDER_WAY));
    let free: Arc<Mutex<Vec<Caller>>> = Arc::default();
    let mut all = JoinSet::new();
    let mut clock = clock(schedule(rate, time));
    while let Some(due) = clock.recv().await {
        let (subject, free, under_way) = (subject.clone(), Arc::clone(&free), Arc::clone(&under_way));
        all.spawn(async move {
            let _turn = under_way.acquire().await;
            let idle = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut caller = idle.unwrap_or_else(|| Caller::new(&subject));
            let mut tally = Tally::default();
            tally.take(&mut caller, due).await;
            tally.calls.extend(caller.last_call());
            free.lock().unwrap_or_else(PoisonError::into_inner).push(caller);
            tally
        });
    }
    gather(all).await
}

/// Tells when each call is due, at that moment. A thread, since the runtime's timer is a millisecond wide, which is
/// more than some of the latencies are. It ends when nobody listens.
fn clock(schedule: Vec<Duration>) -> mpsc::UnboundedReceiver<Instant> {
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let start = Instant::now();
        for offset in schedule {
            let due = start + offset;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.send(due).is_err() {
                return;
            }
        }
    });
    told
}

async fn gather(mut all: JoinSet<Tally>) -> Tally {
    let mut sum = Tally::default();
    while let Some(tally) = all.join_next().await {
        sum.add(tally.expect("a caller neither panics nor is cancelled while it is waited for"));
    }
    sum
}

/// For how many milliseconds each of some calls had its seat, once they have given it back.
async fn seats(subject: &Subject, calls: &[String]) -> Vec<f64> {
    let Subject::Http { endpoint, receipts: true } = subject else { return Vec::new() };
    let mut caller = client::Caller::new(Arc::clone(endpoint));
    let give_up = Instant::now() + SETTLING;
    let mut seats = Vec::new();
    // The last ones first: they are those whose end is still to be waited for.
    for id in calls.iter().rev().take(RECEIPTS) {
        while let Ok(receipt) = caller.receipt(id).await {
            if receipt["state"] == "ended" {
                let queued = receipt["timing"]["queue"].as_f64().unwrap_or_default();
                seats.extend(receipt["duration_ms"].as_f64().map(|lasted| lasted - queued));
                break;
            }
            if Instant::now() >= give_up || !receipt["state"].is_string() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    seats
}

/// Looks again and again, until it is dropped.
async fn glance(watched: Watched, peak: Arc<Mutex<(u64, u64)>>) {
    loop {
        tokio::time::sleep(GLANCE).await;
        note(&peak, watched.memory());
    }
}

fn note(peak: &Mutex<(u64, u64)>, seen: (u64, u64)) {
    let mut peak = peak.lock().unwrap_or_else(PoisonError::into_inner);
    *peak = (peak.0.max(seen.0), peak.1.max(seen.1));
}
