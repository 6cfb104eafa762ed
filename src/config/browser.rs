//! The original API's browser agent: which server stands behind it, and whether that could be started.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Server;
use super::env::Environment;
use crate::child::spec::Spec;

/// What the original system called its server's tool.
pub(super) const TOOL: &str = "run_browser_agent";
/// The server that the embedded default, and `MCP_BROWSER_USE_DIR`, put behind the original API.
pub(super) const SERVER: &str = "browser";
/// The variable of the original system that says where `mcp-server-browser-use` was checked out.
pub(super) const DIR_VARIABLE: &str = "MCP_BROWSER_USE_DIR";

/// The variables by which `mcp-server-browser-use` is configured: its own, its models' and its browser's.
const PASSED: [&str; 7] =
    ["MCP_*", "*_API_KEY", "*_ENDPOINT", "*_BASE_URL", "BROWSER_*", "CHROME_*", "ANONYMIZED_TELEMETRY"];

/// What the original API runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Browser {
    /// A configured server.
    pub(crate) server: String,
    /// Its tool that takes a `task`.
    pub(crate) tool: String,
    /// What must be there for it to start.
    pub(crate) available: Availability,
}

/// What must be there for the browser agent to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Nothing: it is part of this program.
    Embedded,
    /// The directory of the original's server, and `uv`, looked for in the directories of `path`.
    Uv { dir: PathBuf, path: OsString },
    /// A program, looked for in the directories of `path` if it is a bare name.
    Program { program: PathBuf, path: OsString },
}

impl Availability {
    /// Whether the configuration is complete. Looks at the file system, starts nothing.
    pub(crate) fn check(&self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Uv { dir, path } => dir.is_dir() && executable_in(Path::new("uv"), path),
            Self::Program { program, path } => executable_in(program, path),
        }
    }

    /// What a configured server needs.
    pub(super) fn of_program(spec: &Spec) -> Self {
        Self::Program { program: spec.program.clone(), path: path_of(spec) }
    }
}

fn path_of(spec: &Spec) -> OsString {
    spec.env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone()).unwrap_or_default()
}

fn executable_in(program: &Path, path: &OsStr) -> bool {
    let executable =
        |file: &Path| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    if program.components().count() > 1 {
        return executable(program);
    }
    std::env::split_paths(path).any(|dir| executable(&dir.join(program)))
}

/// The real browser agent, as the original system started it, out of the directory `dir`.
pub(super) fn real(dir: &Path, environment: &Environment) -> (Server, Availability) {
    let pass = PASSED.map(ToOwned::to_owned);
    let args =
        [OsStr::new("run"), OsStr::new("--directory"), dir.as_os_str(), OsStr::new("mcp-server-browser-use")];
    let spec = Spec {
        args: args.map(ToOwned::to_owned).into(),
        env: environment.for_server(&pass, Vec::new()),
        ..super::plain_spec(PathBuf::from("uv"))
    };
    let available = Availability::Uv { dir: dir.to_owned(), path: path_of(&spec) };
    let mut server = Server::new(SERVER, spec);
    // A task is 12 to 14 s of browsing when it is small; without compiled `.pyc` files the start alone takes 39 s.
    server.deadline = Duration::from_mins(10);
    server.open_deadline = Duration::from_mins(1);
    (server, available)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_real_one_is_there_when_its_directory_and_uv_are() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (bin, agent) = (dir.path().join("bin"), dir.path().join("agent"));
        fs::create_dir(&bin).expect("created");
        let available = Availability::Uv { dir: agent.clone(), path: bin.clone().into() };
        assert!(!available.check(), "neither");
        fs::create_dir(&agent).expect("created");
        assert!(!available.check(), "no uv");
        let uv = bin.join("uv");
        fs::write(&uv, "").expect("written");
        fs::set_permissions(&uv, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(!available.check(), "uv is no program");
        fs::set_permissions(&uv, fs::Permissions::from_mode(0o755)).expect("changed");
        assert!(available.check());
        assert!(Availability::Program { program: uv, path: OsString::new() }.check());
        let bare = |path: &Path| Availability::Program { program: "uv".into(), path: path.into() };
        assert!(bare(&bin).check());
        assert!(!bare(&agent).check());
        assert!(Availability::Embedded.check());
    }
}
