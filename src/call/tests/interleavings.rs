//! Whole calls, under every strategy, in orders that a scheduler chooses: it is `shuttle`. The callers, the doors, the
//! strategies, the instances and what they say are the real ones; only the processes are dolls (`child/tests/doll.rs`),
//! which fare by chance.
//!
//! Callers leave or run out of time anywhere, a neighbour wants the seats that are kept, and the gateway may stop in the midst
//! of it. Then: nobody waits for ever, which shuttle would report; each server was ended, once, by an owner; its
//! seat came back after that; a drain returned when nothing was alive. What is and what is not tried by that:
//! docs/decisions/drops-and-interleavings.md.

use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use shuttle::future as tasks;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use super::*;
use crate::call::admission::{House, Limits};
use crate::child::tests::doll::{Census, Dolls, Temper, Use, chance, linger, tasks_of_shuttle};
use crate::deadline::Deadline;
use crate::exchange::{Ask, CallId, Credentials, RawJson, Stage, Starts};
use crate::instance::{Making, Server};
use crate::mcp::Verdicts;
use crate::mcp::era::Protocol;
use crate::strategy::{Fresh, Pooled, Prewarmed, Reuse, Shared, Standby, TreeDoor};
use crate::telemetry::metrics::OfServer;

/// Days of each kind, in orders of each of two kinds.
const ROUNDS: usize = 400;
/// Seats at a door, and in the house.
const AT_A_DOOR: usize = 2;
const IN_THE_HOUSE: usize = 3;
/// Longer than any call of a hurried day may take.
const LONG: Duration = Duration::from_mins(1);
/// Longer than any day.
const FOR_EVER: Duration = Duration::from_hours(1_000);
/// How often the clock is set forward, at most.
const TICKS: usize = 30;
/// Callers of the strategy that has the day, and in all.
const CALLERS: (u32, u32) = (6, 8);

/// Which strategy has the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fresh,
    Prewarmed,
    Pooled,
    Shared,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Servers may keep silent, and everybody has a deadline, which would also save whom nobody wakes.
    Hurried,
    /// Every server answers or dies, and nobody has a deadline: whom nobody wakes waits for ever.
    Endless,
}

/// Calls, and the dolls that they are served by.
struct Shop {
    calls: Arc<Calls>,
    dolls: Dolls,
}

/// What the shops of one house share.
struct Street {
    house: House,
    starts: Starts,
    common: Common,
    census: Arc<Census>,
    patience: Patience,
}

impl Street {
    fn new(tasks: Tasks, patience: Patience) -> Self {
        let starts = Starts::new(2);
        let common = Common {
            receipts: Arc::new(Receipts::new(100)),
            shares: Arc::default(),
            mask: Mask::default(),
            traces: Traces::default(),
            tasks,
        };
        let house = House::new(IN_THE_HOUSE, starts.clone());
        Self { house, starts, common, census: Arc::default(), patience }
    }

    fn shop(&self, kind: Kind) -> Shop {
        let used = match kind {
            Kind::Fresh | Kind::Prewarmed => Use::Once,
            Kind::Pooled => Use::InTurn,
            Kind::Shared => Use::AtOnce,
        };
        let temper = match self.patience {
            Patience::Hurried => Temper::Moody,
            Patience::Endless => Temper::Outspoken,
        };
        let dolls = Dolls::new((used, temper), IN_THE_HOUSE, &self.census);
        let making = Making {
            name: "doll".into(),
            spec: Dolls::spec(),
            protocol: Protocol::Legacy,
            open_deadline: self.within(Duration::from_secs(2)),
            output: 1 << 16,
        };
        let server = Arc::new(Server::new(making, dolls.clone(), Arc::new(Verdicts::new(None))));
        let limits =
            Limits { concurrent: AT_A_DOOR, queue: 4, queue_timeout: self.within(Duration::from_secs(5)) };
        let house = match kind {
            Kind::Shared => House::new(AT_A_DOOR, Starts::new(AT_A_DOOR)),
            _ => self.house.clone(),
        };
        let admission = Admission::new(limits, house, OfServer::default());
        let tasks = self.common.tasks.apart();
        let strategy: Box<dyn Strategy> = match kind {
            Kind::Fresh => Box::new(Fresh::new(server, tasks)),
            Kind::Prewarmed => {
                let terms = Standby { min: 1, max: 2, max_age: self.within(Duration::from_secs(4)) };
                let (seats, starts) = (admission.spare_seats(), self.starts.clone());
                Box::new(Prewarmed::new(server, terms, seats, starts, tasks))
            }
            Kind::Pooled => {
                let terms =
                    Reuse { uses: 3, max_age: self.within(LONG), idle: self.within(Duration::from_secs(4)) };
                Box::new(Pooled::new(server, terms, tasks))
            }
            Kind::Shared => Box::new(Shared::new(server, self.tree_door(), tasks)),
        };
        let on_disconnect = if chance(0.8) { OnDisconnect::Cancel } else { OnDisconnect::Finish };
        let calls = Calls::new("doll".into(), admission, strategy, on_disconnect, self.common.clone());
        Shop { calls: Arc::new(calls), dolls }
    }

    /// So long on a hurried day.
    fn within(&self, time: Duration) -> Duration {
        if self.patience == Patience::Hurried { time } else { FOR_EVER }
    }

    /// As it is wired for a shared server.
    fn tree_door(&self) -> TreeDoor {
        let queue_timeout = self.within(Duration::from_secs(5));
        let trees = Limits { concurrent: 3, queue: 3, queue_timeout };
        let door = Admission::new(trees, self.house.clone(), OfServer::default());
        Arc::new(move |end| {
            let door = door.clone();
            Box::pin(async move {
                let nobody = std::future::pending::<Infallible>();
                match door.enter(&Principal::anonymous(), nobody, &end).await? {
                    Entered::Seat(seat, start) => Ok((seat, start)),
                    Entered::Seated(never) => match never {},
                }
            })
        })
    }
}

impl Shop {
    /// Waits until nothing is alive, which must be so then.
    async fn close(&self, by_force: bool) {
        self.dolls.stopping();
        self.calls.close();
        linger(5).await;
        if by_force {
            self.calls.stop();
        }
        self.calls.drain().await;
        assert_eq!(self.dolls.alive(), 0, "something is alive after the drain");
    }
}

/// One caller, who may leave at any time. Whoever stays is answered, with the answer to this very question.
async fn call(shop: Arc<Shop>, number: u32, patience: Patience) {
    let hurried = Duration::from_secs([1, 20, 50][thread_rng().gen_range(0..3)]);
    let budget = if patience == Patience::Hurried { hurried } else { FOR_EVER };
    let arguments = RawJson::parse(format!(r#"{{"number":{number}}}"#).into()).unwrap();
    let ask = Ask::Tool { name: "echo".into(), arguments: Some(arguments), extra: Vec::new() };
    let request = Request {
        id: CallId::from_bits(number.into()),
        principal: Principal::anonymous(),
        steps: vec![ask.into()],
        on_error: OnError::Stop,
        deadline: Deadline::within(budget),
        events: None,
        reply: if chance(0.5) { Reply::WhenKnown } else { Reply::WhenDead },
        credentials: Credentials::default(),
        trace: None,
    };
    linger(6).await;
    let leaves = async {
        if chance(0.25) {
            linger(20).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let answer = tokio::select! {
        biased;
        answer = shop.calls.run(request) => answer,
        () = leaves => return,
    };
    if let Some(Stage::Ended { process: Some(process), .. }) = answer.receipt.map(|record| record.stage)
        && let Some(end) = process.end()
    {
        assert!(shop.dolls.is_dead(end.pid), "its end is told before it");
    }
    match (answer.failure, answer.steps.first()) {
        (Some(CallError::Internal { what }), _) => panic!("{what}"),
        (Some(_), _) | (None, Some(Err(_))) => {}
        (None, Some(Ok(Outcome::Result(result)))) => {
            assert!(result.as_str().contains(&format!(r#""number":{number}"#)), "somebody else's answer");
        }
        (None, outcome) => panic!("{outcome:?}"),
    }
}

/// What the day consists of, and the clock.
struct Day {
    clock: tokio::runtime::Runtime,
    patience: Patience,
    busy: Arc<AtomicUsize>,
}

impl Day {
    fn begin(&self, work: impl Future<Output = ()> + Send + 'static) -> tasks::JoinHandle<()> {
        let busy = Arc::clone(&self.busy);
        busy.fetch_add(1, Ordering::SeqCst);
        tasks::spawn(async move {
            work.await;
            busy.fetch_sub(1, Ordering::SeqCst);
        })
    }

    /// Returns when all this has come to its end. The clock is set forward now and then; but so often at most, so that
    /// whom only that would save is found.
    fn wait_for(&self, work: Vec<tasks::JoinHandle<()>>, most: usize) {
        let jumps: &[u64] = match self.patience {
            Patience::Hurried => &[1, 300, 3_000, 10_000],
            Patience::Endless => &[300, 3_000],
        };
        for _ in 0..most {
            for _ in 0..thread_rng().gen_range(0..12) {
                shuttle::thread::yield_now();
            }
            if self.busy.load(Ordering::SeqCst) == 0 {
                break;
            }
            self.advance(Duration::from_millis(jumps[thread_rng().gen_range(0..jumps.len())]));
        }
        if self.patience == Patience::Hurried && most > 0 {
            // Whatever still waits for its time has it now.
            self.advance(LONG);
        }
        for work in work {
            tasks::block_on(work).unwrap();
        }
    }

    fn advance(&self, time: Duration) {
        self.clock.block_on(tokio::time::advance(time));
    }
}

fn one_day(kind: Kind) {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let patience = if chance(0.5) { Patience::Hurried } else { Patience::Endless };
    let day = Day { clock, patience, busy: Arc::default() };
    let within = day.clock.enter();
    let street = Street::new(tasks_of_shuttle(), patience);
    let shops = [street.shop(kind), street.shop(Kind::Fresh)].map(Arc::new);
    shops[0].calls.open();
    let by_force = chance(0.5);
    let mut begun: Vec<_> = (1..=CALLERS.1)
        .map(|number| {
            let shop = Arc::clone(&shops[usize::from(number > CALLERS.0)]);
            day.begin(call(shop, number, patience))
        })
        .collect();
    if chance(0.3) {
        let shop = Arc::clone(&shops[0]);
        begun.push(day.begin(async move {
            linger(40).await;
            shop.close(by_force).await;
        }));
    }
    // On a hurried day every deadline has passed at some time, and from then on nothing needs any.
    let (ticks, later) = match patience {
        Patience::Hurried => (thread_rng().gen_range(2..TICKS), 0),
        Patience::Endless => (TICKS, TICKS),
    };
    day.wait_for(begun, ticks);
    let closing = shops.iter().map(Arc::clone).map(|shop| async move { shop.close(by_force).await });
    day.wait_for(closing.map(|closing| day.begin(closing)).collect(), later);
    for shop in &shops {
        let about = shop.calls.about();
        assert!(about.instances.is_none_or(|instances| (instances.alive, instances.idle) == (0, 0)));
        assert!(about.standbys.is_none_or(|standbys| (standbys.ready, standbys.starting) == (0, 0)));
        let spare = shop.calls.parts.admission.spare_seats();
        let seats: Vec<_> = std::iter::from_fn(|| spare.take()).collect();
        assert_eq!(seats.len(), AT_A_DOOR, "seats that are free again");
    }
    street.census.assert_clean();
    // Whoever never came in has no record.
    let records = (1..=CALLERS.1).filter_map(|number| {
        street.common.receipts.find(CallId::from_bits(number.into()), &Principal::anonymous())
    });
    let mut stages = records.map(|record| record.stage);
    assert!(stages.all(|stage| matches!(stage, Stage::Ended { .. })), "a call has no end");
    drop(within);
}

fn every_day(kind: Kind, scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    // A conversation takes more than shuttle gives by itself.
    config.stack_size = 0x8_0000;
    shuttle::Runner::new(scheduler, config).run(move || one_day(kind));
}

#[test]
fn no_order_of_events_skips_the_end_of_a_fresh_server() {
    every_day(Kind::Fresh, RandomScheduler::new(ROUNDS));
    every_day(Kind::Fresh, PctScheduler::new(3, ROUNDS));
}

#[test]
fn no_order_of_events_loses_a_standby() {
    every_day(Kind::Prewarmed, RandomScheduler::new(ROUNDS));
    every_day(Kind::Prewarmed, PctScheduler::new(3, ROUNDS));
}

#[test]
fn no_order_of_events_loses_a_server_that_is_used_again() {
    every_day(Kind::Pooled, RandomScheduler::new(ROUNDS));
    every_day(Kind::Pooled, PctScheduler::new(3, ROUNDS));
}

#[test]
fn no_order_of_events_leaves_a_caller_of_a_shared_server_without_an_answer() {
    every_day(Kind::Shared, RandomScheduler::new(ROUNDS));
    every_day(Kind::Shared, PctScheduler::new(3, ROUNDS));
}
