//! The processes that outlive us and end every tree if we are killed.
//!
//! ```text
//!   gateway ==pipe==> warden, warden        the pipe's end means that the gateway has gone, in whatever way;
//!   gateway <--exit-- warden                a warden that dies is replaced
//! ```
//!
//! In a cgroup nobody notices the death of the gateway by himself. So two wardens wait for it, each able to do all the
//! work alone: to kill whoever is in the gateway's cgroup until that is empty and removed. There are two so that one may be
//! killed together with the gateway. They do nothing else, and have nothing of ours but the pipe.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::mpsc;

use super::cgroup::{Quarters, Root};
use super::{cgroup, shim, spawn};

/// The word that makes this program a warden.
pub(crate) const WORD: &str = "warden";
/// How long a warden may take to leave once the gateway has ended in order.
const LEAVING: Duration = Duration::from_secs(2);
/// The pause before a warden that could not be started is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The warden itself: waits until the gateway has gone, and ends what it left in the cgroup that the first of `args`
/// names. The others are controllers that it had switched on above.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let Some((root, controllers)) = args.split_first().filter(|_| !io::stdin().is_terminal()) else {
        eprintln!("spawnling: a gateway starts its wardens itself; there is nothing to do for one here");
        return ExitCode::from(2);
    };
    if shim::outlive_a_stop().is_err() {
        return ExitCode::FAILURE;
    }
    // Nobody writes to it: this returns when nobody could any more.
    let _ = io::stdin().read_to_end(&mut Vec::new());
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

/// The gateway's side: two wardens, and the pipe by which they know that we live.
#[derive(Debug)]
pub(super) struct Wardens {
    root: PathBuf,
    /// Undone when the wardens have gone, who sit where we do.
    quarters: Arc<Quarters>,
    /// Nothing is ever written to it. Closed on exec, so that nobody but us holds it.
    _life: OwnedFd,
    watched: OwnedFd,
    pair: [Child; 2],
}

impl Wardens {
    /// Starts them.
    pub(super) fn start(root: &Root) -> io::Result<Self> {
        let (root, quarters) = (root.path().to_owned(), Arc::clone(root.quarters()));
        let (watched, life) = io::pipe()?;
        let (watched, life) = (OwnedFd::from(watched), OwnedFd::from(life));
        let pair = [warden(&root, &quarters, &watched)?, warden(&root, &quarters, &watched)?];
        Ok(Self { root, quarters, _life: life, watched, pair })
    }

    /// Replaces the ones that die, until `closed` is: then the gateway ends in order. Lets them go, and waits for that.
    pub(super) async fn stand_by(mut self, mut closed: mpsc::Receiver<()>) {
        loop {
            let [first, second] = &mut self.pair;
            let fallen = tokio::select! {
                _ = closed.recv() => break,
                _ = first.wait() => 0,
                _ = second.wait() => 1,
            };
            tracing::warn!("a warden was killed; starting another");
            match warden(&self.root, &self.quarters, &self.watched) {
                Ok(next) => self.pair[fallen] = next,
                Err(error) => {
                    tracing::error!(%error, "cannot start a warden");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        let Self { pair, _life: life, quarters: _quarters, .. } = self;
        drop(life);
        for mut warden in pair {
            if tokio::time::timeout(LEAVING, warden.wait()).await.is_err() {
                let _ = warden.kill().await;
            }
        }
    }
}

fn warden(root: &Path, quarters: &Quarters, watched: &OwnedFd) -> io::Result<Child> {
    let mut args = vec![OsString::from(WORD), root.into()];
    args.extend(quarters.enabled().iter().map(OsString::from));
    spawn::another_of_us(Path::new(spawn::US), &args, watched.as_fd().try_clone_to_owned()?)
}
