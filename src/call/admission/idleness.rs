//! Whether processors have nothing to do: then one more start slows down nobody.
//!
//! A start that works keeps a processor busy; one that waits, for the network for example, does not, and neither says which
//! it is. But an idle processor can be seen: the second number of `/proc/uptime` is how long each of them was idle, in seconds, all
//! summed up (`proc_uptime(5)`; what they wait for a disk is not in it, `fs/proc/uptime.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked at while somebody waits: often enough for a start, and five steps of the kernel's account.
const EVERY: Duration = Duration::from_millis(50);
/// The step in which the account is kept.
const STEP: Duration = Duration::from_millis(10);

/// What is looked at, and what of it was given away. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Idleness {
    account: PathBuf,
    /// How many may start for each processor that was idle.
    each: usize,
    last: Arc<Mutex<Option<Look>>>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    /// Of all processors, ever since.
    idle: Duration,
    /// How many more may start until the next look.
    room: usize,
}

impl Idleness {
    /// `each` may start for each idle processor of this machine; `None` where `processors`, those that are ours, are not all that it
    /// has: then others' idleness is none of ours.
    pub(crate) fn of_this_machine(processors: usize, each: usize) -> Option<Self> {
        let has = online(&fs::read_to_string("/proc/stat").ok()?);
        let account = PathBuf::from("/proc/uptime");
        (has == processors && read(&account).is_some()).then(|| Self::of(account, each))
    }

    /// Of an account like that of `/proc/uptime`.
    pub(super) fn of(account: PathBuf, each: usize) -> Self {
        Self { account, each, last: Arc::default() }
    }

    /// Returns when one more may start, for processors were idle of late; in turn for all who ask.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when this is dropped.
    pub(super) async fn room(&self) {
        while !self.take() {
            tokio::time::sleep(EVERY).await;
        }
    }

    fn take(&self) -> bool {
        // Nothing panics while holding it; even then what it holds would be whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.as_ref().is_none_or(|last| now - last.at >= EVERY) {
            *last = read(&self.account).map(|idle| Look {
                at: now,
                idle,
                room: self.room_since(last.as_ref(), idle, now),
            });
        }
        let Some(look) = last.as_mut().filter(|look| look.room > 0) else { return false };
        look.room -= 1;
        true
    }

    fn room_since(&self, last: Option<&Look>, idle: Duration, now: Instant) -> usize {
        // What was long ago, when nobody waited, says nothing of those who do.
        let last = last.filter(|last| now - last.at < 2 * EVERY);
        self.each * last.map_or(0, |last| idle_processors(idle.saturating_sub(last.idle), now - last.at))
    }
}

/// How many processors were idle all the time, or as much of them together.
fn idle_processors(idle: Duration, of: Duration) -> usize {
    usize::try_from((idle + STEP).as_micros() / of.as_micros().max(1)).unwrap_or(usize::MAX)
}

/// How many processors there are (`proc_stat(5)`: a line for each).
fn online(stat: &str) -> usize {
    let of_one = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    stat.lines().filter(of_one).count()
}

fn read(account: &Path) -> Option<Duration> {
    let text = fs::read_to_string(account).ok()?;
    Duration::try_from_secs_f64(text.split_ascii_whitespace().nth(1)?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An account that says what it is told.
    struct Account(tempfile::NamedTempFile);

    impl Account {
        fn new() -> Self {
            Self(tempfile::NamedTempFile::new().unwrap())
        }

        fn says(&self, idle: &str) {
            fs::write(self.0.path(), format!("8.00 {idle}\n")).unwrap();
        }

        fn idleness(&self) -> Idleness {
            Idleness::of(self.0.path().to_owned(), 4)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_idle_processor_has_room_for_some_more_until_the_next_look() {
        let account = Account::new();
        let idleness = account.idleness();
        account.says("100.00");
        assert!(!idleness.take(), "one look alone says nothing");
        account.says("100.05");
        tokio::time::advance(EVERY).await;
        assert_eq!((0..9).filter(|_| idleness.take()).count(), 4, "one was idle");
        tokio::time::advance(EVERY).await;
        assert!(!idleness.take(), "none was");
        account.says("100.15");
        tokio::time::advance(EVERY).await;
        assert_eq!((0..9).filter(|_| idleness.clone().take()).count(), 8, "two were");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_before_anybody_waited_says_nothing() {
        let account = Account::new();
        let idleness = account.idleness();
        account.says("100.00");
        assert!(!idleness.take());
        account.says("120.00");
        tokio::time::advance(10 * EVERY).await;
        assert!(!idleness.take());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_let_in_once_processors_are_idle() {
        let account = Account::new();
        let idleness = account.idleness();
        account.says("100.00");
        let mut waits = Box::pin(idleness.room());
        for _ in 0..20 {
            let busy = tokio::time::timeout(EVERY, waits.as_mut()).await;
            assert!(busy.is_err(), "nothing idles");
        }
        account.says("101.00");
        assert!(tokio::time::timeout(2 * EVERY, waits).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_cannot_be_read_has_room_for_nobody() {
        let account = Account::new();
        let idleness = account.idleness();
        for text in ["", "8.00", "8.00 x", "8.00 -1"] {
            fs::write(account.0.path(), text).unwrap();
            tokio::time::advance(EVERY).await;
            assert!(!idleness.take(), "{text}");
        }
    }

    #[test]
    fn processors_are_counted_as_the_kernel_lists_them() {
        assert_eq!(online("cpu  1 2 3\ncpu0 1 2 3\ncpu11 4 5 6\nintr 1\ncpufreq 1\n"), 2);
    }

    #[test]
    fn less_than_a_whole_processor_is_none() {
        for (idle, of, processors) in [(0, 50, 0), (30, 50, 0), (40, 50, 1), (90, 50, 2), (70, 50, 1)] {
            let millis = Duration::from_millis;
            assert_eq!(idle_processors(millis(idle), millis(of)), processors, "{idle} of {of}");
        }
    }

    #[test]
    fn the_account_of_this_machine_can_be_read() {
        assert!(read(Path::new("/proc/uptime")).is_some());
        assert!(Idleness::of_this_machine(usize::MAX, 4).is_none(), "there are fewer");
    }
}
