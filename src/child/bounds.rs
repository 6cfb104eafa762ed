//! Before any call: what is asked for about a server, made into what the kernel is told, and tried out.

use super::cgroup::Root;
use super::sandbox::{self, ProbeError, ResolveError};
use super::spec::Spec;
use super::{Gone, Nursery};
use crate::exchange::{Bounds, Limited};

/// Why a server cannot be kept in bounds as it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoundsError {
    /// What is asked for cannot be understood on this machine.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It cannot be enforced.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// There is no cgroup to try it in.
    #[error("cannot make a cgroup")]
    Cgroup(#[source] std::io::Error),
    /// There is no directory to try it in.
    #[error("cannot make a scratch directory")]
    Scratch(#[source] std::io::Error),
}

impl Nursery {
    /// Makes of what is asked for `spec` what the kernel is told, and finds out, by trying, what of it is enforced.
    /// Blocks for as long as a process takes to start.
    ///
    /// # Errors
    ///
    /// A sandbox that cannot be had, unless it is wished for with best effort. A limit that cannot be had is no error.
    pub(crate) fn bound(&self, spec: &mut Spec) -> Result<Bounds, BoundsError> {
        let mut sandbox = sandbox::resolve(spec)?;
        let mut tried = Vec::new();
        if !sandbox.is_empty() {
            if sandbox.user.is_some() {
                self.scratch.let_through().map_err(BoundsError::Scratch)?;
            }
            let dir = self.scratch.trial().map_err(BoundsError::Scratch)?;
            tried = sandbox::probe(&sandbox, dir.path())?;
            // Whoever stays who it was is called so, and lives there.
            if tried.iter().any(|part| !part.enforced && part.what == sandbox::Part::User.to_string())
                && let Some(wish) = &mut spec.wish
            {
                wish.user = None;
                sandbox = sandbox::resolve(spec)?;
            }
            spec.sandbox = sandbox;
        }
        // Tried in cgroups that nobody is put into.
        let leaf = self.means.cgroups.as_ref().map(Root::leaf).transpose().map_err(BoundsError::Cgroup)?;
        tried.extend(self.cage(spec, leaf.as_ref()).1);
        // One that stays would go with the root.
        drop(leaf.map(|leaf| leaf.remove(Gone::never_born)));
        let mut limits = Vec::new();
        for (what, member, value) in spec.limits.asked() {
            let Some(index) = tried.iter().position(|tried| tried.what == what) else { continue };
            let enforcement = tried.remove(index);
            if !enforcement.enforced {
                spec.limits.forget(what);
            }
            limits.push(Limited { member, value, enforcement });
        }
        Ok(Bounds { limits, sandbox: tried })
    }
}
