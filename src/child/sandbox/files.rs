//! Which files: a Landlock domain (`landlock(7)`), inherited by everything that the server starts.
//!
//! Beside the files it keeps the domain's processes from tracing any process outside of it, and, from ABI 6 on, from
//! signalling one and from connecting to an abstract Unix socket of one. `stat(2)`, `chdir(2)` and, before ABI 9,
//! `connect(2)` to a Unix socket by its path are not restricted by Landlock.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus,
    Scope,
};

use super::{Means, Obstacle};
use crate::child::spec::sandbox::{Files, Place};

/// The newest revision that this was tried with.
const TRIED: ABI = ABI::V7;
/// The oldest that is worth the name: before it, files outside could be truncated.
const LEAST: ABI = ABI::V3;

/// Devices that every program may take for granted.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Confines this process to `files`, and to what is its `own`.
pub(super) fn restrict(files: &Files, own: &[Place]) -> Means {
    let reading = AccessFs::from_read(TRIED);
    let all = AccessFs::from_all(TRIED);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(TRIED))?
        .create()?;
    match &files.read {
        None => ruleset = allow(ruleset, &Place::required("/"), reading | AccessFs::IoctlDev)?,
        Some(places) => {
            for place in places {
                ruleset = allow(ruleset, place, reading)?;
            }
        }
    }
    let devices = DEVICES.map(Place::usual);
    for place in files.write.iter().chain(&devices).chain(own) {
        ruleset = allow(ruleset, place, all)?;
    }
    match ruleset.restrict_self()? {
        RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. } => Err(Obstacle::LandlockOff),
        RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. } => {
            Ok(format!("Landlock, ABI {}", effective_abi as i32))
        }
        _ => Ok("Landlock".to_owned()),
    }
}

fn allow(
    ruleset: RulesetCreated,
    place: &Place,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Obstacle> {
    let path: PathBuf = place.path().to_owned();
    let found = std::fs::metadata(&path).and_then(|meta| {
        let handle = PathFd::new(&path).map_err(|error| io::Error::other(error.to_string()))?;
        Ok((handle, meta.is_dir()))
    });
    match found {
        Ok((handle, is_dir)) => {
            // The kernel refuses a rule on a file that speaks of directories (landlock_add_rule(2), EINVAL).
            let access = if is_dir { access } else { access & AccessFs::from_file(TRIED) };
            Ok(ruleset.add_rule(PathBeneath::new(handle, access))?)
        }
        Err(source) if place.required => Err(Obstacle::Path { path, source }),
        Err(_) => Ok(ruleset),
    }
}
