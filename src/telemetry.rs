//! Logging, set up once. Logs go to stderr, without secrets; stdout belongs to what was asked for. And what is counted.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Stderr, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

mod lines;
pub(crate) mod metrics;
pub(crate) mod traces;

use crate::auth::Mask;
use lines::Lines;

/// How long the reader of the log may sleep before lines are lost.
const PATIENCE: Duration = Duration::from_secs(1);

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

    /// A line that says how many are missing before it.
    fn words_of_loss(self, lost: u64) -> String {
        let words = "lines of the log are lost: nobody took them";
        match self {
            Self::Human => format!("{lost} {words}\n"),
            Self::Json => format!("{{\"level\":\"WARN\",\"message\":\"{words}\",\"lost\":{lost}}}\n"),
        }
    }
}

/// The variable that chooses what is logged.
const VARIABLE: &str = "SPAWNLING_LOG";

/// Why nothing can be logged as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}: {said:?} does not say what to log: write info or spawnling=debug, for example")]
pub(crate) struct LogError {
    said: OsString,
}

/// Sets up logging for the whole process. `SPAWNLING_LOG` chooses what is logged, `spawnling=debug` for example; where
/// that is not set, or empty, it is everything from `default` up. What `mask` knows, now or later, is hidden.
pub(crate) fn init(format: Format, default: &str, mask: Mask) -> Result<(), LogError> {
    let filter = filter(std::env::var_os(VARIABLE), default)?;
    // What stderr does not take is lost: the library would say so on stderr, and panic where that takes nothing.
    let lines = tracing_subscriber::fmt().log_internal_errors(false);
    let stderr = Arc::new(Mutex::new(Lines::to(io::stderr(), PATIENCE)));
    let masked = move || Masked { mask: mask.clone(), lines: Arc::clone(&stderr), format };
    let lines = lines.with_env_filter(filter).with_writer(masked);
    // Only the first one counts, and there is only one.
    let _ = match format {
        Format::Human => {
            let coloured = is_coloured(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
            lines.with_target(false).with_ansi(coloured).try_init()
        }
        Format::Json => lines.json().flatten_event(true).with_target(false).try_init(),
    };
    Ok(())
}

/// Standard error, for whole events: each is written at once, so none hides half a secret.
struct Masked {
    mask: Mask,
    lines: Arc<Mutex<Lines<Stderr>>>,
    format: Format,
}

impl Write for Masked {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        // What is no text was not written by us.
        let text = String::from_utf8_lossy(event);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.write(self.mask.text(&text).as_bytes(), |lost| self.format.words_of_loss(lost));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is never logged: the bytes of requests to a collector, among them what lets us in there. Nothing recognises it in the
/// pieces that they would come in.
const NEVER: &str = "ureq_proto=off";

fn filter(said: Option<OsString>, default: &str) -> Result<EnvFilter, LogError> {
    let filter = match said.filter(|said| !said.is_empty()) {
        None => EnvFilter::new(default),
        Some(said) => {
            let filter = said.to_str().and_then(|said| EnvFilter::try_new(said).ok());
            filter.ok_or(LogError { said })?
        }
    };
    Ok(filter.add_directive(NEVER.parse().expect("it is a directive")))
}

/// Whether a log for people is coloured: on a terminal, unless <https://no-color.org> is followed.
fn is_coloured(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for said in ["info", "spawnling=debug", "warn,spawnling::call=trace"] {
            let filter = filter(Some(said.into()), "error").expect(said).to_string();
            assert_ne!(filter, "ureq_proto=off,error");
        }
        let nosy = filter(Some("trace,ureq_proto=trace".into()), "error").expect("good").to_string();
        assert_eq!(nosy, "ureq_proto=off,trace");
        for nothing in [None, Some(OsString::new())] {
            assert_eq!(filter(nothing, "error").expect("the default").to_string(), "ureq_proto=off,error");
        }
        for said in ["spawnling=loud", "info,=", "[debug"] {
            assert!(filter(Some(said.into()), "error").is_err(), "{said}");
        }
    }

    #[test]
    fn a_log_is_coloured_on_a_terminal_unless_somebody_minds() {
        let cases =
            [(true, None, true), (true, Some(""), true), (true, Some("1"), false), (false, None, false)];
        for (terminal, no_color, coloured) in cases {
            assert_eq!(is_coloured(terminal, no_color.map(OsStr::new)), coloured, "{terminal} {no_color:?}");
        }
    }
}
