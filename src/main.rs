//! The `spawnling` command: arguments in, exit code out.

fn main() {}
