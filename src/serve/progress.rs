//! What a server tells while it works, shown on stderr: as a bar on a terminal, as lines elsewhere if that is wanted.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

use crate::exchange::{Event, Events};

/// How often the bar shows that it lives.
const TICK: Duration = Duration::from_millis(120);

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// On a terminal, if stderr is one.
    Auto,
    /// There, and as lines anywhere else.
    Always,
}

/// What shows it; `None`: nobody looks, and servers are not asked for any.
pub(super) struct Screen(Option<ProgressBar>);

#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    progress: Option<Value>,
    #[serde(default)]
    total: Option<Value>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Logged {
    #[serde(default)]
    level: String,
    #[serde(default)]
    data: Value,
}

impl Screen {
    /// One for a call, if there is to be any.
    pub(super) fn open(progress: Progress) -> Option<Self> {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}");
            bar.set_style(style.expect("the template is right"));
            bar.enable_steady_tick(TICK);
            return Some(Self(Some(bar)));
        }
        (progress == Progress::Always).then_some(Self(None))
    }

    /// Shows what is told until `call` is done.
    pub(super) async fn during<T>(&self, events: &Events, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        let done = loop {
            tokio::select! {
                event = events.next() => self.show(&event),
                done = call.as_mut() => break done,
            }
        };
        while let Some(event) = events.try_next() {
            self.show(&event);
        }
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
        done
    }

    fn show(&self, event: &Event) {
        let line = line(event);
        match (&self.0, event) {
            (Some(bar), Event::Progress(_)) => bar.set_message(line),
            (Some(bar), Event::Log(_)) => bar.println(line),
            // Whoever closed our stderr does not want to know.
            (None, _) => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

/// One event in one line, without what a terminal would obey.
fn line(event: &Event) -> String {
    let text = match event {
        Event::Progress(params) => params.read::<Told>().map(|Told { progress, total, message }| {
            let number = |value: Value| value.to_string();
            let done = progress.map(number).unwrap_or_default();
            let total = total.map(|total| format!("/{total}")).unwrap_or_default();
            let message = message.map(|message| format!(" {message}")).unwrap_or_default();
            format!("{done}{total}{message}")
        }),
        Event::Log(params) => params.read::<Logged>().map(|Logged { level, data }| match data {
            Value::String(text) => format!("{level}: {text}"),
            data => format!("{level}: {data}"),
        }),
    };
    let text = text.unwrap_or_default();
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::RawJson;

    #[test]
    fn what_is_told_becomes_one_line() {
        let raw = |text: &'static str| RawJson::parse(text.as_bytes().into()).expect("JSON");
        for (event, expected) in [
            (Event::Progress(raw(r#"{"progress":1,"total":3,"message":"one\u001b[2J"}"#)), "1/3 one [2J"),
            (Event::Progress(raw(r#"{"progress":0.5}"#)), "0.5"),
            (Event::Progress(raw("[]")), ""),
            (Event::Log(raw(r#"{"level":"info","data":"hello"}"#)), "info: hello"),
            (Event::Log(raw(r#"{"level":"error","data":{"a":1}}"#)), "error: {\"a\":1}"),
        ] {
            assert_eq!(line(&event), expected);
        }
    }
}
