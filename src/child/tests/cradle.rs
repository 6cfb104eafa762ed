//! A nursery whose trees are watched: who is alive when a seat comes back, and what is left in the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::child::cgroup::Root;
use crate::child::containment::Means;
use crate::child::keeper::Keepers;
use crate::child::reaper::Rescue;
use crate::child::shim::words::{Keeping, Power};
use crate::child::spec::{Home, Spec, Teardown, limits, sandbox};
use crate::child::{Containment, Nursery, ScratchRoot, proc, reaper};
use crate::exchange::Seat;
use crate::telemetry::metrics::Count;

/// The variable by which the processes of one cradle are known.
const MARK: &str = "SPAWNLING_CRADLE";

/// A place for children that can be asked what became of them and of their seats.
pub(crate) struct Cradle {
    pub(crate) nursery: Nursery,
    rescue: Rescue,
    base: tempfile::TempDir,
    mark: String,
    seats: Arc<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    given: AtomicUsize,
    returned: AtomicUsize,
    /// Processes that were alive when their seat came back.
    early: AtomicUsize,
}

/// What came of it all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Seats that came back.
    pub(crate) returned: usize,
    /// Trees that the reaper had to take over.
    pub(crate) rescued: u64,
}

struct Permit(String, Arc<Seats>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.1.returned.fetch_add(1, Ordering::SeqCst);
        self.1.early.fetch_add(living(&self.0).len(), Ordering::SeqCst);
    }
}

/// Every containment.
pub(crate) const EVERY: [Containment; 5] = [
    Containment::Group,
    Containment::Subreaper,
    Containment::Namespace,
    Containment::Cgroup,
    Containment::Strict,
];

/// The program under test, beside which the tests lie; it is keeper and server. `None`: only the tests were built.
pub(crate) fn program() -> Option<PathBuf> {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent()?.parent()?.join("spawnling");
    let found = program.is_file();
    if !found {
        skip("the program itself", "it is not built: `cargo test --lib` does not do that, `cargo test` does");
    }
    found.then_some(program)
}

/// Says loudly that something is not tested.
#[expect(clippy::print_stderr, reason = "for whoever runs the tests")]
pub(in crate::child) fn skip(what: &str, why: &str) {
    eprintln!("\n*** SKIPPED what needs {what}: {why}\n");
}

impl Cradle {
    /// One in which trees are held together like this; `None` where that cannot be, which is said.
    pub(crate) fn new(containment: Containment) -> Option<Self> {
        let base = tempfile::tempdir().unwrap();
        let (reaper, rescue) = reaper(Count::default());
        let mut means = Means::of(containment);
        if containment != Containment::Group {
            means.keepers = Arc::new(Keepers::of(program()?));
        }
        if containment.has_namespace() {
            let root = rustix::process::geteuid().is_root();
            means.keeping = Keeping::Namespace(if root { Power::Own } else { Power::UserNamespace });
        }
        if matches!(containment, Containment::Cgroup | Containment::Strict) {
            match Root::create(&[]) {
                Ok(root) => means.cgroups = Some(Arc::new(root)),
                Err(error) => {
                    skip("a cgroup", &error.to_string());
                    return None;
                }
            }
        }
        let nursery = Nursery::of(ScratchRoot::create(base.path()).unwrap(), reaper, means);
        let mark = format!("{:016x}", getrandom::u64().unwrap());
        Some(Self { nursery, rescue, base, mark, seats: Arc::default() })
    }

    /// A program with these arguments, known as one of this cradle's.
    pub(crate) fn spec(&self, program: &Path, args: &[&str], teardown: Teardown) -> Spec {
        Spec {
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), (MARK.into(), self.mark.as_str().into())],
            home: Home::Real,
            cwd: None,
            stderr_limit: 1024,
            limits: limits::Limits::default(),
            wish: None,
            sandbox: sandbox::Sandbox::default(),
            teardown,
        }
    }

    /// A seat that looks around when it comes back.
    pub(crate) fn seat(&self) -> Seat {
        self.seats.given.fetch_add(1, Ordering::SeqCst);
        Seat::new(Permit(self.mark.clone(), Arc::clone(&self.seats)), Vec::new())
    }

    /// Seats that have come back so far, and trees that were taken over.
    pub(crate) fn so_far(&self) -> Outcome {
        Outcome { returned: self.seats.returned.load(Ordering::SeqCst), rescued: self.nursery.rescued() }
    }

    /// Lets the reaper do its work, gives everything up, and checks that nothing is left: no process, no file, no cgroup, no
    /// seat that has not come back, and none that came back while a process of this cradle lived.
    pub(crate) async fn leave(self) -> Outcome {
        let Self { nursery, rescue, base, mark, seats } = self;
        let means = Arc::clone(&nursery.means);
        let cgroup = means.cgroups.as_ref().map(|root| root.path().to_owned());
        let end = rescue.run();
        let rescued = nursery.rescued();
        drop(nursery);
        end.await;
        means.keepers.dismiss().await;
        // The keepers were in it until now.
        drop(means);
        assert_eq!(living(&mark), [0; 0], "processes are left");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "files are left");
        assert!(cgroup.is_none_or(|path| !path.exists()), "a cgroup is left");
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        assert_eq!(count(&seats.early), 0, "a seat came back early");
        assert_eq!(count(&seats.given), count(&seats.returned), "a seat did not come back, or twice");
        Outcome { returned: count(&seats.returned), rescued }
    }
}

/// The living processes with this mark.
fn living(mark: &str) -> Vec<i32> {
    let mark = format!("{MARK}={mark}");
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let marked = numbers.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    });
    let alive =
        |pid: &i32| rustix::process::Pid::from_raw(*pid).and_then(proc::stat).is_some_and(|stat| stat.alive);
    marked.filter(alive).collect()
}

/// Polls `work` as often as it wakes, but so many times at most: then it is dropped. `None`: it was.
pub(crate) async fn polled<F: Future>(most: usize, work: F) -> Option<F::Output> {
    let mut work = Box::pin(work);
    let mut polls = 0;
    std::future::poll_fn(move |context| {
        polls += 1;
        match work.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending if polls >= most => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}
