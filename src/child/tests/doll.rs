//! Servers without a process, for those who schedule the gateway's tasks themselves: what a doll says goes through memory,
//! it lives in a task of `shuttle`, and how it fares is chance. It may not come up, die over its start, over a question or
//! between two, keep silent for ever, babble, and take its time with all of it.
//!
//! Whoever keeps dolls is told whether each was ended and proved dead before its seat came back, and whether nobody was
//! asked who must not be any more.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use shuttle::future as tasks;
use shuttle::rand::{Rng as _, thread_rng};
use tokio::io::{AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio_util::sync::CancellationToken;

use crate::child::spec::{Home, Spec, Teardown, limits, sandbox};
use crate::child::{
    Birthplace, Containment, Intake, Ladder, Lesson, Newborn, Offspring, Program, Remains, SpawnError, Tail,
};
use crate::exchange::{Cause, Exit, Receipt, Rung, Seat};
use crate::tasks::Tasks;

const INITIALIZED: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"doll"}}"#;

/// True so often.
pub(crate) fn chance(of: f64) -> bool {
    thread_rng().gen_bool(of)
}

/// Lets others go first, so many times at most.
pub(crate) async fn linger(most: usize) {
    for _ in 0..thread_rng().gen_range(0..=most) {
        tasks::yield_now().await;
    }
}

/// Runs what is begun as tasks of shuttle. They are handed over first: shuttle lets another task run whenever one is spawned,
/// and whoever begins one may hold a lock.
pub(crate) fn tasks_of_shuttle() -> Tasks {
    let (hand_over, mut handed) = tokio::sync::mpsc::unbounded_channel();
    drop(tasks::spawn(async move {
        while let Some(work) = handed.recv().await {
            drop(tasks::spawn(work));
        }
    }));
    Tasks::run_by(move |work| drop(hand_over.send(work)))
}

/// How the dolls of one server may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// By one call.
    Once,
    /// By one call after the other, as long as each has its answer.
    InTurn,
    /// By many calls at once; but only one doll is on its way.
    AtOnce,
}

/// How they fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Anything may become of them.
    Moody,
    /// The same, but none keeps silent for ever.
    Outspoken,
    /// Each comes up and answers, and none dies before its end.
    Good,
}

/// What has become of the dolls of all servers of one house.
#[derive(Debug, Default)]
pub(crate) struct Census {
    alive: AtomicUsize,
    /// Those that lost their owner before their end.
    orphans: AtomicUsize,
    /// Seats that came back before their doll was dead.
    early: AtomicUsize,
}

/// Where the dolls of one server come from. Clones are the same place.
#[derive(Debug, Clone)]
pub(crate) struct Dolls(Arc<House>);

#[derive(Debug)]
struct House {
    used: Use,
    temper: Temper,
    /// Trees that may be alive in the house.
    most: usize,
    census: Arc<Census>,
    alive: AtomicUsize,
    born: AtomicUsize,
    opening: AtomicUsize,
    /// Those that were proved dead.
    dead: Mutex<BTreeSet<u32>>,
    /// From now on one may be on its way while another's start is given up.
    stopping: AtomicBool,
}

/// What is known of one doll.
#[derive(Debug)]
struct Doll {
    pid: u32,
    house: Arc<House>,
    opening: Mutex<Option<Opening>>,
    killed: CancellationToken,
    exited: CancellationToken,
}

/// A doll on its way; dropped, it is up, or never will be.
#[derive(Debug)]
struct Opening(Arc<House>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a doll's owner has of it.
#[derive(Debug)]
struct Owned {
    doll: Arc<Doll>,
    seat: Option<Seat>,
}

/// Looks at the doll when its seat comes back.
struct Witness {
    doll: Arc<Doll>,
    _seat: Seat,
}

/// What a doll does with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Answer,
    AnswerAndDie,
    AnswerAndBabble,
    KeepSilent,
    Die,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.seat.is_some() {
            self.doll.house.census.orphans.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let early = !Dolls(Arc::clone(&self.doll.house)).is_dead(self.doll.pid);
        self.doll.house.census.early.fetch_add(early.into(), Ordering::SeqCst);
    }
}

impl Census {
    /// Nobody is alive, and everybody was ended by an owner, before the seat came back.
    pub(crate) fn assert_clean(&self) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        let counts = [&self.alive, &self.orphans, &self.early].map(count);
        assert_eq!(counts, [0, 0, 0], "alive, without an owner, whose seat came back early");
    }
}

impl Dolls {
    /// Those of a server that is used so, with this temper, in a house where so many are alive at most.
    pub(crate) fn new((used, temper): (Use, Temper), most: usize, census: &Arc<Census>) -> Self {
        let (alive, born, opening) = <(AtomicUsize, AtomicUsize, AtomicUsize)>::default();
        let (census, dead, stopping) = (Arc::clone(census), Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(House { used, temper, most, census, alive, born, opening, dead, stopping }))
    }

    /// Whether nothing of it is alive, and that was proved.
    pub(crate) fn is_dead(&self, pid: u32) -> bool {
        self.0.dead.lock().unwrap().contains(&pid)
    }

    /// How many are alive.
    pub(crate) fn alive(&self) -> usize {
        self.0.alive.load(Ordering::SeqCst)
    }

    /// From now on starts are given up.
    pub(crate) fn stopping(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
    }

    /// What nobody will run.
    pub(crate) fn spec() -> Spec {
        Spec {
            program: "/doll".into(),
            args: Vec::new(),
            env: Vec::new(),
            home: Home::Real,
            cwd: None,
            stderr_limit: 16,
            limits: limits::Limits::default(),
            wish: None,
            sandbox: sandbox::Sandbox::default(),
            teardown: Teardown::Kill,
        }
    }
}

impl House {
    fn opening(self: &Arc<Self>) -> Opening {
        let others = self.opening.fetch_add(1, Ordering::SeqCst);
        let single = self.used != Use::AtOnce || self.stopping.load(Ordering::SeqCst);
        assert!(others == 0 || single, "{others} others are on their way");
        Opening(Arc::clone(self))
    }

    fn bear(self: &Arc<Self>, seat: Seat, opening: Opening) -> Newborn {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let alive = self.census.alive.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(alive <= self.most, "{alive} are alive at once");
        let doll = Arc::new(Doll {
            pid: u32::try_from(self.born.fetch_add(1, Ordering::SeqCst) + 1).unwrap(),
            house: Arc::clone(self),
            opening: Mutex::new(Some(opening)),
            killed: CancellationToken::new(),
            exited: CancellationToken::new(),
        });
        let (stdin, hears) = duplex(1 << 16);
        let (says, stdout) = duplex(1 << 16);
        drop(tasks::spawn(Arc::clone(&doll).live(hears, says)));
        let wanted = seat.wanted();
        let seat = Seat::new(Witness { doll: Arc::clone(&doll), _seat: seat }, wanted);
        let stdin = Mouth { pipe: stdin, exited: doll.exited.clone() };
        Newborn {
            child: Box::new(Owned { doll, seat: Some(seat) }),
            program: Program { path: "/doll".into(), modified: None },
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
        }
    }
}

impl Doll {
    /// Its life, which a kill ends at any point.
    async fn live(self: Arc<Self>, hears: DuplexStream, says: DuplexStream) {
        let killed = self.killed.clone();
        let _ = killed.run_until_cancelled(self.serve(hears, says)).await;
        drop(self.opening.lock().unwrap().take());
        self.exited.cancel();
    }

    /// Answers what it is asked, until it has had enough or its stdin ends.
    async fn serve(&self, hears: DuplexStream, mut says: DuplexStream) {
        let mut lines = BufReader::new(hears).lines();
        let (mut asked, mut silent) = (0, false);
        while let Ok(Some(line)) = lines.next_line().await {
            let said: Value = serde_json::from_str(&line).unwrap();
            let Some(id) = said.get("id") else { continue };
            linger(2).await;
            let (result, deed) = match said["method"].as_str().unwrap() {
                "initialize" => {
                    drop(self.opening.lock().unwrap().take());
                    (serde_json::from_str(INITIALIZED).unwrap(), deed([0.86, 0.02, 0.02, 0.04]))
                }
                "tools/call" => {
                    assert!(self.house.used != Use::Once || asked == 0, "it is used again");
                    assert!(self.house.used != Use::InTurn || !silent, "it is used after it kept silent");
                    asked += 1;
                    (said["params"]["arguments"].clone(), deed([0.72, 0.06, 0.06, 0.08]))
                }
                _ => (json!({}), deed([0.9, 0.0, 0.0, 0.1])),
            };
            let deed = match (self.house.temper, deed) {
                (Temper::Good, _) | (Temper::Outspoken, Deed::KeepSilent) => Deed::Answer,
                (Temper::Moody | Temper::Outspoken, deed) => deed,
            };
            silent |= deed == Deed::KeepSilent;
            if deed == Deed::Die {
                return;
            }
            if deed != Deed::KeepSilent {
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
                let _ = says.write_all(format!("{answer}\n").as_bytes()).await;
            }
            if deed == Deed::AnswerAndBabble {
                linger(2).await;
                let _ = says.write_all(b"what was I to say?\n").await;
            }
            if deed == Deed::AnswerAndDie {
                linger(6).await;
                return;
            }
        }
        linger(2).await;
    }
}

/// One of all, all but the last so probable.
fn deed(odds: [f64; 4]) -> Deed {
    let (mut drawn, all) = (
        thread_rng().gen_range(0.0..1.0),
        [Deed::Answer, Deed::AnswerAndDie, Deed::AnswerAndBabble, Deed::KeepSilent],
    );
    for (deed, odds) in all.into_iter().zip(odds) {
        if drawn < odds {
            return deed;
        }
        drawn -= odds;
    }
    Deed::Die
}

impl Birthplace for Dolls {
    fn bear<'a>(&'a self, _: &'a Spec, seat: Seat) -> BoxFuture<'a, Result<Newborn, SpawnError>> {
        async move {
            let opening = self.0.opening();
            linger(2).await;
            if self.0.temper != Temper::Good && chance(0.05) {
                return Err(SpawnError::Scratch(io::Error::other("no room for a doll")));
            }
            Ok(self.0.bear(seat, opening))
        }
        .boxed()
    }

    fn containment(&self) -> Containment {
        Containment::Group
    }
}

impl Offspring for Owned {
    fn started(&mut self) -> BoxFuture<'_, Result<Instant, SpawnError>> {
        async {
            linger(1).await;
            Ok(Instant::now())
        }
        .boxed()
    }

    fn attend(&mut self) -> BoxFuture<'_, ()> {
        self.doll.exited.cancelled().boxed()
    }

    fn drain_stderr(&mut self) -> BoxFuture<'_, ()> {
        linger(1).boxed()
    }

    fn pid(&self) -> u32 {
        self.doll.pid
    }

    fn has_exited(&mut self) -> bool {
        self.doll.exited.is_cancelled()
    }

    fn last_words(&mut self) -> (Option<Exit>, Option<Cause>, String) {
        (self.has_exited().then_some(Exit::Code(1)), None, String::new())
    }

    fn stderr(&self) -> Tail {
        Tail::new(16)
    }

    fn stop<'a>(
        mut self: Box<Self>,
        _: &'a Ladder,
        _: Lesson,
        goodbye: BoxFuture<'a, ()>,
    ) -> BoxFuture<'a, Remains> {
        async move {
            let doll = Arc::clone(&self.doll);
            let patience = linger(9);
            tokio::select! {
                () = goodbye => {}
                () = doll.exited.cancelled() => {}
                () = patience => {}
            }
            doll.killed.cancel();
            doll.exited.cancelled().await;
            linger(3).await;
            doll.house.alive.fetch_sub(1, Ordering::SeqCst);
            doll.house.census.alive.fetch_sub(1, Ordering::SeqCst);
            assert!(doll.house.dead.lock().unwrap().insert(doll.pid), "it ends twice");
            let receipt = Receipt {
                pid: doll.pid,
                exit: Some(Exit::Code(0)),
                cause: None,
                rung: Rung::Kill,
                killed: 0,
                cpu: None,
                peak_memory: None,
                containment: "group",
                end: Duration::ZERO,
            };
            Remains { receipt, seat: self.seat.take().expect("it ends once") }
        }
        .boxed()
    }
}

/// What is said to a doll.
#[derive(Debug)]
struct Mouth {
    pipe: DuplexStream,
    exited: CancellationToken,
}

impl Intake for Mouth {
    fn unread(&self) -> Option<u64> {
        None
    }

    fn no_reader(&self) -> io::Result<BoxFuture<'static, ()>> {
        Ok(self.exited.clone().cancelled_owned().boxed())
    }

    fn has_no_reader(&self) -> bool {
        self.exited.is_cancelled()
    }
}

impl AsyncWrite for Mouth {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
