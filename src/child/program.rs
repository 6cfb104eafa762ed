//! From a program's name to the file that will be run.
//!
//! The standard library keeps its fast `posix_spawn` path for a cleared environment only with an absolute program
//! path, and a `PATH` that is looked through here can be shown to whoever wonders why a program was not found.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, access};

/// A file that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Where it is, from the root.
    pub(super) path: PathBuf,
    /// When it was last written, which tells it from what may lie there later.
    pub(crate) modified: Option<SystemTime>,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// No directory of the `PATH` has it.
    #[error("no program {name:?} in {}", show_all(looked_in))]
    NotFound { name: String, looked_in: Vec<PathBuf> },
    /// The path leads nowhere.
    #[error("{} does not exist", path.display())]
    Missing { path: PathBuf },
    /// There is something, but it cannot be run.
    #[error("{} {why}", path.display())]
    NotExecutable { path: PathBuf, why: &'static str },
}

fn show_all(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "an empty PATH".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

/// Finds the file to run: `program` itself if it has a slash, else the first executable of that name in `PATH`.
pub(super) fn find(program: &Path, env: &[(OsString, OsString)]) -> Result<Program, ProgramError> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        // Spawning changes directory first, so a relative path is made absolute from where we are now.
        let path = std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
        return check(path);
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value);
    let looked_in: Vec<PathBuf> = std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect();
    let mut unusable = None;
    for directory in &looked_in {
        match check(directory.join(program)) {
            Ok(found) => return Ok(found),
            // A file that is there but cannot be run is the better explanation.
            Err(error @ ProgramError::NotExecutable { .. }) => unusable = unusable.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(unusable.unwrap_or(ProgramError::NotFound { name: program.display().to_string(), looked_in }))
}

fn check(path: PathBuf) -> Result<Program, ProgramError> {
    let why = match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "may not be looked at",
        Err(_) => return Err(ProgramError::Missing { path }),
        Ok(meta) if meta.is_dir() => "is a directory",
        Ok(_) if access(&path, Access::EXEC_OK).is_err() => "is not executable",
        Ok(meta) => return Ok(Program { path, modified: meta.modified().ok() }),
    };
    Err(ProgramError::NotExecutable { path, why })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(path: &Path, mode: u32) {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_bare_name_is_looked_for_in_the_childs_own_path() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs::create_dir_all(&first).unwrap();
        fs::create_dir_all(&second).unwrap();
        file(&first.join("tool"), 0o644);
        file(&second.join("tool"), 0o755);
        let path = std::env::join_paths([&first, &second]).unwrap();
        let env = vec![("PATH".into(), path)];
        assert_eq!(find(Path::new("tool"), &env).unwrap().path, second.join("tool"));
        let Err(ProgramError::NotFound { looked_in, .. }) = find(Path::new("absent"), &env) else {
            panic!("absent")
        };
        assert_eq!(looked_in, [first, second]);
    }

    #[test]
    fn what_cannot_be_run_is_told_apart_from_what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        file(&dir.path().join("text"), 0o644);
        let cases = [("absent", "does not exist"), ("text", "is not executable"), (".", "is a directory")];
        for (name, expected) in cases {
            let error = find(&dir.path().join(name), &[]).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        let env = vec![("PATH".into(), dir.path().into())];
        assert!(matches!(find(Path::new("text"), &env), Err(ProgramError::NotExecutable { .. })));
    }
}
