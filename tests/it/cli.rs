//! The command: what it prints, what it complains about, how it ends, and that nothing is left of it.

use std::path::Path;
use std::process::Command;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spawnling");

/// A program in a directory of its own, configured by nothing that surrounds the test.
#[expect(clippy::disallowed_methods, reason = "the program under test is the test's own child")]
pub(crate) fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("TMPDIR", dir).env("SPAWNLING_CACHE_DIR", dir.join("cache"));
    for variable in ["SPAWNLING_CONFIG", "SPAWNLING_LISTEN", "SPAWNLING_LOG", "MCP_BROWSER_USE_DIR"] {
        command.env_remove(variable);
    }
    command
}
