//! Logging, set up once. Logs go to stderr; stdout belongs to what was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Format {
    /// People read terminals, machines read the rest.
    pub(crate) fn by_terminal() -> Self {
        if io::stderr().is_terminal() { Self::Human } else { Self::Json }
    }
}

/// Sets up logging for the whole process. `SPAWNLING_LOG` chooses what is logged, `spawnling=debug` for example; by
/// default it is everything from `default` up.
pub(crate) fn init(format: Format, default: &str) {
    let filter = EnvFilter::try_from_env("SPAWNLING_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Only the first one counts, and there is only one.
    let _ = match format {
        Format::Human => lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => lines.json().flatten_event(true).with_target(false).try_init(),
    };
}
