//! What to run: program, arguments, environment, limits, sandbox, and how patiently it is ended. Pure.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod limits;
pub(crate) mod sandbox;

use limits::Limits;
use sandbox::{Sandbox, Wish};

/// How to start one server, and how to end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The program as it was configured: a path, or a bare name that is looked for in the `PATH` of `env`.
    pub(crate) program: PathBuf,
    /// Its arguments, without the program's name.
    pub(crate) args: Vec<OsString>,
    /// Its whole environment; nothing else is inherited. `TMPDIR` and `PWD` are set by the spawn, and so is `HOME` where it
    /// is not the real one.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// What its home directory is.
    pub(crate) home: Home,
    /// Its working directory; `None`: its scratch directory.
    pub(crate) cwd: Option<PathBuf>,
    /// How much of the end of its stderr is kept, in bytes.
    pub(crate) stderr_limit: usize,
    /// How much of the machine it may use.
    pub(crate) limits: Limits,
    /// What it is to be kept from; `None`: nothing.
    pub(crate) wish: Option<Wish>,
    /// What the kernel is told of that: made of `wish` at start-up, empty before.
    pub(crate) sandbox: Sandbox,
    /// How it is ended.
    pub(crate) teardown: Teardown,
}

/// What a server's home directory is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Home {
    /// What its environment says.
    #[default]
    Real,
    /// Its scratch directory.
    Scratch,
}

/// Which containment is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The best that works here.
    #[default]
    Auto,
    Strict,
    Cgroup,
    Namespace,
    Subreaper,
    Group,
}

impl Choice {
    /// All of them, by the names that settings use.
    pub(crate) const ALL: [(&str, Self); 6] = [
        ("auto", Self::Auto),
        ("strict", Self::Strict),
        ("cgroup", Self::Cgroup),
        ("namespace", Self::Namespace),
        ("subreaper", Self::Subreaper),
        ("group", Self::Group),
    ];
}

/// How a tree is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Teardown {
    /// Close stdin and wait, send SIGTERM and wait, kill.
    Ladder {
        /// The wait after stdin was closed.
        eof: Duration,
        /// The wait after SIGTERM.
        term: Duration,
    },
    /// Kill at once: for servers that need no goodbye.
    Kill,
}

impl Default for Teardown {
    fn default() -> Self {
        Self::Ladder { eof: Duration::from_secs(2), term: Duration::from_secs(2) }
    }
}
