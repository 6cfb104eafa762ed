//! What a server may see and touch: what is asked for, and what the kernel is told. Pure.
//!
//! ```text
//!   Wish     what a configuration says: presets, paths, switches
//!     |      resolved once, at start-up: accounts become ids, presets become paths that are there
//!     v
//!   Sandbox  crosses to the process that confines itself, as one line of JSON
//! ```

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::limits::Rlimits;

/// A sandbox as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What the server is known to need.
    pub(crate) presets: Vec<Preset>,
    /// What it may read and execute, absolute; `None`: everything, unless a preset or `write` says otherwise.
    pub(crate) read: Option<Vec<PathBuf>>,
    /// What it may change as well; its scratch directory always is. `None`: as `read`.
    pub(crate) write: Option<Vec<PathBuf>>,
    /// Whether it may use the network.
    pub(crate) network: Network,
    /// Whether set-user-ID programs are nothing special to it.
    pub(crate) no_new_privs: bool,
    /// Whether dangerous system calls are refused; `None`: if there is a preset.
    pub(crate) seccomp: Option<bool>,
    /// Whether it has a `/tmp` of its own; `None`: if there is a preset.
    pub(crate) private_tmp: Option<bool>,
    /// Whom it runs as; `None`: as the gateway.
    pub(crate) user: Option<Account>,
    /// Which variables of [`Wish::IDENTITY`] are said by somebody, and so stay what they are for another user, too.
    pub(crate) said: Vec<&'static str>,
    /// Whether it is started although not all of this can be enforced.
    pub(crate) best_effort: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            presets: Vec::new(),
            read: None,
            write: None,
            network: Network::Shared,
            no_new_privs: true,
            seccomp: None,
            private_tmp: None,
            user: None,
            said: Vec::new(),
            best_effort: false,
        }
    }
}

impl Wish {
    /// The variables that say who somebody is (`environ(7)`).
    pub(crate) const IDENTITY: [&'static str; 3] = ["HOME", "LOGNAME", "USER"];

    /// Whether only some files may be read.
    pub(crate) const fn confines_reading(&self) -> bool {
        !self.presets.is_empty() || self.read.is_some()
    }

    /// Whether only some files may be changed.
    pub(crate) const fn confines_writing(&self) -> bool {
        self.confines_reading() || self.write.is_some()
    }

    /// The filter of system calls.
    pub(crate) fn syscalls(&self) -> Syscalls {
        match self.seccomp {
            Some(false) => Syscalls::All,
            None if self.presets.is_empty() => Syscalls::All,
            // Chromium's own sandbox is made of namespaces.
            _ if self.presets.contains(&Preset::Browser) => Syscalls::SafeAndNamespaces,
            _ => Syscalls::Safe,
        }
    }

    /// Whether it gets temporary directories of its own.
    pub(crate) fn private_tmp(&self) -> bool {
        self.private_tmp.unwrap_or(!self.presets.is_empty())
    }
}

/// A kind of server of which it is known what it needs to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    /// A Python program, in a virtual environment or not.
    Python,
    /// A Node.js program.
    Node,
    /// `uvx`, or `uv run`: a Python program, and a cache that is written to.
    Uvx,
    /// `npx`: a Node.js program, and a cache that is written to.
    Npx,
    /// Chromium, started by any of these.
    Browser,
}

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Account {
    /// By name.
    Name(String),
    /// By number.
    Id(u32),
}

/// What the kernel is told. Paths travel as bytes, so that any name survives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// Which files; `None`: all that its user may.
    pub(crate) files: Option<Files>,
    /// Which network.
    pub(crate) network: Network,
    /// `PR_SET_NO_NEW_PRIVS`
    pub(crate) no_new_privs: bool,
    /// Which system calls.
    pub(crate) syscalls: Syscalls,
    /// Whether `/tmp` and the like are its own.
    pub(crate) private_tmp: bool,
    /// What stays in sight where `private_tmp` hides everything else: its program, its working directory.
    pub(crate) in_sight: Vec<OsString>,
    /// Variables that lead it to where it may go, instead of what its environment says.
    pub(crate) env: Vec<Variable>,
    /// What each of its processes may use.
    pub(crate) rlimits: Rlimits,
    /// How large its scratch directory may grow, in bytes.
    pub(crate) scratch_size: Option<u64>,
    /// Whom it runs as.
    pub(crate) user: Option<User>,
    /// Whether it is started although not all of this can be enforced.
    pub(crate) best_effort: bool,
}

impl Sandbox {
    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Files, by the directories that they are in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Files {
    /// May be read and executed; `None`: everything.
    pub(crate) read: Option<Vec<Place>>,
    /// May be read, executed and changed.
    pub(crate) write: Vec<Place>,
}

/// A file, or a directory with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    path: OsString,
    /// Whether somebody named it, so that its absence is an error.
    pub(crate) required: bool,
}

impl Place {
    /// A place that was named.
    pub(crate) fn required(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), required: true }
    }

    /// A place that is passed over where it is absent.
    pub(crate) fn usual(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), required: false }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        Path::new(AsRef::<OsStr>::as_ref(&self.path))
    }
}

/// A variable that names a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Which directory; a relative one lies in the scratch directory.
    directory: OsString,
}

impl Variable {
    /// A variable for this directory.
    pub(crate) fn new(name: &str, directory: impl Into<PathBuf>) -> Self {
        Self { name: name.to_owned(), directory: directory.into().into() }
    }

    /// Its value for a server with this scratch directory.
    pub(crate) fn value(&self, scratch: &Path) -> PathBuf {
        scratch.join(&self.directory)
    }
}

/// Which network a server sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Network {
    /// The one of the gateway.
    #[default]
    Shared,
    /// None; where it can be had, a loopback of its own.
    None,
}

/// Which system calls a server may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Syscalls {
    /// Every one.
    #[default]
    All,
    /// Those that no tool needs to do harm with.
    Safe,
    /// Those, and namespaces of its own.
    SafeAndNamespaces,
}

/// A user and its group, by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Variables that say who it is, instead of the gateway's. An empty value is the scratch directory.
    pub(crate) env: Vec<(String, OsString)>,
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_sandbox_survives_the_crossing_with_any_path() {
        let odd = OsString::from_vec(b"/srv/\xff\n\"x".to_vec());
        let sandbox = Sandbox {
            files: Some(Files { read: Some(vec![Place::usual("/usr")]), write: vec![Place::required(&odd)] }),
            network: Network::None,
            syscalls: Syscalls::SafeAndNamespaces,
            in_sight: vec![odd.clone()],
            env: vec![Variable::new("CACHE", odd)],
            scratch_size: Some(1 << 40),
            user: Some(User { uid: 1, gid: 2, env: vec![("HOME".to_owned(), OsString::new())] }),
            ..Sandbox::default()
        };
        let line = serde_json::to_string(&sandbox).unwrap();
        assert_eq!(serde_json::from_str::<Sandbox>(&line).unwrap(), sandbox);
        assert!(!line.contains('\n'));
    }

    #[test]
    fn a_preset_switches_on_what_a_bare_table_does_not() {
        let bare = Wish::default();
        assert_eq!((bare.confines_reading(), bare.confines_writing()), (false, false));
        assert_eq!((bare.syscalls(), bare.private_tmp()), (Syscalls::All, false));
        let preset = Wish { presets: vec![Preset::Node], ..Wish::default() };
        assert_eq!((preset.confines_reading(), preset.confines_writing()), (true, true));
        assert_eq!((preset.syscalls(), preset.private_tmp()), (Syscalls::Safe, true));
        let browser = Wish { presets: vec![Preset::Npx, Preset::Browser], ..Wish::default() };
        assert_eq!(browser.syscalls(), Syscalls::SafeAndNamespaces);
        let said = Wish { seccomp: Some(false), private_tmp: Some(false), ..browser };
        assert_eq!((said.syscalls(), said.private_tmp()), (Syscalls::All, false));
        let written = Wish { write: Some(Vec::new()), ..Wish::default() };
        assert_eq!((written.confines_reading(), written.confines_writing()), (false, true));
    }
}
