//! Callers at the shelf of a pool, some of whom are dropped at any point, in orders that a scheduler chooses: it is `shuttle`, and
//! the servers are dolls. None is lost, none is handed out twice, and whoever stays gets one. (A call is never dropped so in
//! the program, for it lives in a task of its own: `call/tests/interleavings.rs` has whole calls.)

use shuttle::future as tasks;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};

use super::*;
use crate::child::tests::doll::{Census, Dolls, Temper, Use, chance, linger, tasks_of_shuttle};

/// Days in orders of each of two kinds.
const ROUNDS: usize = 1_000;
/// Servers, and callers.
const SERVERS: usize = 2;
const CALLERS: usize = 8;

/// A lease from the shelf, which is given back; unless its caller is dropped before it has one.
async fn call(strategy: Arc<Pooled>) {
    let shelf = strategy.shelf().unwrap();
    linger(6).await;
    let lease = async {
        match shelf.take().await {
            Some(lease) => lease,
            None => shelf.next(&Principal::anonymous()).await,
        }
    };
    let when = if chance(0.5) { When::AtOnce } else { When::Woken };
    let most = if chance(0.5) { thread_rng().gen_range(1..5) } else { usize::MAX };
    let Some(lease) = polled(most, when, lease).await else { return };
    linger(3).await;
    assert!(lease.give_back().is_ok(), "it is as good as before");
}

fn one_day() {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let within = clock.enter();
    let census = Arc::<Census>::default();
    let dolls = Dolls::new((Use::InTurn, Temper::Good), SERVERS, &census);
    let making = Making {
        name: "doll".into(),
        spec: Dolls::spec(),
        protocol: Protocol::Legacy,
        open_deadline: LONG,
        output: 1 << 16,
    };
    let server = Arc::new(Server::new(making, dolls.clone(), Arc::new(Verdicts::new(None))));
    let terms = Reuse { uses: 100, max_age: LONG, idle: LONG };
    let strategy = Arc::new(Pooled::new(server, terms, tasks_of_shuttle()));
    let starting = (0..SERVERS).map(|_| {
        let strategy = Arc::clone(&strategy);
        tasks::spawn(async move {
            let end = no_end();
            let Ok(lease) = strategy.lease(Seat::new((), Vec::new()), &end).await else {
                panic!("it starts")
            };
            assert!(lease.give_back().is_ok());
        })
    });
    let calling = (0..CALLERS).map(|_| tasks::spawn(call(Arc::clone(&strategy))));
    let all: Vec<_> = starting.chain(calling).collect();
    for task in all {
        tasks::block_on(task).unwrap();
    }
    let idle = tasks::block_on(async {
        // Those that came back in the last moment have yet to be sat with.
        linger(20).await;
        strategy.about().instances.unwrap()
    });
    assert_eq!((idle.alive, dolls.alive()), (SERVERS, SERVERS), "a server was lost");
    tasks::block_on(strategy.drain());
    assert_eq!(dolls.alive(), 0, "something is alive after the drain");
    census.assert_clean();
    drop(within);
}

fn every_day(scheduler: impl Scheduler + 'static) {
    let mut config = shuttle::Config::new();
    // A conversation takes more than shuttle gives by itself.
    config.stack_size = 0x8_0000;
    shuttle::Runner::new(scheduler, config).run(one_day);
}

#[test]
fn a_caller_at_the_shelf_who_is_dropped_at_any_point_neither_takes_a_server_along_nor_leaves_two() {
    every_day(RandomScheduler::new(ROUNDS));
    every_day(PctScheduler::new(3, ROUNDS));
}
