//! The real programs that `scripts/test-deps` installs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{PROGRAM, command_output};

/// A part of what is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Python,
    Node,
}

/// Where they are.
fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// A program of an installed part, by its path below `target/peers`. `None`: the test that asks has to do without, and
/// that was said loudly.
pub(crate) fn peer(part: Part, path: &str) -> Option<PathBuf> {
    let stamp = peers().join(if part == Part::Python { "python.stamp" } else { "node.stamp" });
    let program = peers().join(path);
    if !stamp.is_file() {
        skip(path, "it is not installed; run scripts/test-deps");
        return None;
    }
    assert!(program.is_file(), "{} is missing though that part is complete", program.display());
    Some(program)
}

/// A program of the system.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file());
    if found.is_none() {
        skip(name, "it is not in PATH");
    }
    found
}

/// The variables that let `uvx` and `npx` start from what is installed, without a network.
pub(crate) fn offline() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(peers().join("env")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Says that a test does not do what it is there for; fails it where everything has to be there.
pub(crate) fn skip(what: &str, why: &str) {
    let required = std::env::var_os("SPAWNLING_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(!required, "{what} is required here: {why}");
    say_skipped(what, why);
}

/// Says that this machine's kernel, or our rights on it, do not allow what a test is about: nothing that could be
/// installed.
pub(crate) fn say_skipped(what: &str, why: &str) {
    // Not by a macro: what those print is shown for failed tests only.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED what needs {what}: {why}\n");
}

/// Whether this host can have a containment; if not, that is said.
pub(crate) fn has_containment(containment: &str) -> bool {
    let said = command_output(&["check", "--containment", containment, "--", PROGRAM, "demo"]);
    let refusal = said.lines().find(|line| line.contains("this host does not allow the containment"));
    if let Some(refusal) = refusal {
        say_skipped(&format!("the containment {containment}"), refusal);
    }
    refusal.is_none()
}
