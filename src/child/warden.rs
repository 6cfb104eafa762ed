//! The processes that outlive us and end every tree if we are killed.
//!
//! ```text
//!   gateway ==pipe==> warden, warden        its end, or the gateway's, means that the gateway has gone, in whatever way;
//!   gateway <--exit-- warden                a warden that dies is replaced
//! ```
//!
//! In a cgroup nobody notices the death of the gateway by himself. So two wardens wait for it, each able to do all the
//! work alone: to kill whoever is in the gateway's cgroup until that is empty and removed. There are two so that one may be
//! killed together with the gateway. They do nothing else, and have nothing of ours but the pipe.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, PidfdFlags, getppid, pidfd_open, set_dumpable_behavior};
use tokio::process::Child;
use tokio::sync::mpsc;

use super::cgroup::{Quarters, Root};
use super::{cgroup, shim, spawn};
use crate::telemetry::metrics::Count;

/// The word that makes this program a warden.
pub(crate) const WORD: &str = "warden";
/// How long a warden may take to leave once the gateway has ended in order.
const LEAVING: Duration = Duration::from_secs(2);
/// The pause before a warden whose predecessor did not stay either is replaced; twice as long each time, up to the last of
/// these. Short, for a gateway that is killed while both are missing has none, and cheap, for it is one process a second.
const AGAIN: Duration = Duration::from_millis(100);
const AT_MOST: Duration = Duration::from_secs(1);
/// How long a warden must live to have stayed.
const STEADY: Duration = Duration::from_secs(10);

/// The warden itself: waits until the gateway has gone, and ends what it left in the cgroup that the first of `args`
/// names. The others are controllers that it had switched on above.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let Some((root, controllers)) = args.split_first().filter(|_| !io::stdin().is_terminal()) else {
        eprintln!("spawnling: a gateway starts its wardens itself; there is nothing to do for one here");
        return ExitCode::from(2);
    };
    super::os::go_by(c"warden");
    // Nobody of the same user may look into us (`PR_SET_DUMPABLE(2const)`): as a process that hides, one of us is what a
    // containment is tried out on.
    if shim::outlive_a_stop().is_err() || set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        return ExitCode::FAILURE;
    }
    // For whoever waits for that.
    let _ = io::stdout().write_all(b"\n");
    outlast_the_gateway();
    let root = Path::new(root);
    if !root.exists() {
        // It ended in order, and undoes by itself what is to be undone.
        return ExitCode::SUCCESS;
    }
    if cgroup::end(root, None).is_err() {
        return ExitCode::FAILURE;
    }
    let controllers: Vec<&str> = controllers.iter().filter_map(|name| name.to_str()).collect();
    cgroup::undo_for_the_dead(root, &controllers);
    ExitCode::SUCCESS
}

/// Returns when the gateway has gone. Nobody writes to our stdin: it ends when nobody could any more. That may be too late, for a
/// child of the gateway that was stopped before its exec holds the other end as well; so the gateway itself is watched, too
/// (`pidfd_open(2)`).
fn outlast_the_gateway() {
    let stdin = io::stdin();
    let gateway = getppid().and_then(|gateway| pidfd_open(gateway, PidfdFlags::empty()).ok());
    let mut watched = vec![PollFd::new(&stdin, PollFlags::IN)];
    watched.extend(gateway.as_ref().map(|gateway| PollFd::new(gateway, PollFlags::IN)));
    while poll(&mut watched, None) == Err(Errno::INTR) {}
}

/// The gateway's side: two wardens, and the pipe by which they know that we live.
#[derive(Debug)]
pub(super) struct Wardens {
    /// The program that becomes one when it is told so.
    program: PathBuf,
    root: PathBuf,
    /// Undone when the wardens have gone, who sit where we do.
    quarters: Arc<Quarters>,
    /// Nothing is ever written to it. Closed on exec, so that nobody but us holds it.
    life: OwnedFd,
    watched: OwnedFd,
    pair: [Child; 2],
}

impl Wardens {
    /// Starts them: two processes of this program, which is ours, wherever it lies.
    pub(super) fn start(program: &Path, root: &Root) -> io::Result<Self> {
        let (root, quarters) = (root.path().to_owned(), Arc::clone(root.quarters()));
        let (watched, life) = io::pipe()?;
        let (watched, life) = (OwnedFd::from(watched), OwnedFd::from(life));
        let hire = || warden(program, &root, &quarters, &watched);
        let pair = [hire()?, hire()?];
        Ok(Self { program: program.to_owned(), root, quarters, life, watched, pair })
    }

    /// Replaces the ones that die, until `closed` is: then the gateway ends in order. Lets them go, and waits for that.
    pub(super) async fn stand_by(self, mut closed: mpsc::Receiver<()>, replaced: &Count) {
        let Self { program, root, quarters, life, watched, pair } = self;
        let [mut first, mut second] = pair;
        let hire = || warden(&program, &root, &quarters, &watched);
        tokio::select! {
            _ = closed.recv() => {}
            () = keep_filled(&mut first, &hire, replaced) => {}
            () = keep_filled(&mut second, &hire, replaced) => {}
        }
        drop(life);
        for mut warden in [first, second] {
            if tokio::time::timeout(LEAVING, warden.wait()).await.is_err() {
                let _ = warden.kill().await;
            }
        }
    }
}

/// Replaces one warden each time that it dies. Comes to no end.
async fn keep_filled(warden: &mut Child, hire: &impl Fn() -> io::Result<Child>, replaced: &Count) {
    let mut post = Post::default();
    loop {
        if tokio::time::timeout(STEADY, warden.wait()).await.is_err() {
            if post.holds() {
                tracing::warn!("wardens stay alive again");
            }
            let _ = warden.wait().await;
        }
        loop {
            let (pause, news) = post.falls();
            if news && pause.is_zero() {
                tracing::warn!("a warden was killed; starting another");
            } else if news {
                tracing::error!("wardens do not stay alive; trying again, with longer and longer pauses");
            }
            tokio::time::sleep(pause).await;
            match hire() {
                Ok(next) => {
                    replaced.one_more();
                    break *warden = next;
                }
                Err(error) if news => tracing::error!(%error, "cannot start a warden"),
                Err(_) => {}
            }
        }
    }
}

/// How it goes with one warden after another. Pure.
#[derive(Debug, Default)]
struct Post {
    /// Those in a row that did not stay.
    fallen: u32,
}

impl Post {
    /// Another has died, or could not be started: the pause before the next, and whether that is news. The first is replaced
    /// at once; after the second it is known that they do not stay, and said no more.
    fn falls(&mut self) -> (Duration, bool) {
        let pause = match self.fallen {
            0 => Duration::ZERO,
            before => (AGAIN * 2_u32.saturating_pow(before - 1)).min(AT_MOST),
        };
        self.fallen = (self.fallen + 1).min(30);
        (pause, self.fallen <= 2)
    }

    /// One has stayed. Whether that is news.
    fn holds(&mut self) -> bool {
        std::mem::take(&mut self.fallen) > 1
    }
}

fn warden(program: &Path, root: &Path, quarters: &Quarters, watched: &OwnedFd) -> io::Result<Child> {
    let mut args = vec![OsString::from(WORD), root.into()];
    args.extend(quarters.enabled().iter().map(OsString::from));
    spawn::another_of_us(program, &args, watched.as_fd().try_clone_to_owned()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wardens_that_do_not_stay_are_replaced_ever_more_slowly_and_that_is_said_once() {
        let mut post = Post::default();
        let ms = |ms| Duration::from_millis(ms);
        assert_eq!(post.falls(), (Duration::ZERO, true));
        assert!(!post.holds());
        assert_eq!(post.falls(), (Duration::ZERO, true));
        assert_eq!([post.falls(), post.falls()], [(ms(100), true), (ms(200), false)]);
        for _ in 0..100 {
            assert!(!post.falls().1);
        }
        assert_eq!(post.falls(), (AT_MOST, false));
        assert!(post.holds() && !post.holds());
        assert_eq!(post.falls(), (Duration::ZERO, true));
    }
}
