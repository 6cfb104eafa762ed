//! The `spawnling` command: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    spawnling::run()
}
