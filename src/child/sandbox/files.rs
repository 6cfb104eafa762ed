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

use super::Obstacle;
use crate::child::spec::sandbox::{Files, Place};
use crate::exchange::Enforcement;

/// The newest revision that this was tried with.
const TRIED: ABI = ABI::V7;
/// The oldest that is worth the name: before it, files outside could be truncated.
const LEAST: ABI = ABI::V3;

/// Devices that every program may take for granted.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Confines this process to `files`, and to what is its `own`; says by what means, and which of those that were named cannot be
/// allowed, for example because they are not there.
///
/// # Errors
///
/// Nothing is enforced. With `best_effort` what was named and cannot be allowed is none.
pub(super) fn restrict(
    files: &Files,
    own: &[Place],
    best_effort: bool,
) -> Result<(String, Vec<Enforcement>), Obstacle> {
    let mut absent = Vec::new();
    let mut named = |ruleset, place: &Place, access| match allow(ruleset, place, access)? {
        (ruleset, None) => Ok(ruleset),
        (ruleset, Some(source)) if best_effort => {
            let what = format!("files {}", place.path().display());
            absent
                .push(Enforcement::missing(&what, format!("{source}; it is left out, all else is enforced")));
            Ok(ruleset)
        }
        (_, Some(source)) => Err(Obstacle::Path { path: place.path().to_owned(), source }),
    };
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
        None => ruleset = named(ruleset, &Place::required("/"), reading | AccessFs::IoctlDev)?,
        Some(places) => {
            for place in places {
                ruleset = named(ruleset, place, reading)?;
            }
        }
    }
    let devices = DEVICES.map(Place::usual);
    for place in files.write.iter().chain(&devices).chain(own) {
        ruleset = named(ruleset, place, all)?;
    }
    let means = match ruleset.restrict_self()? {
        RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. } => return Err(Obstacle::LandlockOff),
        RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. } => {
            format!("Landlock, ABI {}", effective_abi as i32)
        }
        _ => "Landlock".to_owned(),
    };
    Ok((means, absent))
}

/// Allows one place; with the reason if it was to be there, and cannot be opened.
fn allow(
    ruleset: RulesetCreated,
    place: &Place,
    access: BitFlags<AccessFs>,
) -> Result<(RulesetCreated, Option<io::Error>), Obstacle> {
    let path: PathBuf = place.path().to_owned();
    let found = std::fs::metadata(&path).and_then(|meta| {
        let handle = PathFd::new(&path).map_err(|error| io::Error::other(error.to_string()))?;
        Ok((handle, meta.is_dir()))
    });
    match found {
        Ok((handle, is_dir)) => {
            // The kernel refuses a rule on a file that speaks of directories (landlock_add_rule(2), EINVAL).
            let access = if is_dir { access } else { access & AccessFs::from_file(TRIED) };
            Ok((ruleset.add_rule(PathBeneath::new(handle, access))?, None))
        }
        Err(source) => Ok((ruleset, place.required.then_some(source))),
    }
}
