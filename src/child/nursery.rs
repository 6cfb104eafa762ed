//! Where children are born: how their trees are held, and what all of them share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::cgroup::{self, Leaf};
use super::containment::{ContainmentError, Means, Watch};
use super::limits::{self, Cage, Cages, Own};
use super::reaper::Reaper;
use super::scratch::ScratchRoot;
use super::spawn;
use super::spec::{Choice, Spec};
use super::tree::Containment;
use crate::exchange::Enforcement;
use crate::telemetry::metrics::Level;

/// Where children are born. Clones are the same place.
#[derive(Debug, Clone)]
pub(crate) struct Nursery {
    pub(super) scratch: Arc<ScratchRoot>,
    pub(super) reaper: Reaper,
    pub(super) means: Arc<Means>,
    pub(super) cages: Arc<Cages>,
    pub(super) alive: Level,
    pub(super) hurry: CancellationToken,
}

impl Nursery {
    /// Scratch directories come from `scratch`; trees whose owner was dropped go to `reaper`; trees are held together as
    /// `choice` says, with `controllers` if they can. What is watched over is to be run beside everything else.
    ///
    /// From here on no child inherits a descriptor that was open before, nor a signal that was ignored, nor the right to leave a
    /// core dump.
    ///
    /// # Errors
    ///
    /// The containment that was chosen cannot be had here.
    pub(crate) async fn open(
        scratch: ScratchRoot,
        reaper: Reaper,
        choice: Choice,
        controllers: &[&'static str],
    ) -> Result<(Self, Watch), ContainmentError> {
        spawn::keep_what_we_inherited();
        // A keeper hands its own limits on, and the one that a containment is tried out with keeps trees afterwards.
        limits::no_core_dumps();
        // Whatever is chosen now: a dead one may have chosen otherwise, and what it has left would be in our scratch directories.
        cgroup::sweep();
        limits::sweep_dead();
        let (means, watch) = Means::find(choice, controllers).await?;
        scratch.sweep_beside();
        Ok((Self::of(scratch, reaper, means), watch))
    }

    pub(super) fn of(scratch: ScratchRoot, reaper: Reaper, means: Means) -> Self {
        let (scratch, means) = (Arc::new(scratch), Arc::new(means));
        let (cages, alive, hurry) = (Arc::default(), Level::default(), CancellationToken::new());
        Self { scratch, reaper, means, cages, alive, hurry }
    }

    /// The same, with its children counted by `alive`.
    pub(crate) fn counted(self, alive: Level) -> Self {
        Self { alive, ..self }
    }

    /// The containment that trees get here.
    pub(crate) fn containment(&self) -> Containment {
        self.means.containment
    }

    /// Why better ones are not had, a line each.
    pub(crate) fn refused(&self) -> &[String] {
        &self.means.refused
    }

    /// The cgroups by which a tree is limited whose own is `leaf`, and what of its limits is enforced.
    pub(super) fn cage(&self, spec: &Spec, leaf: Option<&Leaf>) -> (Option<Cage>, Vec<Enforcement>) {
        let ours = u64::from(self.means.containment.has_namespace()); // its init
        let own = Own { leaf: leaf.map(Leaf::path), ours, without: &|name| self.means.without(name) };
        self.cages.cage(&spec.limits, &own)
    }

    /// From now on nobody is asked to leave, nor waited for who was: trees that come to their end are killed.
    pub(crate) fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Lets whoever waits for the next tree go. Nothing may be born here any more.
    pub(crate) async fn dismiss(&self) {
        self.means.keepers.dismiss().await;
    }

    /// How many trees lost their owner so far.
    pub(crate) fn rescued(&self) -> u64 {
        self.reaper.rescued()
    }
}
