//! Which containment this host can have: found out by trying, at start.
//!
//! ```text
//!   auto:  cgroup -> namespace -> subreaper -> group       the first that works
//!   strict, or any by its name: that one, or an error
//! ```
//!
//! One that could not be tried, for want of descriptors, processes or memory, is an error in any case.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;
use tokio::sync::mpsc;

mod refusal;

use super::cgroup::{ADVICE, CgroupError, Entrance, Leaf, Root};
use super::keeper::{KeeperError, Keepers, Kept};
use super::proc;
use super::scratch::Scratch;
use super::shim::words::{Keeping, Orders, Power};
use super::spawn::{self, Pipes, SpawnError};
use super::spec::{Choice, Spec};
use super::tree::Containment;
use super::warden::Wardens;
use crate::exchange::fault::chain;
use crate::telemetry::metrics::Count;
use refusal::Refusal;

pub(crate) use refusal::ContainmentError;

/// How long a process that is only to be ended may take to start, and then to end.
const REHEARSAL: Duration = Duration::from_secs(10);

/// How trees are held together here.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) containment: Containment,
    /// Why better ones are not had, a line each.
    pub(super) refused: Vec<String>,
    /// Dropped, and so removed, before the wardens are let go.
    pub(super) cgroups: Option<Arc<Root>>,
    pub(super) keepers: Arc<Keepers>,
    /// By what a tree is kept that is not only a group.
    pub(super) keeping: Keeping,
    /// Only ever dropped: that ends the watch, and lets the wardens go.
    #[expect(dead_code, reason = "held, not looked at")]
    stand_by: Option<mpsc::Sender<()>>,
}

/// What a keeper needs for one tree: its orders, our ends of the pipes, the doors of its cgroup, and the keeper.
pub(super) type Prepared = (Orders, Pipes, Vec<File>, Kept);

/// Those who hold trees together and may die of something else: looked after beside everything else.
#[derive(Debug)]
pub(crate) struct Watch {
    wardens: Option<Wardens>,
    keepers: Arc<Keepers>,
    closed: mpsc::Receiver<()>,
}

impl Watch {
    /// Returns when everything that holds trees together was given up, in order. Whoever of them dies is `replaced`.
    pub(crate) async fn run(self, replaced: Count) {
        let Self { wardens, keepers, mut closed } = self;
        let given_up = async {
            match wardens {
                Some(wardens) => wardens.stand_by(closed, &replaced).await,
                None => {
                    let _ = closed.recv().await;
                }
            }
        };
        tokio::select! {
            () = given_up => {}
            () = keepers.bury_the_dead() => {}
        }
    }
}

impl Means {
    /// What has not been tried out yet.
    pub(super) fn of(containment: Containment) -> Self {
        Self {
            containment,
            refused: Vec::new(),
            cgroups: None,
            keepers: Arc::default(),
            keeping: Keeping::Subreaper,
            stand_by: None,
        }
    }

    /// The same, and what is to be looked after as long as it is there.
    fn watched(containment: Containment) -> (Self, Watch) {
        let (stand_by, closed) = mpsc::channel(1);
        let means = Self { stand_by: Some(stand_by), ..Self::of(containment) };
        let watch = Watch { wardens: None, keepers: Arc::clone(&means.keepers), closed };
        (means, watch)
    }

    /// Finds the one that was chosen, or the best. Its cgroups, if it has any, get `controllers`, if they can.
    pub(super) async fn find(
        choice: Choice,
        controllers: &[&'static str],
    ) -> Result<(Self, Watch), ContainmentError> {
        let wanted = match choice {
            Choice::Auto => return Self::best(controllers).await,
            Choice::Strict => Containment::Strict,
            Choice::Cgroup => Containment::Cgroup,
            Choice::Namespace => Containment::Namespace,
            Choice::Subreaper => Containment::Subreaper,
            Choice::Group => Containment::Group,
        };
        Self::try_out(wanted, controllers).await.map_err(|why| why.of(wanted))
    }

    /// What holds trees together for as long as we live is not settled by a shortage that may have passed in a moment.
    async fn best(controllers: &[&'static str]) -> Result<(Self, Watch), ContainmentError> {
        let mut refused = Vec::new();
        for containment in [Containment::Cgroup, Containment::Namespace, Containment::Subreaper] {
            match Self::try_out(containment, controllers).await {
                Ok((means, watch)) => return Ok((Self { refused, ..means }, watch)),
                Err(why) if why.shortage().is_some() => return Err(why.of(containment)),
                Err(why) => refused.push(format!("{}: {}", containment.name(), chain(&why))),
            }
        }
        let (means, watch) = Self::watched(Containment::Group);
        Ok((Self { refused, ..means }, watch))
    }

    /// Prepares what `spec` says for a keeper, in `leaf`, and in the further cgroups behind `doors`.
    pub(super) fn prepare(
        &self,
        (spec, program): (&Spec, &Path),
        scratch: &Scratch,
        leaf: Option<&Leaf>,
        doors: &[OsString],
    ) -> Result<Prepared, SpawnError> {
        // A keeper that joins counts among the processes that are allowed.
        let counted = spec.limits.processes.is_some();
        let leaf = leaf.map(|leaf| self.doors(leaf, counted)).transpose().map_err(SpawnError::Contain)?;
        let leaf: Vec<File> = leaf.into_iter().flatten().collect();
        let orders = spawn::orders((spec, program), scratch.path(), self.keeping, leaf.len(), doors)?;
        let pipes = spawn::pipes().map_err(SpawnError::Watch)?;
        let kept = Kept::new(&self.keepers, self.containment).map_err(SpawnError::Keep)?;
        Ok((orders, pipes, leaf, kept))
    }

    /// An init is forked in any case, and lives in the cgroup of its tree.
    fn doors(&self, leaf: &Leaf, counted: bool) -> io::Result<Vec<File>> {
        let birth = counted || self.containment.has_namespace();
        leaf.doors(if birth { Entrance::Birth } else { Entrance::Quickest })
    }

    /// Puts a process into it and ends it there.
    async fn try_out(
        containment: Containment,
        controllers: &[&'static str],
    ) -> Result<(Self, Watch), Refusal> {
        let (mut means, mut watch) = Self::watched(containment);
        if containment == Containment::Group {
            return Ok((means, watch));
        }
        if containment == Containment::Strict {
            // Nobody of our own user may look into us either (`PR_SET_DUMPABLE(2const)`, `ptrace(2)`).
            set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .map_err(|error| Refusal::Opaque(error.into()))?;
        }
        if matches!(containment, Containment::Cgroup | Containment::Strict) {
            let root = Arc::new(Root::create(controllers)?);
            watch.wardens = Some(Wardens::start(Path::new(spawn::US), &root).map_err(Refusal::Warden)?);
            means.cgroups = Some(root);
        }
        if containment.has_namespace() {
            // Whoever may has no need of a user namespace, in which programs of other users cannot become those.
            means.keeping = Keeping::Namespace(Power::Own);
            match means.rehearse().await {
                Err(refusal) if refusal.shortage().is_none() => {
                    means.keeping = Keeping::Namespace(Power::UserNamespace);
                    means.rehearse().await?;
                }
                tried => tried?,
            }
        } else {
            means.rehearse().await?;
        }
        Ok((means, watch))
    }

    /// Why trees do not have the controller in their own cgroup of version 2.
    pub(super) fn without(&self, controller: &str) -> String {
        let Some(root) = &self.cgroups else {
            let name = self.containment.name();
            let without = format!("with the containment {name} trees have no cgroup of version 2");
            // Who has chosen knows why; and who has not can do something about it.
            let refused = self.refused.iter().find_map(|line| line.strip_prefix("cgroup: "));
            return refused.map_or(without.clone(), |why| format!("{without}: {why}; {ADVICE}"));
        };
        root.quarters().without(controller)
    }

    /// A process that would wait for ever, and hides as well as a process can, is started as all others will be, and killed.
    /// Should nobody do that, it finds that there is nothing to end (`ENOENT`), and leaves when its stdin ends.
    async fn rehearse(&self) -> Result<(), Refusal> {
        if self.containment == Containment::Subreaper && !proc::is_ours().map_err(Refusal::Unknown)? {
            return Err(Refusal::Foreign);
        }
        let mut kept = Kept::new(&self.keepers, self.containment)?;
        let leaf = self.cgroups.as_ref().map(Root::leaf).transpose().map_err(CgroupError::Join)?;
        let doors =
            leaf.as_ref().map(|leaf| self.doors(leaf, false)).transpose().map_err(CgroupError::Join)?;
        let (stdin, never) = io::pipe().map_err(KeeperError::Hire)?;
        let (said, stdout) = io::pipe().map_err(KeeperError::Hire)?;
        let said = ChildStdout::from_std(OwnedFd::from(said).into()).map_err(KeeperError::Hire)?;
        let nothing = File::open("/dev/null").map_err(KeeperError::Hire)?;
        let mut given = vec![stdin.as_fd(), stdout.as_fd(), nothing.as_fd()];
        given.extend(doors.iter().flatten().map(AsFd::as_fd));
        let orders = Orders {
            keeping: self.keeping,
            cgroups: given.len() - 3,
            program: spawn::US.into(),
            args: vec![super::warden::WORD.into(), "/proc/nothing".into()],
            env: Vec::new(),
            cwd: "/".into(),
        };
        let started = match kept.order(&orders, &given).await {
            Ok(()) => {
                drop(stdout);
                born(&mut kept, said, leaf.as_ref()).await
            }
            Err(error) => Err(error.into()),
        };
        if let Some(leaf) = leaf.as_ref().filter(|_| !self.containment.has_namespace()) {
            leaf.kill();
        }
        // Whom /proc does not show to us it shows to no keeper, which is no more than we are: not to be waited for in vain.
        let sought = self.containment == Containment::Subreaper && started.is_ok();
        let shown = if sought { proc::shows(kept.pid()) } else { Ok(true) };
        let never = matches!(shown, Ok(true)).then_some(never);
        kept.kill();
        // What has just started has nobody that it could leave behind.
        let ended = tokio::time::timeout(REHEARSAL, kept.gone()).await;
        drop(never);
        if let Some(leaf) = leaf {
            super::tree::empty(leaf).await;
        }
        started?;
        if !shown.map_err(Refusal::Unknown)? {
            return Err(Refusal::Hidden);
        }
        ended.map(drop).map_err(|_| Refusal::Lingers)
    }
}

/// Returns when it is there and hides, in `leaf` if there is one.
async fn born(kept: &mut Kept, mut said: ChildStdout, leaf: Option<&Leaf>) -> Result<(), Refusal> {
    let there = async {
        kept.started().await?;
        // Its end, if it has hidden in vain, is as good as its word.
        let _ = said.read(&mut [0]).await;
        Ok(())
    };
    tokio::time::timeout(REHEARSAL, there).await.unwrap_or(Err(Refusal::Late))?;
    let joined = leaf.map_or(Ok(true), |leaf| leaf.holds(kept.pid())).map_err(CgroupError::Join)?;
    if joined { Ok(()) } else { Err(CgroupError::Join(io::ErrorKind::Unsupported.into()).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_cgroup_is_told_why_and_what_helps_unless_it_was_chosen() {
        let mut means = Means::of(Containment::Namespace);
        let chosen = means.without("pids");
        assert!(
            chosen.ends_with("with the containment namespace trees have no cgroup of version 2"),
            "{chosen}"
        );
        means.refused = vec!["cgroup: cannot make a cgroup below /here".to_owned()];
        let found = means.without("pids");
        assert!(found.contains("cannot make a cgroup below /here; docs/containment.md says how"), "{found}");
    }
}
