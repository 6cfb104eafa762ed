//! What the system must give a gateway before it can be one: threads, and descriptors.

use std::io;
use std::num::NonZero;
use std::sync::Mutex;

use rustix::process::{Resource, getrlimit};

use super::ServeError;

/// So many pipes' descriptors, two each, are what a runtime opens and a few more.
const FEWEST_PIPES: usize = 8;
/// How many descriptors one running call takes, its connection included (docs/operations.md, Sizing).
const OF_A_CALL: usize = 7;

/// The runtime that everything runs in.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ServeError> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    something_is_left(workers)
        .and_then(|()| {
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
        })
        .map_err(ServeError::Runtime)
}

/// Whether there can be so many threads at once, and the descriptors of a runtime. Where the system gives one of a
/// runtime's threads and not the next, that panics, and may wait for the first for ever; and it panics without descriptors.
fn something_is_left(count: usize) -> io::Result<()> {
    let _descriptors = (0..FEWEST_PIPES).map(|_| io::pipe()).collect::<io::Result<Vec<_>>>()?;
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        // All are there before the first may end.
        let _shut = gate.lock();
        for _ in 0..count {
            std::thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
        }
        Ok(())
    })
}

/// What to say where so many calls at once need more descriptors than there may be.
pub(super) fn doubt(concurrent: usize) -> Option<String> {
    few(getrlimit(Resource::Nofile).current?, concurrent)
}

fn few(limit: u64, concurrent: usize) -> Option<String> {
    let needed = concurrent.saturating_mul(OF_A_CALL).saturating_add(2 * FEWEST_PIPES);
    (limit < needed as u64).then(|| {
        format!(
            "{concurrent} calls at once (`concurrent`) need some {needed} descriptors, and {limit} may be open: raise \
             `LimitNOFILE=` of the service, or `ulimit -n`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_descriptors_is_doubted_where_the_seats_need_more() {
        assert_eq!(few(1024, 64), None);
        assert!(
            few(400, 64)
                .unwrap()
                .starts_with("64 calls at once (`concurrent`) need some 464 descriptors, and 400")
        );
        assert!(few(u64::MAX, usize::MAX).is_none());
    }
}
