//! What was asked of the kernel, and what became of it. Pure.

use serde::{Deserialize, Serialize};

/// One limit or one part of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enforcement {
    /// The key by which it was asked for.
    pub(crate) what: String,
    /// Whether the kernel sees to it.
    pub(crate) enforced: bool,
    /// By what means; or why not.
    pub(crate) how: String,
}

impl Enforcement {
    /// Something that the kernel sees to.
    pub(crate) fn by(what: &str, how: impl Into<String>) -> Self {
        Self { what: what.to_owned(), enforced: true, how: how.into() }
    }

    /// Something that nobody sees to.
    pub(crate) fn missing(what: &str, why: impl Into<String>) -> Self {
        Self { what: what.to_owned(), enforced: false, how: why.into() }
    }
}

/// All that keeps one server in bounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bounds {
    /// How much of the machine it may use.
    pub(crate) limits: Vec<Limited>,
    /// What it may see and touch.
    pub(crate) sandbox: Vec<Enforcement>,
}

/// A limit with its value.
#[derive(Debug, Clone)]
pub(crate) struct Limited {
    /// Its name in listings, unit included: `memory_bytes`.
    pub(crate) member: &'static str,
    /// How much is allowed.
    pub(crate) value: u64,
    /// What becomes of it.
    pub(crate) enforcement: Enforcement,
}

impl Bounds {
    /// Everything that nobody sees to.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Enforcement> {
        let all = self.limits.iter().map(|limit| &limit.enforcement).chain(&self.sandbox);
        all.filter(|enforcement| !enforcement.enforced)
    }
}
