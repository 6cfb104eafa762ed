//! Which containment this host can have: found out by trying, at start.
//!
//! ```text
//!   auto:  cgroup -> namespace -> subreaper -> group       the first that works
//!   strict, or any by its name: that one, or an error
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::sync::mpsc;

use super::cgroup::{CgroupError, Root};
use super::keeper::{KeeperError, Keepers, Kept};
use super::shim::words::{Keeping, Orders, Power};
use super::spawn;
use super::spec::Choice;
use super::tree::Containment;
use super::warden::Wardens;

/// Why a containment cannot be had here.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error("cannot start a warden")]
    Warden(#[source] io::Error),
    #[error("cannot make the gateway opaque to its user's other processes")]
    Opaque(#[source] io::Error),
}

/// The containment that was asked for cannot be had here.
#[derive(Debug, thiserror::Error)]
#[error("this host does not allow the containment {wanted}: {why}")]
pub(crate) struct ContainmentError {
    wanted: &'static str,
    why: String,
}

/// How trees are held together here.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) containment: Containment,
    /// Why better ones are not had, a line each.
    pub(super) refused: Vec<String>,
    /// Dropped, and so removed, before the wardens are let go.
    pub(super) cgroups: Option<Arc<Root>>,
    pub(super) keepers: Arc<Keepers>,
    pub(super) power: Power,
    /// Only ever dropped: that lets the wardens go.
    stand_by: Option<mpsc::Sender<()>>,
}

/// The wardens, to be waited for beside everything else.
#[derive(Debug)]
pub(crate) struct Watch(Option<(Wardens, mpsc::Receiver<()>)>);

impl Watch {
    /// Returns when everything that holds trees together was given up, in order.
    pub(crate) async fn run(self) {
        if let Some((wardens, closed)) = self.0 {
            wardens.stand_by(closed).await;
        }
    }
}

impl Means {
    /// Process groups only; for tests of other things.
    #[cfg(test)]
    pub(super) fn group() -> Self {
        Self::of(Containment::Group)
    }

    fn of(containment: Containment) -> Self {
        Self {
            containment,
            refused: Vec::new(),
            cgroups: None,
            keepers: Arc::default(),
            power: Power::Own,
            stand_by: None,
        }
    }

    /// Finds the one that was chosen, or the best.
    pub(super) async fn find(choice: Choice) -> Result<(Self, Watch), ContainmentError> {
        let wanted = match choice {
            Choice::Auto => return Ok(Self::best().await),
            Choice::Strict => Containment::Strict,
            Choice::Cgroup => Containment::Cgroup,
            Choice::Namespace => Containment::Namespace,
            Choice::Subreaper => Containment::Subreaper,
            Choice::Group => Containment::Group,
        };
        let refused = |why: Refusal| ContainmentError { wanted: wanted.name(), why: told(&why) };
        Self::try_out(wanted).await.map_err(refused)
    }

    async fn best() -> (Self, Watch) {
        let mut refused = Vec::new();
        for containment in [Containment::Cgroup, Containment::Namespace, Containment::Subreaper] {
            match Self::try_out(containment).await {
                Ok((means, watch)) => return (Self { refused, ..means }, watch),
                Err(why) => refused.push(format!("{}: {}", containment.name(), told(&why))),
            }
        }
        (Self { refused, ..Self::of(Containment::Group) }, Watch(None))
    }

    /// Puts a process into it and ends it there.
    async fn try_out(containment: Containment) -> Result<(Self, Watch), Refusal> {
        let mut means = Self::of(containment);
        match containment {
            Containment::Group => return Ok((means, Watch(None))),
            Containment::Cgroup => {}
            Containment::Subreaper => means.rehearse(Keeping::Subreaper).await?,
            Containment::Namespace | Containment::Strict => {
                // Whoever may has no need of a user namespace, in which programs of other users cannot become those.
                let own = means.rehearse(Keeping::Namespace(Power::Own)).await;
                if own.is_err() {
                    means.power = Power::UserNamespace;
                    means.rehearse(Keeping::Namespace(Power::UserNamespace)).await?;
                }
            }
        }
        if containment == Containment::Strict {
            // Nobody of our own user may look into us either (`PR_SET_DUMPABLE(2const)`, `ptrace(2)`).
            set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .map_err(|error| Refusal::Opaque(error.into()))?;
        }
        if matches!(containment, Containment::Cgroup | Containment::Strict) {
            let root = Arc::new(Root::create()?);
            join_and_die(&root).await?;
            let wardens = Wardens::start(root.path()).map_err(Refusal::Warden)?;
            let (stand_by, closed) = mpsc::channel(1);
            (means.cgroups, means.stand_by) = (Some(root), Some(stand_by));
            return Ok((means, Watch(Some((wardens, closed)))));
        }
        Ok((means, Watch(None)))
    }

    async fn rehearse(&self, keeping: Keeping) -> Result<(), Refusal> {
        let mut kept = Kept::new(&self.keepers, self.containment)?;
        let nothing = File::open("/dev/null").map_err(KeeperError::Hire)?;
        let orders = Orders {
            keeping,
            cgroups: 0,
            program: "/proc/self/exe".into(),
            args: vec![super::shim::WORD.into()],
            env: Vec::new(),
            cwd: "/".into(),
        };
        let started = kept.start(&orders, &[nothing.as_fd(); 3]).await;
        kept.kill();
        // Nothing has started that could have left anybody behind.
        let _ = kept.gone().await;
        Ok(started?)
    }
}

/// A process that would wait for ever joins a cgroup before it is executed, and is killed by it.
async fn join_and_die(root: &Arc<Root>) -> Result<(), CgroupError> {
    let leaf = root.leaf().map_err(CgroupError::Join)?;
    let (waits, _never) = io::pipe().map_err(CgroupError::Join)?;
    let started = spawn::in_cgroup(&leaf, waits.into());
    let joined = match started {
        Ok(mut process) => {
            let inside = process.id().is_some_and(|pid| leaf.members().contains(&pid.cast_signed()));
            leaf.kill();
            if !inside {
                let _ = process.start_kill();
            }
            process.wait().await.map(|_| inside)
        }
        Err(error) => Err(error),
    };
    super::tree::empty(leaf).await;
    match joined {
        Ok(true) => Ok(()),
        Ok(false) => Err(CgroupError::Join(io::ErrorKind::Unsupported.into())),
        Err(error) => Err(CgroupError::Join(error)),
    }
}

fn told(why: &Refusal) -> String {
    let mut text = why.to_string();
    let mut source = std::error::Error::source(why);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}
