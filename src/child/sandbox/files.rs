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

use super::{Obstacle, syscalls};
use crate::child::spec::sandbox::{Files, Place};
use crate::exchange::Enforcement;

/// The newest revision that this was tried with.
const TRIED: ABI = ABI::V7;
/// The oldest that is worth the name.
const LEAST: ABI = ABI::V2;
/// The oldest that keeps files outside from being truncated; before it a filter of system calls has to.
const TRUNCATION: ABI = ABI::V3;

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
    restrict_by(TRIED, files, own, best_effort)
}

/// As on a kernel that knows nothing newer than `newest`.
fn restrict_by(
    newest: ABI,
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
    let reading = AccessFs::from_read(newest);
    let all = AccessFs::from_all(newest);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::from_all(newest))?
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
    let abi = match ruleset.restrict_self()? {
        RestrictionStatus { ruleset: RulesetStatus::NotEnforced, .. } => return Err(Obstacle::LandlockOff),
        RestrictionStatus { landlock: LandlockStatus::Available { effective_abi, .. }, .. } => {
            effective_abi.min(newest)
        }
        _ => LEAST,
    };
    let mut means = format!("Landlock, ABI {}", abi as i32);
    if abi < TRUNCATION {
        syscalls::refuse_truncation()?;
        means += ", and a filter of the system calls that truncate";
    }
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use rustix::fs::{Mode, OFlags};

    use super::*;

    /// A domain and a filter are a thread's, and of whoever it starts.
    #[test]
    fn on_a_kernel_before_linux_6_2_files_outside_cannot_be_truncated_either() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, "precious").unwrap();
        let tried = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let files = Files { read: None, write: Vec::new() };
            let (means, _) = restrict_by(LEAST, &files, &[Place::required(&inside)], false).ok()?;
            assert_eq!(means, "Landlock, ABI 2, and a filter of the system calls that truncate");
            for mode in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RWMODE] {
                let opened = rustix::fs::open(&outside, mode | OFlags::TRUNC, Mode::empty());
                assert_eq!(opened.unwrap_err(), rustix::io::Errno::ACCESS, "{mode:?}");
            }
            assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
            File::create(inside.join("file")).unwrap().set_len(5).unwrap();
            Some(())
        });
        if tried.join().unwrap().is_none() {
            crate::child::tests::cradle::skip("Landlock", "this kernel has none, or has it switched off");
        }
    }
}
